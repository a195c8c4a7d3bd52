//! ReLU: exact, and by a composite minimax polynomial.

use std::sync::Arc;

use candle_core::Tensor;
use minimax_coeffs::{Alpha, CompositeSign};

use crate::activation::Precision;
use crate::cpu::composite::Composite;
use crate::elementwise::Function;
use crate::error::{Result, check_bound};
use crate::range::RangeRecorder;

/// Exact ReLU, `max(x, 0)`, that records the range of its input.
///
/// # Shapes
/// Any; the output has the input's.
///
/// # Errors
/// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), or candle's own.
pub fn relu(xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
    Function::Relu.apply(xs, recorder)
}

/// `relu_{alpha,B}(x) = x (1 + s_alpha(x / B)) / 2` for `|x| ≤ B` (arXiv 2105.10879, section III), with the
/// derivative of that polynomial as its gradient.
///
/// # Accuracy
/// In float32, within `2^-alpha / 16 · B` of the float64 composite for all alpha (achieved: 1.4e-6 · B at worst,
/// docs/numerics.md), on the CPU as on CUDA; with [`Precision::Double`] within 2^-22 · B: s is
/// rounded once, and so are the sum and the product behind it. The composite itself is within about
/// `2^-alpha · B` of `max(x, 0)`.
///
/// A value outside `[-B, B]` gives a meaningless result, and the recorder tells.
#[derive(Debug, Clone)]
pub struct MinimaxRelu {
    sign: Arc<Composite>,
    bound: f32,
    exact_outside: bool,
}

impl MinimaxRelu {
    /// The published approximation with precision `alpha` on `[-bound, bound]`.
    ///
    /// # Errors
    /// [`InvalidBound`](crate::OpError::InvalidBound) unless `bound` is positive and finite.
    pub fn new(alpha: Alpha, bound: f64) -> Result<Self> {
        Self::from_composite(CompositeSign::published(alpha), bound)
    }

    /// As [`MinimaxRelu::new`], for any approximation of the sign function on `[-1, 1]`.
    ///
    /// # Errors
    /// As [`MinimaxRelu::new`].
    pub fn from_composite(sign: &CompositeSign, bound: f64) -> Result<Self> {
        let sign = Arc::new(Composite::new(sign));
        Ok(Self { bound: check_bound(bound)?, sign, exact_outside: false })
    }

    /// The same, but `max(x, 0)` outside `[-B, B]`, so that training can go on with such values. They are counted all
    /// the same.
    #[must_use]
    pub fn with_exact_outside(self) -> Self {
        Self { exact_outside: true, ..self }
    }

    /// The same, evaluated in another precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { sign: Arc::new(self.sign.with_precision(precision)), ..self }
    }

    /// Applies it, and records the range of the input.
    ///
    /// # Shapes
    /// Any; the output has the input's.
    ///
    /// # Errors
    /// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), or candle's own.
    pub fn forward(&self, xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
        self.clone().into_function().apply(xs, recorder)
    }

    pub(crate) fn into_function(self) -> Function {
        let Self { sign, bound, exact_outside } = self;
        match exact_outside {
            true => Function::MinimaxReluWithin { sign, bound },
            false => Function::MinimaxRelu { sign, bound },
        }
    }
}
