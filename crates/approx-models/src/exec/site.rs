//! What stands at the sites of a network, made ready to run.

use std::collections::HashMap;

use approx_ops::{
    Activation, MinimaxMaxPool, NoisyFitted, NoisyMaxPool, NoisyRelu, PoolSpec, RangePenalty, RangeRecorder,
    max_pool, max_pool_gradient,
};
use candle_core::Tensor;
use cnn_graph::ValueId;

use super::at;
use super::conv::Conv;
use crate::error::{ModelError, Result};

/// The function of each site, with what it records.
#[derive(Debug, Default)]
pub(crate) struct SiteFunctions {
    activations: HashMap<ValueId, ActivationSite>,
    max_pools: HashMap<ValueId, MaxPoolSite>,
}

impl SiteFunctions {
    pub(crate) fn insert_activation(&mut self, value: ValueId, site: ActivationSite) {
        self.activations.insert(value, site);
    }

    pub(crate) fn insert_max_pool(&mut self, value: ValueId, site: MaxPoolSite) {
        self.max_pools.insert(value, site);
    }

    pub(crate) fn of_activation(&self, value: ValueId) -> &ActivationSite {
        &self.activations[&value]
    }

    pub(crate) fn of_max_pool(&self, value: ValueId) -> &MaxPoolSite {
        &self.max_pools[&value]
    }
}

/// A function of one variable at a site.
#[derive(Debug)]
pub(crate) struct ActivationSite {
    pub(crate) name: String,
    pub(crate) function: ActivationFunction,
    pub(crate) recorder: RangeRecorder,
}

#[derive(Debug, Clone)]
pub(crate) enum ActivationFunction {
    Plain(Activation),
    Noisy(NoisyRelu),
    NoisyFitted(NoisyFitted),
}

impl ActivationSite {
    /// # Shapes
    /// Any; the result has the input's.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.recorder.sketch(xs)?;
        match &self.function {
            ActivationFunction::Plain(activation) => activation.forward(xs, &self.recorder),
            ActivationFunction::Noisy(relu) => relu.forward(xs, &self.recorder),
            ActivationFunction::NoisyFitted(fitted) => fitted.forward(xs, &self.recorder),
        }
        .map_err(at(&self.name))
    }

    /// The function of a convolution plus `addend`.
    ///
    /// # Shapes
    /// As the convolution's.
    pub(crate) fn behind_conv(&self, conv: &Conv, xs: &Tensor, addend: Option<&Tensor>) -> Result<Tensor> {
        match &self.function {
            ActivationFunction::Plain(activation) if !self.recorder.is_sketching() => {
                conv.forward(xs, addend, activation, Some(&self.recorder)).map_err(|error| match error {
                    ModelError::Op(source) => at(&self.name)(source),
                    other => other,
                })
            }
            // The same sums, and the same function of each, but the sums can be looked at in between; and noise is an
            // image's, and not a tile's.
            _ => self.forward(&conv.forward(xs, addend, &Activation::IDENTITY, None)?),
        }
    }

    /// The function, for training, which knows no noise.
    pub(crate) fn plain(&self) -> Result<&Activation> {
        match &self.function {
            ActivationFunction::Plain(activation) => Ok(activation),
            ActivationFunction::Noisy(_) | ActivationFunction::NoisyFitted(_) => {
                Err(ModelError::NoiseInTraining)
            }
        }
    }
}

/// A max-pooling at a site.
#[derive(Debug)]
pub(crate) struct MaxPoolSite {
    pub(crate) name: String,
    pub(crate) spec: PoolSpec,
    pub(crate) function: MaxPoolFunction,
    pub(crate) recorder: RangeRecorder,
}

#[derive(Debug, Clone)]
pub(crate) enum MaxPoolFunction {
    Exact,
    Minimax(MinimaxMaxPool),
    Noisy(NoisyMaxPool),
}

impl MaxPoolSite {
    /// # Shapes
    /// `xs`: `[N, C, H, W]`; the result `[N, C, H', W']` with [`PoolSpec::output_size`].
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.recorder.sketch(xs)?;
        match &self.function {
            MaxPoolFunction::Exact => max_pool(xs, &self.spec, &self.recorder),
            MaxPoolFunction::Minimax(pool) => pool.forward(xs, &self.recorder),
            MaxPoolFunction::Noisy(pool) => pool.forward(xs, &self.recorder),
        }
        .map_err(at(&self.name))
    }

    /// The gradient of the input from that of the result.
    pub(crate) fn gradient(&self, xs: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        match &self.function {
            MaxPoolFunction::Exact => Ok(max_pool_gradient(xs, &self.spec, gradient)?),
            MaxPoolFunction::Minimax(pool) => Ok(pool.gradient(xs, gradient)?),
            MaxPoolFunction::Noisy(_) => Err(ModelError::NoiseInTraining),
        }
    }

    /// 0 and `B`, if this is an approximation on `[-B, B]`.
    pub(crate) fn range(&self) -> Option<(f32, f32)> {
        match &self.function {
            MaxPoolFunction::Minimax(pool) => Some((0.0, pool.bound())),
            MaxPoolFunction::Exact | MaxPoolFunction::Noisy(_) => None,
        }
    }
}

/// Adds the gradient of a range penalty at `xs` to `gradient`; gives both the sum and the penalty.
pub(crate) fn add_penalty(
    penalty: Option<RangePenalty>,
    xs: &Tensor,
    gradient: Tensor,
) -> Result<(Tensor, f64)> {
    let Some(penalty) = penalty else { return Ok((gradient, 0.0)) };
    if !gradient.device().is_cpu() {
        return Ok(penalty.add_gradient_to(xs, &gradient)?);
    }
    let inputs: Vec<f32> = xs.flatten_all()?.to_vec1()?;
    let mut values: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
    let sum = penalty.add_gradient(&inputs, &mut values);
    Ok((Tensor::from_vec(values, gradient.shape(), gradient.device())?, sum))
}
