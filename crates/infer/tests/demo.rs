//! `infer demo`: the table, one precision in full, the published accuracies.

mod support;

use approx_eval::output::sha256_of_file;
use serde_json::{Value, json};

use support::{Folder, Logits, demo_weights, number};

#[test]
fn the_table_has_a_row_for_each_precision_from_8_to_14() {
    let folder = Folder::new();
    let run = folder.succeed(&["demo", "--limit", "64", "--report", "all.json"]);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines[0], "resnet20 on demo: 64 images, weights/demo/resnet20.safetensors");
    assert!(lines[1].starts_with("exact accuracy "), "{}", lines[1]);
    assert!(lines[3].starts_with("alpha  degrees "), "{}", lines[3]);
    let reports = folder.json("all.json");
    let reports = reports.as_array().unwrap();
    assert_eq!(reports.len(), 7);
    for ((row, report), alpha) in lines[4..11].iter().zip(reports).zip(8..) {
        assert_eq!((&report["alpha"], &report["images"]), (&json!(alpha), &json!(64)));
        let degrees: Vec<String> =
            report["degrees"].as_array().unwrap().iter().map(Value::to_string).collect();
        let expected = format!(
            "{alpha} {} {} {} {} {:.2} % {:.2} % {:.3} {:.1}",
            degrees.join(", "),
            report["depth"],
            report["non_scalar_multiplications"],
            number(&report["b_relu"]),
            100.0 * number(&report["approx"]["accuracy"]),
            100.0 * number(&report["approx"]["agreement"]),
            number(&report["approx"]["max_abs_logit_difference"]),
            number(&report["approx"]["images_per_second"]),
        );
        assert_eq!(row.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    }
    assert!(lines[11].is_empty() && lines[12].starts_with("depth, mults: "), "{}", run.stdout);
    assert_eq!(lines.last(), Some(&"report       all.json"));
}

#[test]
fn the_report_has_every_field_and_agrees_with_the_logits() {
    let folder = Folder::new();
    let run = folder.succeed(&[
        "demo",
        "--alpha",
        "14",
        "--report",
        "r.json",
        "--logits",
        "l.safetensors",
        "--limit",
        "100",
    ]);
    assert!(run.stdout.ends_with("report       r.json\nlogits       l.safetensors\n"), "{}", run.stdout);
    assert_eq!(folder.tree(), ["l.safetensors", "r.json"]);
    let (report, logits) = (folder.json("r.json"), Logits::read(&folder.path("l.safetensors")));

    for (field, expected) in [
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
        ("/dataset", json!("demo")),
        ("/backbone", json!("resnet20")),
        ("/method", json!("proposed")),
        ("/alpha", json!(14)),
        ("/degrees", json!([15, 27, 29])),
        ("/depth", json!(15)),
        ("/non_scalar_multiplications", json!(30)),
        ("/images", json!(100)),
        ("/batch_size", json!(128)),
        ("/approx/non_finite_images", json!(0)),
        ("/weights/file", json!("weights/demo/resnet20.safetensors")),
        ("/weights/sha256", json!(sha256_of_file(demo_weights().as_ref()).unwrap())),
    ] {
        assert_eq!(report.pointer(field), Some(&expected), "{field}");
    }

    let [exact, approx] = logits.predictions();
    assert_eq!((logits.labels.len(), logits.classes), (100, 10));
    for (field, expected) in [
        ("/exact/accuracy", logits.share(&exact, &logits.labels)),
        ("/approx/accuracy", logits.share(&approx, &logits.labels)),
        ("/approx/agreement", logits.share(&exact, &approx)),
        ("/approx/max_abs_logit_difference", f64::from(logits.largest_difference())),
    ] {
        let found = number(report.pointer(field).unwrap());
        assert!((found - expected).abs() < 1e-7, "{field}: {found}, not {expected}");
    }
    for network in ["exact", "approx"] {
        let seconds = number(&report[network]["seconds"]);
        let speed = number(&report[network]["images_per_second"]);
        assert!(seconds > 0.0 && (seconds * speed - 100.0).abs() < 1e-6, "{network}: {seconds} {speed}");
    }
    assert!(number(&report["approx"]["search_seconds"]) >= number(&report["approx"]["seconds"]));
    assert!(number(&report["approx"]["passes"]) >= 1.0);
    assert!(number(&report["b_max"]) > 0.0);

    let sites = report["sites"].as_array().unwrap();
    let bound = number(&report["b_relu"]);
    assert_eq!(sites.len(), 19);
    assert_eq!((&sites[0]["name"], &sites[18]["name"]), (&json!("relu1"), &json!("layer3.2.relu2")));
    assert!(sites.iter().all(|site| site["kind"] == "relu" && number(&site["approx_max_abs"]) <= bound));
    let largest = sites.iter().map(|site| number(&site["max_abs"])).fold(0.0, f64::max);
    assert!(largest > bound - 5.0 && largest <= bound && bound % 5.0 == 0.0, "{largest} {bound}");
}

#[test]
fn the_whole_demo_has_the_accuracy_that_its_precision_gives() {
    // Accuracy and agreement of 1,000 images, from PyTorch in float64 (approx-eval/tests/golden); two images may differ between processors.
    for (alpha, bound, accuracy, agreement) in
        [("14", "5", 0.771, 1.0), ("10", "20", 0.775, 0.987), ("9", "20", 0.772, 0.956)]
    {
        let folder = Folder::new();
        let report = folder.report(&["demo", "--alpha", alpha, "--b-relu", bound]);
        for (field, expected) in
            [("/exact/accuracy", 0.771), ("/approx/accuracy", accuracy), ("/approx/agreement", agreement)]
        {
            let found = number(report.pointer(field).unwrap());
            assert!((found - expected).abs() < 0.0025, "alpha {alpha}: {field} is {found}, not {expected}");
        }
        assert_eq!((&report["images"], &report["b_relu"]), (&json!(1000), &json!(20.0)), "alpha {alpha}");
    }
}

#[test]
fn a_value_out_of_range_is_an_error_without_a_step_and_widens_the_range_with_one() {
    for alpha in ["7", "6"] {
        let arguments = ["demo", "--alpha", alpha, "--b-relu", "20", "--limit", "256", "--b-search"];
        let folder = Folder::new();
        let run = folder.infer(&[&arguments[..], &["0", "--report", "r.json"]].concat());
        assert_eq!(run.code, Some(1), "alpha {alpha}: {}", run.stderr);
        let error = run.stderr.lines().last().unwrap();
        assert!(error.starts_with("error: layer"), "{error}");
        for part in [
            ".relu",
            ": |x| reached 2",
            "the bound is 20 (",
            "; give a larger --b-relu, or let --b-search 5 find one",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(folder.tree().is_empty());

        let run = folder.succeed(&[&arguments[..], &["5", "--report", "r.json"]].concat());
        let report = folder.json("r.json");
        let bound = number(&report["b_relu"]);
        assert!(bound > 20.0 && bound % 5.0 == 0.0, "alpha {alpha}: {bound}");
        let widened: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("widened to ")).collect();
        let last = widened.last().unwrap();
        assert!(last.starts_with(&format!("widened to {bound}: layer")), "{widened:?}");
    }
}

#[test]
fn the_logits_do_not_depend_on_how_the_work_is_divided() {
    let folder = Folder::new();
    let arguments = ["demo", "--alpha", "12", "--limit", "200"];
    let with = |more: &[&str]| folder.logits(&[&arguments[..], more].concat());
    let reference = with(&[]);
    for batch in ["1", "7", "128"] {
        let logits = with(&["--batch-inf", batch]);
        assert_eq!(logits.predictions(), reference.predictions(), "--batch-inf {batch}");
        assert_eq!(logits.labels, reference.labels);
    }
    let bits = |logits: &Logits| -> Vec<u32> {
        logits.exact.iter().chain(&logits.approx).map(|value| value.to_bits()).collect()
    };
    assert_eq!(bits(&with(&["--threads", "1"])), bits(&with(&["--threads", "2"])));
}

#[test]
fn each_level_of_vector_instructions_gives_the_same_predictions_or_is_refused() {
    let available: Vec<String> =
        cnn_kernels::SimdLevel::available().iter().map(ToString::to_string).collect();
    let folder = Folder::new();
    let arguments = ["demo", "--alpha", "12", "--limit", "100"];
    let expected = folder.logits(&arguments).predictions();
    for level in ["portable", "neon", "avx2", "avx512"] {
        let arguments = [&arguments[..], &["--simd", level]].concat();
        if available.iter().any(|name| name == level) {
            assert_eq!(folder.logits(&arguments).predictions(), expected, "{level}");
            assert_eq!(folder.report(&arguments)["simd"], level);
        } else {
            let run = folder.infer(&arguments);
            let error = format!("error: this processor has no {level}; it has {}\n", available.join(", "));
            assert_eq!((run.code, run.stderr, run.stdout), (Some(1), error, String::new()), "{level}");
        }
    }
}

#[test]
fn one_precision_or_another_method_is_shown_in_full() {
    let folder = Folder::new();
    for (arguments, line) in [
        (&["--alpha", "9"][..], "method       minimax composition, alpha 9, degrees 15, 15"),
        (&["--alpha", "4"], "method       minimax composition, alpha 4, degrees "),
        (&["--approx-method", "square"], "method       square"),
        (&["resnet20", "--approx_method", "relu_aq"], "method       relu_aq"),
    ] {
        let run = folder.succeed(&[&["demo", "--limit", "16"], arguments].concat());
        for start in ["exact  ", "approximate  ", "agreement  ", "logits  ", "B_relu  ", line] {
            assert!(run.stdout.lines().any(|line| line.starts_with(start)), "{start}: {}", run.stdout);
        }
        assert!(!run.stdout.contains("B_max"), "{}", run.stdout);
    }
}
