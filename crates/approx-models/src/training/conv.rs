//! A convolution with what follows it, forwards and backwards; and batch norm by itself.

use approx_ops::{Activation, RangePenalty, RangeRecorder};
use candle_core::{DType, Device, Tensor};
use cnn_kernels::{
    BatchNorm, BatchStatistics, ConvGeometry, conv2d, conv2d_input_gradient, conv2d_weight_gradient,
};

use crate::error::Result;
use crate::exec::site::add_penalty;

/// Share of a batch's statistics in the running ones, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// A convolution and what stands behind it.
#[derive(Debug)]
pub(super) struct TrainedConv {
    pub(super) weight: Tensor,
    /// Has no gradient where a batch norm follows, which takes it away again.
    pub(super) bias: Option<Tensor>,
    pub(super) norm: Option<TrainedNorm>,
    pub(super) geometry: ConvGeometry,
}

/// A batch norm and its running mean and variance.
#[derive(Debug)]
pub(super) struct TrainedNorm {
    pub(super) name: String,
    pub(super) norm: BatchNorm,
    pub(super) running: Running,
}

impl TrainedNorm {
    /// The same numbers, of which candle does not record what is done with them.
    fn detached(&self) -> BatchNorm {
        let BatchNorm { weight, bias, eps } = &self.norm;
        BatchNorm { weight: weight.detach(), bias: bias.detach(), eps: *eps }
    }

    /// Batch norm that follows no convolution, and the batch's statistics.
    ///
    /// # Shapes
    /// `xs`: `[N, C]` or `[N, C, H, W]`; the result has the same.
    pub(super) fn forward(&mut self, xs: &Tensor) -> Result<(Tensor, BatchStatistics)> {
        let (ys, statistics) =
            self.detached().forward(&image(xs)?, None, &Activation::IDENTITY.penalised_by(None))?;
        self.running.update(&statistics, &[]);
        Ok((ys.reshape(xs.shape())?, statistics))
    }

    /// The gradients of the input, and of weight and bias.
    pub(super) fn backward(
        &self,
        statistics: &BatchStatistics,
        xs: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Tensor, [Tensor; 2])> {
        let identity = Activation::IDENTITY.penalised_by(None);
        let back = self.detached().backward(&image(xs)?, None, &identity, statistics, &image(gradient)?)?;
        Ok((back.xs.reshape(xs.shape())?, [back.weight, back.bias]))
    }
}

/// `[N, C]` as images of one pixel.
fn image(xs: &Tensor) -> Result<Tensor> {
    Ok(match xs.rank() {
        2 => xs.unsqueeze(2)?.unsqueeze(3)?,
        _ => xs.clone(),
    })
}

/// Running mean and unbiased variance of each channel.
#[derive(Debug, Clone)]
pub(crate) struct Running([Vec<f32>; 2]);

impl Running {
    pub(super) fn new(mean: Vec<f32>, variance: Vec<f32>) -> Self {
        Self([mean, variance])
    }

    /// Mean and variance as tensors.
    pub(super) fn tensors(&self) -> Result<[Tensor; 2]> {
        let [mean, variance] = self.0.clone();
        Ok([Tensor::new(mean, &Device::Cpu)?, Tensor::new(variance, &Device::Cpu)?])
    }

    fn update(&mut self, batch: &BatchStatistics, bias: &[f64]) {
        let [mean, variance] = &mut self.0;
        let unbiased = batch.count as f64 / (batch.count.max(2) - 1) as f64;
        let blend = |old: &mut f32, new: f64| {
            *old = (f64::from(*old) * (1.0 - MOMENTUM) + new * MOMENTUM) as f32;
        };
        for (c, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
            blend(mean, batch.mean[c] + bias.get(c).copied().unwrap_or(0.0));
            blend(variance, batch.variance[c] * unbiased);
        }
    }
}

/// What the way back needs of the way forward.
#[derive(Debug)]
pub(super) enum SavedConv {
    /// The convolution without bias, and the batch's statistics.
    Norm(Tensor, BatchStatistics),
    /// What went into the activation.
    Plain(Tensor),
}

/// What flows back through a convolution and what stands behind it.
#[derive(Debug)]
pub(super) struct ConvGradients {
    pub(super) xs: Option<Tensor>,
    pub(super) addend: Option<Tensor>,
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    /// Of the batch norm's weight and bias.
    pub(super) norm: Option<[Tensor; 2]>,
    pub(super) penalty: f64,
}

impl TrainedConv {
    pub(super) fn forward(
        &mut self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        activation: &Activation,
        recorder: &RangeRecorder,
    ) -> Result<(Tensor, SavedConv)> {
        // Detached: candle is not to record what this crate does. A step of the optimiser changes the numbers in place, but
        // not before the way back is done.
        let convolved = conv2d(xs, &self.weight.detach(), self.geometry)?;
        let Some(norm) = &mut self.norm else {
            let mut inner = convolved;
            if let Some(bias) = &self.bias {
                inner = inner.broadcast_add(&bias.detach().reshape((1, (), 1, 1))?)?;
            }
            if let Some(addend) = addend {
                inner = cnn_kernels::add(&inner, addend)?;
            }
            return Ok((activation.forward(&inner, recorder)?, SavedConv::Plain(inner)));
        };
        let (ys, statistics) =
            norm.detached().forward(&convolved, addend, &activation.recorded_by(recorder))?;
        let bias = self.bias.as_ref().map(|bias| bias.to_dtype(DType::F64)?.to_vec1()).transpose()?;
        norm.running.update(&statistics, &bias.unwrap_or_default());
        Ok((ys, SavedConv::Norm(convolved, statistics)))
    }

    /// `wants_xs`: whether anything before `xs` has a gradient.
    pub(super) fn backward(
        &self,
        saved: SavedConv,
        (xs, addend): (&Tensor, Option<&Tensor>),
        wants_xs: bool,
        activation: &Activation,
        gradient: &Tensor,
        penalty: Option<RangePenalty>,
    ) -> Result<ConvGradients> {
        let weight = self.weight.detach();
        let (inner, of_addend, bias, norm, penalty) = match (saved, &self.norm) {
            (SavedConv::Norm(convolved, statistics), Some(norm)) => {
                let norm = norm.detached();
                let epilogue = activation.penalised_by(penalty);
                let back = norm.backward(&convolved, addend, &epilogue, &statistics, gradient)?;
                let bias = self.bias.as_ref().map(Tensor::zeros_like).transpose()?;
                (back.xs, back.addend, bias, Some([back.weight, back.bias]), back.penalty)
            }
            (SavedConv::Norm(..), None) => unreachable!("the way forward had a batch norm"),
            (SavedConv::Plain(inner), _) => {
                let back = activation.gradient(&inner, gradient)?;
                let (back, penalty) = add_penalty(penalty, &inner, back)?;
                let bias = self.bias.as_ref().map(|_| back.sum((0, 2, 3))).transpose()?;
                let of_addend = addend.map(|_| back.clone());
                (back, of_addend, bias, None, penalty)
            }
        };
        let (_, _, height, width) = xs.dims4()?;
        let of_weight = conv2d_weight_gradient(xs, &inner, self.geometry)?;
        let of_xs = wants_xs.then(|| conv2d_input_gradient(&inner, &weight, [height, width], self.geometry));
        let xs = of_xs.transpose()?;
        Ok(ConvGradients { xs, addend: of_addend, weight: of_weight, bias, norm, penalty })
    }
}
