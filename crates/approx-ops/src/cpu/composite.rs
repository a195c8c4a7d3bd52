//! Evaluation of a composite polynomial, a few vectors at a time.
//!
//! Loops over `0..N` and not closures: a closure handed to `array::map` is not compiled with the vector
//! instructions of its surroundings, and each operation in it becomes a call.

use minimax_coeffs::{CompositeSign, NestedForm};
use pulp::{Simd, bytemuck};

use crate::activation::Precision;

/// `s(x)` for `|x| ≤ 1`, each component in its [`NestedForm`].
#[derive(Debug, Clone)]
pub(crate) struct Composite {
    components: Vec<Component<f32>>,
    in_double: Vec<Component<f64>>,
    precision: Precision,
}

/// A [`NestedForm`] in the type that it is evaluated in.
#[derive(Debug, Clone)]
pub(crate) struct Component<T> {
    /// `2 / radius²`, so that `t = x² · scale − 1`.
    pub(crate) scale: T,
    pub(crate) even: Vec<T>,
    pub(crate) odd: Vec<T>,
}

impl Composite {
    pub(crate) fn new(sign: &CompositeSign) -> Self {
        let in_double: Vec<Component<f64>> = (sign.components().iter().zip(sign.input_radii()))
            .map(|(polynomial, &radius)| {
                let nested = NestedForm::new(polynomial, radius);
                let (even, odd) = (nested.even().to_vec(), nested.odd().to_vec());
                Component { scale: 2.0 / (radius * radius), even, odd }
            })
            .collect();
        let rounded = |c: &[f64]| c.iter().map(|&c| c as f32).collect();
        let components = (in_double.iter())
            .map(|c| Component { scale: c.scale as f32, even: rounded(&c.even), odd: rounded(&c.odd) })
            .collect();
        Self { components, in_double, precision: Precision::Single }
    }

    /// The components in both types.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn components(&self) -> (&[Component<f32>], &[Component<f64>]) {
        (&self.components, &self.in_double)
    }

    /// The type that it is evaluated in.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The same, evaluated in another precision.
    pub(crate) fn with_precision(&self, precision: Precision) -> Self {
        Self { precision, ..self.clone() }
    }

    /// `s(x / bound)` in each lane; in float64, if it is evaluated there, the quotient is, too.
    #[inline(always)]
    pub(crate) fn eval_quotient<S: Simd, const N: usize>(
        &self,
        simd: S,
        x: [S::f32s; N],
        bound: f32,
    ) -> [S::f32s; N] {
        if self.precision == Precision::Double {
            let mut values = x; // a copy, so that `x` itself needs no place in memory
            self.eval_in_double(bytemuck::cast_slice_mut(&mut values), 1.0 / f64::from(bound));
            return values;
        }
        let inverse = simd.splat_f32s(1.0 / bound);
        let mut x = x;
        for x in &mut x {
            *x = simd.mul_f32s(*x, inverse);
        }
        self.eval(simd, x)
    }

    /// `s(x)` in each lane.
    #[inline(always)]
    pub(crate) fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        if self.precision == Precision::Double {
            let mut values = x;
            self.eval_in_double(bytemuck::cast_slice_mut(&mut values), 1.0);
            return values;
        }
        let mut x = x;
        for component in &self.components {
            let (t, u) = component.arguments(simd, x);
            let (even, odd) = horner_pair(simd, &component.even, &component.odd, u);
            for i in 0..N {
                x[i] = simd.mul_f32s(x[i], simd.mul_add_e_f32s(t[i], odd[i], even[i]));
            }
        }
        x
    }

    /// `s` and `s'` at `x / bound` in each lane, as [`Composite::eval_quotient`].
    #[inline(always)]
    pub(crate) fn eval_quotient_with_derivative<S: Simd>(
        &self,
        simd: S,
        x: S::f32s,
        bound: f32,
    ) -> (S::f32s, S::f32s) {
        if self.precision == Precision::Double {
            return self.derivatives_in_double::<S>(x, 1.0 / f64::from(bound));
        }
        self.eval_with_derivative(simd, simd.mul_f32s(x, simd.splat_f32s(1.0 / bound)))
    }

    /// `s(x)` and `s'(x)` in each lane.
    #[inline(always)]
    pub(crate) fn eval_with_derivative<S: Simd>(&self, simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
        if self.precision == Precision::Double {
            return self.derivatives_in_double::<S>(x, 1.0);
        }
        let mut x = x;
        let mut slope = simd.splat_f32s(1.0);
        for component in &self.components {
            let ([t], [u]) = component.arguments(simd, [x]);
            let (even, d_even) = horner_with_derivative(simd, &component.even, u);
            let (odd, d_odd) = horner_with_derivative(simd, &component.odd, u);
            // p = x g(t), g = even(u) + t odd(u), u' = 4t, t' = 2 scale x.
            let g = simd.mul_add_e_f32s(t, odd, even);
            let du = simd.mul_f32s(simd.splat_f32s(4.0), t);
            let dg = simd.mul_add_e_f32s(du, simd.mul_add_e_f32s(t, d_odd, d_even), odd);
            let dt = simd.mul_f32s(simd.splat_f32s(2.0 * component.scale), x);
            let dp = simd.mul_add_e_f32s(simd.mul_f32s(x, dt), dg, g);
            slope = simd.mul_f32s(slope, dp);
            x = simd.mul_f32s(x, g);
        }
        (x, slope)
    }

    #[inline(always)]
    fn derivatives_in_double<S: Simd>(&self, x: S::f32s, factor: f64) -> (S::f32s, S::f32s) {
        let (mut values, mut slopes) = ([x], [x]);
        self.derive_in_double(
            bytemuck::cast_slice_mut(&mut values),
            bytemuck::cast_slice_mut(&mut slopes),
            factor,
        );
        (values[0], slopes[0])
    }

    /// `s(x · factor)` of each value, evaluated in float64 and rounded once.
    #[cold]
    #[inline(never)]
    fn eval_in_double(&self, values: &mut [f32], factor: f64) {
        for value in values {
            let mut x = f64::from(*value) * factor;
            for component in &self.in_double {
                let (t, u) = component.arguments(x);
                let horner = |c: &[f64]| c.iter().rev().fold(0.0, |sum, c| sum * u + c);
                x *= t * horner(&component.odd) + horner(&component.even);
            }
            *value = x as f32;
        }
    }

    /// The same with `s'(x · factor)`.
    #[cold]
    #[inline(never)]
    fn derive_in_double(&self, values: &mut [f32], slopes: &mut [f32], factor: f64) {
        for (value, result) in values.iter_mut().zip(slopes) {
            let (mut x, mut slope) = (f64::from(*value) * factor, 1.0);
            for component in &self.in_double {
                let (t, u) = component.arguments(x);
                let horner = |c: &[f64]| {
                    c.iter()
                        .rev()
                        .fold((0.0, 0.0), |(sum, derivative), c| (sum * u + c, derivative * u + sum))
                };
                let ((even, d_even), (odd, d_odd)) = (horner(&component.even), horner(&component.odd));
                let g = t * odd + even;
                let dg = 4.0 * t * (t * d_odd + d_even) + odd;
                slope *= x * (2.0 * component.scale * x) * dg + g;
                x *= g;
            }
            (*value, *result) = (x as f32, slope as f32);
        }
    }
}

impl Component<f64> {
    /// As for float32.
    fn arguments(&self, x: f64) -> (f64, f64) {
        let t = x * x * self.scale - 1.0;
        (t, 2.0 * t * t - 1.0)
    }
}

impl Component<f32> {
    /// `t = T_2(x / radius)` and `u = T_4(x / radius)`.
    #[inline(always)]
    fn arguments<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> ([S::f32s; N], [S::f32s; N]) {
        let minus_one = simd.splat_f32s(-1.0);
        let scale = simd.splat_f32s(self.scale);
        let (mut t, mut u) = (x, x);
        for i in 0..N {
            t[i] = simd.mul_add_e_f32s(simd.mul_f32s(x[i], x[i]), scale, minus_one);
            u[i] = simd.mul_add_e_f32s(simd.add_f32s(t[i], t[i]), t[i], minus_one);
        }
        (t, u)
    }
}

/// Two polynomials in the same `u`, step by step together: twice as many independent chains. `even` has as many
/// coefficients as `odd`, or one more.
#[inline(always)]
fn horner_pair<S: Simd, const N: usize>(
    simd: S,
    even: &[f32],
    odd: &[f32],
    u: [S::f32s; N],
) -> ([S::f32s; N], [S::f32s; N]) {
    let (common, highest) = even.split_at(odd.len());
    let (Some((&last_odd, odd)), Some((&last_even, common))) = (odd.split_last(), common.split_last()) else {
        // Degree 1.
        return ([simd.splat_f32s(highest.first().copied().unwrap_or(0.0)); N], [simd.splat_f32s(0.0); N]);
    };
    let mut even_sums = [simd.splat_f32s(last_even); N];
    let mut odd_sums = [simd.splat_f32s(last_odd); N];
    if let Some(&highest) = highest.first() {
        let highest = simd.splat_f32s(highest);
        for (sum, &u) in even_sums.iter_mut().zip(&u) {
            *sum = simd.mul_add_e_f32s(highest, u, *sum);
        }
    }
    for (&even, &odd) in common.iter().zip(odd).rev() {
        let (even, odd) = (simd.splat_f32s(even), simd.splat_f32s(odd));
        for (sum, &u) in even_sums.iter_mut().zip(&u) {
            *sum = simd.mul_add_e_f32s(*sum, u, even);
        }
        for (sum, &u) in odd_sums.iter_mut().zip(&u) {
            *sum = simd.mul_add_e_f32s(*sum, u, odd);
        }
    }
    (even_sums, odd_sums)
}

#[inline(always)]
fn horner_with_derivative<S: Simd>(simd: S, coefficients: &[f32], u: S::f32s) -> (S::f32s, S::f32s) {
    let (last, rest) = coefficients.split_last().expect("a polynomial has a coefficient");
    let mut value = simd.splat_f32s(*last);
    let mut derivative = simd.splat_f32s(0.0);
    for &c in rest.iter().rev() {
        derivative = simd.mul_add_e_f32s(derivative, u, value);
        value = simd.mul_add_e_f32s(value, u, simd.splat_f32s(c));
    }
    (value, derivative)
}
