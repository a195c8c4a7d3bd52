//! Training against PyTorch in float64 on hashed weights (tests/golden/training_step.py), on each device.

use std::collections::BTreeMap;

use approx_models::{ActivationPolicy, Backbone, RunOptions, Sgd, StepOptions, TrainableNetwork, Weights};
use candle_core::{Device, Tensor};
use minimax_coeffs::Alpha;
use serde::Deserialize;

mod common;
#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

#[derive(Deserialize)]
struct Golden {
    images: usize,
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    loss: f64,
    tensors: BTreeMap<String, Change>,
    policy: Policy,
}

#[derive(Deserialize)]
struct Policy {
    alpha: Option<Alpha>,
    b_relu: Option<f64>,
    b_max: Option<f64>,
}

/// How a tensor differs from its hashed values after the step.
#[derive(Deserialize)]
struct Change {
    largest_change: f64,
    sum_of_changes: f64,
    absolute_sum_of_changes: f64,
    norm_of_change: f64,
    places: Vec<usize>,
    changes: Vec<f64>,
}

fn hashed(name: &str, shape: &[usize]) -> Vec<f32> {
    common::hashed(name, shape, "bn2")
}

fn images(count: usize, device: &Device) -> Tensor {
    images_of(count, [3, 32, 32], device)
}

fn images_of(count: usize, [channels, height, width]: [usize; 3], device: &Device) -> Tensor {
    let shape = [count, channels, height, width];
    Tensor::from_vec(hashed("input", &shape), &shape, device).unwrap()
}

/// `backbone`, its golden file, and how far from PyTorch's float64 a change may be, as a share of the tensor's largest:
/// rounding moves some inputs of VGG's exact ReLUs and max-poolings to the other side, by which PyTorch's own float32 is
/// off by 1.3e-2.
const CASES: [(&str, &str, f64); 4] = [
    ("resnet20", include_str!("golden/training_resnet20.json"), 1e-4),
    ("vgg11bn", include_str!("golden/training_vgg11bn.json"), 2e-2),
    ("resnet20", include_str!("golden/training_resnet20_alpha7.json"), 1e-4),
    ("vgg11bn", include_str!("golden/training_vgg11bn_alpha7.json"), 1e-4),
];

#[test]
fn a_step_changes_the_weights_as_in_pytorch() {
    devices::devices().iter().for_each(a_step_changes_the_weights_on);
}

fn a_step_changes_the_weights_on(device: &Device) {
    for (backbone, golden, tolerance) in CASES {
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let Policy { alpha, b_relu, b_max } = golden.policy;
        let policy = alpha.map_or(ActivationPolicy::exact(), |alpha| {
            ActivationPolicy::minimax(alpha, b_relu.unwrap(), b_max.unwrap())
        });
        let what = format!("{backbone}, alpha {alpha:?}");
        let backbone = Backbone::find("cifar10", backbone).unwrap();
        let mut network = TrainableNetwork::build(
            backbone.graph().unwrap(),
            &Weights::generate(device.clone(), hashed),
            &policy,
            &RunOptions::EXACT_OUTSIDE,
        )
        .unwrap();
        let mut sgd = Sgd::new(golden.momentum, golden.weight_decay, true);
        let labels: Vec<u16> = (0..golden.images as u16).map(|i| i % 10).collect();
        let step = network.gradients(&images(golden.images, device), &labels, StepOptions::default());
        let (report, gradients) = step.unwrap();
        sgd.step(&mut network, &gradients, golden.lr).unwrap();
        assert_eq!(report.out_of_range, 0, "{what}");
        let loss_error = (f64::from(report.loss) - golden.loss).abs() / golden.loss;
        assert!(loss_error < 1e-5, "{what}: the loss is off by {loss_error:e}");

        let state = network.state().unwrap();
        assert!(state.keys().eq(golden.tensors.keys()), "{what}");
        let (mut worst_value, mut worst_change) = (0f64, (0f64, ""));
        for (name, expected) in &golden.tensors {
            let tensor = &state[name];
            let old = hashed(name, tensor.dims());
            let new: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            let change: Vec<f64> =
                new.iter().zip(&old).map(|(new, old)| f64::from(*new) - f64::from(*old)).collect();
            let largest = |values: &[f32]| values.iter().fold(0f64, |max, x| max.max(f64::from(x.abs())));
            // The new values are float32: half a unit in the last place of the largest is no error of the gradient.
            let rounding = largest(&new) * f64::from(f32::EPSILON) / 2.0;
            for (&place, &expected_change) in expected.places.iter().zip(&expected.changes) {
                let error = (change[place] - expected_change).abs();
                worst_value = worst_value.max(error / largest(&new));
                let relative = (error - rounding).max(0.0) / expected.largest_change;
                if relative > worst_change.0 {
                    worst_change = (relative, name);
                }
            }
            let norm = change.iter().map(|x| x * x).sum::<f64>().sqrt();
            let slack = rounding * (change.len() as f64).sqrt() + tolerance * expected.norm_of_change;
            assert!((norm - expected.norm_of_change).abs() < slack, "{what}: {name} moves by {norm}");
            let sum: f64 = change.iter().sum();
            let slack = rounding * change.len() as f64 + tolerance * expected.absolute_sum_of_changes;
            assert!((sum - expected.sum_of_changes).abs() < slack, "{what}: {name} moves by {sum} in all");
        }
        println!(
            "{what}: loss within {loss_error:.1e}, weights within {worst_value:.1e}, changes within {:.1e} ({})",
            worst_change.0, worst_change.1
        );
        assert!(worst_value < 1e-4, "{what}: a weight is off by {worst_value:e} of the largest");
        assert!(worst_change.0 < tolerance, "{what}: {worst_change:?}");
    }
}

#[test]
fn every_backbone_learns_a_batch_in_20_steps() {
    const LR: f64 = 3e-3;
    for backbone in ["cifar10", "mnist"].into_iter().flat_map(Backbone::all) {
        let weights = Weights::generate(Device::Cpu, hashed);
        let mut network = TrainableNetwork::build(
            backbone.graph().unwrap(),
            &weights,
            &ActivationPolicy::exact(),
            &RunOptions::default(),
        )
        .unwrap();
        let mut sgd = Sgd::new(0.9, 5e-4, true);
        let images = images_of(8, backbone.image_shape(), &Device::Cpu);
        let labels = [0, 1, 2, 3, 4, 5, 6, 7];
        let mut losses = Vec::new();
        for step in 0..20 {
            let options = StepOptions { dropout_seed: Some(step), ..StepOptions::default() };
            let (report, gradients) = network.gradients(&images, &labels, options).unwrap();
            sgd.step(&mut network, &gradients, LR).unwrap();
            losses.push(report.loss);
        }
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let (first, last) = (mean(&losses[..4]), mean(&losses[16..]));
        println!("{}: {first:.3} to {last:.3}", backbone.name());
        assert!(last < 0.9 * first, "{}: {losses:?}", backbone.name());
    }
}
