//! What can go wrong.

use std::error::Error;

use candle_core::DType;

/// The error of every function in this crate.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The input is not float32.
    #[error("{op} takes float32 tensors, not {dtype:?}")]
    UnsupportedDType {
        /// The op's name.
        op: &'static str,
        /// What it was given.
        dtype: DType,
    },
    /// An input that a convolution does not take.
    #[error(
        "a convolution of {inputs} channels with kernel {}×{} and padding {}×{} does not take an input of {shape:?}",
        kernel.0, kernel.1, padding.0, padding.1
    )]
    ConvInput {
        /// `[N, C, H, W]` of the input.
        shape: Vec<usize>,
        /// Channels that it takes.
        inputs: usize,
        /// Height and width of the kernel.
        kernel: (usize, usize),
        /// Rows and columns added at each side.
        padding: (usize, usize),
    },
    /// Instructions that this processor does not have.
    #[error("this processor has no {requested}; it has {}", available.join(", "))]
    UnsupportedSimd {
        /// The level asked for.
        requested: String,
        /// Those that there are.
        available: Vec<String>,
    },
    /// The error of an [`Epilogue`](crate::Epilogue).
    #[error(transparent)]
    Epilogue(Box<dyn Error + Send + Sync>),
    /// candle's own error: a wrong shape, a device without this op.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Shorthand for this crate's results.
pub type Result<T, E = KernelError> = std::result::Result<T, E>;

/// Refuses a tensor that is not float32.
///
/// # Errors
/// [`KernelError::UnsupportedDType`].
pub fn check_dtype(op: &'static str, dtype: DType) -> Result<()> {
    match dtype {
        DType::F32 => Ok(()),
        dtype => Err(KernelError::UnsupportedDType { op, dtype }),
    }
}
