//! What a run comes to, and what it writes.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use approx_cli::inputs::load_weights;
use approx_data::{Normalization, Split, cifar10};
use approx_eval::policy_file::Promise;
use approx_eval::report::WeightsIdentity;
use approx_eval::{Comparison, Job, PolicyFile, exact_pass};
use approx_models::{ActivationPolicy, Backbone, Composition, Network, SitePolicy};
use candle_core::Device;
use minimax_coeffs::{Alpha, TableFile};

use support::{FILES, Folder, repository};

/// The columns of the history.
fn history(folder: &Folder, name: &str) -> Vec<Vec<f64>> {
    let csv = String::from_utf8(folder.read(name)).unwrap();
    let row = |line: &str| line.split(',').map(|value| value.parse().unwrap()).collect();
    csv.lines().skip(1).map(row).collect()
}

const TRAIN_LOSS: usize = 2;
const TRAIN_OUT_OF_RANGE: usize = 5;
const TEST_ACCURACY: usize = 7;
const TEST_OUT_OF_RANGE: usize = 8;

#[test]
fn a_network_learns_and_what_is_saved_is_what_was_measured() {
    let folder = Folder::new();
    let run = folder.succeed(&[
        "--params-name",
        "mine",
        "--dataset_path",
        "data",
        "--limit",
        "320",
        "--limit-test",
        "200",
        "--batch-size",
        "32",
        "--preset",
        "fast",
        "--epochs",
        "3",
        "--no-augment",
    ]);
    let history = history(&folder, "weights/cifar10/resnet20_mine.history.csv");
    assert_eq!(history.len(), 3);
    assert!(history[2][TRAIN_LOSS] < history[0][TRAIN_LOSS], "{history:?}");
    assert!(!run.stdout.contains('\x1b') && run.stderr.is_empty(), "{run:?}");
    for start in ["resnet20: 320 training and 200 test images", "epoch ", "1/3 ", "2/3 ", "3/3 "] {
        assert!(run.stdout.lines().any(|line| line.starts_with(start)), "{start}: {}", run.stdout);
    }

    let images = cifar10::load(folder.path("data"), Split::Test).unwrap().truncated(200);
    let (normalization, device) = (Normalization::CIFAR10, Device::Cpu);
    let job = Job { images: &images, normalization, batch_size: 200, device };
    let backbone = Backbone::find("cifar10", "resnet20").unwrap();
    let best = history.iter().map(|row| row[TEST_ACCURACY]).fold(0.0, f64::max);
    for (file, expected) in [(FILES[0], history[2][TEST_ACCURACY]), (FILES[1], best)] {
        let path = folder.path(&format!("weights/cifar10/{file}"));
        let (weights, _) = load_weights(&path, &Device::Cpu).unwrap();
        let network =
            Network::build(backbone.graph().unwrap(), &weights, &ActivationPolicy::exact()).unwrap();
        let pass = exact_pass(&job, &network, &()).unwrap();
        let accuracy = Comparison::new(&pass.logits, &pass.logits, &pass.labels).exact_accuracy;
        assert!((accuracy - expected).abs() < 1e-6, "{file}: {accuracy}, not {expected}");
    }
}

#[test]
fn fine_tuning_goes_through_the_approximation_and_counts_what_is_out_of_range() {
    let folder = Folder::small();
    let demo = repository("weights/demo/resnet20.safetensors");
    folder.write("weights/cifar10/resnet20_demo.safetensors", std::fs::read(&demo).unwrap());
    let run = |name: &str, init: &str, more: &[&str]| {
        let arguments = ["--params-name", name, "--dataset-path", "few", "--epochs", "1", "--lr", "1e-4"];
        let arguments = [&arguments[..], &["--batch-size", "10", "--init", init], more].concat();
        let run = folder.succeed(&arguments);
        let history = history(&folder, &format!("weights/cifar10/resnet20_{name}.history.csv"));
        (run, history[0].clone())
    };
    // A path is a file, and anything else a name.
    let (_, exact) = run("exact", "demo", &[]);
    let (_, same) = run("same", demo.to_str().unwrap(), &[]);
    assert_eq!(exact, same);
    // This network knows the images that it is trained with.
    assert!(exact[TRAIN_LOSS] < 1.5, "{exact:?}");

    let (_, fine) = run("fine", "demo", &["--approx", "alpha=14,b-relu=50"]);
    assert!((fine[TRAIN_LOSS] - exact[TRAIN_LOSS]).abs() < 0.01, "{fine:?} {exact:?}");
    assert_eq!([fine[TRAIN_OUT_OF_RANGE], fine[TEST_OUT_OF_RANGE]], [0.0, 0.0]);

    let (narrow, values) =
        run("narrow", "demo", &["--approx", "alpha=7,b-relu=3", "--range-penalty", "0.01"]);
    assert!(values[TRAIN_OUT_OF_RANGE] > 0.0 && values[TEST_OUT_OF_RANGE] > 0.0, "{values:?}");
    assert!(values[4] > 0.0, "{values:?}");
    // With what the weights did before.
    assert!(
        narrow.stdout.contains(" outside  in test\n") && narrow.stdout.contains("\n0/1 "),
        "{}",
        narrow.stdout
    );
}

/// A policy file for ResNet-20 with this bound for each ReLU by its site, but `last` for the last one.
fn policy_file(composition: &Arc<Composition>, bound: f64, last: f64) -> PolicyFile {
    let mut policy = ActivationPolicy::composite(composition, 50.0, 50.0);
    let blocks = (1..=3).flat_map(|layer| (0..3).map(move |block| format!("layer{layer}.{block}.")));
    let sites = blocks.flat_map(|block| [1, 2].map(|number| format!("{block}relu{number}")));
    for site in ["relu1".to_owned()].into_iter().chain(sites) {
        let bound = if site == "layer3.2.relu2" { last } else { bound };
        policy.sites.insert(site, SitePolicy::minimax(composition, bound));
    }
    let promise = Promise {
        dataset: "cifar10".to_owned(),
        split: "test".to_owned(),
        images: 1,
        exact_accuracy: 1.0,
        accuracy: 1.0,
        agreement: 1.0,
        chance: None,
        max_abs_logit_difference: None,
    };
    let weights = WeightsIdentity { file: "none".to_owned(), sha256: "none".to_owned() };
    PolicyFile::new("resnet20", weights, 1.0, promise, policy, Vec::new())
}

/// The checkpoint as it was when policies had a list of ReLUs.
fn as_version_1(checkpoint: &[u8]) -> Vec<u8> {
    const HEADER: &str = "approx-cnn training";
    let (_, metadata) = safetensors::SafeTensors::read_metadata(checkpoint).unwrap();
    let header = &metadata.metadata().as_ref().unwrap()[HEADER];
    let mut header: serde_json::Value = serde_json::from_str(header).unwrap();
    header["format"] = 1.into();
    let policy = header["recipe"]["policy"].as_object_mut().unwrap();
    let sites = policy.remove("sites").unwrap();
    policy.insert("relu_sites".to_owned(), sites);
    let file = safetensors::SafeTensors::deserialize(checkpoint).unwrap();
    let metadata = HashMap::from([(HEADER.to_owned(), header.to_string())]);
    safetensors::serialize(file.tensors(), Some(metadata)).unwrap()
}

#[test]
fn a_policy_file_trains_as_the_same_approximation_does_and_stays_with_the_run() {
    let folder = Folder::small();
    folder.write("weights/cifar10/resnet20_demo.safetensors", approx_data::demo::RESNET20);
    let published = Composition::published(Alpha::new(7).unwrap());
    let tables = TableFile::parse(include_str!("../../minimax-coeffs/tables/eta_1e-6.json")).unwrap();
    let generated = Composition::from_table(tables.relu(7).unwrap()).unwrap();
    assert_eq!(generated.alpha(), None);
    policy_file(&published, 3.0, 3.0).write(&folder.path("policy.json")).unwrap();
    policy_file(&generated, 3.0, 3.0).write(&folder.path("generated.json")).unwrap();
    policy_file(&published, 3.0, 2.0).write(&folder.path("other.json")).unwrap();
    let arguments = |name: &'static str| {
        [
            "--params-name",
            name,
            "--dataset-path",
            "few",
            "--epochs",
            "1",
            "--lr",
            "1e-4",
            "--batch-size",
            "10",
        ]
    };
    let run = |name, more: &[&str]| {
        folder
            .succeed(&[&arguments(name)[..], &["--init", "demo", "--range-penalty", "0.01"], more].concat());
        let bytes = folder.read(&format!("weights/cifar10/resnet20_{name}.safetensors"));
        // The header holds the recipe, too.
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> =
            file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
        tensors.sort();
        tensors
    };
    let expected = run("approx", &["--approx", "alpha=7,b-relu=3"]);
    assert!(run("policy", &["--policy", "policy.json"]) == expected);
    assert!(run("generated", &["--policy", "generated.json"]) != expected);
    assert!(run("other", &["--policy", "other.json"]) != expected);

    // The checkpoint has the policy, and the file may go.
    let refused = |more: &[&str], part: &str| {
        let run = folder.train(&[&["--params-name", "policy"], more].concat());
        assert!(matches!(run.code, Some(1 | 2)) && run.stderr.contains(part), "{more:?}: {}", run.stderr);
    };
    refused(&["--resume", "--policy", "other.json"], "but the --policy is another one");
    std::fs::remove_file(folder.path("policy.json")).unwrap();
    folder.succeed(&["--params-name", "policy", "--resume"]);
    // Its own polynomials are in the checkpoint, too.
    std::fs::remove_file(folder.path("generated.json")).unwrap();
    folder.succeed(&["--params-name", "generated", "--resume"]);
    refused(&["--resume", "--policy", "policy.json"], "policy.json: No such file");
    // So has one of the first version, which becomes one of today.
    let checkpoint = "weights/cifar10/resnet20_policy.checkpoint.safetensors";
    let today = folder.read(checkpoint);
    folder.write(checkpoint, as_version_1(&today));
    folder.succeed(&["--params-name", "policy", "--resume"]);
    assert!(folder.read(checkpoint) == today);
    refused(&["--policy", "other.json", "--approx", "alpha=7"], "cannot be used with");
    refused(
        &["--force", "--backbone", "resnet32", "--policy", "other.json"],
        "it is for resnet20, not for resnet32",
    );
}

#[test]
fn a_loss_that_is_not_finite_stops_before_it_ruins_the_weights() {
    let folder = Folder::small();
    let arguments = ["--params-name", "mine", "--dataset-path", "few", "--batch-size", "5", "--epochs", "5"];
    let run = folder.train(&[&arguments[..], &["--lr", "1e30"]].concat());
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    for part in [
        "error: epoch 1, batch 2: the loss is ",
        " at a learning rate of 1e30",
        "the last good checkpoint, of the beginning, is weights/cifar10/resnet20_mine.checkpoint.",
        "try a smaller --lr",
    ] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    // Only the checkpoint, and it is good.
    let files: Vec<_> = std::fs::read_dir(folder.path("weights/cifar10")).unwrap().flatten().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let resumed = folder.train(&["--params-name", "mine", "--resume"]);
    assert!(resumed.stderr.contains("epoch 1, batch 2: the loss is "), "{}", resumed.stderr);
}

#[test]
fn a_data_set_that_is_missing_is_fetched() {
    let folder = Folder::small();
    let arguments = ["--params-name", "mine", "--epochs", "1", "--batch-size", "20", "--from", "few"];
    let run = folder.succeed(&arguments);
    assert_eq!(run.stderr.matches("Missing: CIFAR-10 (Krizhevsky, 2009)").count(), 2, "{}", run.stderr);
    for part in ["train", "test"] {
        let file = format!("plain_text/{part}/0000.parquet");
        assert!(folder.read(&format!("datasets/cifar10/{file}")) == folder.read(&format!("few/{file}")));
    }
    let run = folder.succeed(&["--params-name", "other", "--epochs", "1", "--batch-size", "20"]);
    assert!(run.stderr.is_empty(), "{}", run.stderr);
}
