//! Each kind of activation and max-pooling by itself, simulated slot by slot, against float64.

mod common;

use ckks_program::{Noise, Plan, PlanOptions};
use cnn_graph::ops::{Activation, Conv, Padding, Pool};
use cnn_graph::policy::{ActivationPolicy, SitePolicy};
use cnn_graph::reference::Reference;
use cnn_graph::{Graph, GraphBuilder};
use common::{approximate, composites, fitted, images, weights};
use proptest::prelude::*;

/// Holds the simulation of some images against the network with the policy's polynomials in float64.
fn assert_same(graph: &Graph, policy: &ActivationPolicy, slots: usize) -> Result<(), TestCaseError> {
    let images = images(graph, 3);
    let plan = Plan::new(graph, weights, policy, &PlanOptions::new(slots)).unwrap();
    let simulation = plan.simulate(&images, Noise::None).unwrap();
    let reference = Reference::new(graph, weights);
    for range in &simulation.ranges {
        prop_assert_eq!(range.outside, 0, "{:?}", range);
    }
    for (image, output) in images.iter().zip(&simulation.outputs) {
        let expected = approximate(graph, &reference, policy, image, |_, _| {});
        let largest = expected.iter().fold(1e-30f64, |a, b| a.max(b.abs()));
        for (i, (a, b)) in output.iter().zip(&expected).enumerate() {
            prop_assert!((a - b).abs() <= 1e-9 * largest, "number {}: {} instead of {}", i, a, b);
        }
    }
    Ok(())
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Relu),
        Just(Activation::LeakyRelu { slope: 0.125 }),
        Just(Activation::LeakyRelu { slope: -0.5 }),
        Just(Activation::Clip { low: -0.25, high: 0.5 }),
        Just(Activation::Clip { low: 0.0, high: f64::INFINITY }),
        Just(Activation::Clip { low: -100.0, high: 100.0 }),
        Just(Activation::HardSigmoid { scale: 0.2, offset: 0.5 }),
        Just(Activation::HardSwish),
        Just(Activation::Sigmoid),
        Just(Activation::Tanh),
        Just(Activation::Silu),
        Just(Activation::Gelu),
    ]
}

/// Convolution, activation, convolution.
fn network(activation: Activation, input: [usize; 3], stride: usize) -> Graph {
    let mut b = GraphBuilder::new(input);
    let x = b.input();
    let x = b.conv("first", x, Conv::same(3, 3).with_stride(stride).with_bias());
    let x = b.activation("site", x, activation);
    let x = b.conv("second", x, Conv::same(2, 3));
    b.finish(x).unwrap()
}

fn image() -> impl Strategy<Value = [usize; 3]> {
    [1usize..4, 3usize..8, 3usize..8]
}

fn slots() -> impl Strategy<Value = usize> {
    prop_oneof![Just(64usize), Just(1024)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn activations_by_composition(
        f in activation(), input in image(), stride in 1usize..3, alpha in 4u8..13, slots in slots(),
    ) {
        let graph = network(f, input, stride);
        assert_same(&graph, &composites(&graph, &images(&graph, 3), alpha, 1.5), slots)?;
    }

    #[test]
    fn fitted_activations(
        f in activation(), input in image(), stride in 1usize..3, degree in 2usize..32, slots in slots(),
    ) {
        let graph = network(f, input, stride);
        assert_same(&graph, &fitted(&graph, &images(&graph, 3), degree, 1.5), slots)?;
    }

    #[test]
    fn parabolas(input in image(), stride in 1usize..3, slots in slots()) {
        let graph = network(Activation::Relu, input, stride);
        assert_same(&graph, &ActivationPolicy::square(), slots)?;
        assert_same(&graph, &ActivationPolicy::relu_aq(), slots)?;
    }

    #[test]
    fn max_poolings(
        kernel in [1usize..4, 1usize..4],
        stride in [1usize..3, 1usize..3],
        pads in [0usize..2, 0usize..2, 0usize..2, 0usize..2],
        ceil_mode in any::<bool>(),
        after_relu in any::<bool>(),
        input in image(),
        alpha in 4u8..11,
        slots in slots(),
    ) {
        let [top, bottom, left, right] = pads;
        let [rows, columns] = kernel.map(|size| usize::from(size > 1));
        let padding =
            Padding { top: top * rows, bottom: bottom * rows, left: left * columns, right: right * columns };
        let mut b = GraphBuilder::new(input);
        let x = b.input();
        let x = b.conv("first", x, Conv::same(3, 3));
        let x = if after_relu { b.relu("relu", x) } else { x };
        let x = b.max_pool("pool", x, Pool { kernel, stride, padding, ceil_mode });
        let x = b.conv("second", x, Conv::same(2, 3));
        let graph = b.finish(x);
        prop_assume!(graph.is_ok());
        let graph = graph.unwrap();
        assert_same(&graph, &composites(&graph, &images(&graph, 3), alpha, 1.5), slots)?;
    }
}

#[test]
fn an_activation_of_the_input_and_of_a_sum_of_activations() {
    let mut b = GraphBuilder::new([2, 4, 4]);
    let x = b.input();
    let y = b.relu("relu1", x);
    let z = b.activation("tanh", x, Activation::Tanh);
    let sum = b.add(y, z);
    let y = b.relu("relu2", sum);
    let all = b.concat(&[sum, y]);
    let graph = b.finish(all).unwrap();
    let policy = composites(&graph, &images(&graph, 3), 9, 1.5);
    assert_same(&graph, &policy, 256).unwrap();
    // A bound that is too narrow is seen, and by how much.
    let relu1 = policy.at("relu1", cnn_graph::policy::SiteKind::Relu).approximation().unwrap();
    let narrow = SitePolicy::minimax(relu1.0, relu1.1 / 4.0);
    let plan = Plan::new(&graph, weights, &policy.clone().with_site("relu1", narrow), &PlanOptions::new(256))
        .unwrap();
    let simulation = plan.simulate(&images(&graph, 1), Noise::None).unwrap();
    let range = simulation.ranges.iter().find(|range| range.site == "relu1").unwrap();
    assert_eq!(range.outside, 1);
    assert!(range.seen[1].max(-range.seen[0]) > range.allowed[1], "{range:?}");
}

#[test]
fn maxima_that_are_alike_are_computed_once() {
    let maxima = |pool: Pool| {
        let mut b = GraphBuilder::new([2, 8, 8]);
        let x = b.input();
        let x = b.max_pool("pool", x, pool);
        let graph = b.finish(x).unwrap();
        let policy = composites(&graph, &images(&graph, 1), 7, 1.5);
        let plan = Plan::new(&graph, weights, &policy, &PlanOptions::new(256)).unwrap();
        plan.program().layers.iter().filter(|layer| layer.kind == "product").count()
    };
    assert_eq!(maxima(Pool::square(2, 2)), 2);
    assert_eq!(maxima(Pool::square(3, 1)), 6);
    // With padding, each match of the tournament.
    assert_eq!(maxima(Pool::square(2, 2).with_padding(1)), 3);
    assert_eq!(maxima(Pool::square(3, 2).with_padding(1)), 8);
}
