//! Values against independent truth: golden files, the float64 composite, the exact maximum. On each device.

#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

use approx_ops::{MinimaxMaxPool, MinimaxRelu, PoolSpec, Precision, RangeRecorder, max_pool, reference};
use candle_core::{Device, Tensor};
use cnn_kernels::{Padding, SimdLevel};
use minimax_coeffs::{Alpha, CompositeSign, OddPolynomial, TableFile};
use serde::Deserialize;

use devices::devices;

#[derive(Deserialize)]
struct ReluCase {
    alpha: Alpha,
    bound: f64,
    x: Vec<f64>,
    y: Vec<f64>,
}

#[derive(Deserialize)]
struct PoolCase {
    alpha: Alpha,
    bound: f64,
    kernel: usize,
    stride: usize,
    padding: usize,
    ceil_mode: bool,
    x_shape: Vec<usize>,
    x: Vec<f64>,
    y_shape: Vec<usize>,
    y: Vec<f64>,
}

fn tensor(values: &[f64], shape: &[usize], device: &Device) -> Tensor {
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    Tensor::from_vec(values, shape, device).unwrap()
}

fn largest_difference(actual: &Tensor, expected: &[f64]) -> f64 {
    let actual = actual.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(actual.len(), expected.len());
    actual.iter().zip(expected).map(|(a, e)| (f64::from(*a) - e).abs()).fold(0.0, |max, d| {
        assert!(!d.is_nan());
        d.max(max)
    })
}

/// All checks once per instruction set. One test, because the level is the whole process's.
#[test]
fn every_simd_level_is_accurate() {
    for level in SimdLevel::available() {
        SimdLevel::force(level).unwrap();
        println!("{level}");
        is_accurate(&Device::Cpu);
    }
    for device in devices().into_iter().filter(|device| !device.is_cpu()) {
        println!("{:?}", device.location());
        is_accurate(&device);
    }
}

fn is_accurate(device: &Device) {
    relu_agrees_with_golden_values(device);
    relu_is_within_a_sixteenth_of_two_to_minus_alpha(device);
    generated_relu_is_about_as_accurate_as_its_file_says(device);
    relu_without_an_adapted_form_is_accurate(device);
    max_pool_agrees_with_golden_values(device);
    tournaments_of_any_window_agree_with_rounds_in_float64(device);
    exact_max_pool_agrees_with_the_reference(device);
    double_precision_loses_what_rounding_the_result_loses(device);
}

fn double_precision_loses_what_rounding_the_result_loses(device: &Device) {
    let grid: Vec<f32> = (-20_000..=20_000).map(|i| i as f32 / 1000.0).collect();
    let xs = Tensor::new(grid.as_slice(), device).unwrap();
    let mut worst = 0f64;
    for alpha in Alpha::all() {
        let sign = CompositeSign::published(alpha);
        let expected: Vec<f64> = grid.iter().map(|&x| sign.relu(f64::from(x), 20.0)).collect();
        let relu = MinimaxRelu::new(alpha, 20.0).unwrap().with_precision(Precision::Double);
        let actual = relu.forward(&xs, &RangeRecorder::default()).unwrap();
        let error = largest_difference(&actual, &expected) / 20.0;
        // Three roundings, of s(x/B) / 2, of the sum with 1/2 and of the product: each of at most 2^-24 of about B.
        assert!(error < 2f64.powi(-22), "alpha {alpha}: {error:e} B");
        worst = worst.max(error);
    }
    println!("  relu in float64: at most {worst:.2e} B");
}

fn relu_agrees_with_golden_values(device: &Device) {
    let cases: Vec<ReluCase> = serde_json::from_str(include_str!("golden/relu.json")).unwrap();
    assert_eq!(cases.len(), 33);
    let mut worst = 0f64;
    for ReluCase { alpha, bound, x, y } in cases {
        let recorder = RangeRecorder::default();
        let actual = MinimaxRelu::new(alpha, bound)
            .unwrap()
            .forward(&tensor(&x, &[x.len()], device), &recorder)
            .unwrap();
        let error = largest_difference(&actual, &y) / bound;
        assert!(error < 1e-5, "alpha {alpha}, B {bound}: {error:e} B");
        worst = worst.max(error);
        assert_eq!(recorder.take().out_of_range, 0);
    }
    println!("  golden relu: at most {worst:.2e} B");
}

fn relu_is_within_a_sixteenth_of_two_to_minus_alpha(device: &Device) {
    const POINTS: usize = 1_000_001;
    for alpha in Alpha::all() {
        let sign = CompositeSign::published(alpha);
        for bound in [1.0, 20.0, 100.0] {
            let error = relu_error(sign, bound, POINTS, device);
            assert!(error <= alpha.epsilon() / 16.0, "alpha {alpha}, B {bound}: {error:e} B");
            if bound == 20.0 {
                println!("  relu, alpha {alpha}: at most {error:.2e} B");
            }
        }
    }
}

/// The largest error of ReLU in units of the bound, on a uniform grid and on one that is dense around zero, where the
/// approximation is steepest.
fn relu_error(sign: &CompositeSign, bound: f64, points: usize, device: &Device) -> f64 {
    let grid: Vec<f32> = (0..points)
        .map(|i| i as f64 / (points - 1) as f64 * 2.0 - 1.0)
        .flat_map(|z| [z, z * z * z])
        .map(|z| (z * bound) as f32)
        .collect();
    let expected: Vec<f64> = grid.iter().map(|&x| sign.relu(f64::from(x), bound)).collect();
    let xs = Tensor::new(grid, device).unwrap();
    let relu = MinimaxRelu::from_composite(sign, bound).unwrap();
    largest_difference(&relu.forward(&xs, &RangeRecorder::default()).unwrap(), &expected) / bound
}

fn generated_relu_is_about_as_accurate_as_its_file_says(device: &Device) {
    let file = TableFile::parse(include_str!("../../minimax-coeffs/tables/eta_1e-6.json")).unwrap();
    let mut adapted = 0;
    for alpha in file.alphas() {
        let table = file.relu(alpha).unwrap();
        let sign = table.composite().unwrap();
        adapted += usize::from(sign.adapted().is_some());
        // B = 1 as in the file: where the approximation is steep at B, the rounding of 1 / B alone does more.
        let error = relu_error(&sign, 1.0, 20_001, device);
        let allowed = (table.target.error() / 16.0).max(3.0 * table.float32.nested);
        assert!(error <= allowed, "alpha {alpha}, {:?}: {error:e} B, allowed {allowed:e}", sign.degrees());
    }
    println!("  generated relu: {adapted} of {} with adapted coefficients", file.alphas().len());
}

fn relu_without_an_adapted_form_is_accurate(device: &Device) {
    for bits in [6, 10, 14] {
        let alpha = Alpha::new(bits).unwrap();
        let components = CompositeSign::published(alpha).components();
        let sign = [&[OddPolynomial::new(vec![1.0])], components].concat();
        let sign = CompositeSign::new(sign).unwrap();
        assert_eq!(sign.adapted(), None, "degree 1 has no such form");
        let error = relu_error(&sign, 20.0, 100_001, device);
        assert!(error <= alpha.epsilon() / 16.0, "alpha {alpha}: {error:e} B");
    }
}

fn max_pool_agrees_with_golden_values(device: &Device) {
    let cases: Vec<PoolCase> = serde_json::from_str(include_str!("golden/max_pool.json")).unwrap();
    assert_eq!(cases.len(), 48);
    let mut worst = 0f64;
    for case in cases {
        let PoolCase { alpha, bound, kernel, stride, padding, ceil_mode, x_shape, x, y_shape, y } = case;
        let spec = PoolSpec::new(kernel, stride, padding).unwrap().with_ceil_mode(ceil_mode);
        let recorder = RangeRecorder::default();
        let xs = tensor(&x, &x_shape, device);
        let actual = MinimaxMaxPool::new(alpha, bound, spec).unwrap().forward(&xs, &recorder).unwrap();
        assert_eq!(actual.dims(), y_shape);
        let error = largest_difference(&actual, &y) / bound;
        assert!(error < 1e-5, "alpha {alpha}, {spec:?}: {error:e} B");
        worst = worst.max(error);

        let (height, width) = (x_shape[2], x_shape[3]);
        let f64_loops: Vec<f64> = x
            .chunks(height * width)
            .flat_map(|image| reference::max_pool(alpha, bound, &spec, image, height, width))
            .collect();
        let reference_error =
            f64_loops.iter().zip(&y).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / bound;
        assert!(reference_error < 1e-7, "the float64 loops: {reference_error:e} B");

        let seen = recorder.take();
        let largest = x.iter().fold(0f32, |max, x| max.max((*x as f32).abs()));
        assert_eq!((seen.max_abs, seen.out_of_range), (largest, 0));
    }
    println!("  golden max-pooling: at most {worst:.2e} B");
}

/// Rounds as they are told: neighbours play each other, and an odd last one goes on.
fn tournaments_of_any_window_agree_with_rounds_in_float64(device: &Device) {
    let (bound, alpha) = (8.0, Alpha::new(9).unwrap());
    let sign = CompositeSign::published(alpha);
    let uneven = Padding { top: 1, bottom: 0, left: 0, right: 1 };
    let (height, width) = (9, 11);
    for (kernel, stride, padding, rounds) in [
        ([2, 3], [2, 1], Padding::ZERO, 3),
        ([4, 4], [2, 3], Padding::symmetric(2, 1), 4),
        ([5, 5], [1, 1], Padding::symmetric(2, 2), 5),
        ([1, 3], [1, 1], Padding::symmetric(0, 1), 2),
        ([6, 1], [5, 2], Padding::ZERO, 3),
        ([3, 2], [1, 2], uneven, 3),
        ([2, 2], [1, 2], uneven, 2),
        ([3, 3], [3, 1], uneven, 3), // of its four rounds, the published scale has room for three
        ([1, 1], [2, 3], Padding::ZERO, 0),
    ] {
        let spec = PoolSpec::rectangular(kernel, stride, padding).unwrap().with_ceil_mode(true);
        let xs = Tensor::rand(-8f32, 8.0, (2, 3, height, width), &Device::Cpu).unwrap();
        let images: Vec<f32> = xs.flatten_all().unwrap().to_vec1().unwrap();
        let c = (1.0 - 2.0 * f64::from(rounds) * alpha.epsilon()) / (2.0 * bound);
        let (out_height, out_width) = spec.output_size(height, width).unwrap();
        let mut expected = Vec::new();
        for image in images.chunks(height * width) {
            for (out_y, out_x) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
                let pixel = |k: usize| {
                    let y = (out_y * stride[0] + k / kernel[1]).wrapping_sub(padding.top);
                    let x = (out_x * stride[1] + k % kernel[1]).wrapping_sub(padding.left);
                    if y < height && x < width { f64::from(image[y * width + x]) } else { 0.0 }
                };
                let mut players: Vec<f64> = (0..kernel[0] * kernel[1]).map(|k| c * pixel(k) + 0.5).collect();
                while players.len() > 1 {
                    let winner = |pair: &[f64]| pair[1..].iter().fold(pair[0], |a, b| sign.max(a, *b));
                    players = players.chunks(2).map(winner).collect();
                }
                expected.push((players[0] - 0.5) / c);
            }
        }
        let minimax = MinimaxMaxPool::new(alpha, bound, spec).unwrap();
        let actual = minimax.forward(&xs.to_device(device).unwrap(), &RangeRecorder::default()).unwrap();
        assert_eq!(actual.dims(), [2, 3, out_height, out_width]);
        let error = largest_difference(&actual, &expected) / bound;
        assert!(error < 1e-5, "{spec:?}: {error:e} B");
    }
}

fn exact_max_pool_agrees_with_the_reference(device: &Device) {
    for (kernel, stride, padding, ceil_mode) in [
        (2, 2, 0, false),
        (2, 2, 0, true),
        (3, 2, 1, false),
        (3, 2, 0, true),
        (3, 1, 1, false),
        (2, 1, 1, false),
        (1, 2, 0, true),
        (5, 1, 2, false),
        (4, 3, 2, true),
    ] {
        let spec = PoolSpec::new(kernel, stride, padding).unwrap().with_ceil_mode(ceil_mode);
        for (height, width) in [(7, 9), (8, 8), (3, 40), (33, 5)] {
            let xs = Tensor::randn(-3f32, 1.0, (2, 3, height, width), &Device::Cpu).unwrap();
            let xs = xs.to_device(device).unwrap();
            let images: Vec<f32> = xs.flatten_all().unwrap().to_vec1().unwrap();
            let expected: Vec<f64> = images
                .chunks(height * width)
                .flat_map(|image| {
                    let image: Vec<f64> = image.iter().map(|&x| f64::from(x)).collect();
                    reference::exact_max_pool(&spec, &image, height, width)
                })
                .collect();
            let actual = max_pool(&xs, &spec, &RangeRecorder::default()).unwrap();
            assert_eq!(largest_difference(&actual, &expected), 0.0, "{spec:?}");
        }
    }
}
