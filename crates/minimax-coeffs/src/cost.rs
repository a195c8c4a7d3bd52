//! What a polynomial costs under homomorphic encryption.

use std::ops::Add;

/// Multiplicative depth and number of non-scalar multiplications of a homomorphic evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Cost {
    /// Levels consumed: multiplications in sequence, those by a constant included.
    pub depth: u32,
    /// Multiplications of two ciphertexts, by far the dearest operation.
    pub non_scalar_multiplications: u32,
}

/// Non-scalar multiplications of odd degrees 3, 5, …, 31 at least depth.
const ODD_BSGS_MULTIPLICATIONS: [u32; 15] = [2, 3, 5, 5, 6, 7, 8, 8, 8, 9, 9, 10, 10, 11, 12];

impl Cost {
    /// One multiplication of two ciphertexts.
    pub const ONE_MULTIPLICATION: Cost = Cost { depth: 1, non_scalar_multiplications: 1 };

    /// The cost of an odd polynomial by the odd baby-step giant-step algorithm with optimal level consumption:
    /// depth `⌈log2(degree + 1)⌉`, and the non-scalar multiplications listed by E. Lee, J.-W. Lee, J.-S. No and
    /// Y.-S. Kim, "Minimax Approximation of Sign Function by Composite Polynomial for Homomorphic Comparison"
    /// (ePrint 2020/834), for degrees up to 31.
    ///
    /// `None` for an even degree or one above 31. Degree 1 costs a level and no non-scalar multiplication.
    pub fn of_odd_polynomial(degree: usize) -> Option<Cost> {
        if degree.is_multiple_of(2) || degree > 31 {
            return None;
        }
        let non_scalar_multiplications = match degree {
            1 => 0,
            _ => ODD_BSGS_MULTIPLICATIONS[(degree - 3) / 2],
        };
        Some(Cost {
            depth: (degree + 1).ilog2() + u32::from(!(degree + 1).is_power_of_two()),
            non_scalar_multiplications,
        })
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
        for (degree, depth) in
            [(1, 1), (3, 2), (5, 3), (7, 3), (9, 4), (13, 4), (15, 4), (17, 5), (27, 5), (31, 5)]
        {
            assert_eq!(Cost::of_odd_polynomial(degree).unwrap().depth, depth, "degree {degree}");
        }
        for degree in [0, 2, 30, 33] {
            assert_eq!(Cost::of_odd_polynomial(degree), None, "degree {degree}");
        }
    }
}
