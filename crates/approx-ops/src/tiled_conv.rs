//! 3×3 convolutions of few channels on CUDA, with an activation behind them, in one kernel.

use candle_core::{CpuStorage, CudaStorage, CustomOp2, Device, Layout, Shape, Tensor};
use cnn_kernels::{ConvGeometry, Padding};

use crate::activation::Activation;
use crate::cuda::conv;
use crate::elementwise::Function;
use crate::error::Result;
use crate::kernels::{ConvShape, ConvTile};
use crate::range::RangeRecorder;

/// Channels of the input and of the output up to which this is faster than cuDNN: its kernels compute more outputs at once
/// than there are (docs/adr/0068-convolutions-of-few-channels.md).
const FEW_CHANNELS: usize = 64;
/// The same for larger images, of which cuDNN's Winograd form makes enough.
const FEW_CHANNELS_OF_LARGE_IMAGES: usize = 32;
/// Pixels of an image that is not large.
const FEW_PIXELS: usize = 256;

/// A 3×3 convolution with stride 1 and padding 1, of at most 64 channels, on CUDA.
#[derive(Debug, Clone)]
pub struct TiledConv2d {
    /// `[inputs, 9, outputs]`, so that a block reads its outputs' weights side by side.
    weight: Tensor,
    bias: Tensor,
}

impl TiledConv2d {
    /// The convolution with this weight and bias; `None` if the kernel is not for it.
    ///
    /// # Shapes
    /// `weight`: [`ConvGeometry::weight_shape`]; `bias`: `[outputs]`.
    ///
    /// # Errors
    /// candle's.
    pub fn new(weight: &Tensor, bias: &Tensor, geometry: ConvGeometry) -> Result<Option<Self>> {
        let ConvGeometry { inputs, outputs, .. } = geometry;
        let same = ConvGeometry::new(inputs, outputs, [3, 3]).with_padding(Padding::symmetric(1, 1));
        let few = inputs.max(outputs) <= FEW_CHANNELS && outputs.is_multiple_of(16);
        if geometry != same || !few || !weight.device().is_cuda() {
            return Ok(None);
        }
        let device = weight.device();
        let weight = weight.to_device(&Device::Cpu)?.flatten_from(2)?.permute((1, 2, 0))?.contiguous()?;
        Ok(Some(Self { weight: weight.to_device(device)?, bias: bias.contiguous()? }))
    }

    /// The convolution plus `addend`, through `activation`, whose inputs are recorded; `None` if the kernel is not for images
    /// of this size or for this function.
    ///
    /// # Shapes
    /// `xs`: `[N, inputs, H, W]`; `addend` and the result `[N, outputs, H, W]`.
    ///
    /// # Errors
    /// [`OpError::LongComposition`](crate::OpError::LongComposition); candle's, for other shapes.
    pub fn forward(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        activation: &Activation,
        recorder: Option<&RangeRecorder>,
    ) -> Result<Option<Tensor>> {
        let (images, inputs, height, width) = xs.dims4()?;
        let outputs = self.bias.dim(0)?;
        if inputs != self.weight.dim(0)? {
            let (lhs, rhs) = (xs.shape().clone(), self.weight.shape().clone());
            return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "conv3x3" }.into());
        }
        let shape = ConvShape { images, inputs, outputs, height, width };
        let is_large = height * width > FEW_PIXELS;
        if (is_large && inputs.max(outputs) > FEW_CHANNELS_OF_LARGE_IMAGES)
            || conv::kernel_name(&activation.0).is_none()
            || !ConvTile::ALL.iter().any(|tile| tile.fits(shape))
        {
            return Ok(None);
        }
        let result = Shape::from((images, outputs, height, width));
        if let Some(addend) = addend.filter(|addend| addend.shape() != &result) {
            let (lhs, rhs) = (result, addend.shape().clone());
            return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "conv3x3" }.into());
        }
        let op = Convolve {
            shape,
            bias: &self.bias,
            addend: addend.map(aligned).transpose()?,
            function: &activation.0,
            recorder,
        };
        Ok(Some(aligned(xs)?.apply_op2_no_bwd(&self.weight, &op)?))
    }
}

/// The same numbers, contiguous and from an address on that is a multiple of 16.
fn aligned(xs: &Tensor) -> candle_core::Result<Tensor> {
    let xs = xs.contiguous()?;
    if xs.layout().start_offset().is_multiple_of(4) { Ok(xs) } else { xs.force_contiguous() }
}

struct Convolve<'a> {
    shape: ConvShape,
    bias: &'a Tensor,
    addend: Option<Tensor>,
    function: &'a Function,
    recorder: Option<&'a RangeRecorder>,
}

impl CustomOp2 for Convolve<'_> {
    fn name(&self) -> &'static str {
        "conv3x3"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        candle_core::bail!("this convolution runs on CUDA devices only")
    }

    fn cuda_fwd(
        &self,
        xs: &CudaStorage,
        xs_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let ConvShape { images, outputs, height, width, .. } = self.shape;
        let operands = conv::Operands {
            xs: (xs, xs_layout),
            weight: (weight, weight_layout),
            bias: self.bias,
            addend: self.addend.as_ref(),
        };
        let result = conv::forward(self.function, self.shape, &operands, self.recorder)?;
        Ok((result, Shape::from((images, outputs, height, width))))
    }
}
