//! Activation functions besides ReLU against their float64 truth, at every SIMD level and on each device.

#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

use approx_ops::{Activation, ActivationFunction as F, OpError, RangeRecorder, RangeStats};
use candle_core::{Device, Tensor};
use cnn_kernels::SimdLevel;
use minimax_coeffs::fitted::{Density, FLOOR, Fit};
use minimax_coeffs::smooth::approximate;
use minimax_coeffs::{Alpha, CompositeSign, FittedPolynomial, Smooth, SmoothApproximation};

use devices::devices;

/// Parameters that float32 has exactly, so that their rounding is no error.
fn piecewise_functions() -> Vec<F> {
    vec![
        F::LeakyRelu { slope: 0.125 },
        F::LeakyRelu { slope: -0.5 },
        F::Clip { low: 0.0, high: 6.0 },
        F::Clip { low: -1.0, high: 1.0 },
        F::Clip { low: f64::NEG_INFINITY, high: 2.0 },
        F::HardSigmoid { scale: 0.25, offset: 0.5 },
        F::HardSwish,
    ]
}

fn smooth_functions() -> [F; 5] {
    [F::Sigmoid, F::Tanh, F::Silu, F::Gelu, F::GeluTanh]
}

/// Best polynomials of all smooth functions, on narrow and wide ranges.
fn polynomials() -> Vec<SmoothApproximation> {
    let mut all = Vec::new();
    for f in Smooth::ALL {
        for (bound, alpha) in [(4.0, 10), (10.0, 14), (24.0, 14), (50.0, 9)] {
            all.push(approximate(f, bound, alpha).unwrap());
        }
    }
    all
}

/// Values in `[-bound, bound]`, no multiple of a vector's length of them, and none at a kink.
fn inputs(bound: f64) -> Vec<f32> {
    (0..4003).map(|i| ((f64::from(i) - 2001.3) / 2002.0 * bound) as f32).collect()
}

/// Values and derivatives of `activation`, and what it saw.
fn run(activation: &Activation, xs: &[f32], device: &Device) -> (Vec<f32>, Vec<f32>, RangeStats) {
    let xs = Tensor::new(xs, device).unwrap();
    let recorder = RangeRecorder::default();
    let values = activation.forward(&xs, &recorder).unwrap().to_vec1().unwrap();
    let ones = xs.ones_like().unwrap();
    let derivatives = activation.gradient(&xs, &ones).unwrap().to_vec1().unwrap();
    (values, derivatives, recorder.take())
}

fn check(
    name: &str,
    actual: &[f32],
    xs: &[f32],
    tolerance: impl Fn(f64, f64) -> f64,
    truth: impl Fn(f64) -> f64,
) {
    for (a, x) in actual.iter().zip(xs) {
        let (x, expected) = (f64::from(*x), truth(f64::from(*x)));
        let error = (f64::from(*a) - expected).abs();
        assert!(error <= tolerance(x, expected), "{name} at {x}: {a}, not {expected}");
    }
}

/// One test, because the level is the whole process's.
#[test]
fn every_simd_level_and_device_is_accurate() {
    let mut places: Vec<(Option<SimdLevel>, Device)> =
        SimdLevel::available().into_iter().map(|level| (Some(level), Device::Cpu)).collect();
    places.extend(devices().into_iter().filter(|device| !device.is_cpu()).map(|device| (None, device)));
    let polynomials = polynomials();
    for (level, device) in places {
        if let Some(level) = level {
            SimdLevel::force(level).unwrap();
            println!("{level}");
        }
        exact_functions_are_accurate(&device);
        sums_of_relus_are_accurate(&device);
        polynomials_are_accurate(&device, &polynomials);
        fitted_polynomials_are_accurate(&device);
    }
}

fn exact_functions_are_accurate(device: &Device) {
    let mut xs = inputs(30.0);
    xs.extend([1e-20, -1e-20, 90.0, -90.0, 150.0, -150.0, 1e10, -1e10]);
    for f in piecewise_functions().into_iter().chain(smooth_functions()) {
        let activation = Activation::exact(f).unwrap();
        let (values, derivatives, range) = run(&activation, &xs, device);
        check(&format!("{f:?}"), &values, &xs, |x, y| 4.8e-7 * y.abs() + 1e-7 * x.abs(), |x| f.eval(x));
        let name = format!("the derivative of {f:?}");
        check(&name, &derivatives, &xs, |_, y| 1e-6 * (1.0 + y.abs()), |x| f.derivative(x));
        assert_eq!(range, RangeStats { max_abs: 1e10, out_of_range: 0 });
        let (values, _, _) = run(&activation, &[f32::NAN, f32::INFINITY, 1.0], device);
        assert!(values[0].is_nan(), "{f:?} of NaN: {}", values[0]);
        assert!(
            (f64::from(values[1]) - f.eval(f64::INFINITY)).abs() < 1e-6 || values[1] == f32::INFINITY,
            "{f:?}"
        );
    }
}

fn sums_of_relus_are_accurate(device: &Device) {
    for alpha in [5, 7, 10, 14].map(|bits| Alpha::new(bits).unwrap()) {
        let sign = CompositeSign::published(alpha);
        for (f, bound) in piecewise_functions().into_iter().flat_map(|f| [2.5, 8.0, 40.0].map(|b| (f, b))) {
            let sum = f.piecewise().unwrap();
            let activation = Activation::piecewise(f, sign, bound).unwrap();
            assert_eq!(activation.range(), Some((0.0, bound as f32)));
            let xs = inputs(bound);
            let (values, derivatives, range) = run(&activation, &xs, device);
            let allowed = sum.error_bound(alpha.epsilon() / 16.0, bound) + 1e-6 * bound;
            let name = format!("{f:?} with {alpha} bits on {bound}");
            check(&name, &values, &xs, |_, _| allowed, |x| sum.approximate(sign, bound, x));
            let truth = |x| sum.approximate_derivative(sign, bound, x);
            // The slope of each ReLU is off by up to 1e-2 at 14 bits (docs/numerics.md).
            let weights: f64 = sum.within(bound).kinks.iter().map(|kink| kink.weight.abs()).sum();
            let allowed = 1e-2 * weights * if sum.times_x { bound } else { 1.0 } + 1e-6;
            let name = format!("the derivative of {name}");
            check(&name, &derivatives, &xs, |_, _| allowed, truth);
            assert_eq!(range.out_of_range, 0, "{name}");
        }
    }
}

fn polynomials_are_accurate(device: &Device, polynomials: &[SmoothApproximation]) {
    for p in polynomials {
        let activation = Activation::smooth(p).unwrap();
        let xs = inputs(p.bound());
        let (values, derivatives, range) = run(&activation, &xs, device);
        let name = format!("{} of degree {} on {}", p.function().name(), p.degree(), p.bound());
        let allowed = match p.function() {
            Smooth::Sigmoid | Smooth::Tanh => 1e-5,
            _ => 1e-6 * p.bound(),
        };
        check(&name, &values, &xs, |_, _| allowed, |x| p.eval(x));
        // Towards the ends a derivative multiplies the rounding by the square of the degree.
        let name = format!("the derivative of {name}");
        check(&name, &derivatives, &xs, |_, _| 2e-3, |x| p.eval_with_derivative(x).1);
        assert_eq!(range.out_of_range, 0, "{name}");
    }
}

/// Polynomials fitted to what sites of networks look like, of all degrees, on an interval around another middle than 0.
fn fitted() -> Vec<FittedPolynomial> {
    let value = |i: u32| f64::from(i) / 40.0 - 4.0;
    let weight = |x: f64| (-(x + 1.0).powi(2)).exp() + 0.02 * (-x.abs() / 3.0).exp();
    let density = Density::new((0..520).map(|i| (value(i), weight(value(i))))).unwrap();
    let fit = Fit::new(F::Relu, &density, [-5.5, 10.5], FLOOR).unwrap();
    (2..=FittedPolynomial::MAX_DEGREE).map(|degree| fit.polynomial(degree).unwrap()).collect()
}

fn fitted_polynomials_are_accurate(device: &Device) {
    for p in fitted() {
        let activation = Activation::fitted(&p).unwrap();
        assert_eq!(activation.range(), Some((2.5, 8.0)));
        let xs: Vec<f32> = inputs(8.0).iter().map(|x| x + 2.5).collect();
        let size: f64 = p.coefficients().iter().map(|c| c.abs()).sum();
        let slopes: f64 = p.coefficients().iter().enumerate().map(|(k, c)| (k * k) as f64 * c.abs()).sum();
        let (values, derivatives, range) = run(&activation, &xs, device);
        assert!(range.out_of_range == 0 && (range.max_abs - 8.0).abs() < 0.01, "{range:?}");
        let name = format!("degree {}", p.degree());
        check(&name, &values, &xs, |_, _| 2e-6 * size, |x| p.eval(x));
        check(&name, &derivatives, &xs, |_, _| 2e-6 * slopes, |x| p.derivative(x));
    }
}

#[test]
fn fitted_polynomials_are_exact_outside_where_that_is_asked_for() {
    let p = &fitted()[13];
    let xs = [-6.0f32, -5.4, 10.4, 10.6, 30.0, f32::NAN];
    for device in devices() {
        let (undefined, _, range) = run(&Activation::fitted(p).unwrap(), &xs, &device);
        assert!(range.max_abs.is_nan() && range.out_of_range == 4, "{range:?}");
        assert!(undefined[4] < -1e3 || undefined[4] > 1e3, "{undefined:?}");
        let (exact, slopes, range) = run(&Activation::fitted(p).unwrap().with_exact_outside(), &xs, &device);
        assert_eq!(range.out_of_range, 4);
        assert_eq!(([exact[0], exact[3], exact[4]], [slopes[0], slopes[4]]), ([0.0, 10.6, 30.0], [0.0, 1.0]));
        assert_eq!((exact[1], exact[2]), (undefined[1], undefined[2]));
        assert!(exact[5].is_nan());
    }
}

#[test]
fn what_is_outside_is_counted_and_exact_where_that_is_asked_for() {
    let sign = CompositeSign::published(Alpha::MAX);
    let piecewise = |f| Activation::piecewise(f, sign, 4.0).unwrap();
    let smooth = |f: F| Activation::smooth(&approximate(f.smooth().unwrap(), 4.0, 12).unwrap()).unwrap();
    let all = piecewise_functions().into_iter().map(|f| (f, piecewise(f)));
    let all = all.chain(smooth_functions().into_iter().map(|f| (f, smooth(f))));
    for device in devices() {
        for (f, activation) in all.clone() {
            let xs = [5.0f32, -9.0, 1.0, f32::NAN, 4.0, -4.0, f32::INFINITY];
            let (values, derivatives, range) = run(&activation.clone().with_exact_outside(), &xs, &device);
            assert!(range.max_abs.is_nan(), "{f:?}");
            assert_eq!(range.out_of_range, 4, "{f:?}");
            for i in [0, 1] {
                let x = f64::from(xs[i]);
                assert!((f64::from(values[i]) - f.eval(x)).abs() < 1e-5, "{f:?} at {x}: {}", values[i]);
                assert!((f64::from(derivatives[i]) - f.derivative(x)).abs() < 1e-5, "{f:?} at {x}");
            }
            let (within, _, _) = run(&activation, &xs, &device);
            assert_eq!([within[2], within[4], within[5]], [values[2], values[4], values[5]], "{f:?}");
        }
    }
}

#[test]
fn they_can_end_a_convolution() {
    let sign = CompositeSign::published(Alpha::MAX);
    let silu = Activation::smooth(&approximate(Smooth::Silu, 8.0, 12).unwrap()).unwrap();
    let relu6 = Activation::piecewise(F::Clip { low: 0.0, high: 6.0 }, sign, 8.0).unwrap();
    for device in devices() {
        for activation in [silu.clone(), relu6.clone(), Activation::exact(F::HardSwish).unwrap()] {
            let xs =
                Tensor::new(inputs(3.0)[..4000].to_vec(), &device).unwrap().reshape((2, 4, 500)).unwrap();
            let bias = Tensor::new(&[1f32, -2.0, 3.0, 0.5], &device).unwrap();
            let sum = xs.broadcast_add(&bias.reshape((1, 4, 1)).unwrap()).unwrap();
            let expected = activation.forward(&sum, &RangeRecorder::default()).unwrap();
            let recorder = RangeRecorder::default();
            activation.apply_in_place(&xs, &bias, None, Some(&recorder)).unwrap();
            let difference = (xs - expected).unwrap().abs().unwrap().max_all().unwrap();
            assert!(difference.to_scalar::<f32>().unwrap() < 1e-6);
            let largest = sum.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert_eq!(recorder.take(), RangeStats { max_abs: largest, out_of_range: 0 });
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let sign = CompositeSign::published(Alpha::MAX);
    for f in [F::Clip { low: 1.0, high: 0.0 }, F::LeakyRelu { slope: f64::NAN }] {
        assert!(matches!(Activation::exact(f), Err(OpError::InvalidFunction { .. })));
        assert!(matches!(Activation::piecewise(f, sign, 1.0), Err(OpError::InvalidFunction { .. })));
    }
    assert!(matches!(Activation::piecewise(F::Silu, sign, 1.0), Err(OpError::InvalidFunction { .. })));
    assert!(matches!(Activation::piecewise(F::HardSwish, sign, 0.0), Err(OpError::InvalidBound(_))));
}
