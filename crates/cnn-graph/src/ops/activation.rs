use super::{Operator, Reason, one};
use crate::shape::Shape;

/// A function of one variable, which a policy replaces by polynomials.
pub use minimax_coeffs::ActivationFunction as Activation;

impl Operator for Activation {
    const NAME: &'static str = "activation";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        one(inputs).cloned()
    }

    fn is_linear(&self) -> bool {
        false
    }
}
