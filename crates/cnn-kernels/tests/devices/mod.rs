//! The devices that the tests of the ops run on: each of these tests has a twin on every GPU that there is.

use candle_core::Device;

/// The CPU and, with the feature `cuda`, each CUDA device. Where there is none, that is said.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    let gpus = gpus();
    if gpus.is_empty() {
        eprintln!("SKIPPED on GPUs: {}", reason());
    }
    devices.extend(gpus);
    devices
}

#[cfg(feature = "cuda")]
fn gpus() -> Vec<Device> {
    let count = candle_core::cuda_backend::cudarc::driver::CudaContext::device_count().unwrap_or(0);
    (0..count as usize).map(|id| Device::new_cuda(id).expect("the driver counts it")).collect()
}

#[cfg(not(feature = "cuda"))]
fn gpus() -> Vec<Device> {
    Vec::new()
}

fn reason() -> &'static str {
    if cfg!(feature = "cuda") { "there is no CUDA device" } else { "built without the feature `cuda`" }
}
