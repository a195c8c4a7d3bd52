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
//! The evaluation is the odd baby-step giant-step algorithm in the Chebyshev basis (E. Lee, J.-W. Lee, J.-S. No and
//! Y.-S. Kim, ePrint 2020/834), on values that are scaled into `[-1, 1]` between the components, so that no level is
//! spent on scaling: `T_1, T_3, …` up to a power of two and `T_2, T_4, T_8, …` by `T_(a+b) = 2 T_a T_b − T_|a−b|`, then
//! `p = q · T_(2^k) + r` until a part is a sum of those. A rescaling follows each product of two ciphertexts and each such sum.

use crate::composite::CompositeSign;

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
    /// `κ` at `|z| = 1 − (i / STEPS)²`. It is even in `z`.
    amplification: Vec<f32>,
}

impl NoisyComponent {
    /// Intervals of the table of `κ`, of equal length in `sqrt(1 − |z|)`: closer towards the ends of the range, where a
    /// polynomial moves fastest.
    const STEPS: u16 = 1024;

    /// All components of a composition.
    pub fn all(sign: &CompositeSign) -> Vec<Self> {
        let radii = sign.input_radii();
        let next = radii[1..].iter().copied().chain([1.0]);
        let one = |((polynomial, &radius), next_radius): ((&crate::OddPolynomial, &f64), f64)| {
            let scaled: Vec<f64> =
                polynomial.chebyshev_basis(radius).iter().map(|c| c / next_radius).collect();
            let program = Program::new(&scaled);
            let amplification = (0..=Self::STEPS)
                .map(|i| {
                    let step = f64::from(i) / f64::from(Self::STEPS);
                    program.amplification(1.0 - step * step) as f32
                })
                .collect();
            Self { radius, next_radius, amplification }
        };
        sign.components().iter().zip(radii).zip(next).map(one).collect()
    }

    /// `κ(z)`, interpolated; beyond the range that of its end.
    #[inline]
    pub fn amplification(&self, z: f64) -> f64 {
        let place = (1.0 - z.abs()).max(0.0).sqrt() * f64::from(Self::STEPS);
        // NaN gives the first entry.
        let index = (place as usize).min(usize::from(Self::STEPS) - 1);
        let (left, right) = (f64::from(self.amplification[index]), f64::from(self.amplification[index + 1]));
        left + (right - left) * (place - index as f64).min(1.0)
    }
}

/// A place in a [`Program`].
type Node = usize;

/// What is computed at a place. Those before it are known.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// `z`.
    Input,
    /// `2 a b − c`, or `2 a b − 1`.
    Chebyshev { left: Node, right: Node, minus: Option<Node> },
    /// `Σ coefficient · node`.
    Sum(Vec<(Node, f64)>),
    /// `q · g + r`.
    Split { quotient: Node, giant: Node, remainder: Node },
}

/// How a polynomial is taken apart: degrees below `2^babies` are sums, others are split at `T_2, T_4, …, T_(2^(giants − 1))`.
#[derive(Debug, Clone, Copy)]
struct Splits {
    babies: u32,
    giants: u32,
}

impl Splits {
    /// The fewest splits of a polynomial of this odd degree, and where to split it first.
    fn best(self, degree: usize) -> Option<(usize, usize)> {
        // Of each degree: (splits, giant).
        let mut all: Vec<Option<(usize, usize)>> = vec![None; degree + 1];
        for i in (1..=degree).step_by(2) {
            let splits = (1..self.giants).map(|k| 1 << k).filter(|giant| *giant < i);
            let splits = splits.filter_map(|g| Some((all[i - g]?.0 + all[g - 1]?.0 + 1, g)));
            all[i] = if i < 1 << self.babies { Some((0, 0)) } else { splits.min() };
        }
        all[degree]
    }
}

/// An odd polynomial in the Chebyshev basis as a sequence of steps, each of which ends with a rescaling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Program {
    steps: Vec<Step>,
}

impl Program {
    /// The evaluation of `Σ coefficients[k] T_k(z)`, of which the even ones are not looked at, with as few products as
    /// can be where levels do not matter.
    pub(crate) fn new(coefficients: &[f64]) -> Self {
        let bits = coefficients.len().next_power_of_two().ilog2();
        let plans = (1..=bits).flat_map(|babies| (1..=bits).map(move |giants| Splits { babies, giants }));
        let plans = plans.filter(|plan| plan.best(coefficients.len() - 1).is_some());
        let programs = plans.map(|plan| Self::by(plan, coefficients));
        programs.min_by_key(Self::products).expect("all splits by two is a plan")
    }

    fn by(plan: Splits, coefficients: &[f64]) -> Self {
        let mut program = Self { steps: vec![Step::Input] };
        let mut powers = vec![None; coefficients.len().next_power_of_two() + 1];
        powers[1] = Some(0);
        program.part(coefficients, plan, &mut powers);
        program
    }

    fn products(&self) -> usize {
        self.steps.iter().filter(|s| matches!(s, Step::Chebyshev { .. } | Step::Split { .. })).count()
    }

    fn push(&mut self, step: Step) -> Node {
        self.steps.push(step);
        self.steps.len() - 1
    }

    /// `T_k`, from the largest power of two below `k` and the rest.
    fn chebyshev(&mut self, k: usize, powers: &mut [Option<Node>]) -> Node {
        if let Some(node) = powers[k] {
            return node;
        }
        let large = if k.is_power_of_two() { k / 2 } else { 1 << k.ilog2() };
        let (left, right) = (self.chebyshev(large, powers), self.chebyshev(k - large, powers));
        let difference = large.abs_diff(k - large);
        let minus = (difference > 0).then(|| self.chebyshev(difference, powers));
        let node = self.push(Step::Chebyshev { left, right, minus });
        powers[k] = Some(node);
        node
    }

    /// A polynomial in parts.
    fn part(&mut self, coefficients: &[f64], plan: Splits, powers: &mut [Option<Node>]) -> Node {
        let Some((_, giant)) = plan.best(coefficients.len() - 1).filter(|(splits, _)| *splits > 0) else {
            let odd = coefficients.iter().enumerate().filter(|(k, _)| k % 2 == 1);
            let terms = odd.map(|(k, &c)| (self.chebyshev(k, powers), c)).collect();
            return self.push(Step::Sum(terms));
        };
        let mut remainder = coefficients.to_vec();
        let mut quotient = vec![0.0; coefficients.len() - giant];
        // T_j = 2 T_giant T_(j − giant) − T_|2 giant − j|, from the highest on.
        for j in (giant + 1..coefficients.len()).rev().filter(|j| j % 2 == 1) {
            quotient[j - giant] = 2.0 * remainder[j];
            remainder[giant.abs_diff(j - giant)] -= remainder[j];
        }
        remainder.truncate(giant);
        let quotient = self.part(&quotient, plan, powers);
        let remainder = self.part(&remainder, plan, powers);
        let giant = self.chebyshev(giant, powers);
        self.push(Step::Split { quotient, giant, remainder })
    }

    /// The value, with what `noise` gives added at each step.
    #[cfg(test)]
    fn run(&self, z: f64, noise: impl FnMut() -> f64) -> f64 {
        *self.values(z, noise).last().expect("a program has a step")
    }

    /// The values at all places, each but the input's off by what `noise` gives.
    fn values(&self, z: f64, mut noise: impl FnMut() -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let value = match step {
                Step::Input => {
                    values.push(z);
                    continue;
                }
                Step::Chebyshev { left, right, minus } => {
                    2.0 * values[*left] * values[*right] - minus.map_or(1.0, |node| values[node])
                }
                Step::Sum(terms) => terms.iter().map(|&(node, c)| c * values[node]).sum(),
                Step::Split { quotient, giant, remainder } => {
                    values[*quotient] * values[*giant] + values[*remainder]
                }
            };
            values.push(value + noise());
        }
        values
    }

    /// `κ(z)`: the root of the sum of the squares of the last value's derivatives in all others but the input, by going
    /// backwards through the steps.
    fn amplification(&self, z: f64) -> f64 {
        let values = self.values(z, || 0.0);
        let mut slopes = vec![0.0; values.len()];
        slopes[values.len() - 1] = 1.0;
        let mut sum = 0.0;
        for (index, step) in self.steps.iter().enumerate().rev() {
            let slope = slopes[index];
            match step {
                Step::Input => continue,
                Step::Chebyshev { left, right, minus } => {
                    slopes[*left] += 2.0 * slope * values[*right];
                    slopes[*right] += 2.0 * slope * values[*left];
                    if let Some(node) = minus {
                        slopes[*node] -= slope;
                    }
                }
                Step::Sum(terms) => terms.iter().for_each(|&(node, c)| slopes[node] += slope * c),
                Step::Split { quotient, giant, remainder } => {
                    slopes[*quotient] += slope * values[*giant];
                    slopes[*giant] += slope * values[*quotient];
                    slopes[*remainder] += slope;
                }
            }
            sum += slope * slope;
        }
        sum.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Alpha, Cost};

    fn clenshaw(c: &[f64], x: f64) -> f64 {
        let (b1, b2) = c[1..].iter().rev().fold((0.0, 0.0), |(b1, b2), &c| (c + 2.0 * x * b1 - b2, b1));
        c[0] + x * b1 - b2
    }

    /// Sums of this many random numbers of the interval [-1/2, 1/2) are close enough to Gaussian.
    fn gaussian(state: &mut u64) -> f64 {
        let uniform = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        (0..12).map(|_| uniform(state)).sum()
    }

    #[test]
    fn a_program_computes_the_polynomial_with_no_more_products_than_it_costs() {
        for degree in (1..=63).step_by(2) {
            let mut state = degree as u64;
            let coefficients: Vec<f64> =
                (0..=degree).map(|k| if k % 2 == 1 { gaussian(&mut state) } else { 0.0 }).collect();
            let program = Program::new(&coefficients);
            for z in [-1.0, -0.7, 0.0, 0.013, 0.5, 0.99] {
                let (found, expected) = (program.run(z, || 0.0), clenshaw(&coefficients, z));
                assert!((found - expected).abs() < 1e-12, "degree {degree} at {z}: {found}, {expected}");
            }
            let cost = Cost::of_odd_polynomial(degree).unwrap().non_scalar_multiplications as usize;
            assert!(
                program.products() <= cost,
                "degree {degree}: {} products, cost {cost}",
                program.products()
            );
        }
    }

    #[test]
    fn amplification_is_the_spread_of_noisy_runs() {
        const RUNS: usize = 4_000;
        const SIGMA: f64 = 1e-6;
        let mut state = 1;
        for alpha in [7, 10, 14] {
            let sign = CompositeSign::published(Alpha::new(alpha).unwrap());
            for (polynomial, component) in sign.components().iter().zip(NoisyComponent::all(sign)) {
                let scaled: Vec<f64> = polynomial
                    .chebyshev_basis(component.radius)
                    .iter()
                    .map(|c| c / component.next_radius)
                    .collect();
                let program = Program::new(&scaled);
                for z in [-1.0, -0.31, 0.002, 0.77, 0.9973] {
                    let exact = program.run(z, || 0.0);
                    let squares: f64 = (0..RUNS)
                        .map(|_| (program.run(z, || SIGMA * gaussian(&mut state)) - exact).powi(2))
                        .sum();
                    let spread = (squares / RUNS as f64).sqrt() / SIGMA;
                    let expected = component.amplification(z);
                    // The spread of a spread over so many runs is 1 / sqrt(2 · RUNS) = 1.1 %.
                    assert!(
                        (spread / expected - 1.0).abs() < 0.06,
                        "alpha {alpha}, degree {}, z {z}: {spread}, expected {expected}",
                        polynomial.degree()
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
