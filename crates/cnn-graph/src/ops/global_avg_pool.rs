use super::{Operator, Reason, checked, one_image};
use crate::shape::Shape;

/// The mean of each channel, as an image of one pixel: `[C, 1, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GlobalAvgPool;

impl Operator for GlobalAvgPool {
    const NAME: &'static str = "global_avg_pool";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let [channels, height, width] = one_image(inputs)?;
        if height == 0 || width == 0 {
            return Err(format!("an image of {height}×{width} has no mean"));
        }
        checked(vec![channels, 1, 1])
    }
}
