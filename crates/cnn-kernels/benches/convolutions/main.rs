//! `cargo bench -p cnn-kernels`: the convolutions of all backbones.
//!
//! After each group, a line for each layer tells what share of the machine's peak it reaches ([`peak`]). Tensors are
//! channels-last, as they are inside a network.

mod harness;
mod layers;
#[allow(dead_code, reason = "the benchmarks of other crates use the rest")]
mod peak;

use std::hint::black_box;

use cnn_kernels::{ConvGeometry, PackedConv2d, Padding};
use criterion::{Criterion, Throughput};
use harness::{group, median, print_lines, random, time};
use layers::{Family, Groups};
use peak::Peak;

fn main() {
    let peak = Peak::measure();
    let mut c = harness::criterion();
    println!("{peak}\n");
    for family in layers::FAMILIES {
        convolutions(&mut c, &peak, family);
    }
    c.final_summary();
}

/// The layers of a family; for CIFAR-10's, candle's own convolution beside them.
///
/// Operations are counted as of the direct form. A 3×3 layer with stride 1 and at least 16 channels runs by
/// Winograd's algorithm, with a quarter of the multiplications, and may go beyond the peak.
fn convolutions(c: &mut Criterion, peak: &Peak, family: &Family) {
    let Family { images, kernel, stride, .. } = *family;
    let padding = Padding::symmetric(kernel.0 / 2, kernel.1 / 2);
    let mut group = group(c, &family.name());
    let (mut lines, mut shares) = (Vec::new(), Vec::new());
    for (inputs, outputs, size) in family.layers() {
        let xs = random((images, inputs, size, size));
        let groups = match family.groups {
            Groups::Count(groups) => groups,
            Groups::Depthwise => inputs,
        };
        let geometry = ConvGeometry::new(inputs, outputs, [kernel.0, kernel.1])
            .with_stride([stride; 2])
            .with_padding(padding)
            .with_groups(groups);
        let [_, group_inputs, ..] = geometry.weight_shape();
        let weight =
            random((outputs, group_inputs, kernel.0, kernel.1)).contiguous().expect("memory for weights");
        let bias = random((outputs, 1, 1, 1));
        let packed = PackedConv2d::new(&weight, &bias, geometry).expect("shapes fit");
        let pixels = images * size.div_ceil(stride).pow(2);
        let operations = 2 * pixels * group_inputs * outputs * kernel.0 * kernel.1;
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
