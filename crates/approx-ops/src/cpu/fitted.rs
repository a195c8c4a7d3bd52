//! Polynomials that are fitted to the inputs of an activation, a few vectors at a time.

use cnn_kernels::cpu::{is_within_one, select};
use minimax_coeffs::FittedPolynomial;
use pulp::Simd;

use super::composite::{horner_pair, horner_with_derivative};
use super::exact::Exact;
use super::map::{Map, Range};

/// `p(x)` for `|x − center| ≤ bound`, in eight short polynomials ([`FittedPolynomial::in_eighths`]), each by Horner's rule: a
/// multiply-add a coefficient.
#[derive(Debug, Clone)]
pub(crate) struct Fitted {
    pub(crate) range: Range,
    pub(crate) inverse_bound: f32,
    /// In `v`.
    pub(crate) parts: [[Vec<f32>; 2]; 4],
    /// What stands outside, if it is asked for.
    pub(crate) outside: Option<Exact>,
    exact: Exact,
}

impl Fitted {
    pub(crate) fn new(polynomial: &FittedPolynomial, range: Range) -> Self {
        let rounded = |c: Vec<f64>| c.into_iter().map(|c| c as f32).collect();
        Self {
            range,
            inverse_bound: (1.0 / f64::from(range.bound)) as f32,
            parts: polynomial.in_eighths().parts.map(|pair| pair.map(rounded)),
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

impl Map for Fitted {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let (mut z, mut t, mut u, mut v) = (x, x, x, x);
        for i in 0..N {
            z[i] = self.to_unit(simd, x[i]);
            t[i] = second_chebyshev(simd, z[i]);
            u[i] = second_chebyshev(simd, t[i]);
            v[i] = second_chebyshev(simd, u[i]);
        }
        // A part of the four, and what is multiplied by t, first.
        let quarter = |pair: &[Vec<f32>; 2]| {
            let (mut first, second) = horner_pair(simd, &pair[0], &pair[1], v);
            for i in 0..N {
                first[i] = simd.mul_add_e_f32s(u[i], second[i], first[i]);
            }
            first
        };
        let half = |pairs: &[[Vec<f32>; 2]]| {
            let (second, mut first) = (quarter(&pairs[1]), quarter(&pairs[0]));
            for i in 0..N {
                first[i] = simd.mul_add_e_f32s(t[i], second[i], first[i]);
            }
            first
        };
        let (odd, mut y) = (half(&self.parts[2..]), half(&self.parts[..2]));
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
        let v = second_chebyshev(simd, u);
        // t' = 4z, u' = 4t t' and v' = 4u u'.
        let times_4 = |x| simd.mul_f32s(simd.splat_f32s(4.0), x);
        let dt = times_4(z);
        let du = simd.mul_f32s(times_4(t), dt);
        let dv = simd.mul_f32s(times_4(u), du);
        // `a + x b` and its derivative, from those of a, b and x.
        let sum = |(a, d_a), (b, d_b), (x, d_x)| {
            let slope = simd.mul_add_e_f32s(x, d_b, simd.mul_add_e_f32s(d_x, b, d_a));
            (simd.mul_add_e_f32s(x, b, a), slope)
        };
        let part = |c: &[f32]| match c {
            [] => (simd.splat_f32s(0.0), simd.splat_f32s(0.0)),
            c => {
                let (value, slope) = horner_with_derivative(simd, c, v);
                (value, simd.mul_f32s(slope, dv))
            }
        };
        let quarter = |[first, second]: &[Vec<f32>; 2]| sum(part(first), part(second), (u, du));
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| quarter(&self.parts[i]));
        let (even, odd) = (sum(a, b, (t, dt)), sum(c, d, (t, dt)));
        let (_, slope) = sum(even, odd, (z, simd.splat_f32s(1.0)));
        let slope = simd.mul_f32s(slope, simd.splat_f32s(self.inverse_bound));
        match &self.outside {
            Some(exact) => select(simd, is_within_one(simd, z), slope, exact.derivative(simd, x)),
            None => slope,
        }
    }
}
