//! Evaluation of a composite polynomial, a few vectors at a time.
//!
//! Loops over `0..N` and not closures: a closure handed to `array::map` is not compiled with the vector
//! instructions of its surroundings, and each operation in it becomes a call.

use minimax_coeffs::{AdaptedForm, CompositeSign, NestedForm, adapted};
use pulp::{Simd, bytemuck};

use crate::activation::Precision;

/// `s(x) / 2` for `|x| ≤ 1` in float32: values by the [`AdaptedForm`] of each component where there is one,
/// derivatives, and all others, by the [`NestedForm`]. Or in float64, by the nested form.
#[derive(Debug, Clone)]
pub(crate) struct Composite {
    nested: Vec<Nested>,
    adapted: Vec<Adapted>,
    scale: f64,
    /// The nested form of each component, of the whole of s(x).
    in_double: Vec<Component>,
    precision: Precision,
}

/// A [`NestedForm`] in float64.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    /// `2 / radius²`, so that `t = x² · scale − 1`.
    pub(crate) scale: f64,
    pub(crate) even: Vec<f64>,
    pub(crate) odd: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Nested {
    /// `2 / radius²`, so that `t = x² · scale − 1`.
    scale: f32,
    even: Vec<f32>,
    odd: Vec<f32>,
}

#[derive(Debug, Clone)]
struct Adapted {
    minus_centre: f32,
    /// Coefficients from the last but one to the first.
    core: Vec<f32>,
    groups: Vec<Group>,
}

/// Quadratic factors with the same `u`.
#[derive(Debug, Clone)]
struct Group {
    /// How often `s` is added to the `u` of the group before: −1, 0 or 1 times.
    shift: i32,
    /// What is added to `u`, and then what is added to the product.
    steps: Vec<[f32; 2]>,
}

impl Composite {
    pub(crate) fn new(sign: &CompositeSign) -> Self {
        let last = sign.components().len() - 1;
        let nested = (sign.components().iter().zip(sign.input_radii()).enumerate())
            .map(|(i, (polynomial, &radius))| {
                Nested::new(&NestedForm::new(polynomial, radius), if i == last { 0.5 } else { 1.0 })
            })
            .collect();
        let (scale, adapted) = match sign.adapted() {
            Some(adapted) => (adapted.scale(), adapted.components().iter().map(Adapted::new).collect()),
            None => (1.0, Vec::new()),
        };
        let in_double = (sign.components().iter().zip(sign.input_radii()))
            .map(|(polynomial, &radius)| {
                let form = NestedForm::new(polynomial, radius);
                let (even, odd) = (form.even().to_vec(), form.odd().to_vec());
                Component { scale: 2.0 / (radius * radius), even, odd }
            })
            .collect();
        Self { nested, adapted, scale, in_double, precision: Precision::Single }
    }

    /// The components.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn components(&self) -> &[Component] {
        &self.in_double
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

    /// `factor` times what [`eval`](Self::eval) wants its arguments to be multiplied by, rounded once.
    pub(crate) fn scale(&self, factor: f64) -> f32 {
        (self.scale * factor) as f32
    }

    /// `s(factor · x) / 2` in each lane, with `scale` the [`scale`](Self::scale) of `factor`. In float64, if it is
    /// evaluated there, the product is, too.
    #[inline(always)]
    pub(crate) fn eval<S: Simd, const N: usize>(
        &self,
        simd: S,
        x: [S::f32s; N],
        scale: f32,
        factor: f64,
    ) -> [S::f32s; N] {
        if self.precision == Precision::Double {
            let mut values = x; // a copy, so that `x` itself needs no place in memory
            self.eval_in_double(bytemuck::cast_slice_mut(&mut values), factor);
            return values;
        }
        let scale = simd.splat_f32s(scale);
        let mut v = x;
        for v in &mut v {
            *v = simd.mul_f32s(*v, scale);
        }
        if self.adapted.is_empty() {
            for component in &self.nested {
                v = component.eval(simd, v);
            }
        }
        for component in &self.adapted {
            v = component.eval(simd, v);
        }
        v
    }

    /// `s(z) / 2` and `s'(z) / 2` in each lane, for `z = factor · x`.
    #[inline(always)]
    pub(crate) fn eval_with_derivative<S: Simd>(
        &self,
        simd: S,
        x: S::f32s,
        factor: f64,
    ) -> (S::f32s, S::f32s) {
        if self.precision == Precision::Double {
            let (mut values, mut slopes) = ([x], [x]);
            let slots = (bytemuck::cast_slice_mut(&mut values), bytemuck::cast_slice_mut(&mut slopes));
            self.derive_in_double(slots.0, slots.1, factor);
            return (values[0], slopes[0]);
        }
        let mut x = simd.mul_f32s(x, simd.splat_f32s(factor as f32));
        let mut slope = simd.splat_f32s(1.0);
        for component in &self.nested {
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

    /// `s(factor · x) / 2` of each value, evaluated in float64 and rounded once.
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
            *value = (0.5 * x) as f32;
        }
    }

    /// The same with `s'(factor · x) / 2`.
    #[cold]
    #[inline(never)]
    fn derive_in_double(&self, values: &mut [f32], slopes: &mut [f32], factor: f64) {
        for (value, result) in values.iter_mut().zip(slopes) {
            let (mut x, mut slope) = (f64::from(*value) * factor, 0.5);
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
            (*value, *result) = ((0.5 * x) as f32, slope as f32);
        }
    }
}

impl Component {
    /// As for float32.
    fn arguments(&self, x: f64) -> (f64, f64) {
        let t = x * x * self.scale - 1.0;
        (t, 2.0 * t * t - 1.0)
    }
}

impl Nested {
    fn new(form: &NestedForm, factor: f64) -> Self {
        let rounded = |c: &[f64]| c.iter().map(|&c| (factor * c) as f32).collect();
        let scale = (2.0 / (form.radius() * form.radius())) as f32;
        Self { scale, even: rounded(form.even()), odd: rounded(form.odd()) }
    }

    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let mut x = x;
        let (t, u) = self.arguments(simd, x);
        let (even, odd) = horner_pair(simd, &self.even, &self.odd, u);
        for i in 0..N {
            x[i] = simd.mul_f32s(x[i], simd.mul_add_e_f32s(t[i], odd[i], even[i]));
        }
        x
    }

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

impl Adapted {
    fn new(form: &AdaptedForm) -> Self {
        let group = |steps: &[adapted::Step]| Group {
            shift: steps[0].shift,
            steps: steps.iter().map(|step| [-step.root as f32, step.value as f32]).collect(),
        };
        Self {
            minus_centre: -form.centre() as f32,
            core: form.core().iter().rev().map(|&c| c as f32).collect(),
            groups: form.steps().chunk_by(|_, next| next.shift == 0).map(group).collect(),
        }
    }

    /// `v · g(v²)`.
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, v: [S::f32s; N]) -> [S::f32s; N] {
        let minus_centre = simd.splat_f32s(self.minus_centre);
        let (mut s, mut g) = (v, v);
        for i in 0..N {
            s[i] = simd.mul_add_e_f32s(v[i], v[i], minus_centre);
        }
        let (first, core) = self.core.split_first().expect("a core has degree 1 or more");
        let first = simd.splat_f32s(*first);
        for i in 0..N {
            g[i] = simd.add_f32s(s[i], first);
        }
        for &c in core {
            let c = simd.splat_f32s(c);
            for i in 0..N {
                g[i] = simd.mul_add_e_f32s(g[i], s[i], c);
            }
        }
        let mut u = s;
        for u in &mut u {
            *u = simd.mul_f32s(*u, *u);
        }
        for group in &self.groups {
            if group.shift > 0 {
                for i in 0..N {
                    u[i] = simd.add_f32s(u[i], s[i]);
                }
            } else if group.shift < 0 {
                for i in 0..N {
                    u[i] = simd.sub_f32s(u[i], s[i]);
                }
            }
            for &[minus_root, value] in &group.steps {
                let (minus_root, value) = (simd.splat_f32s(minus_root), simd.splat_f32s(value));
                // All sums first: so the multiply-adds that wait for each other have more between them.
                let mut factor = u;
                for factor in &mut factor {
                    *factor = simd.add_f32s(*factor, minus_root);
                }
                for i in 0..N {
                    g[i] = simd.mul_add_e_f32s(g[i], factor[i], value);
                }
            }
        }
        for i in 0..N {
            g[i] = simd.mul_f32s(v[i], g[i]);
        }
        g
    }
}

/// Two polynomials in the same `u`, step by step together: twice as many independent chains. `even` has as many
/// coefficients as `odd`, or one more.
#[inline(always)]
pub(crate) fn horner_pair<S: Simd, const N: usize>(
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
pub(crate) fn horner_with_derivative<S: Simd>(
    simd: S,
    coefficients: &[f32],
    u: S::f32s,
) -> (S::f32s, S::f32s) {
    let (last, rest) = coefficients.split_last().expect("a polynomial has a coefficient");
    let mut value = simd.splat_f32s(*last);
    let mut derivative = simd.splat_f32s(0.0);
    for &c in rest.iter().rev() {
        derivative = simd.mul_add_e_f32s(derivative, u, value);
        value = simd.mul_add_e_f32s(value, u, simd.splat_f32s(c));
    }
    (value, derivative)
}
