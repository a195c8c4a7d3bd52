//! Averages.

use approx_ops::PoolSpec;
use candle_core::Tensor;
use cnn_graph::ops::{AvgPool, Pool};
use cnn_kernels::{KernelError, avg_pool, avg_pool_gradient};

use super::conv::sides;
use crate::error::Result;

/// The windows as the kernels take them.
pub(crate) fn pool_spec(pool: Pool) -> Result<PoolSpec, KernelError> {
    let Pool { kernel, stride, padding, ceil_mode } = pool;
    Ok(PoolSpec::rectangular(kernel, stride, sides(padding))?.with_ceil_mode(ceil_mode))
}

/// The mean of each channel.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result `[N, C, 1, 1]`.
pub(crate) fn global_average(xs: &Tensor) -> Result<Tensor> {
    let (images, channels, height, width) = xs.dims4()?;
    let means = if xs.device().is_cpu() {
        // As a product with a row of equal weights: candle's mean of channels-last images took 5 % of ResNet-20's time.
        let pixels = height * width;
        let weights = Tensor::full(1.0 / pixels as f32, (images, 1, pixels), xs.device())?;
        weights.matmul(&xs.permute((0, 2, 3, 1))?.reshape((images, pixels, channels))?)?
    } else {
        xs.mean((2, 3))?
    };
    Ok(means.reshape((images, channels, 1, 1))?)
}

/// The gradient of [`global_average`] for an image of `height × width`.
pub(crate) fn global_average_gradient(gradient: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (images, channels, ..) = gradient.dims4()?;
    let share = gradient.affine(1.0 / (height * width) as f64, 0.0)?;
    Ok(share.broadcast_as((images, channels, height, width))?.contiguous()?)
}

/// The means of parts of about the same size, which overlap where the image is no multiple of them: PyTorch's
/// `AdaptiveAvgPool2d`.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result `[N, C, size[0], size[1]]`.
pub(crate) fn adaptive_average(xs: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let (_, _, height, width) = xs.dims4()?;
    if [height, width] == size {
        return Ok(xs.clone());
    }
    let parts = |xs: &Tensor, dim: usize, length: usize, size: usize| {
        let part = |i: usize| {
            let (start, end) = (i * length / size, ((i + 1) * length).div_ceil(size));
            xs.narrow(dim, start, end - start)?.mean_keepdim(dim)
        };
        Tensor::cat(&(0..size).map(part).collect::<candle_core::Result<Vec<_>>>()?, dim)
    };
    Ok(parts(&parts(xs, 2, height, size[0])?, 3, width, size[1])?)
}

/// The mean of each window.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result `[N, C, H', W']`.
pub(crate) fn average(xs: &Tensor, pool: AvgPool) -> Result<Tensor> {
    Ok(avg_pool(xs, &pool_spec(pool.window)?, pool.count_padding)?)
}

/// The gradient of [`average`] for an image of `height × width`.
pub(crate) fn average_gradient(gradient: &Tensor, pool: AvgPool, size: [usize; 2]) -> Result<Tensor> {
    Ok(avg_pool_gradient(gradient, size, &pool_spec(pool.window)?, pool.count_padding)?)
}
