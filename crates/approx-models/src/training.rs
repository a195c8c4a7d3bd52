//! Networks whose weights can be trained.

use std::collections::{BTreeMap, BTreeSet};

use approx_ops::RangeStats;
use candle_core::{Device, Tensor, Var};
use cnn_graph::Graph;
use cnn_graph::passes::prune;
use cnn_graph::policy::ActivationPolicy;

use crate::error::Result;
use crate::exec::Schedule;
use crate::exec::site::SiteFunctions;
use crate::network::{Site, check_input, set_policy};
use crate::params::ParamReader;
use crate::run_options::RunOptions;
use crate::weights::Weights;

mod backward;
mod conv;
mod sgd;
mod steps;

pub use sgd::Sgd;

use crate::error::ModelError;
use steps::{Options, Trainable};

/// A network that keeps convolution and batch norm apart and knows its gradients.
///
/// It walks the steps of the same graph as a [`Network`](crate::Network), forwards and then backwards
/// (docs/adr/0051-training-walks-the-graph.md). To evaluate it, build one of those from its [`state`](Self::state).
///
/// ```
/// use approx_models::{ActivationPolicy, Backbone, RunOptions, Sgd, StepOptions, TrainableNetwork, Weights};
/// use candle_core::{DType, Device, Tensor};
///
/// let graph = Backbone::find("cifar10", "resnet20")?.graph()?;
/// let weights = Weights::generate(Device::Cpu, |_name, shape| vec![0.01; shape.iter().product()]);
/// let (policy, options) = (ActivationPolicy::exact(), RunOptions::default());
/// let mut network = TrainableNetwork::build(graph, &weights, &policy, &options)?;
/// let mut sgd = Sgd::new(0.9, 5e-3, true);
/// let images = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let (report, gradients) = network.gradients(&images, &[3, 5], StepOptions::default())?;
/// sgd.step(&mut network, &gradients, 1e-3)?;
/// assert!((report.loss - 10f32.ln()).abs() < 1e-3); // as if it knew nothing
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TrainableNetwork {
    graph: Graph,
    schedule: Schedule,
    trainable: Trainable,
    functions: SiteFunctions,
    sites: Vec<Site>,
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
    /// Makes a graph ready for training. Copies the weights.
    ///
    /// # Errors
    /// As [`Network::build`](crate::Network::build); [`ModelError::NoiseInTraining`].
    pub fn build(
        graph: Graph,
        weights: &Weights,
        policy: &ActivationPolicy,
        options: &RunOptions,
    ) -> Result<Self> {
        if options.noise.is_some() {
            return Err(ModelError::NoiseInTraining);
        }
        let graph = prune(&graph);
        let schedule = Schedule::new(&graph, &BTreeSet::new());
        let mut sites = Site::all(&graph)?;
        let mut reader = ParamReader::new(weights);
        let trainable = Trainable::read(&graph, &schedule.steps, &mut reader)?;
        reader.finish(&graph)?;
        let functions = set_policy(&mut sites, policy, options)?;
        Ok(Self { graph, schedule, trainable, functions, sites })
    }

    /// A forward and backward pass over a batch in training mode. Updates the running means and variances of batch
    /// norm, not the weights.
    ///
    /// # Shapes
    /// `images`: `[N, C, H, W]`, normalised; `labels`: N.
    ///
    /// # Errors
    /// candle's, such as an input of the wrong shape or a label that is no class.
    pub fn gradients(
        &mut self,
        images: &Tensor,
        labels: &[u16],
        options: StepOptions,
    ) -> Result<(StepReport, Gradients)> {
        check_input(&self.graph, images)?;
        let options = Options {
            dropout_seed: options.dropout_seed,
            penalty_weight: options.range_penalty / labels.len().max(1) as f32,
        };
        let pass =
            self.trainable.forward(&self.graph, &self.schedule.steps, &self.functions, images, options)?;
        let range = self.sites.iter().map(Site::take_range).fold(RangeStats::default(), RangeStats::merge);

        let logits = pass.output(&self.graph).clone();
        let labels: Vec<u32> = labels.iter().copied().map(u32::from).collect();
        let copy = Var::from_tensor(&logits.detach())?;
        let loss = candle_nn::loss::cross_entropy(&copy, &Tensor::new(labels.as_slice(), copy.device())?)?;
        let of_logits = loss.backward()?.remove(&copy).expect("the loss depends on the logits");
        let (gradients, penalty) =
            self.trainable.backward(&self.graph, &self.schedule.steps, &self.functions, pass, of_logits)?;

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
        Ok((report, Gradients(gradients)))
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
        for (name, var) in self.parameters() {
            state.insert(name.clone(), copy_to_cpu(var)?);
        }
        for (name, running) in self.trainable.running() {
            let [mean, variance] = running.tensors()?;
            state.insert(format!("{name}.running_mean"), mean);
            state.insert(format!("{name}.running_var"), variance);
        }
        Ok(state)
    }

    pub(crate) fn parameters(&self) -> &[(String, Var)] {
        self.trainable.parameters()
    }
}
