//! Float32 evaluation of a composite polynomial, a few vectors at a time.
//!
//! Loops over `0..N` and not closures: a closure handed to `array::map` is not compiled with the vector
//! instructions of its surroundings, and each operation in it becomes a call.

use minimax_coeffs::{CompositeSign, NestedForm};
use pulp::Simd;

/// `s(x)` for `|x| ≤ 1` in float32, each component in its [`NestedForm`].
#[derive(Debug)]
pub(crate) struct CompositeF32 {
    components: Vec<Component>,
}

#[derive(Debug)]
struct Component {
    /// `2 / radius²`, so that `t = x² · scale − 1`.
    scale: f32,
    even: Vec<f32>,
    odd: Vec<f32>,
}

impl CompositeF32 {
    pub(crate) fn new(sign: &CompositeSign) -> Self {
        let rounded = |c: &[f64]| c.iter().map(|&c| c as f32).collect();
        let components = (sign.components().iter().zip(sign.input_radii()))
            .map(|(polynomial, &radius)| {
                let nested = NestedForm::new(polynomial, radius);
                Component {
                    scale: (2.0 / (radius * radius)) as f32,
                    even: rounded(nested.even()),
                    odd: rounded(nested.odd()),
                }
            })
            .collect();
        Self { components }
    }

    /// `s(x)` in each lane.
    #[inline(always)]
    pub(crate) fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
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

    /// `s(x)` and `s'(x)` in each lane.
    #[inline(always)]
    pub(crate) fn eval_with_derivative<S: Simd>(&self, simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
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
}

impl Component {
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
