//! Plans for engines: levels, bootstraps, costs, noise, and what is refused.

mod common;

use ckks_program::ir::{Op, OpKind, count};
use ckks_program::{Error, Noise, Plan, PlanOptions, Profile, Recorded};
use cnn_graph::ops::{Activation, Conv};
use cnn_graph::policy::{ActivationPolicy, SitePolicy};
use cnn_graph::reference::Reference;
use cnn_graph::zoo::Backbone;
use cnn_graph::{Graph, GraphBuilder};
use common::{approximate, composites, fitted, images, weights};
use minimax_coeffs::Alpha;

fn profile(name: &str) -> Profile {
    let path = format!("{}/../../engines/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    Profile::from_toml(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn resnet20() -> Graph {
    Backbone::find("cifar10", "resnet20").unwrap().graph().unwrap()
}

/// A few layers for images of 8×8, with fewer slots than the profile has.
fn small() -> (Graph, Profile) {
    let mut b = GraphBuilder::new([2, 8, 8]);
    let x = b.input();
    let x = b.conv("conv1", x, Conv::same(4, 3));
    let x = b.relu("relu1", x);
    let y = b.conv("conv2", x, Conv::same(4, 3));
    let y = b.activation("relu2", y, Activation::Relu);
    let x = b.add(x, y);
    let x = b.conv("conv3", x, Conv::same(2, 3));
    (b.finish(x).unwrap(), Profile { slots: 1024, ..profile("lattigo") })
}

#[test]
fn resnet20_takes_no_more_rotations_and_bootstraps_than_orion() {
    let graph = resnet20();
    // Alpha 13 has the degrees 15, 15 and 27; 10 levels after a bootstrap.
    let policy = ActivationPolicy::minimax(Alpha::new(13).unwrap(), 40.0, 40.0);
    let plan = Plan::new(&graph, weights, &policy, &PlanOptions::for_engine(profile("lattigo"))).unwrap();
    let totals = plan.report().unwrap().totals;
    assert!(totals.rotations <= 893, "{totals:?}");
    assert!(totals.bootstraps <= 38, "{totals:?}");
    assert_eq!(totals.images, 2);
    // By the number of rotations alone.
    let totals =
        Plan::new(&graph, weights, &policy, &PlanOptions::new(32_768)).unwrap().report().unwrap().totals;
    assert!(totals.rotations <= 662, "{totals:?}");
}

#[test]
fn every_value_that_is_bootstrapped_is_in_range() {
    let graph = resnet20();
    let images = images(&graph, 2);
    let policy = fitted(&graph, &images, 15, 2.0);
    let mut profile = profile("desilofhe");
    profile.bootstrap =
        profile.bootstrap.map(|bootstrap| ckks_program::profile::Bootstrap { error: 0.0, ..bootstrap });
    let plan = Plan::new(&graph, weights, &policy, &PlanOptions::for_engine(profile)).unwrap();
    let program = plan.program();
    let bootstraps = program.instructions.iter().filter(|i| matches!(i.op, Op::Bootstrap { .. }));
    let mut seen = 0;
    for bootstrap in bootstraps {
        let bound = program.layers[bootstrap.layer as usize].bound.unwrap();
        assert!(bound <= 1.0 + 1e-9, "{bound}");
        seen += 1;
    }
    assert_eq!(seen, plan.report().unwrap().totals.bootstraps);
    assert!((5..=19).contains(&seen), "{seen} bootstraps");
    // Levels and bootstraps change nothing of what is computed.
    let reference = Reference::new(&graph, weights);
    let outputs = plan.simulate(&images, Noise::None).unwrap().outputs;
    for (image, output) in images.iter().zip(&outputs) {
        let expected = approximate(&graph, &reference, &policy, image, |_, _| {});
        let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        assert!(output.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-8 * largest));
    }
}

#[test]
fn the_predicted_seconds_are_those_of_the_instructions() {
    let (graph, profile) = small();
    let policy = composites(&graph, &images(&graph, 2), 10, 1.5);
    let plan = Plan::new(&graph, weights, &policy, &PlanOptions::for_engine(profile.clone())).unwrap();
    let report = plan.report().unwrap();
    let mut sum = 0.0;
    for ((kind, level), n) in count(&plan.program().instructions) {
        sum += n as f64 * profile.seconds(kind, level).unwrap();
    }
    let engine = report.totals.engine.unwrap();
    assert!((engine.latency_seconds - sum).abs() < 1e-9 * sum, "{} and {sum}", engine.latency_seconds);
    assert!(
        report.totals.bootstraps > 0 && engine.bootstrap_seconds == 13.0 * report.totals.bootstraps as f64
    );
    assert_eq!(engine.security_bits, 128);
    // Ciphertexts of 11 and of 1 levels.
    let levels = |values: &[u32]| plan.program().instructions[values[0] as usize].level;
    assert_eq!(engine.upload_bytes, 1_048_576.0 * f64::from(1 + levels(&plan.program().layers[0].values)));
    assert_eq!(engine.download_bytes, 1_048_576.0 * f64::from(1 + levels(&plan.program().results)));
}

#[test]
fn noise_has_the_size_that_the_profile_says() {
    let mut b = GraphBuilder::new([64]);
    let x = b.input();
    let x = b.linear("fc", x, 64);
    let graph = b.finish(x).unwrap();
    let mut profile = Profile { slots: 1 << 15, ..profile("lattigo") };
    profile.errors = ckks_program::profile::Errors { fresh: 0.0, rescale: 1e-5, rotate: 0.0 };
    let plan =
        Plan::new(&graph, weights, &ActivationPolicy::exact(), &PlanOptions::for_engine(profile.clone()))
            .unwrap();
    let images = images(&graph, 512);
    let errors = plan.errors(&images, 1).unwrap();
    let deviation = errors.last().unwrap().deviation;
    // 537 slots are looked at.
    assert!((deviation / 1e-5 - 1.0).abs() < 0.15, "{deviation}");
    let [exact, noisy, again, other] =
        [Noise::None, Noise::Measured { seed: 1 }, Noise::Measured { seed: 1 }, Noise::Measured { seed: 2 }]
            .map(|noise| plan.simulate(&images, noise).unwrap().outputs.concat());
    let squares: f64 = exact.iter().zip(&noisy).map(|(a, b)| (a - b).powi(2)).sum();
    let deviation = (squares / exact.len() as f64).sqrt();
    assert!((deviation / 1e-5 - 1.0).abs() < 0.03, "{deviation}");
    assert_eq!(noisy, again);
    assert_ne!(noisy, other);

    // A fresh ciphertext's error goes through the weights.
    profile.errors = ckks_program::profile::Errors { fresh: 1e-5, ..Default::default() };
    let plan =
        Plan::new(&graph, weights, &ActivationPolicy::exact(), &PlanOptions::for_engine(profile)).unwrap();
    let noisy = plan.simulate(&images, Noise::Measured { seed: 3 }).unwrap().outputs.concat();
    let squares: f64 = exact.iter().zip(&noisy).map(|(a, b)| (a - b).powi(2)).sum();
    let rows: f64 = graph.params()[..1].iter().flat_map(weights).map(|w| f64::from(w).powi(2)).sum();
    let expected = 1e-5 * (rows / 64.0).sqrt();
    let deviation = (squares / exact.len() as f64).sqrt();
    assert!((deviation / expected - 1.0).abs() < 0.05, "{deviation} instead of {expected}");
}

#[test]
fn a_recorded_bound_lets_a_value_be_bootstrapped() {
    // Sums that no activation follows at once: without a record, the bound of the weights holds.
    let mut b = GraphBuilder::new([2, 8, 8]);
    let x = b.input();
    let x = b.conv("conv", x, Conv::same(4, 3));
    let y = b.conv("other", x, Conv::same(4, 3));
    let x = b.affine("affine", x, vec![0.5], vec![0.25]);
    let z = b.mul(x, y);
    let graph = b.finish(z).unwrap();
    let recorded = Recorded([("conv".to_owned(), 2.0), ("input".to_owned(), 1.0)].into());
    let options = |recorded: Recorded| {
        let profile = Profile { slots: 1024, ..profile("lattigo") };
        PlanOptions { recorded, ..PlanOptions::for_engine(profile) }
    };
    let policy = ActivationPolicy::exact();
    let bounds = |recorded| {
        let plan = Plan::new(&graph, weights, &policy, &options(recorded)).unwrap();
        plan.program().layers.iter().map(|layer| layer.bound).collect::<Vec<_>>()
    };
    assert_eq!(bounds(Recorded::default())[..2], [None, None]);
    assert_eq!(bounds(recorded.clone()), [Some(1.0); 5]);
    // What is recorded is looked at.
    let check = |recorded| {
        let plan = Plan::new(&graph, weights, &policy, &options(recorded)).unwrap();
        plan.simulate(&images(&graph, 1), Noise::None).unwrap().check_ranges()
    };
    check(Recorded([("conv".to_owned(), 10.0)].into())).unwrap();
    // A record of a product says nothing of its factors.
    check(Recorded([("mul".to_owned(), 1e-9)].into())).unwrap();
    let error = check(Recorded([("conv".to_owned(), 0.125)].into())).unwrap_err().to_string();
    assert!(error.starts_with("conv: values reached from -"), "{error}");
    assert!(error.ends_with("but its range is -0.1250 to 0.1250"), "{error}");
}

#[test]
fn keys_keep_to_a_budget() {
    let graph = resnet20();
    let images = images(&graph, 1);
    let policy = fitted(&graph, &images, 15, 2.0);
    let plan = |key_bytes: Option<f64>| {
        let options = PlanOptions { key_bytes, ..PlanOptions::for_engine(profile("desilofhe")) };
        Plan::new(&graph, weights, &policy, &options)
    };
    let totals = |plan: &Plan| plan.report().unwrap().totals;
    let free = totals(&plan(None).unwrap());
    let most = 22e9;
    let plan_within = plan(Some(most)).unwrap();
    let within = totals(&plan_within);
    let [free_engine, engine] = [&free, &within].map(|totals| totals.engine.as_ref().unwrap());
    assert!(free_engine.key_bytes > most && engine.key_bytes <= most, "{within:?}");
    assert!(within.keys < free.keys && within.rotations <= free.rotations, "{within:?} {free:?}");
    assert!(engine.latency_seconds < 1.2 * free_engine.latency_seconds, "{within:?} {free:?}");
    let [a, b] = [plan(None).unwrap(), plan_within].map(|plan| plan.simulate(&images, Noise::None).unwrap());
    assert!(a.outputs[0].iter().zip(&b.outputs[0]).all(|(a, b)| (a - b).abs() < 1e-8));
    let error = plan(Some(17.1e9)).unwrap_err().to_string();
    assert!(
        error.starts_with("keys take ") && error.ends_with(" GB at least, but 17.10 GB are allowed"),
        "{error}"
    );
}

#[test]
fn bad_input_is_refused_with_numbers() {
    let (graph, profile) = small();
    let images = images(&graph, 2);
    let policy = composites(&graph, &images, 13, 1.5);
    let plan = |profile: Profile| {
        Plan::new(&graph, weights, &policy, &PlanOptions::for_engine(profile))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let levels = ckks_program::profile::Levels { fresh: 4, refreshed: 4, least: 0, extra_per_polynomial: 0 };
    assert_eq!(
        plan(Profile { levels, ..profile.clone() }),
        "relu1 takes 5 levels at once, but there are at most 4: after a bootstrap, or at the start"
    );
    let lost = plan(Profile { bootstrap: None, ..profile.clone() });
    assert!(
        lost.starts_with("levels run out at relu1: there is no place for a bootstrap before it"),
        "{lost}"
    );
    assert_eq!(
        plan(Profile { security_bits: 90, ..profile.clone() }),
        "the parameters of lattigo have 90 bits of security, which is below 128"
    );
    let mut without = profile.clone();
    without.seconds.remove(&OpKind::Multiply);
    assert_eq!(plan(without), "the profile of lattigo has no cost of `multiply` at level 4");
    assert_eq!(
        plan(Profile { slots: 1000, ..profile.clone() }),
        "1000 slots: a ciphertext has a power of two, 64 at least"
    );

    let mut insecure = PlanOptions::for_engine(Profile { security_bits: 90, ..profile.clone() });
    insecure.insecure = true;
    let plan = Plan::new(&graph, weights, &policy, &insecure).unwrap();
    assert_eq!(plan.report().unwrap().totals.engine.unwrap().security_bits, 90);
    let error = plan.simulate(&[vec![0.0; 100]], Noise::None).unwrap_err().to_string();
    assert_eq!(error, "an image has 100 values, but the network takes 128");

    let options = PlanOptions::new(1024);
    let exact = policy.clone().with_site("relu2", SitePolicy::Exact);
    let error = Plan::new(&graph, weights, &exact, &options).unwrap_err().to_string();
    assert_eq!(error, "relu2: the policy has `exact` here, which no ciphertext can be put through");
    let unknown = policy.clone().with_site("relu9", SitePolicy::Exact);
    assert!(matches!(Plan::new(&graph, weights, &unknown, &options), Err(Error::Policy(_))));
    let error = Plan::new(&graph, |_| vec![1.0; 3], &policy, &options).unwrap_err().to_string();
    assert_eq!(error, "conv1.weight has 3 values, but its shape [4, 2, 3, 3] has 72");
}

#[test]
fn damaged_profiles_are_refused() {
    let path = format!("{}/../../engines/lattigo.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let reason = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        Profile::from_toml(&text.replace(from, to)).unwrap_err().to_string()
    };
    assert_eq!(
        reason("version = 1\n", "version = 7\nmore = true\n"),
        "not a profile of an engine: it has version 7, but this program reads 1"
    );
    let descending = reason("[[2, 0.022], [5, 0.038]", "[[6, 0.022], [5, 0.038]");
    assert!(
        descending.ends_with("seconds of Rotate: levels must ascend, and numbers be finite and not negative")
    );
    assert!(reason("0.022", "-0.022").contains("not negative"));
    assert!(reason("ring = 65536", "rung = 65536").contains("rung"));
}
