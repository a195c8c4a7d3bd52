use super::{Operator, Reason, checked};
use crate::shape::Shape;

/// Values joined along a dimension; 0 are the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Concat {
    /// Which dimension, without the batch.
    pub axis: usize,
}

impl Operator for Concat {
    const NAME: &'static str = "concat";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let Some(first) = inputs.first() else { return Err("takes at least 1 input".to_owned()) };
        let mut dims = first.dims().to_vec();
        if self.axis >= dims.len() {
            return Err(format!("{first} has no dimension {}", self.axis));
        }
        for other in &inputs[1..] {
            let fits = other.rank() == dims.len()
                && other.dims().iter().zip(&dims).enumerate().all(|(i, (a, b))| i == self.axis || a == b);
            if !fits {
                return Err(format!("{first} and {other} cannot be joined along dimension {}", self.axis));
            }
            dims[self.axis] = dims[self.axis].saturating_add(other.dims()[self.axis]);
        }
        checked(dims)
    }
}
