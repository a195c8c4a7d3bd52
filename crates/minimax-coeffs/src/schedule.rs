//! Which degrees: least depth first, then fewest non-scalar multiplications.
//!
//! The dynamic programming of E. Lee, J.-W. Lee, J.-S. No and Y.-S. Kim (ePrint 2020/834, section 4:
//! ComputeMinDep and ComputeMinMultDegs), extended by the margin `eta` and, for ReLU, by the search for the first
//! interval. With `E_d(tau)` the error of the odd minimax approximation of 1 of degree `d` on
//! `[1 − tau, 1 + tau]`, let `h(n, m)` be the largest `tau` from which a composition of depth at most `n` with at
//! most `m` multiplications reaches the precision `target`:
//!
//! ```text
//! h(n, m) = max over d of E_d⁻¹(max(target, h(n − depth(d), m − multiplications(d)) − eta))
//! ```
//!
//! `[a, 1]` is `[1 − tau, 1 + tau]` on another scale with `a = (1 − tau) / (1 + tau)`; the approximation error is
//! the same. So the sign function on `[epsilon, 1]` needs the least `(n, m)` with
//! `h(n, m) ≥ (1 − epsilon) / (1 + epsilon)`. For ReLU the first interval may begin anywhere; how far is the
//! worst error below it depends on the polynomials, so every sequence of degrees that reaches the target from a
//! generous start is looked at, in the order of its cost, until one keeps `2^-alpha` when its start is balanced
//! ([`balanced_start`]).

use crate::compose::SEARCH_TOLERANCE;
use crate::compose::{ComposeError, MAX_DEGREE, balanced_start, compose, gap_error, relu_errors};
use crate::cost::Cost;
use crate::error_curve::ErrorCurve;
use crate::target::{Target, TargetError};

/// No first interval of ReLU begins above this multiple of `2^-alpha`; the best ones are at 5 to 20.
const LARGEST_FACTOR: f64 = 32.0;
/// No search goes beyond this depth.
const MAX_DEPTH: usize = 48;
/// Bound of the interpolation error of an [`ErrorCurve`], relative.
const SLACK: f64 = 1e-4;

/// Degrees for a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Of the components, in order of application.
    pub degrees: Vec<usize>,
    /// Of the composition, without the multiplication of ReLU.
    pub cost: Cost,
    /// Where the first interval begins.
    pub start: f64,
    /// The error that the target speaks of.
    pub error: f64,
}

/// Why there is no schedule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// The target makes no sense.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The largest degree is no degree of a component.
    #[error("the largest degree is {degree}, but must be odd and between 3 and {MAX_DEGREE}")]
    MaxDegree {
        /// As given.
        degree: usize,
    },
    /// The margin leaves too little.
    #[error(
        "no composition of degrees up to {max_degree} and depth up to {max_depth} reaches {target} with the margin \
         {eta:e}"
    )]
    Unreachable {
        /// What was asked for.
        target: Target,
        /// The largest degree.
        max_degree: usize,
        /// The largest depth that was tried.
        max_depth: usize,
        /// The margin.
        eta: f64,
    },
    /// A composition fails.
    #[error(transparent)]
    Compose(#[from] ComposeError),
}

/// The schedule of least depth, and then of fewest multiplications, of components of degree 3 to `max_degree`.
/// Among equals the one with the least error.
///
/// # Errors
/// [`ScheduleError`].
pub fn search(target: Target, max_degree: usize, eta: f64) -> Result<Schedule, ScheduleError> {
    target.check()?;
    if max_degree.is_multiple_of(2) || !(3..=MAX_DEGREE).contains(&max_degree) {
        return Err(ScheduleError::MaxDegree { degree: max_degree });
    }
    if !(0.0..1.0).contains(&eta) {
        return Err(ComposeError::Margin { eta }.into());
    }
    let search = DegreeSearch::new(target, max_degree, eta)?;
    for depth in 1..=MAX_DEPTH {
        for multiplications in 1..=most_multiplications(depth) {
            if search.reach[depth][multiplications] * (1.0 + SLACK) < search.needed {
                continue;
            }
            let mut best: Option<Schedule> = None;
            for degrees in search.sequences(depth, multiplications) {
                let found = search.realise(degrees)?;
                if let Some(found) = found.filter(|f| best.as_ref().is_none_or(|best| f.error < best.error)) {
                    best = Some(found);
                }
            }
            if let Some(best) = best {
                return Ok(best);
            }
        }
    }
    Err(ScheduleError::Unreachable { target, max_degree, max_depth: MAX_DEPTH, eta })
}

/// No composition of this depth has more: a component has at most three multiplications a level.
fn most_multiplications(depth: usize) -> usize {
    3 * depth
}

struct DegreeSearch {
    target: Target,
    eta: f64,
    candidates: Vec<Candidate>,
    /// `ln(1 / a)` for the first interval `[a, 1]` that a composition has to cover.
    needed: f64,
    /// `h(n, m)` as `ln((1 + tau) / (1 - tau))`; 0 if nothing reaches the target.
    reach: Vec<Vec<f64>>,
}

struct Candidate {
    degree: usize,
    depth: usize,
    multiplications: usize,
    curve: ErrorCurve,
}

impl DegreeSearch {
    fn new(target: Target, max_degree: usize, eta: f64) -> Result<Self, ScheduleError> {
        let candidates = (3..=max_degree)
            .step_by(2)
            .map(|degree| {
                let cost = Cost::of_odd_polynomial(degree).expect("of a degree up to 63");
                let curve = ErrorCurve::new(degree).map_err(|reason| ComposeError::Remez {
                    component: 1,
                    degree,
                    left: f64::NAN,
                    right: f64::NAN,
                    reason,
                })?;
                let (depth, multiplications) =
                    (cost.depth as usize, cost.non_scalar_multiplications as usize);
                Ok(Candidate { degree, depth, multiplications, curve })
            })
            .collect::<Result<_, ComposeError>>()?;
        let start = match target {
            Target::Sign { epsilon, .. } => epsilon,
            Target::Relu { alpha } => (LARGEST_FACTOR * (-f64::from(alpha)).exp2()).min(0.9),
        };
        let mut search = Self { target, eta, candidates, needed: -start.ln(), reach: Vec::new() };
        search.fill();
        Ok(search)
    }

    fn fill(&mut self) {
        let target = self.target.sign_error();
        for depth in 0..=MAX_DEPTH {
            let mut row = Vec::with_capacity(most_multiplications(depth) + 1);
            for multiplications in 0..=most_multiplications(MAX_DEPTH) {
                let reach = self.candidates.iter().filter_map(|c| {
                    let rest = multiplications.checked_sub(c.multiplications)?;
                    let reach = self.reach.get(depth.checked_sub(c.depth)?)?[rest];
                    let error = if rest == 0 { target } else { radius(reach) - self.eta };
                    (error >= target).then(|| c.curve.widest(error))
                });
                row.push(reach.fold(0.0, f64::max));
            }
            self.reach.push(row);
        }
    }

    /// All sequences of degrees up to this depth and with just so many multiplications that reach the target from
    /// the first interval.
    fn sequences(&self, depth: usize, multiplications: usize) -> Vec<Vec<usize>> {
        let mut found = Vec::new();
        self.extend(&mut Vec::new(), self.needed, depth, multiplications, &mut found);
        found
    }

    fn extend(
        &self,
        degrees: &mut Vec<usize>,
        width: f64,
        depth: usize,
        multiplications: usize,
        found: &mut Vec<Vec<usize>>,
    ) {
        for c in &self.candidates {
            let (Some(depth), Some(rest)) =
                (depth.checked_sub(c.depth), multiplications.checked_sub(c.multiplications))
            else {
                continue;
            };
            let error = c.curve.error(width);
            degrees.push(c.degree);
            if rest == 0 {
                if error <= self.target.sign_error() * (1.0 + SLACK) {
                    found.push(degrees.clone());
                }
            } else if error + self.eta <= radius(self.reach[depth][rest]) * (1.0 + SLACK) {
                self.extend(degrees, width_of_radius(error + self.eta), depth, rest, found);
            }
            degrees.pop();
        }
    }

    /// The least start from which these degrees reach the target.
    fn smallest_start(&self, degrees: &[usize]) -> f64 {
        let target = self.target.sign_error();
        let width = degrees.iter().rev().fold(None, |width, degree| {
            let error = width.map_or(target, |width| radius(width) - self.eta);
            Some(self.candidates[(degree - 3) / 2].curve.widest(error))
        });
        (-width.unwrap_or(0.0)).exp()
    }

    /// The composition of these degrees, if it keeps the target.
    fn realise(&self, degrees: Vec<usize>) -> Result<Option<Schedule>, ComposeError> {
        if let Target::Relu { .. } = self.target {
            // A larger start widens the gap.
            let start = self.smallest_start(&degrees);
            let gap = gap_error(&compose([start, 1.0], &degrees, &self.eta, SEARCH_TOLERANCE)?);
            if gap > self.target.error() * (1.0 + 1e-3) {
                return Ok(None);
            }
        }
        let start = match self.target {
            Target::Sign { epsilon, .. } => epsilon,
            Target::Relu { .. } => balanced_start(&degrees, self.eta)?,
        };
        let components = match compose([start, 1.0], &degrees, &self.eta, SEARCH_TOLERANCE) {
            Err(ComposeError::NothingLeft { .. }) => return Ok(None),
            components => components?,
        };
        let error = match self.target {
            Target::Sign { .. } => components[components.len() - 1].minimax.error,
            Target::Relu { .. } => {
                let (gap, rest) = relu_errors(&components);
                gap.max(rest)
            }
        };
        let costs = degrees.iter().filter_map(|d| Cost::of_odd_polynomial(*d));
        let cost = costs.fold(Cost::default(), |a, b| a + b);
        Ok((error <= self.target.error()).then_some(Schedule { degrees, cost, start, error }))
    }
}

/// `tau` of an interval `[1 − tau, 1 + tau]` whose ends have the ratio `e^width`.
fn radius(width: f64) -> f64 {
    (width / 2.0).tanh()
}

fn width_of_radius(radius: f64) -> f64 {
    2.0 * radius.atanh()
}
