//! Batch norm for training (Ioffe and Szegedy, arXiv 1502.03167), with the addend and the epilogue that
//! come behind it in one pass.

use candle_core::{DType, Device, Tensor};

use crate::cpu::batch_norm::{InputGradient, Layer, statistics};
use crate::cpu::with_f32;
use crate::epilogue::Epilogue;
use crate::error::{KernelError, Result, check_dtype};

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
    /// What the epilogue adds to the loss.
    pub penalty: f64,
}

impl BatchNorm {
    /// `f(γ (x − mean) / √(variance + eps) + β + addend)` with the mean and variance of each channel over the batch,
    /// and these. `f` is the epilogue, which takes note of the range of its inputs.
    ///
    /// # Shapes
    /// `xs`, `addend` and the result: `[N, C, H, W]`; on the CPU, the result is channels-last in memory.
    ///
    /// # Accuracy
    /// Mean and variance within 1e-6 of the largest |x| and its square; the rest is float32.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedDType`], or candle's own for other shapes or an empty batch.
    pub fn forward(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        epilogue: &dyn Epilogue,
    ) -> Result<(Tensor, BatchStatistics)> {
        let (n, channels, height, width) = self.check(xs)?;
        if !xs.device().is_cpu() {
            return self.forward_by_tensors(xs, addend, epilogue);
        }
        let (ys, range, statistics) = with_f32(&channels_last(xs)?, |xs| -> Result<_> {
            let (mean, variance) = statistics(xs, channels);
            let statistics = BatchStatistics { mean, variance, count: n * height * width };
            let (scale, shift) = self.affine(&statistics)?;
            let layer = Layer { scale: &scale, shift: &shift, epilogue };
            let (ys, range) = match addend {
                None => layer.forward(xs, None),
                Some(addend) => with_f32(&same_shape(addend, n, channels, height, width)?, |addend| {
                    Ok::<_, KernelError>(layer.forward(xs, Some(addend)))
                })?,
            };
            Ok((ys, range, statistics))
        })?;
        epilogue.record(range);
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
        epilogue: &dyn Epilogue,
        statistics: &BatchStatistics,
        gradient: &Tensor,
    ) -> Result<BatchNormGradients> {
        let (n, channels, height, width) = self.check(xs)?;
        if !xs.device().is_cpu() {
            return self.backward_by_tensors(xs, addend, epilogue, statistics, gradient);
        }
        let (scale, shift) = self.affine(statistics)?;
        let inverse_deviations = self.inverse_deviations(statistics);
        let layer = Layer { scale: &scale, shift: &shift, epilogue };
        let dense = |xs: &Tensor| same_shape(xs, n, channels, height, width);
        let back = |addend: Option<&[f32]>| {
            with_f32(&channels_last(xs)?, |xs| {
                with_f32(&dense(gradient)?, |gradient| -> Result<_> {
                    let means = &statistics.mean;
                    Ok(layer.backward(xs, addend, means, &inverse_deviations, gradient))
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

    /// As [`BatchNorm::forward`] with candle's ops, on any device. Waits for the statistics.
    fn forward_by_tensors(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        epilogue: &dyn Epilogue,
    ) -> Result<(Tensor, BatchStatistics)> {
        let xs = xs.contiguous()?;
        let channels = xs.dim(1)?;
        let count = xs.elem_count() / channels;
        let means = |xs: &Tensor| -> Result<Vec<f64>> {
            Ok(sums(xs)?.into_iter().map(|sum| sum / count as f64).collect())
        };
        // Distances from about the mean, so that a mean far from zero costs no digits.
        let about: Vec<f32> = means(&xs)?.into_iter().map(|mean| mean as f32).collect();
        let distances = xs.broadcast_sub(&of_channels(&about, &xs)?)?;
        let (rest, squares) = (means(&distances)?, means(&distances.sqr()?)?);
        let mean = about.iter().zip(&rest).map(|(about, rest)| f64::from(*about) + rest).collect();
        let variance =
            squares.iter().zip(&rest).map(|(square, rest)| (square - rest * rest).max(0.0)).collect();
        let statistics = BatchStatistics { mean, variance, count };
        let ys = xs.copy()?;
        let (scale, shift) = self.affine(&statistics)?;
        let affine = Tensor::from_vec([scale, shift].concat(), (2, channels), xs.device())?;
        epilogue.apply_affine(&ys, &affine, addend)?;
        Ok((ys, statistics))
    }

    /// As [`BatchNorm::backward`] with candle's ops, on any device. Waits for the sums.
    fn backward_by_tensors(
        &self,
        xs: &Tensor,
        addend: Option<&Tensor>,
        epilogue: &dyn Epilogue,
        statistics: &BatchStatistics,
        gradient: &Tensor,
    ) -> Result<BatchNormGradients> {
        let xs = xs.contiguous()?;
        let channels = xs.dim(1)?;
        let (scale, shift) = self.affine(statistics)?;
        let affine = Tensor::from_vec([&scale[..], &shift].concat(), (2, channels), xs.device())?;
        let (inner, penalty) = epilogue.affine_gradient(&xs, &affine, addend, &gradient.contiguous()?)?;
        let means: Vec<f32> = statistics.mean.iter().map(|&mean| mean as f32).collect();
        let distances = xs.broadcast_sub(&of_channels(&means, &xs)?)?;
        let (of_bias, products) = (sums(&inner)?, sums(&(&inner * distances)?)?);
        let inverse_deviations = self.inverse_deviations(statistics);
        let back = InputGradient {
            scale: &scale,
            means: &statistics.mean,
            inverse_deviations: &inverse_deviations,
            sums: &of_bias,
            products: &products,
            count: statistics.count as f64,
        };
        let of_xs = inner
            .broadcast_mul(&of_channels(&scale, &xs)?)?
            .add(&xs.broadcast_mul(&of_channels(&back.of_x(), &xs)?)?)?
            .broadcast_add(&of_channels(&back.constant(), &xs)?)?;
        let of_weight = products.iter().zip(&inverse_deviations).map(|(sum, inverse)| (sum * inverse) as f32);
        Ok(BatchNormGradients {
            xs: of_xs,
            addend: addend.map(|_| inner),
            weight: Tensor::from_iter(of_weight, xs.device())?,
            bias: Tensor::from_iter(of_bias.iter().map(|&sum| sum as f32), xs.device())?,
            penalty,
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

/// The sum of each channel. First of each plane: candle's kernel has a block for each sum, and there are few channels.
fn sums(xs: &Tensor) -> Result<Vec<f64>> {
    Ok(xs.sum((2, 3))?.sum(0)?.to_dtype(DType::F64)?.to_vec1()?)
}

/// A number for each channel, to be repeated over the images `xs`.
fn of_channels(numbers: &[f32], xs: &Tensor) -> Result<Tensor> {
    Ok(Tensor::from_slice(numbers, (1, numbers.len(), 1, 1), xs.device())?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_epilogues;

    #[test]
    fn candles_ops_give_what_ours_give() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let values = |xs: &Tensor| xs.flatten_all().and_then(|xs| xs.to_vec1::<f32>());
        let close = |a: &Tensor, b: &Tensor, what: &str| -> candle_core::Result<()> {
            assert_eq!(a.dims(), b.dims(), "{what}");
            for (a, b) in values(a)?.iter().zip(values(b)?) {
                assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{what}: {a}, not {b}");
            }
            Ok(())
        };
        let random = |mean: f32, shape: &[usize]| Tensor::randn(mean, 1.0, shape, &Device::Cpu);
        let norm = BatchNorm { weight: random(1.0, &[3])?, bias: random(0.0, &[3])?, eps: 1e-5 };
        let shape = [4, 3, 5, 6];
        let (xs, addend, gradient) = (random(40.0, &shape)?, random(0.0, &shape)?, random(0.0, &shape)?);
        let [_, relu, quadratic] = test_epilogues::all();
        for (epilogue, addend) in [(&relu, None), (&quadratic, Some(&addend))] {
            let (ys, statistics) = norm.forward(&xs, addend, epilogue)?;
            let seen = epilogue.take();
            let (actual, own) = norm.forward_by_tensors(&xs, addend, epilogue)?;
            close(&actual, &ys, "forward")?;
            assert!((epilogue.take().max_abs - seen.max_abs).abs() < 1e-4);
            for (a, b) in [(&own.mean, &statistics.mean), (&own.variance, &statistics.variance)] {
                assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * b), "{a:?}, not {b:?}");
            }
            let expected = norm.backward(&xs, addend, epilogue, &statistics, &gradient)?;
            let actual = norm.backward_by_tensors(&xs, addend, epilogue, &statistics, &gradient)?;
            close(&actual.xs, &expected.xs, "gradient of xs")?;
            close(&actual.weight, &expected.weight, "gradient of the weight")?;
            close(&actual.bias, &expected.bias, "gradient of the bias")?;
            assert_eq!(actual.addend.is_some(), expected.addend.is_some());
            if let (Some(actual), Some(expected)) = (&actual.addend, &expected.addend) {
                close(actual, expected, "gradient of the addend")?;
            }
            assert!((actual.penalty - expected.penalty).abs() < 1e-4 * (1.0 + expected.penalty));
        }
        Ok(())
    }
}
