//! Networks with made-up weights, and their approximation in float64 by other means than the program's.

#![allow(dead_code)] // Each test has its own part of this.

use std::collections::BTreeMap;

use cnn_graph::ops::{Op, Pool};
use cnn_graph::policy::{ActivationPolicy, Fitted, SiteKind, SitePolicy};
use cnn_graph::reference::{Reference, activation};
use cnn_graph::{Graph, ParamSpec, ValueId};
use minimax_coeffs::fitted::{Density, FLOOR, Fit};
use minimax_coeffs::{ActivationFunction, Alpha, CompositeSign};

/// Numbers in [-1, 1) that depend on a name.
pub fn numbers(name: &str, count: usize) -> Vec<f64> {
    let mut state =
        name.bytes().fold(7u64, |state, byte| state.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Weights that keep the size of values about the same through the layers (He et al., arXiv 1502.01852).
pub fn weights(spec: &ParamSpec) -> Vec<f32> {
    let count = spec.shape.iter().product();
    let fan_in: usize = spec.shape[1..].iter().product();
    let of = |x: f64| match spec.name.rsplit('.').next() {
        Some("running_var") => 1.0 + x / 2.0,
        Some("weight") if spec.shape.len() == 1 => 0.75 + x / 4.0,
        Some("weight") => x * (6.0 / fan_in as f64).sqrt(),
        _ => x / 8.0,
    };
    numbers(&spec.name, count).into_iter().map(|x| of(x) as f32).collect()
}

pub fn images(graph: &Graph, count: usize) -> Vec<Vec<f64>> {
    (0..count).map(|i| numbers(&format!("image {i}"), graph.input_shape().elements())).collect()
}

/// The network with what the policy has at its sites, in float64; `seen` gets the input of each site.
pub fn approximate(
    graph: &Graph,
    reference: &Reference,
    policy: &ActivationPolicy,
    image: &[f64],
    mut seen: impl FnMut(&str, &[f64]),
) -> Vec<f64> {
    let inputs: std::collections::HashSet<ValueId> = graph.sites().map(|(_, node)| node.inputs[0]).collect();
    let mut kept: BTreeMap<ValueId, Vec<f64>> = BTreeMap::new();
    reference.run_with(image, |value, numbers| {
        let node = graph.node(value);
        if node.op.is_site() {
            let x = &kept[&node.inputs[0]];
            seen(&node.name, x);
            match (&node.op, policy.at(&node.name, SiteKind::of(&node.op))) {
                (_, SitePolicy::Exact) => {}
                (Op::Activation(function), site) => {
                    numbers.iter_mut().zip(x).for_each(|(y, x)| *y = one(*function, site, *x));
                }
                (Op::MaxPool(pool), SitePolicy::Minimax { composition, bound }) => {
                    let [channels, height, width] = graph.node(node.inputs[0]).shape.image().unwrap();
                    let [_, rows, columns] = node.shape.image().unwrap();
                    let epsilon = (-f64::from(composition.bits())).exp2();
                    for (c, y, x_) in (0..channels)
                        .flat_map(|c| (0..rows).flat_map(move |y| (0..columns).map(move |x| (c, y, x))))
                    {
                        let image = &x[c * height * width..][..height * width];
                        numbers[(c * rows + y) * columns + x_] = window_maximum(
                            &pool.0,
                            image,
                            [height, width],
                            [y, x_],
                            composition.sign(),
                            epsilon,
                            *bound,
                        );
                    }
                }
                (_, site) => panic!("{} at {}", site.method(), node.name),
            }
        }
        if inputs.contains(&value) {
            kept.insert(value, numbers.to_vec());
        }
    })
}

fn one(function: ActivationFunction, site: &SitePolicy, x: f64) -> f64 {
    match site {
        SitePolicy::Exact => activation(function, x),
        SitePolicy::Square => x * x,
        SitePolicy::ReluAq => x * x / 8.0 + x / 2.0 + 0.25,
        SitePolicy::Fitted(fitted) => fitted.polynomial().eval(x),
        SitePolicy::Minimax { composition, bound } => match composition.smooth(function, *bound).unwrap() {
            Some(smooth) => smooth.eval(x),
            None => function.piecewise().unwrap().approximate(composition.sign(), *bound, x),
        },
    }
}

/// The tournament as the paper defines it: values in [0, 1], zeros in the padding.
fn window_maximum(
    pool: &Pool,
    image: &[f64],
    [height, width]: [usize; 2],
    [y, x]: [usize; 2],
    sign: &CompositeSign,
    epsilon: f64,
    bound: f64,
) -> f64 {
    let rounds = if pool.kernel == [3, 3] { 3.0 } else { f64::from(pool.signs().0) };
    let c = (1.0 - 2.0 * rounds * epsilon) / (2.0 * bound);
    let pixel = |k: usize| {
        let row = (y * pool.stride[0] + k / pool.kernel[1]).checked_sub(pool.padding.top);
        let column = (x * pool.stride[1] + k % pool.kernel[1]).checked_sub(pool.padding.left);
        match (row, column) {
            (Some(row), Some(column)) if row < height && column < width => image[row * width + column],
            _ => 0.0,
        }
    };
    let values: Vec<f64> = (0..pool.kernel[0] * pool.kernel[1]).map(|k| c * pixel(k) + 0.5).collect();
    (tournament(&values, sign) - 0.5) / c
}

fn tournament(values: &[f64], sign: &CompositeSign) -> f64 {
    if let [only] = values {
        return *only;
    }
    let (first, others) = values.split_at(values.len().next_power_of_two() / 2);
    sign.max(tournament(first, sign), tournament(others, sign))
}

/// The largest size of what each site of the exact network sees.
pub fn largest_inputs(graph: &Graph, images: &[Vec<f64>]) -> BTreeMap<String, f64> {
    let reference = Reference::new(graph, weights);
    let mut largest: BTreeMap<String, f64> = BTreeMap::new();
    for image in images {
        approximate(graph, &reference, &ActivationPolicy::exact(), image, |site, x| {
            let known = largest.entry(site.to_owned()).or_default();
            *known = x.iter().fold(*known, |a, b| a.max(b.abs()));
        });
    }
    largest
}

/// The published polynomials, with a bound for each site.
pub fn composites(graph: &Graph, images: &[Vec<f64>], alpha: u8, headroom: f64) -> ActivationPolicy {
    let alpha = Alpha::new(alpha).unwrap();
    let mut policy = ActivationPolicy::minimax(alpha, 1.0, 1.0);
    let composition = policy.composition().unwrap().clone();
    for (site, largest) in largest_inputs(graph, images) {
        policy = policy.with_site(site, SitePolicy::minimax(&composition, headroom * largest));
    }
    policy
}

/// Polynomials of one degree, fitted on an interval for each ReLU that is not symmetric, and published ones at
/// max-poolings.
pub fn fitted(graph: &Graph, images: &[Vec<f64>], degree: usize, headroom: f64) -> ActivationPolicy {
    let mut policy = composites(graph, images, 10, headroom);
    for (_, node) in graph.sites() {
        let Op::Activation(function) = node.op else { continue };
        let bound = policy.at(&node.name, SiteKind::Relu).approximation().unwrap().1;
        let interval = [-1.125 * bound, bound];
        let density =
            Density::new((-8..=8).map(|i| (bound * f64::from(i) / 8.0, (-f64::from(i * i) / 16.0).exp())))
                .unwrap();
        let fit = Fit::new(function, &density, interval, FLOOR).unwrap();
        let polynomial = fit.polynomial(degree).unwrap();
        policy = policy.with_site(&*node.name, SitePolicy::Fitted(Fitted::new(polynomial, &density)));
    }
    policy
}
