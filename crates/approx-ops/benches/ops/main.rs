//! `cargo bench -p approx-ops`: activations, max-pooling and the convolutions of all backbones.
//!
//! After each group, a line for each op tells what share of the machine's peak it reaches ([`peak`]): of its
//! multiply-adds, or, for the exact ReLU and max-pooling, which only compare, of its memory's speed. Tensors are
//! channels-last, as they are inside a network.

mod layers;
mod peak;

use std::hint::black_box;
use std::time::{Duration, Instant};

use approx_ops::{MinimaxMaxPool, MinimaxRelu, PackedConv2d, PoolSpec, RangeRecorder, max_pool, relu};
use candle_core::{Device, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use layers::Family;
use minimax_coeffs::{Alpha, CompositeSign};
use peak::Peak;

const SAMPLES: usize = 10;
/// Of the approximations.
const BOUND: f64 = 10.0;

fn main() {
    let peak = Peak::measure();
    let mut c = Criterion::default()
        .sample_size(SAMPLES)
        .nresamples(1000)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args();
    println!("{peak}\n");
    activations(&mut c, &peak);
    pooling(&mut c, &peak);
    for family in layers::FAMILIES {
        convolutions(&mut c, &peak, family);
    }
    c.final_summary();
}

fn group<'c>(c: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    // As many iterations in each sample, or few samples would take long.
    group.sampling_mode(SamplingMode::Flat);
    group
}

/// Lets criterion time `op`. Gives the median seconds of its samples, unless the command line leaves `op` out.
fn time<T>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, op: impl Fn() -> T) -> Option<f64> {
    let mut seconds = Vec::new();
    group.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            let start = Instant::now();
            for _ in 0..iterations {
                black_box(op());
            }
            let elapsed = start.elapsed();
            seconds.push(elapsed.as_secs_f64() / iterations as f64);
            elapsed
        });
    });
    // Those before the samples were to warm up.
    median(&seconds[seconds.len().saturating_sub(SAMPLES)..])
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Channels-last in memory.
fn random(shape: (usize, usize, usize, usize)) -> Tensor {
    let (n, c, height, width) = shape;
    Tensor::rand(-BOUND as f32, BOUND as f32, (n, height, width, c), &Device::Cpu)
        .and_then(|images| images.permute((0, 3, 1, 2)))
        .expect("memory for a batch")
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
        group.finish();
        print_lines(&lines);
    }
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

/// The layers of a family; for CIFAR-10's, candle's own convolution beside them.
///
/// Operations are counted as of the direct form. A 3×3 layer with stride 1 and at least 16 channels runs by
/// Winograd's algorithm, with a quarter of the multiplications, and may go beyond the peak.
fn convolutions(c: &mut Criterion, peak: &Peak, family: &Family) {
    let Family { images, kernel, stride, .. } = *family;
    let padding = (kernel.0 / 2, kernel.1 / 2);
    let mut group = group(c, &family.name());
    let (mut lines, mut shares) = (Vec::new(), Vec::new());
    for (inputs, outputs, size) in family.layers() {
        let xs = random((images, inputs, size, size));
        let weight = random((outputs, inputs, kernel.0, kernel.1)).contiguous().expect("memory for weights");
        let bias = random((outputs, 1, 1, 1));
        let packed = PackedConv2d::new(&weight, &bias, stride, padding).expect("shapes fit");
        let pixels = images * size.div_ceil(stride).pow(2);
        let operations = 2 * pixels * inputs * outputs * kernel.0 * kernel.1;
        // Criterion's elements are floating-point operations here.
        group.throughput(Throughput::Elements(operations as u64));
        let name = format!("{inputs}→{outputs}, {size}×{size}");
        let Some(seconds) = time(&mut group, &name, || packed.forward(black_box(&xs), None)) else {
            continue;
        };
        let share = peak.compute_share(operations, "GFLOP/s direct-equivalent", seconds);
        let mut line = format!("{}, {name}: {share}", family.name());
        shares.push(operations as f64 / seconds / peak.operations);
        if family.with_candle {
            let xs = xs.contiguous().expect("memory for a batch");
            let candle = || black_box(&xs).conv2d(&weight, kernel.0 / 2, stride, 1, 1);
            if let Some(seconds) = time(&mut group, &format!("{name}, candle"), candle) {
                line += &format!("; candle: {:.1} GFLOP/s", operations as f64 / seconds / 1e9);
            }
        }
        lines.push(line);
    }
    group.finish();
    print_lines(&lines);
    if let Some(median) = median(&shares).filter(|_| shares.len() > 1) {
        let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
        let most = shares.iter().copied().fold(0.0, f64::max);
        let [least, median, most] = [least, median, most].map(|share| 100.0 * share);
        println!(
            "{}, {} layers: {least:.0} to {most:.0} % of peak, median {median:.0} %, direct-equivalent\n",
            family.name(),
            shares.len()
        );
    }
}

fn print_lines(lines: &[String]) {
    if !lines.is_empty() {
        println!("\n{}\n", lines.join("\n"));
    }
}
