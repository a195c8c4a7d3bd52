//! Polynomials that are fitted to the inputs of an activation, a few vectors at a time.

use cnn_kernels::cpu::{is_within_one, select};
use minimax_coeffs::FittedPolynomial;
use pulp::Simd;

use super::composite::{horner_pair, horner_with_derivative};
use super::exact::Exact;
use super::map::{Map, Range};

/// `p(x)` for `|x − center| ≤ bound`, in four short polynomials ([`FittedPolynomial::in_fourths`]), each by Horner's rule:
/// a multiply-add a coefficient.
#[derive(Debug, Clone)]
pub(crate) struct Fitted {
    pub(crate) range: Range,
    pub(crate) inverse_bound: f32,
    /// Of the even part, in `u`.
    pub(crate) even: [Vec<f32>; 2],
    /// Of the odd part, in `u`.
    pub(crate) odd: [Vec<f32>; 2],
    /// What stands outside, if it is asked for.
    pub(crate) outside: Option<Exact>,
    exact: Exact,
}

impl Fitted {
    pub(crate) fn new(polynomial: &FittedPolynomial, range: Range) -> Self {
        let form = polynomial.in_fourths();
        let rounded = |halves: &[Vec<f64>; 2]| {
            [0, 1].map(|half| halves[half].iter().map(|&c| c as f32).collect::<Vec<f32>>())
        };
        Self {
            range,
            inverse_bound: (1.0 / f64::from(range.bound)) as f32,
            even: rounded(&form.even),
            odd: rounded(&form.odd),
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
        let (mut z, mut t, mut u) = (x, x, x);
        for i in 0..N {
            z[i] = self.to_unit(simd, x[i]);
            t[i] = second_chebyshev(simd, z[i]);
            u[i] = second_chebyshev(simd, t[i]);
        }
        let mut y = x;
        let (first, second) = horner_pair(simd, &self.odd[0], &self.odd[1], u);
        for i in 0..N {
            y[i] = simd.mul_f32s(z[i], simd.mul_add_e_f32s(t[i], second[i], first[i]));
        }
        let (first, second) = horner_pair(simd, &self.even[0], &self.even[1], u);
        for i in 0..N {
            y[i] = simd.add_f32s(simd.mul_add_e_f32s(t[i], second[i], first[i]), y[i]);
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
        // t' = 4z and u' = 4t t'.
        let dt = simd.mul_f32s(simd.splat_f32s(4.0), z);
        let du = simd.mul_f32s(simd.mul_f32s(simd.splat_f32s(4.0), t), dt);
        let half = |[first, second]: &[Vec<f32>; 2]| {
            let (a, d_a) = horner_with_derivative(simd, first, u);
            if second.is_empty() {
                return (a, simd.mul_f32s(d_a, du));
            }
            let (b, d_b) = horner_with_derivative(simd, second, u);
            let slope = simd.mul_add_e_f32s(simd.mul_add_e_f32s(t, d_b, d_a), du, simd.mul_f32s(b, dt));
            (simd.mul_add_e_f32s(t, b, a), slope)
        };
        let ((odd, d_odd), (_, d_even)) = (half(&self.odd), half(&self.even));
        let slope = simd.add_f32s(simd.mul_add_e_f32s(z, d_odd, odd), d_even);
        let slope = simd.mul_f32s(slope, simd.splat_f32s(self.inverse_bound));
        match &self.outside {
            Some(exact) => select(simd, is_within_one(simd, z), slope, exact.derivative(simd, x)),
            None => slope,
        }
    }
}
