//! Launches of kernels/conv.cu.

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{CudaStorage, Layout, Result, Storage, Tensor};

use super::{Address, CONV, address, contiguous, launch_blocks, multiprocessors};
use crate::activation::Precision;
use crate::elementwise::Function;
use crate::kernels::{BLOCK, ConvParams, ConvShape, ConvTile};
use crate::range::RangeRecorder;

/// What a convolution is given, all contiguous, images and addend aligned to 16 bytes.
pub(crate) struct Operands<'a> {
    pub(crate) xs: (&'a CudaStorage, &'a Layout),
    /// `[inputs, 9, outputs]`.
    pub(crate) weight: (&'a CudaStorage, &'a Layout),
    pub(crate) bias: &'a Tensor,
    pub(crate) addend: Option<&'a Tensor>,
}

/// How the kernels of a function are called; `None` if it has none.
pub(crate) fn kernel_name(function: &Function) -> Option<&'static str> {
    match function {
        Function::Identity { .. } => Some("identity"),
        Function::Relu => Some("relu"),
        Function::MinimaxRelu { sign, .. } | Function::MinimaxReluWithin { sign, .. } => {
            (sign.precision() == Precision::Single).then_some("minimax")
        }
        Function::Fitted(_) => Some("fitted"),
        _ => None,
    }
}

/// The convolution through the function, for a shape and a function that there is a kernel for.
pub(crate) fn forward(
    function: &Function,
    shape: ConvShape,
    operands: &Operands,
    recorder: Option<&RangeRecorder>,
) -> Result<CudaStorage> {
    let device = operands.xs.0.device.clone();
    let (Some(name), Some(tile)) = (kernel_name(function), ConvTile::of(shape, multiprocessors(&device)?))
    else {
        candle_core::bail!("no kernel for a convolution of {shape:?} through {}", function.name())
    };
    let ConvShape { images, outputs, height, width, .. } = shape;
    // SAFETY: the kernel writes all of it before anybody reads.
    let result = unsafe { device.alloc::<f32>(images * outputs * height * width)? };
    if images == 0 {
        return Ok(CudaStorage::wrap_cuda_slice(result, device));
    }
    let addend = operands.addend.map(|addend| address_of(&device, addend)).transpose()?;
    let addresses = [
        begin(&device, operands.xs)?,
        begin(&device, operands.weight)?,
        address_of(&device, operands.bias)?,
        addend.unwrap_or(0),
        address(&device, &result, 0),
    ];
    let kernel = format!("conv3x3_{name}_{}", tile.kernel());
    let config = LaunchConfig {
        grid_dim: (tile.blocks(shape) as u32, 1, 1),
        block_dim: (BLOCK, 1, 1),
        shared_mem_bytes: 0,
    };
    let go = |slots: Address, slot: Option<u32>| {
        let [x, weight, bias, addend, y] = addresses;
        let params = ConvParams::new(function, shape, tile, slot)?;
        // SAFETY: the kernel takes these in this order. All are of the shape that the params describe, aligned to 16 bytes
        // where four numbers are read or written at once. The slots are there as long as the recorder's lock is held.
        unsafe {
            launch_blocks(&device, (&CONV, &kernel), &[x, weight, bias, addend, y, slots], &params, config)
        }
    };
    match recorder {
        None => go(0, None)?,
        Some(recorder) => recorder.write_on(&device, |slots, slot| go(slots, Some(slot)))?,
    }
    Ok(CudaStorage::wrap_cuda_slice(result, device))
}

fn begin(device: &CudaDevice, (storage, layout): (&CudaStorage, &Layout)) -> Result<Address> {
    let (values, start) = contiguous(storage, layout)?;
    Ok(address(device, values, start))
}

fn address_of(device: &CudaDevice, tensor: &Tensor) -> Result<Address> {
    match tensor.storage_and_layout() {
        (storage, layout) => match &*storage {
            Storage::Cuda(storage) => begin(device, (storage, layout)),
            _ => candle_core::bail!("a tensor of a convolution on CUDA is not there"),
        },
    }
}
