//! A bound for each site, from what it sees.
//!
//! One B for all sites must hold the largest value of all, and the error of every site grows with it. Here each site has
//! its own: its largest |x| over the exact pass, times a headroom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use approx_models::{ActivationPolicy, Composition, Network, RunOptions, SiteKind, SitePolicy};
use approx_ops::Sketch;
use minimax_coeffs::Alpha;
use serde::{Deserialize, Serialize};

use crate::bound_search::{ApproximatePass, BoundSearch, Bounds, approximate_pass};
use crate::error::{EvalError, Result};
use crate::evaluate::{Job, Observer, Pass, SiteRange, exact_pass};

/// How often a site's bound may grow before the calibration gives up.
const MAX_WIDENED: usize = 500;
/// Of a site that sees zeros only.
const SMALLEST_BOUND: f64 = 1e-3;

/// What a site saw in the exact network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteSummary {
    /// In the style of the weights.
    pub name: String,
    /// ReLU or max-pooling.
    pub kind: SiteKind,
    /// How many inputs.
    pub count: u64,
    /// The smallest input.
    pub min: f32,
    /// The largest input.
    pub max: f32,
    /// The largest |x|.
    pub max_abs: f32,
    /// By percentage: `0.1`, `1`, `50`, `99`, `99.9`. Within 0.8 % of themselves ([`Sketch::quantile`]).
    pub quantiles: BTreeMap<String, f32>,
    /// The bound: of approximation, and of the next field.
    pub bound: f64,
    /// By alpha: the share of inputs with |x| < 2^-alpha · bound, where the sign is least certain. There is one for each
    /// published precision, and for those that the site was looked at for.
    pub near_zero: BTreeMap<u8, f64>,
}

impl SiteSummary {
    /// The summary of a site's inputs, with a bound for them. `precisions`, in bits, are looked at besides the published
    /// ones.
    pub fn new(
        range: &SiteRange,
        sketch: &Sketch,
        bound: f64,
        precisions: impl IntoIterator<Item = u8>,
    ) -> Self {
        let quantile = |(name, q): (&str, f64)| (name.to_owned(), sketch.quantile(q).unwrap_or_default());
        let precisions: BTreeSet<u8> = Alpha::all().map(Alpha::bits).chain(precisions).collect();
        let share = |bits: u8| (bits, sketch.share_below(((-f64::from(bits)).exp2() * bound) as f32));
        Self {
            name: range.name.clone(),
            kind: range.kind,
            count: sketch.count(),
            min: sketch.min().unwrap_or_default(),
            max: sketch.max().unwrap_or_default(),
            max_abs: range.max_abs,
            quantiles: QUANTILES.into_iter().map(quantile).collect(),
            bound,
            near_zero: precisions.into_iter().map(share).collect(),
        }
    }
}

/// What is sketched besides the extremes.
const QUANTILES: [(&str, f64); 5] = [("0.1", 0.001), ("1", 0.01), ("50", 0.5), ("99", 0.99), ("99.9", 0.999)];

/// What the exact network's sites see: the exact pass, with the distribution of each site's inputs.
///
/// # Errors
/// As [`exact_pass`].
pub fn sketched_pass(
    job: &Job,
    network: &mut Network,
    observer: &dyn Observer,
) -> Result<(Pass, Vec<Sketch>)> {
    network.set_policy(&ActivationPolicy::exact(), &RunOptions::default())?;
    network.sites().iter().for_each(approx_models::Site::start_sketch);
    let pass = exact_pass(job, network, observer);
    let sketches = network.sites().iter().map(|site| site.take_sketch().unwrap_or_default()).collect();
    Ok((pass?, sketches))
}

/// The approximation with a bound for each site, `headroom` times its largest |x| or, if the approximate network goes
/// beyond that, `headroom` times that.
///
/// # Errors
/// [`EvalError::SearchGaveUp`] if the bounds do not end to grow; else as [`approximate_pass`].
pub fn calibrated_pass(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    composition: &Arc<Composition>,
    headroom: f64,
    observer: &dyn Observer,
) -> Result<ApproximatePass> {
    let compositions = vec![composition; exact.sites.len()];
    fitted_pass(job, exact, network, &compositions, headroom, MAX_WIDENED, observer)
}

/// As [`calibrated_pass`], with a composition for each site, and at most so many times of widening.
pub(crate) fn fitted_pass(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    compositions: &[&Arc<Composition>],
    headroom: f64,
    max_widened: usize,
    observer: &dyn Observer,
) -> Result<ApproximatePass> {
    let mut bounds = initial_bounds(exact, headroom);
    let mut widened = 0;
    loop {
        let policy = policy_by_site(exact, &bounds, compositions);
        match evaluate_policy(job, exact, network, &policy, &RunOptions::default(), observer) {
            Err(EvalError::Range(last)) if widened == max_widened => {
                return Err(EvalError::SearchGaveUp { widened, last });
            }
            Err(EvalError::Range(error)) => {
                let index = exact.sites.iter().position(|site| site.name == error.site);
                let index = index.expect("the sites are the same");
                bounds[index] = bound(error.max_abs, headroom);
                widened += 1;
                observer.pass_finished();
                observer.widened(&error, bounds[index]);
            }
            result => return result,
        }
    }
}

/// Each site's bound, from its largest |x| in the exact network.
pub(crate) fn initial_bounds(exact: &Pass, headroom: f64) -> Vec<f64> {
    exact.sites.iter().map(|site| bound(site.max_abs, headroom)).collect()
}

fn bound(max_abs: f32, headroom: f64) -> f64 {
    (f64::from(max_abs) * headroom).max(SMALLEST_BOUND)
}

/// The network with the activations of `policy`, run as `options` say. Its bounds are not widened. The result's bounds are the policy's
/// largest.
///
/// # Errors
/// [`EvalError::Range`] for a value out of range; else as [`approximate_pass`].
pub fn evaluate_policy(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    policy: &ActivationPolicy,
    options: &RunOptions,
    observer: &dyn Observer,
) -> Result<ApproximatePass> {
    network.set_policy(policy, options)?;
    let search = BoundSearch { start: largest_bounds(network), step: 0.0 };
    approximate_pass(job, exact, network, search, options, observer, |_| policy.clone())
}

/// The largest bound of each kind that a network's sites have; 0 where none has one.
pub fn largest_bounds(network: &Network) -> Bounds {
    let largest = |kind| {
        let sites = network.sites().iter().filter(|site| site.kind() == kind);
        sites.filter_map(approx_models::Site::bound).fold(0.0, f64::max)
    };
    Bounds { relu: largest(SiteKind::Relu), max_pool: largest(SiteKind::MaxPool) }
}

/// A policy with a bound and a composition for each site; for others, the largest bound and the highest precision.
pub(crate) fn policy_by_site(
    exact: &Pass,
    bounds: &[f64],
    compositions: &[&Arc<Composition>],
) -> ActivationPolicy {
    let largest = |kind| {
        let of_kind = exact.sites.iter().zip(bounds).filter(|(site, _)| site.kind == kind);
        of_kind.map(|(_, bound)| *bound).fold(SMALLEST_BOUND, f64::max)
    };
    let Some(highest) = compositions.iter().max_by_key(|composition| composition.bits()) else {
        return ActivationPolicy::exact();
    };
    let mut policy =
        ActivationPolicy::composite(highest, largest(SiteKind::Relu), largest(SiteKind::MaxPool));
    for ((site, &bound), composition) in exact.sites.iter().zip(bounds).zip(compositions) {
        policy.sites.insert(site.name.clone(), SitePolicy::minimax(composition, bound));
    }
    policy
}
