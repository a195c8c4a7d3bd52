//! What can go wrong.

use approx_ops::OpError;
use cnn_graph::policy::PolicyError;
use cnn_graph::{GraphError, Shape};
use cnn_kernels::KernelError;
use minimax_coeffs::SmoothError;

use crate::weights::WeightsError;

/// The error of every function that builds or runs a network.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The network's definition is not one, or there is no such backbone.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The weights do not fit the model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights are this network's, but for another number of classes.
    #[error("{origin}: the weights are for {found} classes, not for {asked}")]
    Classes {
        /// Where the weights are from.
        origin: String,
        /// How many classes they are for.
        found: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// The policy is not one for this network.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An activation could not be made or run.
    #[error("{site}: {source}")]
    Site {
        /// The site's name.
        site: String,
        /// What went wrong there.
        source: Box<OpError>,
    },
    /// A smooth function has no polynomial of a supported degree with this precision.
    #[error("{site}: {source}")]
    Smooth {
        /// The site's name.
        site: String,
        /// Why not.
        source: Box<SmoothError>,
    },
    /// A node that graphs have and the ops do not.
    #[error("{node}: {reason} cannot be run")]
    Unsupported {
        /// The node's name.
        node: String,
        /// What it has.
        reason: String,
    },
    /// A value that is to be looked at does not exist.
    #[error("the network has no value `{name}`, or computes it together with the one behind it")]
    UnknownValue {
        /// The name of its node.
        name: String,
    },
    /// A batch of another shape than the network was built for.
    #[error("the network takes images of shape {expected}, not a batch of shape {found:?}")]
    InputShape {
        /// The shape of an image.
        expected: Shape,
        /// The shape of the batch.
        found: Vec<usize>,
    },
    /// Noise, for a network that is to be trained.
    #[error("noise is simulated for evaluation only; it has no gradient")]
    NoiseInTraining,
    /// Under noise, a value outside of its range has no exact function that it could become.
    #[error("noise is simulated for values within the range; it has no exact function outside of it")]
    NoiseOutside,
    /// A layer could not be made or run.
    #[error(transparent)]
    Op(#[from] OpError),
    /// candle's own error, such as an input of the wrong shape.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<KernelError> for ModelError {
    fn from(error: KernelError) -> Self {
        Self::Op(error.into())
    }
}

/// Shorthand for this crate's results.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;
