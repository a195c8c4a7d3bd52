//! `infer … --noise-bits`: simulated noise of an encrypted evaluation.

mod support;

use serde_json::Value;

use support::{Folder, demo_weights, repository, utf8, whole_batch, without_times};

const DEMO: [&str; 5] = ["demo", "--limit", "24", "--b-relu", "20"];

fn demo<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&DEMO[..], more].concat()
}

#[test]
fn little_noise_changes_little_and_the_same_seed_gives_the_same() {
    let folder = Folder::new();
    let run = |more: &[&str]| without_times(folder.report(&demo(&[&["--alpha", "12"], more].concat())));
    let (plain, noisy) = (run(&[]), run(&["--noise-bits", "25"]));
    assert_eq!(plain.get("noise"), None);
    assert_eq!(noisy["noise"]["bits"], 25.0);
    assert_eq!(noisy["noise"]["sigma"], (-25f64).exp2());
    assert_eq!(noisy["approx"]["accuracy"], plain["approx"]["accuracy"]);
    let difference = |report: &Value| report["approx"]["max_abs_logit_difference"].as_f64().unwrap();
    assert_ne!(difference(&noisy), difference(&plain));
    assert!((difference(&noisy) - difference(&plain)).abs() < 0.01, "{noisy}");
    // In whatever batches.
    let mut again = run(&["--noise-bits", "25", "--batch-inf", "7"]);
    assert_eq!(again["approx"]["max_abs_logit_difference"], noisy["approx"]["max_abs_logit_difference"]);
    again = run(&["--noise-bits", "25", "--noise-seed", "1"]);
    assert_ne!(again["approx"]["max_abs_logit_difference"], noisy["approx"]["max_abs_logit_difference"]);
    // N = 65536 with a ternary secret: N / 6 in units of the scale's last place.
    let scaled = run(&["--scale-bits", "40"]);
    let bits = scaled["noise"]["bits"].as_f64().unwrap();
    assert!((bits - (40.0 - (65_536f64 / 6.0).log2())).abs() < 1e-3, "{bits}");
    let sparse = run(&["--scale-bits", "40", "--ring", "32768", "--secret-weight", "191"]);
    let bits = sparse["noise"]["bits"].as_f64().unwrap();
    assert!((bits - (40.0 - (32_768f64 * 192.0 / 24.0).sqrt().log2())).abs() < 1e-9, "{bits}");
}

#[test]
fn a_table_with_a_margin_survives_where_the_published_one_fails() {
    let folder = Folder::new();
    let roomy = utf8(&repository("crates/minimax-coeffs/tables/eta_2e-2.json"));
    let noise = ["--alpha", "14", "--noise-bits", "13"];
    let failed = folder.infer(&demo(&noise));
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    let expected = "layer1.0.relu1: under noise of 2^-13.00 a value is ";
    assert!(failed.stderr.contains(expected), "{}", failed.stderr);

    let run = folder.succeed(&demo(&[&noise[..], &["--coefficients", &roomy]].concat()));
    let report = folder.report(&demo(&[&noise[..], &["--coefficients", &roomy]].concat()));
    assert_eq!(report["approx"]["agreement"], 1.0, "{report}");
    // Of the outputs that leave a domain, the worst is told with its place.
    let excursions = report["noise"]["excursions"].as_array().unwrap();
    assert!(!excursions.is_empty());
    for e in excursions {
        assert!(e["site"].as_str().unwrap().contains("relu"), "{e}");
        assert!(e["largest"].as_f64() > e["domain"].as_f64() && e["count"].as_u64() > Some(0), "{e}");
    }
    let warning = run.stdout.lines().find(|line| line.starts_with("warning")).unwrap();
    assert!(warning.contains("left the next one's domain") && warning.contains("relu"), "{warning}");
}

#[test]
fn a_sweep_over_noise_agrees_with_single_runs() {
    let folder = Folder::new();
    folder.write("data/test_batch.bin", whole_batch());
    let params = demo_weights();
    let common = ["--dataset-path", "data", "--params", &params, "--limit", "16", "--b-relu", "5"];
    let noise = ["--alpha", "14", "--noise-bits", "13,18"];
    let run = folder.succeed(&[&["sweep", "cifar10", "--output", "out"], &common[..], &noise].concat());
    assert!(run.stdout.contains("left the next one's domain, at "), "{}", run.stdout);
    let rows = folder.json("out/sweep.json");
    let rows = rows.as_array().unwrap();
    let bits: Vec<Option<f64>> = rows.iter().map(|row| row["noise_bits"].as_f64()).collect();
    assert_eq!(bits, [None, Some(13.0), Some(18.0)]);
    assert!(rows[1]["unusable"].as_str().unwrap().contains("under noise of 2^-13.00"), "{}", rows[1]);
    for (row, more) in [(&rows[0], &[][..]), (&rows[2], &["--noise-bits", "18"])] {
        let report = folder.report(&[&["cifar10", "--alpha", "14"], &common[..], more].concat());
        assert_eq!(row["max_abs_logit_difference"], report["approx"]["max_abs_logit_difference"]);
        let excursions = report["noise"]["excursions"].as_array().into_iter().flatten();
        let count: u64 = excursions.map(|e| e["count"].as_u64().unwrap()).sum();
        assert_eq!(row["excursions"].as_u64().unwrap(), count);
    }
    assert_eq!(rows[0]["excursions"], 0);
    let csv = std::fs::read_to_string(folder.path("out/sweep.csv")).unwrap();
    let noise: Vec<&str> = csv.lines().map(|line| line.split(',').nth(2).unwrap()).collect();
    assert_eq!(noise, ["noise_bits", "", "13", "18"]);
}

#[test]
fn impossible_noise_is_refused_before_the_work() {
    let folder = Folder::new();
    for (more, expected) in [
        (&["--noise-bits", "0"][..], "bits must be from 1 to 100, not 0.0"),
        (&["--noise-bits", "many"], "not a number"),
        (&["--noise-bits", "NaN"], "bits must be from 1 to 100, not NaN"),
        (&["--noise-bits", "20", "--scale-bits", "40"], "cannot be used with"),
        (&["--ring", "65536"], "--scale-bits"),
        (&["--scale-bits", "40", "--ring", "60000"], "a power of two from 1024 to 1048576, not 60000"),
        (&["--noise-bits", "20,25", "--alpha", "12"], "one level of noise at a time"),
        (
            &["--noise-bits", "20", "--approx-method", "square", "--alpha", "12"],
            "proposed only: square has no range",
        ),
    ] {
        let run = folder.infer(&demo(more));
        assert!(matches!(run.code, Some(1 | 2)), "{more:?}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{more:?}: {}", run.stderr);
        assert!(!run.stderr.contains("pass over"), "{more:?}: {}", run.stderr);
    }
}
