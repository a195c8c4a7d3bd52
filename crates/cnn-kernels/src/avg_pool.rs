//! Average pooling, for inference on the CPU. candle's has no padding.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu::{as_f32, dense};
use crate::error::{Result, check_dtype};
use crate::simd::SimdLevel;

/// The mean of each 3×3 window around a pixel, with zeros around the image: PyTorch's
/// `avg_pool2d(kernel_size=3, stride=1, padding=1)`. Has no backward pass.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result has the same, channels-last in memory.
///
/// # Accuracy
/// Float32 sums of nine values, divided by nine: within 1e-6 of the largest |x|.
///
/// # Errors
/// [`KernelError::UnsupportedDType`](crate::KernelError::UnsupportedDType), or candle's own for another rank.
pub fn avg_pool_3x3(xs: &Tensor) -> Result<Tensor> {
    check_dtype("avg_pool", xs.dtype())?;
    xs.dims4()?;
    Ok(xs.permute((0, 2, 3, 1))?.apply_op1_no_bwd(&Op)?.permute((0, 3, 1, 2))?)
}

/// On `[N, H, W, C]`.
struct Op;

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "avg_pool_3x3"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, height, width, channels) = layout.shape().dims4()?;
        let values = &*dense(as_f32(storage)?, layout);
        let row = width * channels;
        let mut result = vec![0.0; values.len()];
        if !result.is_empty() {
            result.par_chunks_mut(row).enumerate().for_each_init(
                || vec![0.0; row],
                |sums, (i, result)| {
                    let y = i % height;
                    let above = (y > 0).then(|| &values[(i - 1) * row..i * row]);
                    let below = (y + 1 < height).then(|| &values[(i + 1) * row..(i + 2) * row]);
                    let rows = [above, Some(&values[i * row..(i + 1) * row]), below];
                    SimdLevel::current().run(Row { rows, sums, result, channels });
                },
            );
        }
        Ok((CpuStorage::F32(result), layout.shape().clone()))
    }
}

/// A row of the output: first the sums of three rows, then of three neighbours.
struct Row<'a> {
    rows: [Option<&'a [f32]>; 3],
    sums: &'a mut [f32],
    result: &'a mut [f32],
    channels: usize,
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Plain loops: inlined here, they are compiled for these vector instructions.
        let Row { rows, sums, result, channels } = self;
        sums.fill(0.0);
        for row in rows.into_iter().flatten() {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
        result.copy_from_slice(sums);
        let inner = sums.len() - channels;
        for (y, left) in result[channels..].iter_mut().zip(&sums[..inner]) {
            *y += left;
        }
        for (y, right) in result[..inner].iter_mut().zip(&sums[channels..]) {
            *y += right;
        }
        for y in result {
            *y /= 9.0;
        }
    }
}
