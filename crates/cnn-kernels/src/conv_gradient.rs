//! Convolution for training: forward, and the gradients of its input and its weights.
//!
//! On the CPU, candle's own are many times slower for the small images of CIFAR-10 (docs/performance.md). Elsewhere these
//! are cuDNN's with the feature `cudnn`, and made of candle's ops without it.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::composed;
use crate::conv::{PackedConv2d, output_size};
use crate::cpu::conv::{Convolution, Form, Geometry};
use crate::cpu::{as_f32, build};
use crate::error::{Result, check_dtype};

/// Output pixels up to which Winograd's form does not pay.
const FEW_PIXELS: usize = 4;

/// The place of a convolution's kernel in an image. Heights come before widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvWindow {
    /// Distance of two windows.
    pub stride: usize,
    /// Zero rows added above and below, zero columns added left and right.
    pub padding: (usize, usize),
}

impl ConvWindow {
    fn geometry(self, inputs: usize, outputs: usize, kernel: (usize, usize)) -> Geometry {
        assert!(self.stride > 0, "the stride is at least 1");
        Geometry { inputs, outputs, kernel, stride: self.stride, padding: self.padding }
    }
}

/// A convolution without bias that candle can differentiate in both arguments.
///
/// # Shapes
/// `xs`: `[N, inputs, H, W]`; `weight`: `[outputs, inputs, kernel height, kernel width]`; the result:
/// `[N, outputs, H', W']`, channels-last in memory.
///
/// # Accuracy
/// As [`PackedConv2d`]; of the gradients, within 1e-5 of the largest value too. No sum depends on the number of threads.
///
/// # Errors
/// [`KernelError::UnsupportedDType`](crate::KernelError::UnsupportedDType), [`KernelError::ConvInput`](crate::KernelError::ConvInput), or candle's own for another rank.
///
/// # Panics
/// If the stride is 0.
pub fn conv2d(xs: &Tensor, weight: &Tensor, window: ConvWindow) -> Result<Tensor> {
    check_dtype("conv2d", xs.dtype())?;
    let (_, _, height, width) = xs.dims4()?;
    let (outputs, inputs, ..) = weight.dims4()?;
    let geometry = window.geometry(inputs, outputs, kernel(weight)?);
    let output = output_size(&geometry, xs)?;
    if !xs.device().is_cpu() {
        return conv2d_by_library(xs, weight, window);
    }
    let op = Forward { window, input: (height, width), output };
    Ok(xs.apply_op2(weight, op)?.permute((0, 3, 1, 2))?)
}

/// A convolution without bias by cuDNN, on CUDA with the feature `cudnn`, or else by candle's ops: what [`conv2d`] is on
/// other devices than the CPU. cuDNN and cuBLAS compute in float32 here and not in TF32.
///
/// # Shapes
/// As [`conv2d`]; the result is contiguous.
///
/// # Errors
/// As [`conv2d`].
///
/// # Panics
/// If the stride is 0.
pub fn conv2d_by_library(xs: &Tensor, weight: &Tensor, window: ConvWindow) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if xs.device().is_cuda() && !composed::is_pointwise(weight, window) {
        let (outputs, inputs, ..) = weight.dims4()?;
        let size = output_size(&window.geometry(inputs, outputs, kernel(weight)?), xs)?;
        return Ok(crate::cuda::conv::conv2d(xs, weight, size, window)?);
    }
    Ok(composed::conv2d(xs, weight, window)?.contiguous()?)
}

/// The gradient of a convolution's input from that of its result.
///
/// # Shapes
/// `gradient`: `[N, outputs, H', W']`; `weight`: `[outputs, inputs, kernel height, kernel width]`; the result:
/// `[N, inputs, *size]`, channels-last in memory.
///
/// # Errors
/// [`KernelError::UnsupportedDType`](crate::KernelError::UnsupportedDType), or candle's own for another rank.
///
/// # Panics
/// If the stride is 0, or the padding is as large as the kernel.
pub fn conv2d_input_gradient(
    gradient: &Tensor,
    weight: &Tensor,
    size: (usize, usize),
    window: ConvWindow,
) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if gradient.device().is_cuda() {
        return Ok(crate::cuda::conv::conv2d_input_gradient(gradient, weight, size, window)?);
    }
    if !gradient.device().is_cpu() {
        return Ok(composed::conv2d_input_gradient(gradient, weight, size, window)?);
    }
    let kernel = kernel(weight)?;
    let padding = (kernel.0 - 1 - window.padding.0, kernel.1 - 1 - window.padding.1);
    let dilated = match window.stride {
        1 => gradient.clone(),
        stride => {
            // Zeros between the pixels, and as many behind the last one as it takes to get the input's size.
            let rows = size.0 + kernel.0 - 1 - 2 * padding.0;
            let columns = size.1 + kernel.1 - 1 - 2 * padding.1;
            let dense = gradient.permute((0, 2, 3, 1))?.contiguous()?;
            dense.apply_op1_no_bwd(&Dilate { stride, rows, columns })?.permute((0, 3, 1, 2))?
        }
    };
    // Between zeros sums are small, but Winograd's rounding is as large as without: 1.2e-5 of the largest sum.
    let direct = window.stride > 1 || size.0 * size.1 <= FEW_PIXELS;
    let pack = if direct { PackedConv2d::direct } else { PackedConv2d::new };
    let (_, inputs, ..) = weight.dims4()?;
    let no_bias = Tensor::zeros(inputs, weight.dtype(), weight.device())?;
    let turned = weight.contiguous()?.apply_op1_no_bwd(&Turn)?;
    pack(&turned, &no_bias, 1, padding)?.forward(&dilated, None)
}

/// The gradient of a convolution's weights from that of its result.
///
/// # Shapes
/// `xs`: `[N, inputs, H, W]`; `gradient`: `[N, outputs, H', W']`; the result: `[outputs, inputs, *kernel]`.
///
/// # Errors
/// [`KernelError::UnsupportedDType`](crate::KernelError::UnsupportedDType), [`KernelError::ConvInput`](crate::KernelError::ConvInput), or candle's own for another rank.
///
/// # Panics
/// If the stride is 0.
pub fn conv2d_weight_gradient(
    xs: &Tensor,
    gradient: &Tensor,
    kernel: (usize, usize),
    window: ConvWindow,
) -> Result<Tensor> {
    check_dtype("conv2d", xs.dtype())?;
    check_dtype("conv2d", gradient.dtype())?;
    let (n, inputs, height, width) = xs.dims4()?;
    let (_, outputs, ..) = gradient.dims4()?;
    let geometry = window.geometry(inputs, outputs, kernel);
    let output = output_size(&geometry, xs)?;
    let expected = Shape::from((n, outputs, output.0, output.1));
    if *gradient.shape() != expected {
        let (lhs, rhs) = (expected, gradient.shape().clone());
        return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "conv2d" }.into());
    }
    #[cfg(feature = "cudnn")]
    if xs.device().is_cuda() {
        return Ok(crate::cuda::conv::conv2d_weight_gradient(xs, gradient, kernel, window)?);
    }
    if !xs.device().is_cpu() {
        return Ok(composed::conv2d_weight_gradient(xs, gradient, kernel, window)?);
    }
    let op = WeightGradient { geometry, shape: [n, inputs, height, width], output };
    Ok(xs.apply_op2_no_bwd(&gradient.permute((0, 2, 3, 1))?.contiguous()?, &op)?)
}

fn kernel(weight: &Tensor) -> Result<(usize, usize)> {
    let (_, _, height, width) = weight.dims4()?;
    Ok((height, width))
}

fn form(geometry: &Geometry, output: (usize, usize)) -> Form {
    if output.0 * output.1 <= FEW_PIXELS { Form::Direct } else { geometry.best_form() }
}

/// `(x, w)` to `[N, H', W', outputs]`.
struct Forward {
    window: ConvWindow,
    input: (usize, usize),
    output: (usize, usize),
}

impl CustomOp2 for Forward {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (n, inputs, height, width) = layout.shape().dims4()?;
        let (outputs, _, kernel_height, kernel_width) = weight_layout.shape().dims4()?;
        let geometry = self.window.geometry(inputs, outputs, (kernel_height, kernel_width));
        let form = form(&geometry, self.output);
        let weights = geometry.pack(form, &crate::cpu::dense(as_f32(weight)?, weight_layout));
        let convolution = Convolution {
            geometry,
            form,
            weights: &weights,
            bias: &vec![0.0; outputs],
            residual: None,
            epilogue: None,
            shape: [n, inputs, height, width],
            output: self.output,
        };
        let (result, _) = convolution.run(as_f32(xs)?, layout);
        Ok((CpuStorage::F32(result), Shape::from((n, self.output.0, self.output.1, outputs))))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.permute((0, 3, 1, 2))?;
        let kernel = kernel(weight).map_err(candle_core::Error::wrap)?;
        let of_xs = conv2d_input_gradient(&gradient, weight, self.input, self.window);
        let of_weight = conv2d_weight_gradient(xs, &gradient, kernel, self.window);
        Ok((
            Some(of_xs.map_err(candle_core::Error::wrap)?),
            Some(of_weight.map_err(candle_core::Error::wrap)?),
        ))
    }
}

/// `(x, gradient as [N, H', W', outputs])` to the gradient of the weights.
struct WeightGradient {
    geometry: Geometry,
    /// `[N, C, H, W]`.
    shape: [usize; 4],
    output: (usize, usize),
}

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "conv2d_weight_gradient"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let Self { geometry, shape, output } = *self;
        let convolution = Convolution {
            geometry,
            form: form(&geometry, output),
            weights: &[],
            bias: &[],
            residual: None,
            epilogue: None,
            shape,
            output,
        };
        let gradient = crate::cpu::dense(as_f32(gradient)?, gradient_layout);
        let result = convolution.weight_gradient(as_f32(xs)?, layout, &gradient);
        let Geometry { outputs, inputs, kernel, .. } = geometry;
        Ok((CpuStorage::F32(result), Shape::from((outputs, inputs, kernel.0, kernel.1))))
    }
}

/// `[N, H, W, C]` to `[N, rows, columns, C]`, each pixel `stride` from the next, zeros elsewhere.
struct Dilate {
    stride: usize,
    rows: usize,
    columns: usize,
}

impl CustomOp1 for Dilate {
    fn name(&self) -> &'static str {
        "dilate"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (n, height, width, channels) = layout.shape().dims4()?;
        let Self { stride, rows, columns } = *self;
        let values = &*crate::cpu::dense(as_f32(storage)?, layout);
        let row = columns * channels;
        let (result, _) = build(n * rows * row, row, |start, result| {
            let (image, y) = (start / row / rows, start / row % rows);
            if y.is_multiple_of(stride) && y / stride < height {
                let pixels = &values[(image * height + y / stride) * width * channels..][..width * channels];
                for (x, pixel) in pixels.chunks_exact(channels).enumerate() {
                    result[x * stride * channels..][..channels].copy_from_slice(pixel);
                }
            }
        });
        Ok((CpuStorage::F32(result), Shape::from((n, rows, columns, channels))))
    }
}

/// `[outputs, inputs, H, W]` to `[inputs, outputs, H, W]`, each kernel turned by half a turn.
struct Turn;

impl CustomOp1 for Turn {
    fn name(&self) -> &'static str {
        "turn"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (outputs, inputs, height, width) = layout.shape().dims4()?;
        let kernel = height * width;
        let values = &*crate::cpu::dense(as_f32(storage)?, layout);
        let mut result = vec![0.0; values.len()];
        result.par_chunks_mut((outputs * kernel).max(1)).enumerate().for_each(|(input, result)| {
            for (output, result) in result.chunks_exact_mut(kernel).enumerate() {
                result.copy_from_slice(&values[(output * inputs + input) * kernel..][..kernel]);
                result.reverse();
            }
        });
        Ok((CpuStorage::F32(result), Shape::from((inputs, outputs, height, width))))
    }
}
