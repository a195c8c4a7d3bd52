//! `infer cifar10`: layouts of the data, spellings of the options, methods, what is printed where.

mod support;

use std::fs;

use serde_json::{Value, json};

use support::{Folder, RECORD, demo_weights, hub_folder, number, whole_batch, without_times};

/// A folder in which `--params-name demo` finds the demo's weights.
fn folder_with_weights() -> Folder {
    let folder = Folder::new();
    folder.write("weights/cifar10/resnet20_demo.safetensors", fs::read(demo_weights()).unwrap());
    folder
}

#[test]
fn the_references_spellings_give_the_same_report() {
    let folder = folder_with_weights();
    let hub = hub_folder();
    let report = |arguments: &[&str]| without_times(folder.report(&[&["cifar10"], arguments].concat()));
    let expected = report(&[
        "resnet20",
        "--b-relu",
        "20",
        "--b-max",
        "20",
        "--b-search",
        "5",
        "--approx-method",
        "proposed",
        "--batch-inf",
        "8",
        "--dataset-path",
        &hub,
        "--params-name",
        "demo",
    ]);
    for (field, value) in [
        ("/dataset", json!("cifar10")),
        ("/backbone", json!("resnet20")),
        ("/alpha", json!(14)),
        ("/images", json!(20)),
        ("/batch_size", json!(8)),
        ("/b_relu", json!(20.0)),
        ("/b_max", json!(20.0)),
        ("/weights/file", json!("weights/cifar10/resnet20_demo.safetensors")),
    ] {
        assert_eq!(expected.pointer(field), Some(&value), "{field}");
    }
    assert_eq!(
        report(&[
            "--backbone",
            "resnet20",
            "--B_relu",
            "20",
            "--B_max",
            "20",
            "--B_search",
            "5",
            "--approx_method",
            "proposed",
            "--batch_inf",
            "8",
            "--dataset_path",
            &hub,
            "--params_name",
            "demo",
            "--mode",
            "inf",
        ]),
        expected
    );
    let weights = demo_weights();
    let mut by_path =
        report(&["--params", &weights, "--dataset-path", &hub, "--b-relu=20", "--b-max=20", "--batch-inf=8"]);
    assert_eq!(by_path["weights"]["file"], weights.as_str());
    by_path["weights"]["file"] = expected["weights"]["file"].clone();
    assert_eq!(by_path, expected);
}

#[test]
fn every_layout_of_the_same_images_gives_the_demos_logits() {
    let expected = Folder::new().logits(&["demo", "--alpha", "14", "--b-relu", "50", "--limit", "20"]);
    let batch = whole_batch();
    let parquet = fs::read(format!("{}/plain_text/test/0000.parquet", hub_folder())).unwrap();
    for (file, contents) in [
        ("test_batch.bin", &batch),
        ("cifar-10-batches-bin/test_batch.bin", &batch),
        ("plain_text/test/0000.parquet", &parquet),
        ("plain_text/test-00000-of-00001.parquet", &parquet),
    ] {
        let folder = folder_with_weights();
        folder.write(&format!("images/{file}"), contents);
        folder.write(&format!("datasets/cifar10/{file}"), contents);
        let arguments = ["cifar10", "--params-name", "demo", "--limit", "20"];
        for location in [&["--dataset-path", "images"][..], &[]] {
            let logits = folder.logits(&[&arguments[..], location].concat());
            assert_eq!(logits, expected, "{file} {location:?}");
        }
    }
}

#[test]
fn a_limit_above_the_number_of_images_is_no_error() {
    let folder = folder_with_weights();
    let hub = hub_folder();
    for (limit, images) in [("1", 1), ("19", 19), ("20", 20), ("10000", 20)] {
        let report =
            folder.report(&["cifar10", "--params-name", "demo", "--dataset-path", &hub, "--limit", limit]);
        assert_eq!(report["images"], images);
    }
}

#[test]
fn the_other_methods_have_no_precision_and_no_bounds() {
    let folder = folder_with_weights();
    let hub = hub_folder();
    for method in ["square", "relu_aq"] {
        let report = folder.report(&[
            "cifar10",
            "--params-name",
            "demo",
            "--dataset-path",
            &hub,
            "--approx-method",
            method,
        ]);
        assert_eq!(report["method"], method);
        for field in ["alpha", "degrees", "depth", "non_scalar_multiplications", "b_relu", "b_max"] {
            assert_eq!(report[field], Value::Null, "{method}: {field}");
        }
        // This network was not trained for them.
        assert!(number(&report["approx"]["accuracy"]) < number(&report["exact"]["accuracy"]));
        assert!(number(&report["approx"]["non_finite_images"]) > 0.0);
        assert_eq!(report["approx"]["max_abs_logit_difference"], Value::Null);
    }
}

#[test]
fn piped_output_is_results_on_stdout_and_plain_lines_on_stderr() {
    let folder = folder_with_weights();
    let hub = hub_folder();
    let cifar10 = ["cifar10", "--params-name", "demo", "--dataset-path", &hub];
    // No value of these images leaves [-20, 20].
    let demo = ["demo", "--limit", "20", "--b-relu", "20"];
    let pass = |name: &str| format!("{name} pass over 20 images\n");
    for (arguments, passes, results) in [
        (&cifar10[..], 1, &["resnet20 on", "exact ", "approximate ", "agreement ", "B_relu "][..]),
        (&demo, 7, &["resnet20 on", "exact accuracy", "alpha ", "depth, mults", "agreement: "]),
    ] {
        let run = folder.succeed(arguments);
        assert_eq!(run.stderr, pass("exact") + &pass("approximate").repeat(passes));
        assert!(!run.stdout.contains(['\x1b', '\r']) && !run.stdout.contains(" pass over"), "{}", run.stdout);
        for start in results {
            assert!(run.stdout.lines().any(|line| line.starts_with(start)), "{start}: {}", run.stdout);
        }
        assert!(run.stdout.ends_with('\n'));
    }
    // With a range to widen, and with a log.
    for (arguments, line) in [
        (&["demo", "--alpha", "6", "--limit", "20"][..], "widened to 30: layer"),
        (&["demo", "--alpha", "6", "--limit", "20", "-v"], " INFO "),
        (&["demo", "--alpha", "6", "--limit", "20", "-vv"], "DEBUG "),
    ] {
        let run = folder.succeed(arguments);
        for output in [&run.stdout, &run.stderr] {
            assert!(!output.contains(['\x1b', '\r']), "{arguments:?}: {output}");
        }
        assert!(run.stderr.lines().any(|found| found.starts_with(line)), "{arguments:?}: {}", run.stderr);
        assert!(!run.stdout.contains("widened"), "{arguments:?}: {}", run.stdout);
    }
}

#[test]
fn an_output_that_exists_is_replaced_only_by_a_run_that_succeeds() {
    let folder = folder_with_weights();
    let hub = hub_folder();
    let arguments =
        ["cifar10", "--params-name", "demo", "--dataset-path", &hub, "--report", "r.json", "--logits", "l"];
    folder.write("r.json", "old");
    folder.write("l", "old");
    let run = folder.infer(&[&arguments[..], &["--b-relu", "5", "--b-search", "0"]].concat());
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    for name in ["r.json", "l"] {
        assert_eq!(fs::read_to_string(folder.path(name)).unwrap(), "old");
    }
    folder.succeed(&arguments);
    assert_eq!(folder.json("r.json")["images"], 20);
    assert_eq!(support::Logits::read(&folder.path("l")).labels.len(), 20);
}

#[test]
fn labels_are_those_of_the_file() {
    let batch = whole_batch();
    let folder = folder_with_weights();
    folder.write("images/test_batch.bin", &batch);
    let logits =
        folder.logits(&["cifar10", "--params-name", "demo", "--dataset-path", "images", "--limit", "30"]);
    let expected: Vec<i64> = batch.chunks(RECORD).take(30).map(|record| i64::from(record[0])).collect();
    assert_eq!(logits.labels, expected);
}

#[test]
fn the_help_names_the_commands_and_hides_the_references_spellings() {
    let folder = Folder::new();
    let help = folder.succeed(&["--help"]).stdout;
    assert!(help.contains("cifar10") && help.contains("demo"), "{help}");
    let help = folder.succeed(&["cifar10", "--help"]).stdout;
    for option in ["--alpha", "--b-relu", "--b-max", "--b-search", "--params-name", "--from", "--report"] {
        assert!(help.contains(option), "{option}: {help}");
    }
    for option in ["--B_relu", "--mode", "--backbone", "--batch_inf"] {
        assert!(!help.contains(option), "{option}: {help}");
    }
}
