//! Where an axis begins and ends, and the numbers on it.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// In proportion.
    Linear,
    /// In proportion, with whole numbers on the axis only.
    Whole,
    /// By the logarithm; values that have none are left out.
    Log10,
}

/// An axis.
#[derive(Debug, Clone)]
pub struct Axis {
    label: String,
    scale: Scale,
    range: Option<(f64, f64)>,
}

/// An axis with its ends, in places: values, or their logarithms.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ticks {
    /// The ends.
    pub low: f64,
    pub high: f64,
    /// Where there is a number.
    pub places: Vec<f64>,
    /// Digits after the point; `None` for powers of ten.
    decimals: Option<usize>,
}

impl Axis {
    /// An axis that holds all values.
    pub fn new(label: &str, scale: Scale) -> Self {
        Self { label: label.to_owned(), scale, range: None }
    }

    /// From `low` to `high`, whatever the values are.
    pub fn with_range(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }

    /// What it shows, with the unit.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The place of a value, if it has one.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            Scale::Linear | Scale::Whole => value,
            Scale::Log10 if value > 0.0 => value.log10(),
            Scale::Log10 => return None,
        };
        place.is_finite().then_some(place)
    }

    /// Ends that hold all `values`, and at most about `count` numbers.
    pub(crate) fn ticks(&self, values: impl Iterator<Item = f64>, count: usize) -> Ticks {
        let (low, high) = match self.range {
            Some((low, high)) => (self.place(low), self.place(high)),
            None => (None, None),
        };
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for place in values.filter_map(|value| self.place(value)) {
            (least, most) = (least.min(place), most.max(place));
        }
        if least > most {
            (least, most) = (0.0, 1.0);
        }
        let smallest = if self.scale == Scale::Linear { 0.0 } else { 1.0 };
        if self.scale == Scale::Log10 {
            (least, most) = (least.floor(), most.ceil());
        } else {
            let margin = match most - least {
                0.0 if self.scale == Scale::Whole => 1.0,
                0.0 => (0.05 * most.abs()).max(0.5),
                width => 0.06 * width,
            };
            // Below nothing there is nothing.
            let floor = if least >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
            (least, most) = ((least - margin).max(floor), most + margin);
        }
        let (low, mut high) = (low.unwrap_or(least), high.unwrap_or(most));
        if high <= low {
            high = low + 1.0;
        }
        let step = step((high - low) / count as f64).max(smallest);
        let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
        let decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
        // 2.5 has a digit more than its power of ten.
        let decimals = decimals + usize::from((step * 10f64.powi(decimals as i32)).fract() > 1e-6);
        Ticks {
            low,
            high,
            places: (first..=last).map(|i| i as f64 * step).collect(),
            decimals: (self.scale != Scale::Log10).then_some(decimals),
        }
    }
}

impl Ticks {
    /// Rows from the top, with a name in the middle of each.
    pub fn rows(count: usize) -> Self {
        let places = (0..count).map(|row| row as f64 + 0.5).collect();
        Self { low: count as f64, high: 0.0, places, decimals: Some(0) }
    }

    /// The number at a place.
    pub fn text(&self, place: f64) -> String {
        match self.decimals {
            // Not -0.
            Some(decimals) => format!("{:.decimals$}", place + 0.0).replace('-', "−"),
            None => format!("10{}", superscript(place.round() as i32)),
        }
    }
}

impl Ranged for Ticks {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (begin, end): (i32, i32)) -> i32 {
        let share = (place - self.low) / (self.high - self.low);
        (f64::from(begin) + share * f64::from(end - begin)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        // The grid has no lines between the numbers.
        if hint.weight().allow_light_points() { Vec::new() } else { self.places.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `least`.
fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0].into_iter().find(|step| step * power >= least * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

fn superscript(exponent: i32) -> String {
    let raised = |digit: char| match digit {
        '-' => '⁻',
        digit => {
            ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit.to_digit(10).expect("a digit") as usize]
        }
    };
    exponent.to_string().chars().map(raised).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(axis: &Axis, values: &[f64], count: usize) -> Vec<String> {
        let ticks = axis.ticks(values.iter().copied(), count);
        ticks.places.iter().map(|&place| ticks.text(place)).collect()
    }

    #[test]
    fn numbers_are_round_and_within_the_ends() {
        let linear = Axis::new("x", Scale::Linear);
        for (values, expected) in [
            (&[0.0, 1.0][..], &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"][..]),
            (&[-60.0, 60.0], &["−50", "−25", "0", "25", "50"]),
            (&[10.2, 77.5], &["20", "40", "60", "80"]),
            (&[0.02, 0.98], &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (&[77.1], &["74", "76", "78", "80"]),
            (&[], &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (&[f64::NAN, 0.001, 0.002], &["0.0010", "0.0012", "0.0014", "0.0016", "0.0018", "0.0020"]),
        ] {
            assert_eq!(numbers(&linear, values, 6), expected, "{values:?}");
        }
        let whole = Axis::new("alpha", Scale::Whole);
        assert_eq!(numbers(&whole, &[4.0, 6.0], 12), ["4", "5", "6"]);
        assert_eq!(numbers(&whole, &[7.0], 12), ["6", "7", "8"]);
        assert_eq!(numbers(&whole, &[1.0, 200.0], 5), ["0", "50", "100", "150", "200"]);
        let log = Axis::new("error", Scale::Log10);
        assert_eq!(
            numbers(&log, &[2e-5, 0.3, 0.0, -1.0], 8),
            ["10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]
        );
        assert_eq!(
            numbers(&linear.with_range(0.0, 100.0), &[300.0], 5),
            ["0", "20", "40", "60", "80", "100"]
        );
    }
}
