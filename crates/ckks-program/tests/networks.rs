//! Whole networks, simulated slot by slot, against the approximate network in float64.

mod common;

use ckks_program::{Noise, Plan, PlanOptions};
use cnn_graph::ops::{Activation, BatchNorm, Conv};
use cnn_graph::policy::ActivationPolicy;
use cnn_graph::reference::Reference;
use cnn_graph::zoo::Backbone;
use cnn_graph::{Graph, GraphBuilder};
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

/// Inverted residuals with depthwise convolutions, and the attention to channels of MobileNet-v3.
#[test]
fn a_mobile_network_is_the_approximate_network() {
    let mut b = GraphBuilder::new([3, 20, 20]);
    let x = b.input();
    let mut x = b.conv_bn("stem", "bn", x, Conv::same(8, 3).with_stride(2), BatchNorm::DEFAULT_EPS);
    for (i, stride) in [(0, 1), (1, 2)] {
        let residual = x;
        x = b.scope(format!("block{i}"), |b| {
            let relu6 = Activation::Clip { low: 0.0, high: 6.0 };
            let y = b.conv_bn("expand", "bn1", x, Conv::same(16, 1), BatchNorm::DEFAULT_EPS);
            let y = b.activation("act1", y, relu6);
            let depthwise = Conv::same(16, 3).with_groups(16).with_stride(stride);
            let y = b.conv_bn("depthwise", "bn2", y, depthwise, BatchNorm::DEFAULT_EPS);
            let y = b.activation("act2", y, Activation::HardSwish);
            let s = b.global_avg_pool(y);
            let s = b.conv("squeeze", s, Conv::new(4, [1, 1]).with_bias());
            let s = b.relu("act3", s);
            let s = b.conv("excite", s, Conv::new(16, [1, 1]).with_bias());
            let s = b.activation("gate", s, Activation::HardSigmoid { scale: 1.0 / 6.0, offset: 0.5 });
            let y = b.mul(y, s);
            let y = b.conv_bn("project", "bn3", y, Conv::same(8, 1), BatchNorm::DEFAULT_EPS);
            if stride == 1 { b.add(residual, y) } else { y }
        });
    }
    let x = b.global_avg_pool(x);
    let x = b.flatten(x);
    let x = b.linear("fc", x, 7);
    let graph = b.finish(x).unwrap();
    let images = images(&graph, 3);
    assert_same(&graph, &composites(&graph, &images, 9, 1.5), &images, 8192);
    assert_same(&graph, &fitted(&graph, &images, 11, 2.0), &images, 1024);
}
