//! Reading weights: formats, and files that are refused.

mod common;

use std::collections::HashMap;
use std::path::PathBuf;

use approx_models::{ActivationPolicy, Backbone, GraphBuilder, Network, Result, Weights};
use candle_core::{DType, Device, Tensor};
use common::hashed;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load_error(path: PathBuf) -> String {
    Weights::load(path, &Device::Cpu).err().expect("an error").to_string()
}

/// A linear layer from 3 numbers to 2. Weights may have a part `aux` that it does not use.
fn linear(weights: &Weights) -> Result<Network> {
    let mut b = GraphBuilder::new([3]);
    b.ignore("aux");
    let x = b.input();
    let x = b.linear("fc", x, 2);
    Network::build(b.finish(x)?, weights, &ActivationPolicy::exact())
}

#[test]
fn pytorch_files_are_read() {
    for name in ["state_dict.pt", "checkpoint.pt", "half.pt", "legacy.pth"] {
        let weights = Weights::load(fixture(name), &Device::Cpu).unwrap();
        let network = linear(&weights);
        let xs = Tensor::new(&[[1f32, 10.0, 100.0]], &Device::Cpu).unwrap();
        let ys = network.unwrap().forward(&xs).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(ys, [[210.5, 542.5]], "{name}");
    }
}

#[test]
fn views_into_another_tensor_are_read() {
    let weights = Weights::load(fixture("view.pt"), &Device::Cpu).unwrap();
    let network = linear(&weights);
    let xs = Tensor::new(&[[1f32, 10.0, 100.0]], &Device::Cpu).unwrap();
    // fc.weight is 2 to 7, fc.bias 0 and 1.
    assert_eq!(network.unwrap().forward(&xs).unwrap().to_vec2::<f32>().unwrap(), [[432.0, 766.0]]);
}

#[test]
fn values_that_are_not_finite_are_refused_when_the_network_is_built() {
    let build = |file: &str| {
        let weights = Weights::load(fixture(file), &Device::Cpu).unwrap();
        linear(&weights)
    };
    let error = build("nan.pt").err().unwrap().to_string();
    assert!(error.ends_with("nan.pt: `fc.bias` has the value NaN at index 1"), "{error}");
}

/// A head for training that a network does not use.
#[test]
fn ignored_parts_may_be_there_or_not() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let fc = [("fc.weight", zeros(&[2, 3])), ("fc.bias", zeros(&[2]))];
    let aux = [("aux.conv.weight", zeros(&[1])), ("auxiliary", zeros(&[1]))];
    let build = |tensors: &[(&str, Tensor)]| {
        let tensors = tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        let weights = Weights::from_tensors(tensors, &Device::Cpu, "w".to_owned()).unwrap();
        linear(&weights)
    };
    assert!(build(&fc).is_ok());
    assert!(build(&[&fc[..], &aux[..1]].concat()).is_ok());
    let error = build(&[&fc[..], &aux[..]].concat()).err().unwrap().to_string();
    assert!(error.ends_with("1 tensor is unused: auxiliary"), "{error}");
}

#[test]
fn unreadable_files_are_refused_with_their_name_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let good = std::fs::read(fixture("state_dict.pt")).unwrap();
    let cases = [
        (
            write("cut.pt", &good[..good.len() / 2]),
            "cut.pt: not a readable zip archive (truncated or damaged?)",
        ),
        (write("empty.pt", b""), "empty.pt: not a PyTorch checkpoint"),
        (write("text.pt", b"hello, world"), "text.pt: not a PyTorch checkpoint"),
        (write("foreign.safetensors", &good), "foreign.safetensors: not a readable safetensors file"),
        (write("weights.bin", &good), "weights.bin: weights are read from .pt, .pth or .safetensors files"),
        (fixture("no_tensors.pt"), "no_tensors.pt: holds "),
        (write("cut.safetensors", &32u64.to_le_bytes()), "a header of 32 bytes in a file of 8"),
        (folder.path().join("missing.pt"), "missing.pt: No such file"),
        (folder.path().to_owned(), "is a directory"),
    ];
    for (path, expected) in cases {
        let error = load_error(path);
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

/// A safetensors file of one tensor without numbers.
fn safetensors(dtype: &str, shape: &str) -> Vec<u8> {
    let header =
        format!(r#"{{"pre_logits.fc1.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,0]}}}}"#);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

#[test]
fn shapes_and_types_that_no_tensor_has_are_refused_with_the_tensors_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    let huge = 1u64 << 40;
    // A dimension of 0 in front: no numbers, so the file is as long as it should be.
    std::fs::write(&path, safetensors("F32", &format!("[0,{huge},{huge}]"))).unwrap();
    let weights = Weights::load(&path, &Device::Cpu).unwrap();
    let error = linear(&weights).unwrap_err().to_string();
    assert!(error.contains("classifier.0.weight"), "{error}");
    let weights = Weights::load(fixture("zero_shape.pt"), &Device::Cpu).unwrap();
    assert!(linear(&weights).is_err());
    for (dtype, shape, expected) in [
        ("F32", format!("[{huge},{huge},0]"), "not a readable safetensors file"),
        ("F4", "[0]".to_owned(), "`pre_logits.fc1.weight` is of type F4, which is not supported"),
        ("BOOL", "[0]".to_owned(), "`pre_logits.fc1.weight` is of type BOOL, which is not supported"),
        ("C64", "[0]".to_owned(), "`pre_logits.fc1.weight` is of type C64, which is not supported"),
    ] {
        std::fs::write(&path, safetensors(dtype, &shape)).unwrap();
        let error = load_error(path.clone());
        assert!(error.contains("some.safetensors: ") && error.contains(expected), "{error}");
    }
}

/// The hashed tensors of a backbone.
fn tensors_of(name: &str) -> HashMap<String, Tensor> {
    let golden = fixture(&format!("../golden/state_dicts/cifar10_{name}.txt"));
    let text = std::fs::read_to_string(golden).unwrap();
    let lines = text.lines().map(|line| line.split_once(' ').unwrap());
    lines
        .map(|(name, shape)| match shape {
            "scalar" => (name.to_owned(), Tensor::new(0i64, &Device::Cpu).unwrap()),
            _ => {
                let shape: Vec<usize> = shape.split('x').map(|d| d.parse().unwrap()).collect();
                (name.to_owned(), Tensor::from_vec(hashed(name, &shape, "bn2"), shape, &Device::Cpu).unwrap())
            }
        })
        .collect()
}

fn build_error(backbone: &str, tensors: HashMap<String, Tensor>) -> String {
    let weights = Weights::from_tensors(tensors, &Device::Cpu, "some.pt".to_owned()).unwrap();
    let graph = Backbone::find("cifar10", backbone).unwrap().graph().unwrap();
    Network::build(graph, &weights, &ActivationPolicy::exact()).expect_err("an error").to_string()
}

#[test]
fn weights_of_another_backbone_are_refused_with_the_first_differences() {
    let error = build_error("resnet32", tensors_of("resnet20"));
    assert_eq!(
        error,
        "some.pt: the weights do not fit this network: 60 tensors are missing: layer1.3.conv1.weight, \
         layer1.3.bn1.weight, layer1.3.bn1.bias, …"
    );
    let error = build_error("resnet20", tensors_of("resnet32"));
    assert!(
        error.contains("60 tensors are unused: layer1.3.bn1.bias, layer1.3.bn1.running_mean, "),
        "{error}"
    );
    let error = build_error("vgg11bn", tensors_of("vgg13bn"));
    assert!(error.contains("missing") && error.contains("unused"), "{error}");
    assert!(
        error.contains("of another shape: features.4.weight is [64], not [128, 64, 3, 3], features.4.bias"),
        "{error}"
    );
}

#[test]
fn infinities_are_refused_in_every_float_type() {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        let tensor = Tensor::new(&[0f32, f32::NEG_INFINITY], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let tensors = HashMap::from([("a".to_owned(), tensor)]);
        let error = Weights::from_tensors(tensors, &Device::Cpu, "w".to_owned()).err().unwrap().to_string();
        assert_eq!(error, "w: `a` has the value -inf at index 1");
    }
}
