//! What can go wrong.

use approx_ops::OpError;
use cnn_kernels::KernelError;

use crate::weights::WeightsError;

/// The error of every function that builds or runs a network.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No such model.
    #[error("unknown backbone `{name}` for {dataset}; known: {}", known.join(", "))]
    UnknownBackbone {
        /// The data set asked for.
        dataset: String,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
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
    /// A policy names places that the model does not have.
    #[error("the policy names `{name}`, but the network has no such {kind}; it has {}", known.join(", "))]
    UnknownSite {
        /// The name in the policy.
        name: String,
        /// `relu` or `max_pool`.
        kind: &'static str,
        /// The sites there are.
        known: Vec<String>,
    },
    /// An activation could not be made or run.
    #[error("{site}: {source}")]
    Site {
        /// The site's name.
        site: String,
        /// What went wrong there.
        source: OpError,
    },
    /// The loss does not seem to depend on a parameter.
    #[error(
        "no gradient reaches `{parameter}`: what a network computes between its layers with candle's own operations \
         must go through `layers::through`, so that it is recorded"
    )]
    NoGradient {
        /// The parameter's name.
        parameter: String,
    },
    /// A policy with noise, for a network that is to be trained.
    #[error("noise is simulated for evaluation only; it has no gradient")]
    NoiseInTraining,
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
