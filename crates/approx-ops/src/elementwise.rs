//! The candle custom op shared by all functions of one variable.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, InplaceOp2, InplaceOp3, Layout, Shape, Tensor};
use cnn_kernels::tensor::{dense_channels_last, for_device};
use cnn_kernels::{RangeStats, check_dtype, cpu};
use rayon::prelude::*;

use crate::cpu::composite::Composite;
use crate::cpu::exact::Exact;
use crate::cpu::fitted::Fitted;
use crate::cpu::map::{self, Range};
use crate::cpu::piecewise::Piecewise;
use crate::cpu::smooth::Smooth;
#[cfg(feature = "cuda")]
use crate::cuda::activation::{self, Affine};
use crate::error::Result;
#[cfg(feature = "cuda")]
use crate::kernels::CompositeParams;
use crate::range::RangeRecorder;

/// Which function.
#[derive(Debug, Clone)]
pub(crate) enum Function {
    /// `x`; values beyond the bound are counted.
    Identity {
        bound: f32,
    },
    Relu,
    Square,
    ReluAq,
    MinimaxRelu {
        sign: Arc<Composite>,
        bound: f32,
    },
    /// As `MinimaxRelu` within the bound, as `Relu` outside.
    MinimaxReluWithin {
        sign: Arc<Composite>,
        bound: f32,
    },
    Exact(Exact),
    /// Sums of approximate ReLUs.
    Piecewise(Arc<Piecewise>),
    /// A polynomial that is best on its range.
    Smooth(Arc<Smooth>),
    /// A polynomial that is best for certain inputs.
    Fitted(Arc<Fitted>),
}

/// Runs `$body` with `$map` bound to the kernel of `$function`: static dispatch over the closed set.
macro_rules! with_map {
    ($function:expr, $map:ident => $body:expr) => {
        match $function {
            Function::Identity { .. } => {
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
            Function::Exact(exact) => {
                let $map = exact;
                $body
            }
            Function::Piecewise(piecewise) => {
                let $map = &**piecewise;
                $body
            }
            Function::Smooth(smooth) => {
                let $map = &**smooth;
                $body
            }
            Function::Fitted(fitted) => {
                let $map = &**fitted;
                $body
            }
        }
    };
}

impl Function {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Identity { .. } => "identity",
            Self::Relu => "relu",
            Self::Square => "square",
            Self::ReluAq => "relu_aq",
            Self::MinimaxRelu { .. } | Self::MinimaxReluWithin { .. } => "minimax_relu",
            Self::Exact(exact) => exact.name(),
            Self::Piecewise(piecewise) => piecewise.name,
            Self::Smooth(smooth) => smooth.name,
            Self::Fitted(_) => "fitted",
        }
    }

    /// The composition in it, if there is one.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn sign(&self) -> Option<&Composite> {
        match self {
            Self::MinimaxRelu { sign, .. } | Self::MinimaxReluWithin { sign, .. } => Some(sign),
            Self::Piecewise(piecewise) => Some(&piecewise.sign),
            _ => None,
        }
    }

    /// What the function is meant for.
    pub(crate) fn range(&self) -> Range {
        match self {
            Self::Identity { bound }
            | Self::MinimaxRelu { bound, .. }
            | Self::MinimaxReluWithin { bound, .. } => Range::within(*bound),
            Self::Piecewise(piecewise) => Range::within(piecewise.bound),
            Self::Smooth(smooth) => Range::within(smooth.bound),
            Self::Fitted(fitted) => fitted.range,
            _ => Range::ALL,
        }
    }

    /// The same, but exact where an approximation is not meant for.
    pub(crate) fn with_exact_outside(self) -> Self {
        match self {
            Self::MinimaxRelu { sign, bound } => Self::MinimaxReluWithin { sign, bound },
            Self::Piecewise(piecewise) => Self::Piecewise(Arc::new(piecewise.with_exact_outside())),
            Self::Smooth(smooth) => Self::Smooth(Arc::new(smooth.with_exact_outside())),
            Self::Fitted(fitted) => Self::Fitted(Arc::new(fitted.with_exact_outside())),
            other => other,
        }
    }

    /// Applies the function to `xs` and records its range.
    pub(crate) fn apply(&self, xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
        check_dtype(self.name(), xs.dtype())?;
        self.check_device(xs)?;
        let forward = Forward { function: self.clone(), recorder: recorder.clone() };
        if let Some(dense) = dense_channels_last(xs)? {
            return Ok(dense.apply_op1(forward)?.permute((0, 3, 1, 2))?);
        }
        Ok(for_device(xs)?.apply_op1(forward)?)
    }

    /// Refuses, with a typed error, what does not fit into a kernel's parameters.
    fn check_device(&self, _xs: &Tensor) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(sign) = self.sign().filter(|_| _xs.device().is_cuda()) {
            CompositeParams::<f32>::new(sign)?;
        }
        Ok(())
    }

    /// `xs ← f(xs · scale[c] + bias[c] + addend)`, as [`Activation::apply_in_place`](crate::Activation::apply_in_place).
    pub(crate) fn apply_affine(
        &self,
        xs: &Tensor,
        affine: &Tensor,
        addend: Option<&Tensor>,
        recorder: Option<&RangeRecorder>,
    ) -> Result<()> {
        for tensor in [Some(xs), Some(affine), addend].into_iter().flatten() {
            check_dtype(self.name(), tensor.dtype())?;
        }
        self.check_device(xs)?;
        let mismatch = |lhs: &Tensor, rhs: &Tensor| {
            let (lhs, rhs) = (lhs.shape().clone(), rhs.shape().clone());
            candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "activation" }
        };
        let channels = match *xs.dims() {
            [_, count, ..] if affine.dims() == [count] || affine.dims() == [2, count] => {
                Channels { count, inner: xs.dims()[2..].iter().product() }
            }
            _ => return Err(mismatch(xs, affine).into()),
        };
        let op = AffineInPlace { function: self, channels, recorder };
        let affine = affine.contiguous()?;
        match addend {
            None => xs.inplace_op2(&affine, &op)?,
            Some(addend) if addend.shape() == xs.shape() => {
                xs.inplace_op3(&affine, &addend.contiguous()?, &op)?;
            }
            Some(addend) => return Err(mismatch(xs, addend).into()),
        }
        Ok(())
    }
}

/// How the numbers of a tensor belong to channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) count: usize,
    /// Numbers of a channel that lie side by side.
    pub(crate) inner: usize,
}

/// `x ← f(x · scale[c] + bias[c] + addend)`.
struct AffineInPlace<'a> {
    function: &'a Function,
    channels: Channels,
    recorder: Option<&'a RangeRecorder>,
}

impl AffineInPlace<'_> {
    fn on_cpu(
        &self,
        (values, layout): (&mut CpuStorage, &Layout),
        (affine, affine_layout): (&CpuStorage, &Layout),
        addend: Option<(&CpuStorage, &Layout)>,
    ) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = values else { candle_core::bail!("expected float32 storage") };
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!(
                "only a contiguous tensor is replaced by its activation, not one with strides {:?}",
                layout.stride()
            )
        };
        let Channels { count, inner } = self.channels;
        let affine = cpu::dense(cpu::as_f32(affine)?, affine_layout);
        let (scale, bias) = affine.split_at(affine.len() - count);
        let addend = match addend {
            Some((addend, layout)) => Some(cpu::dense(cpu::as_f32(addend)?, layout)),
            None => None,
        };
        let of_plane = |(plane, values): (usize, &mut [f32])| {
            let c = plane % count;
            for x in &mut *values {
                *x = scale.get(c).map_or(*x + bias[c], |scale| x.mul_add(*scale, bias[c]));
            }
            for (x, y) in values.iter_mut().zip(addend.iter().flat_map(|addend| &addend[plane * inner..])) {
                *x += y;
            }
            self.function.apply_in_place(values)
        };
        let planes = values[start..end].par_chunks_mut(inner.max(1)).enumerate();
        let range = planes.map(of_plane).reduce(RangeStats::default, RangeStats::merge);
        if let Some(recorder) = self.recorder {
            recorder.record(range);
        }
        Ok(())
    }
}

impl InplaceOp2 for AffineInPlace<'_> {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> candle_core::Result<()> {
        self.on_cpu((values, layout), (affine, affine_layout), None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        values: &mut candle_core::CudaStorage,
        layout: &Layout,
        affine: &candle_core::CudaStorage,
        affine_layout: &Layout,
    ) -> candle_core::Result<()> {
        let affine = Affine { numbers: (affine, affine_layout), channels: self.channels };
        activation::in_place(self.function, (values, layout), &affine, None, self.recorder)
    }
}

impl InplaceOp3 for AffineInPlace<'_> {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
        addend: &CpuStorage,
        addend_layout: &Layout,
    ) -> candle_core::Result<()> {
        self.on_cpu((values, layout), (affine, affine_layout), Some((addend, addend_layout)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        values: &mut candle_core::CudaStorage,
        layout: &Layout,
        affine: &candle_core::CudaStorage,
        affine_layout: &Layout,
        addend: &candle_core::CudaStorage,
        addend_layout: &Layout,
    ) -> candle_core::Result<()> {
        let affine = Affine { numbers: (affine, affine_layout), channels: self.channels };
        let addend = Some((addend, addend_layout));
        activation::in_place(self.function, (values, layout), &affine, addend, self.recorder)
    }
}

impl Function {
    /// Applies the function to each of a task's values, on this thread.
    pub(crate) fn apply_in_place(&self, values: &mut [f32]) -> RangeStats {
        with_map!(self, map => map::in_place(map, values, self.range()))
    }
}

impl Function {
    /// The gradient of the input from that of the result.
    pub(crate) fn gradient(&self, xs: &Tensor, gradient: &Tensor) -> candle_core::Result<Tensor> {
        if xs.device().is_cpu() {
            return xs.apply_op2_no_bwd(gradient, &Backward(self.clone()));
        }
        if xs.shape() != gradient.shape() {
            let (lhs, rhs) = (xs.shape().clone(), gradient.shape().clone());
            return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: self.name() });
        }
        xs.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &Backward(self.clone()))
    }

    /// Whether it is an approximation on a range.
    pub(crate) fn is_bounded(&self) -> bool {
        use Function::{Fitted, MinimaxRelu, MinimaxReluWithin, Piecewise, Smooth};
        matches!(self, MinimaxRelu { .. } | MinimaxReluWithin { .. } | Piecewise(_) | Smooth(_) | Fitted(_))
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
        let within = self.function.range();
        let (outputs, range) = with_map!(&self.function, map => match layout.contiguous_offsets() {
            Some((start, end)) => map::forward(map, &values[start..end], within),
            None => {
                let mut outputs = cpu::contiguous(values, layout);
                let range = map::forward_in_place(map, &mut outputs, within);
                (outputs, range)
            }
        });
        self.recorder.record(range);
        Ok((CpuStorage::F32(outputs), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        let outputs = activation::forward(&self.function, (storage, layout), &self.recorder)?;
        Ok((outputs, layout.shape().clone()))
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
    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        inputs: &candle_core::CudaStorage,
        inputs_layout: &Layout,
        gradients: &candle_core::CudaStorage,
        gradients_layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        let result = activation::gradient(&self.0, (inputs, inputs_layout), (gradients, gradients_layout))?;
        Ok((result, inputs_layout.shape().clone()))
    }
}
