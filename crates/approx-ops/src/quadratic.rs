//! Quadratic stand-ins for ReLU, which the paper compares with. Cheap, and far from ReLU: a network has to be
//! trained with them.

use candle_core::Tensor;

use crate::elementwise::Function;
use crate::error::Result;
use crate::range::RangeRecorder;

/// `x²`.
///
/// # Shapes
/// Any; the output has the input's.
///
/// # Errors
/// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), or candle's own.
pub fn square(xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
    Function::Square.apply(xs, recorder)
}

/// `x²/8 + x/2 + 1/4`, named `relu_aq` by the reference (`2^-3 x² + 2^-1 x + 2^-2`).
///
/// # Shapes
/// Any; the output has the input's.
///
/// # Errors
/// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), or candle's own.
pub fn relu_aq(xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
    Function::ReluAq.apply(xs, recorder)
}
