//! The precision parameter.

use std::fmt;
use std::str::FromStr;

/// The precision parameter `alpha` of Lee et al. (arXiv 2105.10879, section III), in bits: ReLU on `[-B, B]`
/// is off by about `B · 2^-alpha`.
///
/// The published tables cover 4 to 14. Those for 4 and 5 miss `2^-alpha` (they reach 2^-3.71 and 2^-4.86).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u8", into = "u8"))]
pub struct Alpha(u8);

/// An `alpha` for which no table exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("alpha is {given}, but the published tables cover whole numbers from {min} to {max}", min = Alpha::MIN, max = Alpha::MAX)]
pub struct AlphaError {
    given: String,
}

impl AlphaError {
    /// What was given.
    pub fn given(&self) -> &str {
        &self.given
    }
}

impl Alpha {
    /// The least precise published table.
    pub const MIN: Alpha = Alpha(4);
    /// The most precise published table, and the reference's default.
    pub const MAX: Alpha = Alpha(14);

    /// The parameter with this number of bits.
    ///
    /// # Errors
    /// [`AlphaError`] outside 4..=14.
    pub fn new(bits: u8) -> Result<Self, AlphaError> {
        if (Self::MIN.0..=Self::MAX.0).contains(&bits) {
            Ok(Self(bits))
        } else {
            Err(AlphaError { given: bits.to_string() })
        }
    }

    /// All published parameters, from 4 to 14.
    pub fn all() -> impl DoubleEndedIterator<Item = Alpha> + ExactSizeIterator + Clone {
        const ALL: [u8; 11] = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
        ALL.into_iter().map(Alpha)
    }

    /// The number of bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// `2^-alpha`.
    pub fn epsilon(self) -> f64 {
        (-f64::from(self.0)).exp2()
    }
}

impl fmt::Display for Alpha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Alpha {
    type Err = AlphaError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().parse::<u8>() {
            Ok(bits) => Self::new(bits),
            Err(_) => Err(AlphaError { given: format!("`{text}`") }),
        }
    }
}

impl TryFrom<u8> for Alpha {
    type Error = AlphaError;

    fn try_from(bits: u8) -> Result<Self, Self::Error> {
        Self::new(bits)
    }
}

impl From<Alpha> for u8 {
    fn from(alpha: Alpha) -> u8 {
        alpha.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_published_parameters_are_accepted() {
        for text in ["3", "15", "-4", "4.5", "", "abc", "300"] {
            assert!(text.parse::<Alpha>().is_err(), "{text}");
        }
        let message = "15".parse::<Alpha>().unwrap_err().to_string();
        assert_eq!(message, "alpha is 15, but the published tables cover whole numbers from 4 to 14");
        assert_eq!(" 7 ".parse::<Alpha>().unwrap().bits(), 7);
        assert_eq!(Alpha::all().len(), 11);
    }
}
