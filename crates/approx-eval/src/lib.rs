//! How good a network is, exactly and approximated, and which range the approximation needs.
//!
//! | module | what |
//! |---|---|
//! | [`evaluate`] | [`Job`]: a data set and how to run it; [`exact_pass`]: the baseline and each site's range |
//! | [`bound_search`] | [`approximate_pass`]: fails on a value out of range, or widens B and goes on |
//! | [`compare`] | [`Comparison`]: accuracies, agreement, logit error |
//! | [`report`] | [`Report`]: all of it as JSON |
//! | [`sweep`] | [`Sweep`]: one network at several precisions, a table of them |
//! | [`calibrate`] | what each site sees, and a bound for each |
//! | [`candidates`] | what can stand at a site, and what of it is made for the site's inputs |
//! | [`policy_file`] | [`PolicyFile`]: a policy with what it was made from and what accuracy it gives |
//! | [`tune`](mod@tune) | a precision or a degree for each site, as little as the accuracy allows |
//! | [`cells`] | results that are kept in files, so that no work is done twice |
//! | [`output`] | logits as a file, hashes |
//!
//! ```
//! use approx_data::{Normalization, demo};
//! use approx_eval::{BoundSearch, Bounds, Job, approximate_pass, exact_pass};
//! use approx_models::{ActivationPolicy, Backbone, Network, RunOptions, Weights};
//! use candle_core::Device;
//! use minimax_coeffs::Alpha;
//!
//! let images = demo::images().truncated(2);
//! let job = Job { images: &images, normalization: Normalization::CIFAR10, batch_size: 2, device: Device::Cpu };
//! let backbone = Backbone::find("cifar10", "resnet20")?;
//! let weights = Weights::generate(Device::Cpu, |_name, shape| vec![0.02; shape.iter().product()]);
//!
//! let mut network = Network::build(backbone.graph()?, &weights, &ActivationPolicy::exact())?;
//! let exact = exact_pass(&job, &network, &())?;
//! let search = BoundSearch { start: Bounds { relu: 5.0, max_pool: 5.0 }, step: 5.0 };
//! let options = RunOptions::default();
//! let found = approximate_pass(&job, &exact, &mut network, search, &options, &(), |bounds| {
//!     ActivationPolicy::minimax(Alpha::MAX, bounds.relu, bounds.max_pool)
//! })?;
//! assert!(found.pass.sites.iter().all(|site| f64::from(site.max_abs) <= found.bounds.relu));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod bound_search;
pub mod calibrate;
pub mod candidates;
pub mod cells;
pub mod compare;
pub mod error;
pub mod evaluate;
mod memory;
pub mod output;
pub mod policy_file;
pub mod report;
pub mod sweep;
pub mod tune;

pub use bound_search::{ApproximatePass, BoundSearch, Bounds, approximate_pass};
pub use compare::Comparison;
pub use error::{EvalError, RangeError, Result};
pub use evaluate::{
    Job, Logits, Observer, Pass, SiteExcursions, SiteRange, device_name, exact_pass, with_batches_that_fit,
};
pub use policy_file::PolicyFile;
pub use report::Report;
pub use sweep::Sweep;

/// The README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
