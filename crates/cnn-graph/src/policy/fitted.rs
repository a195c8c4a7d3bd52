//! Fitted polynomials with what is known of them.

use std::sync::Arc;

use minimax_coeffs::fitted::{Density, FitBounds, FitError};
use minimax_coeffs::{ActivationFunction, FittedPolynomial};
use serde::{Deserialize, Serialize};

/// A polynomial that was fitted to the inputs of an activation.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    polynomial: FittedPolynomial,
    record: FittedRecord,
}

/// A fitted polynomial as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedRecord {
    /// What it stands for: the site's function.
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
}
