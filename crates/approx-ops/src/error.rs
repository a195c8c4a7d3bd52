//! What can go wrong.

use cnn_kernels::KernelError;
use minimax_coeffs::ActivationFunction;

/// The error of every function in this crate.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// A bound `B` that no range `[-B, B]` can have.
    #[error(
        "the bound of the approximation range is {0:?}, but it must be positive and within the range of float32"
    )]
    InvalidBound(f64),
    /// A function that cannot be what is asked for.
    #[error(
        "{function:?}: its parameters must be finite (the ends of a clip may be infinite), a scale positive, and the ends \
         of a clip in order; only piecewise linear functions are sums of ReLUs"
    )]
    InvalidFunction {
        /// As given.
        function: ActivationFunction,
    },
    /// A composition that does not fit into what a CUDA kernel can be given.
    #[error("a composition of {components} components; on CUDA there can be {limit}, of degree 63 at most")]
    LongComposition {
        /// Its components.
        components: usize,
        /// How many there can be.
        limit: usize,
    },
    /// A function that does not fit into what a CUDA kernel can be given.
    #[error("{op}: {terms} terms; on CUDA there can be {limit}")]
    LargeFunction {
        /// The op's name.
        op: &'static str,
        /// Its terms.
        terms: usize,
        /// How many there can be.
        limit: usize,
    },
    /// A single image, or channel of it, that is too large for a CUDA kernel.
    #[error("{op}: {numbers} numbers of one image; on CUDA there can be {limit}")]
    LargeImage {
        /// The op's name.
        op: &'static str,
        /// Its numbers.
        numbers: usize,
        /// How many there can be.
        limit: usize,
    },
    /// The error of a general kernel: an input that is not float32, for example, or a pooling window that does not fit.
    #[error(transparent)]
    Kernel(Box<KernelError>),
    /// candle's own error: a wrong shape, a device without this op.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Shorthand for this crate's results.
pub type Result<T, E = OpError> = std::result::Result<T, E>;

/// An error that passes through candle, which keeps its text only.
#[cfg(feature = "cuda")]
impl From<OpError> for candle_core::Error {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Candle(error) => error,
            error => candle_core::Error::wrap(error),
        }
    }
}

/// `bound` as float32 if it is positive, finite and neither overflows nor vanishes there.
pub(crate) fn check_bound(bound: f64) -> Result<f32> {
    let rounded = bound as f32;
    if rounded.is_normal() && rounded > 0.0 && (1.0 / rounded).is_normal() {
        Ok(rounded)
    } else {
        Err(OpError::InvalidBound(bound))
    }
}

impl From<KernelError> for OpError {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Candle(error) => error.into(),
            error => Self::Kernel(Box::new(error)),
        }
    }
}

/// An error that passes through a kernel, whose epilogue is one of this crate's functions.
impl From<OpError> for KernelError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Kernel(error) => *error,
            OpError::Candle(error) => error.into(),
            error => KernelError::Epilogue(Box::new(error)),
        }
    }
}
