//! Batch norm for training on the CPU (Ioffe and Szegedy, arXiv 1502.03167), with the addend and the activation that
//! come behind it in one pass.

use candle_core::{DType, Device, Tensor};

use crate::activation::Activation;
use crate::cpu::batch_norm::{Layer, statistics};
use crate::cpu::with_f32;
use crate::error::{OpError, Result, check_dtype};
use crate::range::{RangePenalty, RangeRecorder};

/// Scale and shift of each channel, and what is added to the variance.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// `γ`: `[C]`.
    pub weight: Tensor,
    /// `β`: `[C]`.
    pub bias: Tensor,
    /// Added to the variance.
    pub eps: f64,
}

/// Mean and biased variance of each channel of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatistics {
    /// Of each channel.
    pub mean: Vec<f64>,
    /// Of each channel, biased: divided by `count`.
    pub variance: Vec<f64>,
    /// Numbers of each channel.
    pub count: usize,
}

/// What flows back through [`BatchNorm`].
#[derive(Debug)]
pub struct BatchNormGradients {
    /// Of the input: `[N, C, H, W]`.
    pub xs: Tensor,
    /// Of the addend, if there was one: `[N, C, H, W]`.
    pub addend: Option<Tensor>,
    /// Of `γ`: `[C]`.
    pub weight: Tensor,
    /// Of `β`: `[C]`.
    pub bias: Tensor,
    /// The range penalty of the activation's inputs.
    pub penalty: f64,
}

impl BatchNorm {
    /// `f(γ (x − mean) / √(variance + eps) + β + addend)` with the mean and variance of each channel over the batch,
    /// and these. Records the range of the activation's inputs.
    ///
    /// # Shapes
    /// `xs`, `addend` and the result: `[N, C, H, W]`; the result is channels-last in memory.
    ///
    /// # Accuracy
    /// Mean and variance within 1e-6 of the largest |x| and its square; the rest is float32.
    ///
    /// # Errors
    /// [`OpError::UnsupportedDType`], or candle's own for other shapes, an empty batch or another device.
    pub fn forward(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        activation: &Activation,
        recorder: &RangeRecorder,
    ) -> Result<(Tensor, BatchStatistics)> {
        let (n, channels, height, width) = self.check(xs)?;
        let (ys, range, statistics) = with_f32(&channels_last(xs)?, |xs| -> Result<_> {
            let (mean, variance) = statistics(xs, channels);
            let statistics = BatchStatistics { mean, variance, count: n * height * width };
            let (scale, shift) = self.affine(&statistics)?;
            let layer = Layer { scale: &scale, shift: &shift, function: &activation.0 };
            let (ys, range) = match addend {
                None => layer.forward(xs, None),
                Some(addend) => with_f32(&same_shape(addend, n, channels, height, width)?, |addend| {
                    Ok::<_, OpError>(layer.forward(xs, Some(addend)))
                })?,
            };
            Ok((ys, range, statistics))
        })?;
        recorder.record(range);
        let ys = Tensor::from_vec(ys, (n, height, width, channels), &Device::Cpu)?;
        Ok((ys.permute((0, 3, 1, 2))?, statistics))
    }

    /// The gradients, from that of the result and what the forward pass was given and gave.
    ///
    /// # Shapes
    /// `xs`, `addend`, `gradient`: `[N, C, H, W]`.
    ///
    /// # Errors
    /// As [`BatchNorm::forward`].
    pub fn backward(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        activation: &Activation,
        statistics: &BatchStatistics,
        gradient: &Tensor,
        penalty: Option<RangePenalty>,
    ) -> Result<BatchNormGradients> {
        let (n, channels, height, width) = self.check(xs)?;
        let (scale, shift) = self.affine(statistics)?;
        let inverse_deviations = self.inverse_deviations(statistics);
        let layer = Layer { scale: &scale, shift: &shift, function: &activation.0 };
        let dense = |xs: &Tensor| same_shape(xs, n, channels, height, width);
        let back = |addend: Option<&[f32]>| {
            with_f32(&channels_last(xs)?, |xs| {
                with_f32(&dense(gradient)?, |gradient| -> Result<_> {
                    let means = &statistics.mean;
                    Ok(layer.backward(xs, addend, means, &inverse_deviations, gradient, penalty))
                })
            })
        };
        let back = match addend {
            None => back(None)?,
            Some(addend) => with_f32(&dense(addend)?, |addend| back(Some(addend)))?,
        };
        let image = |values: Vec<f32>| -> Result<Tensor> {
            let dense = Tensor::from_vec(values, (n, height, width, channels), &Device::Cpu)?;
            Ok(dense.permute((0, 3, 1, 2))?)
        };
        let of_weight =
            back.products.iter().zip(&inverse_deviations).map(|(sum, inverse)| (sum * inverse) as f32);
        let of_bias = back.sums.iter().map(|&sum| sum as f32);
        Ok(BatchNormGradients {
            xs: image(back.xs)?,
            addend: back.addend.map(image).transpose()?,
            weight: Tensor::from_iter(of_weight, &Device::Cpu)?,
            bias: Tensor::from_iter(of_bias, &Device::Cpu)?,
            penalty: back.penalty,
        })
    }

    fn check(&self, xs: &Tensor) -> Result<(usize, usize, usize, usize)> {
        check_dtype("batch_norm", xs.dtype())?;
        let (n, channels, height, width) = xs.dims4()?;
        self.weight.shape().dims1().and_then(|c| match c == channels && xs.elem_count() > 0 {
            true => Ok(()),
            false => {
                candle_core::bail!("batch norm of {c} channels does not take an input of {:?}", xs.shape())
            }
        })?;
        Ok((n, channels, height, width))
    }

    fn inverse_deviations(&self, statistics: &BatchStatistics) -> Vec<f64> {
        statistics.variance.iter().map(|variance| (variance + self.eps).sqrt().recip()).collect()
    }

    /// Scale and shift of the whole: computed in float64.
    fn affine(&self, statistics: &BatchStatistics) -> Result<(Vec<f32>, Vec<f32>)> {
        let numbers = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.to_vec1::<f64>();
        let (weight, bias) = (numbers(&self.weight)?, numbers(&self.bias)?);
        let inverse = self.inverse_deviations(statistics);
        let scale: Vec<f64> = weight.iter().zip(inverse).map(|(weight, inverse)| weight * inverse).collect();
        let moved = scale.iter().zip(&statistics.mean).map(|(scale, mean)| scale * mean);
        let shift = bias.iter().zip(moved).map(|(bias, moved)| (bias - moved) as f32).collect();
        Ok((scale.iter().map(|&scale| scale as f32).collect(), shift))
    }
}

fn channels_last(xs: &Tensor) -> Result<Tensor> {
    Ok(xs.permute((0, 2, 3, 1))?.contiguous()?)
}

fn same_shape(xs: &Tensor, n: usize, channels: usize, height: usize, width: usize) -> Result<Tensor> {
    check_dtype("batch_norm", xs.dtype())?;
    let expected = (n, channels, height, width);
    match xs.dims4()? == expected {
        true => channels_last(xs),
        false => {
            let (lhs, rhs) = (expected.into(), xs.shape().clone());
            Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "batch_norm" }.into())
        }
    }
}
