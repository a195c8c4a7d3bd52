//! Compositions of odd polynomials that approximate the sign function.

use std::fmt::Write;
use std::sync::{LazyLock, OnceLock};

use sha2::{Digest, Sha256};

use crate::adapted::AdaptedSign;
use crate::alpha::Alpha;
use crate::cost::Cost;
use crate::polynomial::OddPolynomial;
use crate::tables;

/// The margin of the published tables.
pub const PUBLISHED_ETA: f64 = 1.0 / (1 << 22) as f64;

/// `s(x) = (p_k ∘ … ∘ p_1)(x)`, an approximation of `sign(x)` on `[-1, 1]` by odd polynomials
/// (arXiv 2105.10879, section III).
///
/// All values are float64 and serve as the truth that faster evaluations are held against.
#[derive(Debug, Clone)]
pub struct CompositeSign {
    components: Vec<OddPolynomial>,
    input_radii: Vec<f64>,
    margin: f64,
    cost: Cost,
    /// Searched for on first use.
    adapted: OnceLock<Option<AdaptedSign>>,
}

/// Why polynomials are no composition.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum CompositeError {
    /// There is none.
    #[error("a composition needs at least one component")]
    Empty,
    /// More than anybody needs.
    #[error("{found} components are more than {}", CompositeSign::MOST_COMPONENTS)]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// The cost of such a polynomial is not known.
    #[error(
        "component {component} has degree {degree}, but only odd ones up to {} are supported",
        Cost::MAX_DEGREE
    )]
    Degree {
        /// 1-based.
        component: usize,
        /// Of the component.
        degree: usize,
    },
    /// Nothing can be computed with such values.
    #[error("component {component} reaches {largest:e} where its argument is at most {radius:e}")]
    Values {
        /// 1-based.
        component: usize,
        /// The largest argument.
        radius: f64,
        /// The largest value.
        largest: f64,
    },
}

/// All else follows from the components, but for the margin, which is about them.
impl PartialEq for CompositeSign {
    fn eq(&self, other: &Self) -> bool {
        self.components == other.components
    }
}

impl CompositeSign {
    /// The published composition for `alpha`. Parsed once, on first use.
    pub fn published(alpha: Alpha) -> &'static CompositeSign {
        static ALL: LazyLock<Vec<CompositeSign>> = LazyLock::new(|| {
            let parse = |alpha| {
                let sign =
                    tables::published(alpha).composite().expect("published tables have listed degrees");
                sign.with_margin(PUBLISHED_ETA)
            };
            Alpha::all().map(parse).collect()
        });
        &ALL[usize::from(alpha.bits() - Alpha::MIN.bits())]
    }

    /// How many components a composition can have. The published ones have up to three.
    pub const MOST_COMPONENTS: usize = 32;

    /// The composition of `components`, the first one applied first.
    ///
    /// # Errors
    /// [`CompositeError`]: no component or too many, one of a degree whose cost is not known, or one whose values on
    /// what it may see are all 0 or too large for float64.
    pub fn new(components: Vec<OddPolynomial>) -> Result<Self, CompositeError> {
        if components.len() > Self::MOST_COMPONENTS {
            return Err(CompositeError::TooMany { found: components.len() });
        }
        let mut cost = None;
        for (index, polynomial) in components.iter().enumerate() {
            let (component, degree) = (index + 1, polynomial.degree());
            let own = polynomial.cost().ok_or(CompositeError::Degree { component, degree })?;
            cost = Some(cost.map_or(own, |cost| cost + own));
        }
        let cost = cost.ok_or(CompositeError::Empty)?;
        let mut input_radii = Vec::with_capacity(components.len());
        let mut radius = 1.0;
        for (index, polynomial) in components.iter().enumerate() {
            input_radii.push(radius);
            let largest = polynomial.max_abs_on(radius);
            if !(f64::MIN_POSITIVE..=f64::MAX).contains(&largest) {
                return Err(CompositeError::Values { component: index + 1, radius, largest });
            }
            radius = largest;
        }
        Ok(Self { components, input_radii, margin: 0.0, cost, adapted: OnceLock::new() })
    }

    /// The same, known to be made for outputs of components that are off by up to `margin`.
    #[must_use]
    pub fn with_margin(self, margin: f64) -> Self {
        Self { margin, ..self }
    }

    /// By how much the output of a component may be off without leaving the next one's domain, beyond
    /// [`CompositeSign::input_radii`].
    pub fn margin(&self) -> f64 {
        self.margin
    }

    /// The components, in order of application.
    pub fn components(&self) -> &[OddPolynomial] {
        &self.components
    }

    /// The degrees of the components, in order of application.
    pub fn degrees(&self) -> Vec<usize> {
        self.components.iter().map(OddPolynomial::degree).collect()
    }

    /// What names this composition: the SHA-256, in 64 hexadecimal digits, of its coefficients as float64 numbers.
    /// Compositions that are equal have the same; how a table was made, or its margin, does not matter.
    pub fn digest(&self) -> String {
        // What is hashed: of each component, in order of application, how many odd coefficients it has, as a 64-bit
        // integer, and then these as float64 numbers, all of them little-endian.
        let mut hash = Sha256::new();
        for component in &self.components {
            let coefficients = component.odd_coefficients();
            hash.update((coefficients.len() as u64).to_le_bytes());
            for c in coefficients {
                // −0 is equal to 0, so it counts as 0.
                hash.update((c + 0.0).to_le_bytes());
            }
        }
        let mut text = String::with_capacity(64);
        for byte in hash.finalize() {
            write!(text, "{byte:02x}").expect("a String takes everything");
        }
        text
    }

    /// For each component, the largest argument it sees when `|x| ≤ 1`.
    pub fn input_radii(&self) -> &[f64] {
        &self.input_radii
    }

    /// The form for fast evaluation in float32; `None` where the [`NestedForm`](crate::NestedForm) is more accurate. It
    /// is searched for on the first call, which takes some milliseconds.
    pub fn adapted(&self) -> Option<&AdaptedSign> {
        self.adapted.get_or_init(|| AdaptedSign::new(&self.components, &self.input_radii)).as_ref()
    }

    /// `s(x)`, meant for `|x| ≤ 1`.
    pub fn eval(&self, x: f64) -> f64 {
        self.components.iter().fold(x, |x, p| p.eval(x))
    }

    /// `s(x)` and its derivative.
    pub fn eval_with_derivative(&self, x: f64) -> (f64, f64) {
        self.components.iter().fold((x, 1.0), |(x, slope), p| {
            let (value, derivative) = p.eval_with_derivative(x);
            (value, slope * derivative)
        })
    }

    /// `x (1 + s(x / bound)) / 2`, the approximation of `max(x, 0)` for `|x| ≤ bound` (arXiv 2105.10879,
    /// section III).
    pub fn relu(&self, x: f64, bound: f64) -> f64 {
        x * (1.0 + self.eval(x / bound)) / 2.0
    }

    /// The derivative of [`CompositeSign::relu`] in `x`: `(1 + s(x/B)) / 2 + x s'(x/B) / (2B)`.
    pub fn relu_derivative(&self, x: f64, bound: f64) -> f64 {
        let (s, slope) = self.eval_with_derivative(x / bound);
        (1.0 + s) / 2.0 + x * slope / (2.0 * bound)
    }

    /// `(a + b + (a − b) s(a − b)) / 2`, the approximation of `max(a, b)` for `a, b` in `[0, 1]`.
    pub fn max(&self, a: f64, b: f64) -> f64 {
        (a + b + (a - b) * self.eval(a - b)) / 2.0
    }

    /// The cost of `s`: the sum over its components.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// The cost of one ReLU, or of one maximum: that of `s` and one multiplication more.
    pub fn relu_cost(&self) -> Cost {
        self.cost + Cost::ONE_MULTIPLICATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_float64_cannot_compute_with_is_refused() {
        let new = |components: &[&[f64]]| {
            CompositeSign::new(components.iter().map(|c| OddPolynomial::new(c.to_vec())).collect())
        };
        assert_eq!(new(&[]).unwrap_err(), CompositeError::Empty);
        assert_eq!(new(&[&[1.0][..]; 33]).unwrap_err(), CompositeError::TooMany { found: 33 });
        assert!(new(&[&[1.0][..]; 32]).is_ok());
        assert_eq!(new(&[&[1.0; 33]]).unwrap_err(), CompositeError::Degree { component: 1, degree: 65 });
        for (components, component) in [
            (&[&[0.0][..], &[1.0]][..], 1),
            (&[&[1.0], &[1e308, 1e308]], 2),
            (&[&[1e200], &[1.0, 1.0]], 2),
            (&[&[1e308, 1e308, 1e308]], 1),
        ] {
            let error = new(components).map(|sign| sign.input_radii().to_vec());
            assert!(
                matches!(error, Err(CompositeError::Values { component: c, .. }) if c == component),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_digest_depends_on_the_coefficients_and_on_nothing_else() {
        let sign = |components: &[&[f64]]| {
            CompositeSign::new(components.iter().map(|c| OddPolynomial::new(c.to_vec())).collect()).unwrap()
        };
        let digest = sign(&[&[1.5, -0.5], &[1.0]]).digest();
        // By Python: hashlib.sha256(struct.pack("<Qdd", 2, 1.5, -0.5) + struct.pack("<Qd", 1, 1.0)).
        assert_eq!(digest, "b7fbdae2f2b9edbfed767a1116c5f8dee04020d13af5aedbb77335c2157eaacf");
        assert_eq!(sign(&[&[1.5, -0.5], &[1.0]]).with_margin(0.1).digest(), digest);
        assert_eq!(sign(&[&[0.0, 1.0]]).digest(), sign(&[&[-0.0, 1.0]]).digest());
        for other in [&[&[1.0][..], &[1.5, -0.5]][..], &[&[1.5], &[-0.5, 1.0]], &[&[1.5, -0.5]]] {
            assert_ne!(sign(other).digest(), digest);
        }
        let published: std::collections::HashSet<String> =
            Alpha::all().map(|alpha| CompositeSign::published(alpha).digest()).collect();
        assert_eq!(published.len(), 11);
    }
}
