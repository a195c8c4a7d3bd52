//! The layers that networks are made of.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use approx_ops::{Activation, OpError, PoolSpec, RangeRecorder, max_pool, max_pool_gradient};
use candle_core::{Device, Tensor};
use cnn_kernels::{
    ConvGeometry, PackedConv2d, Padding, avg_pool, avg_pool_gradient, conv2d_by_library, subsample,
    subsample_gradient,
};
use rand::Rng;

use crate::error::{ModelError, Result};
use crate::init::stream;
use crate::network::{MaxPoolFunction, ReluFunction, at};
use crate::tape::{self, Back};
use crate::training::conv::TrainedConv;

pub use crate::tape::through;

/// A convolution and the batch norm behind it. Heights come before widths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvSpec {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Distance of two windows.
    pub stride: usize,
    /// Zero rows added above and below, zero columns added left and right.
    pub padding: (usize, usize),
    /// Whether the convolution has a bias of its own.
    pub bias: bool,
    /// Added to the variance in batch norm.
    pub eps: f64,
    /// Whether the output is of so few pixels that the direct form of the convolution is faster.
    pub few_pixels: bool,
}

impl ConvSpec {
    pub(crate) fn geometry(&self) -> ConvGeometry {
        let Self { inputs, outputs, kernel: (height, width), stride, padding: (rows, columns), .. } = *self;
        ConvGeometry::new(inputs, outputs, [height, width])
            .with_stride([stride; 2])
            .with_padding(Padding::symmetric(rows, columns))
    }

    /// A `kernel` of height and width with stride 1, without padding and bias, with PyTorch's default `eps`.
    pub fn new(inputs: usize, outputs: usize, kernel: (usize, usize)) -> Self {
        Self {
            inputs,
            outputs,
            kernel,
            stride: 1,
            padding: (0, 0),
            bias: false,
            eps: 1e-5,
            few_pixels: false,
        }
    }

    /// A square kernel of odd size, padded so that it keeps the image's size at stride 1.
    pub fn same(inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self::new(inputs, outputs, (kernel, kernel)).with_padding((kernel / 2, kernel / 2))
    }

    /// The same with another stride.
    #[must_use]
    pub fn with_stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same with another padding.
    #[must_use]
    pub fn with_padding(self, padding: (usize, usize)) -> Self {
        Self { padding, ..self }
    }

    /// The same with a bias.
    #[must_use]
    pub fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// The same for an output of `height × width` pixels, which is a matter of speed alone.
    #[must_use]
    pub fn for_output(self, height: usize, width: usize) -> Self {
        Self { few_pixels: height * width <= 4, ..self }
    }

    /// The same with another `eps`.
    #[must_use]
    pub fn with_eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }
}

/// A convolution with bias.
#[derive(Debug, Clone)]
pub struct Conv2d(Kernel);

/// On the CPU our own convolution, elsewhere cuDNN's or candle's; while it is trained, apart from its batch norm.
#[derive(Debug, Clone)]
enum Kernel {
    Packed(PackedConv2d),
    Trained(Arc<TrainedConv>),
    Library(LibraryConv),
}

/// cuDNN's convolution, or candle's. Bias, addend and activation follow in one pass, in place.
#[derive(Debug, Clone)]
struct LibraryConv {
    weight: Tensor,
    /// `[outputs]`.
    bias: Tensor,
    geometry: ConvGeometry,
}

impl LibraryConv {
    fn forward(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        activation: &Activation,
        recorder: Option<&RangeRecorder>,
    ) -> Result<Tensor, OpError> {
        let ys = conv2d_by_library(xs, &self.weight, self.geometry)?;
        activation.apply_in_place(&ys, &self.bias, addend, recorder)?;
        Ok(ys)
    }
}

impl Conv2d {
    pub(crate) fn new(weight: Tensor, bias: Tensor, spec: ConvSpec) -> Result<Self, OpError> {
        let geometry = spec.geometry();
        let pack = if spec.few_pixels { PackedConv2d::direct } else { PackedConv2d::new };
        Ok(Self(match weight.device() {
            Device::Cpu => Kernel::Packed(pack(&weight, &bias, geometry)?),
            _ => Kernel::Library(LibraryConv { weight, bias, geometry }),
        }))
    }

    pub(crate) fn trained(conv: TrainedConv) -> Self {
        Self(Kernel::Trained(Arc::new(conv)))
    }

    /// # Shapes
    /// `xs`: `[N, inputs, H, W]`; the result: `[N, outputs, H', W']`.
    ///
    /// # Errors
    /// For another shape.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Kernel::Trained(conv) => conv.forward(xs, None, &Activation::IDENTITY, &RangeRecorder::default()),
            Kernel::Packed(packed) => Ok(packed.forward(xs, None)?),
            Kernel::Library(conv) => Ok(conv.forward(xs, None, &Activation::IDENTITY, None)?),
        }
    }

    /// The convolution plus `addend`, if there is one, through `relu`.
    ///
    /// # Shapes
    /// `xs`: `[N, inputs, H, W]`; `addend` and the result: `[N, outputs, H', W']`.
    ///
    /// # Errors
    /// For another shape, with the name of the site.
    pub fn forward_relu(&self, xs: &Tensor, addend: Option<&Tensor>, relu: &Relu) -> Result<Tensor> {
        let function = &*read(&relu.function);
        match (&self.0, function) {
            // The same sums, and the same function of each, but the sums can be looked at in between.
            (Kernel::Packed(packed), _) if relu.recorder.is_sketching() => {
                relu.forward(&packed.forward(xs, addend)?)
            }
            (Kernel::Packed(packed), ReluFunction::Plain(activation)) => packed
                .forward_with(xs, addend, &activation.recorded_by(&relu.recorder))
                .map_err(|error| at(&relu.site)(error.into())),
            // Noise is an image's, and not a tile's.
            (Kernel::Packed(packed), ReluFunction::Noisy(_)) => relu.forward(&packed.forward(xs, addend)?),
            (Kernel::Trained(conv), ReluFunction::Plain(activation)) => {
                conv.forward(xs, addend, activation, &relu.recorder)
            }
            (Kernel::Trained(_), ReluFunction::Noisy(_)) => Err(ModelError::NoiseInTraining),
            (Kernel::Library(conv), ReluFunction::Plain(activation)) if !relu.recorder.is_sketching() => {
                conv.forward(xs, addend, activation, Some(&relu.recorder)).map_err(at(&relu.site))
            }
            (Kernel::Library(conv), _) => {
                relu.forward(&conv.forward(xs, addend, &Activation::IDENTITY, None)?)
            }
        }
    }
}

/// `x Wᵀ + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Linear {
    /// # Shapes
    /// `xs`: `[N, inputs]`; the result `[N, outputs]`.
    ///
    /// # Errors
    /// candle's, for another shape.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        through([xs, &self.weight, &self.bias], |[xs, weight, bias]| {
            Ok(xs.matmul(&weight.t()?)?.broadcast_add(bias)?)
        })
    }
}

/// A ReLU, or what the policy puts in its place.
#[derive(Debug, Clone)]
pub struct Relu {
    pub(crate) site: String,
    pub(crate) function: Arc<RwLock<ReluFunction>>,
    pub(crate) recorder: RangeRecorder,
}

impl Relu {
    /// # Shapes
    /// Any; the result has the input's.
    ///
    /// # Errors
    /// The op's, with the name of the site.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let function = read(&self.function).clone();
        self.recorder.sketch(xs)?;
        let activation = match function {
            ReluFunction::Plain(activation) => activation,
            ReluFunction::Noisy(relu) => return relu.forward(xs, &self.recorder).map_err(at(&self.site)),
        };
        let ys = activation.forward(xs, &self.recorder).map_err(at(&self.site))?;
        let saved = xs.clone();
        push(&ys, xs, activation.bound(), move |gradient| Ok(activation.gradient(&saved, gradient)?));
        Ok(ys)
    }
}

/// A max-pooling, or what the policy puts in its place.
#[derive(Debug, Clone)]
pub struct MaxPool {
    pub(crate) site: String,
    pub(crate) spec: PoolSpec,
    pub(crate) function: Arc<RwLock<MaxPoolFunction>>,
    pub(crate) recorder: RangeRecorder,
}

impl MaxPool {
    /// # Shapes
    /// `xs`: `[N, C, H, W]`; the result `[N, C, H', W']` with [`PoolSpec::output_size`].
    ///
    /// # Errors
    /// The op's, with the name of the site.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (function, spec, saved) = (read(&self.function).clone(), self.spec, xs.clone());
        self.recorder.sketch(xs)?;
        let ys = match &function {
            MaxPoolFunction::Exact => max_pool(xs, &spec, &self.recorder),
            MaxPoolFunction::Minimax(pool) => pool.forward(xs, &self.recorder),
            MaxPoolFunction::Noisy(pool) => pool.forward(xs, &self.recorder),
        };
        let ys = ys.map_err(at(&self.site))?;
        let bound = match &function {
            MaxPoolFunction::Minimax(pool) => Some(pool.bound()),
            MaxPoolFunction::Exact | MaxPoolFunction::Noisy(_) => None,
        };
        push(&ys, xs, bound, move |gradient| match &function {
            MaxPoolFunction::Exact => Ok(max_pool_gradient(&saved, &spec, gradient)?),
            MaxPoolFunction::Minimax(pool) => Ok(pool.gradient(&saved, gradient)?),
            MaxPoolFunction::Noisy(_) => Err(ModelError::NoiseInTraining),
        });
        Ok(ys)
    }
}

/// Records how a gradient goes back through an activation on `[-bound, bound]`, and the range penalty of its inputs.
fn push(
    ys: &Tensor,
    xs: &Tensor,
    bound: Option<f32>,
    backward: impl FnOnce(&Tensor) -> Result<Tensor> + 'static,
) {
    let (saved, penalty) = (xs.clone(), tape::step().and_then(|step| step.penalty(bound)));
    tape::push(ys, &[xs], move |gradient| {
        let gradient = backward(&gradient)?;
        let Some(penalty) = penalty else { return Ok(Back::from(vec![Some(gradient)])) };
        if !gradient.device().is_cpu() {
            let (gradient, penalty) = penalty.add_gradient_to(&saved, &gradient)?;
            return Ok(Back { gradients: vec![Some(gradient)], penalty });
        }
        let inputs: Vec<f32> = saved.flatten_all()?.to_vec1()?;
        let mut values: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
        let penalty = penalty.add_gradient(&inputs, &mut values);
        let gradient = Tensor::from_vec(values, gradient.shape(), gradient.device())?;
        Ok(Back { gradients: vec![Some(gradient)], penalty })
    });
}

/// While a network is trained, leaves out some of its inputs and scales the others so that their mean stays
/// (Srivastava et al., JMLR 15, 2014); does nothing else.
#[derive(Debug, Clone)]
pub struct Dropout {
    pub(crate) name: String,
    pub(crate) rate: f64,
}

impl Dropout {
    /// # Shapes
    /// Any; the result has the input's.
    ///
    /// # Errors
    /// candle's, where memory ends.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let seed = tape::step().filter(|_| self.rate > 0.0).and_then(|step| step.dropout_seed);
        let Some(seed) = seed else { return Ok(xs.clone()) };
        // Each layer has a stream of its own, so that no order of calls matters.
        let mut rng = stream(seed, &self.name);
        let kept = (1.0 / (1.0 - self.rate)) as f32;
        let factors = (0..xs.elem_count()).map(|_| if rng.random_bool(self.rate) { 0.0 } else { kept });
        let factors = Tensor::from_iter(factors, xs.device())?.reshape(xs.shape())?;
        let ys = (xs * &factors)?;
        tape::push(&ys, &[xs], move |gradient| Ok(vec![Some((gradient * factors)?)]));
        Ok(ys)
    }
}

/// An activation is only ever replaced as a whole, so one is there whatever happened.
fn read<T>(slot: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    slot.read().unwrap_or_else(PoisonError::into_inner)
}

/// The mean of each channel.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result `[N, C]`.
///
/// # Errors
/// candle's, for another rank.
pub fn global_average(xs: &Tensor) -> Result<Tensor> {
    if !xs.device().is_cpu() {
        return through([xs], |[xs]| Ok(xs.mean((2, 3))?));
    }
    let (images, channels, height, width) = xs.dims4()?;
    // As a product with a row of equal weights: candle's mean of channels-last images took 5 % of ResNet-20's time.
    let pixels = height * width;
    let weights = Tensor::full(1.0 / pixels as f32, (images, 1, pixels), xs.device())?;
    through([xs], |[xs]| {
        let pixels = xs.permute((0, 2, 3, 1))?.reshape((images, pixels, channels))?;
        Ok(weights.matmul(&pixels)?.reshape((images, channels))?)
    })
}

/// The means of `size × size` parts of about the same size, which overlap where the image is no multiple of it:
/// PyTorch's `AdaptiveAvgPool2d`.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result `[N, C, size, size]`.
///
/// # Errors
/// candle's, for another rank or an empty image.
pub fn adaptive_average(xs: &Tensor, size: usize) -> Result<Tensor> {
    let (_, _, height, width) = xs.dims4()?;
    if (height, width) == (size, size) {
        return Ok(xs.clone());
    }
    let parts = |xs: &Tensor, dim: usize, length: usize| {
        let part = |i: usize| {
            let (start, end) = (i * length / size, ((i + 1) * length).div_ceil(size));
            xs.narrow(dim, start, end - start)?.mean_keepdim(dim)
        };
        Tensor::cat(&(0..size).map(part).collect::<candle_core::Result<Vec<_>>>()?, dim)
    };
    through([xs], |[xs]| Ok(parts(&parts(xs, 2, height)?, 3, width)?))
}

/// The mean of each 3×3 window around a pixel, with zeros around the image: PyTorch's
/// `avg_pool2d(kernel_size=3, stride=1, padding=1)`.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result has the same.
///
/// # Errors
/// candle's, for another rank.
pub fn average_3x3(xs: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = xs.dims4()?;
    let spec = PoolSpec::new(3, 1, 1)?;
    let ys = avg_pool(xs, &spec, true)?;
    tape::push(&ys, &[xs], move |gradient| {
        Ok(vec![Some(avg_pool_gradient(&gradient, [height, width], &spec, true)?)])
    });
    Ok(ys)
}

/// Every second row and column, and as many zero channels on both sides as it takes to have `outputs`.
///
/// # Shapes
/// `xs`: `[N, C, H, W]`; the result `[N, outputs, ⌈H/2⌉, ⌈W/2⌉]`.
///
/// # Errors
/// candle's, for another rank.
pub fn subsampled(xs: &Tensor, outputs: usize) -> Result<Tensor> {
    if !xs.device().is_cpu() {
        return subsampled_by_candle(xs, outputs);
    }
    let (_, channels, height, width) = xs.dims4()?;
    let ys = subsample(xs, outputs)?;
    tape::push(&ys, &[xs], move |gradient| {
        Ok(vec![Some(subsample_gradient(&gradient, channels, (height, width))?)])
    });
    Ok(ys)
}

/// The same by candle's ops, on any device.
fn subsampled_by_candle(xs: &Tensor, outputs: usize) -> Result<Tensor> {
    let (_, channels, height, width) = xs.dims4()?;
    let (rows, columns, zeros) = (height.div_ceil(2), width.div_ceil(2), outputs - channels);
    through([xs], |[xs]| {
        let even = xs.contiguous()?.pad_with_zeros(2, 0, height % 2)?.pad_with_zeros(3, 0, width % 2)?;
        let pairs = even.reshape(((), 2, columns, 2))?.narrow(1, 0, 1)?.narrow(3, 0, 1)?;
        let pixels = pairs.contiguous()?.reshape(((), channels, rows, columns))?;
        Ok(pixels.pad_with_zeros(1, zeros / 2, zeros - zeros / 2)?)
    })
}

/// Joins channels.
///
/// # Shapes
/// Each of `parts`: `[N, Cᵢ, H, W]`; the result `[N, ΣCᵢ, H, W]`, on the CPU channels-last in memory.
///
/// # Errors
/// candle's, for other shapes.
pub fn concatenate(parts: &[Tensor]) -> Result<Tensor> {
    let dense = |xs: &Tensor| match xs.device() {
        Device::Cpu => xs.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2)),
        _ => xs.contiguous(),
    };
    let ys = match parts.first().map(Tensor::device) {
        Some(Device::Cpu) | None => {
            let channels_last = |xs: &Tensor| dense(xs)?.permute((0, 2, 3, 1));
            let parts = parts.iter().map(channels_last).collect::<candle_core::Result<Vec<_>>>()?;
            Tensor::cat(&parts, 3)?.permute((0, 3, 1, 2))?
        }
        Some(_) => Tensor::cat(parts, 1)?,
    };
    let widths = parts.iter().map(|part| part.dim(1)).collect::<candle_core::Result<Vec<_>>>()?;
    tape::push(&ys, &parts.iter().collect::<Vec<_>>(), move |gradient| {
        let mut start = 0;
        let own = widths.iter().map(|&width| {
            start += width;
            Ok(Some(dense(&gradient.narrow(1, start - width, width)?)?))
        });
        own.collect::<Result<Vec<_>>>()
    });
    Ok(ys)
}

/// One row for each image.
///
/// # Shapes
/// `xs`: `[N, …]`; the result `[N, the product of the others]`.
///
/// # Errors
/// candle's, for a number.
pub fn flatten(xs: &Tensor) -> Result<Tensor> {
    through([xs], |[xs]| Ok(xs.flatten_from(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candles_ops_pick_the_pixels_that_ours_pick() {
        for shape in [(2, 3, 8, 6), (1, 2, 5, 7), (2, 4, 1, 2)] {
            let xs = Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
            let values = |ys: Tensor| ys.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (ours, candles) = (subsampled(&xs, 7).unwrap(), subsampled_by_candle(&xs, 7).unwrap());
            assert_eq!(ours.dims(), candles.dims());
            assert_eq!(values(ours), values(candles));
        }
    }

    /// What runs on a GPU, run on the CPU.
    #[test]
    fn candles_convolution_with_one_pass_behind_it_gives_what_ours_gives() {
        let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        let values = |xs: &Tensor| xs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (kernel, stride, padding) in [((3, 3), 1, (1, 1)), ((1, 7), 1, (0, 3)), ((3, 3), 2, (1, 1))] {
            let (weight, bias) = (random(&[4, 3, kernel.0, kernel.1]), random(&[4]));
            let spec = ConvSpec::new(3, 4, kernel).with_stride(stride).with_padding(padding);
            let ours = Conv2d::new(weight.clone(), bias.clone(), spec).unwrap();
            let geometry = spec.geometry();
            let candles = Conv2d(Kernel::Library(LibraryConv { weight, bias, geometry }));
            let xs = random(&[2, 3, 9, 8]);
            let ys = ours.forward(&xs).unwrap();
            let addend = random(ys.dims());
            let relu = || Relu {
                site: "relu".to_owned(),
                function: Arc::new(RwLock::new(ReluFunction::Plain(Activation::RELU))),
                recorder: RangeRecorder::default(),
            };
            let (mine, other) = (relu(), relu());
            let pairs = [
                (ys, candles.forward(&xs).unwrap()),
                (
                    ours.forward_relu(&xs, Some(&addend), &mine).unwrap(),
                    candles.forward_relu(&xs, Some(&addend), &other).unwrap(),
                ),
            ];
            for (expected, actual) in pairs {
                assert_eq!(actual.dims(), expected.dims());
                for (a, e) in values(&actual).iter().zip(values(&expected)) {
                    assert!((a - e).abs() < 1e-4, "{geometry:?}: {a}, not {e}");
                }
            }
            assert!((mine.recorder.take().max_abs - other.recorder.take().max_abs).abs() < 1e-4);
        }
    }
}
