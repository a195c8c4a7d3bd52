//! `infer sweep --html --plots`: a page and pictures of what the table has, made again from what is kept.

mod support;

use std::fs;

use roxmltree::{Document, Node, ParsingOptions};
use serde_json::Value;

use support::{demo_weights, folder_with_images};

const IMAGES: &str = "96";
const ALPHAS: &str = "6,12..14";

/// The arguments of a sweep into `out`.
fn arguments<'a>(params: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let common = ["sweep", "cifar10", "--dataset-path", "data", "--params", params, "--limit", IMAGES];
    [&common[..], &["--batch-inf", "32", "--output", "out"], more].concat()
}

/// The texts of all elements with a tag, with simple spaces.
fn texts(page: &str, tag: &str) -> Vec<String> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let parsed = Document::parse_with_options(page, options).unwrap();
    let text = |node: Node| -> String {
        let parts = node.descendants().filter(Node::is_text).filter_map(|node| node.text());
        parts.collect::<String>().replace('\u{a0}', " ").replace('−', "-")
    };
    parsed.descendants().filter(|node| node.tag_name().name() == tag).map(text).collect()
}

fn exact_passes(stderr: &str) -> usize {
    stderr.lines().filter(|line| line.starts_with("exact pass")).count()
}

#[test]
fn the_page_shows_the_table_and_is_made_again_from_what_is_kept() {
    let (folder, params) = (folder_with_images(), demo_weights());
    // Without a page first: only the look at the inputs is left to do.
    let run = folder.succeed(&arguments(&params, &["--alpha", ALPHAS]));
    assert_eq!(exact_passes(&run.stderr), 1);
    assert!(!run.stdout.contains(".html"), "{}", run.stdout);
    let table = fs::read(folder.path("out/sweep.csv")).unwrap();

    let both =
        arguments(&params, &["--alpha", ALPHAS, "--html", "it's <a> page.html", "--plots", "new/plots"]);
    let run = folder.succeed(&both);
    assert_eq!(
        (exact_passes(&run.stderr), run.stderr.matches("pass over").count()),
        (1, 1),
        "{}",
        run.stderr
    );
    assert!(
        run.stdout.ends_with("written      it's <a> page.html\nwritten      new/plots\n"),
        "{}",
        run.stdout
    );
    assert_eq!(fs::read(folder.path("out/sweep.csv")).unwrap(), table);

    let page = fs::read_to_string(folder.path("it's <a> page.html")).unwrap();
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<script"));
    let cells = texts(&page, "td");
    let rows = folder.json("out/sweep.json");
    for row in rows.as_array().unwrap() {
        let share = |field: &str| format!("{:.2} %", 100.0 * row[field].as_f64().unwrap());
        let relative = format!("{:+.2} %", 100.0 * row["relative_difference"].as_f64().unwrap());
        let logits = format!("{:.3}", row["max_abs_logit_difference"].as_f64().unwrap() as f32);
        let bound = row["b_relu"].as_f64().unwrap().to_string();
        let expected = [bound, "–".to_owned(), share("accuracy"), relative, share("agreement"), logits];
        assert!(cells.windows(6).any(|cells| cells == expected), "{expected:?}");
    }
    // The extremes are those of the exact pass.
    let alpha14 = fs::read_dir(folder.path("out/cells")).unwrap().map(|entry| entry.unwrap().path());
    let alpha14 = alpha14.into_iter().find(|path| path.to_string_lossy().contains("alpha14")).unwrap();
    let report: Value = serde_json::from_slice(&fs::read(alpha14).unwrap()).unwrap();
    let sites = report.pointer("/value/report/sites").unwrap().as_array().unwrap();
    assert_eq!(sites.len(), 19);
    for site in sites {
        let at = cells.iter().position(|cell| cell == site["name"].as_str().unwrap()).unwrap();
        let number = |index: usize| cells[at + index].parse::<f64>().unwrap();
        let largest = number(8).max(-number(2));
        assert_eq!(format!("{largest:.3}"), format!("{:.3}", site["max_abs"].as_f64().unwrap()), "{site}");
        assert_eq!(number(9), rows[3]["b_relu"].as_f64().unwrap(), "{site}");
        assert!((2..8).all(|index| number(index) <= number(index + 1)), "{site}");
    }
    let command = &texts(&page, "pre")[0];
    assert!(command.contains(r"--html 'it'\''s <a> page.html' --plots new/plots"), "{command}");
    let entries = texts(&page, "dd");
    assert!(entries.contains(&"2026-11-24 17:30 UTC".to_owned()) && entries.contains(&"0.1.0".to_owned()));

    let names = ["approximations", "resnet20-alpha", "resnet20-depth", "resnet20-ranges"];
    let plots =
        || names.map(|name| fs::read_to_string(folder.path(&format!("new/plots/{name}.svg"))).unwrap());
    let before = plots();
    for plot in &before {
        assert_eq!(Document::parse(plot).unwrap().root_element().tag_name().name(), "svg");
    }
    assert_eq!(fs::read_dir(folder.path("new/plots")).unwrap().count(), names.len());

    // Nothing is computed, and nothing changes.
    let run = folder.succeed(&both);
    assert!(!run.stderr.contains("pass over"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(folder.path("it's <a> page.html")).unwrap(), page);
    assert_eq!(plots(), before);
}

#[test]
fn noise_has_a_section_of_its_own() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let noisy = ["--alpha", "7,12", "--noise-bits", "12,25", "--html", "page.html", "--plots", "plots"];
    folder.succeed(&arguments(&params, &noisy));
    let page = fs::read_to_string(folder.path("page.html")).unwrap();
    assert!(texts(&page, "h3").contains(&"Noise".to_owned()));
    assert!(folder.path("plots/resnet20-noise.svg").exists());
    let cells = texts(&page, "td");
    let rows = folder.json("out/sweep.json");
    assert_eq!(rows.as_array().unwrap().len(), 6);
    for row in rows.as_array().unwrap().iter().filter(|row| !row["noise_bits"].is_null()) {
        let start = [row["alpha"].to_string(), row["noise_bits"].as_f64().unwrap().to_string()];
        let at = cells.windows(2).position(|cells| cells == start).unwrap();
        let expected = match row["accuracy"].as_f64() {
            Some(accuracy) => (at + 4, format!("{:.2} %", 100.0 * accuracy)),
            None => (at + 2, row["unusable"].as_str().unwrap().replace('−', "-")),
        };
        assert_eq!(cells[expected.0], expected.1, "{row}");
    }
    // With one noise and another it is the same approximation.
    let drawn = texts(&fs::read_to_string(folder.path("plots/approximations.svg")).unwrap(), "text");
    let drawn: Vec<&str> =
        drawn.iter().map(|text| text.trim()).filter(|text| text.starts_with("alpha")).collect();
    assert_eq!(drawn, ["alpha 7", "alpha 12"]);
}

#[test]
fn a_policys_bounds_are_shown_by_site() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let data = ["--dataset-path", "data", "--params", &params, "--limit", IMAGES, "--batch-inf", "32"];
    let calibrate = ["calibrate", "cifar10", "--output", "policy.json"];
    folder.succeed(&[&calibrate[..], &data].concat());
    let policy = folder.json("policy.json");
    folder.succeed(&arguments(&params, &["--alpha", "14", "--policy", "policy.json", "--html", "page.html"]));
    let page = fs::read_to_string(folder.path("page.html")).unwrap();
    let cells = texts(&page, "td");
    assert!(texts(&page, "p")[0].contains("a bound for each activation from policy.json"));
    for site in policy["sites"].as_array().unwrap() {
        let at = cells.iter().position(|cell| cell == site["name"].as_str().unwrap()).unwrap();
        let bound = site["bound"].as_f64().unwrap();
        assert!((cells[at + 9].parse::<f64>().unwrap() - bound).abs() <= 0.000_500_1, "{site}");
        let near = format!("{:.2} %", 100.0 * site["near_zero"]["14"].as_f64().unwrap());
        assert_eq!(cells[at + 10], near, "{site}");
        for (index, quantile) in ["0.1", "1", "50", "99", "99.9"].iter().enumerate() {
            let expected = format!("{:.3}", site["quantiles"][quantile].as_f64().unwrap() as f32);
            assert_eq!(cells[at + 3 + index], expected, "{site}");
        }
    }
}

#[test]
fn places_that_cannot_be_written_are_named_before_the_work() {
    let (folder, params) = (folder_with_images(), demo_weights());
    folder.write("file", "");
    for (more, expected) in [
        (&["--html", "data"][..], "data: is a directory"),
        (&["--html", "no/such/page.html"], "no/such/page.html: No such file or directory"),
        (&["--plots", "file"], "file: not a directory"),
        (&["--plots", "file/plots"], "file/plots: not a directory"),
        (&["--html", "new", "--plots", "new"], "--html and --plots both name new"),
    ] {
        let run = folder.infer(&arguments(&params, more));
        assert_eq!(run.code, Some(1), "{more:?}");
        assert!(
            run.stderr.contains(expected) && !run.stderr.contains("pass over"),
            "{more:?}: {}",
            run.stderr
        );
        assert!(!folder.path("out").exists(), "{more:?}");
    }
}

#[test]
fn damaged_distributions_are_named() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let page = arguments(&params, &["--alpha", "14", "--html", "page.html"]);
    folder.succeed(&page);
    let cell =
        folder.tree().into_iter().find(|name| name.contains("-exact-") && name.ends_with(".json")).unwrap();
    let good = fs::read_to_string(folder.path(&cell)).unwrap();
    let mut other_extreme: Value = serde_json::from_str(&good).unwrap();
    other_extreme["value"][3]["max"] = 1e9.into();
    let other_extreme = other_extreme.to_string();
    for bad in [
        &good[..good.len() / 2],
        "{}",
        &other_extreme,
        &good.replacen("\"negative\":[[", "\"negative\":[[9", 1),
    ] {
        folder.write(&cell, bad);
        let run = folder.infer(&page);
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        assert!(
            run.stderr.contains("no result of a sweep: ") && run.stderr.contains("delete it"),
            "{}",
            run.stderr
        );
    }
    fs::remove_file(folder.path(&cell)).unwrap();
    folder.succeed(&page);
    assert_eq!(fs::read_to_string(folder.path(&cell)).unwrap(), good);
}
