//! Batch norm with an addend and an epilogue, forward and backward, against plain float64 loops.

mod epilogues;

use candle_core::{Device, Tensor};
use cnn_kernels::{BatchNorm, SimdLevel};
use epilogues::Elementwise;

const EPS: f64 = 1e-3;

fn values(tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1f64, |max, e| max.max(e.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - e).abs() < tolerance * scale,
            "{what}, number {i}: {a} for {e} (the largest is {scale})"
        );
    }
}

/// Inputs in float64, `[N, C, H·W]`.
#[derive(Clone)]
struct Inputs {
    xs: Vec<f64>,
    addend: Option<Vec<f64>>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    pixels: usize,
}

impl Inputs {
    fn channel(&self, i: usize) -> usize {
        i / self.pixels % self.weight.len()
    }

    /// What the epilogue gets.
    fn inner(&self) -> Vec<f64> {
        let count = (self.xs.len() / self.weight.len()) as f64;
        let mut mean = vec![0.0; self.weight.len()];
        let mut variance = mean.clone();
        for (i, x) in self.xs.iter().enumerate() {
            mean[self.channel(i)] += x / count;
        }
        for (i, x) in self.xs.iter().enumerate() {
            variance[self.channel(i)] += (x - mean[self.channel(i)]).powi(2) / count;
        }
        let normalised = |(i, x): (usize, &f64)| {
            let c = self.channel(i);
            let addend = self.addend.as_ref().map_or(0.0, |addend| addend[i]);
            self.weight[c] * (x - mean[c]) / (variance[c] + EPS).sqrt() + self.bias[c] + addend
        };
        self.xs.iter().enumerate().map(normalised).collect()
    }

    /// `Σ gᵢ f(…)ᵢ` and the penalty.
    fn loss(&self, epilogue: &Elementwise, gradient: &[f64]) -> f64 {
        let term = |(&z, g): (&f64, &f64)| g * in_float64(epilogue, z) + epilogue.penalty(z);
        self.inner().iter().zip(gradient).map(term).sum()
    }
}

/// The functions of [`epilogues::all`] written in float64.
fn in_float64(epilogue: &Elementwise, x: f64) -> f64 {
    match epilogue.name {
        "identity" => x,
        "relu" => x.max(0.0),
        "quadratic" => x * x / 4.0 - x,
        other => panic!("{other} is not written here"),
    }
}

/// The central difference of `loss` in each number that `place` gives.
fn differences(
    inputs: &Inputs,
    place: impl Fn(&mut Inputs) -> &mut Vec<f64>,
    loss: impl Fn(&Inputs) -> f64,
) -> Vec<f64> {
    let h = 1e-5;
    let count = place(&mut inputs.clone()).len();
    let moved = |i: usize, by: f64| {
        let mut inputs = inputs.clone();
        place(&mut inputs)[i] += by;
        loss(&inputs)
    };
    (0..count).map(|i| (moved(i, h) - moved(i, -h)) / (2.0 * h)).collect()
}

/// One test for all, because the level is the whole process's.
#[test]
fn batch_norm_and_its_gradients_agree_with_float64_at_every_simd_level() {
    let epilogues = epilogues::all();
    let random = |shape: &[usize], scale: f64| {
        (Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap() * scale).unwrap()
    };
    for (n, channels, height, width) in [(3, 16, 2, 3), (2, 5, 3, 3), (7, 1, 2, 2), (2, 35, 2, 1)] {
        let shape = [n, channels, height, width];
        // A mean that is far from zero, as distances from it are what matters.
        let xs = (random(&shape, 1.0) + 30.0).unwrap();
        let norm = BatchNorm { weight: random(&[channels], 2.0), bias: random(&[channels], 1.0), eps: EPS };
        let gradient = random(&shape, 1.0);
        for (epilogue, addend) in
            epilogues.iter().flat_map(|epilogue| [(epilogue, None), (epilogue, Some(random(&shape, 1.0)))])
        {
            let inputs = Inputs {
                xs: values(&xs),
                addend: addend.as_ref().map(values),
                weight: values(&norm.weight),
                bias: values(&norm.bias),
                pixels: height * width,
            };
            let loss = |inputs: &Inputs| inputs.loss(epilogue, &values(&gradient));
            let inner = inputs.inner();
            let of_xs = differences(&inputs, |inputs| &mut inputs.xs, loss);
            let of_weight = differences(&inputs, |inputs| &mut inputs.weight, loss);
            let of_bias = differences(&inputs, |inputs| &mut inputs.bias, loss);
            let of_addend = addend
                .as_ref()
                .map(|_| differences(&inputs, |inputs| inputs.addend.as_mut().expect("it has one"), loss));
            for level in SimdLevel::available() {
                SimdLevel::force(level).unwrap();
                let what = format!("{}, {shape:?}, addend {}, {level}", epilogue.name, addend.is_some());
                let (ys, statistics) = norm.forward(&xs, addend.as_ref(), epilogue).unwrap();
                let expected: Vec<f64> = inner.iter().map(|&z| in_float64(epilogue, z)).collect();
                assert_close(&values(&ys), &expected, 2e-5, &what);
                let largest = inner.iter().fold(0f64, |max, z| max.max(z.abs()));
                assert!((f64::from(epilogue.take().max_abs) - largest).abs() < 2e-5 * largest, "{what}");

                let back = norm.backward(&xs, addend.as_ref(), epilogue, &statistics, &gradient).unwrap();
                assert_close(&values(&back.xs), &of_xs, 1e-3, &format!("input of {what}"));
                assert_close(&values(&back.weight), &of_weight, 1e-3, &format!("weight of {what}"));
                assert_close(&values(&back.bias), &of_bias, 1e-3, &format!("bias of {what}"));
                assert_eq!(back.addend.is_some(), of_addend.is_some());
                if let (Some(addend), Some(of_addend)) = (&back.addend, &of_addend) {
                    assert_close(&values(addend), of_addend, 1e-3, &format!("addend of {what}"));
                }
                let zeros = vec![0.0; inner.len()];
                let expected = inputs.loss(epilogue, &zeros);
                assert!((back.penalty - expected).abs() < 1e-4 * (1.0 + expected), "penalty of {what}");
            }
        }
    }
}

#[test]
fn an_input_of_other_channels_is_refused() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    let norm = BatchNorm { weight: zeros(&[4]), bias: zeros(&[4]), eps: EPS };
    let [identity, ..] = epilogues::all();
    let forward = |xs: &Tensor, addend: Option<&Tensor>| norm.forward(xs, addend, &identity);
    assert!(forward(&zeros(&[1, 3, 2, 2]), None).unwrap_err().to_string().contains("of 4 channels"));
    assert!(forward(&zeros(&[0, 4, 2, 2]), None).is_err());
    assert!(forward(&zeros(&[1, 4, 2, 2]), Some(&zeros(&[1, 4, 2, 1]))).is_err());
}
