//! `cargo bench -p approx-ops`: activations and max-pooling. The convolutions are in `cargo bench -p cnn-kernels`.
//!
//! After each group, a line for each op tells what share of the machine's peak it reaches ([`peak`]): of its
//! multiply-adds, or, for the exact ReLU and max-pooling, which only compare, of its memory's speed. Tensors are
//! channels-last, as they are inside a network.

#[path = "../../../cnn-kernels/benches/convolutions/harness.rs"]
mod harness;
#[path = "../../../cnn-kernels/benches/convolutions/peak.rs"]
mod peak;

use std::hint::black_box;

use approx_ops::{
    Activation, ActivationFunction, MinimaxMaxPool, MinimaxRelu, PoolSpec, RangeRecorder, max_pool, relu,
};
use criterion::{Criterion, Throughput};
use harness::{BOUND, group, print_lines, random, time};
use minimax_coeffs::fitted::{Density, FLOOR, Fit};
use minimax_coeffs::{Alpha, CompositeSign, FittedPolynomial};
use peak::Peak;

fn main() {
    let peak = Peak::measure();
    let mut c = harness::criterion();
    println!("{peak}\n");
    activations(&mut c, &peak);
    pooling(&mut c, &peak);
    c.final_summary();
}

/// Multiply-adds of one evaluation of the composition: one a coefficient, of which an odd polynomial has half.
fn multiply_adds(alpha: Alpha) -> usize {
    CompositeSign::published(alpha).degrees().iter().map(|degree| degree.div_ceil(2)).sum()
}

fn activations(c: &mut Criterion, peak: &Peak) {
    let range = RangeRecorder::default();
    for shape in [(1, 16, 32, 32), (32, 16, 32, 32), (8, 64, 112, 112)] {
        let (n, channels, height, width) = shape;
        let xs = random(shape);
        let elements = xs.elem_count();
        let title = format!("relu {n}×{channels}×{height}×{width}");
        let mut group = group(c, &title);
        group.throughput(Throughput::Elements(elements as u64));
        let mut lines = Vec::new();
        if let Some(seconds) = time(&mut group, "exact", || relu(black_box(&xs), &range)) {
            lines.push(format!("{title}, exact: {}", peak.memory_share(2 * elements, seconds)));
        }
        for bits in [7, 10, 14] {
            let alpha = Alpha::new(bits).expect("published");
            let op = MinimaxRelu::new(alpha, BOUND).expect("a good bound");
            if let Some(seconds) =
                time(&mut group, &format!("alpha {bits}"), || op.forward(black_box(&xs), &range))
            {
                let share = peak.compute_share(2 * elements * multiply_adds(alpha), "GFLOP/s", seconds);
                lines.push(format!("{title}, alpha {bits}: {share}"));
            }
        }
        for degree in [15, 27, 63] {
            let op = Activation::fitted(&fitted(degree)).expect("a good interval");
            if let Some(seconds) =
                time(&mut group, &format!("fitted {degree}"), || op.forward(black_box(&xs), &range))
            {
                let share = peak.compute_share(2 * elements * (degree + 1), "GFLOP/s", seconds);
                lines.push(format!("{title}, fitted of degree {degree}: {share}"));
            }
        }
        group.finish();
        print_lines(&lines);
    }
}

/// A polynomial fitted to inputs that are as likely everywhere.
fn fitted(degree: usize) -> FittedPolynomial {
    let places = (0..=1000).map(|i| (BOUND * (f64::from(i) / 500.0 - 1.0), 1.0));
    let density = Density::new(places).expect("finite values");
    let interval = [-BOUND, BOUND];
    let fit = Fit::new(ActivationFunction::Relu, &density, interval, FLOOR).expect("values in the interval");
    fit.polynomial(degree).expect("a supported degree")
}

fn pooling(c: &mut Criterion, peak: &Peak) {
    let range = RangeRecorder::default();
    // Of VGG for CIFAR-10, of VGG, ResNet and GoogLeNet: shape, kernel, stride and padding
    for (shape, kernel, stride, padding) in [
        ((32, 64, 32, 32), 2, 2, 0),
        ((8, 64, 224, 224), 2, 2, 0),
        ((8, 64, 112, 112), 3, 2, 1),
        ((8, 256, 28, 28), 3, 1, 1),
    ] {
        let (n, channels, height, width) = shape;
        let spec = PoolSpec::new(kernel, stride, padding).expect("2×2 or 3×3");
        let (out_height, out_width) = spec.output_size(height, width).expect("a window fits");
        let xs = random(shape);
        let (inputs, outputs) = (xs.elem_count(), n * channels * out_height * out_width);
        let title = format!("max_pool {kernel}×{kernel} stride {stride}, {n}×{channels}×{height}×{width}");
        let mut group = group(c, &title);
        group.throughput(Throughput::Elements(inputs as u64));
        let mut lines = Vec::new();
        if let Some(seconds) = time(&mut group, "exact", || max_pool(black_box(&xs), &spec, &range)) {
            lines.push(format!("{title}, exact: {}", peak.memory_share(inputs + outputs, seconds)));
        }
        for bits in [7, 14] {
            let alpha = Alpha::new(bits).expect("published");
            let op = MinimaxMaxPool::new(alpha, BOUND, spec).expect("a good bound");
            if let Some(seconds) =
                time(&mut group, &format!("alpha {bits}"), || op.forward(black_box(&xs), &range))
            {
                let maxima = outputs * (kernel * kernel - 1);
                let share = peak.compute_share(2 * maxima * multiply_adds(alpha), "GFLOP/s", seconds);
                lines.push(format!("{title}, alpha {bits}: {share}"));
            }
        }
        group.finish();
        print_lines(&lines);
    }
}
