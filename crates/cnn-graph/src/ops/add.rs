use super::{Operator, Reason};
use crate::shape::Shape;

/// A sum of two values of the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Add;

impl Operator for Add {
    const NAME: &'static str = "add";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        match inputs {
            [a, b] if a == b => Ok((*a).clone()),
            [a, b] => Err(format!("{a} and {b} cannot be added")),
            _ => Err(format!("takes 2 inputs, not {}", inputs.len())),
        }
    }
}
