//! Convolutions by cuDNN, forward and backward, in float32 and never in TF32.
//!
//! candle has them too, but asks cuDNN for an algorithm at every call, which takes longer than most convolutions do, and
//! makes the gradients of ops of its own. What a convolution needs is made once for each shape here, and the algorithm
//! is chosen by a rule and not by a measurement, so that two runs give the same bits (docs/adr/0043-cudnn.md).

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::safe::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, FilterDescriptor,
    TensorDescriptor,
};
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as InputAlgorithm, cudnnConvolutionBwdFilterAlgo_t as WeightAlgorithm,
    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm, cudnnConvolutionMode_t as Mode, cudnnMathType_t as Math,
    cudnnTensorFormat_t as Format,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::contiguous;
use crate::composed::padded;
use crate::geometry::ConvGeometry;
use crate::window::Padding;

/// Multiplications from which Winograd's form is faster than the others on an H100: below, its four kernels take longer
/// to launch than to run.
const LARGE: usize = 1 << 29;
/// Outputs, pixels and channels, that a block computes in the implicit product with precomputed offsets, and blocks from
/// which that is faster than the one without, which is launched in half the time.
const TILE: (usize, usize) = (128, 64);
const BLOCKS: usize = 512;
/// Input channels from which Winograd's form pays.
const WINOGRAD_CHANNELS: usize = 16;
/// The share of a device's memory that a convolution may take for a while.
const WORKSPACE_SHARE: usize = 8;

/// Which of a convolution's three tensors is computed from the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pass {
    Forward,
    InputGradient,
    WeightGradient,
}

/// A convolution but for its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Convolution {
    pass: Pass,
    /// `[N, inputs, H, W]`.
    input: [usize; 4],
    /// `[N, outputs, H', W']`.
    output: [usize; 4],
    /// Its padding is the same at both sides.
    geometry: ConvGeometry,
}

/// As [`conv2d`](crate::conv2d), contiguous.
pub(crate) fn conv2d(xs: &Tensor, weight: &Tensor, geometry: ConvGeometry) -> Result<Tensor> {
    let (xs, geometry) = evenly_padded(xs, geometry)?;
    let input = shape(&xs)?;
    let Some([height, width]) = geometry.output_size(input[2], input[3]) else {
        candle_core::bail!("no window of {geometry:?} in {input:?}")
    };
    let output = [input[0], geometry.outputs, height, width];
    run(&xs, weight, Convolution { pass: Pass::Forward, input, output, geometry })
}

/// As [`conv2d_input_gradient`](crate::conv2d_input_gradient).
pub(crate) fn conv2d_input_gradient(
    gradient: &Tensor,
    weight: &Tensor,
    size: [usize; 2],
    geometry: ConvGeometry,
) -> Result<Tensor> {
    let (output, [height, width]) = (shape(gradient)?, size);
    let of = |height: usize, width: usize, geometry: ConvGeometry| {
        let input = [output[0], geometry.inputs, height, width];
        run(gradient, weight, Convolution { pass: Pass::InputGradient, input, output, geometry })
    };
    if geometry.padding.as_symmetric().is_some() {
        return of(height, width, geometry);
    }
    // That of the padded input, of which the middle is wanted.
    let Padding { top, bottom, left, right } = geometry.padding;
    let whole = of(top + height + bottom, left + width + right, geometry.with_padding(Padding::ZERO))?;
    whole.narrow(2, top, height)?.narrow(3, left, width)?.contiguous()
}

/// As [`conv2d_weight_gradient`](crate::conv2d_weight_gradient).
pub(crate) fn conv2d_weight_gradient(
    xs: &Tensor,
    gradient: &Tensor,
    geometry: ConvGeometry,
) -> Result<Tensor> {
    let (xs, geometry) = evenly_padded(xs, geometry)?;
    let (input, output) = (shape(&xs)?, shape(gradient)?);
    run(&xs, gradient, Convolution { pass: Pass::WeightGradient, input, output, geometry })
}

/// cuDNN pads both sides alike: what differs is added before.
fn evenly_padded(xs: &Tensor, geometry: ConvGeometry) -> Result<(Tensor, ConvGeometry)> {
    match geometry.padding.as_symmetric() {
        Some(_) => Ok((xs.clone(), geometry)),
        None => Ok((padded(xs, geometry.padding)?, geometry.with_padding(Padding::ZERO))),
    }
}

fn shape(xs: &Tensor) -> Result<[usize; 4]> {
    xs.dims4().map(Into::into)
}

fn run(a: &Tensor, b: &Tensor, convolution: Convolution) -> Result<Tensor> {
    a.contiguous()?.apply_op2(&b.contiguous()?, convolution)
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("cuDNN runs on CUDA devices only")
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let device = a.device.clone();
        let (a, start) = contiguous(a, a_layout)?;
        let a = a.slice(start..start + a_layout.shape().elem_count());
        let (b, start) = contiguous(b, b_layout)?;
        let b = b.slice(start..start + b_layout.shape().elem_count());
        let shape = Shape::from(&match self.pass {
            Pass::Forward => self.output,
            Pass::InputGradient => self.input,
            Pass::WeightGradient => self.geometry.weight_shape(),
        });
        // SAFETY: cuDNN writes all of it before anybody reads.
        let mut result = unsafe { device.alloc::<f32>(shape.elem_count())? };
        if shape.elem_count() > 0 {
            Engine::with(&device, |engine| engine.run(self, &a, &b, &mut result))?;
        }
        Ok((CudaStorage::wrap_cuda_slice(result, device), shape))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [.., height, width] = self.input;
        match self.pass {
            Pass::Forward => Ok((
                Some(conv2d_input_gradient(gradient, weight, [height, width], self.geometry)?),
                Some(conv2d_weight_gradient(xs, gradient, self.geometry)?),
            )),
            _ => candle_core::bail!("a convolution's gradient has no gradient"),
        }
    }
}

thread_local! {
    /// A handle of cuDNN belongs to one thread, and so do its plans.
    static ENGINES: RefCell<HashMap<DeviceId, Engine>> = RefCell::default();
}

/// cuDNN on a device, and what it has computed before.
struct Engine {
    device: CudaDevice,
    cudnn: Arc<Cudnn>,
    plans: HashMap<Convolution, Plan>,
    /// Bytes that a convolution may take for a while.
    workspace_limit: usize,
}

/// What cuDNN is given to compute a convolution.
struct Plan {
    conv: ConvDescriptor<f32>,
    input: TensorDescriptor<f32>,
    weight: FilterDescriptor<f32>,
    output: TensorDescriptor<f32>,
    algorithm: Algorithm,
    /// Bytes.
    workspace: usize,
}

/// How it is computed. All of these add in an order that does not depend on chance.
#[derive(Debug, Clone, Copy)]
enum Algorithm {
    Forward(ForwardAlgorithm),
    Input(InputAlgorithm),
    Weight(WeightAlgorithm),
}

impl Engine {
    fn with<T>(device: &CudaDevice, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        ENGINES.with_borrow_mut(|engines| {
            act(match engines.entry(device.id()) {
                Entry::Occupied(engine) => engine.into_mut(),
                Entry::Vacant(place) => place.insert(Self::new(device)?),
            })
        })
    }

    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let workspace_limit = stream.context().total_mem().w()? / WORKSPACE_SHARE;
        Ok(Self {
            device: device.clone(),
            cudnn: Cudnn::new(stream)?,
            plans: HashMap::new(),
            workspace_limit,
        })
    }

    fn run(
        &mut self,
        convolution: &Convolution,
        a: &CudaView<f32>,
        b: &CudaView<f32>,
        result: &mut CudaSlice<f32>,
    ) -> Result<()> {
        let plan = match self.plans.entry(*convolution) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(place) => place.insert(Plan::new(&self.cudnn, convolution, self.workspace_limit)?),
        };
        let Plan { conv, input, weight, output, algorithm, workspace } = plan;
        // SAFETY: cuDNN takes it as it is.
        let mut workspace = unsafe { self.device.alloc::<u8>((*workspace).max(1))? };
        let (workspace, factors) = (Some(&mut workspace), (1.0, 0.0));
        // SAFETY: all tensors are contiguous and have the shapes of the descriptors.
        unsafe {
            match *algorithm {
                Algorithm::Forward(algorithm) => {
                    let op = ConvForward { conv, x: input, w: weight, y: output };
                    op.launch(algorithm, workspace, factors, a, b, result)?;
                }
                Algorithm::Input(algorithm) => {
                    let op = ConvBackwardData { conv, dx: input, w: weight, dy: output };
                    op.launch(algorithm, workspace, factors, result, b, a)?;
                }
                Algorithm::Weight(algorithm) => {
                    let op = ConvBackwardFilter { conv, x: input, dw: weight, dy: output };
                    op.launch(algorithm, workspace, factors, a, result, b)?;
                }
            }
        }
        Ok(())
    }
}

impl Plan {
    fn new(cudnn: &Arc<Cudnn>, convolution: &Convolution, workspace_limit: usize) -> Result<Self> {
        let ConvGeometry { stride, dilation, padding, groups, .. } = convolution.geometry;
        let (padding, stride, dilation) =
            (ints([padding.top, padding.left])?, ints(stride)?, ints(dilation)?);
        let mut conv =
            cudnn.create_conv2d::<f32>(padding, stride, dilation, Mode::CUDNN_CROSS_CORRELATION)?;
        let [groups] = ints([groups])?;
        conv.set_group_count(groups)?;
        conv.set_math_type(Math::CUDNN_FMA_MATH)?;
        let format = Format::CUDNN_TENSOR_NCHW;
        let mut plan = Self {
            conv,
            input: cudnn.create_4d_tensor(format, ints(convolution.input)?)?,
            weight: cudnn.create_4d_filter(format, ints(convolution.geometry.weight_shape())?)?,
            output: cudnn.create_4d_tensor(format, ints(convolution.output)?)?,
            algorithm: convolution.algorithm(false),
            workspace: 0,
        };
        if convolution.prefers_winograd() {
            let winograd = convolution.algorithm(true);
            // Refused where cuDNN does not have it for this device.
            if let Some(bytes) = plan.workspace(winograd).ok().filter(|&bytes| bytes <= workspace_limit) {
                return Ok(Self { algorithm: winograd, workspace: bytes, ..plan });
            }
        }
        plan.workspace = plan.workspace(plan.algorithm)?;
        Ok(plan)
    }

    /// The bytes that an algorithm needs.
    fn workspace(&self, algorithm: Algorithm) -> Result<usize> {
        let Self { conv, input, weight, output, .. } = self;
        Ok(match algorithm {
            Algorithm::Forward(algorithm) => {
                ConvForward { conv, x: input, w: weight, y: output }.get_workspace_size(algorithm)?
            }
            Algorithm::Input(algorithm) => {
                ConvBackwardData { conv, dx: input, w: weight, dy: output }.get_workspace_size(algorithm)?
            }
            Algorithm::Weight(algorithm) => {
                ConvBackwardFilter { conv, x: input, dw: weight, dy: output }.get_workspace_size(algorithm)?
            }
        })
    }
}

impl Convolution {
    fn multiplications(&self) -> usize {
        let [_, inputs, kernel_height, kernel_width] = self.geometry.weight_shape();
        self.output.iter().product::<usize>() * inputs * kernel_height * kernel_width
    }

    fn prefers_winograd(&self) -> bool {
        let ConvGeometry { inputs, outputs, kernel, stride, dilation, groups, .. } = self.geometry;
        // Of the weights' gradient it would be off by more than 1e-5 of the largest value.
        self.pass != Pass::WeightGradient
            && (kernel, stride, dilation, groups) == ([3, 3], [1, 1], [1, 1], 1)
            && inputs.min(outputs) >= WINOGRAD_CHANNELS
            && self.multiplications() >= LARGE
    }

    fn is_small(&self) -> bool {
        let [images, outputs, height, width] = self.output;
        let blocks = (images * height * width).div_ceil(TILE.0) * outputs.div_ceil(TILE.1);
        self.multiplications() < LARGE && blocks < BLOCKS
    }

    fn algorithm(&self, winograd: bool) -> Algorithm {
        use {ForwardAlgorithm as F, InputAlgorithm as I, WeightAlgorithm as W};
        match (self.pass, winograd) {
            (Pass::Forward, true) => Algorithm::Forward(F::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED),
            (Pass::Forward, false) if self.is_small() => {
                Algorithm::Forward(F::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM)
            }
            (Pass::Forward, false) => Algorithm::Forward(F::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM),
            (Pass::InputGradient, true) => {
                Algorithm::Input(I::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED)
            }
            (Pass::InputGradient, false) => Algorithm::Input(I::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1),
            (Pass::WeightGradient, _) => Algorithm::Weight(W::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1),
        }
    }
}

/// cuDNN counts in 32 bits.
fn ints<const N: usize>(numbers: [usize; N]) -> Result<[i32; N]> {
    if let Some(number) = numbers.into_iter().find(|&number| i32::try_from(number).is_err()) {
        candle_core::bail!("{number} in a convolution; cuDNN takes {} at most", i32::MAX);
    }
    Ok(numbers.map(|number| number as i32))
}
