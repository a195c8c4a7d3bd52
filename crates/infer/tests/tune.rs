//! `infer tune`: a precision for each activation.

mod support;

use std::fs;

use serde_json::{Value, json};

use support::{demo_weights, folder_with_images, repository, utf8};

fn arguments<'a>(command: &'a [&'a str], params: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let common = ["--dataset-path", "data", "--params", params, "--limit", "64", "--batch-inf", "32"];
    [command, &common, more].concat()
}

#[test]
fn a_tuned_policy_is_cheaper_and_gives_the_accuracy_it_promised() {
    let (folder, params) = (folder_with_images(), demo_weights());
    for (what, column) in [("depth", 0), ("mults", 1)] {
        let choice =
            ["--family", "composite", "--alpha", "8,9,11,14", "--max-drop", "2%", "--minimise", what];
        let files = ["--sensitivity-images", "16", "--output", "tuned.json", "--front", "front.csv"];
        let run = folder.succeed(&arguments(&["tune", "cifar10"], &params, &[&choice[..], &files].concat()));
        let file = folder.json("tuned.json");

        let csv = fs::read_to_string(folder.path("front.csv")).unwrap();
        let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
        let number = |row: &[&str], column: usize| row[column].parse::<f64>().unwrap();
        // The first is the most precise network: 19 ReLUs of 15 levels and 30 multiplications.
        assert_eq!((number(&rows[0], 0), number(&rows[0], 1)), (19.0 * 15.0, 19.0 * 30.0));
        let chosen: Vec<&Vec<&str>> = rows.iter().filter(|row| row[7] == "true").collect();
        let [chosen] = chosen[..] else { panic!("{csv}") };
        assert!(number(chosen, column) < number(&rows[0], column), "{csv}");
        assert!(number(chosen, 3) >= -0.02, "{csv}");
        for row in rows.iter().filter(|row| !row[2].is_empty() && number(row, 3) >= -0.02) {
            assert!(number(row, column) >= number(chosen, column), "{csv}");
        }
        // What is on the front, no other point beats.
        for row in rows.iter().filter(|row| row[6] == "true") {
            let beats = |other: &&Vec<&str>| {
                !other[2].is_empty()
                    && number(other, column) <= number(row, column)
                    && number(other, 2) >= number(row, 2)
                    && (number(other, column) < number(row, column) || number(other, 2) > number(row, 2))
            };
            assert!(!rows.iter().any(|other| beats(&other)), "{csv}");
        }
        let promise = &file["promise"];
        assert_eq!(promise["accuracy"].as_f64().unwrap(), number(chosen, 2));
        assert!(run.stdout.contains("  chosen\n"), "{}", run.stdout);

        // Levels and multiplications are those of the policy's precisions.
        let sites = file["policy"]["sites"].as_object().unwrap();
        assert_eq!(sites.len(), 19);
        let cost = |site: &Value| match site["alpha"].as_u64().unwrap() {
            8 => (8, 14),
            9 => (9, 17),
            11 => (12, 21),
            14 => (15, 30),
            other => panic!("alpha {other}"),
        };
        let (levels, multiplications) =
            sites.values().map(cost).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        assert_eq!([levels, multiplications].map(f64::from), [number(chosen, 0), number(chosen, 1)]);

        let report =
            folder.report(&arguments(&["cifar10", "resnet20"], &params, &["--policy", "tuned.json"]));
        assert_eq!(report["approx"]["accuracy"], promise["accuracy"]);
        assert_eq!(report["approx"]["agreement"], promise["agreement"]);
        assert_eq!(report["approx"]["max_abs_logit_difference"], promise["max_abs_logit_difference"]);

        // The report says between what the precisions and bounds are, in JSON and as text.
        let range = |field: &str| {
            let values = sites.values().map(|site| site[field].as_f64().unwrap());
            let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(a, b), x| (a.min(x), b.max(x)));
            [least, most]
        };
        let (alphas, bounds) = (range("alpha"), range("bound"));
        let [approximations] = report["approximations"].as_array().unwrap().as_slice() else {
            panic!("{report}")
        };
        let alphas = alphas.map(|alpha| alpha as u64);
        assert_eq!(*approximations, json!({"kind": "relu", "sites": 19, "alpha": alphas, "bound": bounds}));
        // Where the choice is one precision for all, its degrees are told too.
        let method = match alphas {
            [one, other] if one == other => format!("policy: minimax composition, alpha {one}, degrees "),
            [least, most] => format!("policy: alpha {least} to {most} for 19 ReLUs\n"),
        };
        let text = folder.succeed(&arguments(&["cifar10"], &params, &["--policy", "tuned.json"])).stdout;
        for part in
            [method, format!("B_relu       by site, {} to {}; largest", bounds[0] as f32, bounds[1] as f32)]
        {
            assert!(text.contains(&part), "`{part}` is not in {text}");
        }
    }
}

#[test]
fn generated_polynomials_are_tuned_over_the_precisions_of_their_file() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let tables = utf8(&repository("crates/minimax-coeffs/tables/eta_1e-6.json"));
    let mut file: Value = serde_json::from_slice(&fs::read(&tables).unwrap()).unwrap();
    let all = file["tables"].as_array_mut().unwrap();
    // Alpha 15 needs more than float32.
    all.retain(|table| [9, 12, 15, 16].contains(&table["target"]["alpha"].as_u64().unwrap()));
    folder.write("tables.json", file.to_string());
    let more = [
        "--family",
        "composite",
        "--coefficients",
        "tables.json",
        "--sensitivity-images",
        "8",
        "--output",
        "tuned.json",
    ];
    let run = folder.succeed(&arguments(
        &["tune", "cifar10"],
        &params,
        &[&more[..], &["--max-drop", "5%"]].concat(),
    ));
    assert!(run.stderr.contains("alpha 15 needs more than float32 and is left out"), "{}", run.stderr);
    let tuned = folder.json("tuned.json");
    let held = tuned["policy"]["compositions"].as_object().unwrap();
    assert!(!held.is_empty());
    for (digest, table) in held {
        assert!([9, 12, 16].contains(&table["bits"].as_u64().unwrap()), "{digest}: {table}");
    }
    let site = |site: &Value| held.contains_key(site["composition"].as_str().unwrap());
    assert!(tuned["policy"]["sites"].as_object().unwrap().values().all(site));
    let report = folder.report(&arguments(&["cifar10"], &params, &["--policy", "tuned.json"]));
    assert_eq!(report["approx"]["accuracy"], tuned["promise"]["accuracy"]);
    assert_eq!(report["approx"]["max_abs_logit_difference"], tuned["promise"]["max_abs_logit_difference"]);
}

#[test]
fn impossible_goals_are_refused_with_the_reason() {
    let (folder, params) = (folder_with_images(), demo_weights());
    for (more, expected) in [
        (&["--max-drop", "0.5"][..], "give it in percent, such as 0.5%"),
        (&["--max-drop", "-1%"], "it must be at least 0% and below 100%, not -1%"),
        (&["--max-drop", "x%"], "not a number before the %"),
        (&["--minimise", "time"], "possible values: depth, mults"),
        (&["--family", "minimax"], "possible values: composite, fitted, all"),
        (&["--alpha", "15"], "alpha is 15"),
        (&["--front", "tuned.json"], "--output and --front both name tuned.json"),
        (&["--output", "no/such/tuned.json"], "no/such/tuned.json: No such file or directory"),
        // At alpha 7 this network's values leave the ranges, and its accuracy is gone.
        (
            &["--family", "composite", "--alpha", "4..5", "--max-drop", "1%", "--sensitivity-images", "8"],
            "even the highest precision everywhere gives",
        ),
    ] {
        let mut arguments = arguments(&["tune", "cifar10"], &params, more);
        if !more.contains(&"--output") {
            arguments.extend(["--output", "tuned.json"]);
        }
        let run = folder.infer(&arguments);
        assert!(matches!(run.code, Some(1 | 2)), "{more:?}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{more:?}: {}", run.stderr);
        assert!(!folder.path("tuned.json").exists(), "{more:?}");
    }
}
