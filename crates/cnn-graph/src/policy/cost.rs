//! What an approximation costs at a site.

use minimax_coeffs::smooth::{SmoothError, approximate};
use minimax_coeffs::{ActivationFunction, Cost, SmoothApproximation};

use super::Composition;
use crate::ops::Op;

impl Composition {
    /// What one evaluation of the approximation on `[-bound, bound]` costs at a node with this operation; nothing where
    /// that is no site.
    ///
    /// For a max-pooling it is the cost of the tournament that leads to one output: 2 maxima in sequence and 3 in all for
    /// a window of 2×2, 4 and 8 for one of 3×3.
    ///
    /// ```
    /// use cnn_graph::ops::{Activation, Op};
    /// use cnn_graph::policy::Composition;
    /// use minimax_coeffs::Alpha;
    ///
    /// let composition = Composition::published(Alpha::MAX);
    /// assert_eq!(composition.cost_at(&Op::Activation(Activation::Relu), 50.0)?.depth, 15);
    /// assert_eq!(composition.cost_at(&Op::Activation(Activation::HardSwish), 50.0)?.depth, 16);
    /// # Ok::<(), minimax_coeffs::SmoothError>(())
    /// ```
    ///
    /// # Errors
    /// [`SmoothError`] for a smooth function that no polynomial of a supported degree is that near to on this range.
    pub fn cost_at(&self, op: &Op, bound: f64) -> Result<Cost, SmoothError> {
        let one = self.sign().relu_cost();
        Ok(match op {
            Op::Activation(function) => match function.piecewise() {
                Some(sum) => sum.cost(self.sign(), bound),
                None => {
                    self.smooth(*function, bound)?.map_or_else(Cost::default, |polynomial| polynomial.cost())
                }
            },
            Op::MaxPool(pool) => {
                let (in_sequence, in_all) = pool.0.signs();
                Cost {
                    depth: in_sequence * one.depth,
                    non_scalar_multiplications: in_all * one.non_scalar_multiplications,
                }
            }
            _ => Cost::default(),
        })
    }

    /// The polynomial of a smooth function on `[-bound, bound]` with this precision; `None` for other functions.
    ///
    /// # Errors
    /// [`SmoothError`] where no polynomial of a supported degree is that near.
    pub fn smooth(
        &self,
        function: ActivationFunction,
        bound: f64,
    ) -> Result<Option<SmoothApproximation>, SmoothError> {
        function.smooth().map(|smooth| approximate(smooth, bound, self.bits())).transpose()
    }
}
