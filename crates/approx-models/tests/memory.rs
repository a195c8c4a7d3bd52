//! Training keeps its memory. In a process of its own, where no other test takes any.

use approx_models::{
    ActivationPolicy, Backbone, RunOptions, Sgd, StepOptions, TrainableNetwork, initial_weights,
};
use candle_core::{Device, Tensor};

/// Bytes of this process that are in memory, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[test]
fn memory_does_not_grow_over_500_steps() {
    if resident().is_none() {
        eprintln!("SKIPPED: this system has no /proc/self/status");
        return;
    }
    let backbone = Backbone::find("cifar10", "resnet20").unwrap();
    let weights = initial_weights(backbone, 1).unwrap();
    let mut network = TrainableNetwork::build(
        backbone.graph().unwrap(),
        &weights,
        &ActivationPolicy::exact(),
        &RunOptions::default(),
    )
    .unwrap();
    let mut sgd = Sgd::new(0.9, 5e-4, true);
    let images = Tensor::randn(0f32, 1.0, (2, 3, 32, 32), &Device::Cpu).unwrap();
    let mut early = 0;
    for step in 1..=500 {
        let (_, gradients) = network.gradients(&images, &[1, 7], StepOptions::default()).unwrap();
        sgd.step(&mut network, &gradients, 1e-4).unwrap();
        if step == 100 {
            early = resident().unwrap();
        }
    }
    let late = resident().unwrap();
    println!("{} KiB after 100 steps, {} KiB after 500", early / 1024, late / 1024);
    // A step's activations alone are 3 MB: what one step in a hundred kept would show.
    assert!(late < early + (4 << 20), "{early} bytes after 100 steps, {late} after 500");
}
