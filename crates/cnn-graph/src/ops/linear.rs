use super::{Operator, Reason, checked, one};
use crate::shape::Shape;

/// A linear layer, `x Wᵀ + b`.
///
/// Parameters: `weight`, `[outputs, inputs]`, and `bias`, `[outputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Linear {
    /// How many outputs.
    pub outputs: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Operator for Linear {
    const NAME: &'static str = "linear";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let shape = one(inputs)?;
        let [features] = shape.dims() else { return Err(format!("takes features [F], not {shape}")) };
        checked(vec![self.outputs, *features])
            .map_err(|_| format!("a weight of [{}, {features}] is too large", self.outputs))?;
        checked(vec![self.outputs])
    }

    fn params(&self, inputs: &[&Shape]) -> Vec<(&'static str, Vec<usize>)> {
        let mut params = vec![("weight", vec![self.outputs, inputs[0].dims()[0]])];
        params.extend(self.bias.then(|| ("bias", vec![self.outputs])));
        params
    }
}
