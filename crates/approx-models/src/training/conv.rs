//! A convolution and its batch norm, apart, as training needs them.

use std::sync::{Arc, Mutex, PoisonError};

use approx_ops::{Activation, RangeRecorder};
use candle_core::{DType, Device, Tensor};
use cnn_kernels::{
    BatchNorm, BatchStatistics, ConvGeometry, conv2d, conv2d_input_gradient, conv2d_weight_gradient,
};

use crate::error::Result;
use crate::tape::{self, Back};

/// Share of a batch's statistics in the running ones, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// A convolution, its batch norm, and the addend and activation that come behind.
#[derive(Debug, Clone)]
pub(crate) struct TrainedConv {
    pub(crate) weight: Tensor,
    /// Has no gradient: batch norm takes it away again.
    pub(crate) bias: Option<Tensor>,
    pub(crate) norm: BatchNorm,
    pub(crate) running: Running,
    pub(crate) geometry: ConvGeometry,
}

/// Running mean and unbiased variance of each channel.
#[derive(Debug, Clone)]
pub(crate) struct Running(Arc<Mutex<[Vec<f32>; 2]>>);

impl Running {
    pub(crate) fn new(mean: &Tensor, variance: &Tensor) -> Result<Self> {
        Ok(Self(Arc::new(Mutex::new([mean.to_vec1()?, variance.to_vec1()?]))))
    }

    /// Mean and variance as tensors.
    pub(crate) fn tensors(&self) -> Result<[Tensor; 2]> {
        let [mean, variance] = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok([Tensor::new(mean, &Device::Cpu)?, Tensor::new(variance, &Device::Cpu)?])
    }

    fn update(&self, batch: &BatchStatistics, bias: &[f64]) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [mean, variance] = &mut *running;
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

impl TrainedConv {
    pub(crate) fn forward(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        activation: &Activation,
        recorder: &RangeRecorder,
    ) -> Result<Tensor> {
        // Detached: candle is not to record what the tape does. A step of the optimiser changes the numbers in place,
        // but not before the tape is used up.
        let (weight, norm) = (
            self.weight.detach(),
            BatchNorm {
                weight: self.norm.weight.detach(),
                bias: self.norm.bias.detach(),
                eps: self.norm.eps,
            },
        );
        let convolved = conv2d(xs, &weight, self.geometry)?;
        let (ys, statistics) = norm.forward(&convolved, addend, &activation.recorded_by(recorder))?;
        let bias = self.bias.as_ref().map(|bias| bias.to_dtype(DType::F64)?.to_vec1()).transpose()?;
        self.running.update(&statistics, &bias.unwrap_or_default());

        let mut inputs = vec![xs, &self.weight, &self.norm.weight, &self.norm.bias];
        inputs.extend(self.bias.as_ref());
        inputs.extend(addend);
        let penalty = tape::step().and_then(|step| step.penalty(activation.bound()));
        let (geometry, xs_tracked, no_bias) = (self.geometry, tape::is_tracked(xs), self.bias.clone());
        let (saved, activation, saved_addend) = (xs.clone(), activation.clone(), addend.cloned());
        tape::push(&ys, &inputs, move |gradient| {
            let addend = saved_addend.as_ref();
            let epilogue = activation.penalised_by(penalty);
            let back = norm.backward(&convolved, addend, &epilogue, &statistics, &gradient)?;
            let (_, _, height, width) = saved.dims4()?;
            let of_weight = conv2d_weight_gradient(&saved, &back.xs, geometry)?;
            let of_xs =
                xs_tracked.then(|| conv2d_input_gradient(&back.xs, &weight, [height, width], geometry));
            let mut gradients = vec![of_xs.transpose()?, Some(of_weight), Some(back.weight), Some(back.bias)];
            if let Some(bias) = no_bias {
                gradients.push(Some(bias.zeros_like()?));
            }
            gradients.extend(back.addend.map(Some));
            Ok(Back { gradients, penalty: back.penalty })
        });
        Ok(ys)
    }
}
