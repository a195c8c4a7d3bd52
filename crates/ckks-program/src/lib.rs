//! Convolutional networks as programs on CKKS ciphertexts.
#![forbid(unsafe_code)]

pub mod error;
mod file;
pub mod ir;
pub mod layout;
pub mod levels;
mod linear;
mod lower;
mod map;
mod max_pool;
pub mod plan;
mod polynomial;
pub mod profile;
pub mod report;
mod simulate;
pub mod split;
mod stage;

pub use error::{Error, Result};
pub use ir::Program;
pub use plan::{Plan, PlanOptions, Recorded};
pub use profile::Profile;
pub use report::Report;
pub use simulate::{LayerError, Noise, Simulation, SiteRange};
