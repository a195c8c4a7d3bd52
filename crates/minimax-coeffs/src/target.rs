//! What a composition is to achieve.

use std::fmt;

/// The largest precision that can be asked for, in bits: beyond, float64 coefficients are too coarse.
pub const MAX_PRECISION: u8 = 26;

/// What a composition `s` is to achieve.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "function", rename_all = "snake_case"))]
pub enum Target {
    /// `|x (1 + s(x)) / 2 − max(x, 0)| ≤ 2^-alpha` on `[-1, 1]`: the precision of Lee et al. (arXiv 2105.10879).
    Relu {
        /// Bits.
        alpha: u8,
    },
    /// `|s(x) − sign(x)| ≤ 2^-precision` for `epsilon ≤ |x| ≤ 1`: that of E. Lee et al. (ePrint 2020/834).
    Sign {
        /// Bits.
        precision: u8,
        /// The smallest `|x|`.
        epsilon: f64,
    },
}

/// A target that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// Too many or too few bits.
    #[error(
        "the precision is {bits} bits, but must be from 1 to {MAX_PRECISION}: float64 coefficients are too coarse for more"
    )]
    Precision {
        /// As given.
        bits: u8,
    },
    /// Not between 0 and 1.
    #[error("epsilon is {epsilon:?}, but must be at least {smallest:e} and below 1", smallest = Target::SMALLEST_EPSILON)]
    Epsilon {
        /// As given.
        epsilon: f64,
    },
}

impl Target {
    /// The smallest `epsilon` of [`Target::Sign`].
    pub const SMALLEST_EPSILON: f64 = 1e-9;

    /// The bits of precision.
    pub fn bits(&self) -> u8 {
        match *self {
            Self::Relu { alpha } => alpha,
            Self::Sign { precision, .. } => precision,
        }
    }

    /// The error that the target allows.
    pub fn error(&self) -> f64 {
        (-f64::from(self.bits())).exp2()
    }

    /// The error of `s` on the first interval that the target allows: ReLU halves it.
    pub fn sign_error(&self) -> f64 {
        match self {
            Self::Relu { .. } => 2.0 * self.error(),
            Self::Sign { .. } => self.error(),
        }
    }

    /// Whether the target makes sense.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn check(&self) -> Result<(), TargetError> {
        let bits = self.bits();
        if !(1..=MAX_PRECISION).contains(&bits) {
            return Err(TargetError::Precision { bits });
        }
        match *self {
            Self::Sign { epsilon, .. } if !(Self::SMALLEST_EPSILON..1.0).contains(&epsilon) => {
                Err(TargetError::Epsilon { epsilon })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relu { alpha } => write!(f, "ReLU within 2^-{alpha}"),
            Self::Sign { precision, epsilon } => {
                write!(f, "sign within 2^-{precision} for |x| from {epsilon:e} to 1")
            }
        }
    }
}
