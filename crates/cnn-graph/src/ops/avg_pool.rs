use super::window::Pool;
use super::{Operator, Reason, checked, one_image};
use crate::shape::Shape;

/// The mean of each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AvgPool {
    /// The windows.
    pub window: Pool,
    /// Whether the zeros of the padding count in a mean: PyTorch's `count_include_pad`.
    pub count_padding: bool,
}

impl Operator for AvgPool {
    const NAME: &'static str = "avg_pool";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let [channels, height, width] = one_image(inputs)?;
        let [height, width] = self.window.output_size(height, width)?;
        checked(vec![channels, height, width])
    }
}
