//! What runs on CUDA only. Everything goes to the stream of candle's device, in order.

#[cfg(feature = "cudnn")]
pub(crate) mod conv;
mod replay;

use std::ptr::from_mut;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::device::get_default_mem_pool;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUmemPool_attribute, CUmemoryPool, cuMemPoolSetAttribute,
};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaSlice};
use candle_core::{CudaStorage, Device, Layout, Result};

pub use replay::{Replay, with_no_replay_in_the_making};

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
    if let Some(pool) = default_pool(&context) {
        let mut bytes = u64::MAX;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the pool is there as long as the device, and the attribute is a number of 64 bits.
        unsafe { cuMemPoolSetAttribute(pool, attribute, from_mut(&mut bytes).cast()) }.result().w()?;
    }
    Ok(device)
}

/// Where a device's tensors take their memory from; `None` where the driver has no such thing.
fn default_pool(context: &Arc<CudaContext>) -> Option<CUmemoryPool> {
    // SAFETY: the device is the context's.
    unsafe { get_default_mem_pool(context.cu_device()) }.ok()
}

/// The float32 numbers of a contiguous tensor, and the first one's place among those of the storage.
///
/// # Errors
/// candle's, for another type or other strides.
pub fn contiguous<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<(&'a CudaSlice<f32>, usize)> {
    match layout.contiguous_offsets() {
        Some((start, _)) => Ok((storage.as_cuda_slice::<f32>()?, start)),
        None => candle_core::bail!("expected a contiguous tensor"),
    }
}
