//! The shape of a value, for one image.

use std::fmt;

/// The most numbers that a value may have for one image: 2^36 of them take 256 GiB as float32.
const LARGEST: usize = 1 << 36;

/// The dimensions of a value for one image, without the batch: `[C, H, W]` for an image with channels, `[F]` for
/// features.
///
/// ```
/// use cnn_graph::Shape;
///
/// let shape = Shape::from([16, 32, 32]);
/// assert_eq!(shape.elements(), 16 * 32 * 32);
/// assert_eq!(shape.image(), Some([16, 32, 32]));
/// assert_eq!(shape.to_string(), "[16, 32, 32]");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

/// How many numbers these dimensions have; `None` if that is more than a `usize` holds.
pub fn elements(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))
}

impl Shape {
    /// A shape with these dimensions; `None` if its number of elements is above 2^36, or overflows.
    pub fn new(dims: Vec<usize>) -> Option<Self> {
        let elements = elements(&dims)?;
        (elements <= LARGEST).then_some(Self(dims))
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// How many dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// How many numbers a value has for one image.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// Channels, height and width; `None` for a shape of another rank than 3.
    pub fn image(&self) -> Option<[usize; 3]> {
        self.0.as_slice().try_into().ok()
    }

    /// The length of the first dimension, over which per-channel constants go; `None` for a single number.
    pub fn channels(&self) -> Option<usize> {
        self.0.first().copied()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// # Panics
    /// If the number of elements is above 2^36.
    fn from(dims: [usize; N]) -> Self {
        Self::new(dims.to_vec()).expect("a shape has at most 2^36 elements")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
