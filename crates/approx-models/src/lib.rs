//! Convolutional networks that ask a builder for their activations.
//!
//! No block names ReLU or max-pooling: it asks its [`NetBuilder`] for "the ReLU called `relu1`", and an
//! [`ActivationPolicy`] says what that is, everywhere or at one site. The same definition is so the exact
//! network and every approximation of it (Lee et al., arXiv 2105.10879). Tensors have the names of the authors'
//! weights, or of torchvision's, and every activation is a [`Site`] named in their style (`layer1.0.relu2`) that
//! reports the range of its inputs.
//!
//! | module | what |
//! |---|---|
//! | [`policy`] | [`ActivationPolicy`]: exact, minimax, square, relu_aq; overrides per site; polynomials by digest |
//! | [`run_options`] | [`RunOptions`]: noise, and what happens outside of a range |
//! | [`weights`] | [`Weights`] from `.pt`, `.pth`, `.safetensors`, tensors or a function |
//! | [`builder`] | [`NetBuilder`]: weights, policy and path |
//! | [`layers`] | convolution with folded batch norm, linear layer, activation sites |
//! | [`network`] | [`Network`]: a built model and its sites |
//! | [`resnet`], [`vgg`], [`googlenet`], [`inception`] | the families |
//! | [`init`] | [`initial_weights`]: random weights to train from |
//! | [`training`] | [`TrainableNetwork`]: the same definitions with gradients, and the optimiser |
//! | [`registry`] | [`Backbone`]: models by data set and name |
//!
//! ```
//! use approx_models::{ActivationPolicy, Backbone, Weights};
//! use candle_core::{DType, Device, Tensor};
//! use minimax_coeffs::Alpha;
//!
//! let backbone = Backbone::find("cifar10", "resnet20")?;
//! let weights = Weights::generate(Device::Cpu, |_name, shape| vec![0.01; shape.iter().product()]);
//! let policy = ActivationPolicy::minimax(Alpha::MAX, 50.0, 50.0);
//! let network = backbone.build(&weights, &policy)?;
//! let logits = network.forward(&Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(logits.dims(), [2, 10]);
//! assert_eq!(network.sites()[1].name(), "layer1.0.relu1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod builder;
pub mod error;
pub mod googlenet;
pub mod inception;
pub mod init;
pub mod layers;
pub mod network;
pub mod policy;
pub mod registry;
pub mod resnet;
pub mod run_options;
mod tape;
pub mod training;
pub mod vgg;
pub mod weights;

pub use builder::NetBuilder;
pub use error::{ModelError, Result};
pub use init::initial_weights;
pub use network::{Forward, Network, Site};
pub use policy::{ActivationPolicy, Composition, SiteKind, SitePolicy};
pub use registry::Backbone;
pub use run_options::{Outside, RunOptions};
pub use training::{Gradients, Sgd, StepOptions, StepReport, TrainableNetwork};
pub use weights::{Weights, WeightsError};
