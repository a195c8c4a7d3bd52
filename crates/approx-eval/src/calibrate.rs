//! A bound for each site, from what it sees.
//!
//! One B for all sites must hold the largest value of all, and the error of every site grows with it. Here each site has
//! its own: its largest |x| over the exact pass, times a headroom.

use std::collections::BTreeMap;
use std::path::Path;

use approx_data::Split;
use approx_models::{ActivationPolicy, MaxPoolPolicy, Network, ReluPolicy, SiteKind};
use approx_ops::Sketch;
use minimax_coeffs::Alpha;
use serde::{Deserialize, Serialize};

use crate::bound_search::{ApproximatePass, Bounds, Search, approximate_pass};
use crate::compare::Comparison;
use crate::error::{EvalError, Result};
use crate::evaluate::{Job, Observer, Pass, SiteRange, exact_pass};
use crate::output::write_atomically;
use crate::report::WeightsFile;

/// What the files say they are.
const FORMAT: &str = "approx-cnn policy";
/// The version of the files that are written, and the only one that is read.
const VERSION: u32 = 1;
/// How often a site's bound may grow before the calibration gives up.
const MAX_WIDENED: usize = 500;
/// Of a site that sees zeros only.
const SMALLEST_BOUND: f64 = 1e-3;

/// A policy with a bound for each site, where it is from, and what it gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyFile {
    /// `approx-cnn policy`.
    pub format: String,
    /// Of the format.
    pub version: u32,
    /// The network that it is for.
    pub backbone: String,
    /// The weights that it was made with.
    pub weights: WeightsFile,
    /// What the largest |x| of each site was multiplied by.
    pub headroom: f64,
    /// What the policy gave on the images that it was made with.
    pub promise: Promise,
    /// The policy.
    pub policy: ActivationPolicy,
    /// What each site saw, in the network's order.
    pub sites: Vec<SiteSummary>,
}

/// Results of a policy. Shares are between 0 and 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// The data set.
    pub dataset: String,
    /// Which of its images: `test` or `train`.
    #[serde(default = "test")]
    pub split: String,
    /// How many images were evaluated.
    pub images: usize,
    /// Share of images that the exact network gets right.
    pub exact_accuracy: f64,
    /// Share of images that the network with the policy gets right.
    pub accuracy: f64,
    /// Share of images that both put in the same class.
    pub agreement: f64,
    /// The largest difference of two logits.
    pub max_abs_logit_difference: Option<f32>,
}

/// What files say of whose images nothing is said.
fn test() -> String {
    Split::Test.name().to_owned()
}

/// What a site saw in the exact network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteSummary {
    /// In the style of the weights.
    pub name: String,
    /// ReLU or max-pooling.
    pub kind: SiteKind,
    /// How many inputs.
    pub count: u64,
    /// The smallest input.
    pub min: f32,
    /// The largest input.
    pub max: f32,
    /// The largest |x|.
    pub max_abs: f32,
    /// By percentage: `0.1`, `1`, `50`, `99`, `99.9`. Within 0.8 % of themselves ([`Sketch::quantile`]).
    pub quantiles: BTreeMap<String, f32>,
    /// The bound: of approximation, and of the next field.
    pub bound: f64,
    /// By alpha: the share of inputs with |x| < 2^-alpha · bound, where the sign is least certain.
    pub near_zero: BTreeMap<u8, f64>,
}

impl SiteSummary {
    /// The summary of a site's inputs, with a bound for them.
    pub fn new(range: &SiteRange, sketch: &Sketch, bound: f64) -> Self {
        let quantile = |(name, q): (&str, f64)| (name.to_owned(), sketch.quantile(q).unwrap_or_default());
        let share = |alpha: Alpha| (alpha.bits(), sketch.share_below((alpha.epsilon() * bound) as f32));
        Self {
            name: range.name.clone(),
            kind: range.kind,
            count: sketch.count(),
            min: sketch.min().unwrap_or_default(),
            max: sketch.max().unwrap_or_default(),
            max_abs: range.max_abs,
            quantiles: QUANTILES.into_iter().map(quantile).collect(),
            bound,
            near_zero: Alpha::all().map(share).collect(),
        }
    }
}

/// What is sketched besides the extremes.
const QUANTILES: [(&str, f64); 5] = [("0.1", 0.001), ("1", 0.01), ("50", 0.5), ("99", 0.99), ("99.9", 0.999)];

/// What the exact network's sites see: the exact pass, with the distribution of each site's inputs.
///
/// # Errors
/// As [`exact_pass`].
pub fn sketched_pass(
    job: &Job,
    network: &mut Network,
    observer: &dyn Observer,
) -> Result<(Pass, Vec<Sketch>)> {
    network.set_policy(&ActivationPolicy::exact())?;
    network.sites().iter().for_each(approx_models::Site::start_sketch);
    let pass = exact_pass(job, network, observer);
    let sketches = network.sites().iter().map(|site| site.take_sketch().unwrap_or_default()).collect();
    Ok((pass?, sketches))
}

/// The approximation with a bound for each site, `headroom` times its largest |x| or, if the approximate network goes
/// beyond that, `headroom` times that.
///
/// # Errors
/// [`EvalError::SearchGaveUp`] if the bounds do not end to grow; else as [`approximate_pass`].
pub fn calibrated_pass(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    alpha: Alpha,
    headroom: f64,
    observer: &dyn Observer,
) -> Result<(ActivationPolicy, ApproximatePass)> {
    let alphas = vec![alpha; exact.sites.len()];
    fitted_pass(job, exact, network, &alphas, headroom, MAX_WIDENED, observer)
}

/// As [`calibrated_pass`], with a precision for each site, and at most so many times of widening.
pub(crate) fn fitted_pass(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    alphas: &[Alpha],
    headroom: f64,
    max_widened: usize,
    observer: &dyn Observer,
) -> Result<(ActivationPolicy, ApproximatePass)> {
    let mut bounds = initial_bounds(exact, headroom);
    let mut widened = 0;
    loop {
        let policy = policy_by_site(exact, &bounds, alphas);
        match evaluate_policy(job, exact, network, &policy, observer) {
            Err(EvalError::Range(last)) if widened == max_widened => {
                return Err(EvalError::SearchGaveUp { widened, last });
            }
            Err(EvalError::Range(error)) => {
                let index = exact.sites.iter().position(|site| site.name == error.site);
                let index = index.expect("the sites are the same");
                bounds[index] = bound(error.max_abs, headroom);
                widened += 1;
                observer.pass_finished();
                observer.widened(&error, bounds[index]);
            }
            result => return Ok((policy, result?)),
        }
    }
}

/// Each site's bound, from its largest |x| in the exact network.
pub(crate) fn initial_bounds(exact: &Pass, headroom: f64) -> Vec<f64> {
    exact.sites.iter().map(|site| bound(site.max_abs, headroom)).collect()
}

fn bound(max_abs: f32, headroom: f64) -> f64 {
    (f64::from(max_abs) * headroom).max(SMALLEST_BOUND)
}

/// The network with the activations of `policy`, whose bounds are not widened. The result's bounds are the policy's
/// largest.
///
/// # Errors
/// [`EvalError::Range`] for a value out of range; else as [`approximate_pass`].
pub fn evaluate_policy(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    policy: &ActivationPolicy,
    observer: &dyn Observer,
) -> Result<ApproximatePass> {
    network.set_policy(policy)?;
    let search = Search { start: largest_bounds(network), step: 0.0 };
    approximate_pass(job, exact, network, search, observer, |_| policy.clone())
}

/// The largest bound of each kind that a network's sites have; 0 where none has one.
pub fn largest_bounds(network: &Network) -> Bounds {
    let largest = |kind| {
        let sites = network.sites().iter().filter(|site| site.kind() == kind);
        sites.filter_map(approx_models::Site::bound).fold(0.0, f64::max)
    };
    Bounds { relu: largest(SiteKind::Relu), max_pool: largest(SiteKind::MaxPool) }
}

/// A policy with a bound and a precision for each site; for others, the largest of each.
pub(crate) fn policy_by_site(exact: &Pass, bounds: &[f64], alphas: &[Alpha]) -> ActivationPolicy {
    let largest = |kind| {
        let of_kind = exact.sites.iter().zip(bounds).filter(|(site, _)| site.kind == kind);
        of_kind.map(|(_, bound)| *bound).fold(SMALLEST_BOUND, f64::max)
    };
    let highest = alphas.iter().copied().max().unwrap_or(Alpha::MAX);
    let mut policy = ActivationPolicy::minimax(highest, largest(SiteKind::Relu), largest(SiteKind::MaxPool));
    for ((site, &bound), &alpha) in exact.sites.iter().zip(bounds).zip(alphas) {
        let name = site.name.clone();
        match site.kind {
            SiteKind::Relu => {
                policy.relu_sites.insert(name, ReluPolicy::Minimax { alpha, bound });
            }
            SiteKind::MaxPool => {
                policy.max_pool_sites.insert(name, MaxPoolPolicy::Minimax { alpha, bound });
            }
        }
    }
    policy
}

impl PolicyFile {
    /// What a calibration came to: `network` has the policy's activations.
    pub fn new(
        (dataset, backbone): (&str, &str),
        weights: WeightsFile,
        headroom: f64,
        (exact, sketches): (&Pass, &[Sketch]),
        (policy, approx): (ActivationPolicy, &ApproximatePass),
        network: &Network,
    ) -> Self {
        let comparison = Comparison::new(&exact.logits, &approx.pass.logits, &exact.labels);
        let summary = |((range, sketch), site): ((&SiteRange, &Sketch), &approx_models::Site)| {
            SiteSummary::new(range, sketch, site.bound().unwrap_or_default())
        };
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            backbone: backbone.to_owned(),
            weights,
            headroom,
            promise: Promise {
                dataset: dataset.to_owned(),
                split: test(),
                images: exact.labels.len(),
                exact_accuracy: comparison.exact_accuracy,
                accuracy: comparison.approx_accuracy,
                agreement: comparison.agreement,
                max_abs_logit_difference: comparison.max_abs_logit_difference,
            },
            policy,
            sites: exact.sites.iter().zip(sketches).zip(network.sites()).map(summary).collect(),
        }
    }

    /// The same, made on these images; else it was the test images.
    #[must_use]
    pub fn with_split(mut self, split: Split) -> Self {
        self.promise.split = split.name().to_owned();
        self
    }

    /// Reads a file for `backbone`.
    ///
    /// # Errors
    /// [`EvalError::Read`]; [`EvalError::PolicyFile`] for another format, version or network.
    pub fn read(path: &Path, backbone: &str) -> Result<Self> {
        let text = std::fs::read(path).map_err(|source| EvalError::Read { path: path.to_owned(), source })?;
        let error = |reason: String| EvalError::PolicyFile { path: path.to_owned(), reason };
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|e| error(format!("not a policy file: {e}")))?;
        match (value["format"].as_str(), value["version"].as_u64()) {
            (Some(FORMAT), Some(version)) if version == u64::from(VERSION) => {}
            (Some(FORMAT), version) => {
                let version = version.map_or("none".to_owned(), |version| version.to_string());
                return Err(error(format!("its version is {version}, but {VERSION} is read")));
            }
            _ => return Err(error(format!("not a policy file: its format is not `{FORMAT}`"))),
        }
        // From the text, whose numbers keep their digits.
        let file: Self =
            serde_json::from_slice(&text).map_err(|e| error(format!("not a policy file: {e}")))?;
        if file.backbone != backbone {
            return Err(error(format!("it is for {}, not for {backbone}", file.backbone)));
        }
        Ok(file)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`EvalError::Write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).expect("a policy has string keys only");
        write_atomically(path, (json + "\n").as_bytes())
    }

    /// The one precision of all sites that are approximated on a range; `None` if there are none or several.
    pub fn alpha(&self) -> Option<Alpha> {
        let relu = self.policy.relu_sites.values().chain([&self.policy.relu]);
        let relu = relu.filter_map(|policy| match policy {
            ReluPolicy::Minimax { alpha, .. } => Some(*alpha),
            _ => None,
        });
        let max_pool = self.policy.max_pool_sites.values().chain([&self.policy.max_pool]);
        let max_pool = max_pool.filter_map(|policy| match policy {
            MaxPoolPolicy::Minimax { alpha, .. } => Some(*alpha),
            _ => None,
        });
        let mut all: Vec<Alpha> = relu.chain(max_pool).collect();
        all.dedup();
        match all[..] {
            [alpha] => Some(alpha),
            _ => None,
        }
    }
}
