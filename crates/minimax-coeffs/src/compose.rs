//! Compositions of minimax polynomials for given degrees.
//!
//! Every component is the odd minimax approximation of 1 on one interval. The first interval is `[a, 1]`; where
//! a component has error `tau`, its values there fill `[1 − tau, 1 + tau]`, and the next component is made for
//! `[1 − tau − eta, 1 + tau + eta]`, so that a disturbance of up to `eta` (CKKS noise, rounding) does not leave
//! its domain. E. Lee, J.-W. Lee, J.-S. No and Y.-S. Kim (ePrint 2020/834, section 3) prove that no other
//! composition of these degrees has a smaller error for `eta = 0`.
//!
//! For ReLU, `a` is free. On `[a, 1]` its error is at most `tau_k / 2`; below `a`, where `s` climbs from 0 to 1,
//! it is the largest `x (1 − s(x)) / 2`, the *gap*. A larger `a` makes the first smaller and the second larger,
//! so the best `a` is where they are equal ([`balanced_start`]). The published tables have
//! `a = f · 2^-alpha` with whole numbers `f` ([`PUBLISHED_FACTORS`]).

use crate::real::Real;
use crate::remez::{Minimax, Parity, Problem, RemezError};

pub use crate::composite::PUBLISHED_ETA;

/// `f` in the first intervals `[f · 2^-alpha, 1]` of the published tables for alpha 4 to 14. Those for 4 and 5
/// reach to 2 instead of 1, twice as far as needed.
pub const PUBLISHED_FACTORS: [u8; 11] = [10, 10, 10, 11, 12, 13, 13, 15, 15, 16, 17];

/// The largest degree of a component.
pub const MAX_DEGREE: usize = 63;

/// A component of a composition.
#[derive(Debug, Clone)]
pub struct Component<T> {
    /// Where it approximates 1.
    pub interval: [T; 2],
    /// The approximation with its error.
    pub minimax: Minimax<T>,
}

/// Why there is no such composition.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ComposeError {
    /// No component.
    #[error("a composition needs at least one degree")]
    NoDegrees,
    /// An even degree, or one that is too large.
    #[error("degree {degree}: components have odd degrees from 1 to {MAX_DEGREE}")]
    Degree {
        /// As given.
        degree: usize,
    },
    /// The margin is no margin.
    #[error("the margin eta is {eta:e}, but must be at least 0 and below 1")]
    Margin {
        /// As given.
        eta: f64,
    },
    /// The first interval is none.
    #[error("the first interval is [{left:e}, {right:e}], but must lie right of 0 and not be empty")]
    Interval {
        /// As given.
        left: f64,
        /// As given.
        right: f64,
    },
    /// An error and the margin leave nothing to the next component.
    #[error(
        "component {component} has error {error:.6}, so with the margin {eta:e} the next one would have to \
         approximate 1 next to 0; take larger degrees or a smaller margin"
    )]
    NothingLeft {
        /// 1-based.
        component: usize,
        /// Its error.
        error: f64,
        /// The margin.
        eta: f64,
    },
    /// The approximation of a component fails.
    #[error("component {component} (degree {degree} on [{left:e}, {right:e}]): {reason}")]
    Remez {
        /// 1-based.
        component: usize,
        /// Its degree.
        degree: usize,
        /// Of its interval.
        left: f64,
        /// Of its interval.
        right: f64,
        /// What failed.
        reason: RemezError,
    },
}

/// The odd minimax approximation of 1 on `[left, right]`, `left > 0`: that of the sign function on
/// `[-right, -left] ∪ [left, right]`.
///
/// # Errors
/// [`RemezError`].
pub fn sign_minimax<T: Real>(
    interval: &[T; 2],
    degree: usize,
    tolerance: f64,
) -> Result<Minimax<T>, RemezError> {
    let function = |x: &T| (x.lift(1.0), x.lift(0.0));
    let terms = degree.div_ceil(2);
    Problem { function: &function, intervals: vec![interval.clone()], parity: Parity::Odd, terms }
        .solve(tolerance)
}

/// The composition of these degrees, from `first` on, in the precision of `first` and `eta`.
///
/// # Errors
/// [`ComposeError`].
pub fn compose<T: Real>(
    first: [T; 2],
    degrees: &[usize],
    eta: &T,
    tolerance: f64,
) -> Result<Vec<Component<T>>, ComposeError> {
    let one = eta.lift(1.0);
    let margin = eta.as_f64();
    if degrees.is_empty() {
        return Err(ComposeError::NoDegrees);
    }
    if let Some(&degree) = degrees.iter().find(|d| d.is_multiple_of(2) || **d > MAX_DEGREE) {
        return Err(ComposeError::Degree { degree });
    }
    if !(0.0..1.0).contains(&margin) {
        return Err(ComposeError::Margin { eta: margin });
    }
    let (left, right) = (first[0].as_f64(), first[1].as_f64());
    if !(left > 0.0 && left < right && right.is_finite()) {
        return Err(ComposeError::Interval { left, right });
    }
    let mut interval = first;
    let mut components: Vec<Component<T>> = Vec::with_capacity(degrees.len());
    for (index, &degree) in degrees.iter().enumerate() {
        if let Some(last) = components.last() {
            let reach = last.minimax.error.clone() + eta;
            if reach >= one {
                let error = last.minimax.error.as_f64();
                return Err(ComposeError::NothingLeft { component: index, error, eta: margin });
            }
            interval = [one.clone() - &reach, one.clone() + &reach];
        }
        let minimax = sign_minimax(&interval, degree, tolerance).map_err(|reason| ComposeError::Remez {
            component: index + 1,
            degree,
            left: interval[0].as_f64(),
            right: interval[1].as_f64(),
            reason,
        })?;
        components.push(Component { interval: interval.clone(), minimax });
    }
    Ok(components)
}

/// The largest `x (1 − s(x)) / 2` for `x` between 0 and the first interval.
///
/// # Accuracy
/// Found on a grid and refined; relative error about 1e-9.
pub fn gap_error<T: Real>(components: &[Component<T>]) -> f64 {
    const STEPS: u32 = 64;
    const REFINEMENTS: u32 = 24;
    let start = &components[0].interval[0];
    let end = start.as_f64();
    let error = |x: f64| {
        let s = components.iter().fold(start.lift(x), |x, c| c.minimax.eval(&x));
        x * (1.0 - s.as_f64()) / 2.0
    };
    let at = |i: u32| end * f64::from(i) / f64::from(STEPS);
    let best = (1..STEPS).map(|i| (error(at(i)), i)).fold((0.0, 1), |a, b| if b.0 > a.0 { b } else { a });
    let (mut left, mut right) = (at(best.1 - 1), at(best.1 + 1));
    for _ in 0..REFINEMENTS {
        let third = (right - left) / 3.0;
        if error(left + third) < error(right - third) {
            left += third;
        } else {
            right -= third;
        }
    }
    error((left + right) / 2.0)
}

/// The error of ReLU on `[-1, 1]` in two parts: that of the gap, and what the last component leaves.
pub fn relu_errors<T: Real>(components: &[Component<T>]) -> (f64, f64) {
    let last = components[components.len() - 1].minimax.error.as_f64();
    (gap_error(components), last * components[0].interval[1].as_f64() / 2.0)
}

/// The start `a` of the first interval `[a, 1]` for which ReLU's error is least, to about 1e-6 of itself.
///
/// # Errors
/// [`ComposeError`].
pub fn balanced_start(degrees: &[usize], eta: f64) -> Result<f64, ComposeError> {
    let excess = |log_start: f64| {
        let components = compose([log_start.exp(), 1.0], degrees, &eta, SEARCH_TOLERANCE)?;
        let (gap, rest) = relu_errors(&components);
        Ok(gap - rest)
    };
    let too_small = |log_start: f64| match excess(log_start) {
        Ok(excess) => Ok(excess < 0.0),
        // Too close to 0 the margin leaves nothing to the second component.
        Err(ComposeError::NothingLeft { .. }) => Ok(true),
        // Far from 0 the last components have errors below what float64 resolves.
        Err(ComposeError::Remez { reason: RemezError::Unresolved { .. }, .. }) => Ok(false),
        Err(error) => Err(error),
    };
    let (mut low, mut high) = (SMALLEST_START.ln(), LARGEST_START.ln());
    while high - low > 1e-6 {
        let middle = (low + high) / 2.0;
        if too_small(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(high.exp())
}

/// Relative equioscillation that is enough to search.
pub(crate) const SEARCH_TOLERANCE: f64 = 1e-9;
/// No search starts an interval below.
pub(crate) const SMALLEST_START: f64 = 1e-10;
/// Nor above.
const LARGEST_START: f64 = 0.999;
