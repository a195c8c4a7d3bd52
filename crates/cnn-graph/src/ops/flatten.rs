use super::{Operator, Reason, checked, one};
use crate::shape::Shape;

/// One row of features, in row-major order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flatten;

impl Operator for Flatten {
    const NAME: &'static str = "flatten";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        checked(vec![one(inputs)?.elements()])
    }
}
