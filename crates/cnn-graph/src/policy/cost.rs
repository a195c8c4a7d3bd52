//! What an approximation costs at a site, and what those of a network do.

use minimax_coeffs::smooth::{SmoothError, approximate};
use minimax_coeffs::{ActivationFunction, Cost, SmoothApproximation};

use std::collections::HashMap;

use super::{ActivationPolicy, Composition, SiteKind, SitePolicy};
use crate::graph::Graph;
use crate::ops::Op;
use crate::passes::longest_path;

impl SitePolicy {
    /// What one evaluation costs at a node with this operation, as [`Composition::cost_at`]; nothing where that is no site,
    /// or where it is exact.
    ///
    /// # Errors
    /// As there.
    pub fn cost_at(&self, op: &Op) -> Result<Cost, SmoothError> {
        Ok(match self {
            Self::Exact => Cost::default(),
            Self::Square => Cost::ONE_MULTIPLICATION,
            // The square's coefficient takes a level more.
            Self::ReluAq => Cost { depth: 2, non_scalar_multiplications: 1 },
            Self::Minimax { composition, bound } => composition.cost_at(op, *bound)?,
            Self::Fitted(fitted) => fitted.polynomial().cost(),
        })
    }
}

impl ActivationPolicy {
    /// What all activations of a network cost: the levels of those that a value goes through, of the longest way, and the
    /// products of all, each on one ciphertext. Linear layers are not counted.
    ///
    /// # Errors
    /// The site's name and [`SmoothError`], as [`Composition::cost_at`].
    pub fn cost(&self, graph: &Graph) -> Result<Cost, (String, SmoothError)> {
        let mut costs: HashMap<&str, Cost> = HashMap::new();
        for (_, node) in graph.sites() {
            let cost = self.at(&node.name, SiteKind::of(&node.op)).cost_at(&node.op);
            costs.insert(&node.name, cost.map_err(|error| (node.name.clone(), error))?);
        }
        Ok(Cost {
            depth: longest_path(graph, |node| costs.get(&*node.name).map_or(0, |cost| cost.depth)),
            non_scalar_multiplications: costs.values().map(|cost| cost.non_scalar_multiplications).sum(),
        })
    }
}

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
