//! What float32 makes of a composition.

use crate::chain::Chain;
use crate::composite::CompositeSign;
use crate::nested::NestedForm;
pub use crate::table_file::Float32Error;

/// Measures both float32 forms of `sign` against its chain in float64, on a uniform grid of `[0, 1]` and on one of
/// `[0, 4 start]`, where the composition is steep. Both forms are odd, so that this covers `[-1, 1]`.
pub fn measure(sign: &CompositeSign, chain: &Chain, start: f64) -> Float32Error {
    const STEPS: u32 = 1 << 18;
    let nested: Vec<Nested> = (sign.components().iter().zip(sign.input_radii()))
        .map(|(polynomial, &radius)| Nested::new(&NestedForm::new(polynomial, radius)))
        .collect();
    let mut largest = Float32Error { points: 2 * STEPS, chebyshev: 0.0, nested: 0.0 };
    for end in [1.0, (4.0 * start).min(1.0)] {
        for i in 1..=STEPS {
            let x = (end * f64::from(i) / f64::from(STEPS)) as f32;
            let truth = chain.eval(f64::from(x));
            let off = |s: f32| match (f64::from(x) * (f64::from(s) - truth) / 2.0).abs() {
                error if error.is_finite() => error,
                _ => f64::MAX,
            };
            largest.chebyshev = largest.chebyshev.max(off(chain.eval_f32(x)));
            largest.nested = largest.nested.max(off(nested.iter().fold(x, |x, p| p.eval(x))));
        }
    }
    largest
}

/// A [`NestedForm`] with its coefficients in float32.
struct Nested {
    scale: f32,
    even: Vec<f32>,
    odd: Vec<f32>,
}

impl Nested {
    fn new(form: &NestedForm) -> Self {
        let rounded = |c: &[f64]| c.iter().map(|&c| c as f32).collect();
        let scale = (2.0 / (form.radius() * form.radius())) as f32;
        Self { scale, even: rounded(form.even()), odd: rounded(form.odd()) }
    }

    fn eval(&self, x: f32) -> f32 {
        let horner = |c: &[f32], u: f32| c.iter().rev().fold(0.0, |sum, c| sum * u + c);
        let t = x * x * self.scale - 1.0;
        let u = 2.0 * t * t - 1.0;
        x * (horner(&self.even, u) + t * horner(&self.odd, u))
    }
}
