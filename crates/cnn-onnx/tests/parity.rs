//! What a file's graph computes is what ONNX Runtime computes with the file.

mod common;

use cnn_onnx::Model;
use common::{difference, fixture};

#[test]
fn outputs_are_those_of_onnx_runtime() {
    // PyTorch's two exporters, old and new operators, free and fixed batches; files by hand for the rest.
    let names = [
        "net_legacy13",
        "net_legacy20",
        "net_dynamo18",
        "net_dynamo23",
        "residual_legacy13",
        "residual_legacy20",
        "residual_dynamo18",
        "residual_dynamo23",
        "windows",
        "constants",
        "shapes",
        "types",
        "external",
    ];
    for name in names {
        let model = Model::open(fixture(&format!("{name}.onnx"))).unwrap_or_else(|e| panic!("{name}: {e}"));
        let difference = difference(&model, name);
        assert!(difference < 2e-6, "{name}: {difference}");
    }
}

#[test]
fn a_file_in_memory_is_the_same() {
    for name in ["residual_legacy13", "net_dynamo23"] {
        let path = fixture(&format!("{name}.onnx"));
        let (a, b) = (Model::open(&path).unwrap(), Model::from_bytes(std::fs::read(&path).unwrap()).unwrap());
        assert_eq!(a.graph, b.graph);
        for param in a.graph.params() {
            assert_eq!(a.params.read(&param.name).unwrap(), b.params.read(&param.name).unwrap());
            assert_eq!(a.params.shape(&param.name), Some(&param.shape[..]));
        }
        assert_eq!(a.params.len(), a.graph.params().len());
    }
}

#[test]
fn nodes_are_named_as_in_the_module() {
    let sites = |name: &str| -> Vec<String> {
        let model = Model::open(fixture(name)).unwrap();
        model.graph.sites().map(|(_, node)| node.name.clone()).collect()
    };
    let residual =
        ["relu", "maxpool", "layer1.0.relu", "layer1.0.relu_1", "layer1.1.relu", "layer1.1.relu_1"];
    for file in ["residual_legacy13", "residual_legacy20", "residual_dynamo18", "residual_dynamo23"] {
        assert_eq!(sites(&format!("{file}.onnx")), residual, "{file}");
        let model = Model::open(fixture(&format!("{file}.onnx"))).unwrap();
        let convs: Vec<&str> = model
            .graph
            .nodes()
            .iter()
            .filter(|node| node.op.name() == "conv" || node.op.name() == "linear")
            .map(|node| node.name.as_str())
            .collect();
        let expected = [
            "conv1",
            "layer1.0.conv1",
            "layer1.0.conv2",
            "layer1.1.conv1",
            "layer1.1.conv2",
            "layer1.1.downsample.0",
            "fc",
        ];
        let sorted = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(sorted(convs), sorted(expected.to_vec()), "{file}");
    }
    let net = [
        "relu",
        "relu_2", // a function, where the module's second use is relu_1
        "relu_1",
        "features.1",
        "features.2.0",
        "features.2.1",
        "features.2.2",
        "features.2.3",
        "features.4",
        "features.5",
        "features.6",
        "tanh",
        "sigmoid",
        "max_pool",
        "relu_3", // a clip with one bound
    ];
    for file in ["net_legacy13", "net_legacy20", "net_dynamo18", "net_dynamo23"] {
        assert_eq!(sites(&format!("{file}.onnx")), net, "{file}");
    }
}

#[test]
fn several_nodes_become_one_activation() {
    for file in ["net_legacy13", "net_legacy20", "net_dynamo18", "net_dynamo23"] {
        let model = Model::open(fixture(&format!("{file}.onnx"))).unwrap();
        let op = |name: &str| match &model.graph.node(model.graph.find(name).unwrap()).op {
            cnn_graph::ops::Op::Activation(activation) => activation.to_string(),
            op => op.name().to_owned(),
        };
        let ops = ["features.1", "features.2.0", "features.2.1", "features.2.2", "features.4", "features.6"]
            .map(op);
        let expected = ["silu", "hard_swish", "gelu", "gelu_tanh", "relu6", "leaky_relu(0.1)"];
        assert_eq!(ops, expected, "{file}");
    }
}

#[test]
fn what_a_file_says_of_itself_is_kept() {
    let model = Model::open(fixture("residual_legacy13.onnx")).unwrap();
    assert_eq!(model.opset, 13);
    assert!(model.producer.starts_with("pytorch "), "{}", model.producer);
}
