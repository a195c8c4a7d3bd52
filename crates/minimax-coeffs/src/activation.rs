//! The activation functions of networks, exactly, in float64.

use std::fmt;

use crate::piecewise::PiecewiseLinear;
use crate::smooth::Smooth;

/// A function of one variable that a network applies between its linear layers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum ActivationFunction {
    /// `max(x, 0)`.
    Relu,
    /// `x` for `x > 0`, else `slope · x`.
    LeakyRelu {
        /// The slope for negative `x`.
        slope: f64,
    },
    /// `min(max(x, low), high)`; ReLU6 is the one from 0 to 6. Either end may be infinite.
    Clip {
        /// The least value.
        low: f64,
        /// The largest value, above `low`.
        high: f64,
    },
    /// `min(max(scale · x + offset, 0), 1)`; PyTorch's has scale 1/6 and offset 1/2.
    HardSigmoid {
        /// The slope between the ends; positive.
        scale: f64,
        /// The value at 0.
        offset: f64,
    },
    /// `x · min(max(x/6 + 1/2, 0), 1)`.
    HardSwish,
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
    /// `x / (1 + exp(−x))`, also called swish.
    Silu,
    /// `x (1 + erf(x / √2)) / 2`.
    Gelu,
    /// GELU's approximation by `tanh`: `x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`.
    GeluTanh,
}

/// The name that the function has in PyTorch, in lower case, with its parameters.
impl fmt::Display for ActivationFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Relu => write!(f, "relu"),
            Self::LeakyRelu { slope } => write!(f, "leaky_relu({slope})"),
            Self::Clip { low: 0.0, high: 6.0 } => write!(f, "relu6"),
            Self::Clip { low, high } => write!(f, "clip({low}, {high})"),
            Self::HardSigmoid { .. } => write!(f, "hard_sigmoid"),
            Self::HardSwish => write!(f, "hard_swish"),
            Self::Sigmoid => write!(f, "sigmoid"),
            Self::Tanh => write!(f, "tanh"),
            Self::Silu => write!(f, "silu"),
            Self::Gelu => write!(f, "gelu"),
            Self::GeluTanh => write!(f, "gelu_tanh"),
        }
    }
}

impl ActivationFunction {
    /// The function as a sum of ReLUs, if it is one. `None` also where its parameters make no sense: a scale that is not
    /// positive, ends in the wrong order, NaN.
    pub fn piecewise(self) -> Option<PiecewiseLinear> {
        match self {
            Self::Relu => Some(PiecewiseLinear::leaky_relu(0.0)),
            Self::LeakyRelu { slope } => slope.is_finite().then(|| PiecewiseLinear::leaky_relu(slope)),
            Self::Clip { low, high } => (low < high).then(|| PiecewiseLinear::clip(low, high)),
            Self::HardSigmoid { scale, offset } => (scale > 0.0 && scale.is_finite() && offset.is_finite())
                .then(|| PiecewiseLinear::hard_sigmoid(scale, offset)),
            Self::HardSwish => Some(PiecewiseLinear::hard_swish()),
            _ => None,
        }
    }

    /// The function as a smooth one, if it is.
    pub fn smooth(self) -> Option<Smooth> {
        match self {
            Self::Sigmoid => Some(Smooth::Sigmoid),
            Self::Tanh => Some(Smooth::Tanh),
            Self::Silu => Some(Smooth::Silu),
            Self::Gelu => Some(Smooth::Gelu),
            Self::GeluTanh => Some(Smooth::GeluTanh),
            _ => None,
        }
    }

    /// The value at `x`.
    ///
    /// # Accuracy
    /// A few units of the last place of the function, or of `x`.
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Self::Relu => x.max(0.0),
            Self::LeakyRelu { slope } => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Self::Clip { low, high } => x.max(low).min(high),
            Self::HardSigmoid { scale, offset } => (scale * x + offset).clamp(0.0, 1.0),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Sigmoid => Smooth::Sigmoid.eval(x),
            Self::Tanh => Smooth::Tanh.eval(x),
            Self::Silu => Smooth::Silu.eval(x),
            Self::Gelu => Smooth::Gelu.eval(x),
            Self::GeluTanh => Smooth::GeluTanh.eval(x),
        }
    }

    /// An upper bound of the derivative's size, everywhere.
    pub fn steepest(self) -> f64 {
        match self {
            Self::Relu | Self::Clip { .. } | Self::Tanh => 1.0,
            Self::LeakyRelu { slope } => slope.abs().max(1.0),
            Self::HardSigmoid { scale, .. } => scale.abs(),
            // At 3.
            Self::HardSwish => 1.5,
            Self::Sigmoid => 0.25,
            // 1.0998 near 2.4, 1.1289 at √2, and nearly the same.
            Self::Silu => 1.1,
            Self::Gelu | Self::GeluTanh => 1.13,
        }
    }

    /// The derivative at `x`; at a kink that of the side where it is smaller in size.
    pub fn derivative(self, x: f64) -> f64 {
        let within = |inside: bool, slope: f64| if inside { slope } else { 0.0 };
        match self {
            Self::Relu => within(x > 0.0, 1.0),
            Self::LeakyRelu { slope } => {
                if x > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            Self::Clip { low, high } => within(low < x && x < high, 1.0),
            Self::HardSigmoid { scale, offset } => {
                let y = scale * x + offset;
                within(0.0 < y && y < 1.0, scale)
            }
            Self::HardSwish => match x {
                x if x <= -3.0 => 0.0,
                x if x < 3.0 => x / 3.0 + 0.5,
                _ => 1.0,
            },
            Self::Sigmoid => Smooth::Sigmoid.derivative(x),
            Self::Tanh => Smooth::Tanh.derivative(x),
            Self::Silu => Smooth::Silu.derivative(x),
            Self::Gelu => Smooth::Gelu.derivative(x),
            Self::GeluTanh => Smooth::GeluTanh.derivative(x),
        }
    }
}
