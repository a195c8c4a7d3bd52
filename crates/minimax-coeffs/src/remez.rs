//! Best uniform approximation by the Remez algorithm.
//!
//! Multi-point exchange (E. Ya. Remez, 1934): a polynomial of `n` coefficients is the best approximation of a
//! function exactly if its error takes its largest absolute value, with alternating signs, at `n + 1` points.
//! Each step makes the error alternate with *equal* size at the `n + 1` points of a reference, and then moves
//! those points to where the error is in fact largest. Near the solution a step squares the distance to it.

use crate::real::Real;

/// Steps after which the algorithm gives up; it usually needs 5 to 15.
const MAX_STEPS: usize = 100;
/// Places between two reference points at which the slope of the error is looked at.
const SUBDIVISIONS: usize = 4;

/// Which polynomials are considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// Sums of `1, x, x², …`.
    Any,
    /// Sums of `x, x³, x⁵, …`; all intervals must be to the right of 0.
    Odd,
}

/// What is to be approximated, by what, and where.
pub struct Problem<'a, T> {
    /// The function and its derivative at a point.
    pub function: &'a dyn Fn(&T) -> (T, T),
    /// Disjoint intervals `[left, right]` in ascending order.
    pub intervals: Vec<[T; 2]>,
    /// Which polynomials.
    pub parity: Parity,
    /// How many coefficients the polynomial has.
    pub terms: usize,
}

/// The best approximation of a [`Problem`].
#[derive(Debug, Clone, PartialEq)]
pub struct Minimax<T> {
    polynomial: Series<T>,
    /// The largest absolute error on the intervals.
    pub error: T,
    /// `terms + 1` points at which the error alternates.
    pub reference: Vec<T>,
    /// `(largest error − smallest error at the reference) / largest error`, at most the tolerance asked for, or
    /// what rounding allows.
    pub spread: f64,
    /// Steps taken.
    pub steps: usize,
}

/// Why there is no best approximation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RemezError {
    /// The intervals make no sense.
    #[error("the intervals must be ascending and apart, and right of 0 for an odd polynomial: {intervals:?}")]
    Intervals {
        /// As given.
        intervals: Vec<[f64; 2]>,
    },
    /// No coefficient.
    #[error("a polynomial needs at least one coefficient")]
    NoTerms,
    /// The error is too small for the precision of the arithmetic; it may be zero.
    #[error(
        "the error ({error:.1e}) is lost in rounding, which is {resolution:.1e}: take more working digits"
    )]
    Unresolved {
        /// The error found.
        error: f64,
        /// What rounding makes of zero.
        resolution: f64,
    },
    /// The error has not become equal at the reference points.
    #[error(
        "no convergence after {steps} steps: the errors at the reference points differ by {spread:.1e} of \
         {error:.3e}, asked for is {tolerance:.1e}"
    )]
    NoConvergence {
        /// Steps taken.
        steps: usize,
        /// Relative difference of the errors.
        spread: f64,
        /// The largest error.
        error: f64,
        /// What was asked for.
        tolerance: f64,
    },
}

impl<T: Real> Problem<'_, T> {
    /// The best approximation, with errors at the reference points that differ by at most `tolerance` of
    /// themselves, or by what rounding leaves.
    ///
    /// # Errors
    /// [`RemezError`].
    pub fn solve(&self, tolerance: f64) -> Result<Minimax<T>, RemezError> {
        self.solve_from(self.first_reference()?, tolerance)
    }

    /// As [`Problem::solve`], starting from `terms + 1` ascending points of the intervals.
    ///
    /// # Errors
    /// [`RemezError`].
    pub fn solve_from(&self, start: Vec<T>, tolerance: f64) -> Result<Minimax<T>, RemezError> {
        self.check()?;
        let mut reference = start;
        let mut spread = f64::INFINITY;
        let mut largest = f64::NAN;
        for steps in 1..=MAX_STEPS {
            let (polynomial, level) = self.level(&reference).ok_or(RemezError::NoConvergence {
                steps,
                spread,
                error: largest,
                tolerance,
            })?;
            let extrema = self.extrema(&polynomial, &reference);
            let one = level.lift(1.0);
            let size = extrema.iter().fold(one.lift(0.0), |m, e| larger(m, e.error.abs()));
            largest = size.as_f64();
            let resolution = 32.0 * one.unit_roundoff() * self.scale(&reference);
            let alternating = alternation(extrema, self.terms + 1);
            if alternating.len() < self.terms + 1 || largest <= resolution {
                return Err(RemezError::Unresolved { error: largest, resolution });
            }
            let smallest = alternating.iter().fold(size.clone(), |m, e| smaller(m, e.error.abs()));
            let difference = (size.clone() - &smallest).as_f64();
            spread = difference / largest;
            if spread <= tolerance || difference <= resolution {
                return Ok(Minimax { polynomial, error: size, reference, spread, steps });
            }
            reference = alternating.into_iter().map(|e| e.x).collect();
        }
        Err(RemezError::NoConvergence { steps: MAX_STEPS, spread, error: largest, tolerance })
    }

    fn check(&self) -> Result<(), RemezError> {
        let ends: Vec<&T> = self.intervals.iter().flatten().collect();
        let ascending = ends.windows(2).all(|pair| pair[0] < pair[1]);
        let right_of_zero = ends.first().is_some_and(|first| first.as_f64() > 0.0);
        let finite = ends.iter().all(|end| end.as_f64().is_finite());
        if ends.is_empty() || !ascending || !finite || (self.parity == Parity::Odd && !right_of_zero) {
            let intervals = self.intervals.iter().map(|[a, b]| [a.as_f64(), b.as_f64()]).collect();
            return Err(RemezError::Intervals { intervals });
        }
        if self.terms == 0 {
            return Err(RemezError::NoTerms);
        }
        Ok(())
    }

    /// The size of the numbers that are subtracted from each other.
    fn scale(&self, reference: &[T]) -> f64 {
        reference.iter().map(|x| (self.function)(x).0.as_f64().abs()).fold(0.0, f64::max)
    }

    /// Chebyshev's extrema in `x`, or in `x²` for an odd polynomial, on the intervals as if they were joined.
    fn first_reference(&self) -> Result<Vec<T>, RemezError> {
        self.check()?;
        let variable = |x: &T| if self.parity == Parity::Odd { x.clone() * x } else { x.clone() };
        let inverse = |u: T| if self.parity == Parity::Odd { u.sqrt() } else { u };
        let ends: Vec<[T; 2]> = self.intervals.iter().map(|[a, b]| [variable(a), variable(b)]).collect();
        let like = &self.intervals[0][0];
        let total = ends.iter().fold(like.lift(0.0), |sum, [a, b]| sum + b - a);
        let point = |i: usize| {
            let angle = std::f64::consts::PI * i as f64 / self.terms as f64;
            let mut rest = total.clone() * &like.lift((1.0 - angle.cos()) / 2.0);
            for [a, b] in &ends {
                let length = b.clone() - a;
                if rest <= length {
                    return inverse(a.clone() + &rest);
                }
                rest = rest - &length;
            }
            self.intervals[self.intervals.len() - 1][1].clone()
        };
        let mut points: Vec<T> = (0..=self.terms).map(point).collect();
        // The square root of a square is not always the number itself.
        points[0] = like.clone();
        points[self.terms] = self.intervals[self.intervals.len() - 1][1].clone();
        Ok(points)
    }

    /// The polynomial whose error alternates with equal size at the reference, and that size with its sign;
    /// `None` if the equations have no solution in this arithmetic.
    fn level(&self, reference: &[T]) -> Option<(Series<T>, T)> {
        let first = &self.intervals[0][0];
        let last = &self.intervals[self.intervals.len() - 1][1];
        let empty = Series::on(self.parity, first, last);
        let mut sign = first.lift(1.0);
        let rows = reference.iter().map(|x| {
            let mut row = empty.basis(x, self.terms);
            row.push(sign.clone());
            row.push((self.function)(x).0);
            sign = -sign.clone();
            row
        });
        let mut solution = solve_linear(rows.collect())?;
        let level = solution.pop()?;
        Some((Series { coefficients: solution, ..empty }, level))
    }

    /// The end points of the intervals and all points where the slope of the error changes its sign, ascending.
    fn extrema(&self, polynomial: &Series<T>, reference: &[T]) -> Vec<Extremum<T>> {
        let error = |x: &T| {
            let (f, df) = (self.function)(x);
            let (p, dp) = polynomial.eval_with_derivative(x);
            (p - &f, dp - &df)
        };
        let mut result = Vec::with_capacity(reference.len());
        for [left, right] in &self.intervals {
            let inside = reference.iter().filter(|x| *x > left && *x < right);
            let mut nodes: Vec<&T> = std::iter::once(left).chain(inside).collect();
            nodes.push(right);
            let step = left.lift(1.0 / SUBDIVISIONS as f64);
            let grid = nodes.windows(2).flat_map(|pair| {
                let width = (pair[1].clone() - pair[0]) * &step;
                (1..=SUBDIVISIONS).map(move |i| match i {
                    SUBDIVISIONS => pair[1].clone(),
                    i => width.clone() * &width.lift(i as f64) + pair[0],
                })
            });
            let (e, slope) = error(left);
            result.push(Extremum { x: left.clone(), error: e });
            let mut before = (left.clone(), slope);
            for x in grid {
                let (e, slope) = error(&x);
                if changes_sign(&before.1, &slope) {
                    let x = root(|x| error(x).1, before, (x.clone(), slope.clone()));
                    let error = error(&x).0;
                    result.push(Extremum { x, error });
                }
                if x == *right {
                    result.push(Extremum { x: x.clone(), error: e });
                }
                before = (x, slope);
            }
        }
        result
    }
}

impl<T: Real> Minimax<T> {
    /// The value at `x`.
    pub fn eval(&self, x: &T) -> T {
        self.polynomial.eval_with_derivative(x).0
    }

    /// The coefficients of `T_0(t), T_1(t), …`, or of `x T_0(t), x T_1(t), …` for an odd polynomial, where `t` is affine
    /// in `x`, or in `x²`, and runs from −1 to 1 over the hull of the intervals.
    pub fn coefficients(&self) -> &[T] {
        &self.polynomial.coefficients
    }

    /// The coefficients of `1, x, x², …`, or of `x, x³, x⁵, …` for an odd polynomial.
    pub fn power_basis(&self) -> Vec<T> {
        self.polynomial.power_basis()
    }
}

/// `w(x) Σ c_k T_k(t)`, where `t` runs from −1 to 1 over the hull of the intervals: `w = 1` and `t` affine in
/// `x`, or `w = x` and `t` affine in `x²`. In this basis the equations stay well conditioned on any interval.
#[derive(Debug, Clone, PartialEq)]
struct Series<T> {
    parity: Parity,
    middle: T,
    /// `dt/dx`, or `dt/d(x²)`.
    slope: T,
    coefficients: Vec<T>,
}

impl<T: Real> Series<T> {
    fn on(parity: Parity, left: &T, right: &T) -> Self {
        let of = |x: &T| match parity {
            Parity::Any => x.clone(),
            Parity::Odd => x.clone() * x,
        };
        let (left, right, two) = (of(left), of(right), left.lift(2.0));
        let middle = (left.clone() + &right) / &two;
        Self { parity, middle, slope: two / &(right - &left), coefficients: Vec::new() }
    }

    /// `t`, `dt/dx` and `w` at `x`.
    fn argument(&self, x: &T) -> (T, T, T) {
        let (u, du, w) = match self.parity {
            Parity::Any => (x.clone(), x.lift(1.0), x.lift(1.0)),
            Parity::Odd => (x.clone() * x, x.clone() + x, x.clone()),
        };
        ((u - &self.middle) * &self.slope, du * &self.slope, w)
    }

    /// The first `terms` functions of the basis at `x`.
    fn basis(&self, x: &T, terms: usize) -> Vec<T> {
        let (t, _, w) = self.argument(x);
        let twice = t.clone() + &t;
        let mut values = vec![w.clone(), t * &w];
        for k in 2..terms {
            values.push(twice.clone() * &values[k - 1] - &values[k - 2]);
        }
        values.truncate(terms);
        values
    }

    /// Clenshaw's recurrence, and its derivative.
    fn eval_with_derivative(&self, x: &T) -> (T, T) {
        let (t, dt, w) = self.argument(x);
        let twice = t.clone() + &t;
        let zero = x.lift(0.0);
        let (mut b1, mut b2) = (zero.clone(), zero.clone());
        let (mut d1, mut d2) = (zero.clone(), zero);
        for c in self.coefficients[1..].iter().rev() {
            let d = twice.clone() * &d1 + &b1 + &b1 - &d2;
            let b = twice.clone() * &b1 + c - &b2;
            (d1, d2, b1, b2) = (d, d1, b, b1);
        }
        let sum = t.clone() * &b1 + &self.coefficients[0] - &b2;
        let slope = (t * &d1 + &b1 - &d2) * &dt;
        match self.parity {
            Parity::Any => (sum, slope),
            Parity::Odd => (sum.clone() * &w, slope * &w + &sum),
        }
    }

    fn power_basis(&self) -> Vec<T> {
        // Clenshaw's recurrence with polynomials in u (u = x or x²): t = slope · u − slope · middle.
        let zero = self.middle.lift(0.0);
        let offset = self.slope.clone() * &self.middle;
        let times_t = |p: &[T]| -> Vec<T> {
            let mut result: Vec<T> = p.iter().map(|c| -(c.clone() * &offset)).collect();
            for (k, c) in p[..p.len() - 1].iter().enumerate() {
                result[k + 1] = c.clone() * &self.slope + &result[k + 1];
            }
            result
        };
        let terms = self.coefficients.len();
        let (mut b1, mut b2) = (vec![zero.clone(); terms], vec![zero; terms]);
        for c in self.coefficients[1..].iter().rev() {
            let mut b: Vec<T> = times_t(&b1).into_iter().zip(&b2).map(|(x, y)| x.clone() + &x - y).collect();
            b[0] = b[0].clone() + c;
            (b1, b2) = (b, b1);
        }
        let mut sum: Vec<T> = times_t(&b1).into_iter().zip(&b2).map(|(x, y)| x - y).collect();
        sum[0] = sum[0].clone() + &self.coefficients[0];
        sum
    }
}

#[derive(Clone)]
struct Extremum<T> {
    x: T,
    error: T,
}

/// Of ascending extrema those `wanted` that alternate and are largest; fewer if there are not that many.
fn alternation<T: Real>(extrema: Vec<Extremum<T>>, wanted: usize) -> Vec<Extremum<T>> {
    let mut kept: Vec<Extremum<T>> = Vec::with_capacity(extrema.len());
    for next in extrema {
        match kept.last_mut() {
            Some(last) if !changes_sign(&last.error, &next.error) => {
                if next.error.abs() > last.error.abs() {
                    *last = next;
                }
            }
            _ => kept.push(next),
        }
    }
    while kept.len() > wanted {
        let size = |i: usize| kept[i].error.abs();
        let last = kept.len() - 1;
        // One too many: an end. More: the smallest neighbours together, so that the rest still alternates.
        let smallest_pair =
            (0..last).map(|i| (i, larger(size(i), size(i + 1)))).reduce(|a, b| if b.1 < a.1 { b } else { a });
        let smaller_end = smaller(size(0), size(last));
        match smallest_pair {
            Some((i, size)) if kept.len() > wanted + 1 && size < smaller_end => {
                kept.drain(i..=i + 1);
            }
            _ if size(0) < size(last) => {
                kept.remove(0);
            }
            _ => {
                kept.pop();
            }
        }
    }
    kept
}

fn changes_sign<T: Real>(a: &T, b: &T) -> bool {
    let zero = a.lift(0.0);
    (*a < zero) != (*b < zero)
}

fn larger<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

fn smaller<T: Real>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

/// A zero of `f` between two points where its signs differ, by the Illinois method. An error `h` in the place
/// of an extremum changes the error there by `h²` only, so half of the digits will do.
fn root<T: Real>(f: impl Fn(&T) -> T, left: (T, T), right: (T, T)) -> T {
    let tolerance = left.0.unit_roundoff().sqrt() * (right.0.clone() - &left.0).as_f64();
    let half = left.0.lift(0.5);
    let (mut a, mut b) = (left, right);
    for _ in 0..200 {
        let (x0, y0, x1, y1) = (&a.0, &a.1, &b.0, &b.1);
        let denominator = y1.clone() - y0;
        if denominator == half.lift(0.0) {
            break;
        }
        let x = x1.clone() - &((x1.clone() - x0) * y1 / &denominator);
        let moved = (x.clone() - x1).as_f64().abs();
        let y = f(&x);
        if changes_sign(&y, &b.1) {
            a = b;
        } else {
            a.1 = a.1 * &half;
        }
        b = (x, y);
        if moved <= tolerance {
            break;
        }
    }
    b.0
}

/// Gaussian elimination with row pivoting; each row ends with its right-hand side. `None` if singular.
fn solve_linear<T: Real>(mut rows: Vec<Vec<T>>) -> Option<Vec<T>> {
    let n = rows.len();
    for column in 0..n {
        let size = |row: &Vec<T>| row[column].abs();
        let pivot = (column..n).reduce(|a, b| if size(&rows[b]) > size(&rows[a]) { b } else { a })?;
        rows.swap(column, pivot);
        let (above, below) = rows.split_at_mut(column + 1);
        let pivot = &above[column];
        if pivot[column].as_f64() == 0.0 || !pivot[column].as_f64().is_finite() {
            return None;
        }
        for row in below {
            let factor = row[column].clone() / &pivot[column];
            for (value, above) in row[column + 1..].iter_mut().zip(&pivot[column + 1..]) {
                *value = value.clone() - &(above.clone() * &factor);
            }
        }
    }
    let mut solution: Vec<T> = Vec::with_capacity(n);
    for (i, row) in rows.iter().enumerate().rev() {
        let known = row[i + 1..n].iter().zip(solution.iter().rev());
        let sum = known.fold(row[n].clone(), |sum, (c, x)| sum - &(c.clone() * x));
        solution.push(sum / &row[i]);
    }
    solution.reverse();
    Some(solution)
}
