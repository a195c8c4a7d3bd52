//! Windows that move over an image: what convolutions and poolings have in common.

use super::Reason;

/// Rows and columns that are added around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// Nothing.
    pub const ZERO: Padding = Padding { top: 0, bottom: 0, left: 0, right: 0 };

    /// So many rows at the top and the bottom, so many columns at the left and the right.
    pub const fn symmetric(rows: usize, columns: usize) -> Self {
        Self { top: rows, bottom: rows, left: columns, right: columns }
    }

    /// Rows and columns, if there are as many at both sides.
    pub fn as_symmetric(self) -> Option<(usize, usize)> {
        (self.top == self.bottom && self.left == self.right).then_some((self.top, self.left))
    }
}

/// The window of a pooling. Pairs are height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Distance of two windows.
    pub stride: [usize; 2],
    /// What is added around the image.
    pub padding: Padding,
    /// Whether a last window may reach beyond the image; it must begin inside the image or its padding above and to the
    /// left.
    pub ceil_mode: bool,
}

impl Pool {
    /// A square window without padding.
    pub const fn square(kernel: usize, stride: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: Padding::ZERO, ceil_mode: false }
    }

    /// The same with so many rows and columns at each side.
    #[must_use]
    pub const fn with_padding(self, padding: usize) -> Self {
        Self { padding: Padding::symmetric(padding, padding), ..self }
    }

    /// The same with or without ceil mode.
    #[must_use]
    pub const fn with_ceil_mode(self, ceil_mode: bool) -> Self {
        Self { ceil_mode, ..self }
    }

    /// How many approximations of the sign function a tournament over the window has in sequence, and how many for each
    /// output: `⌈log2 n⌉` and `n − 1` for a window of `n` values.
    pub fn signs(&self) -> (u32, u32) {
        let values = (self.kernel[0] * self.kernel[1]).max(1);
        (values.next_power_of_two().ilog2(), (values - 1) as u32)
    }

    /// Height and width of the output for an image of `height × width`.
    ///
    /// # Errors
    /// In words, where no window fits, the stride is 0, or the padding is more than half the window.
    pub fn output_size(&self, height: usize, width: usize) -> Result<[usize; 2], Reason> {
        let Padding { top, bottom, left, right } = self.padding;
        let sides = [(height, top, bottom, 0), (width, left, right, 1)];
        let mut output = [0; 2];
        for (size, before, after, axis) in sides {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            if before.max(after) > kernel / 2 {
                return Err(format!(
                    "padding of {before} and {after} is more than half of the window of {kernel}"
                ));
            }
            let mut count = windows(size, kernel, stride, 1, before, after, self.ceil_mode)?;
            if self.ceil_mode && count > 1 && (count - 1) * stride >= size + before {
                count -= 1;
            }
            output[axis] = count;
        }
        Ok(output)
    }
}

/// The largest window, stride, dilation and padding: far beyond any network, and their products do not overflow.
const LARGEST: usize = 1 << 16;

/// How many windows fit into a row of `size` pixels with padding.
pub(crate) fn windows(
    size: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
    ceil: bool,
) -> Result<usize, Reason> {
    if kernel == 0 || stride == 0 || dilation == 0 {
        return Err(format!("a window of {kernel} with stride {stride} and dilation {dilation} is none"));
    }
    let largest = [kernel, stride, dilation, before, after].into_iter().max().unwrap_or_default();
    if largest > LARGEST {
        return Err(format!("{largest} is more than the {LARGEST} that a window, stride or padding may be"));
    }
    let span = (kernel - 1) * dilation + 1;
    let room = (size + before + after).checked_sub(span).filter(|_| size > 0).ok_or_else(|| {
        format!("a window over {span} pixels does not fit into {size} with padding {before} and {after}")
    })?;
    Ok(if ceil { room.div_ceil(stride) } else { room / stride } + 1)
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
            (3, 2, 0, false, 2, None),
            (3, 2, 2, false, 9, None), // PyTorch refuses more padding than half the window
            (3, 0, 0, false, 9, None),
        ];
        for (kernel, stride, padding, ceil_mode, input, output) in cases {
            let pool = Pool::square(kernel, stride).with_padding(padding).with_ceil_mode(ceil_mode);
            assert_eq!(pool.output_size(input, input).ok(), output.map(|o| [o, o]), "{pool:?}");
        }
    }

    #[test]
    fn a_tournament_has_a_round_less_than_values_would_need_in_a_row() {
        for (kernel, signs) in [([2, 2], (2, 3)), ([3, 3], (4, 8)), ([1, 3], (2, 2)), ([1, 1], (0, 0))] {
            let pool = Pool { kernel, ..Pool::square(1, 1) };
            assert_eq!(pool.signs(), signs, "{kernel:?}");
        }
    }
}
