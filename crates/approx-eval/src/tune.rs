//! A precision or a degree for each site: as little as the accuracy allows.
//!
//! Not all activations need the same precision. How much each one's matters is measured: with all others exact, what is the
//! mean square of the logits' difference to the exact network's for each candidate? Errors of different sites add up nearly
//! independently, so the choice of the least error at each total cost is a knapsack, which is solved exactly. That gives a
//! path from the most precise network to the cheapest one. How far along it the accuracy lasts is found by bisection, with
//! whole evaluations on all images.

use std::collections::HashMap;

use approx_data::First;
use approx_models::{ActivationPolicy, Network, RunOptions, Site, SiteKind};
use approx_ops::Sketch;
use minimax_coeffs::Cost;
use serde::Serialize;

use crate::bound_search::ApproximatePass;
use crate::calibrate::{ranged_pass, site_inputs};
use crate::candidates::{Candidate, SiteInputs};
use crate::compare::Comparison;
use crate::error::{EvalError, Result};
use crate::evaluate::{Job, Observer, Pass};

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
    /// What to choose from for an activation; not empty.
    pub activations: Vec<Candidate>,
    /// What to choose from for a max-pooling: compositions, since what is fitted to a site's inputs is nothing for their
    /// differences.
    pub max_pools: Vec<Candidate>,
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
    /// By site, in the network's order: what stands there.
    pub sites: Vec<Candidate>,
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

/// Chooses a candidate for each site of `network`. `exact` is its exact pass, with what each site saw.
///
/// # Errors
/// [`EvalError::TooImprecise`] if even the most precise choice loses more than it may; [`EvalError::NoCandidate`]; else as
/// [`calibrated_pass`](crate::calibrate::calibrated_pass).
pub fn tune(
    job: &Job,
    (exact, sketches): (&Pass, &[Sketch]),
    network: &mut Network,
    goal: &Goal,
    observer: &dyn Observer,
) -> Result<Tuned> {
    let mut inputs = site_inputs(network, sketches, goal.headroom)?;
    let mut options = options(network, &mut inputs, goal)?;
    sensitivities(job, network, &mut inputs, &mut options, goal, observer)?;
    let path = path(&options, goal.minimise);
    let mut search = PathSearch {
        job,
        exact,
        network,
        inputs: &inputs,
        goal,
        observer,
        path: &path,
        evaluated: Vec::new(),
    };

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
    let mut points: Vec<TunedPoint> = Vec::with_capacity(evaluated.len());
    let mut kept = None;
    for Evaluated { place, found } in evaluated {
        let chosen = place == good;
        let cost = cost_of(network, &path[place]);
        points.push(TunedPoint {
            levels: cost.depth,
            multiplications: cost.non_scalar_multiplications,
            result: found.as_ref().map(|(result, _)| result.clone()),
            on_front: false,
            chosen,
            sites: path[place].iter().map(|choice| choice.candidate.clone()).collect(),
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
    inputs: &'a [SiteInputs],
    goal: &'a Goal,
    observer: &'a dyn Observer,
    path: &'a [Vec<&'a Choice>],
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
        let candidates: Vec<&Candidate> = self.path[place].iter().map(|choice| &choice.candidate).collect();
        let (job, exact, headroom) = (self.job, self.exact, self.goal.headroom);
        let choice = (&candidates[..], self.inputs.to_vec());
        let found = ranged_pass(job, exact, self.network, choice, headroom, MAX_WIDENED, self.observer);
        let pass = match found {
            Err(EvalError::NotFinite { .. } | EvalError::SearchGaveUp { .. }) => {
                self.observer.pass_finished();
                return Ok(None);
            }
            found => found?,
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

/// What can stand at one site.
#[derive(Debug, Clone)]
struct Choice {
    candidate: Candidate,
    cost: Cost,
    /// The mean square of what the logits are off; infinite where most images change their class.
    error: f64,
}

impl Choice {
    fn cost(&self, minimise: Minimise) -> u32 {
        match minimise {
            Minimise::Depth => self.cost.depth,
            Minimise::Multiplications => self.cost.non_scalar_multiplications,
        }
    }
}

/// What all activations cost with a choice for each site.
fn cost_of(network: &Network, choices: &[&Choice]) -> Cost {
    let names = network.sites().iter().map(Site::name);
    let depths: HashMap<&str, u32> = names.zip(choices.iter().map(|choice| choice.cost.depth)).collect();
    Cost {
        depth: network.depth(|site| depths[site.name()]),
        non_scalar_multiplications: choices.iter().map(|choice| choice.cost.non_scalar_multiplications).sum(),
    }
}

/// By site the candidates that suit it, without those that cost no less than another one and are no better on the site's
/// inputs. Their errors are not known yet.
fn options(network: &Network, inputs: &mut [SiteInputs], goal: &Goal) -> Result<Vec<Vec<Choice>>> {
    let of_site = |(site, inputs): (&Site, &mut SiteInputs)| {
        let mut choices: Vec<(Choice, Option<f64>)> = Vec::new();
        let candidates = match site.kind() {
            SiteKind::Relu => &goal.activations,
            SiteKind::MaxPool => &goal.max_pools,
        };
        for candidate in candidates {
            // A precision that no polynomial has here is no choice.
            let Ok(cost) = candidate.cost(site, inputs.bound()) else { continue };
            let choice = Choice { candidate: candidate.clone(), cost, error: f64::INFINITY };
            choices.push((choice, inputs.rms(candidate)?));
        }
        let beats = |(a, a_rms): &(Choice, Option<f64>), (b, b_rms): &(Choice, Option<f64>)| {
            let (a, b) = (a.cost(goal.minimise), b.cost(goal.minimise));
            a_rms
                .zip(*b_rms)
                .is_some_and(|(a_rms, b_rms)| a <= b && a_rms <= b_rms && (a < b || a_rms < b_rms))
        };
        let best = choices.iter().filter(|choice| !choices.iter().any(|other| beats(other, choice)));
        let best: Vec<Choice> = best.map(|(choice, _)| choice.clone()).collect();
        match best.is_empty() {
            true => Err(EvalError::NoCandidate { site: site.name().to_owned() }),
            false => Ok(best),
        }
    };
    network.sites().iter().zip(inputs).map(of_site).collect()
}

/// Measures what each choice makes of the logits, alone.
fn sensitivities(
    job: &Job,
    network: &mut Network,
    inputs: &mut [SiteInputs],
    options: &mut [Vec<Choice>],
    goal: &Goal,
    observer: &dyn Observer,
) -> Result<()> {
    let images = First::new(job.images, goal.sensitivity_images);
    let job = Job {
        images: &images,
        normalization: job.normalization.clone(),
        batch_size: job.batch_size,
        device: job.device.clone(),
    };
    let passes = 1 + options.iter().map(Vec::len).sum::<usize>();
    observer.pass_started("sensitivity", job.images.len() * passes);
    network.set_policy(&ActivationPolicy::exact(), &RunOptions::default())?;
    let reference = job.logits(network, observer)?;
    for (inputs, options) in inputs.iter_mut().zip(options) {
        for option in options {
            let of_site = inputs.policy(&option.candidate)?;
            let policy = ActivationPolicy::exact().with_site(inputs.name(), of_site);
            // What one site does to the ranges of others is for the evaluation to find out.
            network.set_policy(&policy, &RunOptions::EXACT_OUTSIDE)?;
            let found = job.logits(network, observer)?;
            let same = reference.predictions().zip(found.predictions()).filter(|(a, b)| a == b).count();
            let squares = reference.values().iter().zip(found.values());
            let squares: f64 = squares.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            if squares.is_finite() && 2 * same > reference.predictions().len() {
                option.error = squares / reference.values().len() as f64;
            }
        }
    }
    observer.pass_finished();
    Ok(())
}

/// The choices with the least sum of errors for each sum of costs, from the most precise to the cheapest, without those
/// that another one beats. Choices whose error is infinite come last.
fn path(options: &[Vec<Choice>], minimise: Minimise) -> Vec<Vec<&Choice>> {
    /// More than any sum of errors that are finite.
    const HOPELESS: f64 = 1e60;
    // By sum of costs: the least sum of errors of the sites so far, and what the last one of them is then.
    let mut rows: Vec<Vec<Option<(f64, usize)>>> = Vec::with_capacity(options.len());
    let mut before = vec![Some(0.0)];
    for options in options {
        let most = options.iter().map(|option| option.cost(minimise)).max().unwrap_or(0) as usize;
        let mut row: Vec<Option<(f64, usize)>> = vec![None; before.len() + most];
        for (total, error) in before.iter().enumerate().filter_map(|(total, error)| Some((total, (*error)?)))
        {
            for (index, option) in options.iter().enumerate() {
                let error = error + option.error.min(HOPELESS);
                let place = &mut row[total + option.cost(minimise) as usize];
                if place.is_none_or(|(least, _)| error < least) {
                    *place = Some((error, index));
                }
            }
        }
        before = row.iter().map(|place| place.map(|(error, _)| error)).collect();
        rows.push(row);
    }
    let mut least = f64::INFINITY;
    let mut totals = Vec::new();
    for (total, error) in before.iter().enumerate() {
        if let Some(error) = error.filter(|error| *error < least) {
            least = error;
            totals.push(total);
        }
    }
    let choices = |mut total: usize| {
        let mut choices: Vec<&Choice> = Vec::with_capacity(options.len());
        for (row, options) in rows.iter().zip(options).rev() {
            let (_, index) = row[total].expect("the sum was reached from one before");
            choices.push(&options[index]);
            total -= options[index].cost(minimise) as usize;
        }
        choices.reverse();
        choices
    };
    totals.into_iter().rev().map(choices).collect()
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

/// The points as comma-separated values with a header; the last column has what stands at each site: `relu1=alpha9 relu2=degree27`.
pub fn to_csv(points: &[TunedPoint], sites: &[String]) -> String {
    let mut csv = "levels,multiplications,accuracy,relative_difference,agreement,max_abs_logit_difference,on_front,chosen,\
                   sites\n"
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
        let choices = sites.iter().zip(&point.sites);
        let choices: Vec<String> =
            choices.map(|(name, choice)| format!("{name}={}", choice.to_string().replace(' ', ""))).collect();
        let TunedPoint { levels, multiplications, on_front, chosen, .. } = point;
        csv += &format!("{levels},{multiplications},{results},{on_front},{chosen},{}\n", choices.join(" "));
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
    fn the_path_has_the_least_error_for_each_cost() {
        let choice = |degree, depth, error| Choice {
            candidate: Candidate::Fitted { degree },
            cost: cost(depth, 0),
            error,
        };
        // The second site matters ten times as much; the third cannot do with the cheapest.
        let options = [
            vec![choice(3, 2, 0.9), choice(15, 4, 0.1), choice(31, 5, 0.01)],
            vec![choice(3, 2, 9.0), choice(15, 4, 1.0), choice(31, 5, 0.1)],
            vec![choice(3, 2, f64::INFINITY), choice(15, 4, 0.1)],
        ];
        let path = path(&options, Minimise::Depth);
        let degrees = |choices: &Vec<&Choice>| -> Vec<usize> {
            let degree = |choice: &&Choice| match choice.candidate {
                Candidate::Fitted { degree } => degree,
                Candidate::Composition(_) => unreachable!(),
            };
            choices.iter().map(degree).collect()
        };
        let depths: Vec<u32> = path.iter().map(|c| c.iter().map(|c| c.cost.depth).sum()).collect();
        assert_eq!(depths, [14, 13, 11, 10, 8, 6]);
        let errors: Vec<f64> = path.iter().map(|c| c.iter().map(|c| c.error).sum()).collect();
        assert!(errors.windows(2).all(|pair| pair[0] < pair[1]), "{errors:?}");
        assert_eq!(degrees(&path[1]), [15, 31, 15]);
        assert_eq!(degrees(&path[2]), [3, 31, 15]);
        // Every one of all choices is beaten by one of the path, or is on it.
        for a in &options[0] {
            for b in &options[1] {
                for c in &options[2] {
                    let (depth, error) =
                        (a.cost.depth + b.cost.depth + c.cost.depth, a.error + b.error + c.error);
                    let as_good = |i: &usize| depths[*i] <= depth && errors[*i] <= error;
                    assert!((0..path.len()).any(|i| as_good(&i)), "{depth} {error}");
                }
            }
        }
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
            sites: vec![],
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
