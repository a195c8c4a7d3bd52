//! Convolution for training: forward, and the gradients of its input and its weights.
//!
//! On the CPU, candle's own are many times slower for the small images of CIFAR-10 (docs/performance.md). Elsewhere these
//! are cuDNN's with the feature `cudnn`, and made of candle's ops without it.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::composed;
use crate::conv::PackedConv2d;
use crate::cpu::conv::{self, Convolution, Form};
use crate::cpu::{as_f32, build};
use crate::error::{KernelError, Result, check_dtype};
use crate::geometry::ConvGeometry;
use crate::window::Padding;

/// Output pixels up to which Winograd's form does not pay.
const FEW_PIXELS: usize = 4;

/// A convolution without bias that candle can differentiate in both arguments.
///
/// # Shapes
/// `xs`: `[N, inputs, H, W]`; `weight`: [`ConvGeometry::weight_shape`]; the result: `[N, outputs, H', W']`, channels-last in
/// memory.
///
/// # Accuracy
/// As [`PackedConv2d`]; of the gradients, within 1e-5 of the largest value too. No sum depends on the number of threads.
///
/// # Errors
/// [`UnsupportedDType`](crate::KernelError::UnsupportedDType), [`InvalidConv`](crate::KernelError::InvalidConv),
/// [`ConvWeight`](crate::KernelError::ConvWeight), [`ConvInput`](crate::KernelError::ConvInput), or candle's own.
pub fn conv2d(xs: &Tensor, weight: &Tensor, geometry: ConvGeometry) -> Result<Tensor> {
    check_dtype("conv2d", xs.dtype())?;
    check_dtype("conv2d", weight.dtype())?;
    geometry.check_weight(weight)?;
    let output = geometry.output_of(xs)?;
    if !xs.device().is_cpu() {
        return conv2d_by_library(xs, weight, geometry);
    }
    let (_, _, height, width) = xs.dims4()?;
    let op = Forward { geometry, input: [height, width], output };
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
pub fn conv2d_by_library(xs: &Tensor, weight: &Tensor, geometry: ConvGeometry) -> Result<Tensor> {
    geometry.check_weight(weight)?;
    geometry.output_of(xs)?;
    #[cfg(feature = "cudnn")]
    if xs.device().is_cuda() && !geometry.is_pointwise() {
        return Ok(crate::cuda::conv::conv2d(xs, weight, geometry)?);
    }
    Ok(composed::conv2d(xs, weight, geometry)?.contiguous()?)
}

/// The gradient of a convolution's input from that of its result.
///
/// # Shapes
/// `gradient`: `[N, outputs, H', W']`; `weight`: [`ConvGeometry::weight_shape`]; the result: `[N, inputs, *size]`,
/// channels-last in memory.
///
/// # Errors
/// As [`conv2d`], and candle's for a gradient of another shape.
pub fn conv2d_input_gradient(
    gradient: &Tensor,
    weight: &Tensor,
    size: [usize; 2],
    geometry: ConvGeometry,
) -> Result<Tensor> {
    check_dtype("conv2d", gradient.dtype())?;
    geometry.check_weight(weight)?;
    let (n, ..) = gradient.dims4()?;
    let [height, width] = size;
    let output = geometry.output_size(height, width).ok_or_else(|| KernelError::ConvInput {
        shape: vec![n, geometry.inputs, height, width],
        geometry: Box::new(geometry),
    })?;
    check_gradient(gradient, [n, geometry.outputs, output[0], output[1]])?;
    // Padding beyond what a window covers: the gradient of a larger image, of which the middle is wanted.
    let (own, padding) = (geometry.padding.by_axis(), geometry.span().map(|span| span - 1));
    let excess = [0, 1].map(|axis| own[axis].map(|rows| rows.saturating_sub(padding[axis])));
    if excess != [[0; 2]; 2] {
        let inner = [0, 1].map(|axis| [0, 1].map(|side| own[axis][side] - excess[axis][side]));
        let size = [0, 1].map(|axis| size[axis] + excess[axis].iter().sum::<usize>());
        let whole =
            conv2d_input_gradient(gradient, weight, size, geometry.with_padding(Padding::from_axes(inner)))?;
        return Ok(whole.narrow(2, excess[0][0], height)?.narrow(3, excess[1][0], width)?);
    }
    #[cfg(feature = "cudnn")]
    if gradient.device().is_cuda() {
        return Ok(crate::cuda::conv::conv2d_input_gradient(gradient, weight, size, geometry)?);
    }
    if !gradient.device().is_cpu() {
        return Ok(composed::conv2d_input_gradient(gradient, weight, size, geometry)?);
    }
    let turned = geometry.turned();
    let dilated = match geometry.stride {
        [1, 1] => gradient.clone(),
        stride => {
            // Zeros between the pixels, and as many behind the last one as it takes to get the input's size.
            let [rows, columns] = geometry.spread_size(size);
            let dense = gradient.permute((0, 2, 3, 1))?.contiguous()?;
            dense.apply_op1_no_bwd(&Dilate { stride, rows, columns })?.permute((0, 3, 1, 2))?
        }
    };
    // Between zeros sums are small, but Winograd's rounding is as large as without: 1.2e-5 of the largest sum.
    let direct = geometry.stride != [1, 1] || height * width <= FEW_PIXELS;
    let pack = if direct { PackedConv2d::direct } else { PackedConv2d::new };
    let no_bias = Tensor::zeros(geometry.inputs, weight.dtype(), weight.device())?;
    let weight = weight.contiguous()?.apply_op1_no_bwd(&Turn { groups: geometry.groups })?;
    pack(&weight, &no_bias, turned)?.forward(&dilated, None)
}

/// The gradient of a convolution's weights from that of its result.
///
/// # Shapes
/// `xs`: `[N, inputs, H, W]`; `gradient`: `[N, outputs, H', W']`; the result: [`ConvGeometry::weight_shape`].
///
/// # Errors
/// As [`conv2d`], and candle's for a gradient of another shape.
pub fn conv2d_weight_gradient(xs: &Tensor, gradient: &Tensor, geometry: ConvGeometry) -> Result<Tensor> {
    check_dtype("conv2d", xs.dtype())?;
    check_dtype("conv2d", gradient.dtype())?;
    geometry.check()?;
    let (n, inputs, height, width) = xs.dims4()?;
    let output = geometry.output_of(xs)?;
    check_gradient(gradient, [n, geometry.outputs, output[0], output[1]])?;
    #[cfg(feature = "cudnn")]
    if xs.device().is_cuda() {
        return Ok(crate::cuda::conv::conv2d_weight_gradient(xs, gradient, geometry)?);
    }
    if !xs.device().is_cpu() {
        return Ok(composed::conv2d_weight_gradient(xs, gradient, geometry)?);
    }
    let op = WeightGradient { geometry, shape: [n, inputs, height, width], output };
    Ok(xs.apply_op2_no_bwd(&gradient.permute((0, 2, 3, 1))?.contiguous()?, &op)?)
}

fn check_gradient(gradient: &Tensor, expected: [usize; 4]) -> Result<()> {
    let expected = Shape::from(&expected);
    if *gradient.shape() != expected {
        let (lhs, rhs) = (expected, gradient.shape().clone());
        return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "conv2d" }.into());
    }
    Ok(())
}

impl ConvGeometry {
    /// The convolution with which a result's gradient, spread out by the stride, becomes the input's. The padding is less
    /// than what a window covers.
    pub(crate) fn turned(&self) -> Self {
        let (own, span) = (self.padding.by_axis(), self.span());
        let padding = [0, 1].map(|axis| own[axis].map(|rows| span[axis] - 1 - rows));
        Self {
            inputs: self.outputs,
            outputs: self.inputs,
            stride: [1, 1],
            padding: Padding::from_axes(padding),
            ..*self
        }
    }

    /// Height and width of a result's gradient that is spread out by the stride, for an input of `size`.
    pub(crate) fn spread_size(&self, size: [usize; 2]) -> [usize; 2] {
        let (padding, span) = (self.padding.by_axis(), self.span());
        [0, 1].map(|axis| size[axis] + padding[axis].iter().sum::<usize>() - (span[axis] - 1))
    }
}

fn form(geometry: &ConvGeometry, output: [usize; 2]) -> Form {
    if output[0] * output[1] <= FEW_PIXELS { conv::plain_form(geometry) } else { conv::best_form(geometry) }
}

/// `(x, w)` to `[N, H', W', outputs]`.
struct Forward {
    geometry: ConvGeometry,
    input: [usize; 2],
    output: [usize; 2],
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
        let Self { geometry, output, .. } = *self;
        let form = form(&geometry, output);
        let weights = conv::pack(&geometry, form, &crate::cpu::dense(as_f32(weight)?, weight_layout));
        let convolution = Convolution {
            geometry,
            form,
            weights: &weights,
            bias: &vec![0.0; geometry.outputs],
            residual: None,
            epilogue: None,
            shape: [n, inputs, height, width],
            output,
        };
        let (result, _) = convolution.run(as_f32(xs)?, layout);
        Ok((CpuStorage::F32(result), Shape::from((n, output[0], output[1], geometry.outputs))))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.permute((0, 3, 1, 2))?;
        let of_xs = conv2d_input_gradient(&gradient, weight, self.input, self.geometry);
        let of_weight = conv2d_weight_gradient(xs, &gradient, self.geometry);
        Ok((
            Some(of_xs.map_err(candle_core::Error::wrap)?),
            Some(of_weight.map_err(candle_core::Error::wrap)?),
        ))
    }
}

/// `(x, gradient as [N, H', W', outputs])` to the gradient of the weights.
struct WeightGradient {
    geometry: ConvGeometry,
    /// `[N, C, H, W]`.
    shape: [usize; 4],
    output: [usize; 2],
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
        Ok((CpuStorage::F32(result), Shape::from(&geometry.weight_shape())))
    }
}

/// `[N, H, W, C]` to `[N, rows, columns, C]`, each pixel `stride` from the next, zeros elsewhere.
struct Dilate {
    stride: [usize; 2],
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
            if y.is_multiple_of(stride[0]) && y / stride[0] < height {
                let pixels =
                    &values[(image * height + y / stride[0]) * width * channels..][..width * channels];
                for (x, pixel) in pixels.chunks_exact(channels).enumerate() {
                    result[x * stride[1] * channels..][..channels].copy_from_slice(pixel);
                }
            }
        });
        Ok((CpuStorage::F32(result), Shape::from((n, rows, columns, channels))))
    }
}

/// `[outputs, inputs of a group, H, W]` to `[inputs, outputs of a group, H, W]`, each kernel turned by half a turn.
struct Turn {
    groups: usize,
}

impl CustomOp1 for Turn {
    fn name(&self) -> &'static str {
        "turn"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (outputs, inputs, height, width) = layout.shape().dims4()?;
        let (kernel, outputs) = (height * width, outputs / self.groups);
        let values = &*crate::cpu::dense(as_f32(storage)?, layout);
        let mut result = vec![0.0; values.len()];
        result.par_chunks_mut((outputs * kernel).max(1)).enumerate().for_each(|(i, result)| {
            let (group, input) = (i / inputs, i % inputs);
            for (output, result) in result.chunks_exact_mut(kernel).enumerate() {
                let place = ((group * outputs + output) * inputs + input) * kernel;
                result.copy_from_slice(&values[place..][..kernel]);
                result.reverse();
            }
        });
        Ok((CpuStorage::F32(result), Shape::from((self.groups * inputs, outputs, height, width))))
    }
}
