//! What a network's definition asks for its layers and activations.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use approx_ops::{Activation, PoolSpec, RangeRecorder};
use candle_core::{DType, Device, Tensor};

use crate::error::{ModelError, Result};
use crate::layers::{Conv2d, ConvSpec, Linear, MaxPool, Relu};
use crate::network::{MaxPoolFunction, Site, Slot};
use crate::weights::{Mismatch, Weights, WeightsError};

/// Weights and a path in the network: [`NetBuilder::pp`] goes one step down, as candle's `VarBuilder` does.
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
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    sites: Vec<Site>,
    used: BTreeSet<String>,
    ignored: Vec<String>,
    /// Numbers in all tensors that were asked for.
    parameters: usize,
    mismatch: Mismatch,
}

impl<'a> NetBuilder<'a> {
    /// Runs a definition and checks what it left over; gives the model, its sites and how many numbers its weights
    /// are. All activations are exact.
    pub(crate) fn run<M>(
        weights: &Weights,
        define: impl FnOnce(&NetBuilder) -> Result<M>,
    ) -> Result<(M, Vec<Site>, usize)> {
        let context = Context { weights, state: RefCell::default() };
        let model = define(&NetBuilder { path: "", context: &context })?;
        let State { sites, used, ignored, parameters, mut mismatch } = context.state.into_inner();
        let is_counter = |name: &str| name.ends_with(".num_batches_tracked");
        let is_ignored = |name: &str| ignored.iter().any(|prefix| name.starts_with(prefix));
        mismatch.unused = weights
            .names()
            .filter(|name| !used.contains(*name) && !is_counter(name) && !is_ignored(name))
            .map(str::to_owned)
            .collect();
        mismatch.unused.sort();
        if !mismatch.is_empty() {
            return Err(WeightsError::Mismatch { origin: weights.origin().to_owned(), mismatch }.into());
        }
        Ok((model, sites, parameters))
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
    /// [`WeightsError`] where it cannot be read or is not finite; a missing or misshapen tensor is reported when the network is complete, and zeros stand for it
    /// until then.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let name = self.name(name);
        let found = self.context.weights.get(&name, shape)?;
        let mut state = self.context.state.borrow_mut();
        state.used.insert(name.clone());
        state.parameters += shape.iter().product::<usize>();
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

    /// Says that weights may hold a part called `name` here that this network does not use, such as a head that
    /// is for training only.
    pub fn ignore(&self, name: &str) {
        let prefix = self.name(name) + ".";
        self.context.state.borrow_mut().ignored.push(prefix);
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
            let weight = b.tensor("weight", &[outputs, inputs, kernel.0, kernel.1])?;
            Ok((weight, bias.then(|| b.tensor("bias", &[outputs])).transpose()?))
        })?;
        let [scale, shift, mean, variance] = self.pp(norm, |b| -> Result<_> {
            let tensor = |name| Ok::<_, ModelError>(b.tensor(name, &[outputs])?.to_dtype(DType::F64)?);
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

    /// The ReLU called `name` here, or what the policy puts in its place.
    pub fn relu(&self, name: impl std::fmt::Display) -> Relu {
        let activation = Arc::new(RwLock::new(Activation::RELU));
        let (site, recorder) = self.site(name, Slot::Relu(activation.clone()));
        Relu { site, activation, recorder }
    }

    /// The max-pooling called `name` here, or what the policy puts in its place.
    pub fn max_pool(&self, name: impl std::fmt::Display, spec: PoolSpec) -> MaxPool {
        let function = Arc::new(RwLock::new(MaxPoolFunction::Exact));
        let (site, recorder) = self.site(name, Slot::MaxPool(spec, function.clone()));
        MaxPool { site, spec, function, recorder }
    }

    fn site(&self, name: impl std::fmt::Display, slot: Slot) -> (String, RangeRecorder) {
        let (name, recorder) = (self.name(name), RangeRecorder::default());
        self.context.state.borrow_mut().sites.push(Site::new(name.clone(), recorder.clone(), slot));
        (name, recorder)
    }

    fn name(&self, name: impl std::fmt::Display) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }
}
