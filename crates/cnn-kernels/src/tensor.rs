//! Memory order of tensors, for ops that are written for one.

use candle_core::{Result, Tensor};

/// A channels-last image as `[N, H, W, C]`, so that it can stay so without a copy; `None` if it is not channels-last.
///
/// # Errors
/// candle's.
pub fn dense_channels_last(xs: &Tensor) -> Result<Option<Tensor>> {
    if xs.rank() != 4 || xs.is_contiguous() {
        return Ok(None);
    }
    Ok(Some(xs.permute((0, 2, 3, 1))?).filter(Tensor::is_contiguous))
}

/// What an op takes: kernels on a GPU want contiguous tensors.
///
/// # Errors
/// candle's, where memory ends.
pub fn for_device(xs: &Tensor) -> Result<Tensor> {
    if xs.device().is_cpu() { Ok(xs.clone()) } else { xs.contiguous() }
}
