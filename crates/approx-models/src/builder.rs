//! What a network's definition asks for its layers and activations.

use std::cell::RefCell;
use std::collections::BTreeSet;

use approx_ops::{Activation, MinimaxMaxPool, MinimaxRelu, OpError, PoolSpec, RangeRecorder};
use candle_core::{DType, Device, Tensor};

use crate::error::{ModelError, Result};
use crate::layers::{Conv2d, ConvSpec, Linear, MaxPool, MaxPoolFunction, Relu};
use crate::network::{Site, SiteKind};
use crate::policy::{ActivationPolicy, MaxPoolPolicy, ReluPolicy};
use crate::weights::{Mismatch, Weights, WeightsError};

/// Weights, policy and a path in the network: [`NetBuilder::pp`] goes one step down, as candle's `VarBuilder`
/// does.
///
/// A tensor that is missing or of another shape does not stop the building; all of them are reported in the
/// end.
#[derive(Clone, Copy)]
pub struct NetBuilder<'a> {
    path: &'a str,
    context: &'a Context<'a>,
}

struct Context<'a> {
    weights: &'a Weights,
    policy: &'a ActivationPolicy,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    sites: Vec<Site>,
    used: BTreeSet<String>,
    mismatch: Mismatch,
}

impl<'a> NetBuilder<'a> {
    /// Runs a definition and checks what it left over.
    pub(crate) fn run<M>(
        weights: &Weights,
        policy: &ActivationPolicy,
        define: impl FnOnce(&NetBuilder) -> Result<M>,
    ) -> Result<(M, Vec<Site>)> {
        let context = Context { weights, policy, state: RefCell::default() };
        let model = define(&NetBuilder { path: "", context: &context })?;
        let State { sites, used, mut mismatch } = context.state.into_inner();
        mismatch.unused = weights
            .names()
            .filter(|name| !used.contains(*name) && !name.ends_with(".num_batches_tracked"))
            .map(str::to_owned)
            .collect();
        mismatch.unused.sort();
        if !mismatch.is_empty() {
            return Err(WeightsError::Mismatch { origin: weights.origin().to_owned(), mismatch }.into());
        }
        let known = |kind| -> Vec<String> {
            sites.iter().filter(|site| site.kind == kind).map(|site| site.name.clone()).collect()
        };
        let relu_names = policy.relu_sites.keys().map(|name| (name, SiteKind::Relu, "relu"));
        let pool_names = policy.max_pool_sites.keys().map(|name| (name, SiteKind::MaxPool, "max_pool"));
        for (name, kind, kind_name) in relu_names.chain(pool_names) {
            let known = known(kind);
            if !known.contains(name) {
                return Err(ModelError::UnknownSite { name: name.clone(), kind: kind_name, known });
            }
        }
        Ok((model, sites))
    }

    /// Calls `define` with the builder for the part of the network called `name`.
    pub fn pp<T>(&self, name: impl std::fmt::Display, define: impl FnOnce(&NetBuilder) -> T) -> T {
        let path = self.name(name);
        define(&NetBuilder { path: &path, context: self.context })
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        self.context.weights.device()
    }

    /// The tensor called `name` here.
    ///
    /// # Errors
    /// candle's; a missing or misshapen tensor is reported when the network is complete, and zeros stand for it
    /// until then.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let name = self.name(name);
        let found = self.context.weights.get(&name, shape)?;
        let mut state = self.context.state.borrow_mut();
        state.used.insert(name.clone());
        match found {
            Ok(tensor) => Ok(tensor),
            Err(other) => {
                match other {
                    None => state.mismatch.missing.push(name),
                    Some(found) => state.mismatch.misshapen.push((name, shape.to_vec(), found)),
                }
                Ok(Tensor::zeros(shape, DType::F32, self.device())?)
            }
        }
    }

    /// A linear layer with bias.
    ///
    /// # Errors
    /// As [`NetBuilder::tensor`].
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        self.pp(name, |b| {
            Ok(Linear {
                weight: b.tensor("weight", &[outputs, inputs])?,
                bias: b.tensor("bias", &[outputs])?,
            })
        })
    }

    /// A convolution followed by batch norm, folded into one convolution with bias.
    ///
    /// # Errors
    /// As [`NetBuilder::tensor`].
    pub fn conv_bn(
        &self,
        conv: impl std::fmt::Display,
        norm: impl std::fmt::Display,
        spec: ConvSpec,
    ) -> Result<Conv2d> {
        let ConvSpec { inputs, outputs, kernel, bias, eps, .. } = spec;
        let (weight, bias) = self.pp(conv, |b| -> Result<_> {
            let weight = b.tensor("weight", &[outputs, inputs, kernel, kernel])?;
            Ok((weight, bias.then(|| b.tensor("bias", &[outputs])).transpose()?))
        })?;
        let [scale, shift, mean, variance] = self.pp(norm, |b| -> Result<_> {
            let tensor = |name| b.tensor(name, &[outputs])?.to_dtype(DType::F64).map_err(ModelError::from);
            Ok([tensor("weight")?, tensor("bias")?, tensor("running_mean")?, tensor("running_var")?])
        })?;
        // y = (conv(x) + bias − mean) · factor + shift, in float64 and rounded once.
        let factor = (scale / (variance + eps)?.sqrt()?)?;
        let bias = match bias {
            Some(bias) => (bias.to_dtype(DType::F64)? - mean)?,
            None => mean.neg()?,
        };
        let bias = ((bias * &factor)? + shift)?.to_dtype(DType::F32)?;
        let factor = factor.reshape((outputs, 1, 1, 1))?;
        let weight = weight.to_dtype(DType::F64)?.broadcast_mul(&factor)?.to_dtype(DType::F32)?;
        Ok(Conv2d::new(weight, bias, spec)?)
    }

    /// The ReLU called `name` here, as the policy wants it.
    ///
    /// # Errors
    /// A bound that is not positive and finite.
    pub fn relu(&self, name: impl std::fmt::Display) -> Result<Relu> {
        let name = self.name(name);
        let (activation, bound) = match self.context.policy.relu_at(&name) {
            ReluPolicy::Exact => (Activation::RELU, None),
            ReluPolicy::Square => (Activation::SQUARE, None),
            ReluPolicy::ReluAq => (Activation::RELU_AQ, None),
            ReluPolicy::Minimax { alpha, bound } => {
                (MinimaxRelu::new(alpha, bound).map_err(at(&name))?.into(), Some(bound))
            }
        };
        Ok(Relu { activation, recorder: self.site(&name, SiteKind::Relu, bound), site: name })
    }

    /// The max-pooling called `name` here, as the policy wants it.
    ///
    /// # Errors
    /// A bound that is not positive and finite.
    pub fn max_pool(&self, name: impl std::fmt::Display, spec: PoolSpec) -> Result<MaxPool> {
        let name = self.name(name);
        let (function, bound) = match self.context.policy.max_pool_at(&name) {
            MaxPoolPolicy::Exact => (MaxPoolFunction::Exact(spec), None),
            MaxPoolPolicy::Minimax { alpha, bound } => {
                let pool = MinimaxMaxPool::new(alpha, bound, spec).map_err(at(&name))?;
                (MaxPoolFunction::Minimax(pool), Some(bound))
            }
        };
        Ok(MaxPool { function, recorder: self.site(&name, SiteKind::MaxPool, bound), site: name })
    }

    fn site(&self, name: &str, kind: SiteKind, bound: Option<f64>) -> RangeRecorder {
        let site = Site { name: name.to_owned(), kind, bound, recorder: RangeRecorder::default() };
        let recorder = site.recorder.clone();
        self.context.state.borrow_mut().sites.push(site);
        recorder
    }

    fn name(&self, name: impl std::fmt::Display) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }
}

/// Names the site of an op's error.
pub(crate) fn at(site: &str) -> impl Fn(OpError) -> ModelError {
    move |source| ModelError::Site { site: site.to_owned(), source }
}
