//! `infer calibrate` and `--policy`: what is measured is what the exact pass saw, and what is promised is what comes out.

mod support;

use std::fs;

use serde_json::{Value, json};

use support::{Folder, demo_weights, folder_with_images, number, repository, utf8, with_data, without_times};

const IMAGES: usize = 96;

/// Calibrates into `policy.json`.
fn calibrate(folder: &Folder, more: &[&str]) -> Value {
    let params = demo_weights();
    let arguments = with_data(&["calibrate", "cifar10", "--output", "policy.json"], &params, more);
    folder.succeed(&arguments);
    folder.json("policy.json")
}

/// The report of a single run.
fn report(folder: &Folder, more: &[&str]) -> Value {
    let params = demo_weights();
    folder.report(&with_data(&["cifar10"], &params, more))
}

#[test]
fn what_each_site_sees_is_what_the_exact_pass_saw() {
    let folder = folder_with_images();
    let file = calibrate(&folder, &["--headroom", "1.25"]);
    let report = report(&folder, &["--b-relu", "25"]);
    let sites = file["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 19);
    for (site, seen) in sites.iter().zip(report["sites"].as_array().unwrap()) {
        let of = |field: &str| number(&site[field]);
        assert_eq!((&site["name"], &site["max_abs"]), (&seen["name"], &seen["max_abs"]));
        assert_eq!(of("max_abs"), of("max").max(-of("min")), "{site}");
        let quantiles = ["0.1", "1", "50", "99", "99.9"].map(|q| number(&site["quantiles"][q]));
        let ascending = [&[of("min")], &quantiles[..], &[of("max")]].concat();
        assert!(ascending.is_sorted() && of("min") < 0.0, "{site}");
        let near: Vec<f64> = (4..=14).map(|alpha| number(&site["near_zero"][alpha.to_string()])).collect();
        assert!(near.is_sorted_by(|a, b| a >= b) && near[0] > near[10] && near[0] < 1.0, "{site}");
        let bound = number(&file["policy"]["sites"][site["name"].as_str().unwrap()]["bound"]);
        assert_eq!(bound, of("bound"));
        // This network stays in its ranges at alpha 14.
        assert_eq!(bound, 1.25 * f64::from(of("max_abs") as f32), "{site}");
    }
    assert_eq!(sites[0]["count"], IMAGES * 16 * 32 * 32);
    assert_eq!(sites[18]["count"], IMAGES * 64 * 8 * 8);
}

#[test]
fn a_policy_read_back_gives_what_it_promised() {
    let folder = folder_with_images();
    // At alpha 6 values leave the exact network's ranges, and bounds have to grow.
    for (alpha, headroom) in [("14", "1.1"), ("9", "1"), ("6", "1")] {
        let file = calibrate(&folder, &["--alpha", alpha, "--headroom", headroom]);
        let promise = &file["promise"];
        let report = report(&folder, &["--policy", "policy.json"]);
        assert_eq!(report["exact"]["accuracy"], promise["exact_accuracy"]);
        for field in ["accuracy", "agreement", "max_abs_logit_difference"] {
            assert_eq!(report["approx"][field], promise[field], "alpha {alpha}: {field}");
        }
        assert_eq!((&report["method"], report["alpha"].to_string()), (&json!("policy"), alpha.to_owned()));
        let bounds: Vec<f64> =
            file["sites"].as_array().unwrap().iter().map(|site| number(&site["bound"])).collect();
        assert_eq!(number(&report["b_relu"]), bounds.iter().copied().fold(0.0, f64::max));
        for (bound, site) in bounds.iter().zip(report["sites"].as_array().unwrap()) {
            let seen = number(&site["approx_max_abs"]) as f32;
            assert!(seen <= *bound as f32, "alpha {alpha}: {site} beyond {bound}");
        }

        // So does a sweep, to the last digit.
        let params = demo_weights();
        let output = format!("out{alpha}");
        let sweep = ["sweep", "cifar10", "--policy", "policy.json", "--output", &output, "--alpha", alpha];
        folder.succeed(&with_data(&sweep, &params, &[]));
        let cells = fs::read_dir(folder.path(&format!("{output}/cells"))).unwrap();
        let cell = cells.map(|entry| entry.unwrap().path()).find(|path| path.extension().unwrap() == "json");
        let cell: Value = serde_json::from_slice(&fs::read(cell.unwrap()).unwrap()).unwrap();
        assert_eq!(without_times(cell["value"]["report"].clone()), without_times(report), "alpha {alpha}");
    }
}

#[test]
fn a_policy_of_generated_polynomials_is_a_file_that_needs_no_other() {
    let folder = folder_with_images();
    let tables = utf8(&repository("crates/minimax-coeffs/tables/eta_1e-6.json"));
    for alpha in ["9", "16"] {
        let file = calibrate(&folder, &["--alpha", alpha, "--coefficients", &tables]);
        let held = file["policy"]["compositions"].as_object().unwrap();
        let [(digest, table)] = held.iter().collect::<Vec<_>>()[..] else { panic!("{held:?}") };
        assert_eq!(table["bits"].to_string(), alpha);
        let named = |site: &Value| site["composition"].as_str() == Some(digest) && site["alpha"].is_null();
        assert!(file["policy"]["sites"].as_object().unwrap().values().all(named));
        let near = &file["sites"][0]["near_zero"];
        assert!(
            number(&near[alpha]) > 0.0
                && near.as_object().unwrap().len() == if alpha == "9" { 11 } else { 12 }
        );

        let report = report(&folder, &["--policy", "policy.json"]);
        for field in ["accuracy", "agreement", "max_abs_logit_difference"] {
            assert_eq!(report["approx"][field], file["promise"][field], "alpha {alpha}: {field}");
        }
        assert_eq!((&report["degrees"], &report["alpha"]), (&table["degrees"], &table["bits"]));
    }
    // A policy whose polynomials were changed is refused before the work.
    let text = fs::read_to_string(folder.path("policy.json")).unwrap();
    let digest = "the digest of its coefficients is ";
    let coefficient = folder.json("policy.json")["policy"]["compositions"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap()["coefficients"][0][0]
        .as_str()
        .unwrap()
        .to_owned();
    let moved = format!("{:.17}", coefficient.parse::<f64>().unwrap() * (1.0 + 1e-15));
    folder.write("policy.json", text.replace(&coefficient, &moved));
    let params = demo_weights();
    let run = folder.infer(&with_data(&["cifar10", "--policy", "policy.json"], &params, &[]));
    assert!(run.code == Some(1) && run.stderr.contains(digest), "{}", run.stderr);
}

#[test]
fn a_policy_file_of_version_1_gives_what_it_gave() {
    let folder = folder_with_images();
    let file = calibrate(&folder, &["--alpha", "9"]);
    let expected = without_times(report(&folder, &["--policy", "policy.json"]));
    let mut old = file.clone();
    old["version"] = json!(1);
    let policy = old["policy"].as_object_mut().unwrap();
    let sites = policy.remove("sites").unwrap();
    policy.insert("relu_sites".to_owned(), sites);
    folder.write("policy.json", serde_json::to_string_pretty(&old).unwrap());
    assert_eq!(without_times(report(&folder, &["--policy", "policy.json"])), expected);
}

#[test]
fn a_sweep_takes_each_networks_policy_from_a_folder() {
    let folder = folder_with_images();
    calibrate(&folder, &[]);
    fs::create_dir(folder.path("policies")).unwrap();
    fs::rename(folder.path("policy.json"), folder.path("policies/resnet20.json")).unwrap();
    let params = demo_weights();
    let sweep = ["sweep", "cifar10", "--policy", "policies", "--alpha", "14"];
    folder.succeed(&with_data(&sweep, &params, &[]));
    let promise = folder.json("policies/resnet20.json")["promise"].clone();
    let row = folder.json("sweep/sweep.json")[0].clone();
    assert_eq!(row["max_abs_logit_difference"], promise["max_abs_logit_difference"]);
    for (arguments, part) in [
        (&["vgg11bn", "--policy", "policies"][..], "policies/vgg11bn.json: No such file"),
        (&["resnet20,vgg11bn", "--policy", "policies"], "policies/vgg11bn.json: No such file"),
        (
            &["resnet20,vgg11bn", "--policy", "policies/resnet20.json"],
            "policies/resnet20.json is for one network, not for 2; name a folder with a BACKBONE.json for each",
        ),
    ] {
        let run = folder.infer(&[&["sweep", "cifar10"], arguments].concat());
        assert_eq!(run.code, Some(1), "{arguments:?}");
        assert!(run.stderr.contains(part), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn bounds_of_their_own_are_closer_to_the_exact_network_than_one_for_all() {
    let folder = folder_with_images();
    let promise = calibrate(&folder, &["--alpha", "11", "--headroom", "1"])["promise"].clone();
    let largest = number(&promise["max_abs_logit_difference"]);
    // Even if that one is the smallest that holds all values.
    let one = report(&folder, &["--alpha", "11", "--b-relu", "1", "--b-search", "0.001"]);
    let one = number(&one["approx"]["max_abs_logit_difference"]);
    assert!(largest < 0.8 * one, "{largest} and {one}");
}

#[test]
fn a_value_beyond_a_policys_bound_is_an_error_and_in_a_sweep_a_row() {
    let folder = folder_with_images();
    let mut file = calibrate(&folder, &[]);
    file["policy"]["sites"]["layer2.1.relu1"]["bound"] = json!(1.5);
    folder.write("policy.json", file.to_string());
    let params = demo_weights();
    let run =
        folder.infer(&with_data(&["cifar10", "--policy", "policy.json", "--report", "r.json"], &params, &[]));
    assert_eq!(run.code, Some(1));
    for part in ["error: layer2.1.relu1: |x| reached ", "the bound is 1.5", "larger --headroom"] {
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
    assert!(!folder.path("r.json").exists());
    let sweep = ["sweep", "cifar10", "--policy", "policy.json", "--alpha", "14"];
    folder.succeed(&with_data(&sweep, &params, &[]));
    let reason = folder.json("sweep/sweep.json")[0]["unusable"].clone();
    assert!(reason.as_str().unwrap().starts_with("layer2.1.relu1: |x| reached "), "{reason}");
}

#[test]
fn what_cannot_be_used_is_refused_before_the_work() {
    let folder = folder_with_images();
    let good = calibrate(&folder, &[]);
    let params = demo_weights();
    let refused = |command: &[&str], parts: &[&str]| {
        let before = folder.tree();
        let run = folder.infer(&with_data(command, &params, &[]));
        assert!(matches!(run.code, Some(1 | 2)), "{command:?}: {}", run.stderr);
        assert!(
            !run.stderr.contains("panicked") && !run.stderr.contains("approximate pass"),
            "{}",
            run.stderr
        );
        for part in parts {
            assert!(run.stderr.contains(part), "{command:?}: `{part}` is not in {}", run.stderr);
        }
        assert_eq!(folder.tree(), before);
    };
    let changed = |pointer: &str, value: Value| {
        let mut file = good.clone();
        *file.pointer_mut(pointer).unwrap() = value;
        file.to_string()
    };
    let mut site = good.clone();
    site["policy"]["sites"]["layer9.relu"] = json!({"method": "exact"});
    for (text, part) in [
        ("no json".to_owned(), "bad.json: not a policy file: "),
        ("[]".to_owned(), "its format is not `approx-cnn policy`"),
        (changed("/format", json!("other")), "its format is not `approx-cnn policy`"),
        (changed("/version", json!(3)), "bad.json: its version is 3, but 1 to 2 are read"),
        (changed("/version", json!("2")), "bad.json: its version is none, but 1 to 2 are read"),
        (changed("/version", json!(1)), "it has fields of version 2"),
        (changed("/backbone", json!("resnet32")), "bad.json: it is for resnet32, not for resnet20"),
        (changed("/policy/relu/alpha", json!(15)), "whole numbers from 4 to 14"),
        (changed("/policy/relu/method", json!("magic")), "magic"),
        (good.to_string()[..200].to_owned(), "bad.json: not a policy file: "),
    ] {
        fs::write(folder.path("bad.json"), text).unwrap();
        for command in [&["cifar10", "--report", "r.json"][..], &["sweep", "cifar10"]] {
            refused(&[command, &["--policy", "bad.json"]].concat(), &[part]);
        }
    }
    for (text, part) in [
        (site.to_string(), "the policy names `layer9.relu`, but the network has no such site"),
        (changed("/policy/sites/relu1/bound", json!(-1.0)), "relu1: "),
    ] {
        fs::write(folder.path("bad.json"), text).unwrap();
        refused(&["cifar10", "--policy", "bad.json"], &[part]);
    }
    fs::create_dir(folder.path("taken")).unwrap();
    for (command, part) in [
        (&["cifar10", "--policy", "no.json"][..], "no.json: No such file"),
        (&["cifar10", "--policy", "policy.json", "--alpha", "9"], "cannot be used with '--alpha"),
        (&["cifar10", "--policy", "policy.json", "--b-relu", "9"], "cannot be used with '--b-relu"),
        (&["sweep", "cifar10", "--policy", "policy.json", "--b-search", "9"], "cannot be used with"),
        (&["sweep", "cifar10", "vgg11bn", "--policy", "policy.json"], "it is for resnet20, not for vgg11bn"),
        (&["calibrate", "cifar10"], "--output <FILE.json>"),
        (&["calibrate", "cifar10", "--output", "taken"], "taken: is a directory"),
        (&["calibrate", "cifar10", "--output", "no/such/p.json"], "no/such/p.json: No such file"),
        (&["calibrate", "cifar10", "resnet21", "--output", "p.json"], "unknown backbone `resnet21`"),
        (&["calibrate", "cifar10", "--output", "p.json", "--headroom", "0.9"], "from 1 to 1e6, not 0.9"),
        (&["calibrate", "cifar10", "--output", "p.json", "--headroom", "NaN"], "from 1 to 1e6, not NaN"),
        (&["calibrate", "cifar10", "--output", "p.json", "--alpha", "15"], "whole numbers from 4 to 14"),
        (&["calibrate", "cifar10", "--output", "p.json", "--coefficients", "c.json"], "c.json: No such file"),
    ] {
        refused(command, &[part]);
    }
}
