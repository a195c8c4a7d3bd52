use super::{Operator, Reason, one};
use crate::shape::Shape;

/// While a network is trained, leaves out some of its inputs and scales the others so that their mean stays (Srivastava
/// et al., JMLR 15, 2014); does nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The share of inputs that is left out.
    pub rate: f64,
}

impl Operator for Dropout {
    const NAME: &'static str = "dropout";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let shape = one(inputs)?;
        if !(0.0..1.0).contains(&self.rate) {
            return Err(format!("a rate of {} is not in [0, 1)", self.rate));
        }
        Ok(shape.clone())
    }
}
