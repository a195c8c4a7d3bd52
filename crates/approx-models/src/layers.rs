//! The layers that networks are made of.

use approx_ops::{Activation, MinimaxMaxPool, OpError, PackedConv2d, PoolSpec, RangeRecorder, max_pool};
use candle_core::{Device, Tensor};

use crate::builder::at;
use crate::error::Result;

/// A square convolution and the batch norm behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvSpec {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Distance of two windows.
    pub stride: usize,
    /// Zero rows and columns added at each side.
    pub padding: usize,
    /// Whether the convolution has a bias of its own.
    pub bias: bool,
    /// Added to the variance in batch norm.
    pub eps: f64,
}

impl ConvSpec {
    /// A 3×3 convolution that keeps the image's size at stride 1, without bias, with PyTorch's default `eps`.
    pub fn three_by_three(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, kernel: 3, stride: 1, padding: 1, bias: false, eps: 1e-5 }
    }

    /// The same with another stride.
    #[must_use]
    pub fn with_stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same with a bias.
    #[must_use]
    pub fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }
}

/// A convolution with bias.
#[derive(Debug, Clone)]
pub struct Conv2d(Kernel);

/// On the CPU our own convolution, elsewhere candle's.
#[derive(Debug, Clone)]
enum Kernel {
    Packed(PackedConv2d),
    Candle { weight: Tensor, bias: Tensor, stride: usize, padding: usize },
}

impl Conv2d {
    pub(crate) fn new(weight: Tensor, bias: Tensor, spec: ConvSpec) -> Result<Self, OpError> {
        let ConvSpec { stride, padding, .. } = spec;
        Ok(Self(match weight.device() {
            Device::Cpu => Kernel::Packed(PackedConv2d::new(&weight, &bias, stride, (padding, padding))?),
            _ => Kernel::Candle { weight, bias: bias.reshape((1, spec.outputs, 1, 1))?, stride, padding },
        }))
    }

    /// The convolution plus `addend`, if there is one, through `relu`.
    ///
    /// # Shapes
    /// `xs`: `[N, inputs, H, W]`; `addend` and the result: `[N, outputs, H', W']`.
    ///
    /// # Errors
    /// For another shape, with the name of the site.
    pub fn forward_relu(&self, xs: &Tensor, addend: Option<&Tensor>, relu: &Relu) -> Result<Tensor> {
        match &self.0 {
            Kernel::Packed(packed) => {
                packed.forward_activated(xs, addend, &relu.activation, &relu.recorder).map_err(at(&relu.site))
            }
            Kernel::Candle { weight, bias, stride, padding } => {
                let mut ys = xs.conv2d(weight, *padding, *stride, 1, 1)?.broadcast_add(bias)?;
                if let Some(addend) = addend {
                    ys = (ys + addend)?;
                }
                relu.forward(&ys)
            }
        }
    }
}

/// `x Wᵀ + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Linear {
    /// # Shapes
    /// `xs`: `[N, inputs]`; the result `[N, outputs]`.
    ///
    /// # Errors
    /// candle's, for another shape.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        Ok(xs.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?)
    }
}

/// A ReLU, or what the policy puts in its place.
#[derive(Debug, Clone)]
pub struct Relu {
    pub(crate) site: String,
    pub(crate) activation: Activation,
    pub(crate) recorder: RangeRecorder,
}

impl Relu {
    /// # Shapes
    /// Any; the result has the input's.
    ///
    /// # Errors
    /// The op's, with the name of the site.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.activation.forward(xs, &self.recorder).map_err(at(&self.site))
    }
}

/// A max-pooling, or what the policy puts in its place.
#[derive(Debug, Clone)]
pub struct MaxPool {
    pub(crate) site: String,
    pub(crate) function: MaxPoolFunction,
    pub(crate) recorder: RangeRecorder,
}

#[derive(Debug, Clone)]
pub(crate) enum MaxPoolFunction {
    Exact(PoolSpec),
    Minimax(MinimaxMaxPool),
}

impl MaxPool {
    /// # Shapes
    /// `xs`: `[N, C, H, W]`; the result `[N, C, H', W']` with [`PoolSpec::output_size`].
    ///
    /// # Errors
    /// The op's, with the name of the site.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = match &self.function {
            MaxPoolFunction::Exact(spec) => max_pool(xs, spec, &self.recorder),
            MaxPoolFunction::Minimax(pool) => pool.forward(xs, &self.recorder),
        };
        ys.map_err(at(&self.site))
    }
}
