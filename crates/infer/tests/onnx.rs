//! Networks from ONNX files, and `infer graph`.

mod support;

use std::fs;

use serde_json::Value;
use support::{Folder, demo_weights, repository, utf8, without_times};

/// A file of cnn-onnx's tests.
fn fixture(name: &str) -> String {
    utf8(&repository(&format!("crates/cnn-onnx/tests/fixtures/{name}")))
}

/// The demo's ResNet-20 as `resnet20.onnx` in the folder.
fn demo_as_onnx(folder: &Folder) {
    let weights = demo_weights();
    folder.succeed(&["graph", "cifar10", "resnet20", "--params", &weights, "--onnx", "resnet20.onnx"]);
}

/// A report without what names the files, or is a matter of time.
fn results(report: Value) -> Value {
    let mut report = without_times(report);
    report.as_object_mut().unwrap().remove("weights");
    report
}

#[test]
fn a_backbone_that_was_exported_gives_the_same_report_to_the_last_digit() {
    let folder = Folder::new();
    demo_as_onnx(&folder);
    let shared = ["--limit", "96", "--batch-inf", "64", "--b-relu", "5", "--b-search", "5"];
    let on = ["onnx", "resnet20.onnx", "--data", "demo", "--alpha", "10", "--b-max", "5"];
    let from_file = folder.report(&[&on[..], &shared].concat());
    let embedded = folder.report(&[&["demo", "--alpha", "10"], &shared[..]].concat());
    assert_eq!(results(from_file), results(embedded));
}

#[test]
fn every_command_takes_a_file() {
    let folder = Folder::new();
    demo_as_onnx(&folder);
    let on = ["onnx", "resnet20.onnx", "--data", "demo", "--limit", "32", "--batch-inf", "32"];
    folder.succeed(&[&["sweep"], &on[..], &["--alpha", "9..10", "--output", "table"]].concat());
    let table = folder.json("table/sweep.json");
    assert_eq!(table[1]["backbone"], "resnet20");
    assert_eq!(table[1]["network_depth"], 19 * 11);
    folder.succeed(&[&["calibrate"], &on[..], &["--output", "policy.json"]].concat());
    let report = folder.report(&[&on[..], &["--policy", "policy.json"]].concat());
    assert_eq!(report["approx"]["agreement"], 1.0);
    let goal =
        ["--alpha", "9,14", "--max-drop", "5%", "--sensitivity-images", "16", "--output", "tuned.json"];
    folder.succeed(&[&["tune"], &on[..], &goal].concat());
    assert_eq!(folder.json("tuned.json")["backbone"], "resnet20");
}

#[test]
fn a_network_that_does_not_fit_is_refused_with_both_numbers() {
    let folder = Folder::new();
    demo_as_onnx(&folder);
    folder.write("pictures/cat/1.ppm", "P6 1 1 255\nabc");
    folder.write("text.onnx", "this is no network");
    let net = fixture("net_legacy20.onnx");
    let transformer = fixture("attention_legacy17.onnx");
    for (arguments, parts) in [
        (
            &["onnx", "resnet20.onnx", "--dataset-path", "pictures"][..],
            &["resnet20 gives [10] numbers", "1 classes"][..],
        ),
        (
            &["onnx", "resnet20.onnx", "--data", "demo", "--classes", "12"],
            &["gives [10] numbers", "--classes"],
        ),
        (&["onnx", &net, "--data", "demo"], &["takes images of [", "[3, 32, 32]"]),
        (&["onnx", "missing.onnx", "--data", "demo"], &["missing.onnx", "No such file"]),
        (&["onnx", "text.onnx", "--data", "demo"], &["text.onnx", "not an ONNX file"]),
        (&["onnx", &transformer, "--data", "demo"], &["attention_legacy17.onnx", "Softmax"]),
        (
            &["onnx", "resnet20.onnx", "--data", "demo", "--params", "w.pt"],
            &["--params w.pt", "in the file itself"],
        ),
        (&["onnx", "--list"], &["MODEL.onnx"]),
        (&["onnx", "resnet20.onnx"], &["--dataset-path"]),
        (&["sweep", "onnx", "--all", "x.onnx"], &["--all"]),
        (&["graph", "cifar10"], &["which backbone of cifar10", "resnet20"]),
        (&["graph", "cifar11", "resnet20"], &["`cifar11` has no backbones"]),
        (&["graph", "cifar10", "resnet18"], &["unknown backbone `resnet18`"]),
        (&["graph", "cifar10", "vgg11bn", "--image-size", "31"], &["features.28", "does not fit into 1"]),
        (&["graph", "cifar10", "resnet20", "--onnx", "out.onnx"], &["--params"]),
    ] {
        let run = folder.infer(arguments);
        assert!(matches!(run.code, Some(1 | 2)), "{arguments:?}: {:?} {}", run.code, run.stderr);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        for part in parts {
            assert!(run.stderr.contains(part), "{arguments:?}: `{part}` is not in {}", run.stderr);
        }
    }
    assert!(!folder.path("out.onnx").exists());
}

#[test]
fn a_graph_is_a_table_a_picture_and_a_file() {
    let folder = Folder::new();
    let run = folder.succeed(&[
        "graph",
        "imagenet",
        "googlenet",
        "--dot",
        "g.dot",
        "--svg",
        "g.svg",
        "--alpha",
        "9",
    ]);
    let row = run.stdout.lines().find(|line| line.starts_with("inception3a.branch4.0 ")).unwrap();
    for part in ["max-pool 3×3 /1 pad 1 ceil", "[192, 28, 28]", "maxpool2"] {
        assert!(row.contains(part), "{row}");
    }
    // Alpha 9 has 9 levels: 41 ReLUs and, each with 4 signs in sequence, poolings on the longest path.
    let last = run.stdout.lines().rev().find(|line| line.contains("net depth")).unwrap();
    assert!(last.contains("70 sites") && last.ends_with("levels at alpha 9"), "{last}");
    assert!(fs::read_to_string(folder.path("g.dot")).unwrap().starts_with("digraph network {"));
    let svg = fs::read_to_string(folder.path("g.svg")).unwrap();
    roxmltree::Document::parse(&svg).unwrap();

    let from_file = folder.succeed(&["graph", &fixture("residual_dynamo18.onnx")]);
    assert!(from_file.stdout.contains("conv 3×3"), "{}", from_file.stdout);
}

#[test]
fn levels_are_those_of_each_function_on_its_range() {
    let (folder, file) = (Folder::new(), fixture("net_dynamo18.onnx"));
    let table = |options: &[&str]| folder.succeed(&[&["graph", &file], options].concat()).stdout;
    let levels = |table: &str, operation: &str| -> String {
        let row = table.lines().find(|line| line.contains(&format!("  {operation}  "))).unwrap();
        row.split_whitespace().rev().nth(1).unwrap().to_owned()
    };
    let text = table(&["--alpha", "9"]);
    // Hard-swish multiplies a sum of ReLUs by x. A clip whose ends are outside of the range is none.
    for (operation, expected) in [("relu", "9"), ("relu6", "9"), ("hard_swish", "10"), ("sigmoid", "7")] {
        assert_eq!(levels(&text, operation), expected, "{operation}: {text}");
    }
    assert_eq!(levels(&table(&["--alpha", "9", "--bound", "4"]), "sigmoid"), "3");
    // Where no polynomial is that good, the table says so and goes on.
    let text = table(&[]);
    assert_eq!(levels(&text, "tanh"), "?");
    assert!(text.contains("net depth at least "), "{text}");
    assert!(
        text.contains("\ntanh: tanh on [-50, 50] with 14 bits takes a polynomial of a degree above"),
        "{text}"
    );
}
