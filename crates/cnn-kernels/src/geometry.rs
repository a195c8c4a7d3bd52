//! The shapes of a convolution.

use candle_core::Tensor;

use crate::error::{KernelError, Result};
use crate::window::{LARGEST, Padding};

/// What a convolution's windows are and where they lie. Pairs are height and width.
///
/// ```
/// use cnn_kernels::{ConvGeometry, Padding};
///
/// // Depthwise, over every second pixel, with one zero more below and to the right, as TensorFlow pads.
/// let geometry = ConvGeometry::new(32, 32, [3, 3])
///     .with_groups(32)
///     .with_stride([2, 2])
///     .with_padding(Padding { bottom: 1, right: 1, ..Padding::ZERO });
/// assert_eq!(geometry.weight_shape(), [32, 1, 3, 3]);
/// assert_eq!(geometry.output_size(112, 112), Some([56, 56]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Input channels.
    pub inputs: usize,
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
}

impl ConvGeometry {
    /// With stride and dilation 1, in one group, without padding.
    pub const fn new(inputs: usize, outputs: usize, kernel: [usize; 2]) -> Self {
        let (stride, dilation) = ([1; 2], [1; 2]);
        Self { inputs, outputs, kernel, stride, dilation, padding: Padding::ZERO, groups: 1 }
    }

    /// That of a weight of `[outputs, inputs, kernel height, kernel width]`, in one group.
    ///
    /// # Errors
    /// candle's, for another rank.
    pub fn of_weight(weight: &Tensor) -> Result<Self> {
        let (outputs, inputs, height, width) = weight.dims4()?;
        Ok(Self::new(inputs, outputs, [height, width]))
    }

    /// The same with another stride.
    #[must_use]
    pub const fn with_stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// The same with another dilation.
    #[must_use]
    pub const fn with_dilation(self, dilation: [usize; 2]) -> Self {
        Self { dilation, ..self }
    }

    /// The same with other padding.
    #[must_use]
    pub const fn with_padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// The same in so many groups.
    #[must_use]
    pub const fn with_groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The shape of the weight: `[outputs, inputs of a group, kernel height, kernel width]`.
    pub fn weight_shape(&self) -> [usize; 4] {
        let [height, width] = self.kernel;
        [self.outputs, self.group_inputs(), height, width]
    }

    /// Height and width of the output for an image of `height × width`; `None` if the kernel does not fit.
    pub fn output_size(&self, height: usize, width: usize) -> Option<[usize; 2]> {
        let [rows, columns] = self.padding.by_axis();
        let [span_y, span_x] = self.span();
        let size = |input: usize, [before, after]: [usize; 2], span: usize, stride: usize| {
            Some((input + before + after).checked_sub(span)?.checked_div(stride)? + 1)
        };
        Some([size(height, rows, span_y, self.stride[0])?, size(width, columns, span_x, self.stride[1])?])
    }

    /// Refuses what is no convolution.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { inputs, outputs, kernel, stride, dilation, padding, groups } = *self;
        let numbers = [kernel, stride, dilation].into_iter().flatten();
        let whole = groups > 0
            && inputs > 0
            && outputs > 0
            && inputs.is_multiple_of(groups)
            && outputs.is_multiple_of(groups);
        let largest = numbers.clone().fold(padding.largest(), usize::max);
        if numbers.min() == Some(0) || !whole || largest > LARGEST {
            return Err(KernelError::InvalidConv { geometry: Box::new(*self) });
        }
        Ok(())
    }

    /// The same as [`check`](Self::check), and that a weight has the shape.
    pub(crate) fn check_weight(&self, weight: &Tensor) -> Result<()> {
        self.check()?;
        let (expected, found) = (self.weight_shape(), weight.dims());
        if found != expected {
            return Err(KernelError::ConvWeight { geometry: Box::new(*self), found: found.to_vec() });
        }
        Ok(())
    }

    /// Height and width of the result for `xs`, `[N, C, H, W]`.
    pub(crate) fn output_of(&self, xs: &Tensor) -> Result<[usize; 2]> {
        let (_, channels, height, width) = xs.dims4()?;
        let output = self.output_size(height, width).filter(|_| channels == self.inputs);
        output.ok_or_else(|| KernelError::ConvInput { shape: xs.dims().to_vec(), geometry: Box::new(*self) })
    }

    /// Pixels that a window reaches over.
    pub(crate) fn span(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.kernel[axis].saturating_sub(1) * self.dilation[axis] + 1)
    }

    pub(crate) fn group_inputs(&self) -> usize {
        self.inputs / self.groups.max(1)
    }

    pub(crate) fn group_outputs(&self) -> usize {
        self.outputs / self.groups.max(1)
    }

    /// Whether each output channel is made of one input channel, its own.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.inputs && self.groups == self.outputs
    }

    /// Whether each output pixel is made of one input pixel, in the same place.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == Padding::ZERO && self.groups == 1
    }
}
