//! The windows of a pooling.

use crate::error::{KernelError, Result};
use crate::window::{LARGEST, Padding};

/// The windows of a pooling, as in PyTorch; by axis and by side, as in ONNX. Pairs are height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolSpec {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
    ceil_mode: bool,
}

impl PoolSpec {
    /// A `kernel × kernel` window, moved by `stride`, over images with `padding` more rows and columns at each
    /// side.
    ///
    /// # Errors
    /// As [`PoolSpec::rectangular`].
    pub fn new(kernel: usize, stride: usize, padding: usize) -> Result<Self> {
        Self::rectangular([kernel; 2], [stride; 2], Padding::symmetric(padding, padding))
    }

    /// A window of any height and width, moved by so many rows and columns, over images with `padding` around them.
    ///
    /// # Errors
    /// [`KernelError::InvalidPool`] unless kernel and stride are at least 1 and the padding is at most half the kernel.
    pub fn rectangular(kernel: [usize; 2], stride: [usize; 2], padding: Padding) -> Result<Self> {
        let spec = Self { kernel, stride, padding, ceil_mode: false };
        let sizes = 1..=LARGEST;
        let is_within = |axis: usize| {
            let most = padding.by_axis()[axis].into_iter().fold(0, usize::max);
            sizes.contains(&kernel[axis]) && sizes.contains(&stride[axis]) && most <= kernel[axis] / 2
        };
        match is_within(0) && is_within(1) {
            true => Ok(spec),
            false => Err(KernelError::InvalidPool { spec: Box::new(spec) }),
        }
    }

    /// Whether a last window may reach beyond the image (it must begin inside the image or its left padding).
    #[must_use]
    pub fn with_ceil_mode(self, ceil_mode: bool) -> Self {
        Self { ceil_mode, ..self }
    }

    /// Height and width of the window.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// Distance of two windows.
    pub fn stride(&self) -> [usize; 2] {
        self.stride
    }

    /// Rows and columns added around the image.
    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// Values in a window.
    pub fn values(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// How many maxima of two a tournament over the window has one after the other, and how many in all: `⌈log2 n⌉` and
    /// `n − 1` for a window of `n` values. So many approximations of the sign function an output needs.
    pub fn signs(&self) -> (u32, u32) {
        let values = self.values();
        (values.next_power_of_two().ilog2(), (values - 1) as u32)
    }

    /// Height and width of the output for an image of `height × width`; `None` if no window fits.
    pub fn output_size(&self, height: usize, width: usize) -> Option<(usize, usize)> {
        let size = |axis: usize, input: usize| {
            let ([before, after], stride) = (self.padding.by_axis()[axis], self.stride[axis]);
            let room = (input + before + after).checked_sub(self.kernel[axis]).filter(|_| input > 0)?;
            let mut steps = if self.ceil_mode { room.div_ceil(stride) } else { room / stride };
            if self.ceil_mode && steps * stride >= input + before {
                steps -= 1;
            }
            Some(steps + 1)
        };
        Some((size(0, height)?, size(1, width)?))
    }

    /// The same.
    ///
    /// # Errors
    /// [`KernelError::EmptyPool`] if no window fits.
    pub fn checked_output_size(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        self.output_size(height, width).ok_or(KernelError::EmptyPool { spec: Box::new(*self), height, width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_are_pytorchs() {
        // kernel, stride, padding, ceil mode, input, output
        let cases = [
            (2, 2, 0, false, 9, Some(4)),
            (2, 2, 0, true, 9, Some(5)),
            (3, 2, 1, false, 112, Some(56)),
            (3, 2, 0, true, 112, Some(56)),
            (3, 2, 0, false, 112, Some(55)),
            (3, 1, 1, true, 28, Some(28)),
            (2, 2, 1, true, 3, Some(2)), // the third window would begin in the right padding
            (5, 3, 2, false, 14, Some(5)),
            (1, 2, 0, false, 7, Some(4)),
            (3, 2, 0, false, 2, None),
            (3, 2, 1, false, 0, None),
        ];
        for (kernel, stride, padding, ceil_mode, input, output) in cases {
            let spec = PoolSpec::new(kernel, stride, padding).unwrap().with_ceil_mode(ceil_mode);
            assert_eq!(spec.output_size(input, input), output.map(|o| (o, o)), "{spec:?}");
        }
    }

    #[test]
    fn axes_and_sides_are_kept_apart() {
        let padding = Padding { top: 0, bottom: 1, left: 2, right: 0 };
        let spec = PoolSpec::rectangular([2, 5], [1, 3], padding).unwrap();
        assert_eq!(spec.output_size(7, 11), Some((7, 3)));
        assert_eq!(spec.with_ceil_mode(true).output_size(7, 11), Some((7, 4)));
    }

    #[test]
    fn a_tournament_has_a_round_for_each_doubling_and_a_maximum_less_than_values() {
        for (kernel, signs) in
            [([2, 2], (2, 3)), ([3, 3], (4, 8)), ([1, 3], (2, 2)), ([5, 5], (5, 24)), ([1, 1], (0, 0))]
        {
            assert_eq!(
                PoolSpec::rectangular(kernel, [1, 1], Padding::ZERO).unwrap().signs(),
                signs,
                "{kernel:?}"
            );
        }
    }

    #[test]
    fn windows_that_make_no_sense_are_refused_with_their_numbers() {
        for (kernel, stride, padding) in [(2, 0, 0), (0, 1, 0), (3, 2, 2), (1, 1, 1), (1 << 17, 1, 0)] {
            let error = PoolSpec::new(kernel, stride, padding).unwrap_err().to_string();
            assert!(
                error.contains(&format!("kernel {kernel}×{kernel}, stride {stride}×{stride}")),
                "{error}"
            );
        }
        let error = PoolSpec::new(3, 2, 1).unwrap().checked_output_size(9, 0).unwrap_err().to_string();
        assert!(error.contains("kernel 3×3 and padding 1×1 has no window in an image of 9×0"), "{error}");
    }
}
