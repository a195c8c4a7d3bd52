//! How long a pass takes on a GPU: launched op by op, and as a whole.
//!
//! `cargo run -p approx-models --features cudnn --example gpu_passes [-- [DATASET/]BACKBONE:BATCH…]`

use std::error::Error;
use std::time::Instant;

use approx_models::{ActivationPolicy, Backbone, Network, Weights};
use candle_core::Tensor;
use minimax_coeffs::Alpha;

/// Passes between two looks at the clock, and such runs.
const REPETITIONS: usize = 20;
const RUNS: usize = 7;
const NETWORKS: [&str; 4] =
    ["cifar10/resnet20:128", "cifar10/resnet110:128", "cifar10/vgg16bn:128", "imagenet/resnet50:32"];

fn main() -> Result<(), Box<dyn Error>> {
    let device = cnn_kernels::cuda_device(0)?;
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let networks = if asked.is_empty() { NETWORKS.map(str::to_owned).to_vec() } else { asked };
    println!(
        "| network, batch | op by op, ms | as a whole, ms | the same, with logits and ranges read, ms |"
    );
    println!("|---|---|---|---|");
    for asked in networks {
        let (name, batch) = asked.split_once(':').ok_or("expected [DATASET/]BACKBONE:BATCH")?;
        let (dataset, backbone) = name.split_once('/').unwrap_or(("cifar10", name));
        let batch: usize = batch.parse()?;
        let small = |_name: &str, shape: &[usize]| {
            let inputs: usize = shape.iter().skip(1).product();
            vec![1.0 / inputs as f32; shape.iter().product()]
        };
        let weights = Weights::generate(device.clone(), small);
        let policy = ActivationPolicy::minimax(Alpha::MAX, 50.0, 50.0);
        let network = Network::build(Backbone::find(dataset, backbone)?.graph()?, &weights, &policy)?;
        let shape = [&[batch], network.graph().input_shape().dims()].concat();
        let images = Tensor::randn(0f32, 1.0, shape, &device)?;
        // Passes of one shape in a row are launched as a whole.
        let fewer = images.narrow(0, 0, batch - 1)?.contiguous()?;
        let mut is_odd = false;
        let op_by_op = milliseconds(
            || {
                is_odd = !is_odd;
                Ok(drop(network.forward(if is_odd { &images } else { &fewer })?))
            },
            || Ok(device.synchronize()?),
        )?;
        assert!(!network.is_replayed());
        let whole = milliseconds(|| Ok(drop(network.forward(&images)?)), || Ok(device.synchronize()?))?;
        assert!(network.is_replayed());
        let read = || {
            network.forward(&images)?.flatten_all()?.to_vec1::<f32>()?;
            network.sites().iter().for_each(|site| _ = site.take_range());
            Ok(())
        };
        let with_results = milliseconds(read, || Ok(()))?;
        println!("| {backbone}, {batch} | {op_by_op:.3} | {whole:.3} | {with_results:.3} |");
    }
    Ok(())
}

/// The median time of a pass, with the device waited for once a run.
fn milliseconds(
    mut pass: impl FnMut() -> Result<(), Box<dyn Error>>,
    wait: impl Fn() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let mut times = Vec::with_capacity(RUNS);
    for run in 0..=RUNS {
        wait()?;
        let start = Instant::now();
        for _ in 0..REPETITIONS {
            pass()?;
        }
        wait()?;
        // The first one warms up.
        if run > 0 {
            times.push(1e3 * start.elapsed().as_secs_f64() / REPETITIONS as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}
