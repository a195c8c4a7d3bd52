//! Bad input: an error that names it, and no file left behind.

mod support;

use std::fs;

use safetensors::SafeTensors;

use support::{Folder, RECORD, demo_weights, hub_folder, repository, utf8, whole_batch};

/// Runs `infer` with `arguments` in `folder`; it must fail with `parts` in its message and leave no file.
fn refused(folder: &Folder, arguments: &[&str], parts: &[&str]) -> String {
    let before = folder.tree();
    let run = folder.infer(arguments);
    assert!(matches!(run.code, Some(1 | 2)), "{arguments:?}: {:?} {}", run.code, run.stderr);
    let error = run.stderr.lines().position(|line| line.starts_with("error: ")).map(|start| {
        let lines: Vec<&str> = run.stderr.lines().skip(start).collect();
        lines.join("\n")
    });
    let error = error.unwrap_or_else(|| panic!("{arguments:?}: no error in {}", run.stderr));
    for part in parts {
        assert!(error.contains(part), "{arguments:?}: `{part}` is not in {error}");
    }
    assert!(!run.stderr.contains('\x1b') && !run.stderr.contains("panicked"), "{}", run.stderr);
    assert_eq!(folder.tree(), before, "{arguments:?}");
    run.stderr
}

#[test]
fn arguments_out_of_range_are_refused() {
    let folder = Folder::new();
    let alphas = "whole numbers from 4 to 14";
    let positive = "but it must be positive and within the range of float32";
    let not_negative = "the step must be 0 or at least 1e-6, and finite, not";
    let backbones = "unknown backbone `resnet21` for cifar10; known: resnet20, resnet32, resnet44, resnet56, \
                     resnet110, vgg11bn, vgg13bn, vgg16bn, vgg19bn";
    for (arguments, parts) in [
        (&["--alpha", "3"][..], &["'3' for '--alpha", alphas][..]),
        (&["--alpha", "15"], &["'15' for '--alpha", alphas]),
        (&["--alpha", "abc"], &["'abc' for '--alpha", alphas]),
        (&["--alpha", "9.5"], &["'9.5' for '--alpha", alphas]),
        (&["--b-relu", "0"], &["'--b-relu", "is 0.0, ", positive]),
        (&["--b-relu", "-1"], &["'--b-relu", "is -1.0, ", positive]),
        (&["--B_relu=-1"], &["'--b-relu", "is -1.0, ", positive]),
        (&["--b-relu", "NaN"], &["'--b-relu", "is NaN, ", positive]),
        (&["--b-relu", "inf"], &["'--b-relu", "is inf, ", positive]),
        (&["--b-relu", "1e300"], &["'--b-relu", "is 1e300, ", positive]),
        (&["--b-relu", "five"], &["'five' for '--b-relu", "not a number"]),
        (&["--b-search", "-1"], &["'--b-search", not_negative, "not -1"]),
        (&["--b-search", "1e-320"], &["'--b-search", not_negative, "not 1e-320"]),
        (&["--b-search", "NaN"], &["'--b-search", not_negative, "not NaN"]),
        (&["--batch-inf", "0"], &["'0' for '--batch-inf"]),
        (&["--limit", "0"], &["'0' for '--limit"]),
        (&["--threads", "0"], &["'0' for '--threads"]),
        (&["--simd", "sse"], &["'sse' for '--simd", "portable, neon, avx2, avx512"]),
        (&["--approx-method", "cube"], &["'cube' for '--approx-method", "proposed, square, relu_aq"]),
        (&["--device", "gpu"], &["'gpu' for '--device", "it must be cpu, cuda, or cuda: and a number"]),
        (&["--gpu", "0", "--device", "cpu"], &["'--gpu <ID>' cannot be used with '--device"]),
        #[cfg(not(feature = "cuda"))]
        (&["--gpu", "0"], &["--gpu 0: this program was built without CUDA; leave --gpu out"]),
        #[cfg(not(feature = "cuda"))]
        (&["--device", "cuda:1"], &["--device cuda:1: this program was built without CUDA"]),
    ] {
        for command in ["demo", "cifar10"] {
            let arguments = [&[command], arguments, &["--report", "r.json"]].concat();
            let stderr = refused(&folder, &arguments, parts);
            assert!(!stderr.contains("pass over"), "{stderr}");
        }
    }
    for (arguments, parts) in [
        (&["cifar10", "resnet21"][..], &[backbones][..]),
        (&["cifar10", "--backbone", "resnet21"], &[backbones]),
        (&["cifar10", "resnet20", "--backbone", "resnet32"], &["cannot be used with '--backbone"]),
        (&["cifar10", "--b-max", "0"], &["'--b-max", positive]),
        (&["cifar10", "--report", "same", "--logits", "same"], &["--report and --logits both name same"]),
        (&["cifar10", "--report", "no-such-folder/"], &["no-such-folder/: "]),
        (&["cifar10", "--mode", "train"], &["'train' for '--mode", "[possible values: inf]"]),
        (
            &["cifar10", "--params", "a.pt", "--params-name", "b"],
            &["'--params <FILE>' cannot be used with '--params-name <NAME>'"],
        ),
        (&["cifar10", "--from", "no/such"], &["'no/such' cannot be a mirror: there is no such directory"]),
        (&["cifar10", "--from", "ftp://a.b"], &["'ftp' is none of http, https and file"]),
        (&["demo", "resnet32"], &["'resnet32' for '[BACKBONE]'"]),
        (&["demo", "--b-max", "5"], &["'--b-max'"]),
        (&["demo", "--logits", "l.safetensors"], &["--logits takes one precision: choose it with --alpha"]),
        (&["imagenet", "resnet20"], &["unknown backbone `resnet20` for imagenet; known: resnet18, "]),
        (&["imagenet", "--image-size", "0", "--dataset-path", "."], &["cropped to 0: both must be from 1"]),
        (&["imagenet", "--resize", "9000", "--dataset-path", "."], &["resized to 9000 and cropped to 224"]),
    ] {
        refused(&folder, arguments, parts);
    }
}

/// A safetensors file like the demo's weights, but with `value` at `index` of `tensor`.
fn patched_weights(tensor: &str, index: usize, value: f32) -> Vec<u8> {
    let mut bytes = fs::read(demo_weights()).unwrap();
    let offset = {
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let data = file.tensor(tensor).unwrap().data();
        data.as_ptr().addr() - bytes.as_ptr().addr() + 4 * index
    };
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn weights_that_cannot_be_used_are_refused_by_name() {
    let fixture = |name: &str| utf8(&repository(&format!("crates/approx-models/tests/fixtures/{name}")));
    let good = fs::read(fixture("state_dict.pt")).unwrap();
    let (demo, hub) = (demo_weights(), hub_folder());
    let demo_bytes = fs::read(&demo).unwrap();
    let folder = Folder::new();
    folder.write("cut.pt", &good[..good.len() / 2]);
    folder.write("text.pt", "this is no archive\n");
    folder.write("empty.pt", "");
    folder.write("weights/cifar10/resnet20_cut.pt", &good[..good.len() - 30]);
    folder.write("weights/cifar10/vgg11bn_other.pt", &good);
    folder.write("cut.safetensors", &demo_bytes[..demo_bytes.len() - 1]);
    folder.write("nan.safetensors", patched_weights("layer2.1.conv1.weight", 70, f32::NAN));
    folder.write("inf.safetensors", patched_weights("linear.bias", 9, f32::NEG_INFINITY));
    folder.write("weights.bin", &demo_bytes);
    let (cut, other) = ("not a readable zip archive (truncated or damaged?)", "not a PyTorch checkpoint");
    let no_fit = "the weights do not fit this network: ";
    for (arguments, parts) in [
        (&["--params", "cut.pt"][..], &["cut.pt: ", cut][..]),
        (&["--params", "text.pt"], &["text.pt: ", other]),
        (&["--params", "empty.pt"], &["empty.pt: ", other]),
        (&["--params-name", "cut"], &["weights/cifar10/resnet20_cut.pt: ", cut]),
        (&["--params", "cut.safetensors"], &["cut.safetensors: not a readable safetensors file"]),
        (&["--params", "nan.safetensors"], &["`layer2.1.conv1.weight` has the value NaN at index 70"]),
        (&["--params", "inf.safetensors"], &["inf.safetensors: `linear.bias` has the value -inf at index 9"]),
        (&["--params", "weights.bin"], &["weights.bin: weights are read from .pt, .pth or .safetensors"]),
        (&["--params", "missing.pt"], &["missing.pt: No such file"]),
        (&["--params", "weights"], &["weights: is a directory"]),
        (&["--params", &fixture("no_tensors.pt")], &["no_tensors.pt: holds ", "a state_dict is needed"]),
        (
            &["--params", &fixture("state_dict.pt")],
            &["state_dict.pt: ", no_fit, "97 tensors are missing: conv1.weight, ", "fc.bias, fc.weight"],
        ),
        (
            &["vgg11bn", "--params", &demo],
            &[
                &demo,
                no_fit,
                "54 tensors are missing: features.0.weight, features.0.bias, features.1.weight, …",
                "97 tensors are unused: bn1.bias, bn1.running_mean, bn1.running_var, …",
            ],
        ),
        (&["resnet32", "--params", &demo], &[no_fit, "60 tensors are missing: layer1.3.conv1.weight, "]),
        (
            &["--params-name", "best"],
            &[
                "no weights weights/cifar10/resnet20_best.safetensors, .pt, .pth; names that are there",
                ": cut",
            ],
        ),
        (&["resnet56", "--params-name", "best"], &["there are none for resnet56 in weights/cifar10"]),
    ] {
        let arguments = [&["cifar10"], arguments, &["--dataset-path", &hub, "--report", "r.json"]].concat();
        let stderr = refused(&folder, &arguments, parts);
        assert!(!stderr.contains("pass over"), "{stderr}");
    }
}

#[test]
fn images_that_cannot_be_used_are_refused_by_name() {
    let batch = whole_batch();
    let mut bad_label = batch.clone();
    bad_label[7 * RECORD] = 10;
    let fixture = |name: &str| fs::read(repository("crates/approx-data/tests/fixtures/other").join(name));
    let folder = Folder::new();
    folder.write("half/test_batch.bin", &batch[..batch.len() / 2]);
    folder.write("short/cifar-10-batches-bin/test_batch.bin", &batch[..batch.len() - 1]);
    folder.write("none/test_batch.bin", "");
    folder.write("label/test_batch.bin", &bad_label);
    folder.write("train/data_batch_1.bin", &batch);
    folder.write("python/cifar-10-batches-py/data_batch_1", "");
    folder.write("text/plain_text/test/0000.parquet", "hello");
    for name in ["column", "decode", "label", "size"] {
        let file = fixture(&format!("{name}.parquet")).unwrap();
        folder.write(&format!("hub_{name}/plain_text/test/0000.parquet"), file);
    }
    let demo = demo_weights();
    let length = "but a CIFAR-10 file has 30730000 (10000 images of 3073 bytes)";
    for (path, parts) in [
        ("half", &["half/test_batch.bin: has 15365000 bytes, ", length][..]),
        ("short", &["short/cifar-10-batches-bin/test_batch.bin: has 30729999 bytes, ", length]),
        ("none", &["none/test_batch.bin: has 0 bytes, ", length]),
        ("label", &["label/test_batch.bin: image 7 has the label 10, but labels go from 0 to 9"]),
        ("train", &["train: no CIFAR-10 test images here; looked for test_batch.bin, plain_text/test/0000"]),
        ("python", &["python: no CIFAR-10 test images here", "pickled objects and is not read"]),
        ("no/such", &["no/such: no such folder"]),
        ("half/test_batch.bin", &["half/test_batch.bin: no such folder"]),
        ("text", &["text/plain_text/test/0000.parquet: "]),
        ("hub_column", &["hub_column/plain_text/test/0000.parquet: ", "there is no column `img`"]),
        ("hub_decode", &["hub_decode/plain_text/test/0000.parquet: image 0: "]),
        ("hub_label", &["image 2 has the label 12, but labels go from 0 to 9"]),
        ("hub_size", &["image 1: is 32×16, not 32×32"]),
    ] {
        let arguments =
            ["cifar10", "--params", &demo, "--dataset-path", path, "--report", "r.json", "--limit", "5"];
        let stderr = refused(&folder, &arguments, parts);
        assert!(!stderr.contains("pass over"), "{stderr}");
    }
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_work() {
    let folder = Folder::new();
    fs::create_dir(folder.path("taken")).unwrap();
    folder.write("file", "");
    let (demo, hub) = (demo_weights(), hub_folder());
    for option in ["--report", "--logits"] {
        for (path, part) in [
            ("no/such/folder/output", "no/such/folder/output: No such file or directory"),
            ("taken", "taken: is a directory"),
            ("file/output", "file/output: Not a directory"),
        ] {
            for command in [
                &["demo", "--alpha", "14"][..],
                &["cifar10", "--params", &demo, "--dataset-path", &hub],
                // Before anything is fetched, too.
                &["cifar10", "--from", &folder.root()],
            ] {
                let stderr = refused(&folder, &[command, &[option, path]].concat(), &[part]);
                assert!(!stderr.contains("pass over") && !stderr.contains("Missing"), "{stderr}");
            }
        }
    }
}

#[test]
fn sweeps_that_cannot_be_done_are_refused_before_the_work() {
    const TABLES: &str = "whole numbers from 4 to 14";
    let folder = Folder::new();
    folder.write("file", "");
    let (demo, hub) = (demo_weights(), hub_folder());
    let mut cases = vec![
        (&["--alpha", "3..5"][..], &["invalid value '3' for '--alpha", TABLES][..]),
        (&["--alpha", "9..4"], &["'9..4' for '--alpha", "9..4 is empty: the first is larger than the last"]),
        (&["--alpha", "2..99"], &["invalid value '2' for '--alpha", TABLES]),
        (&["--alpha", "12..15"], &["invalid value '15' for '--alpha", TABLES]),
        (&["--alpha", ""], &["'' for '--alpha", TABLES]),
        (&["--alpha", "7,,8"], &["'7,,8' for '--alpha", TABLES]),
        (&["--alpha", "7.."], &["'7..' for '--alpha", TABLES]),
        (&["resnet21"], &["unknown backbone `resnet21` for cifar10; known: resnet20, "]),
        (&["resnet20,nothing"], &["unknown backbone `nothing` for cifar10"]),
        (&["--backbone", ""], &["unknown backbone `` for cifar10"]),
        (&["--backbone", "resnet20,"], &["unknown backbone `` for cifar10"]),
        (&["--all", "--backbone", "resnet20"], &["cannot be used with"]),
        (&["--all"], &["--params ", " is for one network, not for 9"]),
        (&["resnet20", "resnet32"], &[" is for one network, not for 2"]),
        (&["--output", "file"], &["file: not a directory"]),
        (&["--output", "file/inner"], &["file/inner: not a directory"]),
        (&["--b-relu", "0"], &["'--b-relu", "but it must be positive"]),
        (&["--limit", "0"], &["'0' for '--limit"]),
        (&["--dataset-path", "no/such"], &["no/such: no such folder"]),
    ];
    if cfg!(target_os = "linux") {
        // Nobody can create a file there, whatever they may.
        cases.push((&["--output", "/proc/sweep"], &["/proc/sweep: "]));
    }
    for (arguments, parts) in cases {
        let data: &[&str] = if arguments[0] == "--dataset-path" { &[] } else { &["--dataset-path", &hub] };
        let common = ["sweep", "cifar10", "--params", &demo];
        let stderr = refused(&folder, &[&common, data, arguments].concat(), parts);
        assert!(!stderr.contains("pass over"), "{stderr}");
    }
    refused(
        &folder,
        &["sweep", "cifar10", "--params-name", "none"],
        &["there are no weights weights/cifar10"],
    );
    refused(&folder, &["sweep", "imagenet", "resnet20"], &["unknown backbone `resnet20` for imagenet"]);
}
