use super::window::Pool;
use super::{Operator, Reason, checked, one_image};
use crate::shape::Shape;

/// The largest value of each window. Padding never wins in the exact network; in the approximation, it counts as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxPool(pub Pool);

impl Operator for MaxPool {
    const NAME: &'static str = "max_pool";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let [channels, height, width] = one_image(inputs)?;
        let [height, width] = self.0.output_size(height, width)?;
        checked(vec![channels, height, width])
    }

    fn is_linear(&self) -> bool {
        self.0.signs() == (0, 0)
    }
}
