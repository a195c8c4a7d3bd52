//! Proven bounds of what a composition errs by.
//!
//! All arithmetic is exact or rounded to the safe side ([`crate::exact`]), and is about the coefficients as
//! float64 numbers, so their rounding is included. With outputs of components disturbed by up to `delta` each
//! (CKKS noise, rounding in the evaluation), the proof has three parts:
//!
//! 1. *Ranges.* `p_1` maps `[start, 1]` into `[l_1, u_1]`, by a subdivision; `p_2` maps `[l_1 − delta, u_1 + delta]`
//!    into `[l_2, u_2]`, and so on. So `|s − 1| ≤ max(1 − l_k, u_k − 1) + delta` on `[start, 1]`.
//! 2. *Monotonicity.* Each `p_i` rises between 0 and the beginning of its interval, as its derivative is positive
//!    there.
//! 3. *Gap.* So for `x` in `[x_0, x_1]` below `start`, `s(x)` is at least what following `x_0` from below gives,
//!    and `x (1 − s(x)) / 2 ≤ x_1 (1 − s(x_0)) / 2`. The gap is divided until that is close enough.
//!
//! The composition is odd, so all of it holds for negative `x` too.

use crate::composite::CompositeSign;
use crate::exact::{Exact, ExactPolynomial, below, exact, floor};
pub use crate::table_file::Certificate;

/// Why nothing is proven.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// The start is not inside of the range.
    #[error("the first interval begins at {start:e}, but must begin above 0 and below 1")]
    Start {
        /// As given.
        start: f64,
    },
    /// The disturbance is none.
    #[error("the disturbance delta is {delta:e}, but must be at least 0 and below 1")]
    Delta {
        /// As given.
        delta: f64,
    },
    /// A component's values reach 0, so that the sign is lost.
    #[error(
        "component {component} gives values from {least:.4e} on where outputs are disturbed by {delta}, and the sign is lost"
    )]
    SignLost {
        /// 1-based.
        component: usize,
        /// The lower bound of its values.
        least: f64,
        /// The disturbance.
        delta: f64,
    },
    /// A component does not rise towards its interval.
    #[error("component {component} does not rise from 0 to {end:.6}, where its interval begins")]
    NotMonotone {
        /// 1-based.
        component: usize,
        /// Where its interval begins.
        end: f64,
    },
    /// A polynomial could not be bounded closely.
    #[error("component {component} could not be bounded on [{left:.6}, {right:.6}]")]
    NotBounded {
        /// 1-based.
        component: usize,
        /// Of the interval.
        left: f64,
        /// Of the interval.
        right: f64,
    },
}

/// How much looser than the truth the bounds of a component's values may be. More would not be loose but wrong:
/// it would leave the domain of the next component, whose margin may be as small as `2^-22`.
const TOLERANCE: f64 = 1e-12;
/// How much looser than the truth the bound of the gap may be, as a part of it.
const LOOSENESS: f64 = 1e-4;
/// Bits after the binary point of what is followed through the gap.
const VALUE_BITS: isize = 64;

struct BoundedComponent {
    polynomial: ExactPolynomial,
    /// Where its interval begins, disturbance included.
    left: f64,
    /// Bounds of its values on the interval.
    range: [f64; 2],
}

/// Bounds the errors of `sign`, whose first component approximates 1 on `[start, 1]`, where the output of each
/// component is off by up to `delta`.
///
/// # Errors
/// [`CertificateError`] where nothing can be proven.
pub fn certify(sign: &CompositeSign, start: f64, delta: f64) -> Result<Certificate, CertificateError> {
    if !(start > 0.0 && start < 1.0) {
        return Err(CertificateError::Start { start });
    }
    if !(0.0..1.0).contains(&delta) {
        return Err(CertificateError::Delta { delta });
    }
    let (mut left, mut right) = (start, 1.0);
    let mut components = Vec::with_capacity(sign.components().len());
    let mut ranges = Vec::with_capacity(sign.components().len());
    for (index, polynomial) in sign.components().iter().enumerate() {
        let component = index + 1;
        let polynomial = ExactPolynomial::odd(polynomial.odd_coefficients());
        let not_bounded = |_| CertificateError::NotBounded { component, left, right };
        let [least, most] = polynomial.range(left, right, TOLERANCE).map_err(not_bounded)?;
        if least <= delta {
            return Err(CertificateError::SignLost { component, least: least - delta, delta });
        }
        rises(&polynomial, left).ok_or(CertificateError::NotMonotone { component, end: left })?;
        components.push(BoundedComponent { polynomial, left, range: [least, most] });
        ranges.push([least, most]);
        (left, right) = ((least - delta).next_down(), (most + delta).next_up());
    }
    let [least, most] = ranges[ranges.len() - 1];
    let sign_error = ((1.0 - least).max(most - 1.0).max(0.0).next_up() + delta).next_up();
    let gap = gap(&components, start, delta);
    Ok(Certificate { delta, sign_error, relu_error: gap.max((sign_error / 2.0).next_up()), ranges })
}

/// Whether `polynomial` rises on `[0, end]`.
fn rises(polynomial: &ExactPolynomial, end: f64) -> Option<()> {
    let mut falls = false;
    let finished = polynomial.derivative().subdivide(0.0, end, |cell| {
        falls |= cell.upper <= 0.0;
        falls || cell.lower > 0.0
    });
    (finished.is_ok() && !falls).then_some(())
}

/// An upper bound of `x (1 − s(x)) / 2` for `x` from 0 to `start`.
fn gap(components: &[BoundedComponent], start: f64, delta: f64) -> f64 {
    /// Finer cells than this part of the gap bring nothing.
    const FINEST: f64 = 1e-7;
    let (mut bound, mut seen) = (0.0_f64, 0.0_f64);
    let mut waiting = vec![(0.0, start)];
    while let Some((left, right)) = waiting.pop() {
        let missing = (1.0 - least_sign(components, left, delta)).next_up();
        let cell = (right * missing / 2.0).next_up().next_up();
        seen = seen.max(left * missing / 2.0);
        if cell <= seen * (1.0 + LOOSENESS) || right - left < FINEST * start {
            bound = bound.max(cell);
        } else {
            let middle = (left + right) / 2.0;
            waiting.push((left, middle));
            waiting.push((middle, right));
        }
    }
    bound
}

/// A lower bound of the disturbed `s` on `[x, start]`.
fn least_sign(components: &[BoundedComponent], x: f64, delta: f64) -> f64 {
    let delta = exact(delta);
    let mut value: Exact = exact(x);
    for component in components {
        let [least, most] = component.range.map(exact);
        let left = exact(component.left);
        value = if value >= left {
            least
        } else if value >= -left {
            // Between the two halves of its interval a component rises: the least argument has the least value.
            component.polynomial.eval(&value).min(least)
        } else {
            // A large disturbance has gone to the other sign.
            -most
        };
        value = floor(value - &delta, VALUE_BITS);
    }
    below(&value)
}
