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

impl Cost {
    /// One multiplication of two ciphertexts.
    pub const ONE_MULTIPLICATION: Cost = Cost { depth: 1, non_scalar_multiplications: 1 };

    /// The largest degree whose cost is known.
    pub const MAX_DEGREE: usize = 63;

    /// The cost of an odd polynomial by the odd baby-step giant-step algorithm with optimal level consumption
    /// (E. Lee, J.-W. Lee, J.-S. No and Y.-S. Kim, "Minimax Approximation of Sign Function by Composite Polynomial
    /// for Homomorphic Comparison", ePrint 2020/834): depth `⌈log2(degree + 1)⌉` and the fewest non-scalar
    /// multiplications at that depth. Those of degrees up to 31 are the ones that the paper lists.
    ///
    /// `None` for an even degree or one above 63. Degree 1 costs a level and no non-scalar multiplication.
    pub fn of_odd_polynomial(degree: usize) -> Option<Cost> {
        if degree.is_multiple_of(2) || degree > Self::MAX_DEGREE {
            return None;
        }
        Some(of_long_odd_polynomial(degree))
    }
}

/// The cost of a polynomial of this degree that need be neither odd nor even, by baby steps and giant steps: depth
/// `⌈log2(degree + 1)⌉`. Computed first are `x, x², …, x^(2^l − 1)` and `x^(2^l), x^(2^(l + 1)), …`; then the polynomial
/// is split at the largest giant step, `p = q · x^g + r`, and so are its parts.
pub(crate) fn of_general_polynomial(degree: usize) -> Cost {
    if degree == 0 {
        return Cost::default();
    }
    let depth = (degree + 1).next_power_of_two().ilog2();
    /// Products with giant steps for a polynomial of this degree.
    fn products(degree: usize, baby_steps: usize) -> u32 {
        if degree < baby_steps {
            return 0;
        }
        let giant = 1 << degree.ilog2();
        products(degree - giant, baby_steps) + products(giant - 1, baby_steps) + 1
    }
    let multiplications = (1..=depth).map(|l| {
        let powers = (1 << l) - 2 + (depth - l);
        powers + products(degree, 1 << l)
    });
    let fewest = multiplications.min().expect("there is at least one way");
    Cost { depth, non_scalar_multiplications: fewest }
}

/// The cost of an odd polynomial of any degree, as [`Cost::of_odd_polynomial`].
pub(crate) fn of_long_odd_polynomial(degree: usize) -> Cost {
    let depth = (degree + 1).next_power_of_two().ilog2();
    let non_scalar_multiplications = if degree == 1 { 0 } else { bsgs_multiplications(degree, depth) };
    Cost { depth, non_scalar_multiplications }
}

/// The fewest non-scalar multiplications for an odd polynomial at this depth.
///
/// Computed first are the baby steps `x, x³, …, x^(2^l − 1)` and the giant steps `x², x⁴, …, x^(2^(m − 1))`:
/// `2^(l−1) − 1` and `m − 1` multiplications, where `l ≤ m`, so that baby steps come from giant ones. Then a polynomial `p` of degree `i` is split at a giant step
/// `g = 2^k`, `p = q · x^g + r`, where `q` is odd of degree `i − g` and has to be ready a level earlier, and `r` is
/// odd of degree `g − 1`. Where the powers are at hand in time (`x^i` takes `⌈log2 i⌉` levels, its coefficient one
/// more), a polynomial is a sum of baby steps, without a multiplication.
fn bsgs_multiplications(degree: usize, depth: u32) -> u32 {
    const IMPOSSIBLE: u32 = u32::MAX / 4;
    let levels = depth as usize;
    let mut fewest = IMPOSSIBLE;
    for (l, m) in (1..=levels).flat_map(|l| (l..=levels).map(move |m| (l, m))) {
        // At [level][i]: multiplications for a polynomial of degree i that is ready at this level.
        let mut count = vec![vec![IMPOSSIBLE; degree + 1]; levels + 1];
        for level in 1..=levels {
            for i in (1..=degree).step_by(2) {
                let is_baby = i < 1 << l && i <= 1 << (level - 1);
                // x^(2^k) is ready at level k; the product with it is ready at `level`.
                let splits = (1..m).filter(|&k| k < level && 1 << k < i);
                let by_split =
                    splits.map(|k| count[level - 1][i - (1 << k)] + count[level][(1 << k) - 1] + 1).min();
                count[level][i] = if is_baby { 0 } else { by_split.unwrap_or(IMPOSSIBLE).min(IMPOSSIBLE) };
            }
        }
        let powers = (1 << (l - 1)) + m as u32 - 2;
        fewest = fewest.min(powers + count[levels][degree]);
    }
    fewest
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
    fn general_polynomials_cost_what_can_be_counted_by_hand() {
        // 2: x². 3: x² and x³, or x² and one product. 7: x², x³, x⁴ and one product.
        for (degree, cost) in [(0, (0, 0)), (1, (1, 0)), (2, (2, 1)), (3, (2, 2)), (7, (3, 4))] {
            let found = of_general_polynomial(degree);
            assert_eq!((found.depth, found.non_scalar_multiplications), cost, "degree {degree}");
        }
        // At least √(2 degree) products are needed (Paterson and Stockmeyer, SIAM J. Comput. 2, 1973), and about twice
        // that many are enough.
        for degree in 2..=127u32 {
            let cost = of_general_polynomial(degree as usize).non_scalar_multiplications;
            let root = f64::from(degree).sqrt();
            assert!(f64::from(cost) >= root - 1.0 && f64::from(cost) < 2.0 * root + 7.0, "{degree}: {cost}");
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
}
