//! Convolution with bias and an optional addend, for inference on the CPU.
//!
//! candle's own is several times slower for the small images of CIFAR-10 (docs/performance.md).

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};

use crate::cpu::as_f32;
use crate::cpu::conv::{self, Convolution, Form};
use crate::epilogue::Epilogue;
use crate::error::{Result, check_dtype};
use crate::geometry::ConvGeometry;

/// A convolution with its weights packed for the CPU: of any stride, dilation, padding and groups, with forms of its own
/// for 3×3 kernels and for depthwise ones.
///
/// # Accuracy
/// 3×3 kernels with stride 1 and at least 16 channels on both sides: Winograd's F(4×4, 3×3), within 1e-5 of the
/// largest value of the result (achieved: docs/numerics.md). All others: float32 sums of
/// `inputs of a group · kernel height · kernel width` products in order, with fused multiply-adds where the processor has
/// them.
#[derive(Debug, Clone)]
pub struct PackedConv2d(Arc<Packed>);

#[derive(Debug)]
struct Packed {
    geometry: ConvGeometry,
    form: Form,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedConv2d {
    /// Packs `weight` and `bias`.
    ///
    /// # Shapes
    /// `weight`: [`ConvGeometry::weight_shape`], `bias`: `[outputs]`.
    ///
    /// # Errors
    /// [`UnsupportedDType`](crate::KernelError::UnsupportedDType), [`InvalidConv`](crate::KernelError::InvalidConv),
    /// [`ConvWeight`](crate::KernelError::ConvWeight), or candle's own for another bias.
    pub fn new(weight: &Tensor, bias: &Tensor, geometry: ConvGeometry) -> Result<Self> {
        Self::pack(weight, bias, geometry, conv::best_form)
    }

    /// The same without Winograd's form: faster where the output is of few pixels, such as 2×2, most of which
    /// would be the padding of a tile.
    ///
    /// # Shapes
    /// As [`PackedConv2d::new`].
    ///
    /// # Errors
    /// As [`PackedConv2d::new`].
    pub fn direct(weight: &Tensor, bias: &Tensor, geometry: ConvGeometry) -> Result<Self> {
        Self::pack(weight, bias, geometry, conv::plain_form)
    }

    fn pack(
        weight: &Tensor,
        bias: &Tensor,
        geometry: ConvGeometry,
        form: impl Fn(&ConvGeometry) -> Form,
    ) -> Result<Self> {
        check_dtype("conv2d", weight.dtype())?;
        geometry.check_weight(weight)?;
        let bias = bias.reshape(geometry.outputs)?.to_vec1()?;
        let form = form(&geometry);
        let weights = conv::pack(&geometry, form, &weight.flatten_all()?.to_vec1::<f32>()?);
        Ok(Self(Arc::new(Packed { geometry, form, weights, bias })))
    }

    /// What is convolved.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.0.geometry
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
    /// [`UnsupportedDType`](crate::KernelError::UnsupportedDType), [`ConvInput`](crate::KernelError::ConvInput), or candle's
    /// own for other shapes.
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
        let output = geometry.output_of(xs)?;
        let op = Op { packed: self.0.clone(), shape: [n, c, height, width], output, epilogue };
        let ys = match residual {
            None => xs.apply_op1_no_bwd(&op)?,
            Some(residual) => {
                check_dtype("conv2d", residual.dtype())?;
                let expected = Shape::from((n, geometry.outputs, output[0], output[1]));
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

struct Op<'a> {
    packed: Arc<Packed>,
    shape: [usize; 4],
    output: [usize; 2],
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
        Ok((CpuStorage::F32(result), Shape::from((shape[0], output[0], output[1], geometry.outputs))))
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
