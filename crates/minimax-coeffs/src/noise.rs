//! What the noise of an encrypted evaluation makes of a composition.
//!
//! In CKKS every rescaling rounds, and adds an error to each slot that is very nearly Gaussian and independent of the
//! values (A. Costache et al., "On the precision loss in approximate homomorphic encryption", ePrint 2022/162). With a
//! standard deviation of `sigma` for each, to first order the output of a polynomial is off by
//!
//! ```text
//! sigma · κ(z) · g,   g ~ N(0, 1),   κ(z)² = Σ over rescalings v of (∂p/∂v)²
//! ```
//!
//! so that one Gaussian for a polynomial stands for all of them. The terms of second order are smaller by a factor
//! `sigma`.
//!
//! The evaluation is the component's [`EvaluationPlan`], on values that are scaled into `[-1, 1]` between the components
//! ([`Chain`]). Each of its steps ends with a rescaling.

use crate::chain::Chain;
use crate::composite::CompositeSign;
use crate::fitted::FittedPolynomial;
use crate::plan::{EvaluationPlan, Operation};

/// The standard deviation, in units of the message, that a rescaling adds to the real part of each slot:
/// `sqrt(N (h + 1) / 24) / 2^scale_bits`, where the `h + 1` roundings are those of `c_0` and of `c_1` at the `h` places
/// where the secret is not zero, each with variance 1/12, and half of the sum of `N` coefficients is the real part's
/// (ePrint 2022/162).
///
/// `secret_weight` is `h`; for a uniformly ternary secret it is `2 N / 3`.
pub fn rescaling_sigma(ring: u32, scale_bits: f64, secret_weight: f64) -> f64 {
    (f64::from(ring) * (secret_weight + 1.0) / 24.0).sqrt() * (-scale_bits).exp2()
}

/// A component of a composition under noise.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyComponent {
    /// The largest absolute value that it is meant for, `r`: its argument is `r z` with `z` in `[-1, 1]`.
    pub radius: f64,
    /// What its value is divided by: the next component's radius, and 1 after the last.
    pub next_radius: f64,
    /// It is even in `z`.
    amplification: Amplification,
}

/// `κ` of one polynomial, on one side of 0.
#[derive(Debug, Clone, PartialEq)]
struct Amplification {
    /// At `|z| = 1 − (i / STEPS)²`.
    table: Vec<f32>,
}

impl Amplification {
    /// Intervals of the table, of equal length in `sqrt(1 − |z|)`: closer towards the ends of the range, where a polynomial
    /// moves fastest.
    const STEPS: u16 = 1024;

    /// On the side of `sign`, 1 or −1.
    fn new(plan: &EvaluationPlan, sign: f64) -> Self {
        let at = |i: u16| {
            let step = f64::from(i) / f64::from(Self::STEPS);
            amplification(plan, sign * (1.0 - step * step)) as f32
        };
        Self { table: (0..=Self::STEPS).map(at).collect() }
    }

    /// Interpolated at `|z|`; beyond the range that of its end.
    #[inline]
    fn at(&self, z: f64) -> f64 {
        let place = (1.0 - z.abs()).max(0.0).sqrt() * f64::from(Self::STEPS);
        // NaN gives the first entry.
        let index = (place as usize).min(usize::from(Self::STEPS) - 1);
        let (left, right) = (f64::from(self.table[index]), f64::from(self.table[index + 1]));
        left + (right - left) * (place - index as f64).min(1.0)
    }
}

/// A fitted polynomial under noise.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyPolynomial {
    /// Of negative and of other `z`.
    sides: [Amplification; 2],
}

impl NoisyPolynomial {
    /// The polynomial with its values in units of its [`radius`](FittedPolynomial::radius).
    pub fn new(polynomial: &FittedPolynomial) -> Self {
        let plan = polynomial.plan_in_units_of(polynomial.radius());
        Self { sides: [-1.0, 1.0].map(|sign| Amplification::new(&plan, sign)) }
    }

    /// `κ(z)`, interpolated; beyond the range that of its end.
    #[inline]
    pub fn amplification(&self, z: f64) -> f64 {
        self.sides[usize::from(z >= 0.0)].at(z)
    }
}

impl NoisyComponent {
    /// All components of a composition.
    pub fn all(sign: &CompositeSign) -> Vec<Self> {
        let chain = Chain::of_sign(sign, 0.0);
        let one = |(i, scaled): (usize, &Vec<f64>)| {
            let plan =
                EvaluationPlan::of_polynomial(scaled).expect("a component is finite, of degree 1 at least");
            let amplification = Amplification::new(&plan, 1.0);
            Self { radius: chain.radii[i], next_radius: chain.next_radius(i), amplification }
        };
        chain.components.iter().enumerate().map(one).collect()
    }

    /// `κ(z)`, interpolated; beyond the range that of its end.
    #[inline]
    pub fn amplification(&self, z: f64) -> f64 {
        self.amplification.at(z)
    }
}

/// `κ(z)`: the root of the sum of the squares of the result's derivatives in all values but the input, by going backwards
/// through the steps.
pub(crate) fn amplification(plan: &EvaluationPlan, z: f64) -> f64 {
    let values = plan.values(z, |_| 0.0);
    let mut slopes = vec![0.0; values.len()];
    slopes[plan.output().index()] = 1.0;
    let mut sum = 0.0;
    for (index, step) in plan.steps().iter().enumerate().rev() {
        let slope = slopes[index];
        match &step.operation {
            Operation::Input => continue,
            Operation::Chebyshev { left, right, minus } => {
                let (left, right) = (left.index(), right.index());
                slopes[left] += 2.0 * slope * values[right];
                slopes[right] += 2.0 * slope * values[left];
                if let Some(minus) = minus {
                    slopes[minus.index()] -= slope;
                }
            }
            Operation::Combination { terms, .. } => {
                terms.iter().for_each(|(term, c)| slopes[term.index()] += slope * c);
            }
            Operation::MultiplyAdd { left, right, plus } => {
                let (left, right) = (left.index(), right.index());
                slopes[left] += slope * values[right];
                slopes[right] += slope * values[left];
                if let Some(plus) = plus {
                    slopes[plus.index()] += slope;
                }
            }
        }
        sum += slope * slope;
    }
    sum.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Alpha;

    /// Sums of this many random numbers of the interval [-1/2, 1/2) are close enough to Gaussian.
    fn gaussian(state: &mut u64) -> f64 {
        let uniform = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        (0..12).map(|_| uniform(state)).sum()
    }

    #[test]
    fn amplification_is_the_spread_of_noisy_runs() {
        const RUNS: usize = 4_000;
        const SIGMA: f64 = 1e-6;
        let mut state = 1;
        for alpha in [7, 10, 14] {
            let sign = CompositeSign::published(Alpha::new(alpha).unwrap());
            let chain = Chain::of_sign(sign, 0.0);
            for (scaled, component) in chain.components.iter().zip(NoisyComponent::all(sign)) {
                let plan = EvaluationPlan::of_polynomial(scaled).unwrap();
                let run = |noise: &mut dyn FnMut() -> f64, z: f64| {
                    plan.values(z, |_| noise())[plan.output().index()]
                };
                for z in [-1.0, -0.31, 0.002, 0.77, 0.9973] {
                    let exact = plan.eval(z);
                    let squares: f64 = (0..RUNS)
                        .map(|_| (run(&mut || SIGMA * gaussian(&mut state), z) - exact).powi(2))
                        .sum();
                    let spread = (squares / RUNS as f64).sqrt() / SIGMA;
                    let expected = component.amplification(z);
                    // The spread of a spread over so many runs is 1 / sqrt(2 · RUNS) = 1.1 %.
                    assert!(
                        (spread / expected - 1.0).abs() < 0.06,
                        "alpha {alpha}, degree {}, z {z}: {spread}, expected {expected}",
                        scaled.len() - 1
                    );
                }
            }
        }
    }

    #[test]
    fn a_rescaling_of_the_usual_parameters_adds_what_is_known() {
        // N = 2^16 with a uniformly ternary secret: N / 6 units of the last place of the scale.
        let sigma = rescaling_sigma(1 << 16, 40.0, 2.0 / 3.0 * 65_536.0);
        assert!((sigma * 40f64.exp2() - 65_536.0 / 6.0).abs() < 1.0, "{sigma}");
    }
}
