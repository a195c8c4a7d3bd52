//! What can go wrong.

use std::error::Error;
use std::fmt;

use candle_core::DType;

use crate::geometry::ConvGeometry;
use crate::pool::PoolSpec;
use crate::window::LARGEST;

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
    /// A kernel, stride or dilation of 0 or of more than 65536, or channels that do not fall into groups.
    #[error(
        "{} is no convolution: kernel, stride and dilation must be from 1 to {}, and the channels multiples of the \
         groups",
        Described(geometry),
        LARGEST
    )]
    InvalidConv {
        /// What was asked for.
        geometry: Box<ConvGeometry>,
    },
    /// A weight of another shape than the convolution's.
    #[error("{} has a weight of {:?}, not of {found:?}", Described(geometry), geometry.weight_shape())]
    ConvWeight {
        /// The convolution.
        geometry: Box<ConvGeometry>,
        /// The weight's shape.
        found: Vec<usize>,
    },
    /// An input that a convolution does not take.
    #[error("{} does not take an input of {shape:?}", Described(geometry))]
    ConvInput {
        /// `[N, C, H, W]` of the input.
        shape: Vec<usize>,
        /// The convolution.
        geometry: Box<ConvGeometry>,
    },
    /// A pooling window, stride or padding that makes no sense.
    #[error(
        "pooling with kernel {}×{}, stride {}×{}, padding {}: the kernel and the stride must be from 1 to {}, the \
         padding at most half the kernel",
        spec.kernel()[0], spec.kernel()[1], spec.stride()[0], spec.stride()[1], spec.padding(), LARGEST
    )]
    InvalidPool {
        /// What was asked for.
        spec: Box<PoolSpec>,
    },
    /// An image smaller than the pooling window.
    #[error(
        "pooling with kernel {}×{} and padding {} has no window in an image of {height}×{width}",
        spec.kernel()[0], spec.kernel()[1], spec.padding()
    )]
    EmptyPool {
        /// The pooling.
        spec: Box<PoolSpec>,
        /// The image's height.
        height: usize,
        /// The image's width.
        width: usize,
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

/// A convolution in the words of an error.
struct Described<'a>(&'a ConvGeometry);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConvGeometry { inputs, outputs, kernel, stride, dilation, padding, groups } = *self.0;
        write!(f, "a convolution of {inputs} to {outputs} channels with kernel {}×{}", kernel[0], kernel[1])?;
        write!(f, ", stride {}×{} and padding {padding}", stride[0], stride[1])?;
        if dilation != [1, 1] {
            write!(f, ", dilation {}×{}", dilation[0], dilation[1])?;
        }
        if groups != 1 {
            write!(f, ", in {groups} groups")?;
        }
        Ok(())
    }
}
