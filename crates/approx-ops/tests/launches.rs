//! Each op on each CUDA device against the same op on the CPU: the same bits. Only kernels of this crate are needed, so
//! that this runs with the emulated driver, too (emulator/run.sh).

#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

use std::thread;

use approx_ops::{
    Activation, MinimaxMaxPool, MinimaxRelu, Noise, NoisyMaxPool, NoisyRelu, PoolSpec, Precision,
    RangeRecorder, RangeStats, TiledConv2d, max_pool, max_pool_gradient, relu,
};
use candle_core::{DType, Device, Shape, Tensor};
use cnn_kernels::{ConvGeometry, PackedConv2d, Padding, SimdLevel};
use devices::devices;
use minimax_coeffs::fitted::{Density, FLOOR, Fit};
use minimax_coeffs::{ActivationFunction, Alpha, CompositeSign, FittedPolynomial, OddPolynomial};

fn gpus() -> impl Iterator<Item = Device> {
    devices().into_iter().filter(|device| !device.is_cpu())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Numbers in `[-size, size]`, others for another seed.
fn numbers(count: usize, size: f32, seed: u32) -> Vec<f32> {
    let number = |i: usize| {
        let bits =
            (i as u32 ^ seed << 20).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
        (f64::from(bits) / f64::from(u32::MAX) * 2.0 - 1.0) as f32 * size
    };
    (1..=count).map(number).collect()
}

/// The same numbers on the CPU and on `device`; there they begin behind `skipped` others.
fn pair(values: &[f32], shape: impl Into<Shape>, device: &Device, skipped: usize) -> [Tensor; 2] {
    let shape = shape.into();
    let on_cpu = Tensor::from_slice(values, &shape, &Device::Cpu).unwrap();
    let more = [&vec![99.0; skipped], values].concat();
    let longer = Tensor::from_vec(more, skipped + values.len(), device).unwrap();
    [on_cpu, longer.narrow(0, skipped, values.len()).unwrap().reshape(&shape).unwrap()]
}

/// The same bits, or about the same where the CPU has no fused multiply-adds and for float64.
fn assert_same(actual: &Tensor, expected: &Tensor, exactly: bool, what: &str) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    for (i, (a, e)) in values(actual).iter().zip(values(expected)).enumerate() {
        let same = *a == e || (a.is_nan() && e.is_nan());
        let close = (a - e).abs() <= 1e-5 * (1.0 + e.abs());
        let exactly = exactly && SimdLevel::current() != SimdLevel::Portable;
        assert!(same || (!exactly && close), "{what}, number {i}: {a}, on the CPU {e}");
    }
}

fn assert_same_range(actual: RangeStats, expected: RangeStats, what: &str) {
    assert_eq!(actual.max_abs.to_bits() << 1, expected.max_abs.to_bits() << 1, "{what}");
    assert_eq!(actual.out_of_range, expected.out_of_range, "{what}");
}

/// A published composition behind `x`, which the CPU evaluates in the nested form, too, as it does any with a component
/// of degree 1. All published ones have another form there.
fn nested(alpha: Alpha) -> CompositeSign {
    let published = CompositeSign::published(alpha);
    CompositeSign::new([&[OddPolynomial::new(vec![1.0])], published.components()].concat()).unwrap()
}

fn activations() -> Vec<(String, Activation, bool)> {
    let mut activations = vec![
        ("identity".to_owned(), Activation::IDENTITY, true),
        ("relu".to_owned(), Activation::RELU, true),
        ("square".to_owned(), Activation::SQUARE, true),
        ("relu_aq".to_owned(), Activation::RELU_AQ, true),
    ];
    for alpha in Alpha::all() {
        let minimax = MinimaxRelu::from_composite(&nested(alpha), 8.0).unwrap();
        let double = minimax.clone().with_precision(Precision::Double);
        activations.push((format!("alpha {alpha}"), minimax.clone().into(), true));
        activations.push((
            format!("alpha {alpha}, exact outside"),
            minimax.with_exact_outside().into(),
            true,
        ));
        activations.push((format!("alpha {alpha}, float64"), double.into(), false));
    }
    activations
}

#[test]
fn functions_their_ranges_and_gradients_are_those_of_the_cpu() {
    for device in gpus() {
        for (name, activation, exactly) in activations() {
            for (count, skipped) in [(1, 0), (3, 1), (4, 0), (255, 0), (1024, 3), (5003, 0), (40_000, 4)] {
                let what = format!("{name}, {count} numbers behind {skipped}");
                let xs = pair(&numbers(count, 8.0, 1), count, &device, skipped);
                let dy = pair(&numbers(count, 2.0, 2), count, &device, skipped);
                let ranges = [RangeRecorder::default(), RangeRecorder::default()];
                let [expected, actual] = [0, 1].map(|i| activation.forward(&xs[i], &ranges[i]).unwrap());
                assert_same(&actual, &expected, exactly, &what);
                let [expected, actual] = [0, 1].map(|i| activation.gradient(&xs[i], &dy[i]).unwrap());
                assert_same(&actual, &expected, exactly, &format!("gradient of {what}"));
                let [expected, actual] = ranges.map(|range| range.take());
                assert_same_range(actual, expected, &what);
            }
        }
    }
}

/// Sums of products in another order than the CPU's: about the same.
#[test]
fn convolutions_with_their_end_are_those_of_the_cpu() {
    for device in gpus() {
        // Tiles of a part of an image, of whole images, and of images that are not there; chunks of channels that are not
        // whole.
        let mut offenders = 0;
        for ([images, inputs, height, width], outputs) in [
            ([2, 3, 32, 32], 16),
            ([3, 16, 32, 32], 16),
            ([3, 16, 16, 16], 32),
            ([5, 33, 8, 8], 64),
            ([1, 9, 64, 64], 16),
            ([3, 8, 4, 16], 32),
            ([2, 12, 8, 16], 48),
            ([1, 5, 8, 8], 32),
            ([260, 4, 8, 8], 32),
        ] {
            let shape = [images, inputs, height, width];
            let geometry = ConvGeometry::new(inputs, outputs, [3, 3]).with_padding(Padding::symmetric(1, 1));
            let size = 1.0 / (inputs as f32).sqrt();
            let weight = numbers(outputs * inputs * 9, size, 2);
            let [weight, on_gpu] = pair(&weight, &geometry.weight_shape(), &device, 0);
            let [bias, bias_on_gpu] = pair(&numbers(outputs, 1.0, 3), outputs, &device, 0);
            let cpu = PackedConv2d::direct(&weight, &bias, geometry).unwrap();
            let tiled = TiledConv2d::new(&on_gpu, &bias_on_gpu, geometry).unwrap().unwrap();
            let xs = pair(&numbers(images * inputs * height * width, 1.0, 4), &shape, &device, 1);
            let addend = [images, outputs, height, width];
            let addend = pair(&numbers(addend.iter().product(), 1.0, 5), &addend, &device, 2);
            let fitted = fitted_relu(27, [-60.0, 90.0]);
            for (name, activation) in [
                ("identity", Activation::IDENTITY),
                ("relu", Activation::RELU),
                ("alpha 14", MinimaxRelu::new(Alpha::MAX, 60.0).unwrap().into()),
                // Many values are outside.
                (
                    "alpha 10",
                    MinimaxRelu::new(Alpha::new(10).unwrap(), 1.0).unwrap().with_exact_outside().into(),
                ),
                ("fitted", Activation::fitted(&fitted).unwrap()),
            ] {
                for addend in [None, Some(&addend)] {
                    let what = format!("{name}, {shape:?} to {outputs}, {}", addend.is_some());
                    let ranges = [RangeRecorder::default(), RangeRecorder::default()];
                    let end = activation.recorded_by(&ranges[0]);
                    let expected = cpu.forward_with(&xs[0], addend.map(|pair| &pair[0]), &end).unwrap();
                    let actual = tiled
                        .forward(&xs[1], addend.map(|pair| &pair[1]), &activation, Some(&ranges[1]))
                        .unwrap();
                    let Some(actual) = actual else { panic!("no kernel for {what}") };
                    for (i, (a, e)) in values(&actual).iter().zip(values(&expected)).enumerate() {
                        assert!((a - e).abs() < 2e-4, "{what}, number {i}: {a}, on the CPU {e}");
                    }
                    let [expected, actual] = ranges.map(|range| range.take());
                    assert!(
                        (actual.max_abs - expected.max_abs).abs() < 1e-5,
                        "{what}: {actual:?}, {expected:?}"
                    );
                    assert_eq!(actual.out_of_range, expected.out_of_range, "{what}");
                    offenders += actual.out_of_range;
                }
            }
        }
        assert!(offenders > 10_000, "{offenders}");
    }
}

#[test]
fn what_the_kernel_is_not_for_is_left_to_others() {
    for device in gpus() {
        let new = |geometry: ConvGeometry| {
            let weight = Tensor::zeros(&geometry.weight_shape(), DType::F32, &device).unwrap();
            let bias = Tensor::zeros(geometry.outputs, DType::F32, &device).unwrap();
            TiledConv2d::new(&weight, &bias, geometry).unwrap()
        };
        let one = Padding::symmetric(1, 1);
        let geometry = ConvGeometry::new(16, 16, [3, 3]).with_padding(one);
        for other in [
            geometry.with_stride([2, 2]),
            geometry.with_padding(Padding::ZERO),
            geometry.with_dilation([2, 2]),
            geometry.with_groups(2),
            ConvGeometry::new(16, 16, [1, 1]),
            ConvGeometry::new(16, 8, [3, 3]).with_padding(one),
            ConvGeometry::new(128, 16, [3, 3]).with_padding(one),
        ] {
            assert!(new(other).is_none(), "{other:?}");
        }
        let conv = new(geometry).unwrap();
        let run = |[height, width]: [usize; 2], activation: &Activation| {
            let xs = Tensor::zeros((2, 16, height, width), DType::F32, &device).unwrap();
            conv.forward(&xs, None, activation, None).unwrap()
        };
        for size in [[7, 7], [14, 14], [8, 6], [28, 28]] {
            assert!(run(size, &Activation::RELU).is_none(), "{size:?}");
        }
        assert!(run([8, 8], &Activation::SQUARE).is_none());
        let wide = new(ConvGeometry::new(64, 64, [3, 3]).with_padding(one)).unwrap();
        for (size, is_for) in [(32, false), (16, true)] {
            let xs = Tensor::zeros((1, 64, size, size), DType::F32, &device).unwrap();
            let ys = wide.forward(&xs, None, &Activation::RELU, None).unwrap();
            assert_eq!(ys.is_some(), is_for, "{size}");
        }
        assert!(run([8, 8], &Activation::RELU).is_some());
        let fewer = Tensor::zeros((2, 8, 8, 8), DType::F32, &device).unwrap();
        assert!(conv.forward(&fewer, None, &Activation::RELU, None).is_err());
    }
}

/// A polynomial of this degree for ReLU on an interval.
fn fitted_relu(degree: usize, interval: [f64; 2]) -> FittedPolynomial {
    let bell = (-50..=50).map(|i| f64::from(i) / 10.0).map(|x| (x, (-x * x / 4.0).exp()));
    let density = Density::new(bell).unwrap();
    let fit = Fit::new(ActivationFunction::Relu, &density, interval, FLOOR).unwrap();
    fit.polynomial(degree).unwrap()
}

#[test]
fn offenders_are_counted_wherever_they_are() {
    for device in gpus() {
        let activation = Activation::from(MinimaxRelu::new(Alpha::MAX, 2.0).unwrap());
        for value in [2.0, -2.5, f32::INFINITY, f32::NAN] {
            for place in [0, 31, 32, 255, 256, 8191, 8192, 39_999] {
                let mut xs = vec![1.5; 40_000];
                xs[place] = value;
                let ranges = [RangeRecorder::default(), RangeRecorder::default()];
                for (xs, range) in pair(&xs, 40_000, &device, 0).iter().zip(&ranges) {
                    activation.forward(xs, range).unwrap();
                }
                let [expected, actual] = ranges.map(|range| range.take());
                assert_same_range(actual, expected, &format!("{value} at {place}"));
            }
        }
        let all = RangeRecorder::default();
        activation.forward(&pair(&vec![3.0; 100_001], 100_001, &device, 0)[1], &all).unwrap();
        assert_eq!(all.take(), RangeStats { max_abs: 3.0, out_of_range: 100_001 });
    }
}

#[test]
fn scale_bias_and_addend_are_those_of_the_cpu() {
    for device in gpus() {
        for (name, activation, exactly) in activations() {
            for (shape, skipped) in [
                ([2, 3, 4, 8], 0),
                ([3, 5, 7, 7], 0),
                ([1, 4, 3, 3], 2),
                ([64, 33, 1, 1], 0),
                ([5, 16, 10, 10], 4),
            ] {
                let count = shape.iter().product();
                let what = format!("{name}, {shape:?} behind {skipped}");
                let addends = pair(&numbers(count, 2.0, 3), &shape, &device, skipped);
                for rows in [1, 2] {
                    let affine = numbers(rows * shape[1], 1.5, 4);
                    let affine = match rows {
                        1 => pair(&affine, shape[1], &device, 1),
                        _ => pair(&affine, (2, shape[1]), &device, 1),
                    };
                    for with_addend in [false, true] {
                        let xs = pair(&numbers(count, 4.0, 5), &shape, &device, skipped);
                        let ranges = [RangeRecorder::default(), RangeRecorder::default()];
                        for i in 0..2 {
                            let addend = with_addend.then_some(&addends[i]);
                            activation.apply_in_place(&xs[i], &affine[i], addend, Some(&ranges[i])).unwrap();
                        }
                        assert_same(&xs[1], &xs[0], exactly, &what);
                        let [expected, actual] = ranges.map(|range| range.take());
                        assert_same_range(actual, expected, &what);
                        activation.apply_in_place(&xs[1], &affine[1], None, None).unwrap();
                    }
                }
            }
        }
    }
}

#[test]
fn pooling_its_range_and_gradient_are_those_of_the_cpu() {
    for device in gpus() {
        for (kernel, stride, padding, ceil_mode) in [
            (2, 2, 0, false),
            (2, 2, 0, true),
            (2, 1, 1, false),
            (3, 2, 1, false),
            (3, 2, 0, true),
            (3, 4, 1, true),
        ] {
            let spec = PoolSpec::new(kernel, stride, padding).unwrap().with_ceil_mode(ceil_mode);
            for (shape, skipped) in [([2, 3, 5, 6], 0), ([1, 1, 3, 3], 1), ([4, 8, 33, 20], 0)] {
                let xs = pair(&numbers(shape.iter().product(), 8.0, 6), &shape, &device, skipped);
                let what = format!("{spec:?}, {shape:?}");
                for (alpha, precision) in
                    [(4, Precision::Single), (14, Precision::Single), (9, Precision::Double)]
                {
                    let alpha = Alpha::new(alpha).unwrap();
                    for bound in [8.0, 3.0] {
                        let pool =
                            MinimaxMaxPool::from_composite(&nested(alpha), alpha.epsilon(), bound, spec);
                        let pool = pool.unwrap().with_precision(precision);
                        let pool = if bound == 3.0 { pool.with_exact_outside() } else { pool };
                        let ranges = [RangeRecorder::default(), RangeRecorder::default()];
                        let [expected, actual] = [0, 1].map(|i| pool.forward(&xs[i], &ranges[i]).unwrap());
                        let exactly = precision == Precision::Single;
                        assert_same(&actual, &expected, exactly, &what);
                        let dy =
                            pair(&numbers(actual.elem_count(), 2.0, 7), actual.shape(), &device, skipped);
                        let [expected, actual] = [0, 1].map(|i| pool.gradient(&xs[i], &dy[i]).unwrap());
                        assert_same(&actual, &expected, exactly, &format!("gradient of {what}"));
                        let [expected, actual] = ranges.map(|range| range.take());
                        assert_same_range(actual, expected, &what);
                    }
                }
                let ranges = [RangeRecorder::default(), RangeRecorder::default()];
                let [expected, actual] = [0, 1].map(|i| max_pool(&xs[i], &spec, &ranges[i]).unwrap());
                assert_same(&actual, &expected, true, &what);
                let dy = pair(&numbers(actual.elem_count(), 2.0, 8), actual.shape(), &device, skipped);
                let [expected, actual] = [0, 1].map(|i| max_pool_gradient(&xs[i], &spec, &dy[i]).unwrap());
                assert_same(&actual, &expected, true, &format!("gradient of exact {what}"));
                let [expected, actual] = ranges.map(|range| range.take());
                assert_same_range(actual, expected, &what);
            }
        }
    }
}

#[test]
fn sites_keep_their_ranges_however_many_there_are_and_whoever_asks() {
    for device in gpus() {
        for _ in 0..2 {
            // More than there is room for at first.
            let ranges: Vec<RangeRecorder> = (0..600).map(|_| RangeRecorder::default()).collect();
            let see = |i: usize, range: &RangeRecorder| {
                relu(&Tensor::new(&[i as f32, -1.0], &device).unwrap(), range).unwrap();
            };
            ranges.iter().enumerate().for_each(|(i, range)| see(i, range));
            for (i, range) in ranges.iter().enumerate().rev() {
                assert_eq!(range.take().max_abs, (i as f32).max(1.0));
                assert_eq!(range.take(), RangeStats::default());
            }
            // From two threads at once, and dropped before anybody asks.
            let (first, second) = ranges.split_at(300);
            thread::scope(|scope| {
                for (half, ranges) in [(1, first), (2, second)] {
                    let see = &see;
                    scope.spawn(move || {
                        for (i, range) in ranges.iter().enumerate() {
                            see(half * 1000 + i, range);
                            assert_eq!(range.take().max_abs, (half * 1000 + i) as f32);
                            see(7000, range);
                        }
                    });
                }
            });
            let kept = ranges[5].clone();
            drop(ranges);
            assert_eq!(kept.take().max_abs, 7000.0);
            let new = RangeRecorder::default();
            see(2, &new);
            assert_eq!(new.take().max_abs, 2.0);
        }
    }
}

/// These are computed on the host, whatever the device.
#[test]
fn noise_is_that_of_the_cpu() {
    let (noise, spec) = (Noise::of_bits(12.0, 7), PoolSpec::new(3, 2, 1).unwrap());
    let sign = CompositeSign::published(Alpha::MAX);
    let epsilon = Alpha::MAX.epsilon();
    let relu = NoisyRelu::new(sign, 8.0, noise, "relu").unwrap();
    let pool = NoisyMaxPool::new(sign, epsilon, 8.0, spec, noise, "pool").unwrap();
    for device in gpus() {
        let xs = pair(&numbers(2 * 3 * 7 * 7, 8.0, 1), (2, 3, 7, 7), &device, 5);
        let ranges = [RangeRecorder::default(), RangeRecorder::default()];
        for what in ["relu", "pool", "linear"] {
            let run = |xs, range| match what {
                "relu" => relu.forward(xs, range).unwrap(),
                "pool" => pool.forward(xs, range).unwrap(),
                _ => noise.add_to(xs, 3.0, "linear").unwrap(),
            };
            let [expected, actual] = [0, 1].map(|i| run(&xs[i], &ranges[i]));
            assert!(actual.device().same_device(&device), "{what}");
            assert_same(&actual, &expected, true, what);
        }
        let [expected, actual] = ranges.map(|range| range.take());
        assert_same_range(actual, expected, "noise");
    }
}

#[test]
fn compositions_that_do_not_fit_are_refused() {
    for device in gpus() {
        let lines = |count| (0..count).map(|_| OddPolynomial::new(vec![1.0])).collect();
        let [short, long] = [12, 13].map(|count| CompositeSign::new(lines(count)).unwrap());
        let xs = Tensor::new(&[0.5f32, -0.25], &device).unwrap();
        let range = RangeRecorder::default();
        let ys = MinimaxRelu::from_composite(&short, 1.0).unwrap().forward(&xs, &range).unwrap();
        assert_eq!(values(&ys), [0.375, -0.09375]);
        let error =
            MinimaxRelu::from_composite(&long, 1.0).unwrap().forward(&xs, &range).unwrap_err().to_string();
        assert!(error.contains("a composition of 13 components; on CUDA there can be 12"), "{error}");
    }
}
