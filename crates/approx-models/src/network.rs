//! A network, its activations, and their sites.

use std::collections::{BTreeSet, HashMap};

use approx_ops::{
    Activation, Excursions, MinimaxMaxPool, Noise, NoisyFitted, NoisyMaxPool, NoisyRelu, PoolSpec,
    RangeRecorder, RangeStats, Sketch,
};
use candle_core::{Device, Tensor};
use cnn_graph::ops::{self, Op};
use cnn_graph::passes::{longest_path, prune};
use cnn_graph::policy::{ActivationPolicy, Composition, SiteKind, SitePolicy};
use cnn_graph::{Graph, ValueId};
use minimax_coeffs::{Cost, SmoothError};
use rayon::prelude::*;

use crate::error::{ModelError, Result};
#[cfg(feature = "cuda")]
use crate::exec::replay::Replays;
use crate::exec::site::{ActivationFunction, ActivationSite, MaxPoolFunction, MaxPoolSite, SiteFunctions};
use crate::exec::{self, Executable, Watched, at};
use crate::params::ParamReader;
use crate::run_options::{Outside, RunOptions};
use crate::weights::Weights;

/// A place in a network where an activation is.
#[derive(Debug)]
pub struct Site {
    name: String,
    value: ValueId,
    op: SiteOp,
    range: Option<(f64, f64)>,
    recorder: RangeRecorder,
}

/// What a site computes in the exact network.
#[derive(Debug, Clone, Copy, PartialEq)]
enum SiteOp {
    Activation(ops::Activation),
    MaxPool(ops::Pool, PoolSpec),
}

impl Site {
    /// The sites of a graph, in its order.
    pub(crate) fn all(graph: &Graph) -> Result<Vec<Site>> {
        let site = |(value, node): (ValueId, &cnn_graph::Node)| {
            let op = match &node.op {
                Op::MaxPool(pool) => SiteOp::MaxPool(pool.0, pool_spec(&node.name, pool.0)?),
                Op::Activation(activation) => SiteOp::Activation(*activation),
                _ => unreachable!("no other operation is a site"),
            };
            Ok(Site { name: node.name.clone(), value, op, range: None, recorder: RangeRecorder::default() })
        };
        graph.sites().map(site).collect()
    }

    /// The name in the style of the weights, such as `layer1.0.relu2`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An activation of one variable, or a max-pooling.
    pub fn kind(&self) -> SiteKind {
        match self.op {
            SiteOp::Activation(_) => SiteKind::Relu,
            SiteOp::MaxPool(..) => SiteKind::MaxPool,
        }
    }

    /// The bound of the approximation range, half of its length: `B` for `[-B, B]`; `None` where nothing is approximated
    /// on a range.
    pub fn bound(&self) -> Option<f64> {
        self.range.map(|(_, bound)| bound)
    }

    /// The middle of the approximation range: 0 for `[-B, B]`, and where nothing is approximated on a range.
    pub fn center(&self) -> f64 {
        self.range.map_or(0.0, |(center, _)| center)
    }

    /// What the site computes in the exact network.
    pub fn op(&self) -> Op {
        match self.op {
            SiteOp::Activation(function) => Op::Activation(function),
            SiteOp::MaxPool(pool, _) => Op::MaxPool(ops::MaxPool(pool)),
        }
    }

    /// What one evaluation of a composition on `[-bound, bound]` costs here, as [`Composition::cost_at`].
    ///
    /// # Errors
    /// [`ModelError::Smooth`] for a smooth function that no polynomial of a supported degree is that near to on this range.
    pub fn cost(&self, composition: &Composition, bound: f64) -> Result<Cost> {
        composition.cost_at(&self.op(), bound).map_err(not_smooth(&self.name))
    }

    /// The range of the inputs since the last call, and forgets it.
    pub fn take_range(&self) -> RangeStats {
        self.recorder.take()
    }

    /// Under noise, outputs of components that left the next one's domain since the last call, and forgets them.
    pub fn take_excursions(&self) -> Vec<Excursions> {
        self.recorder.take_excursions()
    }

    /// From now on, the distribution of the inputs is sketched, which takes a look at each of them.
    pub fn start_sketch(&self) {
        self.recorder.start_sketch();
    }

    /// The distribution of the inputs since [`Site::start_sketch`], which ends; `None` if it was not called.
    pub fn take_sketch(&self) -> Option<Sketch> {
        self.recorder.take_sketch()
    }
}

/// The window as the ops take it.
fn pool_spec(name: &str, pool: ops::Pool) -> Result<PoolSpec> {
    exec::pooling::pool_spec(pool).map_err(|error| at(name)(error.into()))
}

/// A value of a network that is looked at: [`Network::watch`].
#[derive(Debug)]
pub struct WatchedValue<'a> {
    /// The name of the node that gives it.
    pub name: &'a str,
    recorder: &'a RangeRecorder,
}

impl WatchedValue<'_> {
    /// The range of the value since the last call, and forgets it.
    pub fn take_range(&self) -> RangeStats {
        self.recorder.take()
    }

    /// From now on, the distribution of the value is sketched.
    pub fn start_sketch(&self) {
        self.recorder.start_sketch();
    }

    /// The distribution since [`WatchedValue::start_sketch`], which ends; `None` if it was not called.
    pub fn take_sketch(&self) -> Option<Sketch> {
        self.recorder.take_sketch()
    }
}

/// A network with its weights, its activations and their sites.
#[derive(Debug)]
pub struct Network {
    executable: Executable,
    functions: SiteFunctions,
    sites: Vec<Site>,
    watched: Watched,
    /// What the last layer adds to the logits.
    noise: Option<Noise>,
    /// How many numbers the weights are.
    parameters: usize,
    #[cfg(feature = "cuda")]
    replays: Replays,
}

/// What errors and random numbers of the logits are called.
const LOGITS: &str = "logits";
/// Parameters of a network whose weights stay in a core's reach, so that only the activations matter.
const SMALL_NETWORK: usize = 2 << 20;
/// Numbers of the input of a slice for such a network: its activations stay in the cache (16 images of CIFAR-10).
const SLICE_INPUT: usize = 16 * 3 * 32 * 32;
/// Images for which it pays to read the weights of a large network.
const SMALLEST_SLICE: usize = 4;

impl Network {
    /// Makes a graph with its weights ready to run.
    ///
    /// ```
    /// use approx_models::{ActivationPolicy, GraphBuilder, Network, Weights};
    /// use candle_core::{DType, Device, Tensor};
    ///
    /// let mut b = GraphBuilder::new([4]);
    /// let x = b.input();
    /// let x = b.linear("fc", x, 10);
    /// let x = b.relu("relu", x);
    /// let graph = b.finish(x)?;
    ///
    /// let weights = Weights::generate(Device::Cpu, |_name, shape| vec![1.0; shape.iter().product()]);
    /// let network = Network::build(graph, &weights, &ActivationPolicy::square())?;
    /// let logits = network.forward(&Tensor::ones((1, 4), DType::F32, &Device::Cpu)?)?;
    /// assert_eq!(logits.to_vec2::<f32>()?, [[25.0; 10]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`](crate::WeightsError::Mismatch) with all tensors that are missing, unused or
    /// of another shape, or [`ModelError::Classes`] if nothing but the number of classes differs;
    /// [`WeightsError::NotFinite`](crate::WeightsError::NotFinite); those of [`Network::set_policy`].
    pub fn build(graph: Graph, weights: &Weights, policy: &ActivationPolicy) -> Result<Self> {
        let graph = prune(&graph);
        let mut reader = ParamReader::new(weights);
        let (sites, parameters) = (Site::all(&graph)?, graph.parameters());
        let executable = Executable::compile(graph, &mut reader)?;
        reader.finish(executable.graph())?;
        let mut network = Self {
            executable,
            functions: SiteFunctions::default(),
            sites,
            watched: Watched::new(),
            noise: None,
            parameters,
            #[cfg(feature = "cuda")]
            replays: Replays::default(),
        };
        network.set_policy(policy, &RunOptions::default())?;
        Ok(network)
    }

    /// The network's definition.
    pub fn graph(&self) -> &Graph {
        self.executable.graph()
    }

    /// Replaces all activations by what `policy` says, and keeps the weights.
    ///
    /// # Errors
    /// [`ModelError::Policy`] if the policy has an exception for a site that there is not, or a parabola for a
    /// max-pooling; [`ModelError::NoiseOutside`]; a bound that is not positive and finite. The network is then as it was.
    pub fn set_policy(&mut self, policy: &ActivationPolicy, options: &RunOptions) -> Result<()> {
        self.functions = set_policy(&mut self.sites, policy, options)?;
        self.noise = options.noise;
        #[cfg(feature = "cuda")]
        self.replays.clear();
        Ok(())
    }

    /// The noise that is simulated.
    pub fn noise(&self) -> Option<Noise> {
        self.noise
    }

    /// Records the range, and on request the distribution, of the values of these nodes from now on, beside those of the
    /// sites' inputs, and of no others. An encrypted evaluation must bound more than what activations see: what a
    /// bootstrap takes, for example.
    ///
    /// # Errors
    /// [`ModelError::UnknownValue`] for a name that no node has, or that of a convolution with a batch norm behind it: the
    /// two are computed as one.
    pub fn watch<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) -> Result<()> {
        let graph = self.executable.graph();
        let unknown = |name: &str| ModelError::UnknownValue { name: name.to_owned() };
        let find = |name: &'n str| graph.find(name).ok_or_else(|| unknown(name));
        let values: BTreeSet<ValueId> = names.into_iter().map(find).collect::<Result<_>>()?;
        let schedule = exec::Schedule::new(graph, &values);
        let outputs: BTreeSet<ValueId> = schedule.steps.iter().map(|step| step.output()).collect();
        if let Some(value) = values.iter().find(|value| **value != graph.input() && !outputs.contains(value))
        {
            return Err(unknown(&graph.node(*value).name));
        }
        self.executable.keep(&values);
        self.watched = values.into_iter().map(|value| (value, RangeRecorder::default())).collect();
        #[cfg(feature = "cuda")]
        self.replays.clear();
        Ok(())
    }

    /// The values that are watched, in the network's order.
    pub fn watched(&self) -> impl Iterator<Item = WatchedValue<'_>> {
        let graph = self.executable.graph();
        self.watched.iter().map(|(value, recorder)| WatchedValue { name: &graph.node(*value).name, recorder })
    }

    /// The logits of a batch of images. On a CPU, each thread takes a slice of the batch through the whole network
    /// (docs/adr/0009-slices-of-a-batch.md).
    ///
    /// # Shapes
    /// `images`: `[N, …]` with the shape of the graph's input, normalised; the result `[N, classes]`.
    ///
    /// # Errors
    /// [`ModelError::InputShape`]; candle's.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        check_input(self.graph(), images)?;
        let count = images.dim(0)?;
        let size = match images.device() {
            Device::Cpu => self.slice(count, images.elem_count() / count.max(1)),
            _ => count,
        };
        let run = |images: &Tensor| self.executable.forward(images, &self.functions, &self.watched);
        #[cfg(feature = "cuda")]
        if images.device().is_cuda() && count > 0 && self.can_be_replayed() {
            return self.replays.forward(images, run);
        }
        if size >= count {
            return self.with_noise(run(images)?);
        }
        let forward =
            |start: usize| -> Result<Tensor> { run(&images.narrow(0, start, size.min(count - start))?) };
        let starts: Vec<usize> = (0..count).step_by(size).collect();
        let logits: Vec<Tensor> = starts.into_par_iter().map(forward).collect::<Result<_>>()?;
        self.with_noise(Tensor::cat(&logits, 0)?)
    }

    /// Whether a pass does the same for all images, and asks the host for nothing: no sketches, and no random numbers.
    #[cfg(feature = "cuda")]
    fn can_be_replayed(&self) -> bool {
        let recorders = self.sites.iter().map(|site| &site.recorder).chain(self.watched.values());
        self.noise.is_none() && !recorders.into_iter().any(RangeRecorder::is_sketching)
    }

    /// Whether a pass was written down on a GPU, and the next ones of such a batch are launched as a whole. The second one
    /// of a shape in a row is, unless the driver cannot do so.
    #[cfg(feature = "cuda")]
    pub fn is_replayed(&self) -> bool {
        self.replays.is_recorded()
    }

    /// The logits with the noise of the last layer, in units of the last bound: what that layer takes is held so.
    fn with_noise(&self, logits: Tensor) -> Result<Tensor> {
        let unit = self.sites.iter().rev().find_map(Site::bound);
        match self.noise.zip(unit) {
            Some((noise, unit)) => noise.add_to(&logits, unit, LOGITS).map_err(at(LOGITS)),
            None => Ok(logits),
        }
    }

    /// How many of `count` images of `numbers` numbers each go through the network together.
    fn slice(&self, count: usize, numbers: usize) -> usize {
        let fair = count.div_ceil(rayon::current_num_threads());
        if self.parameters > SMALL_NETWORK {
            // What is read again and again are the weights.
            return fair.max(SMALLEST_SLICE);
        }
        fair.min((SLICE_INPUT / numbers.max(1)).max(1))
    }

    /// The largest sum of `levels` over the sites that a value goes through on its way to the output: with the depth of each
    /// site's polynomials, the multiplicative depth of the network's activations. Sites side by side count once.
    pub fn depth(&self, levels: impl Fn(&Site) -> u32) -> u32 {
        let of_site: HashMap<&str, u32> = self.sites.iter().map(|site| (site.name(), levels(site))).collect();
        longest_path(self.graph(), |node| of_site.get(node.name.as_str()).copied().unwrap_or(0))
    }

    /// What all activations cost with this policy, as [`ActivationPolicy::cost`].
    ///
    /// # Errors
    /// [`ModelError::Smooth`], as [`Site::cost`].
    pub fn cost(&self, policy: &ActivationPolicy) -> Result<Cost> {
        policy.cost(self.graph()).map_err(|(site, source)| not_smooth(&site)(source))
    }

    /// The sites, in an order in which each comes after those that its input depends on.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }
}

/// Fails for a batch of another shape than the graph was made for.
pub(crate) fn check_input(graph: &Graph, images: &Tensor) -> Result<()> {
    let expected = graph.input_shape();
    match images.dims() {
        [_, image @ ..] if image == expected.dims() => Ok(()),
        other => Err(ModelError::InputShape { expected: expected.clone(), found: other.to_vec() }),
    }
}

/// What `policy` says for each site; as [`Network::set_policy`].
pub(crate) fn set_policy(
    sites: &mut [Site],
    policy: &ActivationPolicy,
    options: &RunOptions,
) -> Result<SiteFunctions> {
    policy.check(sites.iter().map(|site| (site.name(), site.kind())))?;
    if options.noise.is_some() && options.outside == Outside::Exact {
        return Err(ModelError::NoiseOutside);
    }
    let mut functions = SiteFunctions::default();
    for site in &*sites {
        let (name, recorder) = (site.name.clone(), site.recorder.clone());
        let of_site = policy.at(&name, site.kind());
        match site.op {
            SiteOp::Activation(activation) => {
                let function = activation_function(&name, activation, of_site, options)?;
                functions.insert_activation(site.value, ActivationSite { name, function, recorder });
            }
            SiteOp::MaxPool(_, spec) => {
                let function = max_pool_function(&name, spec, of_site, options)?;
                functions.insert_max_pool(site.value, MaxPoolSite { name, spec, function, recorder });
            }
        }
    }
    for site in sites {
        site.range = policy.at(&site.name, site.kind()).range();
    }
    Ok(functions)
}

/// What stands for an activation.
fn activation_function(
    name: &str,
    activation: ops::Activation,
    policy: &SitePolicy,
    options: &RunOptions,
) -> Result<ActivationFunction> {
    let is_relu = activation == ops::Activation::Relu;
    let unsupported = |reason: String| ModelError::Unsupported { node: name.to_owned(), reason };
    let approximation = match policy {
        SitePolicy::Exact => Activation::exact(activation).map_err(at(name))?,
        SitePolicy::Square if is_relu => Activation::SQUARE,
        SitePolicy::ReluAq if is_relu => Activation::RELU_AQ,
        SitePolicy::Square | SitePolicy::ReluAq => {
            return Err(unsupported(format!(
                "{activation} by {}, which stands for ReLU only,",
                policy.method()
            )));
        }
        SitePolicy::Minimax { composition, bound } => {
            let (sign, bound) = (composition.sign(), *bound);
            if let Some(noise) = options.noise {
                if !is_relu {
                    return Err(unsupported(format!("{activation} under simulated noise")));
                }
                let relu = NoisyRelu::new(sign, bound, noise, name);
                return Ok(ActivationFunction::Noisy(relu.map_err(at(name))?));
            }
            let approximation = match composition.smooth(activation, bound).map_err(not_smooth(name))? {
                Some(polynomial) => Activation::smooth(&polynomial),
                None => Activation::piecewise(activation, sign, bound),
            }
            .map_err(at(name))?;
            within(approximation, options)
        }
        SitePolicy::Fitted(fitted) => {
            let polynomial = fitted.polynomial();
            if polynomial.function() != activation {
                return Err(unsupported(format!(
                    "{activation} by a polynomial for {}",
                    polynomial.function()
                )));
            }
            if let Some(noise) = options.noise {
                let fitted = NoisyFitted::new(polynomial, noise, name);
                return Ok(ActivationFunction::NoisyFitted(fitted.map_err(at(name))?));
            }
            within(Activation::fitted(polynomial).map_err(at(name))?, options)
        }
    };
    Ok(ActivationFunction::Plain(approximation))
}

/// What is to become of values outside of its range.
fn within(approximation: Activation, options: &RunOptions) -> Activation {
    match options.outside {
        Outside::Exact => approximation.with_exact_outside(),
        Outside::Undefined => approximation,
    }
}

/// Names the site that has no polynomial.
fn not_smooth(site: &str) -> impl FnOnce(SmoothError) -> ModelError {
    |source| ModelError::Smooth { site: site.to_owned(), source: Box::new(source) }
}

/// What stands for a max-pooling.
fn max_pool_function(
    name: &str,
    spec: PoolSpec,
    policy: &SitePolicy,
    options: &RunOptions,
) -> Result<MaxPoolFunction> {
    let Some((composition, bound)) = policy.approximation() else { return Ok(MaxPoolFunction::Exact) };
    let (sign, epsilon) = (composition.sign(), composition.epsilon());
    if let Some(noise) = options.noise {
        let pool = NoisyMaxPool::new(sign, epsilon, bound, spec, noise, name);
        return Ok(MaxPoolFunction::Noisy(pool.map_err(at(name))?));
    }
    let pool = MinimaxMaxPool::from_composite(sign, epsilon, bound, spec).map_err(at(name))?;
    Ok(MaxPoolFunction::Minimax(match options.outside {
        Outside::Exact => pool.with_exact_outside(),
        Outside::Undefined => pool,
    }))
}
