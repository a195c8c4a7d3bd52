//! What a polynomial costs under homomorphic encryption.

use std::ops::Add;
use std::sync::OnceLock;

use crate::plan::EvaluationPlan;

/// Multiplicative depth and number of non-scalar multiplications of a homomorphic evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Cost {
    /// Levels consumed: multiplications in sequence, those by a constant included.
    pub depth: u32,
    /// Multiplications of two ciphertexts, by far the dearest operation.
    pub non_scalar_multiplications: u32,
}

impl Cost {
    /// One multiplication of two ciphertexts.
    pub const ONE_MULTIPLICATION: Cost = Cost { depth: 1, non_scalar_multiplications: 1 };

    /// The largest degree of a component of a composition.
    pub const MAX_DEGREE: usize = 63;

    /// The cost of an odd polynomial, counted from the steps of its [`EvaluationPlan`] (E. Lee, J.-W. Lee, J.-S. No and
    /// Y.-S. Kim, "Minimax Approximation of Sign Function by Composite Polynomial for Homomorphic Comparison", ePrint
    /// 2020/834): depth `⌈log2(degree + 1)⌉` and the fewest non-scalar multiplications at that depth. Those of degrees up
    /// to 31 are the ones that the paper lists.
    ///
    /// `None` for an even degree or one above 63. Degree 1 costs a level and no non-scalar multiplication.
    pub fn of_odd_polynomial(degree: usize) -> Option<Cost> {
        static COSTS: [OnceLock<Cost>; Cost::MAX_DEGREE.div_ceil(2)] =
            [const { OnceLock::new() }; Cost::MAX_DEGREE.div_ceil(2)];
        if degree.is_multiple_of(2) || degree > Self::MAX_DEGREE {
            return None;
        }
        let count = || {
            let odd: Vec<f64> = (0..=degree).map(|order| (order % 2) as f64).collect();
            EvaluationPlan::of_polynomial(&odd).expect("two finite coefficients").cost()
        };
        Some(*COSTS[degree / 2].get_or_init(count))
    }
}

impl Add for Cost {
    type Output = Cost;

    /// The cost of one evaluation after the other.
    fn add(self, other: Cost) -> Cost {
        Cost {
            depth: self.depth + other.depth,
            non_scalar_multiplications: self.non_scalar_multiplications + other.non_scalar_multiplications,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_the_logarithm_of_the_degree_rounded_up() {
        for (degree, depth) in [
            (1, 1),
            (3, 2),
            (5, 3),
            (7, 3),
            (9, 4),
            (13, 4),
            (15, 4),
            (17, 5),
            (27, 5),
            (31, 5),
            (33, 6),
            (63, 6),
        ] {
            assert_eq!(Cost::of_odd_polynomial(degree).unwrap().depth, depth, "degree {degree}");
        }
        for degree in [0, 2, 30, 64, 65] {
            assert_eq!(Cost::of_odd_polynomial(degree), None, "degree {degree}");
        }
    }

    #[test]
    fn multiplications_up_to_degree_31_are_the_papers() {
        let listed = [2, 3, 5, 5, 6, 7, 8, 8, 8, 9, 9, 10, 10, 11, 12];
        for (degree, multiplications) in (3..=31).step_by(2).zip(listed) {
            let cost = Cost::of_odd_polynomial(degree).unwrap();
            assert_eq!(cost.non_scalar_multiplications, multiplications, "degree {degree}");
        }
    }

    /// docs/coefficients.md has them.
    #[test]
    fn multiplications_from_degree_33_on_are_those_that_are_documented() {
        let listed = [11, 11, 11, 11, 12, 12, 13, 13, 14, 14, 14, 14, 15, 15, 16, 17];
        for (degree, multiplications) in (33..=63).step_by(2).zip(listed) {
            let cost = Cost::of_odd_polynomial(degree).unwrap();
            assert_eq!(cost.non_scalar_multiplications, multiplications, "degree {degree}");
        }
    }
}
