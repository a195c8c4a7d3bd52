//! Convolution with bias and an optional addend, for inference on the CPU.
//!
//! candle's own is several times slower for the small images of CIFAR-10 (docs/performance.md).

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};

use crate::cpu::as_f32;
use crate::cpu::conv::{Convolution, Form, Geometry};
use crate::epilogue::Epilogue;
use crate::error::{KernelError, Result, check_dtype};

/// A convolution with its weights packed for the CPU.
///
/// # Accuracy
/// 3×3 kernels with stride 1 and at least 16 channels on both sides: Winograd's F(4×4, 3×3), within 1e-5 of the
/// largest value of the result (achieved: docs/numerics.md). All others: float32 sums of
/// `inputs · kernel height · kernel width` products in order, with fused multiply-adds where the processor has them.
#[derive(Debug, Clone)]
pub struct PackedConv2d(Arc<Packed>);

#[derive(Debug)]
struct Packed {
    geometry: Geometry,
    form: Form,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedConv2d {
    /// Packs `weight` and `bias`. `padding` is that of height and of width, at each side.
    ///
    /// # Shapes
    /// `weight`: `[outputs, inputs, kernel height, kernel width]`, `bias`: `[outputs]`.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedDType`], or candle's own for other shapes.
    ///
    /// # Panics
    /// If `stride` is 0.
    pub fn new(weight: &Tensor, bias: &Tensor, stride: usize, padding: (usize, usize)) -> Result<Self> {
        Self::pack(weight, bias, stride, padding, Geometry::best_form)
    }

    /// The same without Winograd's form: faster where the output is of few pixels, such as 2×2, most of which
    /// would be the padding of a tile.
    ///
    /// # Shapes
    /// As [`PackedConv2d::new`].
    ///
    /// # Errors
    /// As [`PackedConv2d::new`].
    ///
    /// # Panics
    /// If `stride` is 0.
    pub fn direct(weight: &Tensor, bias: &Tensor, stride: usize, padding: (usize, usize)) -> Result<Self> {
        Self::pack(weight, bias, stride, padding, |_| Form::Direct)
    }

    fn pack(
        weight: &Tensor,
        bias: &Tensor,
        stride: usize,
        padding: (usize, usize),
        form: impl Fn(&Geometry) -> Form,
    ) -> Result<Self> {
        assert!(stride > 0, "the stride is at least 1");
        check_dtype("conv2d", weight.dtype())?;
        let (outputs, inputs, height, width) = weight.dims4()?;
        let bias = bias.reshape(outputs)?.to_vec1()?;
        let geometry = Geometry { inputs, outputs, kernel: (height, width), stride, padding };
        let form = form(&geometry);
        let weights = geometry.pack(form, &weight.flatten_all()?.to_vec1::<f32>()?);
        Ok(Self(Arc::new(Packed { geometry, form, weights, bias })))
    }

    /// The convolution of `xs` plus bias, plus `residual` if given.
    ///
    /// The result is channels-last in memory: `[N, C, H, W]` by its shape, with the strides of `[N, H, W, C]`.
    /// The ops of this crate take it as it is.
    ///
    /// # Shapes
    /// `xs`: `[N, inputs, H, W]`; `residual` and the result: `[N, outputs, H', W']`.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedDType`], or candle's own for other shapes.
    pub fn forward(&self, xs: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        self.run(xs, residual, None)
    }

    /// As [`PackedConv2d::forward`], followed by `epilogue`, applied while the sums are in the cache, which takes note of
    /// the range of its inputs.
    ///
    /// # Shapes
    /// As [`PackedConv2d::forward`].
    ///
    /// # Errors
    /// As [`PackedConv2d::forward`].
    pub fn forward_with(
        &self,
        xs: &Tensor,
        residual: Option<&Tensor>,
        epilogue: &dyn Epilogue,
    ) -> Result<Tensor> {
        self.run(xs, residual, Some(epilogue))
    }

    fn run(&self, xs: &Tensor, residual: Option<&Tensor>, epilogue: Option<&dyn Epilogue>) -> Result<Tensor> {
        check_dtype("conv2d", xs.dtype())?;
        let (n, c, height, width) = xs.dims4()?;
        let geometry = &self.0.geometry;
        let output = output_size(geometry, xs)?;
        let op = Op { packed: self.0.clone(), shape: [n, c, height, width], output, epilogue };
        let ys = match residual {
            None => xs.apply_op1_no_bwd(&op)?,
            Some(residual) => {
                check_dtype("conv2d", residual.dtype())?;
                let expected = Shape::from((n, geometry.outputs, output.0, output.1));
                if *residual.shape() != expected {
                    let (lhs, rhs) = (expected, residual.shape().clone());
                    return Err(
                        candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "packed_conv2d" }.into()
                    );
                }
                xs.apply_op2_no_bwd(&residual.permute((0, 2, 3, 1))?.contiguous()?, &op)?
            }
        };
        Ok(ys.permute((0, 3, 1, 2))?)
    }
}

/// Height and width of the result for `xs`, `[N, C, H, W]`.
pub(crate) fn output_size(geometry: &Geometry, xs: &Tensor) -> Result<(usize, usize)> {
    let (n, c, height, width) = xs.dims4()?;
    let output = geometry.output_size(height, width).filter(|_| c == geometry.inputs);
    let Geometry { inputs, kernel, padding, .. } = *geometry;
    output.ok_or_else(|| KernelError::ConvInput { shape: vec![n, c, height, width], inputs, kernel, padding })
}

struct Op<'a> {
    packed: Arc<Packed>,
    shape: [usize; 4],
    output: (usize, usize),
    epilogue: Option<&'a dyn Epilogue>,
}

impl Op<'_> {
    fn run(
        &self,
        xs: &CpuStorage,
        layout: &Layout,
        residual: Option<&[f32]>,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let Packed { geometry, form, weights, bias } = &*self.packed;
        let (shape, output) = (self.shape, self.output);
        let convolution = Convolution {
            geometry: *geometry,
            form: *form,
            weights,
            bias,
            residual,
            epilogue: self.epilogue,
            shape,
            output,
        };
        let (result, range) = convolution.run(as_f32(xs)?, layout);
        if let Some(epilogue) = self.epilogue {
            epilogue.record(range);
        }
        Ok((CpuStorage::F32(result), Shape::from((shape[0], output.0, output.1, geometry.outputs))))
    }
}

impl CustomOp1 for Op<'_> {
    fn name(&self) -> &'static str {
        "packed_conv2d"
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.run(xs, layout, None)
    }
}

impl CustomOp2 for Op<'_> {
    fn name(&self) -> &'static str {
        "packed_conv2d"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let start = residual_layout.start_offset();
        let residual = &as_f32(residual)?[start..start + residual_layout.shape().elem_count()];
        self.run(xs, layout, Some(residual))
    }
}
