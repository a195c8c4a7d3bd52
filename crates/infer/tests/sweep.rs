//! `infer sweep`: the same results as single runs, kept whatever ends the process.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::thread::sleep;
use std::time::{Instant, SystemTime};

use safetensors::SafeTensors;
use serde_json::Value;

use support::{Folder, Logits, Run, demo_weights, folder_with_images, wait, whole_batch, without_times};

const IMAGES: &str = "96";

/// A folder with images in CIFAR-10's layout.
/// The arguments of a sweep into `output`.
fn arguments<'a>(output: &'a str, params: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let common = ["sweep", "cifar10", "--dataset-path", "data", "--params", params, "--output", output];
    [&common[..], &["--limit", IMAGES, "--batch-inf", "32"], more].concat()
}

/// The reports in the cells, by alpha; `Err` has why there is none.
fn cells(folder: &Folder, output: &str) -> BTreeMap<u64, Result<Value, String>> {
    let files =
        fs::read_dir(folder.path(&format!("{output}/cells"))).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    json.map(|path| {
        let cell: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let value = match cell["value"].get("report") {
            Some(report) => Ok(without_times(report.clone())),
            None => Err(cell["value"]["unusable"].as_str().unwrap().to_owned()),
        };
        (cell["key"]["approx"]["alpha"].as_u64().unwrap(), value)
    })
    .collect()
}

/// Name, contents and time of change of all that is finished.
fn finished(folder: &Folder, output: &str) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(folder.path(&format!("{output}/cells"))).into_iter().flatten();
    let named = entries.map(|entry| entry.unwrap().path());
    let kept = named.filter(|path| path.extension().is_some_and(|e| e == "json" || e == "safetensors"));
    kept.map(|path| {
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), (fs::read(&path).unwrap(), changed))
    })
    .collect()
}

fn passes(run: &Run, name: &str) -> usize {
    run.stderr.lines().filter(|line| line.starts_with(&format!("{name} pass over {IMAGES} "))).count()
}

fn rows(folder: &Folder, output: &str) -> Vec<Value> {
    folder.json(&format!("{output}/sweep.json")).as_array().unwrap().clone()
}

#[test]
fn a_sweep_agrees_with_single_runs_to_the_last_digit() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let run = folder.succeed(&arguments("out", &params, &["--alpha", "6,8,13..14"]));
    assert_eq!((passes(&run, "exact"), passes(&run, "approximate")), (1, 4), "{}", run.stderr);
    let (cells, rows) = (cells(&folder, "out"), rows(&folder, "out"));
    assert_eq!(cells.keys().copied().collect::<Vec<_>>(), [6, 8, 13, 14]);
    let csv = fs::read_to_string(folder.path("out/sweep.csv")).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 5);
    for ((row, (alpha, cell)), line) in rows.iter().zip(&cells).zip(&lines[1..]) {
        let alpha = alpha.to_string();
        let single = ["cifar10", "--dataset-path", "data", "--params", &params, "--limit", IMAGES];
        let search = ["--batch-inf", "32", "--b-relu", "5", "--b-max", "5", "--alpha", &alpha];
        let logits = ["--logits", "logits.safetensors"];
        let report = without_times(folder.report(&[&single[..], &search, &logits].concat()));
        assert_eq!(cell.as_ref().unwrap(), &report, "alpha {alpha}");
        for (field, pointer) in [
            ("backbone", "/backbone"),
            ("alpha", "/alpha"),
            ("degrees", "/degrees"),
            ("relu_depth", "/depth"),
            ("relu_multiplications", "/non_scalar_multiplications"),
            ("b_relu", "/b_relu"),
            ("exact_accuracy", "/exact/accuracy"),
            ("accuracy", "/approx/accuracy"),
            ("relative_difference", "/relative_difference"),
            ("agreement", "/approx/agreement"),
            ("max_abs_logit_difference", "/approx/max_abs_logit_difference"),
            ("images", "/images"),
        ] {
            assert_eq!(row.get(field), report.pointer(pointer), "alpha {alpha}: {field}");
            let column = lines[0].iter().position(|name| *name == field).unwrap();
            let expected = match &row[field] {
                Value::Array(degrees) => degrees.iter().map(Value::to_string).collect::<Vec<_>>().join(" "),
                Value::String(text) => text.clone(),
                Value::Number(number) => {
                    assert_eq!(line[column].parse::<f64>().unwrap(), number.as_f64().unwrap(), "{field}");
                    continue;
                }
                other => panic!("{field} is {other}"),
            };
            assert_eq!(line[column], expected, "alpha {alpha}: {field}");
        }
        // 19 ReLUs in sequence, and no max-pooling.
        for (network, one) in
            [("network_depth", "relu_depth"), ("network_multiplications", "relu_multiplications")]
        {
            assert_eq!(row[network].as_u64(), row[one].as_u64().map(|one| 19 * one), "{network}");
        }
        assert!(row["b_max"].is_null() && row["unusable"].is_null());
        assert!(row["images_per_second"].as_f64().unwrap() > 0.0);
    }

    let exact = finished(&folder, "out").into_iter().find(|(name, _)| name.contains("-exact-")).unwrap().1.0;
    let exact = SafeTensors::deserialize(&exact).unwrap().tensor("logits").unwrap().data().to_vec();
    let logits = Logits::read(&folder.path("logits.safetensors"));
    assert_eq!(exact, logits.exact.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
}

#[test]
fn killed_at_any_moment_it_goes_on_without_repeating_what_is_finished() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let alphas = ["--alpha", "8..14"];
    let start = Instant::now();
    folder.succeed(&arguments("whole", &params, &alphas));
    let whole = start.elapsed();

    // One of the moments is another each time.
    let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let moments = [0.35, 0.6, 0.5, f64::from(nanoseconds) / 1e9];
    let (mut before, mut kills) = (finished(&folder, "killed"), 0);
    for share in moments {
        let mut child = folder.start(&arguments("killed", &params, &alphas));
        sleep(whole.mul_f64(share));
        child.kill().unwrap();
        kills += usize::from(wait(child).code.is_none());
        let after = finished(&folder, "killed");
        for (name, file) in &before {
            assert!(after.get(name) == Some(file), "{moments:?}: {name} was written again");
        }
        before = after;
    }
    assert!(kills > 0, "{moments:?}");
    let run = folder.succeed(&arguments("killed", &params, &alphas));
    let there = before.keys().filter(|name| name.ends_with(".json")).count();
    assert_eq!(passes(&run, "approximate"), 7 - there, "{moments:?}: {}", run.stderr);
    assert_eq!(run.stdout.matches("  kept\n").count(), there);
    let after = finished(&folder, "killed");
    assert!(before.iter().all(|(name, file)| after.get(name) == Some(file)));
    assert_eq!(cells(&folder, "killed"), cells(&folder, "whole"));

    // There is nothing left to do, and the table is the same, byte by byte.
    let csv = fs::read(folder.path("killed/sweep.csv")).unwrap();
    let run = folder.succeed(&arguments("killed", &params, &alphas));
    assert!(!run.stderr.contains("pass over"), "{}", run.stderr);
    assert_eq!(fs::read(folder.path("killed/sweep.csv")).unwrap(), csv);
    assert!(finished(&folder, "killed") == after);
}

#[test]
fn two_processes_share_the_work_and_give_the_same_table() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let alphas = ["--alpha", "9..14"];
    folder.succeed(&arguments("alone", &params, &alphas));
    let children = [0, 1].map(|_| folder.start(&arguments("both", &params, &alphas)));
    let runs = children.map(wait);
    for run in &runs {
        assert_eq!(run.code, Some(0), "{}", run.stderr);
    }
    let count = |name| runs.iter().map(|run| passes(run, name)).sum::<usize>();
    assert_eq!((count("exact"), count("approximate")), (1, 6), "{runs:?}");
    assert_eq!(cells(&folder, "both"), cells(&folder, "alone"));
    let tree = folder.tree();
    let left = |ending: &str| tree.iter().any(|name| name.contains(ending));
    assert!(!left(".lock") && !left(".writing-"), "{tree:?}");
    let whole: Vec<_> = rows(&folder, "both").iter().map(|row| row["agreement"].clone()).collect();
    let alone: Vec<_> = rows(&folder, "alone").iter().map(|row| row["agreement"].clone()).collect();
    assert_eq!(whole, alone);
}

#[test]
fn a_cell_waits_for_the_process_that_computes_it() {
    let (folder, params) = (folder_with_images(), demo_weights());
    folder.succeed(&arguments("out", &params, &["--alpha", "14"]));
    let cell = finished(&folder, "out").into_keys().find(|name| name.contains("alpha14")).unwrap();
    let cell = folder.path(&format!("out/cells/{cell}"));
    let lock = cell.with_extension("lock");
    let contents = fs::read(&cell).unwrap();
    fs::remove_file(&cell).unwrap();
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let mut child = folder.start(&arguments("out", &params, &["--alpha", "14"]));
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    // Panics if the process ends without it.
    let line = stderr.next().unwrap();
    assert_eq!(line, "waiting for another process that computes resnet20, alpha 14");
    assert!(child.try_wait().unwrap().is_none());
    fs::write(&cell, &contents).unwrap();
    drop(held);
    assert_eq!(stderr.collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(wait(child).code, Some(0));
}

#[test]
fn other_circumstances_are_other_cells() {
    let (folder, params) = (folder_with_images(), demo_weights());
    folder.write("copy.safetensors", fs::read(&params).unwrap());
    let count = || cells_in(&folder);
    folder.succeed(&arguments("out", &params, &["--alpha", "14"]));
    assert_eq!(count(), 2);
    // The weights are the same, so nothing is computed; but the report names the file.
    folder.succeed(&arguments("out", "copy.safetensors", &["--alpha", "14"]));
    assert_eq!(count(), 2);
    let mut other = whole_batch();
    other[3000] ^= 1;
    folder.write("other/test_batch.bin", &other);
    for (more, expected) in [
        (&["--b-relu", "7"][..], 3),
        (&["--b-search", "1"], 4),
        (&["--threads", "1"], 6),
        (&["--simd", "portable"], 8),
    ] {
        folder.succeed(&arguments("out", &params, &[&["--alpha", "14"], more].concat()));
        assert_eq!(count(), expected, "{more:?}");
    }
    let data = arguments("out", &params, &["--alpha", "14"]);
    let data: Vec<&str> = data.iter().map(|&a| if a == "data" { "other" } else { a }).collect();
    folder.succeed(&data);
    assert_eq!(count(), 10);
}

fn cells_in(folder: &Folder) -> usize {
    finished(folder, "out").len()
}

#[test]
fn a_precision_that_no_range_holds_is_a_row_with_the_reason() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let sweep = ["--alpha", "13..14", "--b-relu", "10", "--b-search", "0"];
    let run = folder.succeed(&arguments("out", &params, &sweep));
    for row in rows(&folder, "out") {
        let reason = row["unusable"].as_str().unwrap();
        assert!(reason.contains("|x| reached ") && reason.contains("the bound is 10"), "{reason}");
        assert!(run.stdout.contains(reason) && row["accuracy"].is_null());
    }
    let csv = fs::read_to_string(folder.path("out/sweep.csv")).unwrap();
    assert_eq!(csv.lines().filter(|line| line.ends_with("\"") && line.contains(",\"")).count(), 2, "{csv}");
    let run = folder.succeed(&arguments("out", &params, &sweep));
    assert!(!run.stderr.contains("pass over"), "{}", run.stderr);
    assert!(cells(&folder, "out").values().all(Result::is_err));
}

#[test]
fn damaged_cells_are_named() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let sweep = arguments("out", &params, &["--alpha", "14"]);
    folder.succeed(&sweep);
    let names: Vec<String> = finished(&folder, "out").into_keys().collect();
    for name in &names {
        let path = format!("out/cells/{name}");
        let good = fs::read(folder.path(&path)).unwrap();
        // The exact pass is only looked at if there is something to compute.
        let other = names.iter().find(|other| *other != name).unwrap();
        let hidden = name.ends_with(".safetensors").then(|| folder.path(&format!("out/cells/{other}")));
        let aside = folder.path("aside");
        hidden.iter().for_each(|path| fs::rename(path, &aside).unwrap());
        let text = String::from_utf8_lossy(&good).replace("\"images\":96", "\"images\":95");
        let text = text.replace("\"images\": 96", "\"images\": 95");
        let other_run = name.ends_with(".json").then(|| text.into_bytes());
        let cut = good[..good.len() / 2].to_vec();
        for bad in [cut, b"{}".to_vec(), Vec::new()].into_iter().chain(other_run) {
            folder.write(&path, &bad);
            let run = folder.infer(&sweep);
            assert_eq!(run.code, Some(1), "{}", run.stderr);
            let error = format!("{name}: no result of a sweep: ");
            assert!(run.stderr.contains(&error) && run.stderr.contains("delete it"), "{}", run.stderr);
        }
        fs::remove_file(folder.path(&path)).unwrap();
        hidden.iter().for_each(|path| fs::rename(&aside, path).unwrap());
        folder.succeed(&sweep);
        folder.write(&path, good);
    }
}
