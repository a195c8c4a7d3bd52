//! Launches of kernels/max_pool.cu.

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaStorage, Layout, Result};
use cnn_kernels::PoolSpec;

use super::{Address, MAX_POOL, address, contiguous, launch};
use crate::activation::Precision;
use crate::error::OpError;
use crate::kernels::{MAX_NUMBERS, Maximum, Planes, PoolParams, Real};
use crate::range::RangeRecorder;

/// Whether a pooling has a kernel: windows of 2×2 and 3×3, with the same stride and the same padding by both axes.
pub(crate) fn has_kernel(spec: &PoolSpec) -> bool {
    let ([rows, columns], padding) = (spec.stride(), spec.padding());
    matches!(spec.kernel(), [2, 2] | [3, 3]) && rows == columns && padding.top == padding.left
}

/// A pooling of contiguous planes.
pub(crate) struct Pooling<'a> {
    pub(crate) name: &'static str,
    pub(crate) spec: PoolSpec,
    pub(crate) max: Maximum<'a>,
    pub(crate) bound: f32,
    pub(crate) planes: Planes,
}

impl Pooling<'_> {
    /// The pooled planes.
    pub(crate) fn forward(
        &self,
        (storage, layout): (&CudaStorage, &Layout),
        recorder: &RangeRecorder,
    ) -> Result<CudaStorage> {
        let device = storage.device.clone();
        let (values, begin) = contiguous(storage, layout)?;
        let (input, output) = self.planes.numbers();
        // SAFETY: the kernels write all of it before anybody reads.
        let result = unsafe { device.alloc::<f32>(self.planes.count * output)? };
        for (start, planes) in self.pieces()? {
            let x = address(&device, values, begin + start * input);
            let y = address(&device, &result, start * output);
            recorder.write_on(&device, |slots, slot| match self.precision() {
                Precision::Single => self.pool::<f32>(&device, [x, y, slots], planes, slot),
                Precision::Double => self.pool::<f64>(&device, [x, y, slots], planes, slot),
            })?;
        }
        Ok(CudaStorage::wrap_cuda_slice(result, device))
    }

    /// The gradient of the planes from that of the pooled ones.
    pub(crate) fn backward(
        &self,
        (storage, layout): (&CudaStorage, &Layout),
        (gradients, gradients_layout): (&CudaStorage, &Layout),
    ) -> Result<CudaStorage> {
        let device = storage.device.clone();
        let (values, begin) = contiguous(storage, layout)?;
        let (dy, dy_begin) = contiguous(gradients, gradients_layout)?;
        let (input, output) = self.planes.numbers();
        if gradients_layout.shape().elem_count() != self.planes.count * output {
            let found = gradients_layout.shape().elem_count();
            candle_core::bail!("{} outputs and {found} gradients", self.planes.count * output);
        }
        // SAFETY: the kernels write all of it before anybody reads.
        let result = unsafe { device.alloc::<f32>(self.planes.count * input)? };
        let taps = self.spec.values();
        for (start, planes) in self.pieces()? {
            // SAFETY: as above. The memory is given back in the order of the stream, behind the kernels that use it.
            let of_taps: CudaSlice<f32> = unsafe { device.alloc(taps * planes.count * output)? };
            let x = address(&device, values, begin + start * input);
            let dy = address(&device, dy, dy_begin + start * output);
            let taps = address(&device, &of_taps, 0);
            match self.precision() {
                Precision::Single => self.tap_gradients::<f32>(&device, [x, dy, taps], planes)?,
                Precision::Double => self.tap_gradients::<f64>(&device, [x, dy, taps], planes)?,
            }
            let params = self.params::<f32>(planes, None)?;
            let (kernel, work) = ((&MAX_POOL, "max_pool_gather"), planes.count * input);
            let dx = address(&device, &result, start * input);
            // SAFETY: the kernel takes the gradients of K² taps of each output, those of the input, and float32's params.
            unsafe { launch(&device, kernel, &[taps, dx], &params, work)? };
        }
        Ok(CudaStorage::wrap_cuda_slice(result, device))
    }

    fn pool<T: Real>(
        &self,
        device: &CudaDevice,
        addresses: [Address; 3],
        planes: Planes,
        slot: u32,
    ) -> Result<()> {
        let params = self.params::<T>(planes, Some(slot))?;
        let kernel = self.kernel_name("max_pool");
        let work = planes.count * planes.numbers().1;
        // SAFETY: the kernel takes input, output, slots and the params of the same type as in its name; the addresses are
        // of these planes, and the slots are there as long as the recorder's lock is held.
        unsafe { launch(device, (&MAX_POOL, &kernel), &addresses, &params, work) }
    }

    fn tap_gradients<T: Real>(
        &self,
        device: &CudaDevice,
        addresses: [Address; 3],
        planes: Planes,
    ) -> Result<()> {
        let params = self.params::<T>(planes, None)?;
        let kernel = self.kernel_name("max_pool_tap_gradients");
        let work = planes.count * planes.numbers().1;
        // SAFETY: the kernel takes input, output's gradient, K² numbers for each output, and the params of the same type as
        // in its name; the addresses are of these planes.
        unsafe { launch(device, (&MAX_POOL, &kernel), &addresses, &params, work) }
    }

    fn params<T: Real>(&self, planes: Planes, slot: Option<u32>) -> Result<PoolParams<T>> {
        Ok(PoolParams::new(&self.spec, &self.max, self.bound, planes, slot)?)
    }

    /// Planes that one launch takes, so that all indices are below 2^31, and before which plane they begin.
    fn pieces(&self) -> Result<impl Iterator<Item = (usize, Planes)>> {
        let Planes { count, .. } = self.planes;
        let (input, output) = self.planes.numbers();
        let numbers = input.max(output);
        if numbers > MAX_NUMBERS {
            return Err(OpError::LargeImage { op: self.name, numbers, limit: MAX_NUMBERS }.into());
        }
        let piece = MAX_NUMBERS / numbers.max(1);
        let planes = self.planes;
        // No planes, or of no pixels: nothing to launch.
        let end = if numbers == 0 { 0 } else { count };
        Ok((0..end)
            .step_by(piece)
            .map(move |start| (start, Planes { count: piece.min(count - start), ..planes })))
    }

    fn precision(&self) -> Precision {
        self.max.sign.map_or(Precision::Single, |sign| sign.precision())
    }

    fn kernel_name(&self, prefix: &str) -> String {
        let max = match (self.max.sign, self.precision()) {
            (None, _) => "exact",
            (Some(_), Precision::Single) => "minimax",
            (Some(_), Precision::Double) => "minimax_f64",
        };
        format!("{prefix}_{max}_{}", self.spec.kernel()[0])
    }
}
