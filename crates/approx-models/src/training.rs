//! Networks whose weights can be trained.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::error::Result;
use crate::network::Site;
use crate::policy::ActivationPolicy;
use crate::registry::Backbone;
use crate::weights::Weights;

/// A network that keeps convolution and batch norm apart and knows its gradients.
pub struct TrainableNetwork {
    sites: Vec<Site>,
}

/// What one step is to do besides the cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepOptions {
    /// Decides which units dropout leaves out: another number for every step.
    pub dropout_seed: u64,
    /// Weight of the range penalty; 0 for none.
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
    /// Inputs of activations that were outside the range of approximation.
    pub out_of_range: u64,
}

/// The gradient of each parameter by its name.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// The gradient of parameter `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }
}

impl TrainableNetwork {
    /// Builds `backbone` for training. Copies the weights.
    ///
    /// # Errors
    /// As [`Backbone::build`].
    pub fn new(_backbone: &Backbone, _weights: &Weights, _policy: &ActivationPolicy) -> Result<Self> {
        todo!()
    }

    /// A forward and backward pass over a batch in training mode. Updates the running means and variances of batch
    /// norm, not the weights.
    ///
    /// # Shapes
    /// `images`: `[N, C, H, W]`, normalised; `labels`: N.
    ///
    /// # Errors
    /// candle's, such as an input of the wrong shape.
    pub fn gradients(
        &mut self,
        _images: &Tensor,
        _labels: &[u16],
        _options: StepOptions,
    ) -> Result<(StepReport, Gradients)> {
        todo!()
    }

    /// The sites, in an order in which each comes after those that its input depends on.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Copies of all tensors by their name: parameters, running means and variances (as [`Weights::from_tensors`] takes them).
    ///
    /// # Errors
    /// candle's, where memory ends.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        todo!()
    }
}

/// Stochastic gradient descent with momentum, as PyTorch's `torch.optim.SGD`: with `d = g + weight_decay · p`,
/// `v ← momentum · v + d` (at first `v = d`) and `p ← p − lr · (d + momentum · v)` with Nesterov's momentum, else `p ← p − lr · v`.
#[derive(Debug)]
pub struct Sgd {
    /// Share of the velocity that is kept.
    pub momentum: f64,
    /// Multiple of the parameters that is added to the gradients.
    pub weight_decay: f64,
    /// Whether the step looks ahead.
    pub nesterov: bool,
    velocity: BTreeMap<String, Tensor>,
}

impl Sgd {
    /// Without velocity yet.
    pub fn new(momentum: f64, weight_decay: f64, nesterov: bool) -> Self {
        Self { momentum, weight_decay, nesterov, velocity: BTreeMap::new() }
    }

    /// One step on all parameters of `network`.
    ///
    /// # Errors
    /// candle's.
    pub fn step(&mut self, _network: &mut TrainableNetwork, _gradients: &Gradients, _lr: f64) -> Result<()> {
        todo!()
    }

    /// Copies of the velocity of each parameter; none before the first step.
    ///
    /// # Errors
    /// candle's, where memory ends.
    pub fn velocity(&self) -> Result<BTreeMap<String, Tensor>> {
        todo!()
    }

    /// Goes on with these velocities.
    pub fn set_velocity(&mut self, velocity: BTreeMap<String, Tensor>) {
        self.velocity = velocity;
    }
}
