use super::{Operator, Reason, checked, one};
use crate::shape::Shape;

/// Zeros before and after the values of each dimension.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pad {
    /// How many zeros before and after, for each dimension without the batch.
    pub zeros: Vec<[usize; 2]>,
}

impl Pad {
    /// More channels around those of an image.
    pub fn channels(before: usize, after: usize) -> Self {
        Self { zeros: vec![[before, after], [0, 0], [0, 0]] }
    }
}

impl Operator for Pad {
    const NAME: &'static str = "pad";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let shape = one(inputs)?;
        if self.zeros.len() != shape.rank() {
            return Err(format!("pads {} dimensions of {shape}", self.zeros.len()));
        }
        let padded = shape.dims().iter().zip(&self.zeros);
        checked(
            padded.map(|(dim, [before, after])| dim.saturating_add(*before).saturating_add(*after)).collect(),
        )
    }
}
