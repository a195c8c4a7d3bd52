//! `--coefficients`: generated tables through the same ops.

mod support;

use std::fs;

use serde_json::json;

use support::{Folder, repository, utf8};

fn tables(name: &str) -> String {
    utf8(&repository(&format!("crates/minimax-coeffs/tables/{name}.json")))
}

#[test]
fn a_generated_table_is_evaluated_and_reported() {
    let folder = Folder::new();
    let tables = tables("eta_1e-6");
    for (alpha, degrees, depth, multiplications) in
        [("10", json!([7, 7, 13]), 11, 18), ("16", json!([7, 7, 7, 15, 15]), 18, 32)]
    {
        let report = folder.report(&[
            "demo",
            "--alpha",
            alpha,
            "--coefficients",
            &tables,
            "--b-relu",
            "20",
            "--limit",
            "100",
        ]);
        assert_eq!(report["alpha"].to_string(), alpha);
        assert_eq!(report["degrees"], degrees);
        assert_eq!(
            (&report["depth"], &report["non_scalar_multiplications"]),
            (&json!(depth), &json!(multiplications))
        );
        // The exact network is the truth: alpha 10 changes its logits by less than 1.5, alpha 16 by less than 0.005.
        let difference = report["approx"]["max_abs_logit_difference"].as_f64().unwrap();
        assert!(difference < if alpha == "10" { 1.5 } else { 0.005 }, "alpha {alpha}: {difference}");
        assert!(alpha == "10" || report["approx"]["agreement"] == json!(1.0), "{report}");
    }
}

#[test]
fn the_published_tables_in_a_file_give_the_built_in_results() {
    let folder = Folder::new();
    let tables = tables("published");
    let run = |more: &[&str]| {
        let arguments = ["demo", "--alpha", "12", "--b-relu", "20", "--limit", "50"];
        folder.report(&[&arguments, more].concat())["approx"]["max_abs_logit_difference"].clone()
    };
    // The file's numbers have more digits; rounded to float64 most are the same.
    let (built_in, file) = (run(&[]).as_f64().unwrap(), run(&["--coefficients", &tables]).as_f64().unwrap());
    assert!((built_in - file).abs() < 1e-3 * built_in, "{built_in} {file}");
}

#[test]
fn unusable_files_are_refused_with_the_reason() {
    let folder = Folder::new();
    fs::write(folder.path("empty.json"), "{}").unwrap();
    let generated = tables("eta_1e-6");
    for (file, alpha, expected) in [
        ("nowhere.json", "14", "reading nowhere.json: "),
        ("empty.json", "14", "empty.json: not a file of tables: missing field `format`"),
        (generated.as_str(), "21", "invalid value '21' for '--alpha <ALPHA>': "),
        (
            generated.as_str(),
            "21",
            "offers alpha 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20",
        ),
        (generated.as_str(), "15", "needs more than float32, which the ops run in: it adds"),
        (generated.as_str(), "x", "'x' for '--alpha"),
    ] {
        for command in ["demo", "cifar10"] {
            let run = folder.infer(&[command, "--alpha", alpha, "--coefficients", file]);
            assert!(matches!(run.code, Some(1 | 2)), "{}", run.stderr);
            assert!(run.stderr.contains(expected), "{alpha} {file}: {}", run.stderr);
        }
    }
}
