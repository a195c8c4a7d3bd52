use super::{Operator, Reason};
use crate::shape::Shape;

/// The network's input, whose shape the graph was begun with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input;

impl Operator for Input {
    const NAME: &'static str = "input";

    fn shape(&self, _: &[&Shape]) -> Result<Shape, Reason> {
        Err("a graph has one input, which is its first node".to_owned())
    }
}
