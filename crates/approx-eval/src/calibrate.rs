//! A bound for each site, from what it sees.
//!
//! One B for all sites must hold the largest value of all, and the error of every site grows with it. Here each site has
//! its own: its largest |x| over the exact pass, times a headroom.

use std::collections::{BTreeMap, BTreeSet};

use approx_models::{ActivationPolicy, Network, RunOptions, SiteKind};
use approx_ops::Sketch;
use minimax_coeffs::Alpha;
use serde::{Deserialize, Serialize};

use crate::bound_search::{ApproximatePass, BoundSearch, Bounds, approximate_pass};
use crate::candidates::{Candidate, SMALLEST_BOUND, SiteInputs};
use crate::error::{EvalError, Result};
use crate::evaluate::{Job, Observer, Pass, SiteRange, exact_pass};

/// How often a site's bound may grow before the calibration gives up.
const MAX_WIDENED: usize = 500;
/// How often fitted polynomials are made again for what the approximate network's sites see.
const REFITS: usize = 1;

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
    with_sketches(network, || exact_pass(job, network, observer))
}

/// What a pass gives, with the distribution of each site's inputs in it.
fn with_sketches<T>(network: &Network, pass: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Sketch>)> {
    network.sites().iter().for_each(approx_models::Site::start_sketch);
    let result = pass();
    let sketches = network.sites().iter().map(|site| site.take_sketch().unwrap_or_default()).collect();
    Ok((result?, sketches))
}

/// The approximation with `candidates`, one for each site. Each range is `headroom` times as long as what the site sees, or
/// if the approximate network goes beyond that, as what it sees there.
///
/// # Errors
/// [`EvalError::SearchGaveUp`] if the bounds do not end to grow; [`EvalError::Fit`]; else as [`approximate_pass`].
pub fn calibrated_pass(
    job: &Job,
    (exact, sketches): (&Pass, &[Sketch]),
    network: &mut Network,
    candidates: &[&Candidate],
    headroom: f64,
    observer: &dyn Observer,
) -> Result<ApproximatePass> {
    let inputs = site_inputs(network, sketches, headroom)?;
    ranged_pass(job, exact, network, (candidates, inputs), headroom, MAX_WIDENED, observer)
}

/// What each site sees, by its sketch.
///
/// # Errors
/// [`EvalError::Fit`] for a site that saw no number.
pub(crate) fn site_inputs(network: &Network, sketches: &[Sketch], headroom: f64) -> Result<Vec<SiteInputs>> {
    let sites = network.sites().iter().zip(sketches);
    sites.map(|(site, sketch)| SiteInputs::new(site, sketch, headroom)).collect()
}

/// As [`calibrated_pass`], with ranges that are widened so many times at most.
pub(crate) fn ranged_pass(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    (candidates, mut inputs): (&[&Candidate], Vec<SiteInputs>),
    headroom: f64,
    max_widened: usize,
    observer: &dyn Observer,
) -> Result<ApproximatePass> {
    if candidates.iter().any(|candidate| matches!(candidate, Candidate::Fitted { .. })) {
        // The inputs of a site are those that the approximations before it make.
        for _ in 0..REFITS {
            network.set_policy(&policy_by_site(&mut inputs, candidates)?, &RunOptions::EXACT_OUTSIDE)?;
            observer.pass_started("fit", job.images.len());
            let (_, sketches) = with_sketches(network, || job.logits(network, observer))?;
            observer.pass_finished();
            let seen = site_inputs(network, &sketches, headroom)?;
            inputs = inputs.into_iter().zip(seen).map(|(old, new)| old.with_inputs(new)).collect();
        }
    }
    let mut widened = 0;
    loop {
        let policy = policy_by_site(&mut inputs, candidates)?;
        match evaluate_policy(job, exact, network, &policy, &RunOptions::default(), observer) {
            Err(EvalError::Range(last)) if widened == max_widened => {
                return Err(EvalError::SearchGaveUp { widened, last });
            }
            Err(EvalError::Range(error)) => {
                let index = network.sites().iter().position(|site| site.name() == error.site);
                let index = index.expect("the sites are the same");
                let bound = inputs[index].widen(candidates[index], error.max_abs, headroom);
                widened += 1;
                observer.pass_finished();
                observer.widened(&error, bound);
            }
            result => return result,
        }
    }
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

/// A policy with a candidate for each site; for others, the largest bound and the highest precision of any.
pub(crate) fn policy_by_site(
    inputs: &mut [SiteInputs],
    candidates: &[&Candidate],
) -> Result<ActivationPolicy> {
    let compositions = candidates.iter().zip(&*inputs).filter_map(|(candidate, inputs)| match candidate {
        Candidate::Composition(composition) => Some((composition, inputs.kind(), inputs.bound())),
        Candidate::Fitted { .. } => None,
    });
    let highest = compositions.clone().map(|(composition, ..)| composition).max_by_key(|c| c.bits());
    let largest = |kind| {
        let of_kind = compositions.clone().filter(|(_, other, _)| *other == kind);
        of_kind.map(|(.., bound)| bound).fold(SMALLEST_BOUND, f64::max)
    };
    let mut policy = highest.map_or_else(ActivationPolicy::exact, |highest| {
        ActivationPolicy::composite(highest, largest(SiteKind::Relu), largest(SiteKind::MaxPool))
    });
    for (inputs, candidate) in inputs.iter_mut().zip(candidates) {
        policy.sites.insert(inputs.name().to_owned(), inputs.policy(candidate)?);
    }
    Ok(policy)
}
