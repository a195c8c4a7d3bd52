//! Polynomials fitted to what an activation sees.
//!
//! A minimax polynomial is equally good on all of its range. A trained network's inputs are not spread like that: most
//! are near 0 and few near the ends. A polynomial that is best *on average over these inputs*, by weighted least squares,
//! gives the network as much with about half the levels (J. Lee et al., "Optimized Layerwise Approximation for Efficient
//! Private Inference on Fully Homomorphic Encryption", arXiv 2310.10349, section 3).
//!
//! ```
//! use minimax_coeffs::fitted::{Density, Fit, FLOOR};
//! use minimax_coeffs::ActivationFunction;
//!
//! // Two thirds of the inputs are near −1, the others spread up to 3.
//! let near = (0..20).map(|i| (-1.0 + 0.02 * f64::from(i), 2.0));
//! let far = (0..20).map(|i| (0.15 * f64::from(i + 1), 1.0));
//! let density = Density::new(near.chain(far))?;
//! let fit = Fit::new(ActivationFunction::Relu, &density, [-1.5, 3.5], FLOOR)?;
//! let p = fit.polynomial(15)?;
//! assert_eq!((p.degree(), p.cost().depth), (15, 4));
//! assert!(p.rms(&density) < 0.01);
//! # Ok::<(), minimax_coeffs::fitted::FitError>(())
//! ```
//!
//! # What is minimised
//! `E[(p(x) − f(x))²]` over the density, plus `floor` times the mean of `(p(x) − f(x))²` over 2,049 evenly spaced places
//! of the interval. The floor keeps the polynomial tame where no input was seen: there noise and other images go. Since
//! constants and the line are among the polynomials, the mean of the output is kept, and what is left of the error is
//! uncorrelated with the input.
//!
//! The polynomial is held in the Chebyshev basis of its interval. The map of the interval to `[-1, 1]` is a constant
//! factor and summand of the linear layer before, and costs no level.

use sha2::{Digest, Sha256};

use crate::activation::ActivationFunction;
use crate::chain::clenshaw;
use crate::cost::Cost;
use crate::noise::amplification;
use crate::plan::EvaluationPlan;

/// The usual weight of the floor, in parts of the inputs. With less, polynomials of low degree run wild where few inputs
/// are; with more, they are worse where most are (docs/adr/0063-fitted-polynomials.md).
pub const FLOOR: f64 = 3e-4;
/// Places of the floor.
const FLOOR_PLACES: usize = 2049;

/// How inputs are distributed: values with weights, which sum up to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Density {
    /// Ascending, each with its weight.
    points: Vec<(f64, f64)>,
}

/// Why there is no fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FitError {
    /// No value at all.
    #[error("there are no inputs to fit to")]
    Empty,
    /// A value that is no number, or a weight that is not positive.
    #[error(
        "the density has weight {weight} at {value}; values must be finite and weights positive and finite"
    )]
    Point {
        /// The value.
        value: f64,
        /// Its weight.
        weight: f64,
    },
    /// No interval.
    #[error("the interval [{low}, {high}] is not one of finite length above 2^-20 and below 2^30")]
    Interval {
        /// Its lower end.
        low: f64,
        /// Its upper end.
        high: f64,
    },
    /// An input outside of the interval.
    #[error("the interval [{low}, {high}] does not hold the input {value}")]
    Outside {
        /// The interval's lower end.
        low: f64,
        /// Its upper end.
        high: f64,
        /// The input.
        value: f64,
    },
    /// A floor that is not between 0 and 1.
    #[error("the floor is {0}, but it must be above 0 and at most 1")]
    Floor(f64),
    /// A degree that is not supported.
    #[error("degree {0} is not supported: it must be from 2 to {max}", max = FittedPolynomial::MAX_DEGREE)]
    Degree(usize),
    /// A coefficient that is no number.
    #[error("the coefficient of T_{order} is {value}, but must be finite")]
    Coefficient {
        /// Of the Chebyshev polynomial.
        order: usize,
        /// As given.
        value: f64,
    },
}

impl Density {
    /// The density of these values with these weights, in any order.
    ///
    /// # Errors
    /// [`FitError::Empty`], [`FitError::Point`].
    pub fn new(points: impl IntoIterator<Item = (f64, f64)>) -> Result<Self, FitError> {
        let mut points: Vec<(f64, f64)> = points.into_iter().collect();
        let is_bad =
            |(value, weight): &&(f64, f64)| !value.is_finite() || !weight.is_finite() || *weight <= 0.0;
        if let Some(&(value, weight)) = points.iter().find(is_bad) {
            return Err(FitError::Point { value, weight });
        }
        if points.is_empty() {
            return Err(FitError::Empty);
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let sum: f64 = points.iter().map(|(_, weight)| weight).sum();
        points.iter_mut().for_each(|(_, weight)| *weight /= sum);
        Ok(Self { points })
    }

    /// The values, ascending, each with its share of all.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The smallest and the largest value.
    pub fn range(&self) -> [f64; 2] {
        [self.points[0].0, self.points[self.points.len() - 1].0]
    }

    /// `E[f(x)]`, over the values.
    pub fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.points.iter().map(|&(x, weight)| weight * f(x)).sum()
    }

    /// What it is, in 64 hexadecimal digits: the SHA-256 of its numbers.
    pub fn digest(&self) -> String {
        hex(self.points.iter().flat_map(|&(x, weight)| [x, weight]))
    }
}

/// The SHA-256 of some numbers.
fn hex(numbers: impl Iterator<Item = f64>) -> String {
    let mut hash = Sha256::new();
    numbers.for_each(|number| hash.update(number.to_le_bytes()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The least-squares problem of a function, a density and an interval, solved for all degrees at once.
#[derive(Debug, Clone)]
pub struct Fit {
    function: ActivationFunction,
    interval: [f64; 2],
    /// Of the Chebyshev polynomials that it is a sum of: all of them, or those that are even.
    step: usize,
    /// Column `k` has `k + 1` numbers: the upper triangle of the problem.
    triangle: Vec<Vec<f64>>,
    /// Its right-hand side.
    rotated: Vec<f64>,
}

impl Fit {
    /// The problem of `function` on the interval, with the weight `floor` on all of it.
    ///
    /// # Errors
    /// [`FitError`]: for no interval, an input outside of it, or a floor that is not above 0 and at most 1.
    pub fn new(
        function: ActivationFunction,
        density: &Density,
        interval: [f64; 2],
        floor: f64,
    ) -> Result<Self, FitError> {
        Self::of(function, density, interval, floor, 1)
    }

    /// The problem of an even function on `[-bound, bound]`, for polynomials that are even. The density is that of `|x|`.
    ///
    /// # Errors
    /// As [`Fit::new`].
    pub fn even(
        function: ActivationFunction,
        density: &Density,
        bound: f64,
        floor: f64,
    ) -> Result<Self, FitError> {
        Self::of(function, density, [-bound, bound], floor, 2)
    }

    fn of(
        function: ActivationFunction,
        density: &Density,
        interval: [f64; 2],
        floor: f64,
        step: usize,
    ) -> Result<Self, FitError> {
        let [low, high] = check_interval(interval)?;
        if !(floor > 0.0 && floor <= 1.0) {
            return Err(FitError::Floor(floor));
        }
        let range = density.range();
        if let Some(&value) = range.iter().find(|value| **value < low || **value > high) {
            return Err(FitError::Outside { low, high, value });
        }
        let place = |i: usize| low + (high - low) * i as f64 / (FLOOR_PLACES - 1) as f64;
        let places = (0..FLOOR_PLACES).map(|i| (place(i), floor / FLOOR_PLACES as f64));
        let rows = density.points.iter().copied().chain(places).map(|(x, weight)| (x, weight.sqrt()));
        let terms = FittedPolynomial::MAX_DEGREE / step + 1;
        let map = Unit::of(interval);
        // Columns of the weighted Chebyshev polynomials, and the function as the last one.
        let rows: Vec<(f64, f64)> = rows.collect();
        let mut columns = vec![Vec::with_capacity(rows.len()); terms + 1];
        for &(x, root) in &rows {
            let z = map.to_unit(x);
            let (mut before, mut last) = (root * z, root);
            for column in &mut columns[..terms] {
                column.push(last);
                for _ in 0..step {
                    (before, last) = (last, 2.0 * z * last - before);
                }
            }
            columns[terms].push(root * function.eval(x));
        }
        let (triangle, rotated) = triangular(columns);
        Ok(Self { function, interval, step, triangle, rotated })
    }

    /// The best polynomial of at most this degree.
    ///
    /// # Errors
    /// [`FitError::Degree`] unless it is from 2 to [`FittedPolynomial::MAX_DEGREE`].
    pub fn polynomial(&self, degree: usize) -> Result<FittedPolynomial, FitError> {
        if !(2..=FittedPolynomial::MAX_DEGREE).contains(&degree) {
            return Err(FitError::Degree(degree));
        }
        let last = degree / self.step;
        let mut found = self.rotated[..=last].to_vec();
        for k in (0..=last).rev() {
            found[k] /= self.triangle[k][k];
            let value = found[k];
            for (row, c) in found[..k].iter_mut().enumerate() {
                *c -= self.triangle[k][row] * value;
            }
        }
        let mut coefficients = vec![0.0; last * self.step + 1];
        coefficients.iter_mut().step_by(self.step).zip(found).for_each(|(to, from)| *to = from);
        FittedPolynomial::new(self.function, self.interval, coefficients)
    }
}

/// Householder reflections of all columns but the last until they are an upper triangle; that, by column, and the
/// reflected last column.
fn triangular(mut columns: Vec<Vec<f64>>) -> (Vec<Vec<f64>>, Vec<f64>) {
    let count = columns.len() - 1;
    for k in 0..count {
        let (done, rest) = columns.split_at_mut(k + 1);
        let column = &mut done[k];
        let norm = column[k..].iter().map(|x| x * x).sum::<f64>().sqrt();
        let diagonal = if column[k] > 0.0 { -norm } else { norm };
        column[k] -= diagonal;
        let mirror = &column[k..];
        let square: f64 = mirror.iter().map(|x| x * x).sum();
        for other in rest {
            let product: f64 = mirror.iter().zip(&other[k..]).map(|(a, b)| a * b).sum();
            let factor = 2.0 * product / square;
            other[k..].iter_mut().zip(mirror).for_each(|(x, m)| *x -= factor * m);
        }
        column[k] = diagonal;
        column.truncate(k + 1);
    }
    let mut last = columns.pop().expect("there is a right-hand side");
    last.truncate(count);
    (columns, last)
}

fn check_interval([low, high]: [f64; 2]) -> Result<[f64; 2], FitError> {
    let length = high - low;
    if !((-20f64).exp2()..30f64.exp2()).contains(&length) || low.abs() > 30f64.exp2() {
        return Err(FitError::Interval { low, high });
    }
    Ok([low, high])
}

/// The map of an interval to `[-1, 1]`.
#[derive(Debug, Clone, Copy)]
struct Unit {
    center: f64,
    radius: f64,
}

impl Unit {
    fn of([low, high]: [f64; 2]) -> Self {
        Self { center: low.midpoint(high), radius: (high - low) / 2.0 }
    }

    fn to_unit(self, x: f64) -> f64 {
        (x - self.center) / self.radius
    }
}

/// A polynomial that stands for an activation function on an interval.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedPolynomial {
    function: ActivationFunction,
    interval: [f64; 2],
    /// Of `T_0, T_1, …`, of the input mapped to `[-1, 1]`.
    coefficients: Vec<f64>,
}

/// Proven upper bounds on the whole interval, in exact arithmetic.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct FitBounds {
    /// Of `|p(x) − f(x)|`.
    pub error: f64,
    /// Of `|p(x)|`.
    pub value: f64,
    /// Of `|p'(x)|`: by how much an error of the input is amplified.
    pub slope: f64,
}

/// A polynomial in pairs of short ones, in the power basis, so that float32 evaluates them side by side and loses little.
/// With `t = T_2(z)`, `u = T_4(z)` and `v = T_8(z)`, up to degree 31 there are two pairs, and it is `h_0 + z h_1` with
/// `h_i = pairs[i][0](u) + t pairs[i][1](u)`. Above, there are four, and it is `h_0 + t h_1 + z (h_2 + t h_3)` with
/// `h_i = pairs[i][0](v) + u pairs[i][1](v)`.
#[derive(Debug, Clone, PartialEq)]
pub struct InPairs {
    /// The coefficients of `1, u, u², …`, or in `v`. The second of a pair has as many as the first, or one less.
    pub pairs: Vec<[Vec<f64>; 2]>,
}

impl FittedPolynomial {
    /// The largest degree that is supported: six levels.
    pub const MAX_DEGREE: usize = 63;

    /// The polynomial with these coefficients of `T_0, T_1, …` on an interval.
    ///
    /// # Errors
    /// [`FitError::Interval`], [`FitError::Coefficient`], [`FitError::Degree`].
    pub fn new(
        function: ActivationFunction,
        interval: [f64; 2],
        coefficients: Vec<f64>,
    ) -> Result<Self, FitError> {
        check_interval(interval)?;
        let degree = coefficients.len().saturating_sub(1);
        if !(2..=Self::MAX_DEGREE).contains(&degree) {
            return Err(FitError::Degree(degree));
        }
        // Sums of squares of what is larger would overflow.
        if let Some(order) = coefficients.iter().position(|c| c.is_nan() || c.abs() > 1e100) {
            return Err(FitError::Coefficient { order, value: coefficients[order] });
        }
        Ok(Self { function, interval, coefficients })
    }

    /// What it stands for.
    pub fn function(&self) -> ActivationFunction {
        self.function
    }

    /// Where it stands for that, from the lower end to the upper one.
    pub fn interval(&self) -> [f64; 2] {
        self.interval
    }

    /// The middle of the interval.
    pub fn center(&self) -> f64 {
        Unit::of(self.interval).center
    }

    /// Half of the interval's length.
    pub fn radius(&self) -> f64 {
        Unit::of(self.interval).radius
    }

    /// The coefficients of `T_0, T_1, …`, of `(x − center) / radius`.
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// The degree.
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// The steps of an encrypted evaluation, of `(x − center) / radius`.
    pub fn plan(&self) -> EvaluationPlan {
        self.plan_in_units_of(1.0)
    }

    /// The same, of which the values are to be multiplied by `unit`.
    pub(crate) fn plan_in_units_of(&self, unit: f64) -> EvaluationPlan {
        let scaled: Vec<f64> = self.coefficients.iter().map(|c| c / unit).collect();
        EvaluationPlan::of_polynomial(&scaled).expect("finite coefficients, of degree 2 at least")
    }

    /// What an encrypted evaluation costs.
    pub fn cost(&self) -> Cost {
        self.plan().cost()
    }

    /// What a polynomial of this degree costs; `None` for a degree that is not supported. A coefficient that is 0 by
    /// chance saves nothing.
    pub fn cost_of_degree(degree: usize) -> Option<Cost> {
        (2..=Self::MAX_DEGREE).contains(&degree).then(|| {
            EvaluationPlan::of_polynomial(&vec![1.0; degree + 1]).expect("finite coefficients").cost()
        })
    }

    /// What an even polynomial of at most this degree costs; `None` for a degree that is not supported.
    pub fn cost_of_even(degree: usize) -> Option<Cost> {
        let is_even = |order: usize| f64::from(u8::from(order.is_multiple_of(2)));
        (2..=Self::MAX_DEGREE).contains(&degree).then(|| {
            let coefficients: Vec<f64> = (0..=degree / 2 * 2).map(is_even).collect();
            EvaluationPlan::of_polynomial(&coefficients).expect("finite coefficients").cost()
        })
    }

    /// The value at `x`.
    pub fn eval(&self, x: f64) -> f64 {
        clenshaw(&self.coefficients, Unit::of(self.interval).to_unit(x))
    }

    /// The derivative at `x`.
    pub fn derivative(&self, x: f64) -> f64 {
        let unit = Unit::of(self.interval);
        clenshaw(&derivative(&self.coefficients), unit.to_unit(x)) / unit.radius
    }

    /// The root of the mean square of `p(x) − f(x)` over a density.
    pub fn rms(&self, density: &Density) -> f64 {
        density.mean(|x| (self.eval(x) - self.function.eval(x)).powi(2)).sqrt()
    }

    /// By what an encrypted evaluation amplifies the noise of a rescaling, at most: where values are held in units of
    /// [`radius`](Self::radius), as [`crate::noise`]. Looked for on a grid.
    pub fn noise_amplification(&self) -> f64 {
        let plan = self.plan_in_units_of(self.radius());
        const PLACES: u32 = 512;
        let place = |i: u32| (std::f64::consts::PI * f64::from(i) / f64::from(PLACES)).cos();
        (0..=PLACES).map(|i| amplification(&plan, place(i))).fold(0.0, f64::max)
    }

    /// What it is, in 64 hexadecimal digits: the SHA-256 of the interval and the coefficients.
    pub fn digest(&self) -> String {
        hex(self.interval.iter().chain(&self.coefficients).copied())
    }

    /// Proven bounds on the interval, at most a thousandth above the largest values, or a millionth of what they are
    /// measured in: the radius for errors, the sum of the coefficients' sizes for the others.
    ///
    /// *The proof.* With `x = center + radius · cos θ` the polynomial is `Σ c_k cos kθ`, whose second derivative is at
    /// most `M = Σ k² |c_k|`. So on a cell of radius `r` around `θ` it differs from its value there by at most
    /// `|p'| r + M r²/2`, and the function by at most its steepest slope times what `x` moves. `[0, π]` is divided until
    /// no cell says more than that above what was seen at the middle of one. What float64 rounds is added.
    pub fn bounds(&self) -> FitBounds {
        let Unit { center, radius } = Unit::of(self.interval);
        let steepest = self.function.steepest();
        let polynomial = |c: &[f64]| {
            let (curvature, size) = (squares(c), c.iter().map(|c| c.abs()).sum::<f64>());
            (c.to_vec(), derivative(c), curvature, size)
        };
        let (own, slopes) = (polynomial(&self.coefficients), polynomial(&derivative(&self.coefficients)));
        let of_polynomial = |(c, slopes, curvature, size): &(Vec<f64>, Vec<f64>, f64, f64)| {
            largest(SLACK * size, |theta, r| {
                let (value, slope) = cosines(c, slopes, theta);
                (value.abs(), slope.abs() * r + curvature * r * r / 2.0)
            }) + ROUNDING * size
        };
        let (c, slopes_of_c, curvature, size) = &own;
        let error = largest(SLACK * radius, |theta, r| {
            let (value, slope) = cosines(c, slopes_of_c, theta);
            let moved = radius * (theta.sin() + r).min(1.0) * r;
            let error = (value - self.function.eval(center + radius * theta.cos())).abs();
            (error, slope.abs() * r + curvature * r * r / 2.0 + steepest * moved)
        });
        FitBounds {
            error: error + ROUNDING * (size + steepest * (center.abs() + radius)),
            value: of_polynomial(&own),
            slope: of_polynomial(&slopes) / radius,
        }
    }

    /// The polynomial in pairs of short ones.
    pub fn in_pairs(&self) -> InPairs {
        let halves = in_halves(&self.coefficients);
        let pairs = match self.degree() {
            // Longer ones than these would lose float32's digits.
            32.. => {
                halves.iter().flat_map(|half| in_halves(half)).map(|quarter| in_halves(&quarter)).collect()
            }
            _ => halves.map(|half| in_halves(&half)).to_vec(),
        };
        let in_powers = |pair: [Vec<f64>; 2]| pair.map(|c| power_basis(&c));
        InPairs { pairs: pairs.into_iter().map(in_powers).collect::<Vec<_>>() }
    }
}

/// Of `Σ c_k T_k(z)`, the parts `a` and `b` of `a(t) + z b(t)` with `t = T_2(z)`, in the Chebyshev basis.
fn in_halves(c: &[f64]) -> [Vec<f64>; 2] {
    let even = c.iter().step_by(2).copied().collect();
    let odd: Vec<f64> = c.iter().skip(1).step_by(2).copied().collect();
    [even, without_factor(&odd)]
}

/// Of `Σ c_k T_(2k+1)(t)`, the `d` of `t Σ d_k T_k(T_2(t))`: `T_(2k+1) = 2 t T_2k − T_(2k−1)`.
fn without_factor(c: &[f64]) -> Vec<f64> {
    let (mut d, mut carried) = (vec![0.0; c.len()], 0.0);
    for k in (0..c.len()).rev() {
        carried = c[k] - carried;
        d[k] = if k == 0 { carried } else { 2.0 * carried };
    }
    d
}

/// Of `Σ c_k T_k(u)` the coefficients of `1, u, u², …`: by Clenshaw's recurrence on polynomials.
fn power_basis(c: &[f64]) -> Vec<f64> {
    let mut b1 = vec![0.0; c.len()];
    let mut b2 = b1.clone();
    for (k, &coefficient) in c.iter().enumerate().rev() {
        let factor = if k == 0 { 1.0 } else { 2.0 };
        let mut next: Vec<f64> = b2.iter().map(|b| -b).collect();
        for i in 1..c.len() {
            next[i] += factor * b1[i - 1];
        }
        next[0] += coefficient;
        (b2, b1) = (b1, next);
    }
    b1
}

/// Of `Σ c_k T_k(z)` the coefficients of the derivative.
fn derivative(c: &[f64]) -> Vec<f64> {
    let degree = c.len() - 1;
    let mut d = vec![0.0; degree + 2];
    for k in (1..=degree).rev() {
        d[k - 1] = d[k + 1] + 2.0 * k as f64 * c[k];
    }
    d[0] /= 2.0;
    d.truncate(degree);
    d
}

/// `Σ k² |c_k|`.
fn squares(c: &[f64]) -> f64 {
    c.iter().enumerate().map(|(k, c)| (k * k) as f64 * c.abs()).sum()
}

/// `Σ c_k cos kθ` and its derivative in `θ`, from the coefficients and those of the derivative in `cos θ`.
fn cosines(c: &[f64], slopes: &[f64], theta: f64) -> (f64, f64) {
    let (sine, cosine) = theta.sin_cos();
    (clenshaw(c, cosine), -sine * clenshaw(slopes, cosine))
}

/// What evaluations in float64 may be off by, in parts of the sum of the coefficients.
const ROUNDING: f64 = 1e-12;
/// By how much bounds may be too large where they are small, in parts of what they are measured in.
const SLACK: f64 = 1e-6;

/// The largest value over `[0, π]`, or up to a thousandth and `slack` more. `cell(θ, r)` gives the value at `θ`, and by how much it
/// may be larger within `r` of that.
fn largest(slack: f64, cell: impl Fn(f64, f64) -> (f64, f64)) -> f64 {
    const CELLS: u32 = 256;
    const TOLERANCE: f64 = 1e-3;
    let radius = std::f64::consts::FRAC_PI_2 / f64::from(CELLS);
    let theta = |i: u32| radius * f64::from(2 * i + 1);
    let mut cells: Vec<(f64, f64, (f64, f64))> =
        (0..CELLS).map(|i| (theta(i), radius, cell(theta(i), radius))).collect();
    let mut seen = cells.iter().map(|(_, _, (value, _))| *value).fold(0.0, f64::max);
    let mut bound = seen;
    while let Some((theta, r, (value, more))) = cells.pop() {
        seen = seen.max(value);
        if value + more <= seen * (1.0 + TOLERANCE) + slack {
            bound = bound.max(value + more);
            continue;
        }
        let half = r / 2.0;
        for theta in [theta - half, theta + half] {
            cells.push((theta, half, cell(theta, half)));
        }
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remez::{Parity, Problem};
    use proptest::prelude::*;

    /// What sites of a network look like: most values near −1, a long tail above.
    fn density() -> Density {
        let value = |i: u32| f64::from(i) / 40.0 - 4.0;
        let weight = |x: f64| (-(x + 1.0).powi(2)).exp() + 0.02 * (-x.abs() / 3.0).exp();
        Density::new((0..520).map(|i| (value(i), weight(value(i))))).unwrap()
    }

    fn fit() -> Fit {
        Fit::new(ActivationFunction::Relu, &density(), [-5.0, 10.0], FLOOR).unwrap()
    }

    #[test]
    fn a_polynomial_is_found_again() {
        let line = ActivationFunction::LeakyRelu { slope: 1.0 };
        let fit = Fit::new(line, &density(), [-5.0, 10.0], FLOOR).unwrap();
        for degree in [2, 15, 63] {
            let p = fit.polynomial(degree).unwrap();
            for x in [-5.0, -1.3, 0.0, 4.0, 10.0] {
                assert!((p.eval(x) - x).abs() < 1e-10, "degree {degree} at {x}: {}", p.eval(x));
            }
        }
    }

    /// The normal equations of the problem: the error is at right angles to every polynomial.
    #[test]
    fn what_is_left_is_orthogonal_to_all_polynomials() {
        let (density, fit) = (density(), fit());
        for degree in [2, 7, 27, 63] {
            let p = fit.polynomial(degree).unwrap();
            let error = |x: f64| p.eval(x) - x.max(0.0);
            for k in 0..=degree {
                let basis = |x: f64| (k as f64 * ((x - 2.5) / 7.5f64).clamp(-1.0, 1.0).acos()).cos();
                let places = (0..2049).map(|i| -5.0 + 15.0 * f64::from(i) / 2048.0);
                let floor: f64 = places.map(|x| error(x) * basis(x)).sum::<f64>() / 2049.0;
                let product = density.mean(|x| error(x) * basis(x)) + FLOOR * floor;
                assert!(product.abs() < 1e-11, "degree {degree}, T_{k}: {product}");
            }
        }
    }

    #[test]
    fn even_fits_are_those_of_a_symmetric_density() {
        let sizes: Vec<(f64, f64)> =
            (0..400).map(|i| (f64::from(i) / 100.0, 1.0 / f64::from(i + 1))).collect();
        let both = sizes.iter().flat_map(|&(x, w)| [(x, w), (-x, w)]);
        let abs = ActivationFunction::LeakyRelu { slope: -1.0 };
        let fit = Fit::new(abs, &Density::new(both).unwrap(), [-5.0, 5.0], FLOOR).unwrap();
        let even = Fit::even(abs, &Density::new(sizes.iter().copied()).unwrap(), 5.0, FLOOR).unwrap();
        for degree in [2, 14, 62] {
            let (p, q) = (fit.polynomial(degree).unwrap(), even.polynomial(degree + 1).unwrap());
            assert_eq!((q.degree(), q.cost()), (degree, FittedPolynomial::cost_of_even(degree).unwrap()));
            for (order, (p, q)) in p.coefficients().iter().zip(q.coefficients()).enumerate() {
                assert!((p - q).abs() < 1e-10, "degree {degree}, T_{order}: {p} and {q}");
            }
        }
    }

    #[test]
    fn a_higher_degree_is_never_worse() {
        let (density, fit) = (density(), fit());
        let errors: Vec<f64> = (2..=63).map(|degree| fit.polynomial(degree).unwrap().rms(&density)).collect();
        // The floor has a share in what is minimised.
        assert!(errors.windows(2).all(|pair| pair[1] <= pair[0] * 1.02), "{errors:?}");
        assert!(errors[61] < errors[13] / 4.0 && errors[13] < errors[5] / 2.0, "{errors:?}");
    }

    /// On the uniform density the fit is no better than the minimax polynomial in the largest error, and no worse on
    /// average.
    #[test]
    fn minimax_polynomials_are_the_truth_at_the_other_end() {
        let uniform = Density::new((0..4001).map(|i| (f64::from(i) / 2000.0 - 1.0, 1.0))).unwrap();
        let relu = ActivationFunction::Relu;
        let fit = Fit::new(relu, &uniform, [-1.0, 1.0], 1.0).unwrap();
        for degree in [6, 14, 30] {
            // x/2 and an even polynomial, which is minimax for sqrt(u)/2 on [0, 1].
            let half = |u: &f64| (u.sqrt() / 2.0, 0.25 / u.sqrt().max(1e-9));
            let problem = Problem {
                function: &half,
                intervals: vec![[0.0, 1.0]],
                parity: Parity::Any,
                terms: degree / 2 + 1,
            };
            let minimax = problem.solve(1e-6).unwrap();
            let p = fit.polynomial(degree).unwrap();
            let bounds = p.bounds();
            assert!(
                bounds.error > minimax.error && bounds.error < 3.0 * minimax.error,
                "{degree}: {bounds:?}"
            );
            let theirs = uniform.mean(|x| (x / 2.0 + minimax.eval(&(x * x)) - x.max(0.0)).powi(2)).sqrt();
            assert!(p.rms(&uniform) < theirs, "{degree}: {} and {theirs}", p.rms(&uniform));
        }
    }

    #[test]
    fn bounds_hold_and_are_tight() {
        let fit = fit();
        for degree in [2, 5, 15, 27, 63] {
            let p = fit.polynomial(degree).unwrap();
            let bounds = p.bounds();
            let places = || (0..=200_000).map(|i| -5.0 + 15.0 * f64::from(i) / 200_000.0);
            let seen = [
                places().map(|x| (p.eval(x) - x.max(0.0)).abs()).fold(0.0, f64::max),
                places().map(|x| p.eval(x).abs()).fold(0.0, f64::max),
                places().map(|x| p.derivative(x).abs()).fold(0.0, f64::max),
            ];
            for (bound, seen) in [bounds.error, bounds.value, bounds.slope].into_iter().zip(seen) {
                assert!(seen <= bound && bound <= seen * 1.002, "degree {degree}: {bound}, seen {seen}");
            }
        }
    }

    #[test]
    fn costs_are_the_plans() {
        for (degree, depth) in [(2, 2), (3, 2), (7, 3), (15, 4), (27, 5), (31, 5), (63, 6)] {
            let p = fit().polynomial(degree).unwrap();
            assert_eq!(p.cost(), p.plan().cost());
            assert_eq!(p.cost().depth, depth);
        }
        assert_eq!((FittedPolynomial::cost_of_degree(1), FittedPolynomial::cost_of_degree(64)), (None, None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (relu, density) = (ActivationFunction::Relu, density());
        assert_eq!(Density::new([]), Err(FitError::Empty));
        assert!(matches!(Density::new([(f64::NAN, 1.0)]), Err(FitError::Point { .. })));
        assert!(matches!(Density::new([(0.0, 0.0)]), Err(FitError::Point { .. })));
        for interval in [[1.0, 1.0], [2.0, -2.0], [f64::NAN, 1.0], [-1.0, f64::INFINITY]] {
            let error = Fit::new(relu, &density, interval, FLOOR).unwrap_err();
            assert!(matches!(error, FitError::Interval { .. }), "{error}");
        }
        let outside = Fit::new(relu, &density, [-1.0, 10.0], FLOOR).unwrap_err();
        assert!(matches!(outside, FitError::Outside { value: -4.0, .. }), "{outside}");
        for floor in [0.0, -1.0, 2.0, f64::NAN] {
            let error = Fit::new(relu, &density, [-5.0, 10.0], floor).unwrap_err();
            assert!(matches!(error, FitError::Floor(_)), "{error}");
        }
        for degree in [0, 1, 64] {
            assert_eq!(fit().polynomial(degree), Err(FitError::Degree(degree)));
        }
        let error = FittedPolynomial::new(relu, [0.0, 1.0], vec![0.0, 1.0, f64::INFINITY]).unwrap_err();
        assert!(matches!(error, FitError::Coefficient { order: 2, .. }), "{error}");
    }

    /// One value only, values on one side only, an outlier: the floor makes a fit of each.
    #[test]
    fn odd_densities_have_a_fit() {
        let relu = ActivationFunction::Relu;
        let constant = Density::new([(0.7, 3.0)]).unwrap();
        let p = Fit::new(relu, &constant, [0.5, 0.9], FLOOR).unwrap().polynomial(7).unwrap();
        assert!((p.eval(0.7) - 0.7).abs() < 1e-12);
        let negative = Density::new((0..50).map(|i| (-0.1 * f64::from(i), 1.0))).unwrap();
        let p = Fit::new(relu, &negative, [-5.0, 0.0], FLOOR).unwrap().polynomial(7).unwrap();
        assert!(p.bounds().value < 1e-9, "{:?}", p.bounds());
        let outlier = Density::new((0..50).map(|i| (0.02 * f64::from(i) - 0.5, 1.0)).chain([(100.0, 1e-3)]));
        let p = Fit::new(relu, &outlier.unwrap(), [-5.0, 110.0], FLOOR).unwrap().polynomial(63).unwrap();
        assert!(p.bounds().error < 10.0, "{:?}", p.bounds());
    }

    proptest! {
        #[test]
        fn all_forms_agree(c in prop::collection::vec(-2.0..2.0f64, 3..=64), x in -1.0..3.0f64) {
            let size: f64 = c.iter().map(|c| c.abs()).sum();
            let p = FittedPolynomial::new(ActivationFunction::Relu, [-1.0, 3.0], c).unwrap();
            let z = (x - 1.0) / 2.0;
            let expected: f64 =
                p.coefficients().iter().enumerate().map(|(k, c)| c * (k as f64 * z.acos()).cos()).sum();
            prop_assert!((p.eval(x) - expected).abs() < 1e-11 * size);
            prop_assert!((p.plan().eval(z) - expected).abs() < 1e-9 * size);
            let (t, u) = (2.0 * z * z - 1.0, 8.0 * z * z * (z * z - 1.0) + 1.0);
            let v = 2.0 * u * u - 1.0;
            let at = |c: &Vec<f64>, x: f64| c.iter().rev().fold(0.0, |sum, c| sum * x + c);
            let pairs = p.in_pairs().pairs;
            let found = match &pairs[..] {
                [a, b] => {
                    let [a, b] = [a, b].map(|[first, second]| at(first, u) + t * at(second, u));
                    a + z * b
                }
                [a, b, c, d] => {
                    let [a, b, c, d] = [a, b, c, d].map(|[first, second]| at(first, v) + u * at(second, v));
                    a + t * b + z * (c + t * d)
                }
                other => panic!("{} pairs", other.len()),
            };
            prop_assert!((found - expected).abs() < 1e-9 * size, "{} {}", found, expected);
            let h = 1e-6;
            let numeric = (p.eval(x + h) - p.eval(x - h)) / (2.0 * h);
            prop_assert!((p.derivative(x) - numeric).abs() < 1e-3 * size, "{} {}", p.derivative(x), numeric);
        }
    }
}
