//! Operations that move numbers and change none.

use candle_core::{Device, Tensor};
use cnn_graph::ops::{Pool, Slice};

use crate::error::Result;

/// Joins values along a dimension.
///
/// # Shapes
/// Each of `parts`: `[N, …]`; they differ in dimension `axis + 1` only. On the CPU, joined channels of images are
/// channels-last in memory.
pub(crate) fn concat(parts: &[&Tensor], axis: usize) -> Result<Tensor> {
    let images_on_cpu = parts.iter().all(|part| part.rank() == 4 && part.device().is_cpu());
    if axis > 0 || !images_on_cpu {
        return Ok(Tensor::cat(parts, axis + 1)?);
    }
    let channels_last = |xs: &&Tensor| xs.permute((0, 2, 3, 1))?.contiguous();
    let parts = parts.iter().map(channels_last).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, 3)?.permute((0, 3, 1, 2))?)
}

/// The gradients of the parts of [`concat`], which have these lengths in the dimension that is joined.
pub(crate) fn concat_gradients(gradient: &Tensor, axis: usize, lengths: &[usize]) -> Result<Vec<Tensor>> {
    let mut start = 0;
    let part = |&length: &usize| {
        let part = gradient.narrow(axis + 1, start, length)?;
        start += length;
        Ok(match gradient.rank() {
            4 => channels_last(&part)?,
            _ => part.contiguous()?,
        })
    };
    lengths.iter().map(part).collect()
}

/// The same values, on the CPU channels-last in memory, else contiguous.
fn channels_last(xs: &Tensor) -> candle_core::Result<Tensor> {
    match xs.device() {
        Device::Cpu => xs.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2)),
        _ => xs.contiguous(),
    }
}

/// Zeros before and after the values of each dimension but the first.
pub(crate) fn pad(xs: &Tensor, zeros: &[[usize; 2]]) -> Result<Tensor> {
    let mut xs = xs.clone();
    for (dim, &[before, after]) in (1..).zip(zeros) {
        if (before, after) != (0, 0) {
            xs = xs.contiguous()?.pad_with_zeros(dim, before, after)?;
        }
    }
    Ok(xs)
}

/// The gradient of [`pad`], for an input of the shape `dims`.
pub(crate) fn pad_gradient(gradient: &Tensor, zeros: &[[usize; 2]], dims: &[usize]) -> Result<Tensor> {
    let mut gradient = gradient.clone();
    for (dim, &[before, _]) in (1..).zip(zeros) {
        gradient = gradient.narrow(dim, before, dims[dim])?;
    }
    Ok(gradient.contiguous()?)
}

/// Every `step`-th index of a dimension.
pub(crate) fn slice(xs: &Tensor, slice: Slice) -> Result<Tensor> {
    let Slice { axis, start, end, step } = slice;
    if step == 1 {
        return Ok(xs.narrow(axis + 1, start, end - start)?);
    }
    Ok(xs.index_select(&indices(xs, slice)?, axis + 1)?)
}

/// The gradient of [`slice`](fn@slice), for an input of the shape `dims`.
pub(crate) fn slice_gradient(gradient: &Tensor, slice: Slice, dims: &[usize]) -> Result<Tensor> {
    let zeros = Tensor::zeros(dims, gradient.dtype(), gradient.device())?;
    Ok(zeros.index_add(&indices(gradient, slice)?, &gradient.contiguous()?, slice.axis + 1)?)
}

fn indices(xs: &Tensor, Slice { start, end, step, .. }: Slice) -> Result<Tensor> {
    let indices = (start..end).step_by(step).map(|index| index as u32);
    Ok(Tensor::from_iter(indices, xs.device())?)
}

/// The pixels that windows of 1×1 pick.
pub(crate) fn strided(xs: &Tensor, pool: Pool) -> Result<Tensor> {
    let (_, _, height, width) = xs.dims4()?;
    let rows = slice(xs, Slice { axis: 1, start: 0, end: height, step: pool.stride[0] })?;
    slice(&rows, Slice { axis: 2, start: 0, end: width, step: pool.stride[1] })
}

/// One row of features for each image.
pub(crate) fn flatten(xs: &Tensor) -> Result<Tensor> {
    Ok(xs.flatten_from(1)?)
}

/// Other dimensions for the same numbers of each image.
pub(crate) fn reshape(xs: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let dims: Vec<usize> = [xs.dim(0)?].iter().chain(dims).copied().collect();
    Ok(xs.contiguous()?.reshape(dims)?)
}

/// Another order of the dimensions of each image.
pub(crate) fn transpose(xs: &Tensor, order: &[usize]) -> Result<Tensor> {
    let order: Vec<usize> = [0].into_iter().chain(order.iter().map(|dim| dim + 1)).collect();
    Ok(xs.permute(order)?)
}

/// The gradient of [`transpose`].
pub(crate) fn transpose_gradient(gradient: &Tensor, order: &[usize]) -> Result<Tensor> {
    let mut back = vec![0; order.len()];
    for (to, &from) in order.iter().enumerate() {
        back[from] = to;
    }
    transpose(gradient, &back)
}

/// Every second row and column, and as many zero channels on both sides as it takes to have `outputs`.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result `[N, outputs, ⌈H/2⌉, ⌈W/2⌉]`.
pub(crate) fn subsample(xs: &Tensor, outputs: usize) -> Result<Tensor> {
    if xs.device().is_cpu() {
        Ok(cnn_kernels::subsample(xs, outputs)?)
    } else {
        subsample_by_candle(xs, outputs)
    }
}

/// The gradient of [`subsample`], for an input of the shape `dims`.
pub(crate) fn subsample_gradient(gradient: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let &[_, channels, height, width] = dims else { unreachable!("it was an image") };
    if gradient.device().is_cpu() {
        return Ok(cnn_kernels::subsample_gradient(gradient, channels, (height, width))?);
    }
    let zeros = gradient.dim(1)? - channels;
    let gradient = gradient.narrow(1, zeros / 2, channels)?;
    let columns = Slice { axis: 2, start: 0, end: width, step: 2 };
    let rows = Slice { axis: 1, start: 0, end: height, step: 2 };
    let narrow = [gradient.dim(0)?, channels, gradient.dim(2)?, width];
    slice_gradient(&slice_gradient(&gradient, columns, &narrow)?, rows, dims)
}

/// The same by candle's ops, on any device.
fn subsample_by_candle(xs: &Tensor, outputs: usize) -> Result<Tensor> {
    let (_, channels, height, width) = xs.dims4()?;
    let (rows, columns, zeros) = (height.div_ceil(2), width.div_ceil(2), outputs - channels);
    let even = xs.contiguous()?.pad_with_zeros(2, 0, height % 2)?.pad_with_zeros(3, 0, width % 2)?;
    let pairs = even.reshape(((), 2, columns, 2))?.narrow(1, 0, 1)?.narrow(3, 0, 1)?;
    let pixels = pairs.contiguous()?.reshape(((), channels, rows, columns))?;
    Ok(pixels.pad_with_zeros(1, zeros / 2, zeros - zeros / 2)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candles_ops_pick_the_pixels_that_ours_pick() {
        for shape in [(2, 3, 8, 6), (1, 2, 5, 7), (2, 4, 1, 2)] {
            let xs = Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
            let values = |ys: Tensor| ys.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (ours, candles) = (subsample(&xs, 7).unwrap(), subsample_by_candle(&xs, 7).unwrap());
            assert_eq!(ours.dims(), candles.dims());
            assert_eq!(values(ours), values(candles));
        }
    }
}
