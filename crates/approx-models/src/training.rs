//! Networks whose weights can be trained.

use std::collections::BTreeMap;

use approx_ops::RangeStats;
use candle_core::{Device, Tensor, Var};

use crate::builder::NetBuilder;
use crate::error::{ModelError, Result};
use crate::network::{Forward, Site, set_policy};
use crate::policy::ActivationPolicy;
use crate::registry::Backbone;
use crate::run_options::RunOptions;
use crate::tape::{self, Tape};
use crate::weights::Weights;

pub(crate) mod conv;
mod sgd;

pub use sgd::Sgd;

use conv::Running;

/// A network that keeps convolution and batch norm apart and knows its gradients.
///
/// It is made from the same definitions as a [`Network`](crate::Network). To evaluate it, build one of those from its
/// [`state`](Self::state).
///
/// ```
/// use approx_models::{ActivationPolicy, Backbone, RunOptions, Sgd, StepOptions, TrainableNetwork, Weights};
/// use candle_core::{DType, Device, Tensor};
///
/// let backbone = Backbone::find("cifar10", "resnet20")?;
/// let weights = Weights::generate(Device::Cpu, |_name, shape| vec![0.01; shape.iter().product()]);
/// let mut network = TrainableNetwork::new(backbone, &weights, &ActivationPolicy::exact(), &RunOptions::default())?;
/// let mut sgd = Sgd::new(0.9, 5e-3, true);
/// let images = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let (report, gradients) = network.gradients(&images, &[3, 5], StepOptions::default())?;
/// sgd.step(&mut network, &gradients, 1e-3)?;
/// assert!((report.loss - 10f32.ln()).abs() < 1e-3); // as if it knew nothing
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TrainableNetwork {
    forward: Box<dyn Forward>,
    sites: Vec<Site>,
    variables: Variables,
}

/// What training changes, by name.
#[derive(Default)]
pub(crate) struct Variables {
    pub(crate) parameters: Vec<(String, Var)>,
    /// By the name of their batch norm.
    pub(crate) running: Vec<(String, Running)>,
}

/// What one step is to do besides the cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepOptions {
    /// Decides which units dropout leaves out: another number for every step. `None`: it leaves out nothing.
    pub dropout_seed: Option<u64>,
    /// Weight of the range penalty, the mean over the images of the sum over all inputs of approximated activations of
    /// `max(|x| / B − 0.9, 0)²`; 0 for none.
    pub range_penalty: f32,
}

/// What one step saw.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepReport {
    /// Mean cross-entropy of the batch.
    pub loss: f32,
    /// Images whose largest logit is that of their label.
    pub correct: usize,
    /// Range penalty, already multiplied by its weight.
    pub penalty: f32,
    /// Inputs of activations that were outside the range of approximation, or not finite.
    pub out_of_range: u64,
}

/// The gradient of each parameter by its name.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl FromIterator<(String, Tensor)> for Gradients {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(gradients: I) -> Self {
        Self(gradients.into_iter().collect())
    }
}

impl Gradients {
    /// The gradient of parameter `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// The names of the parameters, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// A copy that later steps do not change.
pub(crate) fn copy_to_cpu(tensor: &Tensor) -> candle_core::Result<Tensor> {
    match tensor.device() {
        Device::Cpu => Ok(tensor.copy()?.detach()),
        _ => Ok(tensor.detach().to_device(&Device::Cpu)?),
    }
}

impl TrainableNetwork {
    /// Builds `backbone` for training. Copies the weights.
    ///
    /// # Errors
    /// [`ModelError::NoiseInTraining`]; else as [`Backbone::build`].
    pub fn new(
        backbone: &Backbone,
        weights: &Weights,
        policy: &ActivationPolicy,
        options: &RunOptions,
    ) -> Result<Self> {
        Self::build(weights, policy, options, |b| backbone.define(b)).map_err(|error| backbone.explain(error))
    }

    /// Builds a network of your own for training, as [`Network::build`](crate::Network::build).
    ///
    /// # Errors
    /// [`ModelError::NoiseInTraining`]; else as [`Network::build`](crate::Network::build).
    pub fn build<M: Forward + 'static>(
        weights: &Weights,
        policy: &ActivationPolicy,
        options: &RunOptions,
        define: impl FnOnce(&NetBuilder) -> Result<M>,
    ) -> Result<Self> {
        if options.noise.is_some() {
            return Err(ModelError::NoiseInTraining);
        }
        let (model, mut sites, variables) = NetBuilder::run_for_training(weights, define)?;
        set_policy(&mut sites, policy, options)?;
        Ok(Self { forward: Box::new(model), sites, variables })
    }

    /// A forward and backward pass over a batch in training mode. Updates the running means and variances of batch
    /// norm, not the weights.
    ///
    /// # Shapes
    /// `images`: `[N, C, H, W]`, normalised; `labels`: N.
    ///
    /// # Errors
    /// [`ModelError::NoGradient`] if the definition computes something between its layers that is not recorded; candle's,
    /// such as an input of the wrong shape or a label that is no class.
    pub fn gradients(
        &mut self,
        images: &Tensor,
        labels: &[u16],
        options: StepOptions,
    ) -> Result<(StepReport, Gradients)> {
        let step = tape::Step {
            dropout_seed: options.dropout_seed,
            penalty_weight: options.range_penalty / labels.len().max(1) as f32,
        };
        let parameters = self.variables.parameters.iter().map(|(_, var)| var.id());
        let (logits, tape) = Tape::record(parameters, step, || self.forward.forward(images))?;
        let range = self.sites.iter().map(Site::take_range).fold(RangeStats::default(), RangeStats::merge);

        let labels: Vec<u32> = labels.iter().copied().map(u32::from).collect();
        let copy = Var::from_tensor(&logits.detach())?;
        let loss = candle_nn::loss::cross_entropy(&copy, &Tensor::new(labels.as_slice(), copy.device())?)?;
        let of_logits = loss.backward()?.remove(&copy).expect("the loss depends on the logits");
        let (mut gradients, penalty) = tape.backward(&logits, of_logits)?;

        let by_name = self.variables.parameters.iter().map(|(name, var)| {
            let gradient = gradients.remove(&var.id());
            Ok((name.clone(), gradient.ok_or_else(|| ModelError::NoGradient { parameter: name.clone() })?))
        });
        let by_name = by_name.collect::<Result<_>>()?;
        let predictions: Vec<u32> = logits.argmax(1)?.to_vec1()?;
        let report = StepReport {
            loss: loss.to_scalar()?,
            correct: predictions
                .iter()
                .zip(&labels)
                .filter(|(prediction, label)| prediction == label)
                .count(),
            penalty: penalty as f32,
            out_of_range: range.out_of_range,
        };
        Ok((report, by_name))
    }

    /// The sites, in an order in which each comes after those that its input depends on.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Copies of all tensors by their name, on the CPU: parameters, running means and variances, as
    /// [`Weights::from_tensors`] takes them.
    ///
    /// # Errors
    /// candle's, where memory ends.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (name, var) in &self.variables.parameters {
            state.insert(name.clone(), copy_to_cpu(var)?);
        }
        for (name, running) in &self.variables.running {
            let [mean, variance] = running.tensors()?;
            state.insert(format!("{name}.running_mean"), mean);
            state.insert(format!("{name}.running_var"), variance);
        }
        Ok(state)
    }

    pub(crate) fn parameters(&self) -> &[(String, Var)] {
        &self.variables.parameters
    }
}
