//! What the tests share.

use std::path::PathBuf;

use cnn_graph::reference::Reference;
use cnn_onnx::Model;
use safetensors::SafeTensors;

/// A file of tests/fixtures.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The largest difference of a network's outputs from those of ONNX Runtime, as a share of the largest.
#[allow(dead_code, reason = "not every test compares outputs")]
pub fn difference(model: &Model, name: &str) -> f64 {
    let bytes = std::fs::read(fixture(&format!("{name}.safetensors"))).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: &str| -> Vec<f64> {
        let data = tensors.tensor(name).unwrap();
        data.data().chunks_exact(4).map(|x| f64::from(f32::from_le_bytes(x.try_into().unwrap()))).collect()
    };
    let (input, expected) = (numbers("input"), numbers("output"));
    let reference = Reference::new(&model.graph, |param| model.params.read(&param.name).unwrap());
    let images = input.chunks(model.graph.input_shape().elements());
    let actual: Vec<f64> = images.flat_map(|image| reference.run(image)).collect();
    assert_eq!(actual.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    let difference = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    difference.fold(0.0, |max, x| if x.is_nan() { f64::INFINITY } else { max.max(x) }) / largest
}
