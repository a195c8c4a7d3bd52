//! What can go wrong.

use approx_ops::OpError;

use crate::policy::PolicyError;
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
    /// The policy is not one for this network.
    #[error(transparent)]
    Policy(#[from] PolicyError),
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

/// Shorthand for this crate's results.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;
