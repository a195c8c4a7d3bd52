//! A composition as engines of homomorphic encryption evaluate it: in the Chebyshev basis, on `[-1, 1]`.

use crate::composite::CompositeSign;
use crate::polynomial::scaled_chebyshev;

/// Digits of the change of basis, in which terms of up to 1e20 cancel.
#[cfg(feature = "generate")]
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
    /// The chain of a composition with the margin `eta`, computed in float64 with the accuracy of
    /// [`OddPolynomial::chebyshev_basis`](crate::OddPolynomial::chebyshev_basis).
    pub fn of_sign(sign: &CompositeSign, eta: f64) -> Self {
        let radii = radii(sign, eta);
        let scaled = sign.components().iter().enumerate().map(|(i, component)| {
            scaled_chebyshev(&component.power_basis(), &radii[i], &next_radius(&radii, i))
        });
        Self { components: scaled.collect(), radii }
    }

    /// The chain of a table with the margin `eta`; each coefficient is computed with 80 digits and rounded once.
    ///
    /// # Errors
    /// [`TableError`](crate::TableError) if the table is no composition of odd polynomials.
    #[cfg(feature = "generate")]
    pub fn new(table: &crate::Table, eta: f64) -> Result<Self, crate::TableError> {
        use crate::real::{Big, Real, big, bits_of_digits, from_decimal};

        let bits = bits_of_digits(DIGITS);
        let radii = radii(&table.composite()?, eta);
        let components = table.components().iter().enumerate().map(|(i, component)| {
            let even_is_noise = |(power, c)| match power % 2 {
                0 => big(0.0, bits),
                _ => from_decimal(c, bits),
            };
            let power: Vec<Big> = component.iter().enumerate().map(even_is_noise).collect();
            let scaled = scaled_chebyshev(&power, &big(radii[i], bits), &big(next_radius(&radii, i), bits));
            scaled.iter().map(Real::as_f64).collect()
        });
        Ok(Self { components: components.collect(), radii })
    }

    /// What the values of component `index` are divided by, counted from 0: the next one's radius, and 1 after the last.
    pub fn next_radius(&self, index: usize) -> f64 {
        next_radius(&self.radii, index)
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

/// `r_1, r_2, …`. Nothing is added to the first: the input has no margin.
fn radii(sign: &CompositeSign, eta: f64) -> Vec<f64> {
    let with_margin = |(i, &radius): (usize, &f64)| if i == 0 { 1.0 } else { radius + eta };
    sign.input_radii().iter().enumerate().map(with_margin).collect()
}

fn next_radius(radii: &[f64], index: usize) -> f64 {
    radii.get(index + 1).copied().unwrap_or(1.0)
}

/// `Σ c_k T_k(x)`.
pub fn clenshaw(c: &[f64], x: f64) -> f64 {
    let (b1, b2) = c[1..].iter().rev().fold((0.0, 0.0), |(b1, b2), &c| (c + 2.0 * x * b1 - b2, b1));
    c[0] + x * b1 - b2
}
