//! Odd polynomials in float64.

use crate::cost::Cost;
use crate::real::Real;

/// An odd polynomial `c_0 x + c_1 x³ + … + c_n x^(2n+1)` with float64 coefficients.
#[derive(Debug, Clone, PartialEq)]
pub struct OddPolynomial {
    odd: Vec<f64>,
}

impl OddPolynomial {
    /// The polynomial with these coefficients of `x, x³, x⁵, …`.
    ///
    /// # Panics
    /// If there are none, or one is not finite.
    pub fn new(odd: Vec<f64>) -> Self {
        assert!(!odd.is_empty(), "an odd polynomial needs at least one coefficient");
        assert!(odd.iter().all(|c| c.is_finite()), "coefficients must be finite");
        Self { odd }
    }

    /// The coefficients of `x, x³, x⁵, …`.
    pub fn odd_coefficients(&self) -> &[f64] {
        &self.odd
    }

    /// The degree, an odd number.
    pub fn degree(&self) -> usize {
        2 * self.odd.len() - 1
    }

    /// What one homomorphic evaluation costs; `None` for a degree that [`Cost::of_odd_polynomial`] does not
    /// list.
    pub fn cost(&self) -> Option<Cost> {
        Cost::of_odd_polynomial(self.degree())
    }

    /// The value at `x`, by Horner's rule in `x²`.
    pub fn eval(&self, x: f64) -> f64 {
        let y = x * x;
        x * self.odd.iter().rev().fold(0.0, |sum, c| sum * y + c)
    }

    /// Value and derivative at `x`.
    pub fn eval_with_derivative(&self, x: f64) -> (f64, f64) {
        let y = x * x;
        // q(y) = p(x) / x, so p'(x) = q(y) + 2 y q'(y).
        let (q, dq) = self.odd.iter().rev().fold((0.0, 0.0), |(q, dq), c| (q * y + c, dq * y + q));
        (x * q, q + 2.0 * y * dq)
    }

    /// Coefficients in the power basis: entry `k` belongs to `x^k`, even ones are zero.
    pub fn power_basis(&self) -> Vec<f64> {
        self.odd.iter().flat_map(|&c| [0.0, c]).collect()
    }

    /// Coefficients in the Chebyshev basis on `[-radius, radius]`: entry `k` belongs to `T_k(x / radius)`,
    /// even ones are zero.
    ///
    /// # Accuracy
    /// As for [`OddPolynomial::eval`], the rounding error is about `1e-16 · Σ |c_k| radius^k`. That sum is below
    /// 1e8 for all published components but the second of alpha 14, where it is 7e9 (error below 1e-6, which
    /// the third component then flattens to below 2e-8).
    pub fn chebyshev_basis(&self, radius: f64) -> Vec<f64> {
        scaled_chebyshev(&self.power_basis(), &radius, &1.0)
    }

    /// The largest `|p(x)|` for `|x| ≤ radius`, found on a dense grid and rounded up by 2^-20 of itself; NaN where float64
    /// has no number for a value.
    pub fn max_abs_on(&self, radius: f64) -> f64 {
        const STEPS: u32 = 1 << 15;
        // Nodes cos(i π / 2n) crowd where a polynomial of high degree moves fastest: at the end point.
        let largest = (0..=STEPS)
            .map(|i| {
                let angle = std::f64::consts::FRAC_PI_2 * f64::from(i) / f64::from(STEPS);
                self.eval(radius * angle.cos()).abs()
            })
            .fold(
                0.0,
                |max: f64, value| if value.is_nan() || max.is_nan() { f64::NAN } else { max.max(value) },
            );
        largest * (1.0 + (-20f64).exp2())
    }
}

/// The coefficients of `p(radius · z) / next_radius` in the Chebyshev basis, for `p` in the power basis, in the precision
/// that it comes in.
pub(crate) fn scaled_chebyshev<T: Real>(power: &[T], radius: &T, next_radius: &T) -> Vec<T> {
    let mut scale = radius.lift(1.0) / next_radius;
    let scaled = power.iter().map(|c| {
        let term = c.clone() * &scale;
        scale = scale.clone() * radius;
        term
    });
    chebyshev_from_power(&scaled.collect::<Vec<_>>())
}

/// Coefficients of `1, x, x², …` to those of `T_0, T_1, T_2, …`, by Horner's rule with polynomials:
/// `x T_k = (T_(k+1) + T_|k−1|) / 2`.
fn chebyshev_from_power<T: Real>(power: &[T]) -> Vec<T> {
    let (zero, half) = (power[0].lift(0.0), power[0].lift(0.5));
    let mut result = vec![zero.clone(); power.len()];
    for c in power.iter().rev() {
        let mut next = vec![zero.clone(); power.len()];
        for (k, r) in result.iter().enumerate().filter(|(_, r)| **r != zero) {
            if k == 0 {
                next[1] = next[1].clone() + r;
            } else {
                let r = r.clone() * &half;
                next[k - 1] = next[k - 1].clone() + &r;
                next[k + 1] = next[k + 1].clone() + &r;
            }
        }
        next[0] = next[0].clone() + c;
        result = next;
    }
    result
}

/// The coefficients of `P(offset + slope · s)` in `s`, for `P` in the power basis.
pub(crate) fn substitute_affine(power: &[f64], offset: f64, slope: f64) -> Vec<f64> {
    let mut result = vec![0.0; power.len()];
    for &c in power.iter().rev() {
        for k in (0..result.len()).rev() {
            let below = if k == 0 { 0.0 } else { result[k - 1] };
            result[k] = result[k] * offset + below * slope;
        }
        result[0] += c;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::clenshaw;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_forms_of_a_polynomial_agree(
            odd in prop::collection::vec(-3.0..3.0f64, 1..16), radius in 0.5..2.0f64, z in -1.0..1.0f64,
        ) {
            let p = OddPolynomial::new(odd);
            let x = radius * z;
            let size: f64 = p.odd_coefficients().iter().enumerate()
                .map(|(k, c)| c.abs() * radius.powi(2 * k as i32 + 1)).sum();
            let value = p.eval(x);
            let tolerance = 1e-13 * (1.0 + size);
            prop_assert_eq!(p.eval(-x), -value);
            prop_assert!((clenshaw(&p.chebyshev_basis(radius), z) - value).abs() < tolerance);
            let by_powers: f64 = p.power_basis().iter().enumerate().map(|(k, c)| c * x.powi(k as i32)).sum();
            prop_assert!((by_powers - value).abs() < tolerance);
            prop_assert!(value.abs() <= p.max_abs_on(radius) * (1.0 + 1e-6));
        }

        #[test]
        fn derivative_is_that_of_finite_differences(
            odd in prop::collection::vec(-3.0..3.0f64, 1..8), x in -1.0..1.0f64,
        ) {
            let p = OddPolynomial::new(odd);
            let h = 1e-5;
            let numeric = (p.eval(x + h) - p.eval(x - h)) / (2.0 * h);
            let (value, derivative) = p.eval_with_derivative(x);
            prop_assert_eq!(value, p.eval(x));
            prop_assert!((numeric - derivative).abs() < 1e-5, "{} {}", numeric, derivative);
        }
    }
}
