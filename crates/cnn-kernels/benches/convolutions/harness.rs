//! What the benchmarks of this crate and of others have in common.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};

const SAMPLES: usize = 10;
/// The largest |x| of a tensor, and the bound of approximations.
pub const BOUND: f64 = 10.0;

pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(SAMPLES)
        .nresamples(1000)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args()
}

pub fn group<'c>(c: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    // As many iterations in each sample, or few samples would take long.
    group.sampling_mode(SamplingMode::Flat);
    group
}

/// Lets criterion time `op`. Gives the median seconds of its samples, unless the command line leaves `op` out.
pub fn time<T>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, op: impl Fn() -> T) -> Option<f64> {
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

pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Channels-last in memory.
pub fn random(shape: (usize, usize, usize, usize)) -> Tensor {
    let (n, c, height, width) = shape;
    Tensor::rand(-BOUND as f32, BOUND as f32, (n, height, width, c), &Device::Cpu)
        .and_then(|images| images.permute((0, 3, 1, 2)))
        .expect("memory for a batch")
}

pub fn print_lines(lines: &[String]) {
    if !lines.is_empty() {
        println!("\n{}\n", lines.join("\n"));
    }
}
