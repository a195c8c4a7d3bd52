//! Other data than CIFAR-10 and ImageNet: class counts, CIFAR-100, class folders, normalisation, training images.

mod support;

use std::collections::HashMap;
use std::fs;

use candle_core::{Device, Tensor, safetensors};
use serde_json::{Value, json};

use support::{Folder, demo_weights, number, repository, without_times};

const PIXELS: usize = 3072;

/// The demo's records: a label and pixels.
fn records() -> Vec<Vec<u8>> {
    let bytes = fs::read(repository("datasets/demo/test_batch_1000.bin")).unwrap();
    bytes.chunks(1 + PIXELS).map(<[u8]>::to_vec).collect()
}

/// The demo's ResNet-20 for `classes` classes: those after the tenth are never chosen.
fn weights_for(folder: &Folder, classes: usize) -> String {
    let mut tensors: HashMap<String, Tensor> = safetensors::load(demo_weights(), &Device::Cpu).unwrap();
    for (name, value) in [("linear.weight", 0f32), ("linear.bias", -100.0)] {
        let old = &tensors[name];
        let mut shape = old.dims().to_vec();
        shape[0] = classes - 10;
        let more = Tensor::full(value, shape, &Device::Cpu).unwrap();
        tensors.insert(name.to_owned(), Tensor::cat(&[old, &more], 0).unwrap());
    }
    let name = format!("resnet20_{classes}.safetensors");
    safetensors::save(&tensors, folder.path(&name)).unwrap();
    name
}

/// A picture of `size` pixels as a ppm file.
fn ppm(record: &[u8]) -> Vec<u8> {
    let mut file = b"P6 32 32 255\n".to_vec();
    file.extend((0..1024).flat_map(|pixel| (0..3).map(move |channel| record[1 + channel * 1024 + pixel])));
    file
}

/// The first `count` pictures of the demo in class folders, in `place`.
fn class_folders(folder: &Folder, place: &str, count: usize) {
    for (index, record) in records().iter().take(count).enumerate() {
        folder.write(&format!("{place}/class{}/{index:04}.ppm", record[0]), ppm(record));
    }
}

/// CIFAR-100's test file with the demo's pictures, whose fine labels are the demo's.
fn cifar100_file() -> Vec<u8> {
    let records: Vec<u8> = records().iter().flat_map(|record| [&[7][..], record].concat()).collect();
    records.repeat(10)
}

/// The arguments of a small run on CIFAR-10's test file, of which `data` has one.
fn on_cifar10<'a>(command: &[&'a str], params: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let data =
        ["cifar10", "--dataset-path", "data", "--params", params, "--limit", "64", "--batch-inf", "32"];
    [command, &data, more].concat()
}

/// What two runs on the same images must agree in. The last layer of another size adds up in another order, so logits
/// may differ in the last digits.
fn results(report: &Value) -> Value {
    let mut report = without_times(report.clone());
    for field in ["dataset", "weights"] {
        report.as_object_mut().unwrap().remove(field);
    }
    report["approx"].as_object_mut().unwrap().remove("max_abs_logit_difference");
    report
}

fn refused(folder: &Folder, arguments: &[&str], parts: &[&str]) {
    let run = folder.infer(arguments);
    assert!(matches!(run.code, Some(1 | 2)), "{arguments:?}: {:?} {}", run.code, run.stderr);
    assert!(!run.stderr.contains("panicked") && !run.stderr.contains("pass over"), "{}", run.stderr);
    for part in parts {
        assert!(run.stderr.contains(part), "{arguments:?}: `{part}` is not in {}", run.stderr);
    }
}

#[test]
fn cifar100_is_evaluated_swept_and_calibrated_with_a_hundred_classes() {
    let folder = Folder::new();
    folder.write("data/cifar-100-binary/test.bin", cifar100_file());
    folder.write("data/test_batch.bin", support::whole_batch());
    let (params, demo) = (weights_for(&folder, 100), demo_weights());
    let data =
        ["cifar100", "--dataset-path", "data", "--params", &params, "--limit", "64", "--batch-inf", "32"];
    // CIFAR-10's normalisation, which the weights were trained with.
    let channels = ["--mean", "0.4914,0.4822,0.4465", "--std", "0.2023,0.1994,0.2010"];
    let arguments = [&data[..], &channels].concat();
    let report = folder.report(&arguments);
    assert_eq!(report["dataset"], "cifar100");
    let ten = folder.report(&on_cifar10(&[], &demo, &[]));
    assert_eq!(results(&report), results(&ten));
    let logits = folder.logits(&arguments);
    assert_eq!(logits.classes, 100);
    // Its own normalisation gives other values.
    let own = folder.report(&data);
    assert_ne!(own["sites"], report["sites"]);

    folder.succeed(&[&["sweep"], &arguments[..], &["--alpha", "13"]].concat());
    let row = folder.json("sweep/sweep.json")[0].clone();
    assert_eq!(row["exact_accuracy"], report["exact"]["accuracy"]);
    folder.succeed(&[&["calibrate"], &arguments[..], &["--output", "p.json"]].concat());
    let policy = folder.json("p.json");
    assert_eq!(
        (&policy["promise"]["dataset"], &policy["promise"]["split"]),
        (&json!("cifar100"), &json!("test"))
    );
    assert_eq!(policy["promise"]["exact_accuracy"], report["exact"]["accuracy"]);
}

#[test]
fn class_folders_give_what_the_same_images_give_in_another_layout() {
    let folder = Folder::new();
    folder.write("data/test_batch.bin", support::whole_batch());
    class_folders(&folder, "pictures/val", 64);
    let demo = demo_weights();
    let data = ["images", "resnet20", "--dataset-path", "pictures", "--params", &demo, "--batch-inf", "32"];
    let report = folder.report(&data);
    let ten = folder.report(&on_cifar10(&[], &demo, &[]));
    // In another order, so that the last digits of nothing but sums may differ.
    assert_eq!((&report["dataset"], &report["images"]), (&json!("images"), &json!(64)));
    assert_eq!(report["exact"]["accuracy"], ten["exact"]["accuracy"]);
    assert_eq!(report["sites"][0], ten["sites"][0]);

    folder.succeed(&[&["sweep"], &data[..], &["--alpha", "14"]].concat());
    assert_eq!(folder.json("sweep/sweep.json")[0]["exact_accuracy"], report["exact"]["accuracy"]);
    folder.succeed(&[&["calibrate"], &data[..], &["--output", "p.json"]].concat());
    assert_eq!(folder.json("p.json")["promise"]["exact_accuracy"], report["exact"]["accuracy"]);
    // Networks that take the average of all pixels take other sizes.
    let larger = folder.report(&[&data[..], &["--image-size", "48", "--limit", "10"]].concat());
    assert_eq!(larger["images"], 10);
    assert_ne!(larger["sites"], report["sites"]);
}

#[test]
fn bounds_are_calibrated_on_training_images_and_the_policy_says_so() {
    let folder = Folder::new();
    class_folders(&folder, "pictures/val", 64);
    for (index, record) in records().iter().enumerate().skip(500).take(40) {
        folder.write(&format!("pictures/train/class{}/{index}.ppm", record[0]), ppm(record));
    }
    let demo = demo_weights();
    let arguments =
        ["calibrate", "images", "--dataset-path", "pictures", "--params", &demo, "--output", "p.json"];
    for (split, named, images) in [("train", "train", 40), ("validation", "test", 64)] {
        folder.succeed(&[&arguments[..], &["--split", split]].concat());
        let promise = folder.json("p.json")["promise"].clone();
        assert_eq!((&promise["split"], &promise["images"]), (&json!(named), &json!(images)));
    }
    refused(&folder, &[&arguments[..], &["--split", "half"]].concat(), &["'half' for '--split"]);
}

#[test]
fn a_sweep_keeps_results_apart_by_their_normalisation() {
    let folder = Folder::new();
    folder.write("data/test_batch.bin", support::whole_batch());
    let demo = demo_weights();
    let sweep = |more: &[&str]| {
        let run = folder.succeed(&on_cifar10(&["sweep"], &demo, &[&["--alpha", "14"], more].concat()));
        (folder.json("sweep/sweep.json")[0].clone(), run.stderr.contains("pass over"))
    };
    let (first, computed) = sweep(&[]);
    assert!(computed);
    let (second, computed) = sweep(&["--mean", "0.5", "--std", "0.25,0.25,0.25"]);
    assert!(computed);
    assert_ne!(first["max_abs_logit_difference"], second["max_abs_logit_difference"]);
    let (again, computed) = sweep(&["--mean", "0.4914,0.4822,0.4465", "--std", "0.2023,0.1994,0.2010"]);
    assert!(!computed, "the same numbers, whoever gives them");
    assert_eq!(again, first);
    assert!(number(&first["agreement"]) > 0.9);
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let folder = Folder::new();
    folder.write("data/test_batch.bin", support::whole_batch());
    folder.write("hundred/test.bin", cifar100_file());
    class_folders(&folder, "pictures", 20);
    let (hundred, twelve, demo) = (weights_for(&folder, 100), weights_for(&folder, 12), demo_weights());
    let ten = "resnet20_100.safetensors: the weights are for 100 classes, not for 10; give --classes 100";
    for command in [&[][..], &["sweep"], &["calibrate"]] {
        let output: &[&str] = if command == ["calibrate"] { &["--output", "p.json"] } else { &[] };
        refused(&folder, &on_cifar10(command, &hundred, output), &[ten]);
        let normal = |option, value| on_cifar10(command, &demo, &[&[option, value], output].concat());
        for (option, value, parts) in [
            ("--classes", "0", &["'0' for '--classes", "must be from 1 to 65536"][..]),
            ("--classes", "65537", &["must be from 1 to 65536"]),
            ("--classes", "5", &["--classes 5: the images are of 10 classes"]),
            ("--classes", "11", &["weights are for 10 classes, not for 11; give --classes 10"]),
            ("--mean", "0.5", &["--std <R,G,B>"]),
            ("--std", "0.5", &["--mean <R,G,B>"]),
        ] {
            refused(&folder, &normal(option, value), parts);
        }
        for (mean, std, part) in [
            ("123.675,116.28,103.53", "0.2", "from 0 to 1, the scale of the pixels, not 123.675"),
            ("-0.1", "0.2", "not -0.1"),
            ("NaN", "0.2", "not NaN"),
            ("0.1,0.2", "0.2", "2 numbers, not one or three"),
            ("a", "0.2", "not numbers, as 0.5,0.5,0.5"),
            ("0.5", "0", "a standard deviation must be positive and finite, not 0.0"),
            ("0.5", "0.2,-1,0.2", "not -1.0"),
            ("0.5", "inf", "not inf"),
            ("0.5", "1e-40", "positive and finite"),
        ] {
            let arguments = on_cifar10(command, &demo, &[&["--mean", mean, "--std", std], output].concat());
            refused(&folder, &arguments, &[part]);
        }
    }
    folder.write("flat/1.ppm", ppm(&records()[0]));
    let images =
        |more: &[&'static str]| [&["images"], more, &["--dataset-path", "pictures", "--params"]].concat();
    for (arguments, params, parts) in [
        (vec!["images", "--params"], &demo, &["--dataset-path DIR is missing"][..]),
        (
            vec!["images", "--dataset-path", "flat", "--params"],
            &demo,
            &["no class folders with test images here"],
        ),
        (images(&[]), &twelve, &["the weights are for 12 classes, not for 8; give --classes 12"]),
        (
            images(&["vgg16bn"]),
            &demo,
            &["more than one `vgg16bn`: write cifar10/vgg16bn or imagenet/vgg16bn"],
        ),
        (images(&["resnet21"]), &demo, &["unknown backbone `resnet21`", "cifar10/vgg11bn, "]),
        (
            images(&["cifar10/vgg16bn", "--image-size", "31"]),
            &demo,
            &["vgg16bn takes images of at least 32×32 pixels, not 31×31"],
        ),
        (images(&["inception_v3", "--image-size", "74"]), &demo, &["at least 75×75 pixels, not 74×74"]),
        (vec!["cifar10", "--dataset-path", "hundred", "--params"], &demo, &["what is here is CIFAR-100"]),
        (vec!["cifar100", "--dataset-path", "data", "--params"], &hundred, &["what is here is CIFAR-10"]),
        (
            vec!["cifar100", "--dataset-path", "hundred", "--params"],
            &demo,
            &["the weights are for 10 classes, not for 100; the images are of 100"],
        ),
    ] {
        refused(&folder, &[&arguments[..], &[params]].concat(), parts);
    }
    refused(
        &folder,
        &["sweep", "images", "resnet20,resnet18", "--dataset-path", "pictures"],
        &["resnet20 is one of cifar10's networks and resnet18 one of imagenet's"],
    );
    refused(
        &folder,
        &["images", "--dataset-path", "pictures"],
        &[
            "there are no weights weights/images/resnet20_mine.safetensors, .pt, .pth",
            "--params names a file",
        ],
    );
}

#[test]
fn missing_images_of_cifar100_are_fetched_from_a_mirror() {
    let (folder, mirror) = (Folder::new(), Folder::new());
    mirror.write("test.bin", cifar100_file());
    let params = weights_for(&folder, 100);
    folder.succeed(&["cifar100", "--params", &params, "--limit", "20", "--from", &mirror.root()]);
    assert!(folder.path("datasets/cifar100/cifar-100-binary/test.bin").exists());
}
