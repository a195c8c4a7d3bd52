//! Windows that move over an image: what convolutions and poolings have in common. Pairs are height and width.

/// The largest window, stride, dilation or padding: far beyond any network, and their products do not overflow.
pub(crate) const LARGEST: usize = 1 << 16;

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

    /// What is before and behind the image, of rows and of columns.
    pub(crate) fn by_axis(self) -> [[usize; 2]; 2] {
        [[self.top, self.bottom], [self.left, self.right]]
    }

    pub(crate) fn from_axes([[top, bottom], [left, right]]: [[usize; 2]; 2]) -> Self {
        Self { top, bottom, left, right }
    }

    pub(crate) fn largest(self) -> usize {
        self.by_axis().into_iter().flatten().fold(0, usize::max)
    }
}

impl std::fmt::Display for Padding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.as_symmetric() {
            Some((rows, columns)) => write!(f, "{rows}×{columns}"),
            None => {
                let Self { top, bottom, left, right } = self;
                write!(f, "{top} above, {bottom} below, {left} left, {right} right")
            }
        }
    }
}
