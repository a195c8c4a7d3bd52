//! One network at several precisions.
//!
//! The exact pass is run once. For each precision B is searched from its maxima, as for a single evaluation and by the
//! same functions. All results are kept as [`cells`](crate::cells), and what is kept is not computed again.
//!
//! ```
//! use approx_data::{Normalization, demo};
//! use approx_eval::cells::Cells;
//! use approx_eval::output::sha256;
//! use approx_eval::report::WeightsIdentity;
//! use approx_eval::sweep::Setting;
//! use approx_eval::{EvalError, Job, Sweep};
//! use approx_models::{ActivationPolicy, Backbone, Composition, Network, Weights};
//! use candle_core::Device;
//! use minimax_coeffs::Alpha;
//!
//! let images = demo::images().truncated(2);
//! let backbone = Backbone::find("cifar10", "resnet20")?;
//! let name = "the demo's weights";
//! let weights = Weights::from_safetensors(demo::RESNET20, &Device::Cpu, name)?;
//! // Those in a file have `WeightsIdentity::of(path)`.
//! let file = WeightsIdentity { file: name.to_owned(), sha256: sha256(demo::RESNET20) };
//! let network = Network::build(backbone.graph()?, &weights, &ActivationPolicy::exact())?;
//! let job = Job { images: &images, normalization: Normalization::CIFAR10, batch_size: 2, device: Device::Cpu };
//! let mut sweep = Sweep::new(("demo", backbone.name()), network, file, job)?;
//! let folder = tempfile::tempdir()?;
//! let cells = Cells::open(folder.path())?;
//! let settings = [Alpha::new(9)?, Alpha::MAX].map(|alpha| Setting::from(Composition::published(alpha)));
//! for kept in [false, true] {
//!     let points = sweep.run(&cells, &settings, &(), |_index, _point| Ok::<_, EvalError>(()))?;
//!     assert!(points.iter().all(|point| point.kept == kept));
//!     assert_eq!(points[1].row.network_depth, Some(19 * 15));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use approx_models::{ActivationPolicy, Composition, Network, RunOptions, Site, SiteKind};
use approx_ops::{Noise, Sketch};
use serde::{Deserialize, Serialize};

use crate::bound_search::{BoundSearch, Bounds, approximate_pass};
use crate::calibrate::{SiteSummary, evaluate_policy, sketched_pass};
use crate::cells::{ApproxKey, Cells, Key, NoiseKey, fingerprint};
use crate::compare::Comparison;
use crate::error::{EvalError, Result};
use crate::evaluate::{Job, Observer, Pass, SiteRange, device_name, exact_pass};
use crate::output::sha256;
use crate::report::{Report, Subject, WeightsIdentity};

/// A network on a data set, and where results are kept.
pub struct Sweep<'a> {
    /// `cifar10`, `imagenet`, …
    pub dataset: String,
    /// `resnet20`, …
    pub backbone: String,
    /// Which weights the network has.
    pub weights: WeightsIdentity,
    /// The network; in the end it has the activations of the last evaluation.
    pub network: Network,
    /// The images.
    pub job: Job<'a>,
    /// Of the images ([`fingerprint`]).
    pub data_sha256: String,
    /// Where B begins, and by what it grows.
    pub search: BoundSearch,
    /// Bounds by site, in whose place nothing is searched; its precisions are the sweep's.
    pub policy: Option<ActivationPolicy>,
    /// CPU threads.
    pub threads: usize,
}

/// What one point of a sweep is evaluated with.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The polynomials.
    pub composition: Arc<Composition>,
    /// Simulated noise of an encrypted evaluation.
    pub noise: Option<Noise>,
}

impl From<Arc<Composition>> for Setting {
    /// Without noise.
    fn from(composition: Arc<Composition>) -> Self {
        Self { composition, noise: None }
    }
}

/// What a setting comes to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointResult {
    /// All results.
    Report(Box<Report>),
    /// Why the network cannot be approximated with this precision: its values leave every range, or the one that was
    /// not to be widened.
    Unusable(String),
}

/// A setting and what it came to.
#[derive(Debug, Clone)]
pub struct Point {
    /// The table's row.
    pub row: Row,
    /// What came out.
    pub result: PointResult,
    /// Whether it was there already.
    pub kept: bool,
}

impl<'a> Sweep<'a> {
    /// A sweep over `network`, called `backbone`, with these weights, on the images of `job`, which
    /// are called `dataset`. B is searched from 5 in steps of 5. All of this may be changed afterwards.
    ///
    /// # Errors
    /// The data's, when the images are looked at.
    pub fn new(
        (dataset, backbone): (&str, &str),
        network: Network,
        weights: WeightsIdentity,
        job: Job<'a>,
    ) -> Result<Self> {
        Ok(Self {
            dataset: dataset.to_owned(),
            backbone: backbone.to_owned(),
            weights,
            network,
            data_sha256: fingerprint(job.images)?,
            job,
            search: BoundSearch { start: Bounds { relu: 5.0, max_pool: 5.0 }, step: 5.0 },
            policy: None,
            threads: rayon::current_num_threads(),
        })
    }

    /// Evaluates the network with each setting, and gives the results in the same order. `finished` is told of each
    /// with its index when it is there: first of those that were kept, then of the others; those that another process
    /// is computing come last.
    ///
    /// # Errors
    /// As [`exact_pass`] and [`approximate_pass`], but for values that leave every range
    /// ([`PointResult::Unusable`]); those of [`Cells`]; those of `finished`.
    pub fn run<E: From<EvalError>>(
        &mut self,
        cells: &Cells,
        settings: &[Setting],
        observer: &dyn Observer,
        mut finished: impl FnMut(usize, &Point) -> Result<(), E>,
    ) -> Result<Vec<Point>, E> {
        let keys: Vec<Key> = settings.iter().map(|setting| self.key(Some(setting))).collect();
        let mut points: Vec<Option<Point>> = vec![None; keys.len()];
        let mut missing = Vec::new();
        for (index, (key, setting)) in keys.iter().zip(settings).enumerate() {
            match self.get(cells, key)? {
                Some(result) => {
                    let point = Point { row: self.row(setting, &result), result, kept: true };
                    finished(index, &point)?;
                    points[index] = Some(point);
                }
                None => missing.push(index),
            }
        }
        if !missing.is_empty() {
            let exact = self.exact(cells, observer)?;
            // What others are computing is waited for when there is nothing else to do.
            for waits in [false, true] {
                for index in std::mem::take(&mut missing) {
                    let (key, setting) = (&keys[index], &settings[index]);
                    let _lock = match cells.try_lock(key)? {
                        Some(lock) => lock,
                        None if waits => {
                            observer.waiting(&key.title());
                            cells.lock(key)?
                        }
                        None => {
                            missing.push(index);
                            continue;
                        }
                    };
                    let kept = self.get(cells, key)?;
                    let (result, kept) = match kept {
                        Some(result) => (result, true),
                        None => (self.approximate(&exact, setting, observer)?, false),
                    };
                    if !kept {
                        cells.put(key, &result)?;
                    }
                    let point = Point { row: self.row(setting, &result), result, kept };
                    finished(index, &point)?;
                    points[index] = Some(point);
                }
            }
        }
        Ok(points.into_iter().flatten().collect())
    }

    /// What each site sees in the exact network, with the bounds that `row` has; 0 where there is none. The inputs are
    /// looked at once, in a pass of their own, so that the exact network's speed is what it is without; after that they
    /// are kept.
    ///
    /// # Errors
    /// As [`exact_pass`]; those of [`Cells`].
    pub fn sites(
        &mut self,
        cells: &Cells,
        row: Option<&Row>,
        observer: &dyn Observer,
    ) -> Result<Vec<SiteSummary>> {
        let key = self.key(None);
        let sketches = self.once(cells, &key, observer, Cells::get_sketches, |sweep| {
            let (_, sketches) = sketched_pass(&sweep.job, &mut sweep.network, observer)?;
            cells.put_sketches(&key, &sketches)?;
            Ok(sketches)
        })?;
        if let Some(policy) = &self.policy {
            self.network.set_policy(policy, &RunOptions::default())?;
        }
        let summary = |(site, sketch): (&Site, &Sketch)| {
            let bound = row.and_then(|row| match (&self.policy, site.kind()) {
                (Some(_), _) => site.bound(),
                (None, SiteKind::Relu) => row.b_relu,
                (None, SiteKind::MaxPool) => row.b_max,
            });
            let (min, max) = (sketch.min().unwrap_or_default(), sketch.max().unwrap_or_default());
            let range = SiteRange { name: site.name().to_owned(), kind: site.kind(), max_abs: max.max(-min) };
            SiteSummary::new(&range, sketch, bound.unwrap_or_default(), row.map(|row| row.alpha))
        };
        Ok(self.network.sites().iter().zip(&sketches).map(summary).collect())
    }

    /// The exact pass, computed or kept.
    fn exact(&mut self, cells: &Cells, observer: &dyn Observer) -> Result<Pass> {
        let key = self.key(None);
        self.once(cells, &key, observer, Cells::get_exact, |sweep| {
            sweep.network.set_policy(&ActivationPolicy::exact(), &RunOptions::default())?;
            let pass = exact_pass(&sweep.job, &sweep.network, observer)?;
            cells.put_exact(&key, &pass)?;
            Ok(pass)
        })
    }

    /// What `get` finds; or else what `compute` computes and keeps, with the lock, if no other process does.
    fn once<T>(
        &mut self,
        cells: &Cells,
        key: &Key,
        observer: &dyn Observer,
        get: impl Fn(&Cells, &Key) -> Result<Option<T>>,
        compute: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if let Some(kept) = get(cells, key)? {
            return Ok(kept);
        }
        let _lock = match cells.try_lock(key)? {
            Some(lock) => lock,
            None => {
                observer.waiting(&key.title());
                cells.lock(key)?
            }
        };
        match get(cells, key)? {
            Some(kept) => Ok(kept),
            None => compute(self),
        }
    }

    fn approximate(
        &mut self,
        exact: &Pass,
        setting: &Setting,
        observer: &dyn Observer,
    ) -> Result<PointResult> {
        let Setting { composition, noise } = setting;
        let (job, network) = (&self.job, &mut self.network);
        let options = RunOptions::with_noise(*noise);
        let approx = match &self.policy {
            Some(policy) => {
                let policy = policy.clone().with_composition(composition);
                evaluate_policy(job, exact, network, &policy, &options, observer)
            }
            None => approximate_pass(job, exact, network, self.search, &options, observer, |bounds| {
                ActivationPolicy::composite(composition, bounds.relu, bounds.max_pool)
            }),
        };
        let approx = match approx {
            Err(
                error @ (EvalError::Range(_)
                | EvalError::NotFinite { .. }
                | EvalError::Noise { .. }
                | EvalError::SearchGaveUp { .. }),
            ) => {
                observer.pass_finished();
                return Ok(PointResult::Unusable(error.to_string()));
            }
            approx => approx?,
        };
        let comparison = Comparison::new(&exact.logits, &approx.pass.logits, &exact.labels);
        let subject = Subject {
            dataset: self.dataset.clone(),
            backbone: self.backbone.clone(),
            method: if self.policy.is_some() { "policy" } else { "proposed" }.to_owned(),
            noise: *noise,
            cost: self.network.cost(&approx.policy)?,
            weights: self.weights.clone(),
            batch_size: self.job.batch_size,
            threads: self.threads,
            device: device_name(&self.job.device),
        };
        Ok(PointResult::Report(Box::new(Report::new(subject, exact, &approx, &comparison))))
    }

    /// What is kept under `key`. The weights are the same, but their file may have moved.
    fn get(&self, cells: &Cells, key: &Key) -> Result<Option<PointResult>> {
        let mut result = cells.get(key)?;
        if let Some(PointResult::Report(report)) = &mut result {
            report.weights = self.weights.clone();
        }
        Ok(result)
    }

    fn key(&self, setting: Option<&Setting>) -> Key {
        let BoundSearch { start, step } = self.search;
        let approx = setting.map(|Setting { composition, noise }| ApproxKey {
            alpha: composition.bits(),
            composition: composition.digest().to_owned(),
            b_relu: start.relu,
            b_max: start.max_pool,
            step,
            policy_sha256: self
                .policy
                .as_ref()
                .map(|policy| sha256(&serde_json::to_vec(policy).expect("a policy has string keys only"))),
            noise: noise.map(|noise| NoiseKey { sigma: noise.sigma, seed: noise.seed }),
        });
        Key {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: self.dataset.clone(),
            data_sha256: self.data_sha256.clone(),
            images: self.job.images.len(),
            mean: self.job.normalization.mean().to_vec(),
            std: self.job.normalization.std().to_vec(),
            backbone: self.backbone.clone(),
            weights_sha256: self.weights.sha256.clone(),
            batch_size: self.job.batch_size,
            threads: self.threads,
            simd: cnn_kernels::SimdLevel::current().to_string(),
            device: Some(device_name(&self.job.device)).filter(|name| name != "cpu"),
            approx,
        }
    }

    /// The table's row for a result.
    fn row(&self, setting: &Setting, result: &PointResult) -> Row {
        let Setting { composition, noise } = setting;
        let one = composition.sign().relu_cost();
        let has_max_pool = self.network.sites().iter().any(|site| site.kind() == SiteKind::MaxPool);
        let (report, unusable) = match result {
            PointResult::Report(report) => (Some(report), None),
            PointResult::Unusable(reason) => (None, Some(reason.clone())),
        };
        // Where no bound was found, the one that the search begins with.
        let bound = |site: &Site| match (site.bound().filter(|_| self.policy.is_some()), site.kind()) {
            (Some(bound), _) => bound,
            (None, SiteKind::Relu) => report.and_then(|r| r.b_relu).unwrap_or(self.search.start.relu),
            (None, SiteKind::MaxPool) => report.and_then(|r| r.b_max).unwrap_or(self.search.start.max_pool),
        };
        // A precision that no polynomial has is one of those that are unusable, and has no cost.
        let cost = |site: &Site| site.cost(composition, bound(site)).unwrap_or_default();
        let multiplications = self.network.sites().iter().map(|site| cost(site).non_scalar_multiplications);
        Row {
            backbone: self.backbone.clone(),
            alpha: composition.bits(),
            noise_bits: noise.map(Noise::bits),
            degrees: composition.sign().degrees(),
            relu_depth: one.depth,
            relu_multiplications: one.non_scalar_multiplications,
            network_depth: Some(self.network.depth(|site| cost(site).depth)),
            network_multiplications: multiplications.sum(),
            b_relu: report.and_then(|r| r.b_relu),
            b_max: report.and_then(|r| r.b_max).filter(|_| has_max_pool),
            exact_accuracy: report.map(|r| r.exact.accuracy),
            accuracy: report.map(|r| r.approx.accuracy),
            relative_difference: report.and_then(|r| r.relative_difference),
            agreement: report.map(|r| r.approx.agreement),
            max_abs_logit_difference: report.and_then(|r| r.approx.max_abs_logit_difference),
            images: report.map_or(self.job.images.len(), |r| r.images),
            exact_images_per_second: report.map(|r| r.exact.images_per_second),
            images_per_second: report.map(|r| r.approx.images_per_second),
            excursions: report
                .and_then(|r| r.noise.as_ref())
                .map_or(0, |n| n.excursions.iter().map(|e| e.count).sum()),
            unusable,
        }
    }
}

/// A row of the table: a backbone with a precision. Results are `None` where there are none, for the reason in
/// `unusable`. Shares are between 0 and 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `resnet20`, …
    pub backbone: String,
    /// Precision in bits.
    pub alpha: u8,
    /// Simulated noise has a standard deviation of 2 to the minus this; `None` without.
    pub noise_bits: Option<f64>,
    /// Of the components of the composition.
    pub degrees: Vec<usize>,
    /// Levels of one ReLU.
    pub relu_depth: u32,
    /// Non-scalar multiplications of one ReLU.
    pub relu_multiplications: u32,
    /// Levels of all activations that a value goes through, max-pooling's tournaments included, and nothing else;
    /// `None` where some activations are side by side.
    pub network_depth: Option<u32>,
    /// Non-scalar multiplications of all activations, each evaluated on one ciphertext, max-pooling once for each
    /// maximum of two.
    pub network_multiplications: u32,
    /// The bound found for ReLU.
    pub b_relu: Option<f64>,
    /// The bound found for max-pooling; `None` too if the network has none.
    pub b_max: Option<f64>,
    /// Share of images that the exact network gets right.
    pub exact_accuracy: Option<f64>,
    /// Share of images that the approximate network gets right.
    pub accuracy: Option<f64>,
    /// `(accuracy − exact_accuracy) / exact_accuracy`.
    pub relative_difference: Option<f64>,
    /// Share of images that both put in the same class.
    pub agreement: Option<f64>,
    /// The largest difference of two logits.
    pub max_abs_logit_difference: Option<f32>,
    /// How many images were evaluated, without those that could not be decoded.
    pub images: usize,
    /// Throughput of the exact network.
    pub exact_images_per_second: Option<f64>,
    /// Throughput of the approximate network.
    pub images_per_second: Option<f64>,
    /// Under noise, outputs of components that left the next one's domain.
    pub excursions: u64,
    /// Why there are no results.
    pub unusable: Option<String>,
}

/// The table as comma-separated values with a header (RFC 4180): degrees are separated by spaces, numbers have all their
/// digits, what is missing is empty.
pub fn to_csv(rows: &[Row]) -> String {
    const HEADER: &str = "backbone,alpha,noise_bits,degrees,relu_depth,relu_multiplications,network_depth,\
                          network_multiplications,b_relu,b_max,exact_accuracy,accuracy,relative_difference,agreement,\
                          max_abs_logit_difference,images,exact_images_per_second,images_per_second,excursions,unusable\n";
    fn text<T: ToString>(value: Option<&T>) -> String {
        value.map_or_else(String::new, T::to_string)
    }
    let mut csv = HEADER.to_owned();
    for row in rows {
        let degrees: Vec<String> = row.degrees.iter().map(usize::to_string).collect();
        let reason = row.unusable.as_ref().map(|reason| format!("\"{}\"", reason.replace('"', "\"\"")));
        let fields = [
            row.backbone.clone(),
            row.alpha.to_string(),
            text(row.noise_bits.as_ref()),
            degrees.join(" "),
            row.relu_depth.to_string(),
            row.relu_multiplications.to_string(),
            text(row.network_depth.as_ref()),
            row.network_multiplications.to_string(),
            text(row.b_relu.as_ref()),
            text(row.b_max.as_ref()),
            text(row.exact_accuracy.as_ref()),
            text(row.accuracy.as_ref()),
            text(row.relative_difference.as_ref()),
            text(row.agreement.as_ref()),
            text(row.max_abs_logit_difference.as_ref()),
            row.images.to_string(),
            text(row.exact_images_per_second.as_ref()),
            text(row.images_per_second.as_ref()),
            row.excursions.to_string(),
            reason.unwrap_or_default(),
        ];
        csv += &(fields.join(",") + "\n");
    }
    csv
}
