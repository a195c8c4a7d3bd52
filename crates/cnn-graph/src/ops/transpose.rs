use super::{Operator, Reason, checked, one};
use crate::shape::Shape;

/// Another order of dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transpose {
    /// For each dimension of the output, which of the input it is, without the batch.
    pub order: Vec<usize>,
}

impl Operator for Transpose {
    const NAME: &'static str = "transpose";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let shape = one(inputs)?;
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..shape.rank()) {
            return Err(format!("{:?} is no order of the dimensions of {shape}", self.order));
        }
        checked(self.order.iter().map(|&dim| shape.dims()[dim]).collect())
    }
}
