//! Fitted polynomials with what is known of them.

use std::sync::Arc;

use minimax_coeffs::fitted::{Density, FitBounds, FitError};
use minimax_coeffs::{ActivationFunction, Cost, FittedPolynomial};
use serde::{Deserialize, Serialize};

use super::SiteKind;
use crate::ops::{Activation, Op};

/// A polynomial that was fitted to the inputs of a site. For a max-pooling it stands for `|x|`, and the maximum of two is
/// `(a + b + p(a − b)) / 2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    polynomial: FittedPolynomial,
    record: FittedRecord,
}

/// A fitted polynomial as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedRecord {
    /// What it stands for: the site's function, and `|x|`, which is `leaky-relu` with slope −1, for a max-pooling.
    pub function: ActivationFunction,
    /// From the smallest to the largest input that it is meant for.
    pub interval: [f64; 2],
    /// In which the coefficients are: `chebyshev`.
    pub basis: Basis,
    /// Of `T_0, T_1, …`, of the input mapped from the interval to `[-1, 1]`.
    pub coefficients: Vec<f64>,
    /// Which distribution of inputs it was fitted to: [`Density::digest`].
    pub density: String,
    /// The root of the mean square of the error over that distribution.
    pub rms_error: f64,
    /// Proven bounds on the interval.
    pub bounds: FitBounds,
    /// By what the noise of a rescaling is amplified, at most, where values are held in units of half the interval.
    pub noise_amplification: f64,
}

/// A basis of polynomials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Chebyshev polynomials of the first kind.
    Chebyshev,
}

/// Why data are no fitted polynomial.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FittedError {
    /// Interval or coefficients make no sense.
    #[error(transparent)]
    Polynomial(#[from] FitError),
    /// A claim that does not hold.
    #[error("the polynomial claims that {what} is at most {claimed:e}, but it is {found:e}")]
    Claim {
        /// Of what.
        what: &'static str,
        /// The claimed bound.
        claimed: f64,
        /// What it is.
        found: f64,
    },
}

/// By how much a claim may be below what is found again: the bound is proven to a thousandth, and written with all digits.
const AGREEMENT: f64 = 1e-9;

impl Fitted {
    /// The function that polynomials of a max-pooling stand for: `|x|`.
    pub const ABS: ActivationFunction = ActivationFunction::LeakyRelu { slope: -1.0 };

    /// A polynomial with what is known of it.
    pub fn new(polynomial: FittedPolynomial, density: &Density) -> Arc<Self> {
        let record = FittedRecord {
            function: polynomial.function(),
            interval: polynomial.interval(),
            basis: Basis::Chebyshev,
            coefficients: polynomial.coefficients().to_vec(),
            density: density.digest(),
            rms_error: polynomial.rms(density),
            bounds: polynomial.bounds(),
            noise_amplification: polynomial.noise_amplification(),
        };
        Arc::new(Self { polynomial, record })
    }

    /// A polynomial from its data. Its bounds are proven again.
    ///
    /// # Errors
    /// [`FittedError`] for data that are no polynomial, and for a claim that does not hold. The error over the
    /// distribution cannot be checked without it.
    pub fn from_record(record: FittedRecord) -> Result<Arc<Self>, FittedError> {
        let FittedRecord { function, interval, bounds: claimed, .. } = record;
        let polynomial = FittedPolynomial::new(function, interval, record.coefficients.clone())?;
        let found = polynomial.bounds();
        let amplification = polynomial.noise_amplification();
        for (what, claimed, found) in [
            ("the error", claimed.error, found.error),
            ("the value", claimed.value, found.value),
            ("the slope", claimed.slope, found.slope),
            ("the amplification of noise", record.noise_amplification, amplification),
            // The mean is no larger than the largest.
            ("the root of the mean square of the error", found.error, record.rms_error),
        ] {
            if claimed.is_nan() || found.is_nan() || found > claimed * (1.0 + AGREEMENT) {
                return Err(FittedError::Claim { what, claimed, found });
            }
        }
        Ok(Arc::new(Self { polynomial, record }))
    }

    /// The polynomial.
    pub fn polynomial(&self) -> &FittedPolynomial {
        &self.polynomial
    }

    /// Its data.
    pub fn record(&self) -> &FittedRecord {
        &self.record
    }

    /// Whether it can stand at a site of this kind.
    pub(super) fn suits(&self, kind: SiteKind) -> bool {
        (self.polynomial.function() == Self::ABS) == (kind == SiteKind::MaxPool)
    }

    /// What it costs at a node with this operation: nothing where that is no site.
    pub(super) fn cost_at(&self, op: &Op) -> Cost {
        Self::cost_of_degree(self.polynomial.degree(), op)
    }

    /// What a polynomial of this degree costs at a node with this operation. That of a max-pooling is even.
    ///
    /// # Panics
    /// For a degree that is not supported.
    pub fn cost_of_degree(degree: usize, op: &Op) -> Cost {
        match op {
            Op::Activation(_) => FittedPolynomial::cost_of_degree(degree).expect("a supported degree"),
            Op::MaxPool(pool) => {
                let one = FittedPolynomial::cost_of_even(degree).expect("a supported degree");
                let (in_sequence, in_all) = pool.0.signs();
                Cost {
                    depth: in_sequence * one.depth,
                    non_scalar_multiplications: in_all * one.non_scalar_multiplications,
                }
            }
            _ => Cost::default(),
        }
    }

    /// What a polynomial at a node stands for: the activation, or `|x|` in a max-pooling; `None` where that is no site.
    pub fn function_at(op: &Op) -> Option<Activation> {
        match op {
            Op::Activation(function) => Some(*function),
            Op::MaxPool(_) => Some(Self::ABS),
            _ => None,
        }
    }
}
