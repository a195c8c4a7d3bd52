//! Strides, ranges, NaN, and inputs that are refused, on each device.

#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

use approx_ops::{
    Activation, MinimaxMaxPool, MinimaxRelu, PoolSpec, RangeRecorder, max_pool, relu, relu_aq, square,
};
use candle_core::{DType, Device, Tensor};
use cnn_kernels::{Padding, SimdLevel};
use minimax_coeffs::Alpha;
use proptest::prelude::*;

use devices::devices;

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn any_strides_give_what_contiguous_tensors_give() {
    devices().iter().for_each(any_strides_give_what_contiguous_tensors_give_on);
}

fn any_strides_give_what_contiguous_tensors_give_on(device: &Device) {
    let range = RangeRecorder::default();
    let xs = Tensor::randn(0f32, 2.0, (3, 4, 10, 12), device).unwrap();
    let views = [
        xs.clone(),
        xs.transpose(2, 3).unwrap(),
        xs.permute((1, 0, 3, 2)).unwrap(),
        xs.permute((0, 3, 1, 2)).unwrap(), // channels last
        xs.narrow(3, 3, 7).unwrap(),
        xs.narrow(2, 1, 5).unwrap().transpose(0, 1).unwrap(),
        xs.narrow(1, 0, 1).unwrap().broadcast_as((3, 5, 10, 12)).unwrap(),
    ];
    let spec = PoolSpec::new(3, 2, 1).unwrap();
    let alpha = Alpha::new(7).unwrap();
    let minimax_relu = MinimaxRelu::new(alpha, 50.0).unwrap();
    let minimax_pool = MinimaxMaxPool::new(alpha, 50.0, spec).unwrap();
    type Op<'a> = (&'a str, &'a dyn Fn(&Tensor) -> Tensor);
    let ops: [Op; 6] = [
        ("relu", &|x| relu(x, &range).unwrap()),
        ("square", &|x| square(x, &range).unwrap()),
        ("relu_aq", &|x| relu_aq(x, &range).unwrap()),
        ("minimax_relu", &|x| minimax_relu.forward(x, &range).unwrap()),
        ("max_pool", &|x| max_pool(x, &spec, &range).unwrap()),
        ("minimax_max_pool", &|x| minimax_pool.forward(x, &range).unwrap()),
    ];
    for (name, op) in ops {
        for view in &views {
            // `force_contiguous` would do, but a round trip through a plain vector trusts nothing of candle.
            let nested: Vec<f32> = values(view);
            let copy = Tensor::from_vec(nested, view.shape(), device).unwrap();
            range.take();
            let expected = (values(&op(&copy)), range.take());
            let actual = (values(&op(view)), range.take());
            assert_eq!(actual, expected, "{name}, strides {:?}", view.stride());
        }
    }
}

#[test]
fn offenders_are_counted_and_nan_is_caught() {
    devices().iter().for_each(offenders_are_counted_and_nan_is_caught_on);
}

fn offenders_are_counted_and_nan_is_caught_on(device: &Device) {
    let relu = MinimaxRelu::new(Alpha::MAX, 2.0).unwrap();
    let range = RangeRecorder::default();
    for (extra, max_abs, out_of_range) in [
        (1.9f32, 1.9f32, 0),
        (2.0, 2.0, 0),
        (-2.5, 2.5, 1),
        (f32::INFINITY, f32::INFINITY, 1),
        (f32::NAN, f32::NAN, 1),
    ] {
        // At every place, so that no lane, tail or chunk is forgotten.
        for place in [0, 5, 1_000, 16_384, 39_999] {
            let mut xs = vec![1.5f32; 40_000];
            xs[place] = extra;
            relu.forward(&Tensor::new(xs, device).unwrap(), &range).unwrap();
            let seen = range.take();
            assert_eq!(seen.max_abs.to_bits() & 0x7fff_ffff, max_abs.to_bits(), "{extra} at {place}");
            assert_eq!(seen.out_of_range, out_of_range, "{extra} at {place}");
        }
    }
}

#[test]
fn pooling_sees_values_that_no_window_covers() {
    devices().iter().for_each(pooling_sees_values_that_no_window_covers_on);
}

fn pooling_sees_values_that_no_window_covers_on(device: &Device) {
    let mut image = vec![1f32; 25];
    image[24] = 70.0; // the last row and column of 5×5 fall out of 2×2 windows
    let xs = Tensor::from_vec(image, (1, 1, 5, 5), device).unwrap();
    let range = RangeRecorder::default();
    let spec = PoolSpec::new(2, 2, 0).unwrap();
    MinimaxMaxPool::new(Alpha::MAX, 50.0, spec).unwrap().forward(&xs, &range).unwrap();
    assert_eq!(range.take().out_of_range, 1);
}

/// Tasks begin anywhere, within an image and across images, and share nothing.
#[test]
fn pooling_does_not_depend_on_the_number_of_threads() {
    let range = RangeRecorder::default();
    let numbers = (0..3 * 5 * 9 * 8).map(|i| (i as f32 * 0.37).sin() * 7.0);
    let xs = Tensor::from_iter(numbers, &Device::Cpu).unwrap().reshape((3, 5, 9, 8)).unwrap();
    for (kernel, stride, padding) in [(2, 1, 0), (2, 2, 0), (3, 1, 1), (3, 2, 1), (3, 2, 0), (3, 3, 1)] {
        let spec = PoolSpec::new(kernel, stride, padding).unwrap();
        let minimax = MinimaxMaxPool::new(Alpha::MAX, 8.0, spec).unwrap();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let exact = values(&max_pool(&xs, &spec, &range).unwrap());
                (exact, values(&minimax.forward(&xs, &range).unwrap()), range.take())
            })
        };
        let alone = on(1);
        for threads in [2, 4, 7, 30] {
            assert_eq!(on(threads), alone, "{spec:?}, {threads} threads");
        }
    }
}

#[test]
fn exact_ops_hand_nan_on() {
    devices().iter().for_each(exact_ops_hand_nan_on_on);
}

fn exact_ops_hand_nan_on_on(device: &Device) {
    let xs = Tensor::from_vec(vec![1f32, f32::NAN, 3.0, 2.0], (1, 1, 2, 2), device).unwrap();
    let range = RangeRecorder::default();
    assert!(values(&max_pool(&xs, &PoolSpec::new(2, 2, 0).unwrap(), &range).unwrap())[0].is_nan());
    assert_eq!(range.take().out_of_range, 1);
    assert!(values(&relu(&xs, &range).unwrap())[1].is_nan());
}

#[test]
fn bad_inputs_are_named() {
    let range = RangeRecorder::default();
    for bound in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-60, 1e60] {
        let error = MinimaxRelu::new(Alpha::MAX, bound).unwrap_err().to_string();
        assert!(error.contains(&format!("is {bound:?}")), "{error}");
    }
    let f64s = Tensor::zeros(3, DType::F64, &Device::Cpu).unwrap();
    let error = MinimaxRelu::new(Alpha::MAX, 1.0).unwrap().forward(&f64s, &range).unwrap_err().to_string();
    assert_eq!(error, "minimax_relu takes float32 tensors, not F64");
    let small = Tensor::zeros((1, 1, 2, 9), DType::F32, &Device::Cpu).unwrap();
    let error = max_pool(&small, &PoolSpec::new(3, 2, 0).unwrap(), &range).unwrap_err().to_string();
    assert!(error.contains("no window in an image of 2×9"), "{error}");
    let flat = Tensor::zeros((4, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(max_pool(&flat, &PoolSpec::new(2, 2, 0).unwrap(), &range).is_err());
    let other = if cfg!(target_arch = "x86_64") { SimdLevel::Neon } else { SimdLevel::Avx2 };
    let error = SimdLevel::force(other).unwrap_err().to_string();
    assert!(error.contains("this processor has no") && error.contains("portable"), "{error}");
}

/// One pass over memory gives what four give.
#[test]
fn scale_bias_addend_and_function_are_one_pass() {
    for device in devices() {
        for (shape, offset) in [([2, 3, 4, 8], 0), ([3, 5, 7, 7], 0), ([2, 4, 3, 3], 1), ([64, 33, 5, 6], 0)]
        {
            let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &device).unwrap();
            let whole = random(&[shape.iter().product::<usize>() + offset]);
            let xs = whole.narrow(0, offset, whole.elem_count() - offset).unwrap().reshape(&shape).unwrap();
            let (affine, addend) = (random(&[2, shape[1]]), random(&shape));
            let of_channels = |row: usize| affine.get(row).unwrap().reshape((1, shape[1], 1, 1)).unwrap();
            let relu = MinimaxRelu::new(Alpha::new(7).unwrap(), 20.0).unwrap();
            for with_scale in [false, true] {
                let scaled = match with_scale {
                    true => xs.broadcast_mul(&of_channels(0)).unwrap(),
                    false => xs.clone(),
                };
                let sum = (scaled.broadcast_add(&of_channels(1)).unwrap() + &addend).unwrap();
                let ranges = [RangeRecorder::default(), RangeRecorder::default()];
                let expected = values(&relu.forward(&sum, &ranges[0]).unwrap());
                let actual = xs.copy().unwrap();
                let affine = if with_scale { affine.clone() } else { affine.get(1).unwrap() };
                let activation = Activation::from(relu.clone());
                activation.apply_in_place(&actual, &affine, Some(&addend), Some(&ranges[1])).unwrap();
                for (a, e) in values(&actual).iter().zip(expected) {
                    assert!((a - e).abs() < 1e-4, "{shape:?}: {a}, not {e}");
                }
                let [expected, actual] = ranges.map(|range| range.take());
                assert!((expected.max_abs - actual.max_abs).abs() < 1e-5);
                assert_eq!(expected.out_of_range, actual.out_of_range);
            }
        }
    }
}

/// More sites than a device has room for at first, each with a range of its own, read in any order.
#[test]
fn ranges_of_many_sites_are_kept_apart() {
    for device in devices() {
        for _ in 0..2 {
            let ranges: Vec<RangeRecorder> = (0..600).map(|_| RangeRecorder::default()).collect();
            for (i, range) in ranges.iter().enumerate() {
                relu(&Tensor::new(&[i as f32, -1.0], &device).unwrap(), range).unwrap();
            }
            for (i, range) in ranges.iter().enumerate().rev() {
                assert_eq!(range.take().max_abs, (i as f32).max(1.0));
                assert_eq!(range.take().max_abs, 0.0);
            }
        }
    }
}

proptest! {
    /// Bounds of a tournament of approximate maxima (arXiv 2105.10879, section IV).
    #[test]
    fn tournament_stays_close_to_the_exact_maximum(
        xs in prop::collection::vec(-10f32..10.0, 42), bits in 6u8..=14, rows in 1usize..=6, columns in 1usize..=7,
    ) {
        let alpha = Alpha::new(bits).unwrap();
        let xs = Tensor::from_vec(xs, (1, 1, 6, 7), &Device::Cpu).unwrap();
        let spec = PoolSpec::rectangular([rows, columns], [1, 1], Padding::ZERO).unwrap();
        let range = RangeRecorder::default();
        let exact = values(&max_pool(&xs, &spec, &range).unwrap());
        let approximate = values(&MinimaxMaxPool::new(alpha, 10.0, spec).unwrap().forward(&xs, &range).unwrap());
        // ⌈log2 n⌉ rounds, each off by at most 2^-alpha on the scale 1/c = 2B / (1 − 2 rounds · 2^-alpha).
        let rounds = f64::from(spec.signs().0);
        let scale = 2.0 * 10.0 / (1.0 - 2.0 * rounds * alpha.epsilon());
        let allowed = rounds * alpha.epsilon() * scale * 1.1 + 1e-4;
        for (a, e) in approximate.iter().zip(&exact) {
            prop_assert!((f64::from(*a) - f64::from(*e)).abs() <= allowed, "{} for {}", a, e);
        }
    }

    #[test]
    fn approximate_relu_splits_x_into_two_parts(xs in prop::collection::vec(-10f32..10.0, 1..70), bits in 4u8..=14) {
        // relu(x) − relu(−x) = x, because s is odd.
        let op = MinimaxRelu::new(Alpha::new(bits).unwrap(), 10.0).unwrap();
        let range = RangeRecorder::default();
        let xs = Tensor::new(xs, &Device::Cpu).unwrap();
        let difference = (op.forward(&xs, &range).unwrap() - op.forward(&xs.neg().unwrap(), &range).unwrap()).unwrap();
        for (d, x) in values(&difference).iter().zip(values(&xs)) {
            prop_assert!((d - x).abs() <= 2e-6 * 10.0, "{} for {}", d, x);
        }
    }
}
