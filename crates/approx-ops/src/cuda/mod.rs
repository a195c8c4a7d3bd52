//! The ops on CUDA: what is around the launch of a kernel. The kernels themselves are in kernels/.
//!
//! Everything goes to the stream of candle's device, in order. What a kernel saw goes to a slot on the device
//! ([`slots`]), so that nothing waits for it but the one who asks.

pub(crate) mod activation;
#[cfg(feature = "cudnn")]
pub(crate) mod conv;
pub(crate) mod max_pool;
pub(crate) mod slots;

use std::ptr::from_mut;

use candle_core::cuda_backend::cudarc::driver::result::device::get_default_mem_pool;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdevice_attribute, CUmemPool_attribute, cuMemPoolSetAttribute,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{CudaStorage, Device, Layout, Result};

use crate::kernels::{self, ActivationParams, PoolParams};

/// candle's CUDA device of this number, set up so that giving memory back and taking it again costs nothing: the process
/// keeps what it once took, as PyTorch does. (Otherwise the driver unmaps it each time that somebody waits for the
/// device, which is at each batch.)
///
/// # Errors
/// candle's own, where there is no such device or no driver.
pub fn cuda_device(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda(ordinal)?;
    let cuda = device.as_cuda_device()?;
    let context = cuda.cuda_stream().context().clone();
    // SAFETY: candle gives each thread one stream, so that cudarc never waits for the events that it makes for each
    // tensor; without them, all is as before. A tensor goes to another thread only after a wait (approx-data's prefetch).
    unsafe { cuda.disable_event_tracking() };
    // Without memory pools there is nothing to keep.
    // SAFETY: the device is the context's.
    if let Ok(pool) = unsafe { get_default_mem_pool(context.cu_device()) } {
        let mut bytes = u64::MAX;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the pool is there as long as the device, and the attribute is a number of 64 bits.
        unsafe { cuMemPoolSetAttribute(pool, attribute, from_mut(&mut bytes).cast()) }.result().w()?;
    }
    Ok(device)
}

/// Kernels that are compiled together. candle keeps them by this name.
struct Module {
    name: &'static str,
    ptx: &'static str,
}

const ACTIVATION: Module =
    Module { name: "approx_ops_activation", ptx: include_str!(concat!(env!("OUT_DIR"), "/activation.ptx")) };
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

/// The float32 numbers of a contiguous tensor: where they are, from the storage's beginning.
fn contiguous<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<(&'a CudaSlice<f32>, usize)> {
    match layout.contiguous_offsets() {
        Some((start, _)) => Ok((storage.as_cuda_slice::<f32>()?, start)),
        None => candle_core::bail!("expected a contiguous tensor"),
    }
}

/// Enough blocks for `work` pieces of work, one a thread, as far as they run at once; 1 at least.
fn config(device: &CudaDevice, work: usize) -> Result<LaunchConfig> {
    let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let multiprocessors = device.cuda_stream().context().attribute(attribute).w()?;
    let at_once = multiprocessors.max(1) as u32 * kernels::BLOCKS_PER_MULTIPROCESSOR;
    let needed = work.div_ceil(kernels::BLOCK as usize).max(1);
    Ok(LaunchConfig {
        grid_dim: (at_once.min(needed.try_into().unwrap_or(u32::MAX)), 1, 1),
        block_dim: (kernels::BLOCK, 1, 1),
        shared_mem_bytes: 0,
    })
}

/// Launches a kernel with these addresses and, behind them, the params, for `work` pieces of work.
///
/// # Safety
/// The kernel takes just that, and neither reads nor writes beyond what the addresses stand for.
unsafe fn launch<P: DeviceRepr>(
    device: &CudaDevice,
    (module, kernel): (&Module, &str),
    addresses: &[Address],
    params: &P,
    work: usize,
) -> Result<()> {
    let config = config(device, work)?;
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
unsafe impl<T> DeviceRepr for PoolParams<T> {}
