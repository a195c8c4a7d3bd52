//! Launches of kernels/activation.cu.

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{CudaStorage, Layout, Result};

use super::{ACTIVATION, Address, address, contiguous, launch};
use crate::activation::Precision;
use crate::elementwise::{Channels, Function};
use crate::error::OpError;
use crate::kernels::{ActivationParams, MAX_NUMBERS, Real};
use crate::range::RangeRecorder;

/// Where `f(x · scale[c] + bias[c] + addend)` comes from and goes to; 0 where there is nothing.
#[derive(Clone, Copy)]
struct Data {
    x: Address,
    y: Address,
    scale: Address,
    bias: Address,
    addend: Address,
}

/// Numbers of each channel on the device, contiguous.
pub(crate) struct Affine<'a> {
    /// `[C]`, the bias, or `[2, C]`, scale and bias.
    pub(crate) numbers: (&'a CudaStorage, &'a Layout),
    pub(crate) channels: Channels,
}

/// `f` of each number of a contiguous tensor.
pub(crate) fn forward(
    function: &Function,
    (storage, layout): (&CudaStorage, &Layout),
    recorder: &RangeRecorder,
) -> Result<CudaStorage> {
    let device = storage.device.clone();
    let (values, start) = contiguous(storage, layout)?;
    let count = layout.shape().elem_count();
    // SAFETY: the kernel writes all of it before anybody reads.
    let result = unsafe { device.alloc::<f32>(count)? };
    let (x, y) = (address(&device, values, start), address(&device, &result, 0));
    let data = Data { x, y, scale: 0, bias: 0, addend: 0 };
    // SAFETY: both are of `count` numbers.
    unsafe { run(&device, function, data, count, None, Some(recorder))? };
    Ok(CudaStorage::wrap_cuda_slice(result, device))
}

/// `x ← f(x · scale[c] + bias[c] + addend)` for a contiguous tensor. `addend` is contiguous and as large.
pub(crate) fn in_place(
    function: &Function,
    (storage, layout): (&mut CudaStorage, &Layout),
    affine: &Affine,
    addend: Option<(&CudaStorage, &Layout)>,
    recorder: Option<&RangeRecorder>,
) -> Result<()> {
    let device = storage.device.clone();
    let count = layout.shape().elem_count();
    let (values, start) = contiguous(storage, layout)?;
    let x = address(&device, values, start);
    let (numbers, start) = contiguous(affine.numbers.0, affine.numbers.1)?;
    let first = address(&device, numbers, start);
    let (scale, bias) = match affine.numbers.1.shape().rank() {
        1 => (0, first),
        _ => (first, address(&device, numbers, start + affine.channels.count)),
    };
    let addend = match addend {
        None => 0,
        Some((storage, layout)) => {
            let (values, start) = contiguous(storage, layout)?;
            address(&device, values, start)
        }
    };
    let data = Data { x, y: x, scale, bias, addend };
    // SAFETY: `x` and the addend are of `count` numbers, scale and bias of one a channel; the storage is ours to write.
    unsafe { run(&device, function, data, count, Some(affine.channels), recorder) }
}

/// `dy f'(x)` for contiguous tensors of one size.
pub(crate) fn gradient(
    function: &Function,
    (inputs, inputs_layout): (&CudaStorage, &Layout),
    (gradients, gradients_layout): (&CudaStorage, &Layout),
) -> Result<CudaStorage> {
    let device = inputs.device.clone();
    let count = inputs_layout.shape().elem_count();
    if gradients_layout.shape().elem_count() != count {
        candle_core::bail!("{count} numbers and {} gradients", gradients_layout.shape().elem_count());
    }
    let ((x, x_start), (dy, dy_start)) =
        (contiguous(inputs, inputs_layout)?, contiguous(gradients, gradients_layout)?);
    // SAFETY: the kernels write all of it before anybody reads.
    let result = unsafe { device.alloc::<f32>(count)? };
    for start in (0..count).step_by(MAX_NUMBERS) {
        let count = MAX_NUMBERS.min(count - start);
        let addresses = [
            address(&device, x, x_start + start),
            address(&device, dy, dy_start + start),
            address(&device, &result, start),
        ];
        // SAFETY: all three are of `count` numbers.
        unsafe {
            match precision(function) {
                Precision::Single => gradient_of::<f32>(&device, function, &addresses, count)?,
                Precision::Double => gradient_of::<f64>(&device, function, &addresses, count)?,
            }
        }
    }
    Ok(CudaStorage::wrap_cuda_slice(result, device))
}

/// # Safety
/// The addresses are of as many numbers.
unsafe fn gradient_of<T: Real>(
    device: &CudaDevice,
    function: &Function,
    addresses: &[Address; 3],
    count: usize,
) -> Result<()> {
    let params = ActivationParams::<T>::new(function, count, false, None, None)?;
    let kernel = format!("gradient_{}", kernel_name(function));
    // SAFETY: the kernel takes x, dy, dx and the params, of the same type as in its name.
    unsafe { launch(device, (&ACTIVATION, &kernel), addresses, &params, params.threads()) }
}

/// Launches the forward kernel, in pieces of at most [`MAX_NUMBERS`].
///
/// # Safety
/// `x`, `y` and the addend, if it is not 0, are addresses of `count` numbers; scale and bias, where they are not 0, of as
/// many as there are channels.
unsafe fn run(
    device: &CudaDevice,
    function: &Function,
    data: Data,
    count: usize,
    channels: Option<Channels>,
    recorder: Option<&RangeRecorder>,
) -> Result<()> {
    // Pieces are of whole images, so that each begins with the first channel.
    let image = channels.map_or(4, |channels| channels.count * channels.inner).max(1);
    if image > MAX_NUMBERS {
        let op = function.name();
        return Err(OpError::LargeImage { op, numbers: image, limit: MAX_NUMBERS }.into());
    }
    let piece = MAX_NUMBERS / image * image;
    for start in (0..count).step_by(piece) {
        let moved = |address: Address| match address {
            0 => 0,
            address => address + (start * size_of::<f32>()) as Address,
        };
        let data = Data { x: moved(data.x), y: moved(data.y), addend: moved(data.addend), ..data };
        let count = piece.min(count - start);
        // SAFETY: the piece is within what the caller speaks of.
        unsafe {
            match precision(function) {
                Precision::Single => run_piece::<f32>(device, function, data, count, channels, recorder)?,
                Precision::Double => run_piece::<f64>(device, function, data, count, channels, recorder)?,
            }
        }
    }
    Ok(())
}

/// # Safety
/// As [`run`].
unsafe fn run_piece<T: Real>(
    device: &CudaDevice,
    function: &Function,
    data: Data,
    count: usize,
    channels: Option<Channels>,
    recorder: Option<&RangeRecorder>,
) -> Result<()>
where
    ActivationParams<T>: DeviceRepr,
{
    let Data { x, y, scale, bias, addend } = data;
    let aligned = [x, y, addend].iter().all(|address| address.is_multiple_of(16));
    let kernel = format!("activate_{}", kernel_name(function));
    let go = |slots: Address, slot: Option<u32>| {
        let params = ActivationParams::<T>::new(function, count, aligned, channels, slot)?;
        let addresses = [x, y, scale, bias, addend, slots];
        // SAFETY: the kernel takes these in this order, and the params of the same type as in its name. The slots are
        // there as long as the recorder's lock is held, and waited for before they are read or given back.
        unsafe { launch(device, (&ACTIVATION, &kernel), &addresses, &params, params.threads()) }
    };
    match recorder {
        None => go(0, None),
        Some(recorder) => recorder.write_on(device, |slots, slot| go(slots, Some(slot))),
    }
}

fn precision(function: &Function) -> Precision {
    function.sign().map_or(Precision::Single, |sign| sign.precision())
}

/// How the kernels of a function end.
fn kernel_name(function: &Function) -> &'static str {
    match (function, precision(function)) {
        (Function::Identity { .. }, _) => "identity",
        (Function::Relu, _) => "relu",
        (Function::Square, _) => "square",
        (Function::ReluAq, _) => "relu_aq",
        (Function::Exact(_), _) => "exact",
        (Function::Piecewise(_), _) => "piecewise",
        (Function::Smooth(_), _) => "smooth",
        (Function::Fitted(_), _) => "fitted",
        (Function::MinimaxRelu { .. } | Function::MinimaxReluWithin { .. }, Precision::Single) => "minimax",
        (Function::MinimaxRelu { .. } | Function::MinimaxReluWithin { .. }, Precision::Double) => {
            "minimax_f64"
        }
    }
}
