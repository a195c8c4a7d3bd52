//! Max-pooling: exact, and by a tournament of approximate maxima.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use cnn_kernels::check_dtype;
use cnn_kernels::cpu::{as_f32, dense};
use cnn_kernels::tensor::for_device;
use minimax_coeffs::{Alpha, CompositeSign};

use crate::activation::Precision;
use crate::cpu::composite::Composite;
use crate::cpu::pool::{Max, Pooling};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::error::{OpError, Result, check_bound};
#[cfg(feature = "cuda")]
use crate::kernels::{CompositeParams, Maximum, Planes};
use crate::range::RangeRecorder;
use crate::reference::scale;

/// The window of a max-pooling, as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSpec {
    kernel: usize,
    stride: usize,
    padding: usize,
    ceil_mode: bool,
}

impl PoolSpec {
    /// A `kernel × kernel` window, moved by `stride`, over images with `padding` more rows and columns at each
    /// side.
    ///
    /// # Errors
    /// [`OpError::UnsupportedPool`] unless the kernel is 2 or 3, the stride at least 1 and the padding at most
    /// half the kernel.
    pub fn new(kernel: usize, stride: usize, padding: usize) -> Result<Self> {
        if !(2..=3).contains(&kernel) || stride == 0 || padding > kernel / 2 {
            return Err(OpError::UnsupportedPool { kernel, stride, padding });
        }
        Ok(Self { kernel, stride, padding, ceil_mode: false })
    }

    /// Whether a last window may reach beyond the image (it must begin inside the image or its left padding).
    #[must_use]
    pub fn with_ceil_mode(self, ceil_mode: bool) -> Self {
        Self { ceil_mode, ..self }
    }

    /// Height and width of the window.
    pub fn kernel(&self) -> usize {
        self.kernel
    }

    /// Distance of two windows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Rows and columns added at each side.
    pub fn padding(&self) -> usize {
        self.padding
    }

    /// Height and width of the output for an image of `height × width`; `None` if no window fits.
    pub fn output_size(&self, height: usize, width: usize) -> Option<(usize, usize)> {
        let size = |input: usize| {
            let room = (input + 2 * self.padding).checked_sub(self.kernel)?;
            let mut steps = if self.ceil_mode { room.div_ceil(self.stride) } else { room / self.stride };
            if self.ceil_mode && steps * self.stride >= input + self.padding {
                steps -= 1;
            }
            Some(steps + 1)
        };
        Some((size(height)?, size(width)?))
    }

    /// The same.
    ///
    /// # Errors
    /// [`OpError::EmptyPool`] if no window fits.
    pub(crate) fn checked_output_size(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        let (kernel, padding) = (self.kernel, self.padding);
        self.output_size(height, width).ok_or(OpError::EmptyPool { kernel, padding, height, width })
    }
}

/// Exact max-pooling that records the range of its input. Unlike candle's, it has padding (which never wins)
/// and ceil mode.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the output `[N, C, H', W']` with [`PoolSpec::output_size`].
///
/// # Errors
/// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), [`OpError::EmptyPool`], or candle's own for another rank.
pub fn max_pool(xs: &Tensor, spec: &PoolSpec, recorder: &RangeRecorder) -> Result<Tensor> {
    Kind::Exact.apply(xs, *spec, f32::MAX, recorder)
}

/// The gradient of the input of [`max_pool`] from that of its result: it goes to the first of the largest.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; `gradient`: as the result of [`max_pool`].
///
/// # Errors
/// As [`max_pool`].
pub fn max_pool_gradient(xs: &Tensor, spec: &PoolSpec, gradient: &Tensor) -> Result<Tensor> {
    Kind::Exact.gradient(xs, *spec, gradient)
}

/// Max-pooling in which each maximum of two is `max_alpha` (arXiv 2105.10879, section IV), played as a
/// tournament in row-major window order. Padding counts as zero, also where ceil mode adds a row or column.
///
/// # Accuracy
/// In float32, within 1e-5 · B of the float64 tournament (achieved: docs/numerics.md), on the CPU as on CUDA.
///
/// A value outside `[-B, B]` gives a meaningless result, and the recorder tells.
#[derive(Debug, Clone)]
pub struct MinimaxMaxPool {
    sign: Arc<Composite>,
    c: f64,
    bound: f32,
    spec: PoolSpec,
    exact_outside: bool,
}

impl MinimaxMaxPool {
    /// The published approximation with precision `alpha` on `[-bound, bound]`.
    ///
    /// # Errors
    /// [`OpError::InvalidBound`] unless `bound` is positive and finite.
    pub fn new(alpha: Alpha, bound: f64, spec: PoolSpec) -> Result<Self> {
        Self::from_composite(CompositeSign::published(alpha), alpha.epsilon(), bound, spec)
    }

    /// As [`MinimaxMaxPool::new`], for any approximation of the sign function on `[-1, 1]` whose maximum of two
    /// numbers in `[0, 1]` is off by at most `epsilon`.
    ///
    /// # Errors
    /// As [`MinimaxMaxPool::new`].
    pub fn from_composite(sign: &CompositeSign, epsilon: f64, bound: f64, spec: PoolSpec) -> Result<Self> {
        Ok(Self {
            bound: check_bound(bound)?,
            sign: Arc::new(Composite::new(sign)),
            c: scale(epsilon, bound, &spec),
            spec,
            exact_outside: false,
        })
    }

    /// The same, but a pair whose difference is outside the range gives the exact maximum, so that training can go on
    /// with values outside `[-B, B]`. They are counted all the same.
    #[must_use]
    pub fn with_exact_outside(self) -> Self {
        Self { exact_outside: true, ..self }
    }

    /// The same, evaluated in another precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { sign: Arc::new(self.sign.with_precision(precision)), ..self }
    }

    /// `B`.
    pub fn bound(&self) -> f32 {
        self.bound
    }

    /// Applies it, and records the range of the input.
    ///
    /// # Shapes
    /// `xs`: `[N, C, H, W]`; the output `[N, C, H', W']` with [`PoolSpec::output_size`].
    ///
    /// # Errors
    /// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), [`OpError::EmptyPool`], or candle's own for another rank.
    pub fn forward(&self, xs: &Tensor, recorder: &RangeRecorder) -> Result<Tensor> {
        self.kind().apply(xs, self.spec, self.bound, recorder)
    }

    /// The gradient of the input from that of the result.
    ///
    /// # Shapes
    /// `xs`: `[N, C, H, W]`; `gradient`: as the result of [`MinimaxMaxPool::forward`].
    ///
    /// # Errors
    /// As [`MinimaxMaxPool::forward`].
    pub fn gradient(&self, xs: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.kind().gradient(xs, self.spec, gradient)
    }

    fn kind(&self) -> Kind {
        Kind::Minimax { sign: self.sign.clone(), c: self.c, exact_outside: self.exact_outside }
    }
}

#[derive(Clone)]
enum Kind {
    Exact,
    Minimax { sign: Arc<Composite>, c: f64, exact_outside: bool },
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Exact => "max_pool",
            Self::Minimax { .. } => "minimax_max_pool",
        }
    }

    fn max(&self) -> Max<'_> {
        match self {
            Self::Exact => Max::Exact,
            Self::Minimax { sign, c, exact_outside } => {
                Max::Minimax { sign, c: *c, exact_outside: *exact_outside }
            }
        }
    }

    fn apply(self, xs: &Tensor, spec: PoolSpec, bound: f32, recorder: &RangeRecorder) -> Result<Tensor> {
        let (op, dense) = self.op(xs, spec, bound)?;
        let channels_last = op.channels_last;
        let ys = dense.apply_op1(Forward(op, recorder.clone()))?;
        Ok(if channels_last { ys.permute((0, 3, 1, 2))? } else { ys })
    }

    fn gradient(self, xs: &Tensor, spec: PoolSpec, gradient: &Tensor) -> Result<Tensor> {
        let (op, dense) = self.op(xs, spec, f32::MAX)?;
        let gradient = &for_device(gradient)?;
        Ok(match op.channels_last {
            true => {
                let gradient = gradient.permute((0, 2, 3, 1))?;
                dense.apply_op2_no_bwd(&gradient, &Backward(op))?.permute((0, 3, 1, 2))?
            }
            false => dense.apply_op2_no_bwd(gradient, &Backward(op))?,
        })
    }

    /// The op and what it takes: on the CPU, `[N, H, W, C]`.
    fn op(self, xs: &Tensor, spec: PoolSpec, bound: f32) -> Result<(Op, Tensor)> {
        check_dtype(self.name(), xs.dtype())?;
        let (n, c, height, width) = xs.dims4()?;
        let output = spec.checked_output_size(height, width)?;
        #[cfg(feature = "cuda")]
        if let Self::Minimax { sign, .. } = &self
            && xs.device().is_cuda()
        {
            CompositeParams::<f32>::new(sign)?;
        }
        let channels_last = xs.device().is_cpu();
        let dense = if channels_last { xs.permute((0, 2, 3, 1))?.contiguous()? } else { xs.contiguous()? };
        let op = Op { kind: self, spec, bound, shape: [n, c, height, width], output, channels_last };
        Ok((op, dense))
    }
}

#[derive(Clone)]
struct Op {
    kind: Kind,
    spec: PoolSpec,
    bound: f32,
    /// `[N, C, H, W]`.
    shape: [usize; 4],
    output: (usize, usize),
    /// Whether it takes and gives `[N, H, W, C]`, as on the CPU.
    channels_last: bool,
}

impl Op {
    fn pooling(&self) -> Pooling<'_> {
        let Op { spec, bound, shape, output, .. } = *self;
        Pooling { spec, max: self.kind.max(), bound, shape, output }
    }

    /// The same as it is on a GPU.
    #[cfg(feature = "cuda")]
    fn on_cuda(&self) -> cuda::max_pool::Pooling<'_> {
        let Op { spec, bound, shape: [n, c, height, width], output, .. } = *self;
        let max = match &self.kind {
            Kind::Exact => Maximum { sign: None, c: 0.0, exact_outside: false },
            Kind::Minimax { sign, c, exact_outside } => {
                Maximum { sign: Some(sign), c: *c, exact_outside: *exact_outside }
            }
        };
        let planes = Planes { count: n * c, input: (height, width), output };
        cuda::max_pool::Pooling { name: self.kind.name(), spec, max, bound, planes }
    }
}

struct Forward(Op, RangeRecorder);

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        self.0.kind.name()
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Forward(op, recorder) = self;
        let (outputs, range) = op.pooling().forward(&dense(as_f32(storage)?, layout));
        recorder.record(range);
        let ([n, c, ..], (height, width)) = (op.shape, op.output);
        Ok((CpuStorage::F32(outputs), Shape::from((n, height, width, c))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        let Forward(op, recorder) = self;
        let outputs = op.on_cuda().forward((storage, layout), recorder)?;
        Ok((outputs, Shape::from((op.shape[0], op.shape[1], op.output.0, op.output.1))))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad_res: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(arg.apply_op2_no_bwd(&for_device(grad_res)?, &Backward(self.0.clone()))?))
    }
}

/// `(x, gradient of the output) ↦ gradient of x`.
struct Backward(Op);

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        self.0.kind.name()
    }

    fn cpu_fwd(
        &self,
        inputs: &CpuStorage,
        inputs_layout: &Layout,
        gradients: &CpuStorage,
        gradients_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (inputs, gradients) = (as_f32(inputs)?, dense(as_f32(gradients)?, gradients_layout));
        let result = self.0.pooling().backward(&dense(inputs, inputs_layout), &gradients);
        Ok((CpuStorage::F32(result), inputs_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        inputs: &candle_core::CudaStorage,
        inputs_layout: &Layout,
        gradients: &candle_core::CudaStorage,
        gradients_layout: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        let result = self.0.on_cuda().backward((inputs, inputs_layout), (gradients, gradients_layout))?;
        Ok((result, inputs_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_are_pytorchs() {
        // kernel, stride, padding, ceil mode, input, output
        let cases = [
            (2, 2, 0, false, 9, Some(4)),
            (2, 2, 0, true, 9, Some(5)),
            (3, 2, 1, false, 112, Some(56)),
            (3, 2, 0, true, 112, Some(56)),
            (3, 2, 0, false, 112, Some(55)),
            (3, 1, 1, true, 28, Some(28)),
            (2, 2, 1, true, 3, Some(2)), // the third window would begin in the right padding
            (3, 2, 0, false, 2, None),
        ];
        for (kernel, stride, padding, ceil_mode, input, output) in cases {
            let spec = PoolSpec::new(kernel, stride, padding).unwrap().with_ceil_mode(ceil_mode);
            assert_eq!(spec.output_size(input, input), output.map(|o| (o, o)), "{spec:?}");
        }
    }

    #[test]
    fn windows_without_a_tournament_are_refused() {
        for (kernel, stride, padding) in [(1, 1, 0), (4, 2, 0), (5, 2, 2), (2, 0, 0), (3, 2, 2)] {
            let error = PoolSpec::new(kernel, stride, padding).unwrap_err().to_string();
            assert!(error.contains(&format!("kernel {kernel}, stride {stride}")), "{error}");
        }
    }
}
