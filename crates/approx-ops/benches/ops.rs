//! `cargo bench -p approx-ops`: activations, pooling and convolutions on the shapes of ResNet-20 and VGG-11.

use std::hint::black_box;

use approx_ops::{MinimaxMaxPool, MinimaxRelu, PackedConv2d, PoolSpec, RangeRecorder, max_pool, relu};
use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use minimax_coeffs::Alpha;

const BATCH: usize = 32;

fn random(shape: (usize, usize, usize, usize)) -> Tensor {
    Tensor::rand(-10f32, 10.0, shape, &Device::Cpu).expect("memory for a batch")
}

fn activations(c: &mut Criterion) {
    let range = RangeRecorder::default();
    let xs = random((BATCH, 16, 32, 32));
    let mut group = c.benchmark_group("relu 32×16×32×32");
    group.throughput(Throughput::Elements(xs.elem_count() as u64));
    group.bench_function("exact", |b| b.iter(|| relu(black_box(&xs), &range)));
    for bits in [7, 10, 14] {
        let op = MinimaxRelu::new(Alpha::new(bits).expect("published"), 10.0).expect("a good bound");
        group.bench_function(format!("alpha {bits}"), |b| b.iter(|| op.forward(black_box(&xs), &range)));
    }
}

fn pooling(c: &mut Criterion) {
    let range = RangeRecorder::default();
    let spec = PoolSpec::new(2, 2, 0).expect("a window of 2×2");
    let xs = random((BATCH, 64, 32, 32));
    let mut group = c.benchmark_group("max_pool 32×64×32×32");
    group.throughput(Throughput::Elements(xs.elem_count() as u64));
    group.bench_function("exact", |b| b.iter(|| max_pool(black_box(&xs), &spec, &range)));
    for bits in [7, 14] {
        let op = MinimaxMaxPool::new(Alpha::new(bits).expect("published"), 10.0, spec).expect("a good bound");
        group.bench_function(format!("alpha {bits}"), |b| b.iter(|| op.forward(black_box(&xs), &range)));
    }
}

fn convolutions(c: &mut Criterion) {
    // channels, outputs, size
    for (inputs, outputs, size) in
        [(3, 16, 32), (16, 16, 32), (32, 32, 16), (64, 64, 8), (128, 256, 8), (512, 512, 2)]
    {
        let xs = random((BATCH, inputs, size, size));
        let weight = random((outputs, inputs, 3, 3));
        let bias = random((outputs, 1, 1, 1));
        let packed = PackedConv2d::new(&weight, &bias, 1, (1, 1)).expect("shapes fit");
        let mut group = c.benchmark_group(format!("conv 3×3, {inputs} to {outputs} channels, {size}×{size}"));
        // Criterion's elements are floating-point operations here: two a product.
        group.throughput(Throughput::Elements((2 * BATCH * size * size * inputs * outputs * 9) as u64));
        group.bench_function("packed", |b| b.iter(|| packed.forward(black_box(&xs), None)));
        group.bench_function("candle", |b| b.iter(|| black_box(&xs).conv2d(&weight, 1, 1, 1, 1)));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = activations, pooling, convolutions
}
criterion_main!(benches);
