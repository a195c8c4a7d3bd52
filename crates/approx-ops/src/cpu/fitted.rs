//! Polynomials that are fitted to the inputs of an activation, a few vectors at a time.

use cnn_kernels::cpu::{is_within_one, select};
use minimax_coeffs::FittedPolynomial;
use pulp::Simd;

use super::composite::{horner_pair, horner_with_derivative};
use super::exact::Exact;
use super::map::{Map, Range};

/// `p(x)` for `|x − center| ≤ bound`, in pairs of short polynomials ([`FittedPolynomial::in_pairs`]), each by Horner's rule: a
/// multiply-add a coefficient.
#[derive(Debug, Clone)]
pub(crate) struct Fitted {
    pub(crate) range: Range,
    pub(crate) inverse_bound: f32,
    pub(crate) pairs: Pairs,
    /// What stands outside, if it is asked for.
    pub(crate) outside: Option<Exact>,
    exact: Exact,
}

/// Up to degree 31 two, else four.
#[derive(Debug, Clone)]
pub(crate) enum Pairs {
    /// In `u`.
    Two([[Vec<f32>; 2]; 2]),
    /// In `v`.
    Four([[Vec<f32>; 2]; 4]),
}

impl Pairs {
    fn new(polynomial: &FittedPolynomial) -> Self {
        let rounded = |c: Vec<f64>| c.into_iter().map(|c| c as f32).collect();
        let pairs = polynomial.in_pairs().pairs.into_iter().map(|pair| pair.map(rounded));
        let pairs: Vec<[Vec<f32>; 2]> = pairs.collect();
        match pairs.try_into() {
            Ok(two) => Self::Two(two),
            Err(pairs) => Self::Four(pairs.try_into().expect("there are two or four")),
        }
    }

    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn as_slice(&self) -> &[[Vec<f32>; 2]] {
        match self {
            Self::Two(pairs) => pairs,
            Self::Four(pairs) => pairs,
        }
    }
}

impl Fitted {
    pub(crate) fn new(polynomial: &FittedPolynomial, range: Range) -> Self {
        Self {
            range,
            inverse_bound: (1.0 / f64::from(range.bound)) as f32,
            pairs: Pairs::new(polynomial),
            outside: None,
            exact: Exact::new(polynomial.function()),
        }
    }

    pub(crate) fn with_exact_outside(&self) -> Self {
        Self { outside: Some(self.exact), ..self.clone() }
    }

    /// `(x − center) / bound`.
    #[inline(always)]
    fn to_unit<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let from_center = simd.sub_f32s(x, simd.splat_f32s(self.range.center));
        simd.mul_f32s(from_center, simd.splat_f32s(self.inverse_bound))
    }
}

/// `T_2(z)`.
#[inline(always)]
fn second_chebyshev<S: Simd>(simd: S, z: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.add_f32s(z, z), z, simd.splat_f32s(-1.0))
}

/// `a(v) + u b(v)`, or of `t` and `u`. Not a closure: those are not always inlined, and outside of the function that has the processor's vector
/// instructions they are slow.
#[inline(always)]
fn pair<S: Simd, const N: usize>(
    simd: S,
    [a, b]: &[Vec<f32>; 2],
    u: [S::f32s; N],
    v: [S::f32s; N],
) -> [S::f32s; N] {
    let (mut first, second) = horner_pair(simd, a, b, v);
    for i in 0..N {
        first[i] = simd.mul_add_e_f32s(u[i], second[i], first[i]);
    }
    first
}

/// A value and its derivative.
type Slope<V> = (V, V);

/// `a + x b`.
#[inline(always)]
fn sum_slope<S: Simd>(
    simd: S,
    (a, d_a): Slope<S::f32s>,
    (b, d_b): Slope<S::f32s>,
    (x, d_x): Slope<S::f32s>,
) -> Slope<S::f32s> {
    let slope = simd.mul_add_e_f32s(x, d_b, simd.mul_add_e_f32s(d_x, b, d_a));
    (simd.mul_add_e_f32s(x, b, a), slope)
}

/// As [`pair`].
#[inline(always)]
fn pair_slope<S: Simd>(
    simd: S,
    [a, b]: &[Vec<f32>; 2],
    u: Slope<S::f32s>,
    v: Slope<S::f32s>,
) -> Slope<S::f32s> {
    sum_slope(simd, part_slope(simd, a, v), part_slope(simd, b, v), u)
}

#[inline(always)]
fn part_slope<S: Simd>(simd: S, c: &[f32], (v, dv): Slope<S::f32s>) -> Slope<S::f32s> {
    if c.is_empty() {
        return (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
    }
    let (value, slope) = horner_with_derivative(simd, c, v);
    (value, simd.mul_f32s(slope, dv))
}

impl Map for Fitted {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let (mut z, mut t, mut u) = (x, x, x);
        for i in 0..N {
            z[i] = self.to_unit(simd, x[i]);
            t[i] = second_chebyshev(simd, z[i]);
            u[i] = second_chebyshev(simd, t[i]);
        }
        let (mut y, odd) = match &self.pairs {
            Pairs::Two([a, b]) => (pair(simd, a, t, u), pair(simd, b, t, u)),
            Pairs::Four([a, b, c, d]) => {
                let mut v = u;
                for v in &mut v {
                    *v = second_chebyshev(simd, *v);
                }
                let (mut even, second) = (pair(simd, a, u, v), pair(simd, b, u, v));
                for i in 0..N {
                    even[i] = simd.mul_add_e_f32s(t[i], second[i], even[i]);
                }
                let (mut odd, second) = (pair(simd, c, u, v), pair(simd, d, u, v));
                for i in 0..N {
                    odd[i] = simd.mul_add_e_f32s(t[i], second[i], odd[i]);
                }
                (even, odd)
            }
        };
        for i in 0..N {
            y[i] = simd.mul_add_e_f32s(z[i], odd[i], y[i]);
        }
        if let Some(exact) = &self.outside {
            let exact = exact.eval(simd, x);
            for i in 0..N {
                y[i] = select(simd, is_within_one(simd, z[i]), y[i], exact[i]);
            }
        }
        y
    }

    #[inline(always)]
    fn derivative<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let z = self.to_unit(simd, x);
        let t = second_chebyshev(simd, z);
        let u = second_chebyshev(simd, t);
        // t' = 4z, u' = 4t t' and v' = 4u u'.
        let four = simd.splat_f32s(4.0);
        let dt = simd.mul_f32s(four, z);
        let du = simd.mul_f32s(simd.mul_f32s(four, t), dt);
        let (even, odd) = match &self.pairs {
            Pairs::Two([a, b]) => {
                (pair_slope(simd, a, (t, dt), (u, du)), pair_slope(simd, b, (t, dt), (u, du)))
            }
            Pairs::Four([a, b, c, d]) => {
                let v = second_chebyshev(simd, u);
                let dv = simd.mul_f32s(simd.mul_f32s(four, u), du);
                let (inner, outer) = ((u, du), (v, dv));
                let (a, b) = (pair_slope(simd, a, inner, outer), pair_slope(simd, b, inner, outer));
                let (c, d) = (pair_slope(simd, c, inner, outer), pair_slope(simd, d, inner, outer));
                (sum_slope(simd, a, b, (t, dt)), sum_slope(simd, c, d, (t, dt)))
            }
        };
        let (_, slope) = sum_slope(simd, even, odd, (z, simd.splat_f32s(1.0)));
        let slope = simd.mul_f32s(slope, simd.splat_f32s(self.inverse_bound));
        match &self.outside {
            Some(exact) => select(simd, is_within_one(simd, z), slope, exact.derivative(simd, x)),
            None => slope,
        }
    }
}
