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
    /// A pooling window that the tournament is not defined for, or a stride or padding that makes no sense.
    #[error(
        "max-pooling with kernel {kernel}, stride {stride}, padding {padding}: the kernel must be 2 or 3, the \
         stride at least 1, the padding at most half the kernel"
    )]
    UnsupportedPool {
        /// Height and width of the window.
        kernel: usize,
        /// Distance of two windows.
        stride: usize,
        /// Rows and columns added at each side.
        padding: usize,
    },
    /// An image smaller than the pooling window.
    #[error(
        "max-pooling with kernel {kernel} and padding {padding} has no window in an image of {height}×{width}"
    )]
    EmptyPool {
        /// Height and width of the window.
        kernel: usize,
        /// Rows and columns added at each side.
        padding: usize,
        /// The image's height.
        height: usize,
        /// The image's width.
        width: usize,
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
    /// The error of a general kernel: an input that is not float32, for example.
    #[error(transparent)]
    Kernel(#[from] KernelError),
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
            OpError::Candle(error) | OpError::Kernel(KernelError::Candle(error)) => error,
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

/// An error that passes through a kernel, whose epilogue is one of this crate's functions.
impl From<OpError> for KernelError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Kernel(error) => error,
            OpError::Candle(error) => error.into(),
            error => KernelError::Epilogue(Box::new(error)),
        }
    }
}
