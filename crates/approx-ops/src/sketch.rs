//! The distribution of values that are seen once: a histogram whose buckets are as fine as float32's leading bits.
//!
//! A bucket holds the values that agree in sign, exponent and the first six bits of the significand: its width is 2^-6 of
//! its smallest value. So any quantile is within 2^-7 of itself (0.8 %) of the value with that rank, over all of float32,
//! without a range that has to be known before, and sketches of parts add up to the sketch of the whole. Smallest and
//! largest value are exact. (A t-digest would be smaller and would depend on the order; here it must not.)

use minimax_coeffs::fitted::{Density, FitError};

/// Bits of a float32 that do not matter: 17 of the significand's 23.
const DROPPED: u32 = 17;
/// Buckets of one sign.
const BUCKETS: usize = 1 << (31 - DROPPED);

/// How many values there were of which size. 256 KiB.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    /// Of `|x|`, of negative values and of the others.
    counts: [Vec<u64>; 2],
    count: u64,
    min: f32,
    max: f32,
}

impl Default for Sketch {
    fn default() -> Self {
        let counts = [vec![0; BUCKETS], vec![0; BUCKETS]];
        Self { counts, count: 0, min: f32::INFINITY, max: f32::NEG_INFINITY }
    }
}

impl Sketch {
    /// The sketch of `values`. NaN is left out.
    pub fn of(values: &[f32]) -> Self {
        let mut sketch = Self::default();
        for &x in values.iter().filter(|x| !x.is_nan()) {
            let bits = x.to_bits();
            sketch.counts[usize::from(bits >> 31 == 0)][bucket(x)] += 1;
            sketch.count += 1;
            sketch.min = sketch.min.min(x);
            sketch.max = sketch.max.max(x);
        }
        sketch
    }

    /// Adds what another one saw.
    pub fn merge(&mut self, other: &Self) {
        for (counts, others) in self.counts.iter_mut().zip(&other.counts) {
            counts.iter_mut().zip(others).for_each(|(count, other)| *count += other);
        }
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The buckets that are not empty, each with its count, ascending: of negative values by their size, and of the
    /// others.
    pub fn buckets(&self) -> [Vec<(u32, u64)>; 2] {
        let used = |counts: &Vec<u64>| {
            let all = counts.iter().enumerate().map(|(bucket, &count)| (bucket as u32, count));
            all.filter(|&(_, count)| count > 0).collect()
        };
        [used(&self.counts[0]), used(&self.counts[1])]
    }

    /// The sketch with these [`buckets`](Sketch::buckets), smallest and largest value (what they are is of no matter if
    /// all buckets are empty). `None` for a bucket that there is not, or an extreme that is in no bucket.
    pub fn from_buckets(buckets: &[Vec<(u32, u64)>; 2], min: f32, max: f32) -> Option<Self> {
        let mut sketch = Self::default();
        for (counts, used) in sketch.counts.iter_mut().zip(buckets) {
            for &(bucket, count) in used {
                // If all of them together fit, each bucket does, also one that is named twice.
                sketch.count = sketch.count.checked_add(count)?;
                *counts.get_mut(bucket as usize)? += count;
            }
        }
        if sketch.count > 0 {
            let holds = |x: f32| sketch.counts[usize::from(x.to_bits() >> 31 == 0)][bucket(x)] > 0;
            if !(min <= max && holds(min) && holds(max)) {
                return None;
            }
            (sketch.min, sketch.max) = (min, max);
        }
        Some(sketch)
    }

    /// The values, each at the middle of its bucket, but within the extremes.
    ///
    /// # Errors
    /// [`FitError`] if there are none, or one is infinite.
    pub fn density(&self) -> Result<Density, FitError> {
        let side = |sign: f32, counts: &Vec<u64>| -> Vec<(f64, f64)> {
            let used = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            let value = |bucket: usize| f64::from((sign * middle(bucket)).clamp(self.min, self.max));
            used.map(|(bucket, &count)| (value(bucket), count as f64)).collect()
        };
        Density::new([side(-1.0, &self.counts[0]), side(1.0, &self.counts[1])].concat())
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value; `None` if there are none.
    pub fn min(&self) -> Option<f32> {
        (self.count > 0).then_some(self.min)
    }

    /// The largest value; `None` if there are none.
    pub fn max(&self) -> Option<f32> {
        (self.count > 0).then_some(self.max)
    }

    /// The value below which a share `q` of all values is, for `q` from 0 to 1; `None` if there are none.
    ///
    /// # Accuracy
    /// Within 2^-7 of itself of the value with the rank `q · (count − 1)`, rounded down (for subnormal numbers: within
    /// 2^-132).
    pub fn quantile(&self, q: f64) -> Option<f32> {
        let last = self.count.checked_sub(1)?;
        let rank = (q.clamp(0.0, 1.0) * last as f64).floor() as u64;
        let mut below = 0;
        let negative = (0..BUCKETS).rev().map(|i| (-middle(i), self.counts[0][i]));
        let positive = (0..BUCKETS).map(|i| (middle(i), self.counts[1][i]));
        for (value, count) in negative.chain(positive) {
            below += count;
            if below > rank {
                return Some(value.clamp(self.min, self.max));
            }
        }
        unreachable!("the counts add up to the number of values")
    }

    /// The share of values with `|x| < threshold`; 0 if there are none.
    ///
    /// # Accuracy
    /// Values that differ from `threshold` by less than 2^-6 of it may be on either side.
    pub fn share_below(&self, threshold: f32) -> f64 {
        let end = bucket(threshold.max(0.0));
        let count: u64 = self.counts.iter().flat_map(|counts| &counts[..end]).sum();
        count as f64 / self.count.max(1) as f64
    }
}

fn bucket(x: f32) -> usize {
    ((x.to_bits() & 0x7fff_ffff) >> DROPPED) as usize
}

/// The middle of a bucket of positive values; 0 and infinity are themselves.
fn middle(bucket: usize) -> f32 {
    let first = f32::from_bits((bucket as u32) << DROPPED);
    match first == 0.0 || first.is_infinite() {
        // What falls there is nearly always just that.
        true => first,
        false => f32::from_bits(first.to_bits() | (1 << (DROPPED - 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of all sizes and both signs, in no order.
    fn values(count: u32) -> Vec<f32> {
        let value = |i: u32| {
            let u = i.wrapping_mul(0x9e37_79b9).rotate_left(15).wrapping_mul(0x85eb_ca6b);
            let x = f64::from(u) / 2f64.powi(31) - 1.0;
            (x * x * x * 30.0 * f64::from(i % 7)) as f32
        };
        (0..count).map(value).collect()
    }

    #[test]
    fn quantiles_are_within_the_stated_error() {
        let values = values(20_011);
        let sketch = Sketch::of(&values);
        let mut sorted = values.clone();
        sorted.sort_by(f32::total_cmp);
        assert_eq!((sketch.min(), sketch.max()), (sorted.first().copied(), sorted.last().copied()));
        for q in [0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0] {
            let truth = sorted[(q * (sorted.len() - 1) as f64) as usize];
            let found = sketch.quantile(q).unwrap();
            assert!((found - truth).abs() <= truth.abs() / 128.0, "{q}: {found}, not {truth}");
        }
        for threshold in [0.01, 1.0, 7.3, 1e9] {
            let share = |t: f32| values.iter().filter(|x| x.abs() < t).count() as f64 / values.len() as f64;
            let found = sketch.share_below(threshold);
            assert!(
                found >= share(threshold * (1.0 - 1.0 / 64.0)) && found <= share(threshold),
                "{threshold}"
            );
        }
    }

    #[test]
    fn a_density_has_the_mean_and_the_extremes_of_the_values() {
        let values = values(20_011);
        let density = Sketch::of(&values).density().unwrap();
        let mean =
            |f: fn(f64) -> f64| values.iter().map(|x| f(f64::from(*x))).sum::<f64>() / values.len() as f64;
        let square = |x: f64| x * x;
        assert!((density.mean(square) / mean(square) - 1.0).abs() < 0.01);
        let extremes = [f32::min, f32::max].map(|f| f64::from(values.iter().copied().reduce(f).unwrap()));
        for (found, extreme) in density.range().into_iter().zip(extremes) {
            assert!(
                found.abs() <= extreme.abs() && found / extreme > 1.0 - 1.0 / 128.0,
                "{found}, not {extreme}"
            );
        }
        assert_eq!(Sketch::of(&[f32::NAN]).density(), Err(FitError::Empty));
        assert!(Sketch::of(&[f32::INFINITY]).density().is_err());
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let values = values(1000);
        let mut sum = Sketch::default();
        for part in values.chunks(77).rev() {
            sum.merge(&Sketch::of(part));
        }
        assert_eq!(sum, Sketch::of(&values));
    }

    #[test]
    fn a_sketch_is_known_by_its_buckets_and_extremes() {
        for values in [values(1000), vec![-3.0], vec![0.0, f32::INFINITY], Vec::new()] {
            let sketch = Sketch::of(&values);
            let (min, max) = (sketch.min().unwrap_or(f32::NAN), sketch.max().unwrap_or(f32::NAN));
            assert_eq!(Sketch::from_buckets(&sketch.buckets(), min, max), Some(sketch));
        }
        let buckets = Sketch::of(&[-1.0, 2.0]).buckets();
        for (min, max) in [(-1.0, 3.0), (-4.0, 2.0), (2.0, -1.0), (f32::NAN, 2.0), (1.0, 2.0)] {
            assert_eq!(Sketch::from_buckets(&buckets, min, max), None, "{min} {max}");
        }
        assert_eq!(Sketch::from_buckets(&[Vec::new(), vec![(BUCKETS as u32, 1)]], 1.0, 1.0), None);
        for bucket in [5, 6] {
            let buckets = [Vec::new(), vec![(5, u64::MAX), (bucket, 1)]];
            assert_eq!(Sketch::from_buckets(&buckets, 1.0, 1.0), None);
        }
    }

    #[test]
    fn nothing_zero_and_infinity_are_told_apart() {
        let nothing = Sketch::of(&[f32::NAN]);
        assert_eq!((nothing.count(), nothing.min(), nothing.quantile(0.5)), (0, None, None));
        assert_eq!(nothing.share_below(1.0), 0.0);
        let sketch = Sketch::of(&[0.0, -0.0, f32::INFINITY, -1.0]);
        assert_eq!((sketch.min(), sketch.max()), (Some(-1.0), Some(f32::INFINITY)));
        assert_eq!((sketch.quantile(0.0), sketch.quantile(1.0)), (Some(-1.0), Some(f32::INFINITY)));
        assert_eq!(sketch.share_below(0.5), 0.5);
        assert_eq!(sketch.share_below(0.0), 0.0);
    }
}
