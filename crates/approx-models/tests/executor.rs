//! The executor against the float64 reference of cnn-graph, an operation a row.

use std::collections::BTreeSet;

use approx_models::ops::window::Padding;
use approx_models::ops::{
    Activation, AvgPool, BatchNorm, Concat, Conv, Linear, Op, Pad, Pool, Reshape, Slice, Transpose,
};
use approx_models::{
    ActivationPolicy, Backbone, Composition, Graph, GraphBuilder, Network, RunOptions, Weights,
};
use candle_core::{Device, Tensor};
use cnn_graph::reference::Reference;
use minimax_coeffs::Alpha;

mod common;
#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

use devices::devices;

fn hashed(name: &str, shape: &[usize]) -> Vec<f32> {
    common::hashed(name, shape, "none")
}

/// A graph for images of 6 channels and 9×8 pixels, which ends in `op`.
fn one(op: impl Into<Op>) -> Graph {
    let mut b = GraphBuilder::new([6, 9, 8]);
    let x = b.input();
    let x = b.node("op", op, &[x]);
    b.finish(x).unwrap()
}

/// The same with a definition of more nodes.
fn some(define: impl FnOnce(&mut GraphBuilder, cnn_graph::ValueId) -> cnn_graph::ValueId) -> Graph {
    let mut b = GraphBuilder::new([6, 9, 8]);
    let x = b.input();
    let x = define(&mut b, x);
    b.finish(x).unwrap()
}

/// A function of one variable behind a convolution, in whose pass it is computed.
fn activation(function: Activation) -> Graph {
    some(|b, x| {
        let x = b.conv("conv", x, Conv::same(6, 3).with_bias());
        b.activation("act", x, function)
    })
}

/// Every operation, by a name for messages.
fn rows() -> Vec<(&'static str, Graph)> {
    let pool = |kernel, stride| Pool::square(kernel, stride);
    vec![
        ("conv 3×3", one(Conv::same(5, 3).with_bias())),
        (
            "conv 3×3, 16 channels",
            some(|b, x| {
                let x = b.conv("a", x, Conv::same(16, 1));
                b.conv("b", x, Conv::same(16, 3))
            }),
        ),
        ("conv 1×1 with stride", one(Conv::new(4, [1, 1]).with_stride(2))),
        ("conv 3×3, depthwise", one(Conv::same(12, 3).with_groups(6).with_bias())),
        ("conv 3×3, in groups", one(Conv::same(9, 3).with_groups(3))),
        ("conv 3×2, dilated, other strides and padding by side", {
            let padding = Padding { top: 2, bottom: 0, left: 1, right: 3 };
            one(Conv { stride: [2, 1], dilation: [2, 3], padding, ..Conv::new(5, [3, 2]) })
        }),
        ("conv 1×7", one(Conv::new(4, [1, 7]).with_padding(0, 3))),
        ("conv, norm", some(|b, x| b.conv_bn("conv", "bn", x, Conv::same(4, 3).with_bias(), 1e-3))),
        (
            "conv, sum, relu",
            some(|b, x| {
                let y = b.conv_bn("conv", "bn", x, Conv::same(6, 3), 1e-5);
                let y = b.add(x, y);
                b.relu("relu", y)
            }),
        ),
        ("norm alone", one(BatchNorm { eps: 1e-3 })),
        (
            "linear",
            some(|b, x| {
                let x = b.flatten(x);
                b.linear("fc", x, 7)
            }),
        ),
        (
            "linear without bias",
            some(|b, x| {
                let x = b.flatten(x);
                b.node("fc", Linear { outputs: 7, bias: false }, &[x])
            }),
        ),
        ("relu", some(|b, x| b.relu("relu", x))),
        ("leaky relu", activation(Activation::LeakyRelu { slope: 0.1 })),
        ("relu6", activation(Activation::Clip { low: 0.0, high: 6.0 })),
        ("hard sigmoid", activation(Activation::HardSigmoid { scale: 1.0 / 6.0, offset: 0.5 })),
        ("hard swish", activation(Activation::HardSwish)),
        ("sigmoid", activation(Activation::Sigmoid)),
        ("tanh", activation(Activation::Tanh)),
        ("silu", activation(Activation::Silu)),
        ("gelu", activation(Activation::Gelu)),
        ("gelu by tanh", activation(Activation::GeluTanh)),
        ("max-pooling 2×2", some(|b, x| b.max_pool("pool", x, pool(2, 2)))),
        ("max-pooling 3×3, padded, ceil", {
            let window = pool(3, 2).with_padding(1).with_ceil_mode(true);
            some(|b, x| b.max_pool("pool", x, window))
        }),
        ("max-pooling 2×5, padding by side", {
            let padding = Padding { top: 0, bottom: 1, left: 2, right: 1 };
            let window = Pool { kernel: [2, 5], stride: [1, 3], padding, ceil_mode: false };
            some(|b, x| b.max_pool("pool", x, window))
        }),
        ("max-pooling 1×1", some(|b, x| b.max_pool("pool", x, pool(1, 2)))),
        ("average 3×3", one(AvgPool { window: pool(3, 1).with_padding(1), count_padding: true })),
        ("average 2×2", one(AvgPool { window: pool(2, 2), count_padding: false })),
        ("average 3×2, padded, in ceil mode, without the padding", {
            let padding = Padding { top: 1, bottom: 0, left: 1, right: 1 };
            let window = Pool { kernel: [3, 2], stride: [2, 3], padding, ceil_mode: true };
            one(AvgPool { window, count_padding: false })
        }),
        ("average to 4×3", some(|b, x| b.adaptive_avg_pool(x, [4, 3]))),
        ("global average", some(|b, x| b.global_avg_pool(x))),
        (
            "mul",
            some(|b, x| {
                let gate = b.global_avg_pool(x);
                let y = b.mul(x, gate);
                b.mul(y, x)
            }),
        ),
        (
            "affine",
            some(|b, x| {
                let x = b.affine("a", x, vec![0.5, 1.0, 2.0, -1.0, 3.0, 0.0], vec![0.25]);
                b.affine("b", x, vec![2.0], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
            }),
        ),
        (
            "concat of channels",
            some(|b, x| {
                let y = b.conv("conv", x, Conv::same(3, 1));
                b.concat(&[x, y, x])
            }),
        ),
        ("concat of rows", some(|b, x| b.node("concat", Concat { axis: 1 }, &[x, x]))),
        ("pad", one(Pad { zeros: vec![[1, 2], [0, 3], [2, 0]] })),
        ("slice", one(Slice { axis: 0, start: 1, end: 5, step: 1 })),
        ("slice with steps", one(Slice { axis: 2, start: 1, end: 8, step: 3 })),
        (
            "the shortcut without parameters",
            some(|b, x| {
                let x = b.node("rows", Slice { axis: 1, start: 0, end: 9, step: 2 }, &[x]);
                let x = b.node("columns", Slice { axis: 2, start: 0, end: 8, step: 2 }, &[x]);
                b.node("pad", Pad::channels(2, 3), &[x])
            }),
        ),
        (
            "channel shuffle",
            some(|b, x| {
                let x = b.conv("conv", x, Conv::same(6, 3));
                let x = b.node("split", Reshape { dims: vec![2, 3, 9, 8] }, &[x]);
                let x = b.node("swap", Transpose { order: vec![1, 0, 2, 3] }, &[x]);
                b.node("join", Reshape { dims: vec![6, 9, 8] }, &[x])
            }),
        ),
        (
            "flatten",
            some(|b, x| {
                let x = b.conv("conv", x, Conv::same(4, 3));
                b.flatten(x)
            }),
        ),
        ("dropout", some(|b, x| b.dropout("drop", x, 0.5))),
        (
            "a convolution to few pixels",
            some(|b, x| {
                let x = b.max_pool(
                    "pool",
                    x,
                    Pool { kernel: [3, 3], stride: [4, 4], padding: Padding::ZERO, ceil_mode: false },
                );
                b.conv("conv", x, Conv::same(16, 3))
            }),
        ),
    ]
}

fn images(graph: &Graph, device: &Device) -> (Vec<f32>, Tensor) {
    let shape: Vec<usize> = [3].iter().chain(graph.input_shape().dims()).copied().collect();
    let values = hashed("input", &shape);
    (values.clone(), Tensor::from_vec(values, shape, device).unwrap())
}

fn network(graph: &Graph, device: &Device) -> Network {
    let weights = Weights::generate(device.clone(), hashed);
    Network::build(graph.clone(), &weights, &ActivationPolicy::exact()).unwrap()
}

#[test]
fn every_operation_gives_what_its_definition_says() {
    for (name, graph) in rows() {
        assert_agrees(name, &graph);
    }
}

/// The backbones that no code of other authors is there for.
#[test]
fn lenet5_gives_what_its_definition_says() {
    for dataset in ["mnist", "fashion-mnist"] {
        let graph = Backbone::find(dataset, "lenet5").unwrap().graph().unwrap();
        assert_agrees(dataset, &graph);
    }
}

fn assert_agrees(name: &str, graph: &Graph) {
    devices().iter().for_each(|device| assert_agrees_on(device, name, graph));
}

fn assert_agrees_on(device: &Device, name: &str, graph: &Graph) {
    let (values, images) = images(graph, device);
    let ys = network(graph, device).forward(&images).unwrap();
    assert_eq!(ys.dims()[1..], *graph.output_shape().dims(), "{name}");
    let actual: Vec<f32> = ys.flatten_all().unwrap().to_vec1().unwrap();
    let reference = Reference::new(graph, |param| hashed(&param.name, &param.shape));
    let expected: Vec<f64> = values
        .chunks(graph.input_shape().elements())
        .flat_map(|image| reference.run(&image.iter().copied().map(f64::from).collect::<Vec<_>>()))
        .collect();
    assert_eq!(actual.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0f64, |max, x| max.max(x.abs()));
    let worst = actual.iter().zip(&expected).fold(0f64, |max, (a, e)| max.max((f64::from(*a) - e).abs()));
    // What convolutions promise (`PackedConv2d`).
    assert!(worst < 1e-5 * largest, "{name} on {device:?}: off by {worst:e} of {largest}");
}

#[test]
fn every_operation_of_the_graph_has_a_row() {
    let rows = rows();
    let seen: BTreeSet<&str> =
        rows.iter().flat_map(|(_, graph)| graph.nodes()).map(|node| node.op.name()).collect();
    let known = cnn_graph::ops::NAMES;
    let missing: Vec<&&str> = known.iter().filter(|name| !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn watched_values_are_recorded_and_change_no_result() {
    let graph = some(|b, x| {
        let y = b.conv_bn("conv", "bn", x, Conv::same(6, 3), 1e-5);
        let y = b.node("sum", cnn_graph::ops::Add, &[y, x]);
        b.relu("relu", y)
    });
    let (values, images) = images(&graph, &Device::Cpu);
    let mut network = network(&graph, &Device::Cpu);
    let before: Vec<f32> = network.forward(&images).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    network.watch(["bn", "sum", "input"]).unwrap();
    network.watched().for_each(|value| value.start_sketch());
    let after: Vec<f32> = network.forward(&images).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let largest = before.iter().fold(0f32, |max, x| max.max(x.abs()));
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() <= 1e-6 * largest));

    let reference = Reference::new(&graph, |param| hashed(&param.name, &param.shape));
    let mut expected = vec![0f64; graph.nodes().len()];
    for image in values.chunks(graph.input_shape().elements()) {
        let image: Vec<f64> = image.iter().copied().map(f64::from).collect();
        reference.run_with(&image, |value, values| {
            let largest = &mut expected[value.index()];
            *largest = values.iter().fold(*largest, |max, x| max.max(x.abs()));
        });
    }
    let names: Vec<&str> = network.watched().map(|value| value.name).collect();
    assert_eq!(names, ["input", "bn", "sum"]);
    for value in network.watched() {
        let (range, sketch) = (value.take_range(), value.take_sketch().unwrap());
        let expected = expected[graph.find(value.name).unwrap().index()];
        assert!((f64::from(range.max_abs) - expected).abs() < 1e-5 * expected, "{}: {range:?}", value.name);
        assert_eq!(sketch.count() as usize, values.len(), "{}", value.name);
    }
    // A convolution and the batch norm behind it are one.
    for name in ["conv", "nothing"] {
        let error = network.watch([name]).unwrap_err().to_string();
        assert!(error.contains(&format!("no value `{name}`")), "{error}");
    }
}

#[test]
fn approximated_functions_stay_within_two_to_minus_alpha_of_the_bound() {
    devices().iter().for_each(approximated_functions_stay_within_on);
}

fn approximated_functions_stay_within_on(device: &Device) {
    let (alpha, bound) = (Alpha::new(12).unwrap(), 12.0);
    for (name, graph) in rows() {
        let Some(function) = graph.nodes().iter().find_map(|node| match node.op {
            Op::Activation(function) if node.name == "act" => Some(function),
            _ => None,
        }) else {
            continue;
        };
        let (_, images) = images(&graph, device);
        let mut network = network(&graph, device);
        let values = |ys: Tensor| ys.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let exact = values(network.forward(&images).unwrap());
        let policy = ActivationPolicy::minimax(alpha, bound, bound);
        network.set_policy(&policy, &RunOptions::default()).unwrap();
        let approximate = values(network.forward(&images).unwrap());
        let site = &network.sites()[0];
        let range = site.take_range();
        assert_eq!((range.out_of_range, site.bound()), (0, Some(bound)), "{name}: {range:?}");
        // A sum of ReLUs that begin up to 6 away, and perhaps a product with x; sigmoid and tanh are at most 1.
        let relu = (bound + 6.0) * alpha.epsilon();
        let allowed = match (function, function.piecewise()) {
            (Activation::HardSwish, _) => 2.0 * bound * relu / 6.0,
            (_, Some(sum)) => sum.kinks.iter().map(|kink| kink.weight.abs() * relu).sum(),
            (Activation::Sigmoid | Activation::Tanh, None) => alpha.epsilon(),
            (_, None) => bound * alpha.epsilon(),
        };
        let worst = exact.iter().zip(&approximate).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
        assert!(f64::from(worst) < 1.01 * allowed, "{name}: off by {worst}, allowed is {allowed}");
        assert!(worst > 0.0, "{name}: nothing was approximated");
        let cost = site.cost(&Composition::published(alpha), bound).unwrap();
        let sign = Composition::published(alpha).sign().relu_cost();
        match function.piecewise() {
            Some(_) => assert!(cost.depth >= sign.depth, "{name}: {cost:?}"),
            None => assert!((3..=8).contains(&cost.depth), "{name}: {cost:?}"),
        }
        // A parabola stands for ReLU only.
        let error = network.set_policy(&ActivationPolicy::square(), &RunOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("act: "), "{error}");
    }
}

#[test]
fn a_batch_of_another_shape_is_an_error_with_both() {
    let graph = one(Conv::same(4, 3));
    let images = Tensor::zeros((2, 6, 9, 9), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = network(&graph, &Device::Cpu).forward(&images).unwrap_err().to_string();
    assert_eq!(error, "the network takes images of shape [6, 9, 8], not a batch of shape [2, 6, 9, 9]");
}
