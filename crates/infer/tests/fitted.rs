//! Fitted polynomials: `infer calibrate --family fitted`, `infer tune --family`, and policies that hold them.

mod support;

use serde_json::{Value, json};

use support::{Folder, demo_weights, folder_with_images, number, with_data};

/// Calibrates into `policy.json` with polynomials of this degree.
fn calibrate(folder: &Folder, degree: &str) -> Value {
    let params = demo_weights();
    let more = ["--family", "fitted", "--degree", degree, "--output", "policy.json"];
    folder.succeed(&with_data(&["calibrate", "cifar10"], &params, &more));
    folder.json("policy.json")
}

#[test]
fn a_policy_of_fitted_polynomials_gives_what_it_promised() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let file = calibrate(&folder, "27");
    let sites = file["policy"]["sites"].as_object().unwrap();
    assert_eq!(sites.len(), 19);
    for (name, site) in sites {
        assert_eq!((&site["method"], &site["basis"]), (&json!("fitted"), &json!("chebyshev")), "{name}");
        assert_eq!(site["coefficients"].as_array().unwrap().len(), 28, "{name}");
        let (low, high) = (number(&site["interval"][0]), number(&site["interval"][1]));
        let (rms, error) = (number(&site["rms_error"]), number(&site["bounds"]["error"]));
        // Where inputs are it is much better than where they may be.
        assert!(low < 0.0 && high > 0.0 && rms < error / 4.0 && error < (high - low) / 4.0, "{name}: {site}");
        assert!(number(&site["noise_amplification"]) > 1.0 && site["density"].as_str().unwrap().len() == 64);
    }
    let report = folder.report(&with_data(&["cifar10"], &params, &["--policy", "policy.json"]));
    for field in ["accuracy", "agreement", "max_abs_logit_difference"] {
        assert_eq!(report["approx"][field], file["promise"][field], "{field}");
    }
    assert!(number(&report["approx"]["agreement"]) > 0.95, "{report}");
    // A polynomial of degree 27 takes 5 levels and 11 products.
    assert_eq!((&report["net_depth"], &report["net_mults"]), (&json!(19 * 5), &json!(19 * 11)));
    let [approximations] = report["approximations"].as_array().unwrap().as_slice() else {
        panic!("{report}")
    };
    assert_eq!((&approximations["degree"], approximations.get("alpha")), (&json!([27, 27]), None));
    let text = folder.succeed(&with_data(&["cifar10"], &params, &["--policy", "policy.json"])).stdout;
    for part in ["method       policy: fitted, degree 27 for 19 ReLUs\n", "network      95 levels and "] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    // A sweep takes the ranges, and noise can be simulated.
    let noisy = ["--policy", "policy.json", "--noise-bits", "30"];
    let noisy = folder.report(&with_data(&["cifar10"], &params, &noisy));
    assert!(number(&noisy["approx"]["agreement"]) > 0.95, "{noisy}");
    folder.succeed(&with_data(&["sweep", "cifar10"], &params, &["--alpha", "12", "--policy", "policy.json"]));
}

#[test]
fn tuning_takes_fitted_polynomials_where_they_are_cheaper() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let choice = ["--alpha", "9,11,14", "--max-drop", "3%", "--sensitivity-images", "16"];
    let tune = |family: &[&str]| {
        let more = [&choice[..], family, &["--output", "tuned.json"]].concat();
        let run = folder.succeed(&with_data(&["tune", "cifar10"], &params, &more));
        let report = folder.report(&with_data(&["cifar10"], &params, &["--policy", "tuned.json"]));
        assert_eq!(report["approx"]["accuracy"], folder.json("tuned.json")["promise"]["accuracy"]);
        (report["net_depth"].as_u64().unwrap(), run.stdout)
    };
    let (composite, _) = tune(&["--family", "composite"]);
    let (all, text) = tune(&[]);
    assert!(2 * all < composite, "{all} levels, and {composite} of compositions");
    assert!(text.contains("degree 15 "), "{text}");
}

#[test]
fn a_policy_that_claims_too_much_is_refused() {
    let (folder, params) = (folder_with_images(), demo_weights());
    let good = calibrate(&folder, "15");
    let site = |file: &mut Value| file["policy"]["sites"]["layer1.0.relu1"].take();
    let refused = |change: &dyn Fn(&mut Value), expected: &[&str]| {
        let mut file = good.clone();
        let mut changed = site(&mut file);
        change(&mut changed);
        file["policy"]["sites"]["layer1.0.relu1"] = changed;
        folder.write("bad.json", file.to_string());
        let run = folder.infer(&with_data(&["cifar10"], &params, &["--policy", "bad.json"]));
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        for part in expected.iter().chain(&["bad.json", "layer1.0.relu1"]) {
            assert!(run.stderr.contains(part), "`{part}` is not in {}", run.stderr);
        }
    };
    // A coefficient that is off, a bound that is too small, and an error that no polynomial has.
    refused(
        &|site| site["coefficients"][3] = json!(number(&site["coefficients"][3]) + 1.0),
        &["claims that"],
    );
    refused(&|site| site["bounds"]["error"] = json!(1e-9), &["the error is at most 1e-9", "but it is"]);
    refused(&|site| site["bounds"]["slope"] = json!(0.5), &["the slope is at most 5e-1"]);
    refused(&|site| site["noise_amplification"] = json!(0.0), &["the amplification of noise"]);
    refused(&|site| site["rms_error"] = json!(1e6), &["the root of the mean square"]);
    refused(&|site| site["coefficients"] = json!([0.0, 1.0]), &["degree 1 is not supported"]);
    refused(&|site| site["coefficients"] = json!(vec![1.0; 65]), &["degree 64 is not supported"]);
    refused(&|site| site["interval"] = json!([3.0, 2.0]), &["the interval [3, 2]"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (folder, params) = (folder_with_images(), demo_weights());
    for (more, expected) in [
        (&["--family", "fitted"][..], "--degree <DEGREE>"),
        (&["--degree", "27"], "--degree 27 is for fitted polynomials: give --family fitted, too"),
        (&["--family", "fitted", "--degree", "1"], "degree 1 is a line"),
        (&["--family", "fitted", "--degree", "64"], "the degree must be from 2 to 63, not 64"),
        (&["--family", "fitted", "--degree", "x"], "not a whole number"),
    ] {
        let more = [more, &["--output", "policy.json"]].concat();
        let run = folder.infer(&with_data(&["calibrate", "cifar10"], &params, &more));
        assert!(matches!(run.code, Some(1 | 2)), "{more:?}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{more:?}: {}", run.stderr);
        assert!(!folder.path("policy.json").exists(), "{more:?}");
    }
}
