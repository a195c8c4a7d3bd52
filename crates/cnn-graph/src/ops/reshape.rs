use super::{Operator, Reason, checked, one};
use crate::shape::Shape;

/// Other dimensions for the same numbers in row-major order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reshape {
    /// The dimensions, without the batch.
    pub dims: Vec<usize>,
}

impl Operator for Reshape {
    const NAME: &'static str = "reshape";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let (from, to) = (one(inputs)?, checked(self.dims.clone())?);
        if from.elements() != to.elements() {
            return Err(format!(
                "{from} cannot become {to}: {} numbers are not {}",
                from.elements(),
                to.elements()
            ));
        }
        Ok(to)
    }
}
