//! The gradients of a small network of all kinds of layers, against differences of its own loss.

use approx_models::layers::{
    Conv2d, ConvSpec, Dropout, Linear, MaxPool, Relu, adaptive_average, average_3x3, concatenate, flatten,
    global_average, subsampled, through,
};
use approx_models::{
    ActivationPolicy, Forward, NetBuilder, Result, RunOptions, Sgd, StepOptions, TrainableNetwork, Weights,
};
use approx_ops::PoolSpec;
use candle_core::{Device, Tensor};
use minimax_coeffs::Alpha;

mod common;

/// Two branches of all there is, joined twice.
struct Everything {
    stem: (Conv2d, Relu),
    branch: (Conv2d, Relu),
    projection: Conv2d,
    pool: MaxPool,
    dropout: Dropout,
    hidden: (Linear, Relu),
    last: Linear,
    side: Linear,
}

impl Everything {
    fn new(b: &NetBuilder) -> Result<Self> {
        Ok(Self {
            stem: (b.conv_bn("conv1", "bn1", ConvSpec::same(3, 6, 3))?, b.relu("relu1")),
            branch: (b.conv_bn("conv2", "bn2", ConvSpec::same(6, 6, 3).with_bias())?, b.relu("relu2")),
            projection: b.conv_bn("conv3", "bn3", ConvSpec::same(6, 6, 1).with_stride(2))?,
            pool: b.max_pool("pool", PoolSpec::new(3, 2, 1)?),
            dropout: b.dropout("drop", 0.5),
            hidden: (b.linear("fc1", 26 * 4, 12)?, b.relu("relu3")),
            last: b.linear("fc2", 12, 5)?,
            side: b.linear("fc3", 26, 5)?,
        })
    }
}

impl Forward for Everything {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let xs = self.stem.0.forward_relu(images, None, &self.stem.1)?; // [N, 6, 10, 10]
        let xs = self.branch.0.forward_relu(&xs, Some(&xs), &self.branch.1)?; // [N, 6, 10, 10]
        let pooled = average_3x3(&self.pool.forward(&xs)?)?; // [N, 6, 5, 5]
        let joined = concatenate(&[pooled, self.projection.forward(&xs)?, subsampled(&xs, 14)?])?; // [N, 26, 5, 5]
        let ys = flatten(&adaptive_average(&joined, 2)?)?; // [N, 26 · 4]
        let ys = self.hidden.1.forward(&self.hidden.0.forward(&self.dropout.forward(&ys)?)?)?;
        let side = self.side.forward(&global_average(&joined)?)?;
        through([&self.last.forward(&ys)?, &side], |[a, b]| Ok((a + b)?)) // [N, 5]
    }
}

fn hashed(name: &str, shape: &[usize]) -> Vec<f32> {
    common::hashed(name, shape, "none")
}

fn images() -> Tensor {
    let shape = [6, 3, 10, 10];
    Tensor::from_vec(hashed("input", &shape), &shape, &Device::Cpu).unwrap()
}

const LABELS: [u16; 6] = [0, 1, 2, 3, 4, 0];

#[test]
fn gradients_are_the_slopes_of_the_loss_in_every_parameter() {
    let minimax = ActivationPolicy::minimax(Alpha::new(7).unwrap(), 12.0, 12.0);
    let options = StepOptions { dropout_seed: Some(3), range_penalty: 0.0 };
    for (policy, range_penalty) in
        [(ActivationPolicy::relu_aq(), 0.0), (minimax.clone(), 0.0), (minimax, 2.0)]
    {
        let options = StepOptions { range_penalty, ..options };
        // The loss where parameter `moved` is moved by `by` in the direction of other hashed values.
        let loss = |moved: String, by: f64| {
            let weights = Weights::generate(Device::Cpu, move |name, shape| {
                let mut values = hashed(name, shape);
                if name == moved {
                    for (value, d) in values.iter_mut().zip(hashed(&format!("direction.{name}"), shape)) {
                        *value += by as f32 * d;
                    }
                }
                values
            });
            let outside = RunOptions::EXACT_OUTSIDE;
            let network = TrainableNetwork::build(&weights, &policy, &outside, Everything::new);
            let mut network = network.unwrap();
            let (report, gradients) = network.gradients(&images(), &LABELS, options).unwrap();
            (f64::from(report.loss) + f64::from(report.penalty), gradients)
        };
        let (_, gradients) = loss(String::new(), 0.0);
        let names: Vec<&str> = gradients.names().collect();
        assert_eq!(names.len(), 3 + 4 + 3 + 6, "{names:?}");
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
fn a_parameter_that_no_gradient_reaches_is_an_error() {
    struct Unrecorded(Linear, Linear);
    impl Forward for Unrecorded {
        fn forward(&self, images: &Tensor) -> Result<Tensor> {
            let hidden = self.0.forward(&flatten(images)?)?;
            self.1.forward(&hidden.sqr()?)
        }
    }
    let mut network = TrainableNetwork::build(
        &Weights::generate(Device::Cpu, hashed),
        &ActivationPolicy::exact(),
        &RunOptions::default(),
        |b| Ok(Unrecorded(b.linear("first", 300, 4)?, b.linear("second", 4, 5)?)),
    )
    .unwrap();
    let error = network.gradients(&images(), &LABELS, StepOptions::default()).unwrap_err().to_string();
    assert!(error.contains("first.weight") && error.contains("through"), "{error}");
}

#[test]
fn sgd_is_pytorchs() {
    struct Row(Linear);
    impl Forward for Row {
        fn forward(&self, images: &Tensor) -> Result<Tensor> {
            self.0.forward(&flatten(images)?)
        }
    }
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
        let mut network =
            TrainableNetwork::build(&weights, &ActivationPolicy::exact(), &RunOptions::default(), |b| {
                Ok(Row(b.linear("fc", 3, 1)?))
            })
            .unwrap();
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
