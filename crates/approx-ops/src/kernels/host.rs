//! The kernels' arithmetic and indices, thread by thread on the host (kernels/host.cpp), against golden values, the CPU
//! ops and finite differences. What the threads of a GPU do together, and the launches, need one: tests/ has those.

use std::io::{Read, Write};
use std::mem::size_of_val;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use candle_core::{Device, Tensor};
use cnn_kernels::{RangeStats, SimdLevel};
use minimax_coeffs::smooth::approximate;
use minimax_coeffs::{
    ActivationFunction as F, Alpha, CompositeSign, FittedPolynomial, OddPolynomial, Smooth,
};
use serde::Deserialize;

use super::*;
use crate::activation::{Activation, Precision};
use crate::range::RangeRecorder;
use crate::relu::MinimaxRelu;
use crate::{MinimaxMaxPool, max_pool, max_pool_gradient};

/// Grids: blocks, and threads of each.
const GRIDS: [(u32, u32); 3] = [(1, 1), (3, 7), (2, 256)];

/// The program that runs the kernels' threads.
struct Host(Mutex<Child>);

impl Host {
    /// Compiled once; `None` where there is no C++ compiler, which is said.
    fn get() -> Option<&'static Host> {
        static HOST: OnceLock<Option<Host>> = OnceLock::new();
        HOST.get_or_init(Self::compile).as_ref()
    }

    fn compile() -> Option<Host> {
        let named = std::env::var("CXX").ok();
        let compilers = named.iter().map(String::as_str).chain(["c++", "g++", "clang++"]);
        let works = |compiler: &&str| {
            Command::new(compiler).arg("--version").output().is_ok_and(|done| done.status.success())
        };
        let Some(compiler) = compilers.into_iter().find(works) else {
            eprintln!(
                "SKIPPED: no C++ compiler (CXX, c++, g++, clang++), so the CUDA kernels' arithmetic is not tested"
            );
            return None;
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        // Each test process has a file of its own.
        let program = std::env::temp_dir().join(format!("approx-ops-host-{}", std::process::id()));
        let done = Command::new(compiler)
            .args(["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&program, &folder.join("host.cpp")])
            .output()
            .expect("it was just run");
        assert!(done.status.success(), "{compiler}:\n{}", String::from_utf8_lossy(&done.stderr));
        let child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let child = child.expect("it was just compiled");
        // Linux and macOS keep a running program's file.
        let _ = std::fs::remove_file(&program);
        Some(Host(Mutex::new(child)))
    }

    /// Runs all threads of a grid, and gives the arrays they wrote and what they saw.
    fn run<P, const N: usize>(
        &self,
        name: &str,
        (blocks, threads): (u32, u32),
        params: &P,
        arrays: &[&[f32]],
    ) -> ([Vec<f32>; N], RangeStats) {
        let mut request = Vec::new();
        let text = |request: &mut Vec<u8>, bytes: &[u8]| {
            request.extend((bytes.len() as u64).to_ne_bytes());
            request.extend(bytes);
        };
        text(&mut request, name.as_bytes());
        request.extend([blocks, threads].iter().flat_map(|n| n.to_ne_bytes()));
        // SAFETY: params are plain numbers without gaps that matter: all are written, and padding is only copied.
        let params =
            unsafe { std::slice::from_raw_parts(std::ptr::from_ref(params).cast(), size_of_val(params)) };
        text(&mut request, params);
        request.extend((arrays.len() as u64).to_ne_bytes());
        for array in arrays {
            request.extend((array.len() as u64).to_ne_bytes());
            request.extend(array.iter().flat_map(|x| x.to_ne_bytes()));
        }
        let mut child = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        child.stdin.as_mut().unwrap().write_all(&request).unwrap();
        child.stdin.as_mut().unwrap().flush().unwrap();
        let output = child.stdout.as_mut().unwrap();
        let mut bytes = |count: usize| {
            let mut bytes = vec![0; count];
            output.read_exact(&mut bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            bytes
        };
        let arrays = std::array::from_fn(|_| {
            let length = u64::from_ne_bytes(bytes(8).try_into().unwrap()) as usize;
            bytes(4 * length).chunks_exact(4).map(|x| f32::from_ne_bytes(x.try_into().unwrap())).collect()
        });
        let max_abs = f32::from_bits(u32::from_ne_bytes(bytes(8)[..4].try_into().unwrap()));
        let out_of_range = u64::from_ne_bytes(bytes(8).try_into().unwrap());
        (arrays, RangeStats { max_abs, out_of_range })
    }
}

/// Whether the CPU ops use fused multiply-adds, and so have the very results of the kernels.
fn has_fused() -> bool {
    SimdLevel::current() != SimdLevel::Portable
}

/// The same bits, or, where the CPU has no fused multiply-adds, about the same.
fn assert_same(actual: &[f32], expected: &[f32], scale: f32, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let same = a.to_bits() == e.to_bits() || (a.is_nan() && e.is_nan());
        let close = (a - e).abs() <= 1e-5 * scale;
        // −0 and 0 are as good as each other.
        assert!(same || a == e || (!has_fused() && close), "{what}, number {i}: {a}, on the CPU {e}");
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Numbers in `[-size, size]`, the same each time.
fn numbers(count: usize, size: f32) -> Vec<f32> {
    let number = |i: usize| {
        let bits = (i as u32).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
        (f64::from(bits) / f64::from(u32::MAX) * 2.0 - 1.0) as f32 * size
    };
    (1..=count).map(number).collect()
}

/// A published composition behind `x`, which the CPU evaluates in the nested form, too, as it does any with a component
/// of degree 1. All published ones have another form there.
fn nested(bits: u8) -> CompositeSign {
    let published = CompositeSign::published(Alpha::new(bits).unwrap());
    let sign =
        CompositeSign::new([&[OddPolynomial::new(vec![1.0])], published.components()].concat()).unwrap();
    assert_eq!(sign.adapted(), None);
    sign
}

fn functions(bound: f64) -> Vec<(&'static str, Activation)> {
    let minimax = |bits| MinimaxRelu::from_composite(&nested(bits), bound).unwrap();
    let mut functions = vec![
        ("identity", Activation::IDENTITY),
        ("relu", Activation::RELU),
        ("square", Activation::SQUARE),
        ("relu_aq", Activation::RELU_AQ),
        ("minimax", minimax(9).with_exact_outside().into()),
    ];
    let exact = [
        F::LeakyRelu { slope: 0.125 },
        F::Clip { low: -1.0, high: 6.0 },
        F::HardSigmoid { scale: 0.2, offset: 0.5 },
        F::HardSwish,
        F::Sigmoid,
        F::Tanh,
        F::Silu,
        F::GeluTanh,
    ];
    functions.extend(exact.map(|f| ("exact", Activation::exact(f).unwrap())));
    for f in [F::LeakyRelu { slope: 0.125 }, F::Clip { low: 0.0, high: 6.0 }, F::HardSwish] {
        let activation = Activation::piecewise(f, &nested(7), bound).unwrap();
        functions.push(("piecewise", activation.clone()));
        functions.push(("piecewise", activation.with_exact_outside()));
    }
    for f in [Smooth::Sigmoid, Smooth::Silu] {
        let activation = Activation::smooth(&approximate(f, bound, 12).unwrap()).unwrap();
        functions.push(("smooth", activation.clone()));
        functions.push(("smooth", activation.with_exact_outside()));
    }
    for degree in [2, 3, 4, 15, 27, 62, 63] {
        // As large as those of a fit to ReLU, on an interval that is not around 0.
        let coefficients = (0..=degree).map(|k| bound / f64::from(1 + k * k)).collect();
        let p = FittedPolynomial::new(F::Relu, [1.0 - bound, 1.0 + bound], coefficients).unwrap();
        let activation = Activation::fitted(&p).unwrap();
        functions.push(("fitted", activation.clone()));
        functions.push(("fitted", activation.with_exact_outside()));
    }
    functions.extend((4..=14).map(|bits| ("minimax", minimax(bits).into())));
    functions
}

/// `f` of `xs` on the host: out of place, which it is in place, too.
fn activate(
    host: &Host,
    name: &str,
    activation: &Activation,
    xs: &[f32],
    grid: (u32, u32),
) -> (Vec<f32>, RangeStats) {
    let name = format!("activate_{name}");
    let arrays = [xs, &[], &[], &[]];
    let ([ys, in_place], range) = match activation.0.sign().map(Composite::precision) {
        Some(Precision::Double) => {
            let params = ActivationParams::<f64>::new(&activation.0, xs.len(), true, None, None).unwrap();
            host.run(&name, grid, &params, &arrays)
        }
        _ => {
            let params = ActivationParams::<f32>::new(&activation.0, xs.len(), true, None, None).unwrap();
            host.run(&name, grid, &params, &arrays)
        }
    };
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&ys), bits(&in_place), "{name} in place");
    (ys, range)
}

#[derive(Deserialize)]
struct ReluCase {
    alpha: Alpha,
    bound: f64,
    x: Vec<f64>,
    y: Vec<f64>,
}

#[test]
fn relu_agrees_with_golden_values() {
    let Some(host) = Host::get() else { return };
    let cases: Vec<ReluCase> = serde_json::from_str(include_str!("../../tests/golden/relu.json")).unwrap();
    assert_eq!(cases.len(), 33);
    for ReluCase { alpha, bound, x, y } in cases {
        let xs: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        let relu = MinimaxRelu::new(alpha, bound).unwrap();
        let double = relu.clone().with_precision(Precision::Double);
        // What rounding x to float32 does to the truth is not the kernel's error.
        let sign = CompositeSign::published(alpha);
        let truth: Vec<f64> = xs.iter().map(|&x| sign.relu(f64::from(x), bound)).collect();
        for (name, activation, golden, tolerance) in
            [("minimax", relu.into(), &y, 1e-5), ("minimax_f64", double.into(), &truth, 2e-7)]
        {
            let (actual, range) = activate(host, name, &activation, &xs, (2, 32));
            for (a, e) in actual.iter().zip(golden) {
                let error = (f64::from(*a) - e).abs() / bound;
                assert!(error < tolerance, "{name}, alpha {alpha}, B {bound}: {a}, not {e}");
            }
            assert_eq!(range.out_of_range, 0);
        }
    }
}

#[test]
fn functions_are_those_of_the_cpu_for_all_grids_and_tails() {
    let Some(host) = Host::get() else { return };
    for (name, activation) in functions(8.0) {
        for (count, grid) in
            [0, 1, 3, 4, 5, 63, 64, 1027].into_iter().flat_map(|n| GRIDS.map(|grid| (n, grid)))
        {
            let mut xs = numbers(count, 8.0);
            if count > 63 {
                xs[40] = 9.5;
                xs[count - 1] = f32::NEG_INFINITY;
            }
            if count > 1000 {
                xs[1000] = f32::NAN;
            }
            let recorder = RangeRecorder::default();
            let tensor = Tensor::from_slice(&xs, count, &Device::Cpu).unwrap();
            let expected = values(&activation.forward(&tensor, &recorder).unwrap());
            let (actual, range) = activate(host, name, &activation, &xs, grid);
            let what = format!("{name} of {count} numbers, {grid:?}");
            if count < 63 {
                // Elsewhere some are meaningless, and infinite.
                assert_same(&actual, &expected, 8.0, &what);
            } else {
                assert_same(&actual[..40], &expected[..40], 8.0, &what);
            }
            let seen = recorder.take();
            assert_eq!(range.max_abs.to_bits() & 0x7fff_ffff, seen.max_abs.to_bits() & 0x7fff_ffff, "{what}");
            assert_eq!(range.out_of_range, seen.out_of_range, "{what}");
        }
    }
}

#[test]
fn bias_addend_and_scale_are_those_of_their_channel() {
    let Some(host) = Host::get() else { return };
    let relu = MinimaxRelu::from_composite(&nested(7), 30.0).unwrap();
    let activation = Activation::from(relu);
    for (images, channels, inner) in [(1, 1, 1), (2, 3, 16), (3, 5, 49), (2, 8, 1), (1, 7, 4), (2, 3, 6)] {
        let count = images * channels * inner;
        let (xs, addend) = (numbers(count, 8.0), numbers(count + 5, 4.0)[5..].to_vec());
        let (scale, bias) = (numbers(channels, 2.0), numbers(2 * channels, 3.0)[channels..].to_vec());
        for (case, grid) in (0..8).flat_map(|case| GRIDS.map(|grid| (case, grid))) {
            let (with_scale, with_addend, aligned) = (case & 1 > 0, case & 2 > 0, case & 4 > 0);
            let of_channels = Some(Channels { count: channels, inner });
            let params =
                ActivationParams::<f32>::new(&activation.0, count, aligned, of_channels, Some(3)).unwrap();
            let arrays = [
                &xs[..],
                if with_scale { &scale } else { &[] },
                &bias,
                if with_addend { &addend } else { &[] },
            ];
            let ([actual, in_place], range) = host.run("activate_minimax", grid, &params, &arrays);
            assert_eq!(actual, in_place);

            let shape = (images, channels, inner);
            let tensor = Tensor::from_slice(&xs, shape, &Device::Cpu).unwrap();
            let affine = match with_scale {
                true => Tensor::from_vec([&scale[..], &bias].concat(), (2, channels), &Device::Cpu).unwrap(),
                false => Tensor::from_slice(&bias, channels, &Device::Cpu).unwrap(),
            };
            let other = Tensor::from_slice(&addend, shape, &Device::Cpu).unwrap();
            let recorder = RangeRecorder::default();
            let other = with_addend.then_some(&other);
            activation.apply_in_place(&tensor, &affine, other, Some(&recorder)).unwrap();
            let what = format!("{shape:?}, case {case}, {grid:?}");
            assert_same(&actual, &values(&tensor), 30.0, &what);
            let seen = recorder.take();
            assert!((range.max_abs - seen.max_abs).abs() <= 1e-5, "{what}");
            assert_eq!(range.out_of_range, seen.out_of_range, "{what}");
        }
    }
}

#[test]
fn gradients_are_those_of_the_cpu_and_of_finite_differences() {
    let Some(host) = Host::get() else { return };
    for (name, activation) in functions(8.0) {
        let (xs, dy) = (numbers(261, 8.5), numbers(522, 2.0)[261..].to_vec());
        let params = ActivationParams::<f32>::new(&activation.0, xs.len(), false, None, None).unwrap();
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
        let expected = values(&activation.gradient(&tensor(&xs), &tensor(&dy)).unwrap());
        for grid in GRIDS {
            let ([actual], _) = host.run(&format!("gradient_{name}"), grid, &params, &[&xs, &dy]);
            let within = |values: &[f32]| -> Vec<f32> {
                values.iter().zip(&xs).filter(|(_, x)| x.abs() <= 8.0).map(|(v, _)| *v).collect()
            };
            assert_same(&within(&actual), &within(&expected), 50.0, &format!("gradient of {name}"));
        }
    }
    for bits in [4, 7, 10] {
        let alpha = Alpha::new(bits).unwrap();
        let sign = CompositeSign::published(alpha);
        let relu = MinimaxRelu::new(alpha, 8.0).unwrap().with_precision(Precision::Double);
        let activation = Activation::from(relu);
        let (xs, dy) = (numbers(200, 8.0), vec![1.0; 200]);
        let params = ActivationParams::<f64>::new(&activation.0, 200, false, None, None).unwrap();
        let ([actual], _) = host.run("gradient_minimax_f64", (2, 32), &params, &[&xs, &dy]);
        for (a, x) in actual.iter().zip(&xs).map(|(a, x)| (f64::from(*a), f64::from(*x))) {
            let h = 1e-6;
            let slope = (sign.relu(x + h, 8.0) - sign.relu(x - h, 8.0)) / (2.0 * h);
            assert!((a - slope).abs() < 1e-3 * (1.0 + slope.abs()), "alpha {bits} at {x}: {a}, not {slope}");
        }
    }
}

#[test]
fn gelu_and_its_derivative_are_the_functions() {
    let Some(host) = Host::get() else { return };
    let activation = Activation::exact(F::Gelu).unwrap();
    let xs = numbers(500, 12.0);
    let (actual, _) = activate(host, "exact", &activation, &xs, (2, 32));
    let params = ActivationParams::<f32>::new(&activation.0, xs.len(), false, None, None).unwrap();
    let ([slopes], _) = host.run("gradient_exact", (2, 32), &params, &[&xs, &vec![1.0; xs.len()]]);
    for ((a, slope), x) in actual.iter().zip(&slopes).zip(xs.iter().map(|x| f64::from(*x))) {
        let (value, derivative) = (Smooth::Gelu.eval(x), Smooth::Gelu.derivative(x));
        assert!((f64::from(*a) - value).abs() < 1e-6 * (1.0 + value.abs()), "{x}: {a}, not {value}");
        assert!((f64::from(*slope) - derivative).abs() < 2e-6, "{x}: {slope}, not {derivative}");
    }
}

#[test]
fn the_longest_polynomial_fits_into_the_parameters() {
    let Some(host) = Host::get() else { return };
    let p = minimax_coeffs::SmoothApproximation::of_degree(Smooth::Sigmoid, 50.0, 255).unwrap();
    let activation = Activation::smooth(&p).unwrap();
    let xs = numbers(500, 50.0);
    let (actual, _) = activate(host, "smooth", &activation, &xs, (2, 32));
    for (a, x) in actual.iter().zip(xs.iter().map(|x| f64::from(*x))) {
        assert!((f64::from(*a) - p.eval(x)).abs() < 1e-5, "{x}: {a}, not {}", p.eval(x));
    }
    // With the addresses of six arrays before them.
    assert!(size_of::<ActivationParams<f64>>() + 48 <= 4096);
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
    y: Vec<f64>,
}

/// Params and the end of a kernel's name.
fn pool_params<T: Real>(
    spec: &PoolSpec,
    minimax: Option<(&Composite, f64)>,
    bound: f32,
    count: usize,
    input: (usize, usize),
) -> PoolParams<T> {
    let output = spec.output_size(input.0, input.1).unwrap();
    let max = Maximum {
        sign: minimax.map(|(sign, _)| sign),
        c: minimax.map_or(0.0, |(_, c)| c),
        exact_outside: false,
    };
    PoolParams::new(spec, &max, bound, Planes { count, input, output }, Some(0)).unwrap()
}

#[test]
fn max_pool_agrees_with_golden_values() {
    let Some(host) = Host::get() else { return };
    let cases: Vec<PoolCase> =
        serde_json::from_str(include_str!("../../tests/golden/max_pool.json")).unwrap();
    assert_eq!(cases.len(), 48);
    for case in cases {
        let PoolCase { alpha, bound, kernel, stride, padding, ceil_mode, x_shape, x, y } = case;
        let spec = PoolSpec::new(kernel, stride, padding).unwrap().with_ceil_mode(ceil_mode);
        let xs: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        let sign = Composite::new(CompositeSign::published(alpha));
        let c = crate::reference::scale(alpha.epsilon(), bound, &spec);
        let (count, input) = (x_shape[0] * x_shape[1], (x_shape[2], x_shape[3]));
        let single = pool_params::<f32>(&spec, Some((&sign, c)), bound as f32, count, input);
        let double = pool_params::<f64>(&spec, Some((&sign, c)), bound as f32, count, input);
        let grid = (3, 32);
        let results = [
            host.run::<_, 1>(&format!("max_pool_minimax_{kernel}"), grid, &single, &[&xs]),
            host.run::<_, 1>(&format!("max_pool_minimax_f64_{kernel}"), grid, &double, &[&xs]),
        ];
        for ([actual], range) in results {
            assert_eq!(actual.len(), y.len());
            for (a, e) in actual.iter().zip(&y) {
                let error = (f64::from(*a) - e).abs() / bound;
                assert!(error < 1e-5, "alpha {alpha}, {spec:?}: {a}, not {e}");
            }
            let largest = xs.iter().fold(0f32, |max, x| max.max(x.abs()));
            assert_eq!(range, RangeStats { max_abs: largest, out_of_range: 0 });
        }
    }
}

/// Windows of all kinds: gaps between them, overlaps, padding, ceil mode.
fn specs() -> Vec<PoolSpec> {
    let mut specs = Vec::new();
    for (kernel, stride, padding, ceil_mode) in [
        (2, 2, 0, false),
        (2, 2, 0, true),
        (2, 1, 1, false),
        (2, 3, 1, true),
        (3, 2, 1, false),
        (3, 2, 0, true),
        (3, 1, 1, true),
        (3, 3, 0, false),
        (3, 4, 1, true),
    ] {
        specs.push(PoolSpec::new(kernel, stride, padding).unwrap().with_ceil_mode(ceil_mode));
    }
    specs
}

#[test]
fn pooling_and_its_gradient_are_those_of_the_cpu() {
    let Some(host) = Host::get() else { return };
    let alpha = Alpha::new(7).unwrap();
    let sign = Composite::new(&nested(7));
    for (spec, (height, width)) in
        specs().into_iter().flat_map(|s| [(5, 6), (3, 3), (4, 9)].map(|size| (s, size)))
    {
        let (kernel, shape) = (spec.kernel()[0], (2, 3, height, width));
        let xs = numbers(6 * height * width, 8.0);
        let tensor = Tensor::from_slice(&xs, shape, &Device::Cpu).unwrap();
        let c = crate::reference::scale(alpha.epsilon(), 8.0, &spec);
        let minimax = MinimaxMaxPool::from_composite(&nested(7), alpha.epsilon(), 8.0, spec).unwrap();
        for (name, is_minimax) in [("exact", false), ("minimax", true)] {
            let recorder = RangeRecorder::default();
            let forward = |xs: &Tensor| match is_minimax {
                true => minimax.forward(xs, &recorder),
                false => max_pool(xs, &spec, &recorder),
            };
            let ys = forward(&tensor).unwrap();
            let dy = numbers(ys.elem_count(), 2.0);
            let dy_tensor = Tensor::from_slice(&dy, ys.shape(), &Device::Cpu).unwrap();
            let dx = match is_minimax {
                true => minimax.gradient(&tensor, &dy_tensor),
                false => max_pool_gradient(&tensor, &spec, &dy_tensor),
            };
            let (params, bound) = (is_minimax.then_some((&sign, c)), if is_minimax { 8.0 } else { f32::MAX });
            let params = pool_params::<f32>(&spec, params, bound, 6, (height, width));
            for grid in GRIDS {
                let what = format!("{name}, {spec:?}, {height}×{width}, {grid:?}");
                let ([actual], range) = host.run(&format!("max_pool_{name}_{kernel}"), grid, &params, &[&xs]);
                assert_same(&actual, &values(&ys), 8.0, &what);
                let largest = xs.iter().fold(0f32, |max, x| max.max(x.abs()));
                assert_eq!(range, RangeStats { max_abs: largest, out_of_range: 0 }, "{what}");
                let taps = format!("max_pool_tap_gradients_{name}_{kernel}");
                let ([taps], _) = host.run(&taps, grid, &params, &[&xs, &dy]);
                let ([actual], _) = host.run("max_pool_gather", grid, &params, &[&taps]);
                assert_same(&actual, &values(dx.as_ref().unwrap()), 50.0, &format!("gradient of {what}"));
            }
        }
    }
}

#[test]
fn each_pixel_is_measured_once_whether_a_window_covers_it_or_not() {
    let Some(host) = Host::get() else { return };
    for (spec, (height, width)) in
        specs().into_iter().flat_map(|s| [(5, 6), (3, 3), (11, 10)].map(|size| (s, size)))
    {
        let xs = vec![2.0; 2 * height * width];
        let mut params = pool_params::<f32>(&spec, None, 1.0, 2, (height, width));
        let name = format!("max_pool_exact_{}", spec.kernel()[0]);
        let ([_], range) = host.run::<_, 1>(&name, (2, 16), &params, &[&xs]);
        assert_eq!(range.out_of_range, xs.len() as u64, "{spec:?}, {height}×{width}");
        params.bound = 2.0;
        let ([_], range) = host.run::<_, 1>(&name, (2, 16), &params, &[&xs]);
        assert_eq!(range, RangeStats { max_abs: 2.0, out_of_range: 0 });
    }
}

#[test]
fn what_is_outside_is_exact_where_it_is_asked_for() {
    let Some(host) = Host::get() else { return };
    let alpha = Alpha::new(5).unwrap();
    let spec = PoolSpec::new(2, 2, 0).unwrap();
    let xs = [40.0, -30.0, 1.0, 2.0, f32::INFINITY, 0.0, -50.0, 3.0];
    let tensor = Tensor::from_slice(&xs, (2, 1, 2, 2), &Device::Cpu).unwrap();
    let minimax = MinimaxMaxPool::from_composite(&nested(5), alpha.epsilon(), 4.0, spec);
    let minimax = minimax.unwrap().with_exact_outside();
    let expected = values(&minimax.forward(&tensor, &RangeRecorder::default()).unwrap());
    let sign = Composite::new(&nested(5));
    let c = crate::reference::scale(alpha.epsilon(), 4.0, &spec);
    let mut params = pool_params::<f32>(&spec, Some((&sign, c)), 4.0, 2, (2, 2));
    params.exact_outside = 1;
    let ([actual], range) = host.run("max_pool_minimax_2", (1, 2), &params, &[&xs]);
    assert_same(&actual, &expected, 40.0, "the exact maximum outside");
    assert_eq!(range, RangeStats { max_abs: f32::INFINITY, out_of_range: 4 });
}
