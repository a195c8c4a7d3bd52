//! Max-pooling: exact, and by a tournament of approximate maxima.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use cnn_kernels::cpu::{as_f32, dense};
use cnn_kernels::tensor::for_device;
use cnn_kernels::{PoolSpec, check_dtype};
use minimax_coeffs::{Alpha, CompositeSign};

use crate::activation::Precision;
#[cfg(any(feature = "cuda", test))]
use crate::composed::ComposedPool;
use crate::cpu::composite::Composite;
use crate::cpu::pool::{Max, Pooling};
#[cfg(feature = "cuda")]
use crate::cuda;
#[cfg(any(feature = "cuda", test))]
use crate::elementwise::Function;
use crate::error::{Result, check_bound};
#[cfg(feature = "cuda")]
use crate::kernels::{CompositeParams, Maximum, Planes};
use crate::range::RangeRecorder;
use crate::reference::scale;

/// Exact max-pooling that records the range of its input. Unlike candle's, it has padding (which never wins)
/// and ceil mode.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the output `[N, C, H', W']` with [`PoolSpec::output_size`].
///
/// # Errors
/// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), [`EmptyPool`](cnn_kernels::KernelError::EmptyPool), or candle's own for another rank.
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

/// Max-pooling in which each maximum of two is `max_alpha` (arXiv 2105.10879, section IV), played as a tournament: round
/// after round, neighbours in row-major window order play each other, and an odd last one goes on. Padding counts as zero,
/// also where ceil mode adds a row or column. A window of 1×1 has no maximum and picks pixels.
///
/// # Scale
/// Each `|x| ≤ B` becomes `c·x + 1/2`, and the winner comes back by the inverse map. A maximum of two in `[0, 1]` is off by
/// at most ε = 2^-alpha, so after `r` rounds a value may lie `r·ε` outside of where the inputs lie; with
/// `c = (1 − 2rε) / (2B)` they lie in `[rε, 1 − rε]`, and all that is compared stays in `[0, 1]`, where the approximation
/// holds. A window of `n` values has `r = ⌈log2 n⌉` rounds. The paper has the same for 2×2, `(1 − 4ε) / (2B)`, and
/// `(1 − 6ε) / (2B)` for 3×3: room for three rounds of its four, as behind the last one nothing is compared. These two are
/// as published; other windows have room for all.
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
    /// [`OpError::InvalidBound`](crate::OpError::InvalidBound) unless `bound` is positive and finite.
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
    /// [`UnsupportedDType`](cnn_kernels::KernelError::UnsupportedDType), [`EmptyPool`](cnn_kernels::KernelError::EmptyPool), or candle's own for another rank.
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
        #[cfg(feature = "cuda")]
        if xs.device().is_cuda() && !cuda::max_pool::has_kernel(&spec) {
            return self.composed(xs, spec)?.forward(xs, bound, recorder);
        }
        let (op, dense) = self.op(xs, spec, bound)?;
        let channels_last = op.channels_last;
        let ys = dense.apply_op1(Forward(op, recorder.clone()))?;
        Ok(if channels_last { ys.permute((0, 3, 1, 2))? } else { ys })
    }

    fn gradient(self, xs: &Tensor, spec: PoolSpec, gradient: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if xs.device().is_cuda() && !cuda::max_pool::has_kernel(&spec) {
            return self.composed(xs, spec)?.gradient(xs, gradient);
        }
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

    /// The same made of functions of one variable, for windows that have no kernel on a device.
    #[cfg(any(feature = "cuda", test))]
    fn composed(&self, xs: &Tensor, spec: PoolSpec) -> Result<ComposedPool> {
        check_dtype(self.name(), xs.dtype())?;
        let (_, _, height, width) = xs.dims4()?;
        let maximum = match self {
            Self::Exact => None,
            Self::Minimax { sign, c, exact_outside } => {
                // `max(a, b) = b + relu(a − b)`, and `1 / c` is the largest difference that s is for.
                let (sign, bound) = (sign.clone(), (1.0 / c) as f32);
                Some(match exact_outside {
                    true => Function::MinimaxReluWithin { sign, bound },
                    false => Function::MinimaxRelu { sign, bound },
                })
            }
        };
        ComposedPool::new(maximum, spec, [height, width])
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
    use candle_core::Device;
    use cnn_kernels::Padding;

    use super::*;

    /// What runs on a GPU for windows without a kernel, run on the CPU.
    #[test]
    fn a_tournament_of_whole_tensors_gives_what_ours_gives() {
        let values = |xs: &Tensor| xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let uneven = Padding { top: 1, bottom: 0, left: 0, right: 1 };
        let xs = Tensor::rand(-8f32, 8.0, (2, 3, 9, 8), &Device::Cpu).unwrap();
        for spec in [
            PoolSpec::new(2, 2, 0).unwrap(),
            PoolSpec::new(3, 2, 1).unwrap(),
            PoolSpec::new(5, 2, 2).unwrap().with_ceil_mode(true),
            PoolSpec::rectangular([2, 3], [3, 1], uneven).unwrap().with_ceil_mode(true),
            PoolSpec::rectangular([1, 1], [2, 3], Padding::ZERO).unwrap(),
        ] {
            let minimax = MinimaxMaxPool::new(Alpha::new(9).unwrap(), 6.0, spec).unwrap();
            for kind in [Kind::Exact, minimax.kind(), minimax.clone().with_exact_outside().kind()] {
                let what = format!("{}, {spec:?}", kind.name());
                let recorders = [RangeRecorder::default(), RangeRecorder::default()];
                let bound = if matches!(kind, Kind::Exact) { f32::MAX } else { 6.0 };
                // Values outside the bound mean nothing without the exact maximum there.
                let xs = if matches!(kind, Kind::Minimax { exact_outside: false, .. }) {
                    (&xs * 0.7).unwrap()
                } else {
                    xs.clone()
                };
                let composed = kind.composed(&xs, spec).unwrap();
                let expected = kind.clone().apply(&xs, spec, bound, &recorders[0]).unwrap();
                let actual = composed.forward(&xs, bound, &recorders[1]).unwrap();
                assert_eq!(actual.dims(), expected.dims(), "{what}");
                for (a, e) in values(&actual).iter().zip(values(&expected)) {
                    assert!((a - e).abs() < 1e-4, "{what}: {a}, not {e}");
                }
                assert_eq!(recorders[1].take(), recorders[0].take(), "{what}");
                let gradient = Tensor::randn(0f32, 1.0, expected.dims(), &Device::Cpu).unwrap();
                let expected = kind.clone().gradient(&xs, spec, &gradient).unwrap();
                let actual = composed.gradient(&xs, &gradient).unwrap();
                for (a, e) in values(&actual).iter().zip(values(&expected)) {
                    assert!((a - e).abs() < 1e-2 * (1.0 + e.abs()), "gradient of {what}: {a}, not {e}");
                }
            }
        }
    }
}
