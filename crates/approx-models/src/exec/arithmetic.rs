//! Sums and products of two values.

use candle_core::Tensor;

use crate::error::Result;

/// # Shapes
/// `xs` and `ys` have the same, and so has the result.
pub(crate) fn add(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    Ok(cnn_kernels::add(xs, ys)?)
}

/// # Shapes
/// `xs`: `[N, …]`; `ys` has the same, or is `[N, C, 1, 1]`; the result has that of `xs`.
pub(crate) fn mul(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    Ok(xs.broadcast_mul(ys)?)
}
