use super::window::{Padding, windows};
use super::{Operator, Reason, checked, one_image};
use crate::shape::Shape;

/// A convolution. Pairs are height and width.
///
/// Parameters: `weight`, `[outputs, inputs / groups, kernel height, kernel width]`, and `bias`, `[outputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Distance of two windows.
    pub stride: [usize; 2],
    /// Distance of two pixels of a window.
    pub dilation: [usize; 2],
    /// Zeros around the image.
    pub padding: Padding,
    /// Groups of channels that are convolved apart.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Conv {
    /// With stride 1, in one group, without padding and bias.
    pub const fn new(outputs: usize, kernel: [usize; 2]) -> Self {
        Self {
            outputs,
            kernel,
            stride: [1; 2],
            dilation: [1; 2],
            padding: Padding::ZERO,
            groups: 1,
            bias: false,
        }
    }

    /// A square kernel of odd size, padded so that it keeps the image's size at stride 1.
    pub const fn same(outputs: usize, kernel: usize) -> Self {
        Self::new(outputs, [kernel; 2]).with_padding(kernel / 2, kernel / 2)
    }

    /// The same with another stride.
    #[must_use]
    pub const fn with_stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// The same with so many rows above and below and so many columns left and right.
    #[must_use]
    pub const fn with_padding(self, rows: usize, columns: usize) -> Self {
        Self { padding: Padding::symmetric(rows, columns), ..self }
    }

    /// The same with a bias.
    #[must_use]
    pub const fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// The same in groups.
    #[must_use]
    pub const fn with_groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Height and width of the output for an image of `height × width`.
    ///
    /// # Errors
    /// In words, where no window fits.
    pub fn output_size(&self, height: usize, width: usize) -> Result<[usize; 2], Reason> {
        let Padding { top, bottom, left, right } = self.padding;
        let [rows, columns] = self.kernel;
        Ok([
            windows(height, rows, self.stride[0], self.dilation[0], top, bottom, false)?,
            windows(width, columns, self.stride[1], self.dilation[1], left, right, false)?,
        ])
    }
}

impl Operator for Conv {
    const NAME: &'static str = "conv";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let [channels, height, width] = one_image(inputs)?;
        let Self { outputs, groups, .. } = *self;
        if groups == 0 || outputs == 0 || channels == 0 || channels % groups != 0 || outputs % groups != 0 {
            return Err(format!(
                "{channels} input and {outputs} output channels do not fall into {groups} groups"
            ));
        }
        let [height, width] = self.output_size(height, width)?;
        let weights = [outputs, channels / groups, self.kernel[0], self.kernel[1]];
        checked(weights.to_vec()).map_err(|_| format!("a weight of {weights:?} is too large"))?;
        checked(vec![outputs, height, width])
    }

    fn params(&self, inputs: &[&Shape]) -> Vec<(&'static str, Vec<usize>)> {
        let channels = inputs[0].dims()[0];
        let weight = vec![self.outputs, channels / self.groups, self.kernel[0], self.kernel[1]];
        let mut params = vec![("weight", weight)];
        params.extend(self.bias.then(|| ("bias", vec![self.outputs])));
        params
    }
}
