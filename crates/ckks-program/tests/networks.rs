//! Whole networks, simulated slot by slot, against the approximate network in float64.

mod common;

use ckks_program::{Noise, Plan, PlanOptions};
use cnn_graph::Graph;
use cnn_graph::policy::ActivationPolicy;
use cnn_graph::reference::Reference;
use cnn_graph::zoo::Backbone;
use common::{approximate, composites, fitted, images, weights};

fn backbone(dataset: &str, name: &str, size: Option<usize>) -> Graph {
    let backbone = Backbone::find(dataset, name).unwrap();
    size.map_or(*backbone, |size| backbone.with_image_size([size; 2])).graph().unwrap()
}

/// Logits within `1e-8` of the largest, and all ranges kept.
fn assert_same(graph: &Graph, policy: &ActivationPolicy, images: &[Vec<f64>], slots: usize) {
    let plan = Plan::new(graph, weights, policy, &PlanOptions::new(slots)).unwrap();
    let simulation = plan.simulate(images, Noise::None).unwrap();
    let reference = Reference::new(graph, weights);
    let mut expected = Vec::new();
    for image in images {
        expected.push(approximate(graph, &reference, policy, image, |_, _| {}));
    }
    for range in &simulation.ranges {
        assert_eq!(range.outside, 0, "{range:?}");
    }
    let largest = expected.iter().flatten().fold(0.0f64, |a, b| a.max(b.abs()));
    for (image, (output, expected)) in simulation.outputs.iter().zip(&expected).enumerate() {
        for (a, b) in output.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-8 * largest, "image {image}: {a} instead of {b}");
        }
    }
}

#[test]
fn resnet20_of_composites_is_the_approximate_network() {
    let graph = backbone("cifar10", "resnet20", None);
    let images = images(&graph, 3);
    for alpha in [7, 14] {
        let policy = composites(&graph, &images, alpha, 1.5);
        assert_same(&graph, &policy, &images, 32_768);
    }
}

#[test]
fn resnet20_of_fitted_polynomials_is_the_approximate_network() {
    let graph = backbone("cifar10", "resnet20", None);
    let images = images(&graph, 3);
    assert_same(&graph, &fitted(&graph, &images, 15, 2.0), &images, 32_768);
}

#[test]
fn lenet5_with_its_max_poolings_is_the_approximate_network() {
    let graph = backbone("mnist", "lenet5", None);
    let images = images(&graph, 5);
    assert_same(&graph, &composites(&graph, &images, 8, 1.5), &images, 8192);
}

#[test]
fn vgg11_is_the_approximate_network() {
    let graph = backbone("cifar10", "vgg11bn", None);
    let images = images(&graph, 1);
    assert_same(&graph, &fitted(&graph, &images, 7, 2.0), &images, 32_768);
}

#[test]
fn resnet18_in_many_ciphertexts_is_the_approximate_network() {
    let graph = backbone("imagenet", "resnet18", Some(64));
    let images = images(&graph, 1);
    assert_same(&graph, &fitted(&graph, &images, 7, 2.0), &images, 16_384);
}

#[test]
fn googlenet_is_the_approximate_network() {
    let graph = backbone("imagenet", "googlenet", Some(32));
    let images = images(&graph, 1);
    assert_same(&graph, &fitted(&graph, &images, 5, 2.0), &images, 16_384);
}
