//! A trained network on real images against PyTorch.

use std::collections::BTreeMap;

use approx_data::{Normalization, demo};
use approx_eval::{BoundSearch, Bounds, EvalError, Job, Logits, approximate_pass, exact_pass};
use approx_models::{ActivationPolicy, Backbone, Network, RunOptions, Weights};
use candle_core::Device;
use minimax_coeffs::Alpha;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    exact_argmax: Vec<usize>,
    bound: f64,
    alpha: BTreeMap<String, Approximate>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Approximate {
    RangeError { range_error: bool },
    Logits { accuracy: f64, argmax: Vec<usize>, logits_of_first_8: Vec<Vec<f64>> },
}

/// How many classes differ.
fn differences(logits: &Logits, classes: &[usize]) -> usize {
    assert_eq!(logits.predictions().len(), classes.len());
    logits.predictions().zip(classes).filter(|(a, b)| a != &Some(**b)).count()
}

#[test]
fn classes_logits_and_range_errors_are_pytorchs() {
    let golden: Golden = serde_json::from_str(include_str!("golden/demo_pytorch.json")).unwrap();
    let weights = Weights::from_safetensors(demo::RESNET20, &Device::Cpu, "the demo").unwrap();
    let backbone = Backbone::find("cifar10", "resnet20").unwrap();
    let images = demo::images();
    let job =
        Job { images: &images, normalization: Normalization::CIFAR10, batch_size: 125, device: Device::Cpu };
    let mut network =
        Network::build(backbone.graph().unwrap(), &weights, &ActivationPolicy::exact()).unwrap();
    let exact = exact_pass(&job, &network, &()).unwrap();
    assert!(differences(&exact.logits, &golden.exact_argmax) <= 2);

    let search = BoundSearch { start: Bounds { relu: golden.bound, max_pool: golden.bound }, step: 0.0 };
    assert_eq!(golden.alpha.len(), 9);
    for (alpha, expected) in golden.alpha {
        let alpha: Alpha = alpha.parse().unwrap();
        let result =
            approximate_pass(&job, &exact, &mut network, search, &RunOptions::default(), &(), |bounds| {
                ActivationPolicy::minimax(alpha, bounds.relu, bounds.max_pool)
            });
        match expected {
            Approximate::RangeError { range_error } => {
                assert!(range_error && matches!(result, Err(EvalError::Range(_))), "alpha {alpha}");
            }
            Approximate::Logits { accuracy, argmax, logits_of_first_8 } => {
                let logits = result.unwrap().pass.logits;
                assert!(differences(&logits, &argmax) <= 2, "alpha {alpha}");
                for (a, e) in logits.values().iter().zip(logits_of_first_8.iter().flatten()) {
                    assert!((f64::from(*a) - e).abs() < 1e-3, "alpha {alpha}: {a} for {e}");
                }
                let labels = images.labels().iter().map(|&label| usize::from(label));
                let right = logits.predictions().zip(labels).filter(|(a, b)| *a == Some(*b)).count();
                assert!((right as f64 / 1000.0 - accuracy).abs() <= 0.002, "alpha {alpha}: {right}");
            }
        }
    }
}
