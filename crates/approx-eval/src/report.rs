//! All of a run's results, as JSON.

use std::path::Path;

use approx_models::{ActivationPolicy, SiteKind, SitePolicy};
use approx_ops::Noise;
use minimax_coeffs::{CompositeSign, Cost};
use serde::{Deserialize, Serialize};

use crate::bound_search::ApproximatePass;
use crate::compare::Comparison;
use crate::evaluate::{Pass, SiteExcursions, SiteRange};
use crate::output::sha256_of_file;

/// What was run and what came out. Shares are between 0 and 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Of this program.
    pub version: String,
    /// `cifar10`, `imagenet`, `demo`.
    pub dataset: String,
    /// `resnet20`, …
    pub backbone: String,
    /// `proposed`, `square`, `relu_aq`, `policy`.
    pub method: String,
    /// Precision in bits; only for `proposed`, as the next four, and for a policy of one precision.
    pub alpha: Option<u8>,
    /// The digest of the composition ([`CompositeSign::digest`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composition: Option<String>,
    /// Of the components of the composition.
    pub degrees: Option<Vec<usize>>,
    /// Levels that one ReLU consumes.
    pub depth: Option<u32>,
    /// Non-scalar multiplications of one ReLU.
    pub non_scalar_multiplications: Option<u32>,
    /// Levels of all activations that a value goes through, on the longest way: the network's depth without its linear
    /// layers. `None` in reports of earlier versions.
    #[serde(default)]
    pub net_depth: Option<u32>,
    /// Non-scalar multiplications of all activations, each on one ciphertext.
    #[serde(default)]
    pub net_mults: Option<u32>,
    /// The bound found for ReLU; a policy's largest one. `None` where nothing is approximated on a range.
    pub b_relu: Option<f64>,
    /// The bound for max-pooling; where it started if the network has none.
    pub b_max: Option<f64>,
    /// How many images were evaluated.
    pub images: usize,
    /// Images that could not be decoded, by name. They are not among `images`.
    pub skipped: Vec<SkippedImage>,
    /// Images at a time.
    pub batch_size: usize,
    /// The exact network.
    pub exact: ExactResult,
    /// The approximate network.
    pub approx: ApproxResult,
    /// `(approx.accuracy − exact.accuracy) / exact.accuracy`; `null` if the exact network gets nothing right.
    pub relative_difference: Option<f64>,
    /// Each site with the largest |x| of the exact and of the approximate network.
    pub sites: Vec<SiteResult>,
    /// For each kind of activation the precisions and bounds of the sites that are approximated on a range; empty if
    /// none is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approximations: Vec<Approximations>,
    /// The noise that was simulated, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseResult>,
    /// The weights.
    pub weights: WeightsIdentity,
    /// CPU threads.
    pub threads: usize,
    /// Where the network ran: `cpu`, or as `cuda:0, NVIDIA H100 PCIe`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Vector instructions of the activations on the CPU.
    pub simd: String,
}

/// What stands at the sites of a kind that are approximated on a range: compositions or fitted polynomials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approximations {
    /// `relu` or `max_pool`.
    pub kind: SiteKind,
    /// How many sites.
    pub sites: usize,
    /// The least and the highest precision of compositions in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<[u8; 2]>,
    /// The least and the highest degree of fitted polynomials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degree: Option<[usize; 2]>,
    /// The smallest and the largest bound, half of the range's length in units of the activation's input.
    pub bound: [f64; 2],
}

impl Approximations {
    /// Those of a policy in a network, for each kind that it has such sites of: compositions, and fitted polynomials.
    fn of(policy: &ActivationPolicy, sites: &[SiteRange]) -> Vec<Self> {
        let of_kind = |kind: SiteKind| {
            let of_sites: Vec<&SitePolicy> = sites
                .iter()
                .filter(|site| site.kind == kind)
                .map(|site| policy.at(&site.name, kind))
                .collect();
            let compositions = of_sites.iter().filter_map(|site| site.approximation());
            let compositions: Vec<(u8, f64)> = compositions.map(|(c, bound)| (c.bits(), bound)).collect();
            let fitted = of_sites.iter().filter_map(|site| site.fitted()).map(|fitted| fitted.polynomial());
            let fitted: Vec<(usize, f64)> = fitted.map(|p| (p.degree(), p.radius())).collect();
            let of_compositions = ends(&compositions).map(|(alpha, bound)| {
                let sites = compositions.len();
                Self { kind, sites, alpha: Some(alpha), degree: None, bound }
            });
            let of_fitted = ends(&fitted).map(|(degree, bound)| {
                let sites = fitted.len();
                Self { kind, sites, alpha: None, degree: Some(degree), bound }
            });
            [of_compositions, of_fitted].into_iter().flatten()
        };
        [SiteKind::Relu, SiteKind::MaxPool].into_iter().flat_map(of_kind).collect()
    }
}

/// The least and the largest of both; `None` if there are none.
fn ends<T: Copy + Ord>(pairs: &[(T, f64)]) -> Option<([T; 2], [f64; 2])> {
    let (first, second) = (pairs.iter().map(|pair| pair.0), pairs.iter().map(|pair| pair.1));
    let first = [first.clone().min()?, first.max()?];
    Some((first, [second.clone().reduce(f64::min)?, second.reduce(f64::max)?]))
}

/// Simulated noise and what it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseResult {
    /// The standard deviation that a rescaling adds, in units of the encrypted message.
    pub sigma: f64,
    /// `−log2` of it.
    pub bits: f64,
    /// Of the random numbers.
    pub seed: u64,
    /// Outputs of components that left the next one's domain, by site.
    pub excursions: Vec<SiteExcursions>,
}

/// Results of the exact network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExactResult {
    /// Share of images it gets right.
    pub accuracy: f64,
    /// For all images.
    pub seconds: f64,
    /// Throughput.
    pub images_per_second: f64,
    /// Peak resident memory of the process during the pass; `null` where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
}

/// Results of the approximate network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApproxResult {
    /// Share of images it gets right.
    pub accuracy: f64,
    /// Share of images that it puts in the same class as the exact network does.
    pub agreement: f64,
    /// `null` if a logit is not finite.
    pub max_abs_logit_difference: Option<f32>,
    /// Images with a logit that is not finite.
    pub non_finite_images: usize,
    /// For all images, with the final bounds.
    pub seconds: f64,
    /// Throughput.
    pub images_per_second: f64,
    /// Passes that the search for B took.
    pub passes: usize,
    /// What those took in all.
    pub search_seconds: f64,
    /// Peak resident memory of the process during the passes; `null` where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
}

/// An image that could not be decoded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkippedImage {
    /// Its file, or its place in one.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A site's inputs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SiteResult {
    /// In the style of the weights.
    pub name: String,
    /// `relu` or `max_pool`.
    pub kind: SiteKind,
    /// The largest |x| in the exact network.
    pub max_abs: f32,
    /// The largest |x| in the approximate network; `null` if not finite.
    #[serde(deserialize_with = "number_or_nan")]
    pub approx_max_abs: f32,
}

/// JSON has no NaN.
fn number_or_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f32::NAN))
}

/// Where reports ran before there was a choice.
fn cpu() -> String {
    "cpu".to_owned()
}

/// Which weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsIdentity {
    /// Its path.
    pub file: String,
    /// In hexadecimal.
    pub sha256: String,
}

impl WeightsIdentity {
    /// Those in the file `path`.
    ///
    /// # Errors
    /// [`EvalError::Read`](crate::EvalError::Read).
    pub fn of(path: impl AsRef<Path>) -> crate::Result<Self> {
        let path = path.as_ref();
        let read = |source| crate::EvalError::Read { path: path.to_owned(), source };
        let sha256 = sha256_of_file(path).map_err(read)?;
        Ok(Self { file: path.display().to_string(), sha256 })
    }
}

/// What a run was of.
#[derive(Debug, Clone)]
pub struct Subject {
    /// `cifar10`, `imagenet`, `demo`.
    pub dataset: String,
    /// `resnet20`, …
    pub backbone: String,
    /// `proposed`, `square`, `relu_aq`, `policy`.
    pub method: String,
    /// Simulated noise.
    pub noise: Option<Noise>,
    /// What the activations cost, as [`Network::cost`](approx_models::Network::cost).
    pub cost: Cost,
    /// Which weights.
    pub weights: WeightsIdentity,
    /// Images at a time.
    pub batch_size: usize,
    /// CPU threads.
    pub threads: usize,
    /// Where the network ran ([`device_name`](crate::device_name)).
    pub device: String,
}

impl Report {
    /// The report of two passes over the same images.
    pub fn new(subject: Subject, exact: &Pass, approx: &ApproximatePass, comparison: &Comparison) -> Self {
        let Subject { dataset, backbone, method, noise, cost, weights, batch_size, threads, device } =
            subject;
        let images = exact.logits.predictions().len();
        let composition = approx.policy.composition();
        let sign = composition.map(|composition| composition.sign());
        let approximations = Approximations::of(&approx.policy, &exact.sites);
        let is_approximated = composition.is_some() || !approximations.is_empty();
        let per_second = |seconds: f64| images as f64 / seconds;
        let site = |(exact, approx): (&SiteRange, &SiteRange)| SiteResult {
            name: exact.name.clone(),
            kind: exact.kind,
            max_abs: exact.max_abs,
            approx_max_abs: approx.max_abs,
        };
        let skipped = |image: &approx_data::Skipped| SkippedImage {
            name: image.name.clone(),
            reason: image.reason.clone(),
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset,
            backbone,
            method,
            alpha: composition.map(|composition| composition.bits()),
            composition: composition.map(|composition| composition.digest().to_owned()),
            degrees: sign.map(CompositeSign::degrees),
            depth: sign.map(|sign| sign.relu_cost().depth),
            non_scalar_multiplications: sign.map(|sign| sign.relu_cost().non_scalar_multiplications),
            net_depth: Some(cost.depth),
            net_mults: Some(cost.non_scalar_multiplications),
            b_relu: is_approximated.then_some(approx.bounds.relu),
            b_max: is_approximated.then_some(approx.bounds.max_pool),
            images,
            skipped: exact.skipped.iter().map(skipped).collect(),
            batch_size,
            exact: ExactResult {
                accuracy: comparison.exact_accuracy,
                seconds: exact.seconds,
                images_per_second: per_second(exact.seconds),
                peak_memory_bytes: exact.peak_memory,
            },
            approx: ApproxResult {
                accuracy: comparison.approx_accuracy,
                agreement: comparison.agreement,
                max_abs_logit_difference: comparison.max_abs_logit_difference,
                non_finite_images: comparison.non_finite_images,
                seconds: approx.pass.seconds,
                images_per_second: per_second(approx.pass.seconds),
                passes: approx.passes,
                search_seconds: approx.search_seconds,
                peak_memory_bytes: approx.pass.peak_memory,
            },
            relative_difference: Some(comparison.relative_difference()).filter(|d| d.is_finite()),
            sites: exact.sites.iter().zip(&approx.pass.sites).map(site).collect(),
            approximations,
            noise: noise.map(|noise| NoiseResult {
                sigma: noise.sigma,
                bits: noise.bits(),
                seed: noise.seed,
                excursions: approx.pass.excursions.clone(),
            }),
            weights,
            threads,
            device,
            simd: cnn_kernels::SimdLevel::current().to_string(),
        }
    }

    /// The report as indented JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has no maps with other keys than strings")
    }
}
