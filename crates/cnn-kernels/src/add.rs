//! The sum of two tensors. candle's runs on one thread.

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::cpu;
use crate::error::{Result, check_dtype};
use crate::tensor::dense_channels_last;

/// The sum of two tensors; on the CPU, on all threads.
///
/// # Shapes
/// `xs` and `ys` have the same, and so has the result, on the CPU in the memory order of `xs`.
///
/// # Errors
/// [`UnsupportedDType`](crate::KernelError::UnsupportedDType), or candle's own for other shapes.
pub fn add(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    check_dtype("add", xs.dtype())?;
    check_dtype("add", ys.dtype())?;
    if xs.shape() != ys.shape() {
        let (lhs, rhs) = (xs.shape().clone(), ys.shape().clone());
        return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "add" }.into());
    }
    if !xs.device().is_cpu() {
        return Ok((xs.contiguous()? + ys.contiguous()?)?);
    }
    match dense_channels_last(xs)? {
        Some(dense) => Ok(dense.apply_op2_no_bwd(&ys.permute((0, 2, 3, 1))?, &Add)?.permute((0, 3, 1, 2))?),
        None => Ok(xs.apply_op2_no_bwd(ys, &Add)?),
    }
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_layout: &Layout,
        ys: &CpuStorage,
        ys_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let xs = cpu::dense(cpu::as_f32(xs)?, xs_layout);
        let ys = cpu::dense(cpu::as_f32(ys)?, ys_layout);
        let sum = xs.par_iter().with_min_len(1 << 14).zip(&*ys).map(|(x, y)| x + y).collect();
        Ok((CpuStorage::F32(sum), xs_layout.shape().clone()))
    }
}
