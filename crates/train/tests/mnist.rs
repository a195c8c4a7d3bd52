//! LeNet-5 on images of one channel.

mod support;

use approx_cli::inputs::load_weights;
use approx_data::{Normalization, Split, fashion_mnist, mnist};
use approx_eval::{Comparison, Job, exact_pass};
use approx_models::{ActivationPolicy, Backbone, Network};
use candle_core::Device;

use support::Folder;

/// Files of MNIST's format: a bright square on a noisy ground, whose place is the class.
fn write_images(folder: &Folder, place: &str) {
    for (part, count, seed) in [("train", 400_u32, 1_u32), ("t10k", 100, 2)] {
        let header = |dims: &[u32]| {
            let dims_of = dims.iter().flat_map(|dim| dim.to_be_bytes());
            [0, 0, 8, dims.len() as u8].into_iter().chain(dims_of).collect::<Vec<u8>>()
        };
        let class = |i: u32| i * 7 % 10;
        let pixel = |i: u32, y: u32, x: u32| {
            let (top, left) = (4 + class(i) / 4 * 7, 3 + class(i) % 4 * 6);
            let inside = (top..top + 6).contains(&y) && (left..left + 5).contains(&x);
            let noise = ((i * 784 + y * 28 + x) ^ (seed << 20)).wrapping_mul(0x9e37_79b9) >> 26;
            (if inside { 190 } else { 0 } + noise) as u8
        };
        let pixels = (0..count).flat_map(|i| (0..28).flat_map(move |y| (0..28).map(move |x| pixel(i, y, x))));
        let images = [header(&[count, 28, 28]), pixels.collect()].concat();
        let labels = (0..count).map(|i| class(i) as u8).collect();
        folder.write(&format!("{place}/{part}-images-idx3-ubyte"), images);
        folder.write(&format!("{place}/{part}-labels-idx1-ubyte"), [header(&[count]), labels].concat());
    }
}

#[test]
fn lenet5_learns_and_what_is_saved_is_what_was_measured() {
    let folder = Folder::small();
    for (dataset, place, normalization) in [
        ("mnist", "MNIST/raw", Normalization::MNIST),
        ("fashion-mnist", "FashionMNIST/raw", Normalization::FASHION_MNIST),
    ] {
        write_images(&folder, &format!("datasets/{dataset}/{place}"));
        let run = ["--dataset", dataset, "--params-name", "mine", "--preset", "fast", "--epochs", "4"];
        // The place is the class, so no mirror images.
        let run = folder.succeed(&[&run[..], &["--batch-size", "16", "--no-flip"]].concat());
        assert!(run.stdout.contains("lenet5: 400 training and 100 test images"), "{}", run.stdout);
        let stem = format!("weights/{dataset}/lenet5_mine");
        let history = String::from_utf8(folder.read(&format!("{stem}.history.csv"))).unwrap();
        let row = |line: &str| line.split(',').map(|value| value.parse().unwrap()).collect::<Vec<f64>>();
        let last = row(history.lines().last().unwrap());
        assert!(last[7] > 0.9, "{history}");
        let picture = String::from_utf8(folder.read(&format!("{stem}.svg"))).unwrap();
        assert!(
            picture.contains(&format!("lenet5 on {}", place.split('/').next().unwrap().replace("nM", "n-M")))
        );

        let images = match dataset {
            "mnist" => mnist::load(folder.path("datasets/mnist"), Split::Test),
            _ => fashion_mnist::load(folder.path("datasets/fashion-mnist"), Split::Test),
        };
        let images = images.unwrap();
        let job = Job { images: &images, normalization, batch_size: 64, device: Device::Cpu };
        let (weights, _) = load_weights(&folder.path(&format!("{stem}.safetensors")), &Device::Cpu).unwrap();
        let graph = Backbone::find(dataset, "lenet5").unwrap().graph().unwrap();
        let network = Network::build(graph, &weights, &ActivationPolicy::exact()).unwrap();
        let pass = exact_pass(&job, &network, &()).unwrap();
        let accuracy = Comparison::new(&pass.logits, &pass.logits, &pass.labels).exact_accuracy;
        assert!((accuracy - last[7]).abs() < 1e-6, "{accuracy}, not {}", last[7]);
    }
}

#[test]
fn a_run_on_mnist_goes_on_through_the_approximation_and_after_it_was_stopped() {
    let folder = Folder::small();
    write_images(&folder, "datasets/mnist");
    let arguments = |output, epochs, more: &[&'static str]| {
        let run = ["--dataset", "mnist", "--params-name", "mine", "--limit", "60", "--limit-test", "20"];
        let numbers = ["--batch-size", "20", "--lr", "0.01", "--epochs", epochs, "--output", output];
        [&run[..], &numbers, more].concat()
    };
    folder.succeed(&arguments("whole", "2", &[]));
    folder.succeed(&arguments("longer", "1", &[]));
    folder.succeed(&arguments("longer", "2", &["--resume"]));
    let file = "lenet5_mine.checkpoint.safetensors";
    assert!(folder.read(&format!("whole/{file}")) == folder.read(&format!("longer/{file}")));
    // Another data set has other files, and a checkpoint knows its own.
    let resumed = folder.train(&[
        "--dataset",
        "fashion-mnist",
        "--params-name",
        "mine",
        "--output",
        "whole",
        "--resume",
    ]);
    assert_eq!(resumed.code, Some(1));
    assert!(
        resumed.stderr.contains("--dataset fashion-mnist (the checkpoint has mnist)"),
        "{}",
        resumed.stderr
    );

    let fine = ["--init", "whole/lenet5_mine.safetensors", "--approx", "alpha=8,b-relu=20,b-max=20"];
    let run = folder.succeed(&arguments("fine", "1", &fine));
    assert!(run.stdout.contains("\n0/1 "), "{}", run.stdout);
    let refused = folder.train(&["--dataset", "mnist", "--backbone", "resnet20", "--params-name", "mine"]);
    assert!(
        refused.stderr.contains("unknown backbone `resnet20` for mnist; known: lenet5"),
        "{}",
        refused.stderr
    );
}
