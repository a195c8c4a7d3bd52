//! Any of the functions of one variable, chosen at run time.

use std::sync::Arc;

use candle_core::Tensor;
use cnn_kernels::{Epilogue, RangeStats};
use minimax_coeffs::{ActivationFunction, CompositeSign, FittedPolynomial, Smooth, SmoothApproximation};

use crate::cpu::composite::Composite;
use crate::cpu::exact::Exact;
use crate::cpu::map::Range;
use crate::cpu::{fitted, piecewise, smooth};
use crate::elementwise::Function;
use crate::error::{OpError, Result, check_bound};
use crate::range::{RangePenalty, RangeRecorder};
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

/// One of the functions that can stand for ReLU, to apply by itself or, as an [`ActivationEpilogue`], at the end of a
/// convolution or a batch norm.
#[derive(Debug, Clone)]
pub struct Activation(pub(crate) Function);

impl Activation {
    /// `x`.
    pub const IDENTITY: Activation = Activation(Function::Identity { bound: f32::MAX });
    /// `max(x, 0)`, as [`relu`](crate::relu()).
    pub const RELU: Activation = Activation(Function::Relu);
    /// `x²`, as [`square`](crate::square).
    pub const SQUARE: Activation = Activation(Function::Square);
    /// `x²/8 + x/2 + 1/4`, as [`relu_aq`](crate::relu_aq).
    pub const RELU_AQ: Activation = Activation(Function::ReluAq);

    /// A function of a network, as it is.
    ///
    /// # Accuracy
    /// Within 4 units of the last place of float32, or 1e-7 of `|x|`; derivatives within 1e-6. At a kink, the derivative
    /// is that of the side where it is smaller in size.
    ///
    /// # Errors
    /// [`OpError::InvalidFunction`] where its parameters make no sense.
    pub fn exact(function: ActivationFunction) -> Result<Self> {
        if function == ActivationFunction::Relu {
            return Ok(Self::RELU);
        }
        if function.piecewise().is_none() && function.smooth().is_none() {
            return Err(OpError::InvalidFunction { function });
        }
        Ok(Self(Function::Exact(Exact::new(function))))
    }

    /// A piecewise linear function on `[-bound, bound]`, with `sign` in each of the ReLUs that it is a sum of
    /// ([`PiecewiseLinear`](minimax_coeffs::PiecewiseLinear)). ReLU itself is [`MinimaxRelu`].
    ///
    /// # Accuracy
    /// In float32, each ReLU as [`MinimaxRelu`] of its own bound, `B + |t|` for one that begins at `t`.
    ///
    /// # Errors
    /// [`OpError::InvalidFunction`] for a function that is not piecewise linear or makes no sense,
    /// [`OpError::InvalidBound`] unless `bound` is positive and finite.
    pub fn piecewise(function: ActivationFunction, sign: &CompositeSign, bound: f64) -> Result<Self> {
        if function == ActivationFunction::Relu {
            return Ok(MinimaxRelu::from_composite(sign, bound)?.into());
        }
        let bound = check_bound(bound)?;
        let sum = function.piecewise().ok_or(OpError::InvalidFunction { function })?;
        let sign = Arc::new(Composite::new(sign));
        let map = piecewise::Piecewise::new(&sum, sign, bound, Exact::new(function));
        Ok(Self(Function::Piecewise(Arc::new(map))))
    }

    /// The polynomial of a smooth function on `[-B, B]`.
    ///
    /// # Accuracy
    /// In float32, within `1e-6 · max(B, 1)` of the float64 polynomial for SiLU and GELU, and within 1e-5 for sigmoid
    /// and tanh.
    ///
    /// # Errors
    /// [`OpError::InvalidBound`] for a bound that float32 does not have.
    pub fn smooth(approximation: &SmoothApproximation) -> Result<Self> {
        let exact = match approximation.function() {
            Smooth::Sigmoid => Exact::Sigmoid,
            Smooth::Tanh => Exact::Tanh,
            Smooth::Silu => Exact::Silu,
            Smooth::Gelu => Exact::Gelu,
            Smooth::GeluTanh => Exact::GeluTanh,
        };
        let bound = check_bound(approximation.bound())?;
        Ok(Self(Function::Smooth(Arc::new(smooth::Smooth::new(approximation, bound, exact)))))
    }

    /// A polynomial that is fitted to an activation's inputs, on its interval.
    ///
    /// # Accuracy
    /// In float32, within 2e-6 of the sum of the coefficients' sizes of the float64 polynomial.
    ///
    /// # Errors
    /// [`OpError::InvalidBound`] for an interval that float32 does not have.
    pub fn fitted(polynomial: &FittedPolynomial) -> Result<Self> {
        let range = Range { center: polynomial.center() as f32, bound: check_bound(polynomial.radius())? };
        Ok(Self(Function::Fitted(Arc::new(fitted::Fitted::new(polynomial, range)))))
    }

    /// The same, but exact outside of the range of an approximation, so that training can go on with such values. They
    /// are counted all the same.
    #[must_use]
    pub fn with_exact_outside(self) -> Self {
        Self(self.0.with_exact_outside())
    }

    /// Applies it, and records the range of the input.
    ///
    /// # Shapes
    /// Any; the output has the input's.
    ///
    /// # Errors
    /// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), or candle's own.
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
    /// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), or candle's own: for other shapes or strides, or where
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

    /// This function at the end of a kernel, which records the range of the function's inputs.
    pub fn recorded_by<'a>(&'a self, recorder: &'a RangeRecorder) -> ActivationEpilogue<'a> {
        ActivationEpilogue { activation: self, recorder: Some(recorder), penalty: None }
    }

    /// This function at the end of a kernel, for the way back, on which the inputs may have a penalty.
    pub fn penalised_by(&self, penalty: Option<RangePenalty>) -> ActivationEpilogue<'_> {
        ActivationEpilogue { activation: self, recorder: None, penalty }
    }

    /// The middle of the range and half of its length, if this is an approximation on a range: 0 and `B` for one on
    /// `[-B, B]`.
    pub fn range(&self) -> Option<(f32, f32)> {
        let Range { center, bound } = self.0.range();
        self.0.is_bounded().then_some((center, bound))
    }
}

impl From<MinimaxRelu> for Activation {
    fn from(relu: MinimaxRelu) -> Self {
        Activation(relu.into_function())
    }
}

/// An [`Activation`] at the end of a kernel: [`Activation::recorded_by`], [`Activation::penalised_by`].
#[derive(Debug, Clone, Copy)]
pub struct ActivationEpilogue<'a> {
    activation: &'a Activation,
    recorder: Option<&'a RangeRecorder>,
    penalty: Option<RangePenalty>,
}

impl Epilogue for ActivationEpilogue<'_> {
    fn apply_in_place(&self, values: &mut [f32]) -> RangeStats {
        self.activation.0.apply_in_place(values)
    }

    fn gradient_in_place(&self, inputs: &[f32], gradients: &mut [f32]) -> f64 {
        self.activation.0.gradient_in_place(inputs, gradients);
        self.penalty.map_or(0.0, |penalty| penalty.add_gradient(inputs, gradients))
    }

    fn record(&self, range: RangeStats) {
        if let Some(recorder) = self.recorder {
            recorder.record(range);
        }
    }

    fn apply_affine(&self, xs: &Tensor, affine: &Tensor, addend: Option<&Tensor>) -> cnn_kernels::Result<()> {
        Ok(self.activation.apply_in_place(xs, affine, addend, self.recorder)?)
    }

    fn affine_gradient(
        &self,
        xs: &Tensor,
        affine: &Tensor,
        addend: Option<&Tensor>,
        gradients: &Tensor,
    ) -> cnn_kernels::Result<(Tensor, f64)> {
        let zs = xs.copy()?;
        Activation::IDENTITY.apply_in_place(&zs, affine, addend, None)?;
        let gradient = self.activation.gradient(&zs, gradients)?;
        Ok(match self.penalty {
            Some(penalty) => penalty.add_gradient_to(&zs, &gradient)?,
            None => (gradient, 0.0),
        })
    }
}
