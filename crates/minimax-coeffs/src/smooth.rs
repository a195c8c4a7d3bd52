//! Smooth activation functions, and their best polynomials on `[-B, B]` with proven errors.
//!
//! All of them are a line and an odd or even function: `1/(1 + exp(−x)) = 1/2 + tanh(x/2)/2`, and SiLU and GELU are
//! `x/2` and an even function. The best polynomial has the same parity, so the Remez algorithm runs on `[0, B]` with half
//! of the coefficients, in `x²`, in float64.
//!
//! *The proof.* With `x = B cos θ` the error `e(θ) = p − f` has, on a cell of radius `r` around `m`,
//! `|e| ≤ |e(m)| + |e'(m)| r + M r²/2`, where `M = Σ k² |c_k| + B² sup|f''| + B sup|f'|` bounds the second derivative, as
//! `T_k(cos θ) = cos kθ`. `[0, π/2]` is divided until no cell says more than what was seen at the middle of one. What
//! float64 rounds is bounded and added; that `exp`, `tanh`, `erf` and `cos` are right to 8 units of the last place is taken
//! for granted.

use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_2, SQRT_2};

use crate::cost::Cost;
use crate::plan::EvaluationPlan;
use crate::remez::{Minimax, Parity, Problem, RemezError};

/// An activation function that has all derivatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Smooth {
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
    /// `x / (1 + exp(−x))`.
    Silu,
    /// `x (1 + erf(x / √2)) / 2`.
    Gelu,
    /// `x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`.
    GeluTanh,
}

/// `√(2/π)`.
const SQRT_2_OVER_PI: f64 = FRAC_2_SQRT_PI / SQRT_2;
/// The coefficient of `x³` in [`Smooth::GeluTanh`].
const CUBIC: f64 = 0.044715;

impl Smooth {
    /// All of them.
    pub const ALL: [Smooth; 5] = [Self::Sigmoid, Self::Tanh, Self::Silu, Self::Gelu, Self::GeluTanh];

    /// The name that it has in PyTorch, in lower case; with `_tanh` for that form of GELU.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
        }
    }

    /// The value at `x`.
    ///
    /// # Accuracy
    /// A few units of the last place, or the smallest normal number.
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Silu => x * sigmoid(x),
            Self::Gelu => x * normal(x),
            // (1 + tanh u) / 2 is the sigmoid of 2u, without cancellation.
            Self::GeluTanh => x * sigmoid(2.0 * inner(x).0),
        }
    }

    /// The derivative at `x`.
    pub fn derivative(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => sigmoid_slope(x),
            Self::Tanh => 4.0 * sigmoid_slope(2.0 * x),
            Self::Silu => sigmoid(x) + x * sigmoid_slope(x),
            Self::Gelu => normal(x) + x * (-x * x / 2.0).exp() * SQRT_2_OVER_PI / 2.0,
            Self::GeluTanh => {
                let (u, slope) = inner(x);
                sigmoid(2.0 * u) + 2.0 * x * slope * sigmoid_slope(2.0 * u)
            }
        }
    }

    /// Whether what is left without the line is odd; else it is even.
    fn is_odd(self) -> bool {
        matches!(self, Self::Sigmoid | Self::Tanh)
    }

    /// The line: its value at 0 and its slope.
    fn line(self) -> (f64, f64) {
        match self {
            Self::Sigmoid => (0.5, 0.0),
            Self::Tanh => (0.0, 0.0),
            Self::Silu | Self::Gelu | Self::GeluTanh => (0.0, 0.5),
        }
    }

    /// The rest, `g(x) = f(x) − line`, and its derivative, for `x ≥ 0`.
    fn rest(self, x: f64) -> (f64, f64) {
        match self {
            Self::Sigmoid => ((x / 2.0).tanh() / 2.0, sigmoid_slope(x)),
            Self::Tanh => (x.tanh(), 4.0 * sigmoid_slope(2.0 * x)),
            Self::Silu => {
                let half = (x / 2.0).tanh() / 2.0;
                (x * half, half + x * sigmoid_slope(x))
            }
            Self::Gelu => {
                let half = libm::erf(x / SQRT_2) / 2.0;
                (x * half, half + x * (-x * x / 2.0).exp() * SQRT_2_OVER_PI / 2.0)
            }
            Self::GeluTanh => {
                let (u, slope) = inner(x);
                let half = u.tanh() / 2.0;
                (x * half, half + 2.0 * x * slope * sigmoid_slope(2.0 * u))
            }
        }
    }

    /// `g''(0)`, of the even ones.
    fn curvature_at_zero(self) -> f64 {
        match self {
            Self::Sigmoid | Self::Tanh => 0.0,
            Self::Silu => 0.5,
            Self::Gelu | Self::GeluTanh => SQRT_2_OVER_PI,
        }
    }

    /// Upper bounds of `|g'|` and `|g''|`.
    fn slopes(self) -> (f64, f64) {
        match self {
            // 1/4 and 1/(6√3).
            Self::Sigmoid => (0.25, 0.0963),
            // 1 and 4/(3√3).
            Self::Tanh => (1.0, 0.77),
            // 0.5999 near 2.4, and 1/2 at 0.
            Self::Silu => (0.6, 0.5),
            // 0.6290 at √2, and √(2/π) at 0.
            Self::Gelu => (0.63, 0.798),
            Self::GeluTanh => (0.63, 0.798),
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    // exp(−x) overflows to infinity, and 1/∞ is 0.
    1.0 / (1.0 + (-x).exp())
}

/// The derivative of the sigmoid, without cancellation.
fn sigmoid_slope(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    e / ((1.0 + e) * (1.0 + e))
}

/// The distribution function of the normal distribution.
fn normal(x: f64) -> f64 {
    libm::erfc(-x / SQRT_2) / 2.0
}

/// What GELU's approximation takes `tanh` of, and its derivative.
fn inner(x: f64) -> (f64, f64) {
    (SQRT_2_OVER_PI * x * (1.0 + CUBIC * x * x), SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x))
}

/// A polynomial that approximates a smooth function on `[-bound, bound]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SmoothApproximation {
    function: Smooth,
    bound: f64,
    coefficients: Vec<f64>,
    error: f64,
    least_error: f64,
    certified: f64,
}

/// A [`SmoothApproximation`] as a polynomial in `z²`.
#[derive(Debug, Clone, PartialEq)]
pub struct InSquare {
    /// Whether it is `z` times a polynomial in `z²`.
    pub is_odd: bool,
    /// The value at 0 of an odd one; 0 of an even one.
    pub offset: f64,
    /// The slope of the line of an even one; 0 of an odd one.
    pub slope: f64,
    /// `q_0, q_1, …`.
    pub coefficients: Vec<f64>,
}

/// Why there is no approximation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SmoothError {
    /// A bound `B` that no range `[-B, B]` can have.
    #[error("the bound of the approximation range is {0}, but it must be from 2^-10 to 2^20")]
    Bound(f64),
    /// More precision than float64 has room for, or none.
    #[error("the precision is {0} bits, but it must be from 1 to 30")]
    Alpha(u8),
    /// A degree that is not supported.
    #[error("degree {degree} is not supported: it must be from 1 to {limit}")]
    Degree {
        /// As given.
        degree: usize,
        /// The largest.
        limit: usize,
    },
    /// The range is too wide for the precision.
    #[error(
        "{function} on [-{bound}, {bound}] with {alpha} bits takes a polynomial of a degree above {limit}; the best one \
         of that degree is off by {error:.2e}, allowed is {tolerance:.2e}"
    )]
    TooWide {
        /// Its name.
        function: &'static str,
        /// `B`.
        bound: f64,
        /// The precision.
        alpha: u8,
        /// The largest degree.
        limit: usize,
        /// Its error.
        error: f64,
        /// The error allowed.
        tolerance: f64,
    },
    /// The Remez algorithm found nothing.
    #[error(transparent)]
    Remez(#[from] RemezError),
    /// The error could not be bounded.
    #[error("the error of degree {degree} could not be proven; it is about {error:.2e}")]
    NotProven {
        /// The polynomial's.
        degree: usize,
        /// As the Remez algorithm saw it.
        error: f64,
    },
}

/// The largest error that an approximation with `alpha` bits may have: `2^-alpha` of the largest `|f|` on
/// `[-bound, bound]`, and of 1 where that is smaller. So SiLU and GELU may be off by `bound · 2^-alpha`, as ReLU may.
pub fn tolerance(function: Smooth, bound: f64, alpha: u8) -> f64 {
    // All of them rise for positive x, and are larger there than at −x.
    function.eval(bound).abs().max(1.0) * (-f64::from(alpha)).exp2()
}

/// The best approximation of the least degree that keeps to [`tolerance`].
///
/// # Errors
/// [`SmoothError`]: for a degree above [`SmoothApproximation::MAX_DEGREE`], above all.
pub fn approximate(function: Smooth, bound: f64, alpha: u8) -> Result<SmoothApproximation, SmoothError> {
    check_bound(bound)?;
    if !(1..=30).contains(&alpha) {
        return Err(SmoothError::Alpha(alpha));
    }
    let tolerance = tolerance(function, bound, alpha);
    let most = terms_of_degree(function, SmoothApproximation::MAX_DEGREE);
    // Errors fall as terms are added: first twice as many, then by halving.
    let fits = |terms: usize| match solve(function, bound, terms) {
        Ok(best) => Ok(best.error <= tolerance),
        // So small that it is lost.
        Err(RemezError::Unresolved { resolution, .. }) if resolution <= tolerance => Ok(true),
        Err(error) => Err(error),
    };
    let (mut too_few, mut enough) = (0, 1);
    while !fits(enough)? {
        if enough == most {
            let error = solve(function, bound, most)?.error;
            let limit = SmoothApproximation::MAX_DEGREE;
            let function = function.name();
            return Err(SmoothError::TooWide { function, bound, alpha, limit, error, tolerance });
        }
        (too_few, enough) = (enough, (2 * enough).min(most));
    }
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        if fits(middle)? {
            enough = middle;
        } else {
            too_few = middle;
        }
    }
    let found = SmoothApproximation::of_terms(function, bound, enough)?;
    // The proof leaves out a part in 10,000; an error so close to the tolerance calls for another term.
    if found.certified <= tolerance || enough == most {
        return Ok(found);
    }
    SmoothApproximation::of_terms(function, bound, enough + 1)
}

fn check_bound(bound: f64) -> Result<(), SmoothError> {
    if !((-10f64).exp2()..=20f64.exp2()).contains(&bound) {
        return Err(SmoothError::Bound(bound));
    }
    Ok(())
}

/// Coefficients of the odd or even part of a polynomial of this degree.
fn terms_of_degree(function: Smooth, degree: usize) -> usize {
    if function.is_odd() { degree.div_ceil(2) } else { degree / 2 + 1 }
}

/// The best approximation of `g` by an odd or even polynomial of so many terms.
fn solve(function: Smooth, bound: f64, terms: usize) -> Result<Minimax<f64>, RemezError> {
    /// Errors at the reference points may differ by this part of them.
    const SPREAD: f64 = 1e-4;
    if function.is_odd() {
        // Odd polynomials need an interval that begins above 0; its square does not matter beside that of the end.
        let intervals = vec![[1e-9 * bound, bound]];
        let problem =
            Problem { function: &|x: &f64| function.rest(*x), intervals, parity: Parity::Odd, terms };
        // The extrema of T_(2 · terms + 1): unlike those of the whole interval they keep away from 0.
        let angle = |i: usize| std::f64::consts::PI * i as f64 / (2 * terms + 1) as f64;
        problem.solve_from((0..=terms).rev().map(|i| bound * angle(i).cos()).collect(), SPREAD)
    } else {
        let in_square = |u: &f64| {
            let x = u.max(0.0).sqrt();
            let (value, slope) = function.rest(x);
            (value, if x < 1e-6 { function.curvature_at_zero() / 2.0 } else { slope / (2.0 * x) })
        };
        let intervals = vec![[0.0, bound * bound]];
        Problem { function: &in_square, intervals, parity: Parity::Any, terms }.solve(SPREAD)
    }
}

impl SmoothApproximation {
    /// The largest degree that is supported.
    pub const MAX_DEGREE: usize = 255;

    /// The best approximation of at most this degree: that of an odd function has an odd degree, that of SiLU or GELU
    /// an even one.
    ///
    /// # Errors
    /// [`SmoothError`].
    pub fn of_degree(function: Smooth, bound: f64, degree: usize) -> Result<Self, SmoothError> {
        check_bound(bound)?;
        if !(1..=Self::MAX_DEGREE).contains(&degree) {
            return Err(SmoothError::Degree { degree, limit: Self::MAX_DEGREE });
        }
        Self::of_terms(function, bound, terms_of_degree(function, degree))
    }

    fn of_terms(function: Smooth, bound: f64, terms: usize) -> Result<Self, SmoothError> {
        let best = solve(function, bound, terms)?;
        let q = best.coefficients();
        let mut coefficients = vec![0.0; 2 * terms];
        if function.is_odd() {
            // x T_k(2z² − 1) = B z T_2k(z) = B (T_(2k+1)(z) + T_|2k−1|(z)) / 2 for z = x/B.
            for (k, q) in q.iter().enumerate() {
                coefficients[2 * k + 1] += bound * q / 2.0;
                coefficients[(2 * k).abs_diff(1)] += bound * q / 2.0;
            }
        } else {
            coefficients.pop();
            for (k, q) in q.iter().enumerate() {
                coefficients[2 * k] = *q;
            }
            // Room for the line.
            if coefficients.len() < 2 {
                coefficients.push(0.0);
            }
        }
        let (offset, slope) = function.line();
        coefficients[0] += offset;
        coefficients[1] += slope * bound;
        let (error, least_error) = (best.error, best.error * (1.0 - best.spread));
        let mut result = Self { function, bound, coefficients, error, least_error, certified: f64::INFINITY };
        result.certified = result.prove().ok_or(SmoothError::NotProven { degree: result.degree(), error })?;
        Ok(result)
    }

    /// What is approximated.
    pub fn function(&self) -> Smooth {
        self.function
    }

    /// `B`.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// The coefficients of `T_0(x/B), T_1(x/B), …`.
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// The polynomial in half as many terms: with `z = x/B` and `t = 2z² − 1` it is `offset + z Σ q_k T_k(t)` of an odd
    /// function (without its offset), and `slope · x + Σ q_k T_k(t)` of an even one (without its line).
    pub fn in_square(&self) -> InSquare {
        let is_odd = self.function.is_odd();
        let (offset, slope) = self.function.line();
        let mut q: Vec<f64> =
            self.coefficients.iter().skip(usize::from(is_odd)).step_by(2).copied().collect();
        if is_odd {
            // T_(2k+1) = 2 z T_2k − T_(2k−1), from the highest on; T_1 = z.
            for k in (1..q.len()).rev() {
                q[k] *= 2.0;
                q[k - 1] -= q[k] / 2.0;
            }
        }
        InSquare { is_odd, offset, slope, coefficients: q }
    }

    /// How it is evaluated, for an input of `x/B`. An odd polynomial is evaluated as the components of compositions are,
    /// an even one as a polynomial in `T_2(x/B)`. The line beside them is no step of its own.
    pub fn plan(&self) -> EvaluationPlan {
        EvaluationPlan::of_polynomial(&self.coefficients).expect("finite coefficients, two at least")
    }

    /// The cost of one evaluation: that of its [`plan`](Self::plan).
    pub fn cost(&self) -> Cost {
        self.plan().cost()
    }

    /// The degree.
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// The largest error as the Remez algorithm saw it.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// A lower bound of the error of every polynomial of this degree (de la Vallée Poussin), up to rounding.
    pub fn least_error(&self) -> f64 {
        self.least_error
    }

    /// A proven upper bound of `|p(x) − f(x)|` for `|x| ≤ B`, for the coefficients as they are.
    pub fn certified(&self) -> f64 {
        self.certified
    }

    /// The value at `x`, by Clenshaw's recurrence.
    pub fn eval(&self, x: f64) -> f64 {
        self.eval_with_derivative(x).0
    }

    /// Value and derivative at `x`.
    pub fn eval_with_derivative(&self, x: f64) -> (f64, f64) {
        let (value, slope) = clenshaw_with_derivative(&self.coefficients, x / self.bound);
        (value, slope / self.bound)
    }

    /// The bound of the module's head, for the odd or even part.
    fn prove(&self) -> Option<f64> {
        /// How much looser than the truth the bound may be, as a part of it.
        const LOOSENESS: f64 = 1e-4;
        const MOST_CELLS: usize = 1 << 20;
        let (bound, (first, second)) = (self.bound, self.function.slopes());
        // What is left of the coefficients without the line: it has the other parity.
        let part = usize::from(self.function.is_odd());
        let only = |(k, c): (usize, &f64)| if k % 2 == part { *c } else { 0.0 };
        let c: Vec<f64> = self.coefficients.iter().enumerate().map(only).collect();
        let moment =
            |power: i32| -> f64 { c.iter().enumerate().map(|(k, c)| (k as f64).powi(power) * c.abs()).sum() };
        let (size, size_2) = (moment(0), moment(2));
        let curvature = (size_2 + bound * bound * second + bound * first) * (1.0 + 1e-9);
        // Clenshaw's recurrence of n terms is off by less than 4n² roundings of all coefficients, its derivative of those
        // times k²; the function by 8 roundings, and x by 2, at the slope of either.
        let unit = f64::EPSILON;
        let n = c.len() as f64;
        let of_function = self.function.rest(bound).0.abs().max(1.0);
        let rounding = unit * (4.0 * n * n * size + 16.0 * of_function + 4.0 * (size_2 + bound * first));
        let slope_rounding = unit * (4.0 * n * n * size_2 + 32.0 * bound * (first + bound * second));
        let mut seen = self.error;
        let mut proven = 0.0f64;
        let mut cells = 0;
        let mut waiting = vec![(0.0f64, FRAC_PI_2.next_up())];
        while let Some((left, right)) = waiting.pop() {
            cells += 1;
            if cells > MOST_CELLS {
                return None;
            }
            let (middle, radius) = (left.midpoint(right), ((right - left) / 2.0) * (1.0 + 1e-12));
            let z = middle.cos();
            let (p, p_slope) = clenshaw_with_derivative(&c, z);
            // Past π/2 by a rounding.
            let (g, g_slope) = self.function.rest((bound * z).max(0.0));
            let error = (p - g).abs();
            let slope = ((p_slope - bound * g_slope) * middle.sin()).abs() + slope_rounding;
            let cell = (error + slope * radius + curvature * radius * radius / 2.0) * (1.0 + 1e-14);
            seen = seen.max(error);
            if cell <= seen * (1.0 + LOOSENESS) {
                proven = proven.max(cell);
            } else {
                waiting.push((left, middle));
                waiting.push((middle, right));
            }
        }
        Some((proven + rounding).next_up())
    }
}

/// `Σ c_k T_k(z)` and its derivative in `z`.
fn clenshaw_with_derivative(c: &[f64], z: f64) -> (f64, f64) {
    let (mut b1, mut b2, mut d1, mut d2) = (0.0, 0.0, 0.0, 0.0);
    for c in c[1..].iter().rev() {
        (d1, d2) = (2.0 * z * d1 + 2.0 * b1 - d2, d1);
        (b1, b2) = (2.0 * z * b1 - b2 + c, b1);
    }
    (z * b1 - b2 + c[0], z * d1 + b1 - d2)
}
