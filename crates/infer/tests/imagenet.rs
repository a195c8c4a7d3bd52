//! `infer imagenet`: a folder of pictures from decoding to report and logits.

mod support;

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use candle_core::{Device, Tensor};
use serde_json::json;
use support::{Folder, repository, utf8};

/// A ResNet-18 whose values keep their size, in a file of its own.
static RESNET18: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let names = "crates/approx-models/tests/golden/state_dicts/imagenet_resnet18.txt";
    let mut tensors = HashMap::new();
    for line in fs::read_to_string(repository(names)).unwrap().lines() {
        let (name, shape) = line.split_once(' ').unwrap();
        if shape == "scalar" {
            continue;
        }
        let shape: Vec<usize> = shape.split('x').map(|size| size.parse().unwrap()).collect();
        let (count, inputs) = (shape.iter().product::<usize>(), shape[1..].iter().product::<usize>());
        let value = |i: usize| match name.rsplit('.').next().unwrap() {
            "bias" | "running_mean" => 0.0,
            "weight" if shape.len() > 1 => {
                // From -1 to 1, in no order.
                let u = (i as u32).wrapping_mul(0x9e37_79b9).rotate_left(15).wrapping_mul(0x85eb_ca6b);
                (u as f32 / 2f32.powi(31) - 1.0) * (4.0 / inputs as f32).sqrt()
            }
            _ => 0.75,
        };
        let values: Vec<f32> = (0..count).map(value).collect();
        tensors.insert(name.to_owned(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    fs::read(path).unwrap()
});

/// Weights, and pictures in class folders of which none can be told by its name: six of three classes.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("weights/imagenet/resnet18_mine.safetensors", &*RESNET18);
    for (class, picture) in [
        ("n01440764", "hopper.png"),
        ("n01440764", "gray.png"),
        ("n02105855", "wide.jpg"),
        ("n02105855", "alpha.png"),
        ("n15075141", "tall.png"),
        ("n15075141", "small.png"),
    ] {
        let bytes = fs::read(repository(&format!("crates/approx-data/tests/preprocess/{picture}"))).unwrap();
        folder.write(&format!("pictures/val/{class}/{picture}.JPEG"), bytes);
    }
    folder
}

const MINE: [&str; 6] = ["imagenet", "resnet18", "--params-name", "mine", "--dataset-path", "pictures"];

#[test]
fn a_folder_of_pictures_is_evaluated_with_search_report_and_logits() {
    let folder = folder();
    let arguments = [&MINE[..], &["--batch-inf", "4", "--b-relu", "1", "--b-max", "1", "--b-search", "0.5"]];
    let arguments = arguments.concat();
    let report = folder.report(&arguments);
    for (field, value) in [
        ("/dataset", json!("imagenet")),
        ("/backbone", json!("resnet18")),
        ("/images", json!(6)),
        ("/skipped", json!([])),
        ("/batch_size", json!(4)),
        ("/alpha", json!(14)),
        ("/weights/file", json!("weights/imagenet/resnet18_mine.safetensors")),
        ("/sites/0/name", json!("relu")),
        ("/sites/1/name", json!("maxpool")),
    ] {
        assert_eq!(report.pointer(field), Some(&value), "{field}");
    }
    for (kind, bound) in [("relu", "/b_relu"), ("max_pool", "/b_max")] {
        let bound = report.pointer(bound).unwrap().as_f64().unwrap();
        assert!(bound > 1.0 && (2.0 * bound).fract() == 0.0, "{kind}: {bound}");
        let sites = report["sites"].as_array().unwrap();
        let largest = sites.iter().filter(|site| site["kind"] == kind);
        let largest = largest.map(|site| site["approx_max_abs"].as_f64().unwrap()).fold(0.0, f64::max);
        assert!(largest <= bound, "{kind}: {largest} {bound}");
    }
    assert!(report["approx"]["max_abs_logit_difference"].as_f64().unwrap() < 0.05);

    let logits = folder.logits(&arguments);
    assert_eq!(logits.labels, [0, 0, 230, 230, 999, 999]);
    assert_eq!((logits.exact.len(), logits.approx.len()), (6 * 1000, 6 * 1000));
    let run = folder.succeed(&[&arguments[..], &["--limit", "3"]].concat());
    assert!(run.stdout.starts_with("resnet18 on imagenet: 3 images, "), "{}", run.stdout);
}

#[test]
fn a_corrupt_picture_is_named_and_can_be_skipped() {
    let folder = folder();
    let whole = fs::read(folder.path("pictures/val/n02105855/wide.jpg.JPEG")).unwrap();
    folder.write("pictures/val/n02105855/cut.JPEG", &whole[..whole.len() / 2]);
    let run = folder.infer(&MINE);
    let last = run.stderr.lines().last().unwrap();
    assert_eq!(run.code, Some(1));
    assert!(last.starts_with("error: pictures/val/n02105855/cut.JPEG: "), "{last}");

    let skipping = [&MINE[..], &["--skip-corrupt", "--batch-inf", "2"]].concat();
    let report = folder.report(&skipping);
    assert_eq!(report["images"], json!(6));
    assert_eq!(report.pointer("/skipped/0/name"), Some(&json!("pictures/val/n02105855/cut.JPEG")));
    let run = folder.succeed(&skipping);
    let line = run.stdout.lines().find(|line| line.starts_with("skipped")).unwrap();
    assert!(line.contains("1 corrupt image; the first is pictures/val/n02105855/cut.JPEG: "), "{line}");
}

#[test]
fn the_image_size_can_be_chosen() {
    let folder = folder();
    let report = folder.report(&[&MINE[..], &["--image-size", "64", "--resize", "70"]].concat());
    assert_eq!(report["images"], json!(6));
    let run = folder.infer(&[&MINE[..], &["--image-size", "0"]].concat());
    assert!(run.stderr.contains("cropped to 0: both must be from 1 to 8192"), "{}", run.stderr);
}

#[test]
fn without_images_and_token_it_says_what_to_do() {
    let folder = Folder::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_infer"));
    command.env_remove("HF_TOKEN").env("HF_HOME", utf8(&folder.path("no token here")));
    let output = command.args(["imagenet", "resnet18"]).current_dir(folder.root()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in ["no access token was found", "HF_TOKEN", "--dataset-path", "val/"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert!(folder.tree().iter().all(|name| folder.path(name).is_dir()), "{:?}", folder.tree());
}

#[test]
fn backbones_are_listed() {
    let folder = Folder::new();
    let run = folder.succeed(&["imagenet", "--list"]);
    assert_eq!(run.stdout.lines().count(), 11);
    assert_eq!(folder.succeed(&["cifar10", "--list"]).stdout.lines().next(), Some("resnet20"));
    let run = folder.infer(&["imagenet", "resnet20"]);
    assert!(
        run.stderr.contains("unknown backbone `resnet20` for imagenet; known: resnet18, "),
        "{}",
        run.stderr
    );
}

#[test]
fn a_sweep_keeps_what_depends_on_pictures_and_weights() {
    let folder = folder();
    let search = ["--batch-inf", "4", "--b-relu", "1", "--b-max", "1", "--b-search", "0.5"];
    let sweep = [&["sweep"], &MINE[..], &search, &["--alpha", "13..14"]].concat();
    folder.succeed(&sweep);
    let rows = folder.json("sweep/sweep.json");
    for (row, alpha) in rows.as_array().unwrap().iter().zip(["13", "14"]) {
        let report = folder.report(&[&MINE[..], &search, &["--alpha", alpha]].concat());
        for (field, pointer) in [
            ("b_relu", "/b_relu"),
            ("b_max", "/b_max"),
            ("accuracy", "/approx/accuracy"),
            ("agreement", "/approx/agreement"),
            ("max_abs_logit_difference", "/approx/max_abs_logit_difference"),
        ] {
            assert_eq!(row.get(field), report.pointer(pointer), "{field}");
        }
        // 17 ReLUs; the tournament of a 3×3 window has 4 rounds and 8 maxima.
        let number = |field: &str| row[field].as_u64().unwrap();
        assert_eq!(number("network_depth"), (17 + 4) * number("relu_depth"));
        assert_eq!(number("network_multiplications"), (17 + 8) * number("relu_multiplications"));
    }
    let run = folder.succeed(&sweep);
    assert!(!run.stderr.contains("pass over"), "{}", run.stderr);
    // A picture with another size, and a crop of another size.
    let bytes = fs::read(repository("crates/approx-data/tests/preprocess/tall.png")).unwrap();
    folder.write("pictures/val/n15075141/small.png.JPEG", bytes);
    let run = folder.succeed(&sweep);
    assert_eq!(run.stderr.matches("pass over 6 images").count(), 3, "{}", run.stderr);
    let run = folder.succeed(&[&sweep[..], &["--image-size", "64", "--skip-corrupt"]].concat());
    assert_eq!(run.stderr.matches("pass over 6 images").count(), 3, "{}", run.stderr);
}

#[test]
fn a_calibrated_policy_bounds_max_pooling_too() {
    let folder = folder();
    let calibrate = [&["calibrate"], &MINE[..], &["--batch-inf", "4", "--alpha", "12", "--output", "p.json"]];
    folder.succeed(&calibrate.concat());
    let file = folder.json("p.json");
    let report = folder.report(&[&MINE[..], &["--batch-inf", "4", "--policy", "p.json"]].concat());
    assert_eq!(report["alpha"], 12);
    for (site, seen) in file["sites"].as_array().unwrap().iter().zip(report["sites"].as_array().unwrap()) {
        for field in ["name", "kind", "max_abs"] {
            assert_eq!(site[field], seen[field]);
        }
    }
    assert_eq!(file["sites"][1]["kind"], "max_pool");
    assert_eq!(report["b_max"], file["sites"][1]["bound"]);
    for field in ["accuracy", "agreement", "max_abs_logit_difference"] {
        assert_eq!(report["approx"][field], file["promise"][field], "{field}");
    }
}
