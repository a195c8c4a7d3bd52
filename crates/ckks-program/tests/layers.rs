//! Each kind of layer by itself, simulated slot by slot, against the float64 loops of `cnn_graph::reference`.

use ckks_program::{Noise, Plan, PlanOptions};
use cnn_graph::ops::{
    AdaptiveAvgPool, AvgPool, BatchNorm, Conv, Mul, Pad, Padding, Pool, Reshape, Slice, Transpose,
};
use cnn_graph::policy::ActivationPolicy;
use cnn_graph::reference::Reference;
use cnn_graph::{Graph, GraphBuilder, ParamSpec, ValueId};
use proptest::prelude::*;

/// Numbers in [-1, 1) that depend on a name.
fn numbers(name: &str, count: usize) -> Vec<f64> {
    let mut state =
        name.bytes().fold(7u64, |state, byte| state.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn weights(spec: &ParamSpec) -> Vec<f32> {
    let positive = spec.name.ends_with("running_var");
    let numbers = numbers(&spec.name, spec.shape.iter().product());
    numbers.into_iter().map(|x| if positive { x.abs() as f32 + 0.5 } else { x as f32 }).collect()
}

/// Holds the simulation of some images against the reference.
fn assert_same(graph: &Graph, slots: usize) -> Result<(), TestCaseError> {
    let plan = Plan::new(graph, weights, &ActivationPolicy::exact(), &PlanOptions::new(slots)).unwrap();
    let images: Vec<Vec<f64>> =
        (0..3).map(|i| numbers(&format!("image {i}"), graph.input_shape().elements())).collect();
    let simulation = plan.simulate(&images, Noise::None).unwrap();
    let reference = Reference::new(graph, weights);
    for (image, output) in images.iter().zip(&simulation.outputs) {
        let expected = reference.run(image);
        prop_assert_eq!(output.len(), expected.len());
        let largest = expected.iter().fold(1e-30f64, |a, b| a.max(b.abs()));
        for (i, (a, b)) in output.iter().zip(&expected).enumerate() {
            prop_assert!((a - b).abs() <= 1e-9 * largest, "number {}: {} instead of {}", i, a, b);
        }
    }
    Ok(())
}

/// A graph of one node, or a few.
fn graph(input: [usize; 3], define: impl FnOnce(&mut GraphBuilder, ValueId) -> ValueId) -> Option<Graph> {
    let mut b = GraphBuilder::new(input);
    let x = b.input();
    let y = define(&mut b, x);
    b.finish(y).ok()
}

fn image() -> impl Strategy<Value = [usize; 3]> {
    [1usize..5, 1usize..9, 1usize..9]
}

fn padding() -> impl Strategy<Value = Padding> {
    [0usize..3, 0usize..3, 0usize..3, 0usize..3].prop_map(|[top, bottom, left, right]| Padding {
        top,
        bottom,
        left,
        right,
    })
}

/// Few slots, so that values are split among ciphertexts, or many, so that images share one.
fn slots() -> impl Strategy<Value = usize> {
    prop_oneof![Just(64usize), Just(256), Just(2048)]
}

fn conv() -> impl Strategy<Value = Conv> {
    let kernel = [1usize..4, 1usize..4];
    let stride = [1usize..3, 1usize..3];
    let dilation = [1usize..3, 1usize..3];
    (1usize..5, kernel, stride, dilation, padding(), any::<bool>(), any::<bool>()).prop_map(
        |(outputs, kernel, stride, dilation, padding, bias, grouped)| Conv {
            outputs: if grouped { 4 } else { outputs },
            kernel,
            stride,
            dilation,
            padding,
            groups: if grouped { 2 } else { 1 },
            bias,
        },
    )
}

fn pool() -> impl Strategy<Value = Pool> {
    // Padding is at most half of the window.
    ([1usize..4, 1usize..4], [1usize..4, 1usize..4], padding(), any::<bool>()).prop_map(
        |(kernel, stride, Padding { top, bottom, left, right }, ceil_mode)| {
            let [rows, columns] = kernel.map(|size| size / 2 + 1);
            let padding = Padding {
                top: top % rows,
                bottom: bottom % rows,
                left: left % columns,
                right: right % columns,
            };
            Pool { kernel, stride, padding, ceil_mode }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn convolutions(mut input in image(), conv in conv(), slots in slots()) {
        input[0] *= conv.groups;
        let graph = graph(input, |b, x| b.conv("conv", x, conv));
        prop_assume!(graph.is_some());
        assert_same(&graph.unwrap(), slots)?;
    }

    #[test]
    fn two_convolutions_with_batch_norm(input in image(), first in conv(), second in conv(), slots in slots()) {
        let graph = graph(input, |b, x| {
            let x = b.conv("first", x, Conv { groups: 1, ..first });
            let x = b.node("norm", BatchNorm { eps: 1e-3 }, &[x]);
            b.conv("second", x, Conv { groups: 1, ..second })
        });
        prop_assume!(graph.is_some());
        assert_same(&graph.unwrap(), slots)?;
    }

    #[test]
    fn depthwise_convolutions(mut input in image(), conv in conv(), slots in slots()) {
        input[0] *= 3;
        let (outputs, groups) = (2 * input[0], input[0]);
        let graph = graph(input, |b, x| b.conv("conv", x, Conv { outputs, groups, ..conv }));
        prop_assume!(graph.is_some());
        assert_same(&graph.unwrap(), slots)?;
    }

    #[test]
    fn affine_maps_before_a_padded_convolution(mut input in image(), conv in conv(), slots in slots()) {
        input[0] *= conv.groups;
        let graph = graph(input, |b, x| {
            let (scale, shift) = (numbers("scale", input[0]), numbers("shift", input[0]));
            let x = b.affine("affine", x, scale, shift);
            b.conv("conv", x, conv)
        });
        prop_assume!(graph.is_some());
        assert_same(&graph.unwrap(), slots)?;
    }

    #[test]
    fn average_poolings(input in image(), window in pool(), count_padding in any::<bool>(), slots in slots()) {
        let graph = graph(input, |b, x| b.node("pool", AvgPool { window, count_padding }, &[x]));
        prop_assume!(graph.is_some());
        assert_same(&graph.unwrap(), slots)?;
    }

    #[test]
    fn means(input in image(), size in [1usize..4, 1usize..4], slots in slots()) {
        let adaptive = graph(input, |b, x| b.node("pool", AdaptiveAvgPool { size }, &[x])).unwrap();
        assert_same(&adaptive, slots)?;
        let global = graph(input, |b, x| {
            let x = b.conv("conv", x, Conv::new(3, [1, 1]).with_stride(2));
            let x = b.global_avg_pool(x);
            let x = b.flatten(x);
            b.linear("fc", x, 5)
        });
        assert_same(&global.unwrap(), slots)?;
    }

    #[test]
    fn linear_layers(features in 1usize..200, outputs in 1usize..200, more in 1usize..40, slots in slots()) {
        let mut b = GraphBuilder::new([features]);
        let x = b.input();
        let x = b.linear("first", x, outputs);
        let x = b.linear("second", x, more);
        assert_same(&b.finish(x).unwrap(), slots)?;
    }

    #[test]
    fn what_only_moves_numbers(input in image(), step in 1usize..3, before in 0usize..3, slots in slots()) {
        let [channels, height, _] = input;
        let graph = graph(input, |b, x| {
            let x = b.node("rows", Slice { axis: 1, start: height / 3, end: height, step }, &[x]);
            let x = b.node("pad", Pad { zeros: vec![[before, 1], [before, 0], [0, 1]] }, &[x]);
            let [c, h, w] = b.shape(x).image().unwrap();
            let y = b.node("slice", Slice { axis: 0, start: 0, end: c, step: 2 }, &[x]);
            let x = b.concat(&[x, y]);
            let total = c + c.div_ceil(2);
            let x = b.node("transpose", Transpose { order: vec![0, 2, 1] }, &[x]);
            let x = b.node("reshape", Reshape { dims: vec![total * w, h, 1] }, &[x]);
            b.conv("conv", x, Conv::new(2, [1, 1]))
        });
        prop_assume!(graph.is_some() && channels > 0);
        assert_same(&graph.unwrap(), slots)?;
    }

    #[test]
    fn sums_of_branches(input in image(), stride in 1usize..3, before in 0usize..3, slots in slots()) {
        let [channels, height, width] = input;
        let graph = graph(input, |b, x| {
            let x = b.conv("stem", x, Conv::same(channels, 3));
            let y = b.conv("conv", x, Conv::same(channels + before + 2, 3).with_stride(stride));
            let z = b.node("rows", Slice { axis: 1, start: 0, end: height, step: stride }, &[x]);
            let z = b.node("columns", Slice { axis: 2, start: 0, end: width, step: stride }, &[z]);
            let z = b.node("pad", Pad::channels(before, 2), &[z]);
            let sum = b.add(y, z);
            let sum = b.node("norm", BatchNorm { eps: 1e-3 }, &[sum]);
            let other = b.conv("other", sum, Conv::same(2, 3));
            let more = b.conv("more", sum, Conv::same(2, 1));
            b.add(other, more)
        });
        assert_same(&graph.unwrap(), slots)?;
    }

    #[test]
    fn products_of_values(input in image(), slots in slots()) {
        let graph = graph(input, |b, x| {
            let y = b.conv("conv", x, Conv::same(input[0], 3));
            let z = b.global_avg_pool(y);
            let z = b.conv("squeeze", z, Conv::new(input[0], [1, 1]).with_bias());
            let y = b.node("excite", Mul, &[y, z]);
            b.node("square", Mul, &[y, y])
        });
        assert_same(&graph.unwrap(), slots)?;
    }
}
