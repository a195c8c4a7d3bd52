//! The operations: one file each, which holds its settings, how it infers shapes and which parameters it has.
//!
//! The set is closed: a consumer such as an executor matches on [`Op`], and the compiler tells where a new operation is
//! missing. How to add one: docs/adding-an-operator.md.

mod activation;
mod adaptive_avg_pool;
mod add;
mod affine;
mod avg_pool;
mod batch_norm;
mod concat;
mod conv;
mod dropout;
mod flatten;
mod global_avg_pool;
mod input;
mod linear;
mod max_pool;
mod mul;
mod pad;
mod reshape;
mod slice;
mod transpose;
pub mod window;

pub use activation::Activation;
pub use adaptive_avg_pool::AdaptiveAvgPool;
pub use add::Add;
pub use affine::Affine;
pub use avg_pool::AvgPool;
pub use batch_norm::BatchNorm;
pub use concat::Concat;
pub use conv::Conv;
pub use dropout::Dropout;
pub use flatten::Flatten;
pub use global_avg_pool::GlobalAvgPool;
pub use input::Input;
pub use linear::Linear;
pub use max_pool::MaxPool;
pub use mul::Mul;
pub use pad::Pad;
pub use reshape::Reshape;
pub use slice::Slice;
pub use transpose::Transpose;
pub use window::{Padding, Pool};

use crate::shape::Shape;

/// What is wrong with an operation's inputs, in words, with the numbers.
pub type Reason = String;

/// What every operation tells of itself.
trait Operator {
    /// The operation's name in messages.
    const NAME: &'static str;

    /// The shape of the output for inputs of these shapes.
    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason>;

    /// The parameters, for inputs whose shapes [`shape`](Self::shape) accepts: the end of the name, and the shape.
    fn params(&self, _inputs: &[&Shape]) -> Vec<(&'static str, Vec<usize>)> {
        Vec::new()
    }

    /// Whether it is a linear map (with a constant) of its inputs, given its parameters.
    fn is_linear(&self) -> bool {
        true
    }
}

/// Defines [`Op`] with a variant for each operation.
macro_rules! operations {
    ($($(#[$doc:meta])* $op:ident,)*) => {
        /// An operation of a network.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $op($op),)*
        }

        $(impl From<$op> for Op {
            fn from(op: $op) -> Self {
                Self::$op(op)
            }
        })*

        /// The names of all operations.
        pub const NAMES: &[&str] = &[$(<$op as Operator>::NAME,)*];

        impl Op {
            /// The operation's name in messages.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$op(_) => <$op as Operator>::NAME,)*
                }
            }

            /// The shape of the output for inputs of these shapes.
            ///
            /// # Errors
            /// What is wrong with the inputs, in words.
            pub fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
                match self {
                    $(Self::$op(op) => op.shape(inputs),)*
                }
            }

            /// The parameters for inputs of these shapes: the end of the name, and the shape.
            pub fn params(&self, inputs: &[&Shape]) -> Vec<(&'static str, Vec<usize>)> {
                match self {
                    $(Self::$op(op) => op.params(inputs),)*
                }
            }

            /// Whether it is a linear map (with a constant) of its inputs, given its parameters.
            pub fn is_linear(&self) -> bool {
                match self {
                    $(Self::$op(op) => op.is_linear(),)*
                }
            }
        }
    };
}

operations! {
    /// The network's input.
    Input,
    /// A convolution.
    Conv,
    /// Batch norm with known mean and variance.
    BatchNorm,
    /// A linear layer.
    Linear,
    /// An activation: a site.
    Activation,
    /// A max-pooling: a site.
    MaxPool,
    /// An average pooling.
    AvgPool,
    /// Means of parts of an image, as many as are asked for.
    AdaptiveAvgPool,
    /// The mean of each channel.
    GlobalAvgPool,
    /// A sum of two values.
    Add,
    /// A product of two values.
    Mul,
    /// `scale · x + shift` with constants for each channel.
    Affine,
    /// Values joined along a dimension.
    Concat,
    /// Zeros around an image, or more channels of zeros.
    Pad,
    /// Some of the indices of a dimension.
    Slice,
    /// One row of features.
    Flatten,
    /// Other dimensions for the same numbers.
    Reshape,
    /// Another order of dimensions.
    Transpose,
    /// Dropout.
    Dropout,
}

impl Op {
    /// Whether a policy chooses the function: an activation or a max-pooling.
    pub fn is_site(&self) -> bool {
        match self {
            Self::Activation(_) => true,
            Self::MaxPool(pool) => pool.0.signs() != (0, 0),
            _ => false,
        }
    }
}

/// The only input.
fn one<'s>(inputs: &[&'s Shape]) -> Result<&'s Shape, Reason> {
    match inputs {
        [input] => Ok(input),
        _ => Err(format!("takes 1 input, not {}", inputs.len())),
    }
}

/// The only input, as channels, height and width.
fn one_image(inputs: &[&Shape]) -> Result<[usize; 3], Reason> {
    let shape = one(inputs)?;
    shape.image().ok_or_else(|| format!("takes an image [C, H, W], not {shape}"))
}

/// A shape that is not too large.
fn checked(dims: Vec<usize>) -> Result<Shape, Reason> {
    let text = format!("{dims:?}");
    Shape::new(dims).ok_or_else(|| format!("the output {text} is too large"))
}
