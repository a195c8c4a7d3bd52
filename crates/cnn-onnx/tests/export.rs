//! A graph that is written and read again is the same.

mod common;

use cnn_graph::ops::{Activation, Affine, Conv, Op, Pool, Reshape, Transpose};
use cnn_graph::passes::prune;
use cnn_graph::reference::Reference;
use cnn_graph::zoo::Backbone;
use cnn_graph::{Graph, GraphBuilder, ParamSpec};
use cnn_onnx::{Model, OnnxError};
use common::{difference, fixture};

/// Numbers that depend on the parameter and the place.
fn numbers(param: &ParamSpec) -> Vec<f32> {
    let seed: u32 = param.name.bytes().fold(7, |seed, byte| seed.wrapping_mul(31) + u32::from(byte));
    let elements: usize = param.shape.iter().product();
    (0..elements as u32)
        .map(|i| (i.wrapping_mul(0x9e37).wrapping_add(seed) % 64) as f32 / 64.0 + 0.1)
        .collect()
}

fn written(graph: &Graph) -> Model {
    let mut file = Vec::new();
    cnn_onnx::write(graph, |param| Ok(numbers(param)), &mut file).unwrap();
    Model::from_bytes(file).unwrap()
}

/// Asserts that two graphs are equal but for constants that were rounded to float32, and for means of one part.
fn assert_same(graph: &Graph, read: &Graph) {
    assert_eq!(read.nodes().len(), graph.nodes().len());
    for (a, b) in graph.nodes().iter().zip(read.nodes()) {
        assert_eq!((&a.name, &a.inputs, &a.shape), (&b.name, &b.inputs, &b.shape));
        match (&a.op, &b.op) {
            (Op::Affine(a), Op::Affine(b)) => {
                let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
                assert!(near(&a.scale, &b.scale) && near(&a.shift, &b.shift), "{a:?} {b:?}");
            }
            (Op::AdaptiveAvgPool(pool), Op::GlobalAvgPool(_)) => assert_eq!(pool.size, [1, 1]),
            (a, b) => assert_eq!(a, b),
        }
    }
    assert_eq!(graph.output(), read.output());
}

#[test]
fn backbones_come_back() {
    // Not ImageNet's VGGs, whose linear layers have 500 MB: they are of the same operations as CIFAR's.
    let small =
        |backbone: &&Backbone| backbone.dataset() != "imagenet" || !backbone.name().starts_with("vgg");
    let all = Backbone::DATASETS.into_iter().flat_map(Backbone::all).filter(small);
    for backbone in all {
        let graph = backbone.graph().unwrap();
        let model = written(&graph);
        assert_same(&graph, &model.graph);
        for param in graph.params() {
            let read = model.params.read(&param.name).unwrap();
            assert_eq!(read, numbers(&param), "{} of {}", param.name, backbone.name());
        }
    }
}

#[test]
fn every_operation_comes_back() {
    let mut b = GraphBuilder::new([4, 12, 12]);
    let x = b.input();
    let x = b.affine("scale", x, vec![2.0, 3.0, 4.0, 5.0], vec![0.0]);
    let mut x = b.conv_bn("conv", "norm", x, Conv::same(4, 3).with_groups(2).with_bias(), 1e-3);
    let activations = [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.2 },
        Activation::Clip { low: -1.0, high: 6.0 },
        Activation::HardSigmoid { scale: 0.25, offset: 0.5 },
        Activation::HardSwish,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
    ];
    for (i, activation) in activations.into_iter().enumerate() {
        x = b.activation(format!("activation.{i}"), x, activation);
    }
    let x = b.max_pool("max", x, Pool::square(3, 2).with_padding(1).with_ceil_mode(true));
    let mean = cnn_graph::ops::AvgPool { window: Pool::square(3, 1).with_padding(1), count_padding: true };
    let y = b.node("mean", mean, &[x]);
    let x = b.add(x, y);
    let x = b.unnamed("reshape", Reshape { dims: vec![2, 2, 7, 7] }, &[x]);
    let x = b.unnamed("transpose", Transpose { order: vec![1, 0, 2, 3] }, &[x]);
    let x = b.unnamed("reshape", Reshape { dims: vec![4, 7, 7] }, &[x]);
    let gate = b.global_avg_pool(x);
    let x = b.mul(x, gate);
    let x = b.affine("shift", x, vec![1.0], vec![1.0, 2.0, 3.0, 4.0]);
    let x = b.concat(&[x, y]);
    let x = b.unnamed("slice", cnn_graph::ops::Slice { axis: 0, start: 1, end: 8, step: 3 }, &[x]);
    let x = b.unnamed("pad", cnn_graph::ops::Pad { zeros: vec![[1, 0], [0, 2], [3, 0]] }, &[x]);
    let x = b.dropout("dropout", x, 0.25);
    let x = b.flatten(x);
    let x = b.linear("fc", x, 3);
    let graph = b.finish(x).unwrap();
    let model = written(&graph);
    assert_eq!(model.opset, 20);
    // The padding of a dropout's input is not that of a convolution, and stays.
    assert_same(&graph, &model.graph);
    assert_eq!(prune(&graph), graph);

    let image: Vec<f64> = (0..4 * 12 * 12).map(|i| f64::from(i % 17) / 17.0 - 0.5).collect();
    let expected = Reference::new(&graph, numbers).run(&image);
    let read = Reference::new(&model.graph, |param| model.params.read(&param.name).unwrap()).run(&image);
    for (a, b) in expected.iter().zip(&read) {
        assert!((a - b).abs() < 1e-6 * a.abs(), "{a} {b}");
    }
}

#[test]
fn files_of_other_tools_come_back() {
    for name in ["net_legacy13", "residual_dynamo18", "shapes"] {
        let model = Model::open(fixture(&format!("{name}.onnx"))).unwrap();
        let mut file = Vec::new();
        let read = |param: &ParamSpec| Ok(model.params.read(&param.name)?);
        cnn_onnx::write(&model.graph, read, &mut file).unwrap();
        let again = Model::from_bytes(file).unwrap();
        assert_same(&model.graph, &again.graph);
        assert!(difference(&again, name) < 2e-6, "{name}");
    }
}

#[test]
fn a_parameter_that_does_not_fit_is_an_error() {
    let mut b = GraphBuilder::new([2]);
    let x = b.input();
    let x = b.affine("scale", x, vec![0.5], vec![0.0]);
    let x = b.linear("fc", x, 2);
    let graph = b.finish(x).unwrap();
    let error = cnn_onnx::write(&graph, |_| Ok(vec![0.0; 3]), Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "fc.weight: 3 values do not have the shape [2, 2]");
    let error = cnn_onnx::write(&graph, |_| Err("is gone".into()), Vec::new()).unwrap_err();
    assert!(matches!(error, OnnxError::Parameter { .. }));
    // An affine layer without a shift is still one node.
    assert_eq!(written(&graph).graph.node(graph.find("scale").unwrap()).op, {
        Op::Affine(Affine { scale: vec![0.5], shift: vec![0.0] })
    });
}
