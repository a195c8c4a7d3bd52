//! What comes behind a kernel in the same pass over memory: an activation, for example.

use candle_core::Tensor;

use crate::error::Result;
use crate::range::RangeStats;

/// A function of one variable that a kernel applies to its finished values while they are in the cache.
///
/// On the CPU, a kernel calls it from all threads, each time with a few thousand values, so that a dynamic call costs
/// nothing. On other devices it is given the whole tensor.
pub trait Epilogue: Sync {
    /// Replaces each of a task's values by the function of it, on this thread, and gives the range of the inputs.
    fn apply_in_place(&self, values: &mut [f32]) -> RangeStats;

    /// Multiplies each of a task's gradients by the derivative at the input, on this thread. Gives what the epilogue adds
    /// to the loss itself, such as a penalty on its inputs, whose gradient is then in `gradients`, too; 0 for most.
    fn gradient_in_place(&self, inputs: &[f32], gradients: &mut [f32]) -> f64;

    /// Takes note of the range of all inputs of a pass on the CPU.
    fn record(&self, range: RangeStats);

    /// Replaces `xs` by `f(xs · scale[c] + bias[c] + addend)` on its device, and takes note of the range of the inputs
    /// itself. `affine` is the bias of each channel, or scale and bias.
    ///
    /// # Shapes
    /// `xs`: `[N, C, …]`, contiguous; `affine`: `[C]` or `[2, C]`; `addend`: as `xs`.
    ///
    /// # Errors
    /// Those of the function, or candle's.
    fn apply_affine(&self, xs: &Tensor, affine: &Tensor, addend: Option<&Tensor>) -> Result<()>;

    /// The gradient of `x · scale[c] + bias[c] + addend` from that of the function of it, on its device, and what the
    /// epilogue adds to the loss.
    ///
    /// # Shapes
    /// As [`Epilogue::apply_affine`]; `gradients` and the result: as `xs`, contiguous.
    ///
    /// # Errors
    /// As [`Epilogue::apply_affine`].
    fn affine_gradient(
        &self,
        xs: &Tensor,
        affine: &Tensor,
        addend: Option<&Tensor>,
        gradients: &Tensor,
    ) -> Result<(Tensor, f64)>;
}
