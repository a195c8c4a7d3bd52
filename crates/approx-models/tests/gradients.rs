//! The gradients of a small network of all kinds of layers, against differences of its own loss.

use approx_models::ops::{AvgPool, BatchNorm, Conv, Pad, Pool, Slice};
use approx_models::{
    ActivationPolicy, Graph, GraphBuilder, RunOptions, Sgd, StepOptions, TrainableNetwork, Weights,
};
use candle_core::{Device, Tensor};
use minimax_coeffs::Alpha;

mod common;
#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

/// Two branches of all there is, joined twice.
fn everything() -> Graph {
    const EPS: f64 = 1e-5;
    let mut b = GraphBuilder::new([3, 10, 10]);
    let x = b.input();
    let x = b.affine("rescale", x, vec![0.5, 1.0, 2.0], vec![0.125]);
    let x = b.conv_bn("conv1", "bn1", x, Conv::same(6, 3), EPS);
    let x = b.relu("relu1", x); // [6, 10, 10]
    let y = b.conv_bn("conv2", "bn2", x, Conv::same(6, 3).with_bias(), EPS);
    let x = b.add(y, x);
    let x = b.relu("relu2", x); // [6, 10, 10]
    let y = b.conv("conv4", x, Conv::same(6, 3).with_bias());
    let x = b.add(x, y);
    let x = b.relu("relu4", x); // [6, 10, 10]: a convolution without batch norm
    let pooled = b.max_pool("pool", x, Pool::square(3, 2).with_padding(1));
    let window = Pool::square(3, 1).with_padding(1);
    let pooled = b.unnamed("average", AvgPool { window, count_padding: true }, &[pooled]); // [6, 5, 5]
    let projected = b.conv_bn("conv3", "bn3", x, Conv::same(6, 1).with_stride(2), EPS);
    let rows = b.unnamed("rows", Slice { axis: 1, start: 0, end: 10, step: 2 }, &[x]);
    let columns = b.unnamed("columns", Slice { axis: 2, start: 0, end: 10, step: 2 }, &[rows]);
    let subsampled = b.unnamed("pad", Pad::channels(4, 4), &[columns]); // [14, 5, 5]
    let joined = b.concat(&[pooled, projected, subsampled]); // [26, 5, 5]
    let joined = b.node("bn4", BatchNorm { eps: EPS }, &[joined]); // behind no convolution
    let y = b.adaptive_avg_pool(joined, [2, 2]);
    let y = b.flatten(y); // [26 · 4]
    let y = b.dropout("drop", y, 0.5);
    let y = b.linear("fc1", y, 12);
    let y = b.node("bn5", BatchNorm { eps: EPS }, &[y]); // [12]
    let y = b.relu("relu3", y);
    let y = b.linear("fc2", y, 5);
    let gate = b.global_avg_pool(joined);
    let gated = b.mul(joined, gate);
    let side = b.global_avg_pool(gated);
    let side = b.flatten(side);
    let side = b.linear("fc3", side, 5);
    let sum = b.add(y, side); // [5]
    b.finish(sum).unwrap()
}

fn hashed(name: &str, shape: &[usize]) -> Vec<f32> {
    common::hashed(name, shape, "none")
}

fn images(device: &Device) -> Tensor {
    let shape = [6, 3, 10, 10];
    Tensor::from_vec(hashed("input", &shape), &shape, device).unwrap()
}

const LABELS: [u16; 6] = [0, 1, 2, 3, 4, 0];

#[test]
fn gradients_are_the_slopes_of_the_loss_in_every_parameter() {
    devices::devices().iter().for_each(gradients_are_the_slopes_on);
}

fn gradients_are_the_slopes_on(device: &Device) {
    let minimax = ActivationPolicy::minimax(Alpha::new(7).unwrap(), 12.0, 12.0);
    let options = StepOptions { dropout_seed: Some(3), range_penalty: 0.0 };
    for (policy, range_penalty) in
        [(ActivationPolicy::relu_aq(), 0.0), (minimax.clone(), 0.0), (minimax, 2.0)]
    {
        let options = StepOptions { range_penalty, ..options };
        // The loss where parameter `moved` is moved by `by` in the direction of other hashed values.
        let loss = |moved: String, by: f64| {
            let weights = Weights::generate(device.clone(), move |name, shape| {
                let mut values = hashed(name, shape);
                if name == moved {
                    for (value, d) in values.iter_mut().zip(hashed(&format!("direction.{name}"), shape)) {
                        *value += by as f32 * d;
                    }
                }
                values
            });
            let outside = RunOptions::EXACT_OUTSIDE;
            let mut network = TrainableNetwork::build(everything(), &weights, &policy, &outside).unwrap();
            let (report, gradients) = network.gradients(&images(device), &LABELS, options).unwrap();
            (f64::from(report.loss) + f64::from(report.penalty), gradients)
        };
        let (_, gradients) = loss(String::new(), 0.0);
        let names: Vec<&str> = gradients.names().collect();
        assert_eq!(names.len(), 3 + 4 + 3 + 2 + 2 + 2 + 6, "{names:?}");
        for name in names {
            let gradient = gradients.get(name).unwrap();
            let direction = hashed(&format!("direction.{name}"), gradient.dims());
            let gradient: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
            let slope: f64 =
                gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
            let h = 2e-3;
            let expected = (loss(name.to_owned(), h).0 - loss(name.to_owned(), -h).0) / (2.0 * h);
            println!("{name}: {slope:.6} for {expected:.6}");
            assert!(
                (slope - expected).abs() < 2e-3 + 0.02 * expected.abs(),
                "{name}: {slope} for {expected}"
            );
        }
    }
}

#[test]
fn sgd_is_pytorchs() {
    let row = || {
        let mut b = GraphBuilder::new([3]);
        let x = b.input();
        let x = b.linear("fc", x, 1);
        b.finish(x).unwrap()
    };
    // From torch.optim.SGD(lr=0.1, momentum=0.9, weight_decay=0.05) after three steps with the gradients t · g.
    let (g, start) = ([0.5f32, -1.0, 2.0], vec![1f32, -2.0, 0.5]);
    for (nesterov, expected) in [
        (true, [0.236_522_768_874_999_87, -0.473_045_537_749_999_74, -2.414_265_373_687_500_4]),
        (false, [0.498_018_625, -0.996_037_25, -1.410_170_062_5]),
    ] {
        let values = start.clone();
        let weights = Weights::generate(Device::Cpu, move |name, _| match name {
            "fc.weight" => values.clone(),
            _ => vec![0.0],
        });
        let (policy, options) = (ActivationPolicy::exact(), RunOptions::default());
        let mut network = TrainableNetwork::build(row(), &weights, &policy, &options).unwrap();
        let mut sgd = Sgd::new(0.9, 0.05, nesterov);
        for t in 1..=3u8 {
            let gradient = g.map(|g| g * f32::from(t));
            let gradient = Tensor::from_slice(&gradient, (1, 3), &Device::Cpu).unwrap();
            let gradients = [("fc.weight".to_owned(), gradient)].into_iter().collect();
            sgd.step(&mut network, &gradients, 0.1).unwrap();
        }
        let found: Vec<f32> = network.state().unwrap()["fc.weight"].flatten_all().unwrap().to_vec1().unwrap();
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() < 1e-6, "{nesterov}: {found} for {expected}");
        }
    }
}
