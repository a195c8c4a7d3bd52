//! Running and training convolutional networks whose activations are pluggable.
//!
//! A network is a [`Graph`], from the crate [`cnn_graph`]. [`Network::build`] makes it ready for a device with its
//! [`Weights`], and an [`ActivationPolicy`] says what stands at each [`Site`], everywhere or by name: the exact network and
//! every approximation of it (Lee et al., arXiv 2105.10879) are one executable. Sites are named in the style of the weights
//! (`layer1.0.relu2`), and each reports the range of its inputs.
//!
//! | module | what |
//! |---|---|
//! | [`network`] | [`Network`]: a graph made ready, its sites, and the values that are watched |
//! | [`policy`] | from cnn-graph, [`ActivationPolicy`]: exact, minimax, square, relu_aq; overrides per site |
//! | [`run_options`] | [`RunOptions`]: noise, and what happens outside of a range |
//! | [`weights`] | [`Weights`] from `.pt`, `.pth`, `.safetensors`, tensors or a function |
//! | [`init`] | [`initial_weights`]: random weights to train from |
//! | [`training`] | [`TrainableNetwork`]: the same graphs with gradients, and the optimiser |
//!
//! ```
//! use approx_models::{ActivationPolicy, Backbone, Network, Weights};
//! use candle_core::{DType, Device, Tensor};
//! use minimax_coeffs::Alpha;
//!
//! let graph = Backbone::find("cifar10", "resnet20")?.graph()?;
//! let weights = Weights::generate(Device::Cpu, |_name, shape| vec![0.01; shape.iter().product()]);
//! let policy = ActivationPolicy::minimax(Alpha::MAX, 50.0, 50.0);
//! let network = Network::build(graph, &weights, &policy)?;
//! let logits = network.forward(&Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(logits.dims(), [2, 10]);
//! assert_eq!(network.sites()[1].name(), "layer1.0.relu1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod error;
mod exec;
pub mod init;
pub mod network;
mod params;
pub mod run_options;
pub mod training;
pub mod weights;

pub use cnn_graph::policy::{self, ActivationPolicy, Composition, Fitted, SiteKind, SitePolicy};
pub use cnn_graph::zoo::Backbone;
pub use cnn_graph::{Graph, GraphBuilder, ops};
pub use error::{ModelError, Result};
pub use init::initial_weights;
pub use network::{Network, Site, WatchedValue};
pub use run_options::{Outside, RunOptions};
pub use training::{Gradients, Sgd, StepOptions, StepReport, TrainableNetwork};
pub use weights::{Weights, WeightsError};
