//! A composition as engines of homomorphic encryption evaluate it: in the Chebyshev basis, on `[-1, 1]`.

use crate::real::{Big, Real, big, bits_of_digits, from_decimal};
use crate::tables::{Table, TableError};

/// Digits of the change of basis, in which terms of up to 1e20 cancel.
const DIGITS: u32 = 80;

/// `s = c_k ∘ … ∘ c_1` with every `c_i` in the Chebyshev basis of `[-1, 1]` and, but for the last, with values in
/// `[-1, 1]`: `c_i(z) = p_i(r_i z) / r_(i+1)`, where `r_1 = 1` and `r_(i+1)` is the largest absolute value that the
/// next component may see, `eta` included. So no multiplication, and no level, is spent on scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Of each component, in order of application, the coefficients of `T_0, T_1, …`; those of even order are 0.
    pub components: Vec<Vec<f64>>,
    /// `r_1, r_2, …`.
    pub radii: Vec<f64>,
}

impl Chain {
    /// The chain of a table with the margin `eta`; each coefficient is computed with 80 digits and rounded once.
    ///
    /// # Errors
    /// [`TableError`] if the table is no composition of odd polynomials.
    pub fn new(table: &Table, eta: f64) -> Result<Self, TableError> {
        let composite = table.composite()?;
        let bits = bits_of_digits(DIGITS);
        let radii: Vec<f64> = composite
            .input_radii()
            .iter()
            .enumerate()
            .map(|(i, r)| if i == 0 { 1.0 } else { r + eta })
            .collect();
        let components = table.components().iter().enumerate().map(|(i, component)| {
            let radius = big(radii[i], bits);
            let mut scale = big(1.0, bits) / &big(radii.get(i + 1).copied().unwrap_or(1.0), bits);
            let scaled = component.iter().enumerate().map(|(power, c)| {
                let value = if power % 2 == 0 { big(0.0, bits) } else { from_decimal(c, bits) * &scale };
                scale = scale.clone() * &radius;
                value
            });
            let scaled: Vec<Big> = scaled.collect();
            chebyshev_from_power(&scaled).iter().map(Real::as_f64).collect()
        });
        Ok(Self { components: components.collect(), radii })
    }

    /// `s(x)` for `|x| ≤ 1`, by Clenshaw's recurrence in float64.
    pub fn eval(&self, x: f64) -> f64 {
        self.components.iter().fold(x, |x, c| clenshaw(c, x))
    }

    /// As [`Chain::eval`], in float32 with each coefficient rounded to float32.
    pub fn eval_f32(&self, x: f32) -> f32 {
        self.components.iter().fold(x, |x, c| {
            let (b1, b2) =
                c[1..].iter().rev().fold((0.0, 0.0), |(b1, b2), &c| (c as f32 + 2.0 * x * b1 - b2, b1));
            c[0] as f32 + x * b1 - b2
        })
    }
}

/// Coefficients of `1, x, x², …` to those of `T_0, T_1, T_2, …`, by Horner's rule with polynomials:
/// `x T_k = (T_(k+1) + T_|k−1|) / 2`.
fn chebyshev_from_power(power: &[Big]) -> Vec<Big> {
    let zero = power[0].lift(0.0);
    let half = power[0].lift(0.5);
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

/// `Σ c_k T_k(x)`.
pub fn clenshaw(c: &[f64], x: f64) -> f64 {
    let (b1, b2) = c[1..].iter().rev().fold((0.0, 0.0), |(b1, b2), &c| (c + 2.0 * x * b1 - b2, b1));
    c[0] + x * b1 - b2
}
