//! A precision for each site: as little as the accuracy allows.
//!
//! Not all activations need the same precision. How much each one's matters is measured: with all others at the highest
//! precision, what does the mean square of the logits' difference to the exact network's become when this one has less?
//! Errors of different sites add up nearly independently, so these numbers tell in which order to give precision away:
//! greedily, each step the one that saves most for the least error. That gives a path from the most precise network to the
//! cheapest one. How far along it the accuracy lasts is found by bisection, with whole evaluations on all images.

use std::collections::HashMap;
use std::sync::Arc;

use approx_data::First;
use approx_models::{Composition, ModelError, Network, RunOptions, Site};
use minimax_coeffs::Cost;
use serde::Serialize;

use crate::bound_search::ApproximatePass;
use crate::calibrate::{fitted_pass, initial_bounds, policy_by_site};
use crate::compare::Comparison;
use crate::error::{EvalError, Result};
use crate::evaluate::{Job, Logits, Observer, Pass};

/// What is to be small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Minimise {
    /// The levels of the activations.
    Depth,
    /// Their non-scalar multiplications.
    Multiplications,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Goal {
    /// What is to be small.
    pub minimise: Minimise,
    /// By how much the accuracy may be below the exact network's, relative to that: 0.005 for 0.5 %.
    pub max_drop: f64,
    /// Compositions to choose from, of ascending precision; not empty.
    pub compositions: Vec<Arc<Composition>>,
    /// What each site's largest |x| is multiplied by to give its bound.
    pub headroom: f64,
    /// How many images the sites' sensitivity is measured on.
    pub sensitivity_images: usize,
}

/// A point of the path that was evaluated on all images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TunedPoint {
    /// Levels of the activations on the longest path: the network's depth without its linear layers.
    pub levels: u32,
    /// Non-scalar multiplications of all activations, each on one ciphertext.
    pub multiplications: u32,
    /// The results; `None` if values left every range.
    pub result: Option<TunedResult>,
    /// Whether no other point is as cheap and as accurate, and better in one of the two.
    pub on_front: bool,
    /// Whether it is the cheapest of them that loses no more than it may.
    pub chosen: bool,
    /// By site, in the network's order: the precision.
    pub alphas: Vec<u8>,
}

/// What a point came to. Shares are between 0 and 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TunedResult {
    /// Share of images that it gets right.
    pub accuracy: f64,
    /// `(accuracy − exact accuracy) / exact accuracy`.
    pub relative_difference: f64,
    /// Share of images that get the exact network's class.
    pub agreement: f64,
    /// The largest difference of two logits.
    pub max_abs_logit_difference: Option<f32>,
}

/// What a tuning comes to.
pub struct Tuned {
    /// Each point that was evaluated, the most expensive first.
    pub points: Vec<TunedPoint>,
    /// What the point that was chosen gave, with its policy; the network has its activations.
    pub pass: ApproximatePass,
}

/// More evaluations than bisection needs, evenly along the path, to show what else there is.
const MORE_POINTS: usize = 8;
/// How often a site's range may be widened for a point before that is given up.
const MAX_WIDENED: usize = 20;

/// Chooses a precision for each site of `network`. `exact` is its exact pass.
///
/// # Errors
/// [`EvalError::TooImprecise`] if even the highest precision everywhere loses more than it may; else as
/// [`calibrated_pass`](crate::calibrate::calibrated_pass).
pub fn tune(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    goal: &Goal,
    observer: &dyn Observer,
) -> Result<Tuned> {
    let errors = sensitivities(job, exact, network, goal, observer)?;
    let of_site = |(site, bound): (&Site, f64)| {
        goal.compositions.iter().map(|composition| site.cost(composition, bound)).collect()
    };
    let sites = network.sites().iter().zip(initial_bounds(exact, goal.headroom));
    let costs: Vec<Vec<Cost>> = sites.map(of_site).collect::<Result<_, ModelError>>()?;
    let path = greedy_path(&errors, &costs, goal.minimise);
    let mut search = PathSearch { job, exact, network, goal, observer, path: &path, evaluated: Vec::new() };

    // The last place of the path that is good enough: `good` is, `bad` is not.
    if !search.is_good(0)? {
        let accuracy = search.result(0).map_or(0.0, |result| result.accuracy);
        let exact_accuracy = Comparison::new(&exact.logits, &exact.logits, &exact.labels).exact_accuracy;
        return Err(EvalError::TooImprecise { accuracy, exact_accuracy, max_drop: goal.max_drop });
    }
    let (mut good, mut bad) = (0, path.len());
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if search.is_good(middle)? { good = middle } else { bad = middle }
    }
    for i in 1..=MORE_POINTS {
        search.is_good((path.len() - 1) * i / MORE_POINTS)?;
    }
    // Accuracy does not fall evenly: another point that was evaluated may be cheaper and good enough.
    let good = (0..path.len()).rev().find(|&place| search.was_good(place)).expect("the first place is");
    let evaluated = search.evaluated;
    let names: Vec<String> = network.sites().iter().map(|site| site.name().to_owned()).collect();
    let mut points: Vec<TunedPoint> = Vec::with_capacity(evaluated.len());
    let mut kept = None;
    for Evaluated { place, found } in evaluated {
        let chosen = place == good;
        let by_site = path[place].iter().zip(&costs).map(|(&alpha, costs)| costs[alpha]);
        let multiplications = by_site.clone().map(|cost| cost.non_scalar_multiplications);
        let levels: HashMap<&str, u32> =
            names.iter().map(String::as_str).zip(by_site.map(|cost| cost.depth)).collect();
        points.push(TunedPoint {
            levels: network.depth(|site| levels[site.name()]),
            multiplications: multiplications.sum(),
            result: found.as_ref().map(|(result, _)| result.clone()),
            on_front: false,
            chosen,
            alphas: path[place].iter().map(|&alpha| goal.compositions[alpha].bits()).collect(),
        });
        if chosen {
            kept = found;
        }
    }
    mark_front(&mut points, goal.minimise);
    points.sort_by_key(|point| std::cmp::Reverse((point.cost(goal.minimise), point.levels)));
    let (_, pass) = kept.expect("the chosen point is one that was evaluated");
    network.set_policy(&pass.policy, &RunOptions::default())?;
    Ok(Tuned { points, pass })
}

impl TunedPoint {
    fn cost(&self, minimise: Minimise) -> u32 {
        match minimise {
            Minimise::Depth => self.levels,
            Minimise::Multiplications => self.multiplications,
        }
    }
}

/// Places of the path that were evaluated on all images.
struct PathSearch<'a> {
    job: &'a Job<'a>,
    exact: &'a Pass,
    network: &'a mut Network,
    goal: &'a Goal,
    observer: &'a dyn Observer,
    path: &'a [Vec<usize>],
    evaluated: Vec<Evaluated>,
}

struct Evaluated {
    place: usize,
    /// `None` if values left every range.
    found: Option<(TunedResult, ApproximatePass)>,
}

impl PathSearch<'_> {
    fn is_good(&mut self, place: usize) -> Result<bool> {
        if self.evaluated.iter().all(|e| e.place != place) {
            let found = self.evaluate(place)?;
            self.evaluated.push(Evaluated { place, found });
        }
        Ok(self.was_good(place))
    }

    fn was_good(&self, place: usize) -> bool {
        self.result(place).is_some_and(|result| result.relative_difference >= -self.goal.max_drop)
    }

    fn result(&self, place: usize) -> Option<&TunedResult> {
        let evaluated = self.evaluated.iter().find(|e| e.place == place)?;
        evaluated.found.as_ref().map(|(result, _)| result)
    }

    fn evaluate(&mut self, place: usize) -> Result<Option<(TunedResult, ApproximatePass)>> {
        let compositions = &self.goal.compositions;
        let compositions: Vec<_> = self.path[place].iter().map(|&index| &compositions[index]).collect();
        let (job, exact, headroom) = (self.job, self.exact, self.goal.headroom);
        let fitted =
            fitted_pass(job, exact, self.network, &compositions, headroom, MAX_WIDENED, self.observer);
        let pass = match fitted {
            Err(EvalError::NotFinite { .. } | EvalError::SearchGaveUp { .. }) => {
                self.observer.pass_finished();
                return Ok(None);
            }
            fitted => fitted?,
        };
        let comparison = Comparison::new(&exact.logits, &pass.pass.logits, &exact.labels);
        let result = TunedResult {
            accuracy: comparison.approx_accuracy,
            relative_difference: comparison.relative_difference(),
            agreement: comparison.agreement,
            max_abs_logit_difference: comparison.max_abs_logit_difference,
        };
        Ok(Some((result, pass)))
    }
}

/// By site and precision: the mean square of what the logits are off, beyond that of the highest precision everywhere;
/// infinite where most images change their class.
fn sensitivities(
    job: &Job,
    exact: &Pass,
    network: &mut Network,
    goal: &Goal,
    observer: &dyn Observer,
) -> Result<Vec<Vec<f64>>> {
    let images = First::new(job.images, goal.sensitivity_images);
    let job = Job {
        images: &images,
        normalization: job.normalization.clone(),
        batch_size: job.batch_size,
        device: job.device.clone(),
    };
    let (count, highest) = (exact.sites.len(), goal.compositions.len() - 1);
    let bounds = initial_bounds(exact, goal.headroom);
    observer.pass_started("sensitivity", job.images.len() * (1 + count * highest));
    let mut logits = |compositions: &[&Arc<Composition>]| -> Result<Logits> {
        // What one site does to the ranges of others is for the evaluation to find out.
        let policy = policy_by_site(exact, &bounds, compositions);
        network.set_policy(&policy, &RunOptions::EXACT_OUTSIDE)?;
        job.logits(network, observer)
    };
    let best = vec![&goal.compositions[highest]; count];
    let reference = logits(&best)?;
    let mut errors = vec![vec![0.0; highest + 1]; count];
    for (site, errors) in errors.iter_mut().enumerate() {
        for index in (0..highest).rev() {
            if errors[index + 1] == f64::INFINITY {
                errors[index] = f64::INFINITY;
                observer.advanced(job.images.len());
                continue;
            }
            let mut compositions = best.clone();
            compositions[site] = &goal.compositions[index];
            let found = logits(&compositions)?;
            let same = reference.predictions().zip(found.predictions()).filter(|(a, b)| a == b).count();
            let squares = reference.values().iter().zip(found.values());
            let squares: f64 = squares.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            let usable = squares.is_finite() && 2 * same > reference.predictions().len();
            let mean = squares / reference.values().len() as f64;
            // Less precision is never taken for better, whatever a few images say.
            errors[index] = if usable { mean.max(errors[index + 1]) } else { f64::INFINITY };
        }
    }
    observer.pass_finished();
    Ok(errors)
}

/// From the highest precision everywhere to the lowest, by index of precision for each site: each step the one that saves
/// most for the least additional error. Errors and costs are by site and precision.
fn greedy_path(errors: &[Vec<f64>], costs: &[Vec<Cost>], minimise: Minimise) -> Vec<Vec<usize>> {
    let cost = |site: usize, alpha: usize| match minimise {
        Minimise::Depth => costs[site][alpha].depth,
        Minimise::Multiplications => costs[site][alpha].non_scalar_multiplications,
    };
    let mut state: Vec<usize> = costs.iter().map(|costs| costs.len() - 1).collect();
    let mut path = vec![state.clone()];
    loop {
        let steps = (0..state.len()).flat_map(|site| (0..state[site]).map(move |alpha| (site, alpha)));
        let steps = steps.filter_map(|(site, alpha)| {
            let saved = cost(site, state[site]).checked_sub(cost(site, alpha)).filter(|saved| *saved > 0)?;
            let error = errors[site][alpha] - errors[site][state[site]];
            error.is_finite().then(|| (error / f64::from(saved), site, alpha))
        });
        let Some((_, site, alpha)) = steps.min_by(|a, b| a.0.total_cmp(&b.0)) else { return path };
        state[site] = alpha;
        path.push(state.clone());
    }
}

/// Marks the points that no other one beats.
fn mark_front(points: &mut [TunedPoint], minimise: Minimise) {
    let key = |point: &TunedPoint| Some((point.cost(minimise), point.result.as_ref()?.accuracy));
    let keys: Vec<Option<(u32, f64)>> = points.iter().map(key).collect();
    for (point, key) in points.iter_mut().zip(&keys) {
        point.on_front = key.is_some_and(|(cost, accuracy)| {
            let mut others = keys.iter().flatten();
            !others.any(|&(c, a)| c <= cost && a >= accuracy && (c < cost || a > accuracy))
        });
    }
}

/// The points as comma-separated values with a header; the last column has the precision of each site.
pub fn to_csv(points: &[TunedPoint], sites: &[String]) -> String {
    let mut csv = "levels,multiplications,accuracy,relative_difference,agreement,max_abs_logit_difference,on_front,chosen,\
                   alphas\n"
        .to_owned();
    for point in points {
        let results = match &point.result {
            None => ",,,".to_owned(),
            Some(result) => {
                let error = result.max_abs_logit_difference.map_or_else(String::new, |e| e.to_string());
                let TunedResult { accuracy, relative_difference, agreement, .. } = result;
                format!("{accuracy},{relative_difference},{agreement},{error}")
            }
        };
        let alphas: Vec<String> =
            sites.iter().zip(&point.alphas).map(|(name, alpha)| format!("{name}={alpha}")).collect();
        let TunedPoint { levels, multiplications, on_front, chosen, .. } = point;
        csv += &format!("{levels},{multiplications},{results},{on_front},{chosen},{}\n", alphas.join(" "));
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(depth: u32, non_scalar_multiplications: u32) -> Cost {
        Cost { depth, non_scalar_multiplications }
    }

    #[test]
    fn the_path_gives_away_what_matters_least_first() {
        // Site 1 counts twice; site 0 minds a lot; the lowest precision is of no use at site 2.
        let once = vec![cost(2, 3), cost(4, 8), cost(5, 9)];
        let costs = [once.clone(), vec![cost(4, 9), cost(8, 24), cost(10, 27)], once];
        let errors = [vec![9.0, 4.0, 0.0], vec![2.0, 0.5, 0.0], vec![f64::INFINITY, 0.3, 0.0]];
        let path = greedy_path(&errors, &costs, Minimise::Depth);
        assert_eq!(
            path,
            // 0.5 / 2 levels, 0.3 / 1, 1.5 / 4, 9 / 3 (and not 4 / 1).
            [[2, 2, 2], [2, 1, 2], [2, 1, 1], [2, 0, 1], [0, 0, 1]]
        );
        let depth = |state: &Vec<usize>| -> u32 {
            state.iter().zip(&costs).map(|(&alpha, costs)| costs[alpha].depth).sum()
        };
        assert!(path.windows(2).all(|pair| depth(&pair[1]) < depth(&pair[0])));
    }

    #[test]
    fn the_front_has_no_point_that_another_beats() {
        let point = |levels, accuracy: Option<f64>| TunedPoint {
            levels,
            multiplications: 0,
            result: accuracy.map(|accuracy| TunedResult {
                accuracy,
                relative_difference: 0.0,
                agreement: 1.0,
                max_abs_logit_difference: None,
            }),
            on_front: false,
            chosen: false,
            alphas: vec![],
        };
        let mut points = [
            point(10, Some(0.9)),
            point(9, Some(0.9)),
            point(8, Some(0.7)),
            point(7, Some(0.8)),
            point(6, Some(0.1)),
            point(5, None),
        ];
        mark_front(&mut points, Minimise::Depth);
        assert_eq!(points.map(|p| p.on_front), [false, true, false, true, true, false]);
    }
}
