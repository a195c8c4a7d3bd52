//! Piecewise linear functions through the approximate ReLU, a few vectors at a time.

use std::sync::Arc;

use cnn_kernels::cpu::{is_within_one, select};
use minimax_coeffs::PiecewiseLinear;
use pulp::Simd;

use super::composite::Composite;
use super::exact::Exact;
use super::map::Map;

/// `slope · x + offset + Σ weight · (x − at) (1 + s((x − at) / B')) / 2` with `B' = B + |at|`, or `x` times that.
#[derive(Debug, Clone)]
pub(crate) struct Piecewise {
    pub(crate) name: &'static str,
    pub(crate) sign: Arc<Composite>,
    pub(crate) bound: f32,
    pub(crate) inverse_bound: f32,
    pub(crate) slope: f32,
    pub(crate) offset: f32,
    pub(crate) kinks: Vec<Kink>,
    pub(crate) times_x: bool,
    /// What stands outside, if it is asked for.
    pub(crate) outside: Option<Exact>,
    exact: Exact,
}

#[derive(Debug, Clone)]
pub(crate) struct Kink {
    pub(crate) weight: f32,
    pub(crate) at: f32,
    /// `1 / B'`.
    inverse: f64,
    /// What `x − at` is multiplied by for the composite in float32.
    scale: f32,
}

impl Kink {
    /// `1 / B'` in float32.
    #[inline(always)]
    pub(crate) fn inverse_bound(&self) -> f32 {
        self.inverse as f32
    }
}

impl Piecewise {
    pub(crate) fn new(function: &PiecewiseLinear, sign: Arc<Composite>, bound: f32, exact: Exact) -> Self {
        let inside = function.within(bound.into());
        let kink = |kink: &minimax_coeffs::piecewise::Kink| {
            let inverse = 1.0 / (f64::from(bound) + kink.at.abs());
            Kink { weight: kink.weight as f32, at: kink.at as f32, inverse, scale: sign.scale(inverse) }
        };
        Self {
            name: exact.name(),
            bound,
            inverse_bound: (1.0 / f64::from(bound)) as f32,
            slope: inside.slope as f32,
            offset: inside.offset as f32,
            kinks: inside.kinks.iter().map(kink).collect(),
            times_x: inside.times_x,
            sign,
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

impl Map for Piecewise {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let half = simd.splat_f32s(0.5);
        let (slope, offset) = (simd.splat_f32s(self.slope), simd.splat_f32s(self.offset));
        let mut y = x;
        for y in &mut y {
            *y = simd.mul_add_e_f32s(*y, slope, offset);
        }
        for kink in &self.kinks {
            let (at, weight) = (simd.splat_f32s(kink.at), simd.splat_f32s(kink.weight));
            let mut d = x;
            for d in &mut d {
                *d = simd.sub_f32s(*d, at);
            }
            let s = self.sign.eval(simd, d, kink.scale, kink.inverse);
            for i in 0..N {
                y[i] = simd.mul_add_e_f32s(simd.mul_f32s(weight, d[i]), simd.add_f32s(s[i], half), y[i]);
            }
        }
        if self.times_x {
            for i in 0..N {
                y[i] = simd.mul_f32s(x[i], y[i]);
            }
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
        let half = simd.splat_f32s(0.5);
        let mut value = simd.mul_add_e_f32s(x, simd.splat_f32s(self.slope), simd.splat_f32s(self.offset));
        let mut slope = simd.splat_f32s(self.slope);
        for kink in &self.kinks {
            let weight = simd.splat_f32s(kink.weight);
            let d = simd.sub_f32s(x, simd.splat_f32s(kink.at));
            let z = simd.mul_f32s(d, simd.splat_f32s(kink.inverse_bound()));
            let (half_s, half_slope) = self.sign.eval_with_derivative(simd, d, kink.inverse);
            let part = simd.add_f32s(half_s, half);
            slope = simd.mul_add_e_f32s(weight, simd.mul_add_e_f32s(z, half_slope, part), slope);
            value = simd.mul_add_e_f32s(simd.mul_f32s(weight, d), part, value);
        }
        if self.times_x {
            slope = simd.mul_add_e_f32s(x, slope, value);
        }
        match &self.outside {
            Some(exact) => select(simd, self.is_within(simd, x), slope, exact.derivative(simd, x)),
            None => slope,
        }
    }
}
