//! Passes on a GPU that are launched as a whole give what passes op by op give.
#![cfg(feature = "cuda")]

mod common;
#[path = "../../cnn-kernels/tests/devices/mod.rs"]
mod devices;

use std::sync::Mutex;

use approx_models::{ActivationPolicy, Backbone, Network, RunOptions, Weights};
use approx_ops::RangeStats;
use candle_core::{Device, Tensor};
use common::hashed;
use minimax_coeffs::Alpha;

/// One test at a time has the device.
static DEVICE: Mutex<()> = Mutex::new(());

fn network(dataset: &str, name: &str, device: &Device, policy: &ActivationPolicy) -> Network {
    let last_norm = if name == "resnet50" { "bn3" } else { "bn2" };
    let weights = Weights::generate(device.clone(), move |name, shape| hashed(name, shape, last_norm));
    Network::build(Backbone::find(dataset, name).unwrap().graph().unwrap(), &weights, policy).unwrap()
}

fn images(network: &Network, count: usize, device: &Device) -> Tensor {
    let shape = [&[count], network.graph().input_shape().dims()].concat();
    Tensor::randn(0f32, 1.0, shape, device).unwrap()
}

/// Logits and ranges, as bits and numbers.
fn pass(network: &Network, images: &Tensor) -> (Vec<u32>, Vec<RangeStats>) {
    let logits = network.forward(images).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let ranges = network.sites().iter().map(|site| site.take_range()).collect();
    (logits.into_iter().map(f32::to_bits).collect(), ranges)
}

/// The first pass of a network, which is never a replay.
fn op_by_op(
    network: &mut Network,
    policy: &ActivationPolicy,
    images: &Tensor,
) -> (Vec<u32>, Vec<RangeStats>) {
    network.set_policy(policy, &RunOptions::default()).unwrap();
    assert!(!network.is_replayed());
    pass(network, images)
}

fn gpus() -> Vec<Device> {
    devices::devices().into_iter().filter(Device::is_cuda).collect()
}

#[test]
fn replays_give_the_bits_of_passes_op_by_op() {
    let _device = DEVICE.lock().unwrap();
    let networks = [
        ("cifar10", "resnet20", 64),
        ("cifar10", "vgg11bn", 32),
        ("imagenet", "resnet50", 4),
        ("imagenet", "googlenet", 4),
        ("imagenet", "inception_v3", 2),
        ("mnist", "lenet5", 16),
    ];
    for device in gpus() {
        for (dataset, name, count) in networks {
            for policy in [ActivationPolicy::exact(), ActivationPolicy::minimax(Alpha::MAX, 1e3, 1e3)] {
                let mut network = network(dataset, name, &device, &policy);
                let batches: Vec<Tensor> = (0..4).map(|_| images(&network, count, &device)).collect();
                let few = images(&network, count / 2, &device);
                let expected: Vec<_> = batches
                    .iter()
                    .chain([&few])
                    .map(|batch| op_by_op(&mut network, &policy, batch))
                    .collect();
                network.set_policy(&policy, &RunOptions::default()).unwrap();
                // Another shape in between does not end the replay.
                for number in [0, 1, 2, 3, 4, 0, 3] {
                    let batch = batches.get(number).unwrap_or(&few);
                    assert!(pass(&network, batch) == expected[number], "{name}, batch {number}");
                }
                assert!(network.is_replayed(), "{name} was not written down");
            }
        }
    }
}

#[test]
fn a_replay_ends_with_the_policy_and_with_sketches() {
    let _device = DEVICE.lock().unwrap();
    for device in gpus() {
        let [coarse, fine] = [Alpha::MIN, Alpha::MAX].map(|alpha| ActivationPolicy::minimax(alpha, 1e3, 1e3));
        let mut network = network("cifar10", "resnet20", &device, &coarse);
        let batch = images(&network, 8, &device);
        let with_coarse = pass(&network, &batch);
        for _ in 0..3 {
            assert!(pass(&network, &batch) == with_coarse);
        }
        assert!(network.is_replayed());
        let with_fine = op_by_op(&mut network, &fine, &batch);
        assert!(with_fine != with_coarse);
        for _ in 0..2 {
            assert!(pass(&network, &batch) == with_fine);
        }
        assert!(network.is_replayed());
        network.sites()[3].start_sketch();
        assert!(pass(&network, &batch) == with_fine);
        let sketch = network.sites()[3].take_sketch().unwrap();
        assert_eq!(sketch.count(), 8 * 16 * 32 * 32);
        assert!(pass(&network, &batch) == with_fine);
    }
}

#[test]
fn a_replay_ends_where_the_slots_move() {
    let _device = DEVICE.lock().unwrap();
    for device in gpus() {
        let policy = ActivationPolicy::exact();
        let first = network("cifar10", "resnet20", &device, &policy);
        let batch = images(&first, 8, &device);
        let expected = pass(&first, &batch);
        for _ in 0..2 {
            assert!(pass(&first, &batch) == expected);
        }
        // More recorders than there is room for at first.
        let others: Vec<Network> =
            (0..3).map(|_| network("cifar10", "resnet110", &device, &policy)).collect();
        for other in &others {
            pass(other, &images(other, 1, &device));
        }
        for _ in 0..4 {
            assert!(pass(&first, &batch) == expected);
        }
    }
}
