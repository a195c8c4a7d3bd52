//! Best polynomials of smooth activation functions, a few vectors at a time.

use cnn_kernels::cpu::{is_within_one, select};
use minimax_coeffs::SmoothApproximation;
use pulp::Simd;

use super::exact::Exact;
use super::map::Map;

/// `p(x)` for `|x| ≤ B`, in half as many terms ([`SmoothApproximation::in_square`]), by Clenshaw's recurrence.
#[derive(Debug, Clone)]
pub(crate) struct Smooth {
    pub(crate) name: &'static str,
    pub(crate) bound: f32,
    pub(crate) inverse_bound: f32,
    pub(crate) is_odd: bool,
    pub(crate) slope: f32,
    pub(crate) offset: f32,
    /// Of `T_0(t), T_1(t), …`, where `t = 2 (x/B)² − 1`.
    pub(crate) coefficients: Vec<f32>,
    /// What stands outside, if it is asked for.
    pub(crate) outside: Option<Exact>,
    exact: Exact,
}

impl Smooth {
    pub(crate) fn new(approximation: &SmoothApproximation, bound: f32, exact: Exact) -> Self {
        let form = approximation.in_square();
        Self {
            name: approximation.function().name(),
            bound,
            inverse_bound: (1.0 / f64::from(bound)) as f32,
            is_odd: form.is_odd,
            slope: form.slope as f32,
            offset: form.offset as f32,
            coefficients: form.coefficients.iter().map(|&c| c as f32).collect(),
            outside: None,
            exact,
        }
    }

    pub(crate) fn with_exact_outside(&self) -> Self {
        Self { outside: Some(self.exact), ..self.clone() }
    }

    #[inline(always)]
    fn is_within<S: Simd>(&self, simd: S, x: S::f32s) -> S::m32s {
        is_within_one(simd, simd.mul_f32s(x, simd.splat_f32s(self.inverse_bound)))
    }
}

impl Map for Smooth {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let (zero, minus_one) = (simd.splat_f32s(0.0), simd.splat_f32s(-1.0));
        let inverse = simd.splat_f32s(self.inverse_bound);
        let (mut t, mut twice) = (x, x);
        for i in 0..N {
            let z = simd.mul_f32s(x[i], inverse);
            t[i] = simd.mul_add_e_f32s(simd.add_f32s(z, z), z, minus_one);
            twice[i] = simd.add_f32s(t[i], t[i]);
        }
        let (first, rest) = self.coefficients.split_first().expect("a polynomial has a coefficient");
        let (mut b1, mut b2) = ([zero; N], [zero; N]);
        for &c in rest.iter().rev() {
            let c = simd.splat_f32s(c);
            for i in 0..N {
                let next = simd.mul_add_e_f32s(twice[i], b1[i], simd.sub_f32s(c, b2[i]));
                b2[i] = b1[i];
                b1[i] = next;
            }
        }
        let first = simd.splat_f32s(*first);
        let (slope, offset) = (simd.splat_f32s(self.slope), simd.splat_f32s(self.offset));
        let mut y = x;
        for i in 0..N {
            let g = simd.mul_add_e_f32s(t[i], b1[i], simd.sub_f32s(first, b2[i]));
            y[i] = match self.is_odd {
                true => simd.mul_add_e_f32s(simd.mul_f32s(x[i], inverse), g, offset),
                false => simd.mul_add_e_f32s(x[i], slope, g),
            };
        }
        if let Some(exact) = &self.outside {
            let exact = exact.eval(simd, x);
            for i in 0..N {
                y[i] = select(simd, self.is_within(simd, x[i]), y[i], exact[i]);
            }
        }
        y
    }

    #[inline(always)]
    fn derivative<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        let inverse = simd.splat_f32s(self.inverse_bound);
        let z = simd.mul_f32s(x, inverse);
        let t = simd.mul_add_e_f32s(simd.add_f32s(z, z), z, simd.splat_f32s(-1.0));
        let twice = simd.add_f32s(t, t);
        let (first, rest) = self.coefficients.split_first().expect("a polynomial has a coefficient");
        let (mut b1, mut b2, mut d1, mut d2) = (zero, zero, zero, zero);
        for &c in rest.iter().rev() {
            let next = simd.mul_add_e_f32s(twice, d1, simd.sub_f32s(simd.add_f32s(b1, b1), d2));
            (d1, d2) = (next, d1);
            let next = simd.mul_add_e_f32s(twice, b1, simd.sub_f32s(simd.splat_f32s(c), b2));
            (b1, b2) = (next, b1);
        }
        // In t, and dt/dz = 4z.
        let dg = simd.mul_add_e_f32s(t, d1, simd.sub_f32s(b1, d2));
        let dg = simd.mul_f32s(dg, simd.mul_f32s(simd.splat_f32s(4.0), z));
        let slope = match self.is_odd {
            true => {
                let g = simd.mul_add_e_f32s(t, b1, simd.sub_f32s(simd.splat_f32s(*first), b2));
                simd.mul_f32s(simd.mul_add_e_f32s(z, dg, g), inverse)
            }
            false => simd.mul_add_e_f32s(dg, inverse, simd.splat_f32s(self.slope)),
        };
        match &self.outside {
            Some(exact) => select(simd, self.is_within(simd, x), slope, exact.derivative(simd, x)),
            None => slope,
        }
    }
}
