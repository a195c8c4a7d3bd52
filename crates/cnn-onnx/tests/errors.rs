//! What cannot be read is said clearly, and all at once.

mod common;

use cnn_onnx::{Model, OnnxError, Options};
use common::fixture;

#[test]
fn a_vision_transformer_gets_one_error_with_all_its_nodes() {
    for file in ["attention_legacy17.onnx", "attention_dynamo18.onnx"] {
        let error = Model::open(fixture(file)).unwrap_err();
        let OnnxError::Unsupported(unsupported) = &error else { panic!("{error}") };
        let operators: std::collections::BTreeSet<&str> =
            unsupported.nodes.iter().map(|node| node.operator.as_str()).collect();
        for operator in ["LayerNormalization", "MatMul", "Softmax"] {
            assert!(operators.contains(operator), "{file}: {operators:?}");
        }
        // Two norms in each of two layers, and the last one.
        let norms = unsupported.nodes.iter().filter(|node| node.operator == "LayerNormalization");
        assert_eq!(norms.count(), 5, "{file}");
        let text = error.to_string();
        assert!(text.contains("layers.*.norm* (4)"), "{text}");
        assert!(text.lines().count() < 30, "{text}");
    }
}

#[test]
fn free_image_sizes_are_asked_for() {
    let bytes = std::fs::read(fixture("windows.onnx")).unwrap();
    // The height, 9, is a dimension of its own: field 1 of a dimension. As a name, it is free.
    let fixed = [0x0a, 0x02, 0x08, 9, 0x0a, 0x02, 0x08, 9];
    let free = [0x0a, 0x02, 0x12, 0, 0x0a, 0x02, 0x12, 0];
    let at = bytes.windows(8).position(|part| part == fixed).unwrap();
    let mut changed = bytes.clone();
    changed[at..at + 8].copy_from_slice(&free);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("free.onnx");
    std::fs::write(&path, changed).unwrap();
    let error = Model::open(&path).unwrap_err().to_string();
    assert_eq!(error, "the input `image` leaves its height open (``): say the image size");
    let with = |size| Model::open_with(&path, &Options { image_size: Some(size) });
    assert_eq!(with([9, 9]).unwrap().graph, Model::from_bytes(bytes).unwrap().graph);
    assert_eq!(with([12, 10]).unwrap().graph.input_shape().dims(), [2, 12, 10]);
    // A size that the file fixes must be that size.
    let fixed = Model::open_with(fixture("windows.onnx"), &Options { image_size: Some([9, 8]) });
    assert_eq!(fixed.unwrap_err().to_string(), "the input `image` has a width of 9 in the file, not 8");
}

#[test]
fn old_operators_and_other_files_are_refused() {
    let mut bytes = std::fs::read(fixture("residual_legacy13.onnx")).unwrap();
    let at = bytes.windows(4).rposition(|part| part == [0x42, 0x02, 0x10, 13]);
    let at = at.or_else(|| {
        bytes.windows(6).rposition(|part| part == [0x42, 0x04, 0x0a, 0x00, 0x10, 13]).map(|at| at + 2)
    });
    bytes[at.unwrap() + 3] = 11;
    let error = Model::from_bytes(bytes).unwrap_err();
    assert!(matches!(error, OnnxError::Opset { found: 11, .. }), "{error}");
    for bytes in [&b""[..], b"PK\x03\x04", b"\x80\x02}q"] {
        assert!(matches!(Model::from_bytes(bytes.to_vec()), Err(OnnxError::Format(_))));
    }
    assert!(matches!(Model::open(fixture("missing.onnx")), Err(OnnxError::Io { .. })));
}
