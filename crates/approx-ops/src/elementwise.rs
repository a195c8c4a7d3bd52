//! The candle custom op shared by all functions of one variable.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::cpu::composite::CompositeF32;
use crate::cpu::{self, map};
use crate::error::{Result, check_dtype};
use crate::range::{RangeRecorder, RangeStats};

/// The sum of two tensors, on all threads.
///
/// # Shapes
/// `xs` and `ys` have the same, and so has the result, in the memory order of `xs`.
///
/// # Errors
/// [`OpError::UnsupportedDType`](crate::OpError::UnsupportedDType), or candle's own for other shapes.
pub fn add(xs: &Tensor, ys: &Tensor) -> Result<Tensor> {
    check_dtype("add", xs.dtype())?;
    check_dtype("add", ys.dtype())?;
    if xs.shape() != ys.shape() {
        let (lhs, rhs) = (xs.shape().clone(), ys.shape().clone());
        return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "add" }.into());
    }
    match dense_channels_last(xs)? {
        Some(dense) => Ok(dense.apply_op2_no_bwd(&ys.permute((0, 2, 3, 1))?, &Add)?.permute((0, 3, 1, 2))?),
        None => Ok(xs.apply_op2_no_bwd(ys, &Add)?),
    }
}

/// A channels-last image as `[N, H, W, C]`, so that it can stay so without a copy.
pub(crate) fn dense_channels_last(xs: &Tensor) -> Result<Option<Tensor>> {
    if xs.rank() != 4 || xs.is_contiguous() {
        return Ok(None);
    }
    Ok(Some(xs.permute((0, 2, 3, 1))?).filter(Tensor::is_contiguous))
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

/// Which function.
#[derive(Debug, Clone)]
pub(crate) enum Function {
    Identity,
    Relu,
    Square,
    ReluAq,
    MinimaxRelu {
        sign: Arc<CompositeF32>,
        bound: f32,
    },
    /// As `MinimaxRelu` within the bound, as `Relu` outside.
    MinimaxReluWithin {
        sign: Arc<CompositeF32>,
        bound: f32,
    },
}

/// Runs `$body` with `$map` bound to the kernel of `$function`: static dispatch over the closed set.
macro_rules! with_map {
    ($function:expr, $map:ident => $body:expr) => {
        match $function {
            Function::Identity => {
                let $map = &map::Identity;
                $body
            }
            Function::Relu => {
                let $map = &map::Relu;
                $body
            }
            Function::Square => {
                let $map = &map::Square;
                $body
            }
            Function::ReluAq => {
                let $map = &map::ReluAq;
                $body
            }
            Function::MinimaxRelu { sign, bound } => {
                let $map = &map::MinimaxRelu::new(sign, *bound);
                $body
            }
            Function::MinimaxReluWithin { sign, bound } => {
                let $map = &map::MinimaxReluWithin(map::MinimaxRelu::new(sign, *bound));
                $body
            }
        }
    };
}

impl Function {
    fn name(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::Square => "square",
            Self::ReluAq => "relu_aq",
            Self::MinimaxRelu { .. } | Self::MinimaxReluWithin { .. } => "minimax_relu",
        }
    }

    /// The largest `|x|` that the function is meant for.
    pub(crate) fn bound(&self) -> f32 {
        match self {
            Self::MinimaxRelu { bound, .. } | Self::MinimaxReluWithin { bound, .. } => *bound,
            _ => f32::MAX,
        }
    }

    /// Applies the function to `xs` and records its range.
    pub(crate) fn apply(&self, xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
        check_dtype(self.name(), xs.dtype())?;
        let forward = Forward { function: self.clone(), recorder: recorder.clone() };
        if let Some(dense) = dense_channels_last(xs)? {
            return Ok(dense.apply_op1(forward)?.permute((0, 3, 1, 2))?);
        }
        Ok(xs.apply_op1(forward)?)
    }
}

impl Function {
    /// Applies the function to each of a task's values, on this thread.
    pub(crate) fn apply_in_place(&self, values: &mut [f32]) -> RangeStats {
        with_map!(self, map => map::in_place(map, values, self.bound()))
    }
}

impl Function {
    /// The gradient of the input from that of the result.
    pub(crate) fn gradient(&self, xs: &Tensor, gradient: &Tensor) -> candle_core::Result<Tensor> {
        xs.apply_op2_no_bwd(gradient, &Backward(self.clone()))
    }

    /// Whether it is an approximation on a range.
    pub(crate) fn is_bounded(&self) -> bool {
        matches!(self, Self::MinimaxRelu { .. } | Self::MinimaxReluWithin { .. })
    }

    /// Multiplies each of a task's gradients by the derivative at the input, on this thread.
    pub(crate) fn gradient_in_place(&self, inputs: &[f32], gradients: &mut [f32]) {
        with_map!(self, map => map::gradient_in_place(map, inputs, gradients));
    }
}

struct Forward {
    function: Function,
    recorder: RangeRecorder,
}

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let values = cpu::as_f32(storage)?;
        let bound = self.function.bound();
        let (outputs, range) = with_map!(&self.function, map => match layout.contiguous_offsets() {
            Some((start, end)) => map::forward(map, &values[start..end], bound),
            None => {
                let mut outputs = cpu::contiguous(values, layout);
                let range = map::forward_in_place(map, &mut outputs, bound);
                (outputs, range)
            }
        });
        self.recorder.record(range);
        Ok((CpuStorage::F32(outputs), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad_res: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.function.gradient(arg, grad_res)?))
    }
}

/// `(x, dy) ↦ dy · f'(x)`.
struct Backward(Function);

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        inputs: &CpuStorage,
        inputs_layout: &Layout,
        gradients: &CpuStorage,
        gradients_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut gradients = cpu::dense(cpu::as_f32(gradients)?, gradients_layout).into_owned();
        let inputs = cpu::as_f32(inputs)?;
        match inputs_layout.contiguous_offsets() {
            Some((start, end)) => {
                with_map!(&self.0, map => map::backward(map, &inputs[start..end], &mut gradients));
            }
            None => {
                let inputs = cpu::contiguous(inputs, inputs_layout);
                with_map!(&self.0, map => map::backward(map, &inputs, &mut gradients));
            }
        }
        Ok((CpuStorage::F32(gradients), inputs_layout.shape().clone()))
    }
}
