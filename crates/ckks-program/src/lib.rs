//! Convolutional networks as programs on CKKS ciphertexts.
//!
//! A [`Plan`] lowers a [`Graph`](cnn_graph::Graph) with its weights and the polynomials of its
//! [`ActivationPolicy`](cnn_graph::policy::ActivationPolicy) to the sequence of slot operations that an engine executes: a
//! [`Program`], which is data. The plan counts it and tells what it will take by an engine's [`Profile`]
//! ([`Plan::report`]), and runs it on plain numbers, slot by slot ([`Plan::simulate`]), so that it is known to compute the
//! network.
//!
//! | module | what |
//! |---|---|
//! | [`ir`] | the program: instructions on ciphertexts in static single assignment form |
//! | [`layout`] | where the numbers of a value lie: multiplexed packing, images that share ciphertexts |
//! | `map`, `linear`, [`split`] | linear layers as sparse matrices over slots: their weights, their diagonals, baby and giant steps |
//! | `polynomial`, `max_pool` | what stands at the sites of a policy |
//! | `lower`, `stage` | from the graph to stages, and from a stage to instructions |
//! | [`levels`] | at which level everything is computed, and where bootstraps are |
//! | [`profile`] | what an engine can do, and what that costs |
//! | [`plan`], [`report`], `simulate`, `file` | a plan and what can be done with it |
//!
//! ```
//! use ckks_program::{Noise, Plan, PlanOptions};
//! use cnn_graph::GraphBuilder;
//! use cnn_graph::ops::Conv;
//! use cnn_graph::policy::ActivationPolicy;
//! use minimax_coeffs::Alpha;
//!
//! let mut b = GraphBuilder::new([1, 8, 8]);
//! let x = b.input();
//! let x = b.conv("conv", x, Conv::same(4, 3));
//! let x = b.relu("relu", x);
//! let x = b.flatten(x);
//! let x = b.linear("fc", x, 10);
//! let graph = b.finish(x)?;
//!
//! let policy = ActivationPolicy::minimax(Alpha::new(10)?, 20.0, 10.0);
//! let weights = |spec: &cnn_graph::ParamSpec| vec![0.1; spec.shape.iter().product()];
//! let plan = Plan::new(&graph, weights, &policy, &PlanOptions::new(1024))?;
//!
//! let totals = plan.report()?.totals;
//! assert_eq!(totals.images, 4); // share a ciphertext
//! assert!(totals.rotations < 40);
//! let simulation = plan.simulate(&[vec![0.5; 64]], Noise::None)?;
//! assert_eq!(simulation.outputs[0].len(), 10);
//! assert!(simulation.ranges.iter().all(|site| site.outside == 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
