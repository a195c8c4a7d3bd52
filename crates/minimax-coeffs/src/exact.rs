//! Polynomials in exact binary arithmetic, and rigorous bounds of them.
//!
//! Float64 coefficients at binary fractions have values that are binary fractions again: nothing is rounded until
//! a bound is told, and then it is rounded away from the value.

use dashu_float::FBig;
use dashu_float::round::mode::{Down, Up, Zero};

/// A binary fraction without an error: additions and multiplications keep all digits.
pub type Exact = FBig<Zero, 2>;

/// Bits after the binary point of the ends of intervals, which are rounded outwards.
const POSITION_BITS: isize = 48;
/// More than all rounding errors together of a sum of 64 positive products in float64.
const SLACK: f64 = 1.0 + 1e-12;

/// `x` itself.
///
/// # Panics
/// If `x` is not finite.
pub fn exact(x: f64) -> Exact {
    assert!(x.is_finite());
    Exact::try_from(x).expect("finite").with_precision(0).value()
}

/// The largest multiple of `2^-bits` that is at most `x`.
pub fn floor(x: Exact, bits: isize) -> Exact {
    let rounded = x.with_rounding::<Down>().quantize(-bits).value();
    rounded.with_rounding::<Zero>().with_precision(0).value()
}

/// The smallest multiple of `2^-bits` that is at least `x`.
pub fn ceil(x: Exact, bits: isize) -> Exact {
    let rounded = x.with_rounding::<Up>().quantize(-bits).value();
    rounded.with_rounding::<Zero>().with_precision(0).value()
}

/// A float64 that is at most `x`.
pub fn below(x: &Exact) -> f64 {
    x.to_f64().value().next_down()
}

/// A float64 that is at least `x`.
pub fn above(x: &Exact) -> f64 {
    x.to_f64().value().next_up()
}

/// An upper bound of `|x|`.
fn size(x: &Exact) -> f64 {
    let x = x.to_f64().value().abs();
    if x == 0.0 { 0.0 } else { x.next_up() }
}

/// A polynomial with exact coefficients, constant term first.
#[derive(Debug, Clone)]
pub struct ExactPolynomial(Vec<Exact>);

/// What is known of a polynomial on a cell `|x − middle| ≤ radius`.
pub struct Cell {
    /// A lower bound.
    pub lower: f64,
    /// An upper bound.
    pub upper: f64,
    /// The value at the middle, to float64 precision.
    pub value: f64,
}

/// A polynomial that cannot be bounded as closely as asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TooManyCells;

impl ExactPolynomial {
    /// The odd polynomial with these coefficients of `x, x³, …`.
    pub fn odd(odd: &[f64]) -> Self {
        Self(odd.iter().flat_map(|&c| [exact(0.0), exact(c)]).collect())
    }

    /// The derivative.
    pub fn derivative(&self) -> Self {
        Self(self.0.iter().enumerate().skip(1).map(|(k, c)| c * exact(k as f64)).collect())
    }

    /// The value at `x`, by Horner's rule.
    pub fn eval(&self, x: &Exact) -> Exact {
        self.0.iter().rev().fold(exact(0.0), |sum, c| sum * x + c)
    }

    /// Bounds by the Taylor polynomial in the middle: its quadratic part exactly, the rest by absolute values.
    fn cell(&self, middle: &Exact, radius: f64) -> Cell {
        let mut c = self.0.clone();
        for start in 0..c.len() {
            for k in (start..c.len() - 1).rev() {
                c[k] = &c[k] + &c[k + 1] * middle;
            }
        }
        let mut power = radius * radius;
        let mut rest = 0.0;
        for c in c.iter().skip(3) {
            power *= radius;
            rest += size(c) * power;
        }
        let linear = c.get(1).map_or(0.0, size) * radius;
        let (rise, fall) = match c.get(2) {
            None => (linear, linear),
            Some(c2) => {
                let square = size(c2) * radius * radius;
                // c1 u + c2 u² is nowhere beyond its vertex, c1² / 4|c2| away.
                let smallest = c2.to_f64().value().abs().next_down();
                let vertex = size(&c[1]) * size(&c[1]) / (4.0 * smallest);
                let bounded = if smallest > 0.0 { linear.min(vertex) } else { linear };
                if *c2 > exact(0.0) { (linear + square, bounded) } else { (bounded, linear + square) }
            }
        };
        let (rise, fall) = ((rise + rest) * SLACK, (fall + rest) * SLACK);
        Cell {
            lower: (below(&c[0]) - fall).next_down(),
            upper: (above(&c[0]) + rise).next_up(),
            value: c[0].to_f64().value(),
        }
    }

    /// Divides `[left, right]`, rounded outwards, until every cell is `fine`.
    ///
    /// # Errors
    /// [`TooManyCells`].
    pub fn subdivide(
        &self,
        left: f64,
        right: f64,
        mut fine: impl FnMut(&Cell) -> bool,
    ) -> Result<(), TooManyCells> {
        const MOST_CELLS: usize = 50_000;
        let half = exact(0.5);
        let mut waiting = vec![(floor(exact(left), POSITION_BITS), ceil(exact(right), POSITION_BITS))];
        let mut cells = 0;
        while let Some((left, right)) = waiting.pop() {
            let middle = (&left + &right) * &half;
            let radius = above(&((&right - &left) * &half));
            cells += 1;
            if cells > MOST_CELLS {
                return Err(TooManyCells);
            }
            if !fine(&self.cell(&middle, radius)) {
                waiting.push((left, middle.clone()));
                waiting.push((middle, right));
            }
        }
        Ok(())
    }

    /// A lower and an upper bound on `[left, right]`, each within `tolerance` of the truth.
    ///
    /// # Errors
    /// [`TooManyCells`].
    pub fn range(&self, left: f64, right: f64, tolerance: f64) -> Result<[f64; 2], TooManyCells> {
        const SAMPLES: u32 = 200;
        let samples = (0..=SAMPLES).map(|i| left + (right - left) * f64::from(i) / f64::from(SAMPLES));
        let values = samples.map(|x| self.eval(&exact(x)).to_f64().value());
        let (mut least, mut most) = values.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        let (mut lower, mut upper) = (least, most);
        self.subdivide(left, right, |cell| {
            (least, most) = (least.min(cell.value), most.max(cell.value));
            let fine = cell.lower >= least - tolerance && cell.upper <= most + tolerance;
            if fine {
                (lower, upper) = (lower.min(cell.lower), upper.max(cell.upper));
            }
            fine
        })?;
        Ok([lower, upper])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sums_and_products_keep_all_digits() {
        let (large, small) = (exact(1e300), exact(3e-300));
        assert_eq!(&large + &small - &large, small);
        let product = &(&large + &small) * &(&large - &small);
        assert_eq!(product, &large * &large - &small * &small);
        assert_eq!(floor(exact(-0.3), 1), exact(-0.5));
        assert_eq!(ceil(exact(-0.3), 1), exact(0.0));
        assert_eq!(floor(exact(0.3), 2), exact(0.25));
        assert_eq!(ceil(exact(0.3), 2), exact(0.5));
        assert!(exact(below(&exact(0.1))) < exact(0.1) && exact(above(&exact(0.1))) > exact(0.1));
    }

    #[test]
    fn the_range_of_a_chebyshev_polynomial_is_known() {
        // T_9 has the range [-1, 1] on [0, 1].
        let t9 = ExactPolynomial::odd(&[9.0, -120.0, 432.0, -576.0, 256.0]);
        let [lower, upper] = t9.range(0.0, 1.0, 1e-9).unwrap();
        assert!(lower <= -1.0 && lower > -1.0 - 2e-9, "{lower}");
        assert!((1.0..1.0 + 2e-9).contains(&upper), "{upper}");
    }

    proptest! {
        #[test]
        fn ranges_contain_all_values_and_little_more(
            odd in prop::collection::vec(-30.0..30.0f64, 1..10), left in 0.0..0.8f64, width in 0.01..0.7f64,
        ) {
            let p = ExactPolynomial::odd(&odd);
            let [lower, upper] = p.range(left, left + width, 1e-6).unwrap();
            let values = (0..=2000).map(|i| p.eval(&exact(left + width * f64::from(i) / 2000.0)));
            let values: Vec<Exact> = values.collect();
            prop_assert!(values.iter().all(|v| exact(lower) <= *v && *v <= exact(upper)));
            let (least, most) = (values.iter().min().unwrap(), values.iter().max().unwrap());
            let grid = 2e-4 * odd.len().pow(3) as f64;
            prop_assert!(exact(upper) < most + exact(grid) && exact(lower) > least - exact(grid));
        }
    }
}
