//! The example's table.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::{fs, str};

/// Runs the example into `folder`; gives what it printed and the table's lines by their columns.
fn run(folder: &Path) -> (String, Vec<HashMap<String, String>>) {
    let output = Command::new(env!("CARGO_BIN_EXE_own-model")).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let csv = fs::read_to_string(folder.join("sweep.csv")).unwrap();
    let mut lines = csv.lines().map(|line| line.split(',').map(str::to_owned));
    let header: Vec<String> = lines.next().unwrap().collect();
    let rows = lines.map(|line| header.iter().cloned().zip(line).collect()).collect();
    (String::from_utf8(output.stdout).unwrap(), rows)
}

fn number(row: &HashMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} is `{}`", row[column]))
}

#[test]
fn precision_brings_the_network_back_to_its_exact_accuracy() {
    let folder = tempfile::tempdir().unwrap();
    let (printed, rows) = run(folder.path());
    assert_eq!(rows.len(), 11, "{printed}");
    let last = &rows[10];
    assert_eq!((number(last, "alpha"), number(last, "images")), (14.0, 1000.0));
    // Far above the 10 % of a guess: the weights are the trained ones, and the images theirs.
    assert!(number(last, "exact_accuracy") > 0.5, "{printed}");
    assert!(number(last, "agreement") >= 0.998, "{printed}");
    let drop = number(last, "accuracy") - number(last, "exact_accuracy");
    assert!(drop.abs() <= 0.002, "{printed}");
    // Both approximations are there: 3 ReLUs, and 2 max-poolings with 2 rounds and 3 maxima each.
    let (depth, mults) = (number(last, "relu_depth"), number(last, "relu_multiplications"));
    assert_eq!(number(last, "network_depth"), (3.0 + 2.0 * 2.0) * depth);
    assert_eq!(number(last, "network_multiplications"), (3.0 + 2.0 * 3.0) * mults);
    assert!(number(last, "b_relu") > 0.0 && number(last, "b_max") > 0.0);
    // Less precision is further off.
    let error = |row: &HashMap<String, String>| number(row, "max_abs_logit_difference");
    assert!(error(&rows[6]) > 4.0 * error(last), "{printed}");
}

#[test]
fn a_second_run_finds_the_results_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path());
    // Times are among them, so that computing anew would give others.
    assert_eq!(run(folder.path()), first);
}
