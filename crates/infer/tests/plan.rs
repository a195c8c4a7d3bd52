//! `infer plan`: what an encrypted run takes.

mod support;

use std::fs;

use serde_json::Value;
use support::{demo_weights, folder_with_images, repository};

#[test]
fn policies_and_engines_are_planned_side_by_side() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let arguments = ["plan", "cifar10", "resnet20", "--params", &params, "--alpha", "9,14"];
    let engines = ["--engine", "desilofhe", "lattigo", "--report", "plan.json"];
    let run = folder.succeed(&[&arguments[..], &engines].concat());
    let plans: Vec<Value> = serde_json::from_value(folder.json("plan.json")).unwrap();
    assert_eq!(plans.len(), 4);
    let count = |plan: usize, what: &str| plans[plan]["report"]["totals"][what].as_u64().unwrap();
    // Alpha 14 takes 15 levels a ReLU, which are one bootstrap on an engine of 17 levels and two on one of 10; alpha 9
    // takes 9.
    let bootstraps: Vec<u64> = (0..4).map(|plan| count(plan, "bootstraps")).collect();
    assert!(bootstraps[0] <= bootstraps[2] && bootstraps[1] < bootstraps[3], "{bootstraps:?}");
    assert!(bootstraps[2] < bootstraps[3], "{bootstraps:?}");
    // What the lines say is what the sums of the layers are.
    for plan in &plans {
        let sum = |what: &str| -> u64 {
            plan["report"]["layers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|layer| layer[what].as_u64().unwrap())
                .sum()
        };
        for what in ["bootstraps", "rotations", "products", "diagonals"] {
            assert_eq!(plan["report"]["totals"][what].as_u64().unwrap(), sum(what), "{what}");
        }
    }
    assert!(run.stdout.contains("\npolicy    engine"), "{}", run.stdout);
    assert!(run.stdout.lines().all(|line| line.len() <= 120), "{}", run.stdout);
    // All of it without images.
    assert!(!run.stderr.contains("data"), "{}", run.stderr);
}

#[test]
fn a_program_that_is_run_slot_by_slot_is_the_network() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let common = ["--dataset-path", "data", "--params", &params];
    let fit = [
        "calibrate",
        "cifar10",
        "--family",
        "fitted",
        "--degree",
        "7",
        "--limit",
        "64",
        "--output",
        "fit.json",
    ];
    folder.succeed(&[&fit[..], &common].concat());
    let plan = ["plan", "cifar10", "--policy", "fit.json", "--engine", "desilofhe", "--key-memory", "25GB"];
    let more = ["--simulate", "2", "--report", "plan.json", "--output", "run"];
    let run = folder.succeed(&[&plan[..], &more, &common].concat());
    let plan = &folder.json("plan.json")[0];
    let simulation = &plan["simulation"];
    assert_eq!(simulation["images"], 2);
    assert_eq!(simulation["same_class"], 2);
    // Float32's rounding, and then the errors of encryption.
    let difference = |what: &str| simulation[what].as_f64().unwrap();
    assert!(difference("difference") < 1e-4, "{simulation}");
    assert!((1e-7..1e-2).contains(&difference("difference_with_errors")), "{simulation}");
    assert!(plan["report"]["totals"]["engine"]["key_bytes"].as_f64().unwrap() <= 25e9, "{plan}");
    assert!(run.stdout.contains("simulated    2 images"), "{}", run.stdout);
    // Each linear layer has its vectors.
    let program: Value = folder.json("run/program.json");
    let linear = program["layers"].as_array().unwrap().iter().filter(|layer| layer["kind"] == "linear");
    let files = fs::read_dir(folder.path("run")).unwrap().count();
    // And there are the images.
    assert_eq!(files, 2 + linear.count());
}

#[test]
fn what_cannot_be_planned_is_said_in_a_line() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let insecure = fs::read_to_string(repository("engines/lattigo.toml")).unwrap();
    fs::write(folder.path("insecure.toml"), insecure.replace("security_bits = 128", "security_bits = 90"))
        .unwrap();
    let shallow = insecure.replace("fresh = 10", "fresh = 3").replace("refreshed = 10", "refreshed = 3");
    fs::write(folder.path("shallow.toml"), shallow).unwrap();
    fs::write(folder.path("empty.toml"), "").unwrap();
    let plan = ["plan", "cifar10", "resnet20", "--params", &params];
    for (more, expected) in [
        (&[][..], "--policy FILE.json is missing"),
        (
            &["--alpha", "9", "--engine", "seal"],
            "seal is neither a profile of an engine (desilofhe, desilofhe-cuda, lattigo, all) nor a file",
        ),
        (&["--alpha", "9", "--engine", "insecure.toml"], "have 90 bits of security, which is below 128"),
        (&["--alpha", "9", "--engine", "shallow.toml"], "levels"),
        (&["--alpha", "9", "--engine", "empty.toml"], "empty.toml: not a profile of an engine"),
        (&["--policy", "none.json"], "none.json"),
        (&["--alpha", "9,14", "--output", "run"], "--output writes one program, but there are 2 plans"),
        (&["--alpha", "9", "--engine", "lattigo", "--key-memory", "20 apples"], "`apples` is none of"),
        (&["--alpha", "9", "--slots", "1000"], "1000 slots: a ciphertext has a power of two"),
    ] {
        let run = folder.infer(&[&plan[..], more].concat());
        assert_ne!(run.code, Some(0), "{more:?}: {}", run.stdout);
        assert!(run.stderr.contains(expected), "{more:?}: {}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    }
    let insecure = ["--alpha", "9", "--engine", "insecure.toml", "--insecure"];
    let run = folder.succeed(&[&plan[..], &insecure].concat());
    assert!(run.stdout.contains("security     90 bits"), "{}", run.stdout);
}
