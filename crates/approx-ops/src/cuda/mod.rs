//! The ops on CUDA: what is around the launch of a kernel. The kernels themselves are in kernels/.
//!
//! Everything goes to the stream of candle's device, in order. What a kernel saw goes to a slot on the device
//! ([`slots`]), so that nothing waits for it but the one who asks.

pub(crate) mod activation;
pub(crate) mod conv;
pub(crate) mod max_pool;
pub(crate) mod slots;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
pub(crate) use cnn_kernels::cuda::contiguous;

use crate::kernels::{self, ActivationParams, ConvParams, PoolParams};

/// Kernels that are compiled together. candle keeps them by this name.
struct Module {
    name: &'static str,
    ptx: &'static str,
}

const ACTIVATION: Module =
    Module { name: "approx_ops_activation", ptx: include_str!(concat!(env!("OUT_DIR"), "/activation.ptx")) };
const CONV: Module =
    Module { name: "approx_ops_conv", ptx: include_str!(concat!(env!("OUT_DIR"), "/conv.ptx")) };
const MAX_POOL: Module =
    Module { name: "approx_ops_max_pool", ptx: include_str!(concat!(env!("OUT_DIR"), "/max_pool.ptx")) };

/// An address on the device, as kernels take it; 0 for none.
type Address = u64;

/// The address of number `start` of `values`, for kernels on candle's stream of the device: the only one that there is,
/// so that no events are needed.
fn address(device: &CudaDevice, values: &CudaSlice<f32>, start: usize) -> Address {
    let stream = device.cuda_stream();
    let (begin, _guard) = values.device_ptr(&stream);
    begin + (start * size_of::<f32>()) as Address
}

/// Enough blocks for `work` pieces of work, one a thread, as far as they run at once; 1 at least.
fn config(device: &CudaDevice, work: usize) -> Result<LaunchConfig> {
    let at_once = multiprocessors(device)? as u32 * kernels::BLOCKS_PER_MULTIPROCESSOR;
    let needed = work.div_ceil(kernels::BLOCK as usize).max(1);
    Ok(LaunchConfig {
        grid_dim: (at_once.min(needed.try_into().unwrap_or(u32::MAX)), 1, 1),
        block_dim: (kernels::BLOCK, 1, 1),
        shared_mem_bytes: 0,
    })
}

/// How many multiprocessors there are; 1 at least.
fn multiprocessors(device: &CudaDevice) -> Result<usize> {
    let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    Ok(device.cuda_stream().context().attribute(attribute).w()?.max(1) as usize)
}

/// Launches a kernel with these addresses and, behind them, the params, for `work` pieces of work.
///
/// # Safety
/// The kernel takes just that, and neither reads nor writes beyond what the addresses stand for.
unsafe fn launch<P: DeviceRepr>(
    device: &CudaDevice,
    kernel: (&Module, &str),
    addresses: &[Address],
    params: &P,
    work: usize,
) -> Result<()> {
    // SAFETY: as the caller says.
    unsafe { launch_blocks(device, kernel, addresses, params, config(device, work)?) }
}

/// The same with blocks and threads as in `config`.
///
/// # Safety
/// As [`launch`].
unsafe fn launch_blocks<P: DeviceRepr>(
    device: &CudaDevice,
    (module, kernel): (&Module, &str),
    addresses: &[Address],
    params: &P,
    config: LaunchConfig,
) -> Result<()> {
    let function = device.get_or_load_custom_func(kernel, module.name, module.ptx)?;
    let mut builder = function.builder();
    for address in addresses {
        builder.arg(address);
    }
    builder.arg(params);
    // SAFETY: as the caller says.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}

// SAFETY: plain numbers in C's layout, which kernels/minimax.cuh repeats.
unsafe impl<T> DeviceRepr for ActivationParams<T> {}
// SAFETY: as above.
unsafe impl DeviceRepr for ConvParams {}
// SAFETY: as above.
unsafe impl<T> DeviceRepr for PoolParams<T> {}
