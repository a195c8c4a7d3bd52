//! The search for B: a range on a grid that no value leaves, and hardly larger than it must be.
//!
//! The reference runs the whole data set again from the beginning each time a value leaves `[-B, B]`, with B
//! larger by one step. Here the exact pass, needed anyway for the baseline, tells where to start: at the
//! smallest grid value `B0 + k·step` that covers its largest |x|. If the approximate network goes beyond it
//! all the same, B grows to cover that value, the batch is run again, and once all are through, those that ran
//! with a smaller B are. So every result is that of the final B, and one or two passes are nearly always enough.

use std::time::Instant;

use approx_models::{ActivationPolicy, Network, RunOptions, SiteKind};

use crate::error::{EvalError, RangeError, Result};
use crate::evaluate::{BatchResult, Job, Observer, Pass, first_out_of_range};
use crate::memory;

/// How often B may grow before the search gives up: a network that needs more overflows.
const MAX_WIDENED: usize = 1_000;

/// Under noise, a value beyond so many bounds is none of the network's, but what a polynomial outside its domain gives.
const EXPLODED: f64 = 4.0;

/// The bounds of the approximation ranges, in units of the activations' inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Of ReLU, `B_relu`.
    pub relu: f64,
    /// Of max-pooling, `B_max`.
    pub max_pool: f64,
}

impl Bounds {
    fn of_mut(&mut self, kind: SiteKind) -> &mut f64 {
        match kind {
            SiteKind::Relu => &mut self.relu,
            SiteKind::MaxPool => &mut self.max_pool,
        }
    }
}

/// Where the bounds begin and by what they grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundSearch {
    /// The smallest bounds to consider.
    pub start: Bounds,
    /// By how much a bound grows; 0 to fail instead.
    pub step: f64,
}

impl BoundSearch {
    /// The smallest `start + k·step` that is at least `max_abs`.
    fn cover(&self, kind: SiteKind, max_abs: f32) -> f64 {
        let mut start = self.start;
        let start = *start.of_mut(kind);
        let max_abs = f64::from(max_abs);
        if self.step <= 0.0 || max_abs <= start {
            return start;
        }
        let k = ((max_abs - start) / self.step).ceil();
        let bound = start + k * self.step;
        // The division may have rounded down.
        if bound >= max_abs { bound } else { bound + self.step }
    }
}

/// An evaluation in which no value left the range of approximation.
#[derive(Debug, Clone)]
pub struct ApproximatePass {
    /// The results, all with the final bounds.
    pub pass: Pass,
    /// The activations, with the final bounds.
    pub policy: ActivationPolicy,
    /// The final bounds.
    pub bounds: Bounds,
    /// How often the data set was gone through, wholly or in part.
    pub passes: usize,
    /// What it took in all, batches that were run again included.
    pub search_seconds: f64,
}

/// Evaluates the network with the activations that `policy` gives for some bounds, run as `options` say, and widens the
/// bounds where it must.
/// In the end, the network has the activations of the final bounds.
///
/// # Errors
/// [`EvalError::Range`] for a value out of range if the step is 0; [`EvalError::NotFinite`] for NaN and
/// infinities, [`EvalError::Noise`] for them and for what is far out of range under noise; [`EvalError::SearchGaveUp`]; [`EvalError::OutOfMemory`]; the data's, the model's or candle's own.
pub fn approximate_pass(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    search: BoundSearch,
    options: &RunOptions,
    observer: &dyn Observer,
    policy: impl Fn(Bounds) -> ActivationPolicy,
) -> Result<ApproximatePass> {
    let mut bounds = search.start;
    for kind in [SiteKind::Relu, SiteKind::MaxPool] {
        if let Some(largest) = exact.largest(kind) {
            *bounds.of_mut(kind) = search.cover(kind, largest.max_abs);
        }
    }
    let mut current = policy(bounds);
    network.set_policy(&current, options)?;
    memory::reset_peak();
    let ranges = job.ranges()?;
    // Each batch's result and the bounds it was made with.
    let mut results: Vec<Option<(BatchResult, Bounds)>> = ranges.iter().map(|_| None).collect();
    let (mut passes, mut widened, mut search_seconds) = (0, 0, 0.0);
    loop {
        let is_stale =
            |result: &Option<(BatchResult, Bounds)>| result.as_ref().is_none_or(|(_, b)| *b != bounds);
        let stale: Vec<usize> = (0..ranges.len()).filter(|&i| is_stale(&results[i])).collect();
        if stale.is_empty() {
            break;
        }
        passes += 1;
        observer.pass_started("approximate", stale.iter().map(|&i| ranges[i].len()).sum());
        let stale_ranges: Vec<_> = stale.iter().map(|&i| ranges[i].clone()).collect();
        let mut indices = stale.into_iter();
        job.for_each(&stale_ranges, |images, batch, start| {
            let mut start = start;
            let result = loop {
                let result = job.run(network, batch, start)?;
                search_seconds += result.seconds;
                let Some(error) = range_error(network, &result, images.clone())? else { break result };
                if search.step <= 0.0 {
                    return Err(error.into());
                }
                if widened == MAX_WIDENED {
                    return Err(EvalError::SearchGaveUp { widened, last: error });
                }
                widened += 1;
                let bound = search.cover(error.kind, error.max_abs);
                *bounds.of_mut(error.kind) = bound;
                tracing::info!(site = error.site, max_abs = error.max_abs, bound, "widened the range");
                observer.widened(&error, bound);
                current = policy(bounds);
                network.set_policy(&current, options)?;
                start = Instant::now();
            };
            observer.advanced(images.len());
            let index = indices.next().expect("there are as many ranges as indices");
            results[index] = Some((result, bounds));
            Ok(())
        })?;
        observer.pass_finished();
    }
    let results = results.into_iter().flatten().map(|(result, _)| result).collect();
    let pass = Pass::of(results, network)?;
    Ok(ApproximatePass { pass, policy: current, bounds, passes, search_seconds })
}

/// The first value out of range, if any.
fn range_error(
    network: &Network,
    result: &BatchResult,
    images: std::ops::Range<usize>,
) -> Result<Option<RangeError>> {
    let Some((name, range)) = first_out_of_range(network, result) else { return Ok(None) };
    let site = network.sites().iter().find(|site| site.name() == name).expect("it is one of them");
    match (site.bound(), network.noise()) {
        (Some(bound), Some(noise))
            if range.max_abs.is_nan() || f64::from(range.max_abs) > EXPLODED * bound =>
        {
            Err(EvalError::Noise {
                site: name.to_owned(),
                bits: noise.bits(),
                value: range.max_abs,
                bound,
                images,
            })
        }
        (Some(bound), _) if range.max_abs.is_finite() => Ok(Some(RangeError {
            site: name.to_owned(),
            kind: site.kind(),
            center: site.center(),
            max_abs: range.max_abs,
            bound,
            out_of_range: range.out_of_range,
            images,
        })),
        // No bound would do.
        (Some(_), _) => Err(EvalError::NotFinite { site: name.to_owned(), value: range.max_abs, images }),
        // Not approximated on a range, like x²: that it overflows shows in the logits, and is the result.
        (None, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_starts_at_b0_and_covers() {
        let search = |start, step| BoundSearch { start: Bounds { relu: start, max_pool: 1.0 }, step };
        for (start, step, max_abs, expected) in [
            (5.0, 5.0, 18.85, 20.0),
            (5.0, 5.0, 20.0, 20.0),
            (5.0, 5.0, 20.001, 25.0),
            (50.0, 5.0, 18.85, 50.0),
            (3.0, 7.0, 10.5, 17.0),
            (5.0, 0.0, 18.85, 5.0),
            (0.1, 0.1, 0.7, 0.7),
        ] {
            let bound = search(start, step).cover(SiteKind::Relu, max_abs);
            assert!((bound - expected).abs() < 1e-6, "{start} {step} {max_abs}: {bound}");
        }
    }
}
