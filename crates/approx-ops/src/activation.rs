//! Any of the functions of one variable, chosen at run time.

use candle_core::Tensor;

use crate::elementwise::Function;
use crate::error::Result;
use crate::range::RangeRecorder;
use crate::relu::MinimaxRelu;

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
