//! What PyTorch wrote is what is read; `fixtures/make.py` writes both the files and what is in them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use torch_checkpoint::{Checkpoint, CheckpointError, TensorError};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The message for a file that cannot be opened, without the path.
fn refusal(name: &str) -> String {
    let error = Checkpoint::open(fixture(name)).expect_err(name).to_string();
    error.strip_prefix(&format!("{}: ", fixture(name).display())).expect(&error).to_owned()
}

/// The bits of a float, as in expected.json.
fn word(value: f32) -> String {
    if value.is_nan() { "nan".to_owned() } else { format!("{:08x}", value.to_bits()) }
}

#[test]
fn names_types_shapes_and_values_are_those_of_pytorch() {
    let expected: Value = serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
    let files = expected["files"].as_object().unwrap();
    assert!(files.len() > 20);
    for (file, truth) in files {
        let truth = expected["truths"][truth.as_u64().unwrap() as usize].as_array().unwrap();
        let checkpoint = Checkpoint::open(fixture(file)).unwrap();
        let names: Vec<_> = checkpoint.tensors().map(|tensor| tensor.name.as_str()).collect();
        let expected_names: Vec<_> = truth.iter().map(|tensor| tensor["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected_names, "{file}");
        for (tensor, truth) in checkpoint.tensors().zip(truth) {
            let place = format!("{file}: {}", tensor.name);
            assert_eq!(tensor.dtype.to_string(), truth["dtype"].as_str().unwrap(), "{place}");
            let shape: Vec<_> = truth["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|size| size.as_u64().unwrap() as usize)
                .collect();
            assert_eq!(tensor.shape, shape, "{place}");
            assert_eq!(tensor.elements(), shape.iter().product::<usize>(), "{place}");
            assert_eq!(tensor.dtype.is_float(), truth["bits"].is_string(), "{place}");
            match (checkpoint.read_f32(&tensor.name), truth["bits"].as_str()) {
                (Ok(values), Some(bits)) => {
                    let words: Vec<_> = values.iter().map(|&value| word(value)).collect();
                    assert_eq!(words.join(" "), bits, "{place}");
                }
                (Err(CheckpointError::Tensor { problem: TensorError::NotFloat(dtype), .. }), None) => {
                    assert_eq!(dtype, tensor.dtype, "{place}");
                }
                (other, _) => panic!("{place}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_is_no_state_dict_is_refused_by_name() {
    const HINT: &str = "; a state_dict is needed, as saved by torch.save(model.state_dict(), …)";
    let cases = [
        ("model", format!("holds a pickled `__main__.Whole`{HINT}")),
        (
            "model_in_checkpoint",
            format!("holds a checkpoint whose `model` is a pickled `__main__.Whole`{HINT}"),
        ),
        ("malicious", format!("holds a pickled `posix.system`{HINT}")),
        ("malicious_weight", "`weight` is a pickled `posix.system`, not a tensor; no code is run".to_owned()),
        ("optimizer", format!("holds a dict without tensors (its keys: 'state', 'param_groups'){HINT}")),
        ("nested_dicts", format!("holds a dict without tensors (its keys: 'encoder', 'decoder'){HINT}")),
        ("empty_dict", format!("holds an empty dict{HINT}")),
        ("integer_key", format!("holds a dict with an int as a key{HINT}")),
        ("tensor", format!("holds a pickled `torch._utils._rebuild_tensor_v2`{HINT}")),
        ("list", format!("holds a list{HINT}")),
        (
            "expanded",
            "`w` has 1000000 elements in a storage of 1 (an expanded view?); save a copy (`tensor.clone()`)"
                .to_owned(),
        ),
        ("negated", "`w` is a lazily negated or conjugated tensor, which is not supported".to_owned()),
        ("quantized", "`w` is a quantized tensor, which is not supported".to_owned()),
        ("sparse", "`w` is a sparse tensor, which is not supported".to_owned()),
        ("meta", "`w` is a meta tensor, which is not supported".to_owned()),
        (
            "uint16",
            "`w` is a pickled `torch._utils._rebuild_tensor_v3`, not a tensor; no code is run".to_owned(),
        ),
        ("big_endian", "written on a big-endian machine, which is not supported".to_owned()),
    ];
    for (name, message) in cases {
        for layout in ["zip", "legacy"] {
            let file = format!("{name}_{layout}.pt");
            assert_eq!(refusal(&file), message, "{file}");
        }
    }
}

#[test]
fn other_files_are_told_apart() {
    let cases = [
        ("first.tar.pt", "a TAR archive, as PyTorch wrote them before version 0.1.10"),
        ("other_zip.pt", "a zip archive without data.pkl"),
        ("expected.json", "not a PyTorch checkpoint: it begins neither as a zip archive nor as a pickle"),
    ];
    for (file, message) in cases {
        assert!(refusal(file).starts_with(message), "{}", refusal(file));
    }
    for (path, reason) in [("", "cannot open "), ("absent.pt", "cannot open ")] {
        let error = Checkpoint::open(fixture(path)).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{error}");
    }
}

#[test]
fn no_pickled_command_is_run() {
    // The fixtures' command writes EXECUTED into the working directory; `training` ignores its callback.
    for name in ["malicious", "malicious_weight", "training"] {
        for layout in ["zip", "legacy"] {
            let _ = Checkpoint::open(fixture(&format!("{name}_{layout}.pt")));
        }
    }
    assert!(!Path::new("EXECUTED").exists());
}

#[test]
fn an_unknown_tensor_is_named() {
    let checkpoint = Checkpoint::open(fixture("net_zip.pt")).unwrap();
    assert!(checkpoint.tensor("fc.weight").is_some() && checkpoint.tensor("fc").is_none());
    let error = checkpoint.read_f32("fc").unwrap_err();
    assert!(error.to_string().ends_with("net_zip.pt: there is no tensor `fc`"), "{error}");
}

#[test]
fn damaged_values_are_found_by_their_checksum() {
    let mut bytes = std::fs::read(fixture("net_zip.pt")).unwrap();
    let checkpoint = Checkpoint::open(fixture("net_zip.pt")).unwrap();
    let value = checkpoint.read_f32("fc.bias").unwrap()[0].to_le_bytes();
    let at = bytes.windows(4).position(|window| window == value).unwrap();
    bytes[at] ^= 1;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();

    let checkpoint = Checkpoint::open(file.path()).unwrap();
    let error = checkpoint.read_f32("fc.bias").unwrap_err().to_string();
    assert!(error.contains("`fc.bias` cannot be read: its CRC-32 is "), "{error}");
    assert!(checkpoint.read_f32("fc.weight").is_ok());
}

#[test]
fn threads_may_read_at_once() {
    let checkpoint = Checkpoint::open(fixture("views_legacy.pt")).unwrap();
    let read = || checkpoint.tensors().map(|t| checkpoint.read_f32(&t.name).unwrap()).collect::<Vec<_>>();
    let alone = read();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), alone);
        }
    });
}
