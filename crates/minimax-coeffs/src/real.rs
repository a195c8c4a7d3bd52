//! The numbers that the Remez algorithm runs on: float64 to search, big floats (feature `generate`) to print.

use std::ops::{Add, Div, Mul, Neg, Sub};

#[cfg(feature = "generate")]
pub use big::{Big, big, bits_of_digits, from_decimal, to_decimal};

/// A real number of some precision.
pub trait Real:
    Clone
    + PartialOrd
    + Neg<Output = Self>
    + for<'a> Add<&'a Self, Output = Self>
    + for<'a> Sub<&'a Self, Output = Self>
    + for<'a> Mul<&'a Self, Output = Self>
    + for<'a> Div<&'a Self, Output = Self>
{
    /// `x` with the precision of `self`.
    fn lift(&self, x: f64) -> Self;

    /// The nearest float64.
    fn as_f64(&self) -> f64;

    /// The square root of a number that is not negative.
    fn sqrt(&self) -> Self;

    /// Half the distance from 1 to the next number.
    fn unit_roundoff(&self) -> f64;

    /// The absolute value.
    fn abs(&self) -> Self {
        if *self < self.lift(0.0) { -self.clone() } else { self.clone() }
    }
}

impl Real for f64 {
    fn lift(&self, x: f64) -> Self {
        x
    }

    fn as_f64(&self) -> f64 {
        *self
    }

    fn sqrt(&self) -> Self {
        f64::sqrt(*self)
    }

    fn unit_roundoff(&self) -> f64 {
        f64::EPSILON / 2.0
    }
}

#[cfg(feature = "generate")]
mod big {
    use dashu_base::Sign;
    use dashu_float::FBig;
    use dashu_float::round::mode::HalfEven;

    use super::Real;
    use crate::decimal::Decimal;

    /// A binary floating-point number with as many digits as it is given.
    pub type Big = FBig<HalfEven, 2>;

    impl Real for Big {
        fn lift(&self, x: f64) -> Self {
            big(x, self.precision())
        }

        fn as_f64(&self) -> f64 {
            FBig::to_f64(self).value()
        }

        fn sqrt(&self) -> Self {
            FBig::sqrt(self)
        }

        fn unit_roundoff(&self) -> f64 {
            (-(self.precision() as f64)).exp2()
        }
    }

    /// `x` as a big float of `bits` bits.
    ///
    /// # Panics
    /// If `x` is NaN.
    pub fn big(x: f64, bits: usize) -> Big {
        FBig::try_from(x).expect("not NaN").with_precision(bits).value()
    }

    /// `digits` decimal digits in bits.
    pub fn bits_of_digits(digits: u32) -> usize {
        (f64::from(digits) * std::f64::consts::LOG2_10).ceil() as usize
    }

    /// `x` to `digits` decimal digits, at most 38.
    ///
    /// # Panics
    /// If its exponent leaves 32 bits.
    pub fn to_decimal(x: &Big, digits: usize) -> Decimal {
        let rounded = x.clone().with_base_and_precision::<10>(digits.min(38)).value();
        let (significand, exponent) = rounded.into_repr().into_parts();
        let (sign, magnitude) = significand.into_parts();
        let mantissa = u128::try_from(magnitude).expect("38 digits fit");
        Decimal::new(sign == Sign::Negative, mantissa, i32::try_from(exponent).expect("a sensible exponent"))
    }

    /// `decimal` as a big float of `bits` bits.
    pub fn from_decimal(decimal: &Decimal, bits: usize) -> Big {
        let ten = big(10.0, bits);
        let magnitude =
            Big::from(decimal.mantissa()).with_precision(bits).value() * ten.powi(decimal.exponent().into());
        if decimal.is_negative() { -magnitude } else { magnitude }
    }
}
