//! What a network's definition asks for its layers and activations.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use approx_ops::{Activation, PoolSpec, RangeRecorder};
use candle_core::{DType, Device, Tensor, Var};
use cnn_kernels::BatchNorm;

use crate::error::Result;
use crate::layers::{Conv2d, ConvSpec, Dropout, Linear, MaxPool, Relu};
use crate::network::{MaxPoolFunction, ReluFunction, Site, Slot};
use crate::training::Variables;
use crate::training::conv::{Running, TrainedConv};
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
    /// What training changes; `None` for a network that is not to be trained.
    variables: Option<RefCell<Variables>>,
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

impl Context<'_> {
    /// Checks what a definition left over; gives its sites and how many numbers its weights are.
    fn finish(self) -> Result<(Vec<Site>, usize)> {
        let State { sites, used, ignored, parameters, mut mismatch } = self.state.into_inner();
        let is_counter = |name: &str| name.ends_with(".num_batches_tracked");
        let is_ignored = |name: &str| ignored.iter().any(|prefix| name.starts_with(prefix));
        mismatch.unused = self
            .weights
            .names()
            .filter(|name| !used.contains(*name) && !is_counter(name) && !is_ignored(name))
            .map(str::to_owned)
            .collect();
        mismatch.unused.sort();
        if !mismatch.is_empty() {
            return Err(WeightsError::Mismatch { origin: self.weights.origin().to_owned(), mismatch }.into());
        }
        Ok((sites, parameters))
    }
}

impl NetBuilder<'_> {
    /// Runs a definition and checks what it left over; gives the model, its sites and how many numbers its weights
    /// are. All activations are exact.
    pub(crate) fn run<M>(
        weights: &Weights,
        define: impl FnOnce(&NetBuilder) -> Result<M>,
    ) -> Result<(M, Vec<Site>, usize)> {
        let context = Context { weights, variables: None, state: RefCell::default() };
        let model = define(&NetBuilder { path: "", context: &context })?;
        let (sites, parameters) = context.finish()?;
        Ok((model, sites, parameters))
    }

    /// As [`NetBuilder::run`], for training; gives what training changes.
    pub(crate) fn run_for_training<M>(
        weights: &Weights,
        define: impl FnOnce(&NetBuilder) -> Result<M>,
    ) -> Result<(M, Vec<Site>, Variables)> {
        let mut context = Context { weights, variables: Some(RefCell::default()), state: RefCell::default() };
        let model = define(&NetBuilder { path: "", context: &context })?;
        let variables = context.variables.take().expect("it was put there").into_inner();
        let (sites, _) = context.finish()?;
        Ok((model, sites, variables))
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

    /// A tensor that training changes.
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.tensor(name, shape)?;
        let Some(variables) = &self.context.variables else { return Ok(tensor) };
        let var = Var::from_tensor(&tensor)?;
        variables.borrow_mut().parameters.push((self.name(name), var.clone()));
        Ok(var.into_inner())
    }

    /// A linear layer with bias.
    ///
    /// # Errors
    /// As [`NetBuilder::tensor`].
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        self.pp(name, |b| {
            Ok(Linear {
                weight: b.parameter("weight", &[outputs, inputs])?,
                bias: b.parameter("bias", &[outputs])?,
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
            let weight = b.parameter("weight", &[outputs, inputs, kernel.0, kernel.1])?;
            Ok((weight, bias.then(|| b.parameter("bias", &[outputs])).transpose()?))
        })?;
        let norm = self.name(norm);
        let b = NetBuilder { path: &norm, context: self.context };
        let (scale, shift) = (b.parameter("weight", &[outputs])?, b.parameter("bias", &[outputs])?);
        let (mean, variance) = (b.tensor("running_mean", &[outputs])?, b.tensor("running_var", &[outputs])?);
        if let Some(variables) = &self.context.variables {
            let running = Running::new(&mean, &variance)?;
            variables.borrow_mut().running.push((norm, running.clone()));
            return Ok(Conv2d::trained(TrainedConv {
                weight,
                bias,
                norm: BatchNorm { weight: scale, bias: shift, eps },
                running,
                geometry: spec.geometry(),
            }));
        }
        let double = |tensor: Tensor| tensor.to_dtype(DType::F64);
        let (scale, shift, mean, variance) =
            (double(scale)?, double(shift)?, double(mean)?, double(variance)?);
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
        let function = Arc::new(RwLock::new(ReluFunction::Plain(Activation::RELU)));
        let (site, recorder) = self.site(name, Slot::Relu(function.clone()));
        Relu { site, function, recorder }
    }

    /// Dropout, called `name` here: it leaves out a share `rate` of its inputs while the network is trained.
    pub fn dropout(&self, name: impl std::fmt::Display, rate: f64) -> Dropout {
        Dropout { name: self.name(name), rate }
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
