use super::{Operator, Reason, checked, one_image};
use crate::shape::Shape;

/// The means of parts of an image of about the same size, which overlap where the image is no multiple of it: PyTorch's
/// `AdaptiveAvgPool2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdaptiveAvgPool {
    /// Height and width of the output.
    pub size: [usize; 2],
}

impl Operator for AdaptiveAvgPool {
    const NAME: &'static str = "adaptive_avg_pool";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let [channels, height, width] = one_image(inputs)?;
        if height == 0 || width == 0 || self.size.contains(&0) {
            return Err(format!("an image of {height}×{width} has no means of {:?} parts", self.size));
        }
        checked(vec![channels, self.size[0], self.size[1]])
    }
}
