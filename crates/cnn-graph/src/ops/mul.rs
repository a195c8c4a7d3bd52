use super::{Operator, Reason};
use crate::shape::Shape;

/// A product of two values: of the same shape, or of an image `[C, H, W]` and a factor for each channel, `[C, 1, 1]`.
/// The image comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mul;

impl Operator for Mul {
    const NAME: &'static str = "mul";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        match inputs {
            [a, b] if a == b || (a.rank() == 3 && *b.dims() == [a.dims()[0], 1, 1]) => Ok((*a).clone()),
            [a, b] => Err(format!("{a} and {b} cannot be multiplied")),
            _ => Err(format!("takes 2 inputs, not {}", inputs.len())),
        }
    }

    fn is_linear(&self) -> bool {
        false
    }
}
