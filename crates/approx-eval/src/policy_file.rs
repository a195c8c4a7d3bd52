//! Policies as files.
//!
//! A file is JSON: what it is for and made with, the [`ActivationPolicy`] with the generated polynomials that it uses,
//! what each site saw, and what accuracy the policy gave. Files of version 1, which knew published polynomials only, are
//! read too.

use std::path::Path;

use approx_data::Split;
use approx_models::policy::v1;
use approx_models::{ActivationPolicy, Network};
use approx_ops::Sketch;
use serde::{Deserialize, Serialize};

use crate::bound_search::ApproximatePass;
use crate::calibrate::SiteSummary;
use crate::compare::Comparison;
use crate::error::{EvalError, Result};
use crate::evaluate::{Pass, SiteRange};
use crate::report::WeightsIdentity;

/// What the files say they are.
const FORMAT: &str = "approx-cnn policy";
/// The version of the files that are written. Version 1 is read, too.
const VERSION: u32 = 2;

/// A policy with a bound for each site, where it is from, and what it gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyFile {
    format: String,
    version: u32,
    /// The network that it is for.
    pub backbone: String,
    /// The weights that it was made with.
    pub weights: WeightsIdentity,
    /// What the largest |x| of each site was multiplied by.
    pub headroom: f64,
    /// What the policy gave on the images that it was made with.
    pub promise: Promise,
    /// What it gave on images that had no part in making it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Promise>,
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
    /// One standard error of the difference of both accuracies: what it may be off by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// The largest difference of two logits.
    pub max_abs_logit_difference: Option<f32>,
}

impl Promise {
    /// What `approx` gave on images of `dataset`.
    pub fn new(dataset: &str, split: Split, exact: &Pass, approx: &ApproximatePass) -> Self {
        let comparison = Comparison::new(&exact.logits, &approx.pass.logits, &exact.labels);
        Self {
            dataset: dataset.to_owned(),
            split: split.name().to_owned(),
            images: exact.labels.len(),
            exact_accuracy: comparison.exact_accuracy,
            accuracy: comparison.approx_accuracy,
            agreement: comparison.agreement,
            chance: Some(comparison.chance),
            max_abs_logit_difference: comparison.max_abs_logit_difference,
        }
    }
}

/// What files say of whose images nothing is said.
fn test() -> String {
    Split::Test.name().to_owned()
}

impl PolicyFile {
    /// A policy for `backbone` that was made with these weights, `headroom` and images, and gave this.
    pub fn new(
        backbone: &str,
        weights: WeightsIdentity,
        headroom: f64,
        promise: Promise,
        policy: ActivationPolicy,
        sites: Vec<SiteSummary>,
    ) -> Self {
        let (format, backbone) = (FORMAT.to_owned(), backbone.to_owned());
        Self { format, version: VERSION, backbone, weights, headroom, promise, checked: None, policy, sites }
    }

    /// What a calibration or tuning on the test images of `dataset` came to: `network` has the policy's activations.
    pub fn of_passes(
        (dataset, backbone): (&str, &str),
        weights: WeightsIdentity,
        headroom: f64,
        (exact, sketches): (&Pass, &[Sketch]),
        approx: &ApproximatePass,
        network: &Network,
    ) -> Self {
        let summary = |((range, sketch), site): ((&SiteRange, &Sketch), &approx_models::Site)| {
            let precision = approx.policy.at(site.name(), site.kind());
            let precision = precision.approximation().map(|(composition, _)| composition.bits());
            SiteSummary::new(range, sketch, site.bound().unwrap_or_default(), precision)
        };
        let sites = exact.sites.iter().zip(sketches).zip(network.sites()).map(summary).collect();
        let promise = Promise::new(dataset, Split::Test, exact, approx);
        Self::new(backbone, weights, headroom, promise, approx.policy.clone(), sites)
    }

    /// The same, made on these images; else it was the test images.
    #[must_use]
    pub fn with_split(mut self, split: Split) -> Self {
        self.promise.split = split.name().to_owned();
        self
    }

    /// Reads a file for `backbone`. What it claims of generated polynomials is checked.
    ///
    /// # Errors
    /// [`EvalError::Read`]; [`EvalError::PolicyFile`] for another format, version or network, and for polynomials that
    /// are not what the file claims.
    pub fn read(path: &Path, backbone: &str) -> Result<Self> {
        let text = std::fs::read(path).map_err(|source| EvalError::Read { path: path.to_owned(), source })?;
        let error = |reason: String| EvalError::PolicyFile { path: path.to_owned(), reason };
        let no_policy = |reason: &dyn std::fmt::Display| error(format!("not a policy file: {reason}"));
        let mut value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| no_policy(&e))?;
        match (value["format"].as_str(), value["version"].as_u64()) {
            (Some(FORMAT), Some(1)) => {
                v1::upgrade(&mut value["policy"]).map_err(|e| no_policy(&e))?;
                value["version"] = VERSION.into();
            }
            (Some(FORMAT), Some(version)) if version == u64::from(VERSION) => {}
            (Some(FORMAT), version) => {
                let version = version.map_or("none".to_owned(), |version| version.to_string());
                return Err(error(format!("its version is {version}, but 1 to {VERSION} are read")));
            }
            _ => return Err(no_policy(&format!("its format is not `{FORMAT}`"))),
        }
        let file: Self = serde_json::from_value(value).map_err(|e| no_policy(&e))?;
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
        Ok(atomic_file::write(path, (json + "\n").as_bytes())?)
    }
}
