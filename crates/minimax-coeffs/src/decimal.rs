//! A number exactly as printed in a table.

use std::fmt;
use std::str::FromStr;

/// A decimal number kept exactly: `± mantissa · 10^exponent`.
///
/// Coefficients stay decimal until they are used, and are then rounded once ([`Decimal::to_f64`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    mantissa: u128,
    exponent: i32,
}

/// Text that is not a decimal number of at most 38 digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a decimal number of at most 38 digits")]
pub struct DecimalError(String);

impl Decimal {
    /// 0.
    pub const ZERO: Decimal = Decimal { negative: false, mantissa: 0, exponent: 0 };

    /// `± mantissa · 10^exponent`.
    pub fn new(negative: bool, mantissa: u128, exponent: i32) -> Self {
        Self { negative, mantissa, exponent }
    }

    /// Whether the number is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The digits as a whole number.
    pub fn mantissa(&self) -> u128 {
        self.mantissa
    }

    /// The power of ten that the mantissa is multiplied by.
    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    /// The nearest float64.
    pub fn to_f64(&self) -> f64 {
        // The standard library's parser rounds correctly, and the printed form is exact.
        self.to_string().parse().expect("a printed Decimal is a valid number")
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        let digits = self.mantissa.to_string();
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent = i64::from(self.exponent) + rest.len() as i64;
        match exponent {
            0 => write!(f, "{sign}{first}{point}{rest}"),
            _ => write!(f, "{sign}{first}{point}{rest}e{exponent}"),
        }
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DecimalError(text.to_owned());
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (digits, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i32>().map_err(|_| error())?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all: String = [whole, fraction].concat();
        if all.is_empty() || all.len() > 38 || !all.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let mantissa = all.parse().map_err(|_| error())?;
        let exponent = exponent.checked_sub(fraction.len() as i32).ok_or_else(error)?;
        Ok(Self { negative, mantissa, exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn printed_numbers_are_kept_exactly() {
        let d: Decimal = "-0.81872372642115644225e-46".parse().unwrap();
        assert_eq!((d.is_negative(), d.mantissa(), d.exponent()), (true, 81872372642115644225, -66));
        assert_eq!(d.to_f64(), -8.187_237_264_211_565e-47);
        assert_eq!(d.to_string(), "-8.1872372642115644225e-47");
        assert_eq!(
            ["15", "0", "-7e3"].map(|t| t.parse::<Decimal>().unwrap().to_string()),
            ["1.5e1", "0", "-7e3"]
        );
        for bad in ["", "-", ".", "1e", "1.2.3", "0x10", "nan", "1e99999999999", "1 2"] {
            assert!(bad.parse::<Decimal>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn decimal_rounds_like_the_standard_library(x in proptest::num::f64::NORMAL) {
            let text = format!("{x:e}");
            prop_assert_eq!(text.parse::<Decimal>().unwrap().to_f64(), x);
        }
    }
}
