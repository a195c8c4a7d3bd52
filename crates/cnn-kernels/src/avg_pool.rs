//! Average pooling with any window, and its gradient. candle's has neither padding nor ceil mode.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::conv_gradient::conv2d_input_gradient;
use crate::cpu::{as_f32, build, dense};
use crate::error::{Result, check_dtype};
use crate::geometry::ConvGeometry;
use crate::pool::PoolSpec;
use crate::simd::SimdLevel;
use crate::window::Padding;

/// The mean of each window, as PyTorch's `avg_pool2d`: with `count_include_pad`, of the zeros of the padding too, else of the
/// pixels of the image alone. What ceil mode adds behind the padding never counts. [`avg_pool_gradient`] is its gradient,
/// which candle does not know of.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result `[N, C, H', W']` with [`PoolSpec::output_size`], on the CPU channels-last in memory.
///
/// # Accuracy
/// Float32 sums of the window's values, rows first, divided by their number: within 1e-6 of the largest |x| for windows of
/// up to 5×5.
///
/// # Errors
/// [`UnsupportedDType`](crate::KernelError::UnsupportedDType), [`EmptyPool`](crate::KernelError::EmptyPool), or candle's own
/// for another rank.
pub fn avg_pool(xs: &Tensor, spec: &PoolSpec, count_include_pad: bool) -> Result<Tensor> {
    check_dtype("avg_pool", xs.dtype())?;
    let (_, _, height, width) = xs.dims4()?;
    let windows = Windows::new(spec, [height, width], count_include_pad)?;
    if !xs.device().is_cpu() {
        return windows.forward_by_tensors(xs);
    }
    Ok(xs.permute((0, 2, 3, 1))?.apply_op1_no_bwd(&Forward(windows))?.permute((0, 3, 1, 2))?)
}

/// The gradient of the input of [`avg_pool`] from that of its result, for images of height and width `size`.
///
/// # Shapes
/// `gradient`: as the result of [`avg_pool`]; the result: `[N, C, *size]`, on the CPU channels-last in memory.
///
/// # Errors
/// As [`avg_pool`]; candle's for a gradient of another shape.
pub fn avg_pool_gradient(
    gradient: &Tensor,
    size: [usize; 2],
    spec: &PoolSpec,
    count_include_pad: bool,
) -> Result<Tensor> {
    check_dtype("avg_pool", gradient.dtype())?;
    let windows = Windows::new(spec, size, count_include_pad)?;
    let (n, channels, height, width) = gradient.dims4()?;
    if [height, width] != windows.output {
        let (lhs, rhs) =
            (Shape::from((n, channels, windows.output[0], windows.output[1])), gradient.shape().clone());
        return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "avg_pool" }.into());
    }
    if !gradient.device().is_cpu() {
        return windows.gradient_by_tensors(gradient);
    }
    Ok(gradient.permute((0, 2, 3, 1))?.apply_op1_no_bwd(&Backward(windows))?.permute((0, 3, 1, 2))?)
}

/// Where the windows over an image of some size are.
#[derive(Debug, Clone, Copy)]
struct Windows {
    spec: PoolSpec,
    input: [usize; 2],
    output: [usize; 2],
    count_include_pad: bool,
}

impl Windows {
    fn new(spec: &PoolSpec, input: [usize; 2], count_include_pad: bool) -> Result<Self> {
        let (height, width) = spec.checked_output_size(input[0], input[1])?;
        Ok(Self { spec: *spec, input, output: [height, width], count_include_pad })
    }

    /// Rows (axis 0) or columns of the image that the windows at place `out` have.
    fn pixels(&self, axis: usize, out: usize) -> Range<usize> {
        let [before, _] = self.spec.padding().by_axis()[axis];
        let first = out * self.spec.stride()[axis];
        let end = (first + self.spec.kernel()[axis]).saturating_sub(before).min(self.input[axis]);
        first.saturating_sub(before).min(end)..end
    }

    /// How many rows or columns the windows at place `out` count.
    fn count(&self, axis: usize, out: usize) -> usize {
        if !self.count_include_pad {
            return self.pixels(axis, out).len();
        }
        let first = out * self.spec.stride()[axis];
        let all: usize = self.input[axis] + self.spec.padding().by_axis()[axis].iter().sum::<usize>();
        (first + self.spec.kernel()[axis]).min(all) - first
    }

    /// What the sum of each window is divided by, `[H', W']`.
    fn counts(&self) -> Vec<f32> {
        let counts = |axis: usize| (0..self.output[axis]).map(move |out| self.count(axis, out));
        counts(0).flat_map(|rows| counts(1).map(move |columns| (rows * columns) as f32)).collect()
    }

    /// As [`avg_pool`] with candle's ops, on any device.
    fn forward_by_tensors(&self, xs: &Tensor) -> Result<Tensor> {
        let ([rows, columns], [step_y, step_x]) = (self.spec.kernel(), self.spec.stride());
        let Padding { top, left, .. } = self.spec.padding();
        // As far as the last windows reach: less than the image and its padding, or more.
        let reach = |axis: usize, step: usize, kernel: usize| (self.output[axis] - 1) * step + kernel;
        let (height, width) = (reach(0, step_y, rows), reach(1, step_x, columns));
        let padded = xs.contiguous()?.pad_with_zeros(2, top, height.saturating_sub(top + self.input[0]))?;
        let padded = padded.pad_with_zeros(3, left, width.saturating_sub(left + self.input[1]))?;
        let padded = padded.narrow(2, 0, height)?.narrow(3, 0, width)?.contiguous()?;
        let means = padded.avg_pool2d_with_stride((rows, columns), (step_y, step_x))?;
        Ok(means.broadcast_mul(&(self.weights(xs)? * self.spec.values() as f64)?)?)
    }

    /// As [`avg_pool_gradient`] with the gradient of a convolution whose weights are all 1, on any device.
    fn gradient_by_tensors(&self, gradient: &Tensor) -> Result<Tensor> {
        let ([rows, columns], [step_y, step_x]) = (self.spec.kernel(), self.spec.stride());
        let Padding { top, left, .. } = self.spec.padding();
        let (n, channels, height, width) = gradient.dims4()?;
        // So much behind the image that there are as many windows as ceil mode has.
        let behind = |axis: usize, step: usize, kernel: usize, before: usize| {
            ((self.output[axis] - 1) * step + kernel).saturating_sub(before + self.input[axis])
        };
        let padding = Padding {
            top,
            left,
            bottom: behind(0, step_y, rows, top),
            right: behind(1, step_x, columns, left),
        };
        let geometry =
            ConvGeometry::new(1, 1, [rows, columns]).with_stride([step_y, step_x]).with_padding(padding);
        let planes =
            gradient.broadcast_mul(&self.weights(gradient)?)?.reshape((n * channels, 1, height, width))?;
        let ones = Tensor::ones((1, 1, rows, columns), gradient.dtype(), gradient.device())?;
        let planes = conv2d_input_gradient(&planes, &ones, self.input, geometry)?;
        Ok(planes.contiguous()?.reshape((n, channels, self.input[0], self.input[1]))?)
    }

    /// `1 / count` of each window, `[1, 1, H', W']`.
    fn weights(&self, on: &Tensor) -> Result<Tensor> {
        let shape = (1, 1, self.output[0], self.output[1]);
        let weights = self.counts().into_iter().map(f32::recip).collect();
        Ok(Tensor::from_vec(weights, shape, on.device())?)
    }
}

/// `[N, H, W, C]` to `[N, H', W', C]`.
struct Forward(Windows);

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "avg_pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Forward(windows) = self;
        let (images, height, width, channels) = layout.shape().dims4()?;
        let [out_height, out_width] = windows.output;
        let values = &*dense(as_f32(storage)?, layout);
        let (row, out_row) = (width * channels, out_width * channels);
        let (result, _) = build(images * out_height * out_row, out_row, |start, result| {
            let (image, out_y) = (start / out_row / out_height, start / out_row % out_height);
            let rows = windows.pixels(0, out_y);
            let rows = &values[(image * height + rows.start) * row..(image * height + rows.end) * row];
            let mut sums = vec![0.0; row];
            let rows_counted = windows.count(0, out_y);
            SimdLevel::current().run(Row { windows, rows, sums: &mut sums, rows_counted, channels, result });
        });
        Ok((CpuStorage::F32(result), Shape::from((images, out_height, out_width, channels))))
    }
}

/// A row of the output: first the sums of whole rows, then of neighbours.
struct Row<'a> {
    windows: &'a Windows,
    rows: &'a [f32],
    sums: &'a mut [f32],
    rows_counted: usize,
    channels: usize,
    result: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Plain loops: inlined here, they are compiled for these vector instructions.
        let Row { windows, rows, sums, rows_counted, channels, result } = self;
        for row in rows.chunks_exact(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
        for (out_x, result) in result.chunks_exact_mut(channels).enumerate() {
            let columns = windows.pixels(1, out_x);
            for column in sums[columns.start * channels..columns.end * channels].chunks_exact(channels) {
                for (y, x) in result.iter_mut().zip(column) {
                    *y += x;
                }
            }
            let count = (rows_counted * windows.count(1, out_x)) as f32;
            for y in result {
                *y /= count;
            }
        }
    }
}

/// `[N, H', W', C]` to `[N, H, W, C]`.
struct Backward(Windows);

impl CustomOp1 for Backward {
    fn name(&self) -> &'static str {
        "avg_pool_gradient"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Backward(windows) = self;
        let (images, out_height, out_width, channels) = layout.shape().dims4()?;
        let [height, width] = windows.input;
        let gradients = &*dense(as_f32(storage)?, layout);
        let mut result = vec![0.0; images * height * width * channels];
        if !result.is_empty() {
            let (input, output) = (height * width * channels, out_height * out_width * channels);
            result.par_chunks_mut(input).zip(gradients.par_chunks(output)).for_each(|(result, gradients)| {
                SimdLevel::current().run(Image { windows, gradients, channels, result });
            });
        }
        Ok((CpuStorage::F32(result), Shape::from((images, height, width, channels))))
    }
}

/// The gradients of an image.
struct Image<'a> {
    windows: &'a Windows,
    gradients: &'a [f32],
    channels: usize,
    result: &'a mut [f32],
}

impl WithSimd for Image<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Image { windows, gradients, channels, result } = self;
        let ([_, width], [_, out_width]) = (windows.input, windows.output);
        let counts = windows.counts();
        let mut share = vec![0.0; channels];
        for (i, (gradients, count)) in gradients.chunks_exact(channels).zip(&counts).enumerate() {
            for (share, gradient) in share.iter_mut().zip(gradients) {
                *share = gradient / count;
            }
            let columns = windows.pixels(1, i % out_width);
            for y in windows.pixels(0, i / out_width) {
                let pixels =
                    &mut result[(y * width + columns.start) * channels..(y * width + columns.end) * channels];
                for pixel in pixels.chunks_exact_mut(channels) {
                    for (to, share) in pixel.iter_mut().zip(&share) {
                        *to += share;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn candles_ops_give_what_ours_give() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let close = |a: &Tensor, b: &Tensor, what: &str| -> candle_core::Result<()> {
            assert_eq!(a.dims(), b.dims(), "{what}");
            let difference = (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(difference < 1e-5, "{what}: {difference}");
            Ok(())
        };
        let uneven = Padding { top: 0, bottom: 1, left: 1, right: 0 };
        for spec in [
            PoolSpec::new(3, 1, 1)?,
            PoolSpec::new(2, 2, 0)?.with_ceil_mode(true),
            PoolSpec::new(5, 3, 2)?.with_ceil_mode(true),
            PoolSpec::rectangular([2, 3], [3, 1], uneven)?,
            PoolSpec::rectangular([3, 2], [2, 3], uneven)?.with_ceil_mode(true),
        ] {
            for (count_include_pad, size) in
                [(true, [7, 6]), (false, [7, 6]), (true, [9, 11]), (false, [9, 11])]
            {
                let what = format!("{spec:?}, {size:?}, {count_include_pad}");
                let xs = Tensor::randn(0f32, 1.0, (2, 3, size[0], size[1]), &Device::Cpu)?;
                let windows = Windows::new(&spec, size, count_include_pad)?;
                let ys = avg_pool(&xs, &spec, count_include_pad)?;
                close(&windows.forward_by_tensors(&xs)?, &ys, &what)?;
                let gradient = Tensor::randn(0f32, 1.0, ys.dims(), &Device::Cpu)?;
                let expected = avg_pool_gradient(&gradient, size, &spec, count_include_pad)?;
                close(&windows.gradient_by_tensors(&gradient)?, &expected, &format!("gradient, {what}"))?;
            }
        }
        Ok(())
    }
}
