use super::{Operator, Reason, one};
use crate::shape::Shape;

/// A function of one variable, which a policy replaces by polynomials.
pub use minimax_coeffs::ActivationFunction as Activation;

impl Operator for Activation {
    const NAME: &'static str = "activation";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        if self.piecewise().is_none() && self.smooth().is_none() {
            return Err(format!("{self} has parameters that make no function"));
        }
        one(inputs).cloned()
    }

    fn is_linear(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_make_no_function_are_refused() {
        let shape = Shape::from([3, 4, 4]);
        for function in [Activation::Clip { low: 6.0, high: 0.0 }, Activation::LeakyRelu { slope: f64::NAN }]
        {
            let reason = function.shape(&[&shape]).unwrap_err();
            assert!(reason.ends_with("has parameters that make no function"), "{reason}");
        }
        assert_eq!(Activation::HardSwish.shape(&[&shape]), Ok(shape));
    }
}
