//! `infer mnist` and `infer fashion-mnist`: images of one channel through LeNet-5.

mod support;

use std::collections::HashMap;
use std::fs;

use candle_core::{Device, Tensor, safetensors};
use cnn_graph::reference::Reference;
use cnn_graph::zoo::Backbone;
use serde_json::json;

use support::{Folder, number};

/// Test and training images.
const COUNTS: [(&str, usize); 2] = [("t10k", 30), ("train", 45)];

/// Pixels that all differ from their neighbours.
fn pixels(count: usize) -> Vec<u8> {
    (0..count * 784).map(|i| ((i * 7 + i / 28 * 3 + i / 784 * 31) % 256) as u8).collect()
}

/// Files of MNIST's format.
fn write_images(folder: &Folder, place: &str) {
    for (part, count) in COUNTS {
        let header = |dims: &[usize]| {
            let dims_of = dims.iter().flat_map(|dim| (*dim as u32).to_be_bytes());
            [0, 0, 8, dims.len() as u8].into_iter().chain(dims_of).collect::<Vec<u8>>()
        };
        let labels: Vec<u8> = (0..count).map(|i| (i * 3 % 10) as u8).collect();
        let images = [header(&[count, 28, 28]), pixels(count)].concat();
        folder.write(&format!("{place}/{part}-images-idx3-ubyte"), images);
        folder.write(&format!("{place}/{part}-labels-idx1-ubyte"), [header(&[count]), labels].concat());
    }
}

/// Some numbers for a tensor, about as large as those of a network that has learned.
fn numbers(name: &str, shape: &[usize]) -> Vec<f32> {
    let fan_in: usize = shape.iter().skip(1).product();
    let scale = (3.0 / fan_in as f32).sqrt();
    let seed = name.bytes().fold(7u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let unit = |i: u32| (i.wrapping_add(seed).wrapping_mul(0x9e37_79b9) >> 8) as f32 / (1 << 24) as f32;
    (0..shape.iter().product::<usize>() as u32).map(|i| (2.0 * unit(i) - 1.0) * scale).collect()
}

/// Writes weights for LeNet-5.
fn write_weights(folder: &Folder, name: &str) {
    let graph = Backbone::find("mnist", "lenet5").unwrap().graph().unwrap();
    let tensors = graph.params().into_iter().map(|param| {
        let values = numbers(&param.name, &param.shape);
        (param.name, Tensor::from_vec(values, param.shape, &Device::Cpu).unwrap())
    });
    fs::create_dir_all(folder.path(name).parent().unwrap()).unwrap();
    safetensors::save(&tensors.collect::<HashMap<_, _>>(), folder.path(name)).unwrap();
}

/// Each data set with the folder of its files, and mean and standard deviation of its pixels.
const DATASETS: [(&str, &str, f64, f64); 2] =
    [("mnist", "MNIST/raw", 0.1307, 0.3081), ("fashion-mnist", "FashionMNIST/raw", 0.2860, 0.3530)];

#[test]
fn lenet5_is_evaluated_on_images_of_one_channel() {
    let folder = Folder::new();
    for (dataset, place, mean, std) in DATASETS {
        write_images(&folder, &format!("datasets/{dataset}/{place}"));
        write_weights(&folder, &format!("weights/{dataset}/lenet5_mine.safetensors"));
        let run = [dataset, "lenet5", "--batch-inf", "8"];
        let report = folder.report(&run);
        assert_eq!((&report["dataset"], &report["images"]), (&json!(dataset), &json!(30)));
        let sites: Vec<&str> =
            report["sites"].as_array().unwrap().iter().map(|site| site["name"].as_str().unwrap()).collect();
        assert_eq!(sites, ["relu1", "maxpool1", "relu2", "maxpool2", "relu3", "relu4"]);
        let logits = folder.logits(&run);
        assert!(logits.largest_difference() < 0.05, "{}", logits.largest_difference());

        // In float64, by the definitions.
        let graph = Backbone::find(dataset, "lenet5").unwrap().graph().unwrap();
        let reference = Reference::new(&graph, |param| numbers(&param.name, &param.shape));
        for (image, logits) in pixels(30).chunks(784).zip(logits.exact.chunks(10)) {
            let image: Vec<f64> = image.iter().map(|&p| (f64::from(p) / 255.0 - mean) / std).collect();
            let expected = reference.run(&image);
            let largest = expected.iter().fold(0f64, |max, x| max.max(x.abs()));
            for (found, expected) in logits.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-5 * largest, "{found}, not {expected}");
            }
        }

        // The same numbers, as the user's.
        let [mean, std] = [mean, std].map(|number| number.to_string());
        let own = folder.report(&[&run[..], &["--mean", &mean, "--std", &std]].concat());
        assert_eq!(support::without_times(own), support::without_times(report));
    }
}

#[test]
fn every_command_takes_mnist() {
    let folder = Folder::new();
    for (dataset, ..) in DATASETS {
        write_images(&folder, &format!("datasets/{dataset}"));
        write_weights(&folder, &format!("weights/{dataset}/lenet5_mine.safetensors"));
        let exact = folder.report(&[dataset])["exact"]["accuracy"].clone();

        folder.succeed(&["sweep", dataset, "--alpha", "12,13", "--output", dataset]);
        let rows = folder.json(&format!("{dataset}/sweep.json"));
        assert_eq!(rows.as_array().unwrap().len(), 2);
        assert_eq!(rows[1]["exact_accuracy"], exact);

        folder.succeed(&["calibrate", dataset, "--split", "train", "--output", "p.json"]);
        let promise = folder.json("p.json")["promise"].clone();
        assert_eq!((&promise["dataset"], &promise["images"]), (&json!(dataset), &json!(45)));
        let by_site = folder.report(&[dataset, "--policy", "p.json"]);
        assert!(number(&by_site["approx"]["agreement"]) > 0.9, "{by_site}");
        folder.succeed(&["tune", dataset, "--max-drop", "50%", "--alpha", "10..12", "--output", "t.json"]);
        assert_eq!(folder.json("t.json")["promise"]["dataset"], dataset);

        let params = format!("weights/{dataset}/lenet5_mine.safetensors");
        let table = folder.succeed(&["graph", dataset, "lenet5", "--params", &params, "--onnx", "l.onnx"]);
        assert!(table.stdout.contains(", 61706 parameters, 6 sites"), "{}", table.stdout);
        let data = ["onnx", "l.onnx", "--data", dataset];
        assert_eq!(folder.report(&data)["exact"]["accuracy"], exact);
        let [onnx, zoo] = [folder.logits(&data), folder.logits(&[dataset, "--batch-inf", "64"])];
        assert_eq!(onnx.exact, zoo.exact);
        assert_eq!(folder.succeed(&[dataset, "--list"]).stdout, "lenet5\n");
    }
}

#[test]
fn what_is_missing_or_does_not_fit_is_refused_with_what_would_do() {
    let folder = Folder::new();
    let refused = |arguments: &[&str], parts: &[&str]| {
        let run = folder.infer(arguments);
        assert_eq!(run.code, Some(1), "{arguments:?}: {}", run.stderr);
        for part in parts {
            assert!(run.stderr.contains(part), "{arguments:?}: `{part}` is not in {}", run.stderr);
        }
    };
    // Weights first: nothing has been fetched.
    refused(
        &["fashion-mnist", "--params-name", "first"],
        &[
            "there are no weights weights/fashion-mnist/lenet5_first.safetensors, .pt, .pth; there are none for lenet5",
            "`train --dataset fashion-mnist --backbone lenet5 --params-name first` makes them",
        ],
    );
    refused(&["mnist", "resnet20"], &["unknown backbone `resnet20` for mnist; known: lenet5"]);
    write_weights(&folder, "weights/mnist/lenet5_mine.safetensors");
    let mirror = Folder::new();
    mirror.write("t10k-images-idx3-ubyte.gz", "some other file");
    mirror.write("t10k-labels-idx1-ubyte.gz", "some other file");
    refused(
        &["mnist", "--from", &mirror.root()],
        &["has the wrong MD5: expected 9fb629c4189551a2d022fa330f9573f3"],
    );
    write_images(&folder, "data");
    let data = ["mnist", "--dataset-path", "data"];
    let three = ["--mean", "0.1,0.2,0.3", "--std", "0.5"];
    refused(&[&data[..], &three].concat(), &["--mean: 3 numbers, but the images have 1 channel(s)"]);
    let demo = support::demo_weights();
    refused(&[&data[..], &["--params", &demo]].concat(), &["resnet20.safetensors"]);
    refused(&["cifar10", "--dataset-path", "data", "--params", &demo], &["no CIFAR-10 test images here"]);
    let graph = ["graph", "cifar10", "resnet20", "--params", &demo, "--onnx", "r.onnx"];
    folder.succeed(&graph);
    refused(
        &["onnx", "r.onnx", "--data", "mnist", "--dataset-path", "data"],
        &["r takes images of [3, 32, 32], and these are of [1, 28, 28]"],
    );
    refused(&["graph", "emnist", "lenet5"], &["there are some for cifar10, imagenet, mnist, fashion-mnist"]);
}
