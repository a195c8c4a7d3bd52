//! What a kernel saw: the largest `|x|`, and how many values were out of range.

use crate::cpu;

/// The inputs of one or more evaluations, in two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RangeStats {
    /// The largest `|x|`, or `|x − c|` for an op whose range has its middle at `c`; NaN if any input was NaN.
    pub max_abs: f32,
    /// How many inputs were outside `[c − B, c + B]` or NaN. For an op without a bound: how many were not finite.
    pub out_of_range: u64,
}

impl RangeStats {
    /// Both together.
    #[must_use]
    pub fn merge(self, other: RangeStats) -> RangeStats {
        let max_abs = if self.max_abs.is_nan() || other.max_abs.is_nan() {
            f32::NAN
        } else {
            self.max_abs.max(other.max_abs)
        };
        RangeStats { max_abs, out_of_range: self.out_of_range + other.out_of_range }
    }

    /// The statistics of `values` with the range `[-bound, bound]`.
    pub fn of(values: &[f32], bound: f32) -> RangeStats {
        Self::around(values, 0.0, bound)
    }

    /// The statistics of `values` with the range `[center − bound, center + bound]`.
    pub fn around(values: &[f32], center: f32, bound: f32) -> RangeStats {
        let max_abs = cpu::max_distance(values, center);
        // Counting takes a second look, which is rarely needed.
        let out_of_range = match max_abs <= bound {
            true => 0,
            false => values.iter().filter(|x| is_out_of_range(**x - center, bound)).count() as u64,
        };
        RangeStats { max_abs, out_of_range }
    }
}

/// Whether `x` is outside `[-bound, bound]`; NaN is.
fn is_out_of_range(x: f32, bound: f32) -> bool {
    x.is_nan() || x.abs() > bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_neither_lost_nor_in_range() {
        let seen = RangeStats::of(&[1.0, f32::NAN, -3.0], 2.0);
        assert!(seen.max_abs.is_nan());
        assert_eq!(seen.out_of_range, 2);
        assert!(seen.merge(RangeStats::of(&[9.0], 10.0)).max_abs.is_nan());
        assert_eq!(RangeStats::of(&[f32::INFINITY], f32::MAX).out_of_range, 1);
        assert_eq!(RangeStats::of(&[], 1.0), RangeStats::default());
        let seen = RangeStats::around(&[-1.0, 5.0, 3.0], 3.0, 3.5);
        assert_eq!(seen, RangeStats { max_abs: 4.0, out_of_range: 1 });
    }
}
