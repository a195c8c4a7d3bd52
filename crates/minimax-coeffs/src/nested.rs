//! A form of an odd polynomial that float32 evaluates accurately.

use crate::polynomial::{OddPolynomial, substitute_affine};

/// An odd polynomial on `[-radius, radius]`, arranged as
///
/// ```text
/// p(x) = x · (even(u) + t · odd(u)),   t = 2 (x / radius)² − 1,   u = 2 t² − 1
/// ```
///
/// with `even` and `odd` in the power basis. `t` and `u` are `T_2(x / radius)` and `T_4(x / radius)`: both run
/// over `[-1, 1]`, so that no power grows, and the two halvings of the degree keep the coefficients small.
///
/// # Accuracy
/// In the plain power basis the published tables have alternating coefficients of up to 1e5 and float32 loses
/// everything. Here the sum of the coefficients' absolute values is below 200, and evaluating all components
/// of alpha 14 in float32 puts ReLU off by at most 1.3e-6 · B, as little as the Chebyshev basis does with twice
/// the operations (docs/numerics.md).
#[derive(Debug, Clone, PartialEq)]
pub struct NestedForm {
    radius: f64,
    even: Vec<f64>,
    odd: Vec<f64>,
}

impl NestedForm {
    /// Rearranges `polynomial` for arguments of at most `radius`.
    ///
    /// # Panics
    /// If `radius` is not positive and finite.
    pub fn new(polynomial: &OddPolynomial, radius: f64) -> Self {
        assert!(radius > 0.0 && radius.is_finite(), "the radius must be positive, not {radius}");
        // q(y) with p(x) = x q(x²); y = radius² (1 + t) / 2; then t² = (1 + u) / 2.
        let half = radius * radius / 2.0;
        let in_t = substitute_affine(polynomial.odd_coefficients(), half, half);
        let half_of = |parity: usize| {
            let terms: Vec<f64> = in_t.iter().copied().skip(parity).step_by(2).collect();
            substitute_affine(&terms, 0.5, 0.5)
        };
        let mut odd = half_of(1);
        if odd.is_empty() {
            odd.push(0.0);
        }
        Self { radius, even: half_of(0), odd }
    }

    /// The largest argument that the form is meant for.
    pub fn radius(&self) -> f64 {
        self.radius
    }

    /// Coefficients of `1, u, u², …` in the part that is even in `t`.
    pub fn even(&self) -> &[f64] {
        &self.even
    }

    /// Coefficients of `1, u, u², …` in the part that is multiplied by `t`.
    pub fn odd(&self) -> &[f64] {
        &self.odd
    }

    /// The value at `x`.
    pub fn eval(&self, x: f64) -> f64 {
        let horner = |c: &[f64], u: f64| c.iter().rev().fold(0.0, |sum, c| sum * u + c);
        let z = x / self.radius;
        let t = 2.0 * z * z - 1.0;
        let u = 2.0 * t * t - 1.0;
        x * (horner(&self.even, u) + t * horner(&self.odd, u))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Alpha, CompositeSign};

    #[test]
    fn nested_form_equals_the_published_polynomial() {
        for alpha in Alpha::all() {
            let sign = CompositeSign::published(alpha);
            for (p, &radius) in sign.components().iter().zip(sign.input_radii()) {
                let nested = NestedForm::new(p, radius);
                let size: f64 = nested.even().iter().chain(nested.odd()).map(|c| c.abs()).sum();
                assert!(size < 200.0, "alpha {alpha}: coefficients sum to {size}");
                // What float64 itself loses in the power basis: its terms are up to 1e9 and cancel.
                let terms: f64 = (p.power_basis().iter().enumerate())
                    .map(|(power, c)| c.abs() * radius.powi(power as i32))
                    .sum();
                for i in -1000..=1000 {
                    let x = radius * f64::from(i) / 1000.0;
                    let difference = (nested.eval(x) - p.eval(x)).abs();
                    assert!(difference < 1e-12 + 1e-16 * terms, "alpha {alpha}, x {x}: {difference:e}");
                }
            }
        }
    }

    #[test]
    fn degree_one_has_a_nested_form() {
        let p = OddPolynomial::new(vec![3.0]);
        assert_eq!(NestedForm::new(&p, 2.0).eval(1.5), 4.5);
    }
}
