//! How many images a second a network is trained with on random images: `benchmarks/compare_training.py` calls this.
//!
//! ```console
//! $ cargo run -p approx-models --example training_speed -- resnet20 [STEPS [BATCH [ALPHA]]]
//! ```

use std::time::Instant;

use approx_models::{
    ActivationPolicy, Backbone, RunOptions, Sgd, StepOptions, TrainableNetwork, init::initial_weights,
};
use candle_core::{Device, Tensor};
use minimax_coeffs::Alpha;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Steps that are not counted.
const WARM_UP: usize = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| arguments.get(i).map_or(Ok(default), |text| text.parse());
    let backbone = Backbone::find("cifar10", arguments.first().map_or("resnet20", String::as_str))?;
    let (steps, batch) = (number(1, 10)?, number(2, 128)?);
    let policy = match arguments.get(3) {
        None => ActivationPolicy::exact(),
        Some(alpha) => ActivationPolicy::minimax(alpha.parse::<Alpha>()?, 50.0, 50.0),
    };

    let weights = initial_weights(backbone, 1)?;
    let mut network =
        TrainableNetwork::build(backbone.graph()?, &weights, &policy, &RunOptions::EXACT_OUTSIDE)?;
    let mut sgd = Sgd::new(0.9, 5e-3, true);
    let images = Tensor::randn(0f32, 1.0, (batch, 3, 32, 32), &Device::Cpu)?;
    let labels: Vec<u16> = (0..batch).map(|i| (i % backbone.classes()) as u16).collect();
    let mut seconds: Vec<f64> = Vec::new();
    for _ in 0..WARM_UP + steps {
        let start = Instant::now();
        let (_, gradients) = network.gradients(&images, &labels, StepOptions::default())?;
        sgd.step(&mut network, &gradients, 1e-3)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let mut seconds = seconds.split_off(WARM_UP);
    seconds.sort_by(f64::total_cmp);
    println!("{:.1}", batch as f64 / seconds[seconds.len() / 2]);
    Ok(())
}
