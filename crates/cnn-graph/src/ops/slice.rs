use super::{Operator, Reason, checked, one};
use crate::shape::Shape;

/// Every `step`-th index of a dimension, from `start` and before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Which dimension, without the batch.
    pub axis: usize,
    /// The first index.
    pub start: usize,
    /// The index behind the last one that may be taken.
    pub end: usize,
    /// Distance of two indices.
    pub step: usize,
}

impl Operator for Slice {
    const NAME: &'static str = "slice";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let shape = one(inputs)?;
        let Self { axis, start, end, step } = *self;
        let mut dims = shape.dims().to_vec();
        match dims.get_mut(axis) {
            Some(dim) if start < end && end <= *dim && step > 0 => *dim = (end - start).div_ceil(step),
            _ => {
                return Err(format!(
                    "{shape} has no indices {start}..{end} in steps of {step} in dimension {axis}"
                ));
            }
        }
        checked(dims)
    }
}
