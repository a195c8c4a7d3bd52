//! Any of the functions of one variable, chosen at run time.

use candle_core::Tensor;

use crate::elementwise::Function;
use crate::error::Result;
use crate::range::RangeRecorder;
use crate::relu::MinimaxRelu;

/// The type that a composite polynomial is evaluated in. What goes in and comes out is float32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Float32, in a form that loses little.
    #[default]
    Single,
    /// Float64, rounded once: to tell what float32 loses. On the CPU, and on GPUs that are made for graphics, it is
    /// many times slower.
    Double,
}

/// One of the functions that can stand for ReLU, to apply by itself or as the end of a convolution
/// ([`PackedConv2d::forward_activated`](crate::PackedConv2d::forward_activated)).
#[derive(Debug, Clone)]
pub struct Activation(pub(crate) Function);

impl Activation {
    /// `x`.
    pub const IDENTITY: Activation = Activation(Function::Identity);
    /// `max(x, 0)`, as [`relu`](crate::relu()).
    pub const RELU: Activation = Activation(Function::Relu);
    /// `x²`, as [`square`](crate::square).
    pub const SQUARE: Activation = Activation(Function::Square);
    /// `x²/8 + x/2 + 1/4`, as [`relu_aq`](crate::relu_aq).
    pub const RELU_AQ: Activation = Activation(Function::ReluAq);

    /// Applies it, and records the range of the input.
    ///
    /// # Shapes
    /// Any; the output has the input's.
    ///
    /// # Errors
    /// [`UnsupportedDType`](crate::OpError::UnsupportedDType), or candle's own.
    pub fn forward(&self, xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
        self.0.apply(xs, recorder)
    }

    /// Replaces `xs` by `f(xs · scale[c] + bias[c] + addend)`, in one pass over memory, and records the range of what goes
    /// into `f`: the end of a convolution whose batch norm is folded or known. `affine` is the bias of each channel,
    /// or scale and bias.
    ///
    /// # Shapes
    /// `xs`: `[N, C, …]`, contiguous; `affine`: `[C]` or `[2, C]`; `addend`: as `xs`.
    ///
    /// # Errors
    /// [`UnsupportedDType`](crate::OpError::UnsupportedDType), or candle's own: for other shapes or strides, or where
    /// `addend` is in the same memory as `xs`.
    pub fn apply_in_place(
        &self,
        xs: &Tensor,
        affine: &Tensor,
        addend: Option<&Tensor>,
        recorder: Option<&RangeRecorder>,
    ) -> Result<()> {
        self.0.apply_affine(xs, affine, addend, recorder)
    }

    /// The gradient of the input from that of the result.
    ///
    /// # Shapes
    /// `xs` and `gradient` have the same, and so has the result.
    ///
    /// # Errors
    /// As [`Activation::forward`].
    pub fn gradient(&self, xs: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        Ok(self.0.gradient(xs, gradient)?)
    }

    /// `B`, if this is an approximation on `[-B, B]`.
    pub fn bound(&self) -> Option<f32> {
        self.0.is_bounded().then(|| self.0.bound())
    }
}

impl From<MinimaxRelu> for Activation {
    fn from(relu: MinimaxRelu) -> Self {
        Activation(relu.into_function())
    }
}
