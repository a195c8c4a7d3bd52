//! Functions of each number by itself.

use crate::ops::{Activation, Affine, BatchNorm};
use crate::shape::Shape;

/// An exact activation.
pub fn activation(op: Activation, x: f64) -> f64 {
    match op {
        Activation::Relu => clip(x, 0.0, f64::INFINITY),
        Activation::LeakyRelu { slope } => {
            if x < 0.0 {
                slope * x
            } else {
                x
            }
        }
        Activation::Clip { low, high } => clip(x, low, high),
        Activation::HardSigmoid { scale, offset } => clip(scale * x + offset, 0.0, 1.0),
        Activation::HardSwish => x * clip(x / 6.0 + 0.5, 0.0, 1.0),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)) / 2.0,
        Activation::GeluTanh => {
            let factor = (2.0 / std::f64::consts::PI).sqrt();
            x * (1.0 + (factor * (x + 0.044715 * x.powi(3))).tanh()) / 2.0
        }
    }
}

/// Keeps NaN.
fn clip(x: f64, low: f64, high: f64) -> f64 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function, `2/√π ∫₀ˣ exp(−t²) dt`.
///
/// # Accuracy
/// Within 1e-15 of the true value.
pub fn erf(x: f64) -> f64 {
    let two_by_root_pi = 2.0 / std::f64::consts::PI.sqrt();
    let size = x.abs();
    if size < 2.5 {
        // 2/√π e^(−x²) Σ 2ⁿ x^(2n+1) / (1 · 3 · … · (2n+1)), whose terms are all of one sign.
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        two_by_root_pi * (-x * x).exp() * sum
    } else if size < 6.0 {
        // 1 − e^(−x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …)))).
        let fraction = (1..=100).rev().fold(size, |below, n| size + f64::from(n) / 2.0 / below);
        (1.0 - two_by_root_pi / 2.0 * (-x * x).exp() / fraction).copysign(x)
    } else {
        // NaN stays.
        x.signum()
    }
}

/// Batch norm; the parameters are weight, bias, mean and variance.
pub(super) fn batch_norm(op: &BatchNorm, x: &[f64], params: &[Vec<f32>]) -> Vec<f64> {
    let pixels = x.len() / params[0].len().max(1);
    let mut out = x.to_vec();
    for (c, channel) in out.chunks_mut(pixels.max(1)).enumerate() {
        let [weight, bias, mean, variance] = [0, 1, 2, 3].map(|p| f64::from(params[p][c]));
        for x in channel {
            *x = (*x - mean) / (variance + op.eps).sqrt() * weight + bias;
        }
    }
    out
}

/// Constants for each channel.
pub(super) fn affine(op: &Affine, x: &[f64], shape: &Shape) -> Vec<f64> {
    let pixels = x.len() / shape.channels().unwrap_or(1).max(1);
    let of = |constants: &[f64], c: usize| if constants.len() == 1 { constants[0] } else { constants[c] };
    let mut out = x.to_vec();
    for (c, channel) in out.chunks_mut(pixels.max(1)).enumerate() {
        for x in channel {
            *x = of(&op.scale, c) * *x + of(&op.shift, c);
        }
    }
    out
}

/// A product of values of the same shape, or of an image and a factor for each channel.
pub(super) fn mul(a: &[f64], b: &[f64]) -> Vec<f64> {
    let pixels = a.len() / b.len().max(1);
    a.iter().enumerate().map(|(i, a)| a * b[i / pixels]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_what_their_definitions_say() {
        // Those of the smooth ones are Python's `math`.
        let cases = [
            (Activation::Relu, -2.0, 0.0),
            (Activation::Relu, 2.0, 2.0),
            (Activation::LeakyRelu { slope: 0.25 }, -2.0, -0.5),
            (Activation::Clip { low: -1.0, high: 6.0 }, 7.0, 6.0),
            (Activation::Clip { low: -1.0, high: 6.0 }, -7.0, -1.0),
            (Activation::HardSigmoid { scale: 0.25, offset: 0.5 }, 1.0, 0.75),
            (Activation::HardSigmoid { scale: 0.25, offset: 0.5 }, -3.0, 0.0),
            (Activation::HardSwish, 3.0, 3.0),
            (Activation::HardSwish, -1.5, -0.375),
            (Activation::Sigmoid, 1.0, 0.731_058_578_630_004_9),
            (Activation::Tanh, 0.5, 0.462_117_157_260_009_76),
            (Activation::Silu, -2.0, -0.238_405_844_044_235_1),
            (Activation::Gelu, 1.0, 0.841_344_746_068_542_9),
            (Activation::Gelu, -3.0, -0.004_049_694_094_890_287),
            (Activation::GeluTanh, 1.0, 0.841_191_990_608_276_8),
        ];
        for (op, x, expected) in cases {
            let actual = activation(op, x);
            assert!((actual - expected).abs() < 1e-14, "{op}({x}) is {actual}, not {expected}");
        }
        for op in [Activation::Relu, Activation::Gelu, Activation::HardSwish, Activation::Silu] {
            assert!(activation(op, f64::NAN).is_nan(), "{op}");
        }
    }

    #[test]
    fn the_error_function_is_pythons() {
        let cases = [
            (0.0, 0.0),
            (1e-8, 1.128_379_167_095_512_6e-8),
            (0.5, 0.520_499_877_813_046_5),
            (-1.0, -0.842_700_792_949_714_9),
            (2.4999, 0.999_592_830_099_666_6),
            (2.5001, 0.999_593_265_756_529_3),
            (4.0, 0.999_999_984_582_742_1),
            (7.0, 1.0),
        ];
        for (x, expected) in cases {
            assert!((erf(x) - expected).abs() < 1e-15, "erf({x}) is {}, not {expected}", erf(x));
        }
    }

    #[test]
    fn constants_are_the_channels() {
        let shape = Shape::from([2, 1, 2]);
        let op = Affine { scale: vec![2.0, 3.0], shift: vec![1.0] };
        assert_eq!(affine(&op, &[1.0, 2.0, 3.0, 4.0], &shape), [3.0, 5.0, 10.0, 13.0]);
        assert_eq!(mul(&[1.0, 2.0, 3.0, 4.0], &[10.0, 100.0]), [10.0, 20.0, 300.0, 400.0]);
        assert_eq!(mul(&[1.0, 2.0], &[3.0, 4.0]), [3.0, 8.0]);
        let params = [vec![2.0, 1.0], vec![1.0, 0.0], vec![1.0, 0.0], vec![3.75, 0.75]];
        assert_eq!(batch_norm(&BatchNorm { eps: 0.25 }, &[3.0, 5.0], &params), [3.0, 5.0]);
    }
}
