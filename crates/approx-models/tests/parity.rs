//! Every backbone against the original PyTorch code, or against NumPy where there is none: names, shapes, exact and approximate logits, on each device.

mod common;
#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

use std::collections::BTreeMap;

use approx_models::{
    ActivationPolicy, Backbone, Composition, ModelError, Network, Outside, RunOptions, SiteKind, SitePolicy,
    Weights,
};
use approx_ops::Noise;
use candle_core::{Device, Tensor};
use common::hashed;
use devices::devices;
use minimax_coeffs::Alpha;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    input_shape: Vec<usize>,
    parameters: usize,
    max_abs_relu_input: f64,
    max_abs_maxpool_input: f64,
    exact: Vec<Vec<Option<f64>>>,
    exact_argmax: Vec<usize>,
    approx: Vec<Approximate>,
}

#[derive(Deserialize)]
struct Approximate {
    alpha: Option<Alpha>,
    b_relu: Option<f64>,
    b_max: Option<f64>,
    method: Option<String>,
    /// `None` where the original network overflowed.
    logits: Vec<Vec<Option<f64>>>,
    argmax: Vec<usize>,
}

impl Approximate {
    fn policy(&self) -> ActivationPolicy {
        match (self.method.as_deref(), self.alpha) {
            (None, Some(alpha)) => {
                ActivationPolicy::minimax(alpha, self.b_relu.unwrap(), self.b_max.unwrap())
            }
            (Some("square"), None) => ActivationPolicy::square(),
            (Some("relu_aq"), None) => ActivationPolicy::relu_aq(),
            other => panic!("{other:?}"),
        }
    }
}

fn build(
    backbone: &Backbone,
    weights: &Weights,
    policy: &ActivationPolicy,
) -> approx_models::Result<Network> {
    Network::build(backbone.graph()?, weights, policy)
}

fn all_backbones() -> impl Iterator<Item = &'static Backbone> {
    // Fashion-MNIST's is MNIST's.
    ["cifar10", "imagenet", "mnist"].into_iter().flat_map(Backbone::all)
}

fn hashed_weights(backbone: &Backbone) -> Weights {
    hashed_weights_on(backbone, Device::Cpu)
}

fn hashed_weights_on(backbone: &Backbone, device: Device) -> Weights {
    let bottleneck =
        backbone.dataset() == "imagenet" && ["resnet50", "resnet101", "resnet152"].contains(&backbone.name());
    let last_norm = if bottleneck { "bn3" } else { "bn2" };
    Weights::generate(device, move |name, shape| hashed(name, shape, last_norm))
}

fn read(file: &str) -> String {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn golden(backbone: &Backbone) -> Golden {
    serde_json::from_str(&read(&format!("{}_{}.json", backbone.dataset(), backbone.name()))).unwrap()
}

/// The tensors of the original state_dict but the counters.
fn golden_state_dict(backbone: &Backbone) -> BTreeMap<String, Vec<usize>> {
    read(&format!("state_dicts/{}_{}.txt", backbone.dataset(), backbone.name()))
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
        .map(|(name, shape)| (name.to_owned(), shape.split('x').map(|d| d.parse().unwrap()).collect()))
        .collect()
}

/// Heads that are for training only.
fn is_auxiliary(name: &str) -> bool {
    ["aux1.", "aux2.", "AuxLogits."].iter().any(|head| name.starts_with(head))
}

/// The largest difference as a share of the largest |logit|; classes must agree, and so must overflows.
fn compare(network: &Network, images: &Tensor, logits: &[Vec<Option<f64>>], argmax: &[usize]) -> f64 {
    let actual: Vec<Vec<f32>> = network.forward(images).unwrap().to_vec2().unwrap();
    assert_eq!(actual.len(), logits.len());
    let largest = logits.iter().flatten().flatten().fold(0f64, |max, l| max.max(l.abs()));
    let mut difference = 0f64;
    for ((actual, expected), &class) in actual.iter().zip(logits).zip(argmax) {
        // The golden files have ten logits of each image.
        assert_eq!(expected.len(), 10);
        for (a, e) in actual.iter().zip(expected) {
            assert_eq!(a.is_finite(), e.is_some());
            difference = difference.max(e.map_or(0.0, |e| (f64::from(*a) - e).abs()));
        }
        if expected.iter().any(Option::is_none) {
            return 0.0;
        }
        let best = (0..actual.len()).max_by(|&a, &b| actual[a].total_cmp(&actual[b])).unwrap();
        assert_eq!(best, class);
    }
    difference / largest
}

#[test]
fn every_backbone_agrees_with_the_original_code() {
    assert_eq!(all_backbones().count(), 9 + 11 + 1);
    devices().iter().for_each(every_backbone_agrees_on);
}

fn every_backbone_agrees_on(device: &Device) {
    for backbone in all_backbones() {
        let name = format!("{}/{}", backbone.dataset(), backbone.name());
        let golden = golden(backbone);
        let size = [golden.input_shape[2], golden.input_shape[3]];
        let backbone = &backbone.with_image_size(size);
        let pixels = hashed("input", &golden.input_shape, "");
        let images = Tensor::from_vec(pixels, golden.input_shape, device).unwrap();
        let weights = hashed_weights_on(backbone, device.clone());
        let mut network = build(backbone, &weights, &ActivationPolicy::exact()).unwrap();
        let exact = compare(&network, &images, &golden.exact, &golden.exact_argmax);
        assert!(exact < 1e-4, "{name}: exact logits differ by {exact:e}");
        for (kind, expected) in
            [(SiteKind::Relu, golden.max_abs_relu_input), (SiteKind::MaxPool, golden.max_abs_maxpool_input)]
        {
            let of_kind = network.sites().iter().filter(|site| site.kind() == kind);
            let largest = of_kind.map(|site| f64::from(site.take_range().max_abs)).fold(0.0, f64::max);
            assert!((largest - expected).abs() <= 1e-4 * expected, "{name}: {kind:?} {largest} {expected}");
        }

        let mut worst = 0f64;
        for approximate in &golden.approx {
            network.set_policy(&approximate.policy(), &RunOptions::default()).unwrap();
            let difference = compare(&network, &images, &approximate.logits, &approximate.argmax);
            let what = format!("{name} {:?} {:?}", approximate.alpha, approximate.method);
            assert!(difference < 1e-3, "{what}: logits differ by {difference:e}");
            let overflows = approximate.logits.iter().flatten().any(Option::is_none);
            let out_of_range =
                network.sites().iter().fold(false, |any, site| any | (site.take_range().out_of_range > 0));
            assert_eq!(out_of_range, overflows, "{what}");
            worst = worst.max(difference);
        }
        println!("{name}: exact {exact:.1e}, approximate {worst:.1e} of the largest logit");
    }
}

#[test]
fn parameter_names_and_shapes_are_the_originals() {
    for backbone in all_backbones() {
        let params = backbone.graph().unwrap().params().into_iter();
        let requested: BTreeMap<_, _> = params.map(|param| (param.name, param.shape)).collect();
        let mut original = golden_state_dict(backbone);
        let is_parameter = |name: &str| !name.contains("running_");
        let parameters: usize = original
            .iter()
            .filter(|(name, _)| is_parameter(name))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(parameters, golden(backbone).parameters, "{}", backbone.name());
        original.retain(|name, _| !is_auxiliary(name));
        assert_eq!(requested, original, "{}", backbone.name());
    }
}

#[test]
fn a_refused_policy_changes_nothing() {
    let backbone = Backbone::find("cifar10", "resnet20").unwrap();
    let policy = ActivationPolicy::minimax(Alpha::MAX, 50.0, 50.0);
    let mut network = build(backbone, &hashed_weights(backbone), &policy).unwrap();
    let set = |network: &mut Network, policy, options| network.set_policy(&policy, &options);
    let minimax = |bound| ActivationPolicy::minimax(Alpha::MIN, bound, 50.0);
    assert!(set(&mut network, minimax(f64::NAN), RunOptions::default()).is_err());
    let elsewhere = minimax(40.0).with_site("layer9.relu", SitePolicy::Exact);
    assert!(set(&mut network, elsewhere, RunOptions::default()).is_err());
    let noisy_outside = RunOptions { noise: Some(Noise::of_bits(20.0, 1)), outside: Outside::Exact };
    let error = set(&mut network, minimax(40.0), noisy_outside).unwrap_err();
    assert!(matches!(error, ModelError::NoiseOutside), "{error}");
    assert!(network.sites().iter().all(|site| site.bound() == Some(50.0)));
}

#[test]
fn sites_can_differ_by_name() {
    let backbone = Backbone::find("cifar10", "vgg11bn").unwrap();
    let at = |bits, bound| SitePolicy::minimax(&Composition::published(Alpha::new(bits).unwrap()), bound);
    let policy =
        ActivationPolicy::exact().with_site("features.2", at(10, 15.0)).with_site("features.3", at(7, 9.0));
    let network = build(backbone, &hashed_weights(backbone), &policy).unwrap();
    let bounds: Vec<_> = network.sites().iter().filter_map(|s| Some((s.name(), s.bound()?))).collect();
    assert_eq!(bounds, [("features.2", 15.0), ("features.3", 9.0)]);
    let error = |policy: &ActivationPolicy| {
        build(backbone, &hashed_weights(backbone), policy).err().unwrap().to_string()
    };
    let text = error(&policy.clone().with_site("features.9", SitePolicy::Exact));
    assert!(text.contains("`features.9`, but the network has no such site; it has features.2, "), "{text}");
    // A parabola is no maximum: at a site, and for all.
    for (policy, method) in [(SitePolicy::Square, "square"), (SitePolicy::ReluAq, "relu_aq")] {
        let text = error(&ActivationPolicy::exact().with_site("features.7", policy.clone()));
        assert!(text.starts_with(&format!("features.7: `{method}` stands for ReLU only")), "{text}");
        let text = error(&ActivationPolicy::uniform(SitePolicy::Exact, policy));
        assert!(text.starts_with(&format!("features.3: `{method}` stands for ReLU only")), "{text}");
    }
}

#[test]
fn unknown_backbones_and_bad_bounds_are_named() {
    let error = Backbone::find("cifar10", "resnet18").unwrap_err().to_string();
    assert!(error.starts_with("unknown backbone `resnet18` for cifar10; known: resnet20, "), "{error}");
    let backbone = Backbone::find("cifar10", "vgg11bn").unwrap();
    let policy = ActivationPolicy::minimax(Alpha::MAX, 50.0, -1.0);
    let error = build(backbone, &hashed_weights(backbone), &policy).err().unwrap().to_string();
    assert!(error.starts_with("features.3: the bound of the approximation range is -1.0,"), "{error}");
}
