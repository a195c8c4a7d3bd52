use std::fmt;

use super::{Operator, Reason, one};
use crate::shape::Shape;

/// A function of one variable, which a policy replaces by polynomials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` for positive `x`, `slope · x` else.
    LeakyRelu {
        /// What negative inputs are multiplied by.
        slope: f64,
    },
    /// `x`, but at least `low` and at most `high`: ReLU6 is a clip to `[0, 6]`.
    Clip {
        /// The smallest value.
        low: f64,
        /// The largest value.
        high: f64,
    },
    /// `scale · x + offset`, clipped to `[0, 1]`. PyTorch's has a scale of 1/6 and an offset of 1/2.
    HardSigmoid {
        /// What the input is multiplied by.
        scale: f64,
        /// What is added then.
        offset: f64,
    },
    /// `x · clip(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
    /// `x / (1 + e^−x)`.
    Silu,
    /// `x Φ(x)` with the distribution function of the normal distribution.
    Gelu,
    /// GELU's approximation, `x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`.
    GeluTanh,
}

impl fmt::Display for Activation {
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

impl Operator for Activation {
    const NAME: &'static str = "activation";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        one(inputs).cloned()
    }

    fn is_linear(&self) -> bool {
        false
    }
}
