//! A built model and its sites.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use approx_ops::{
    Activation, Excursions, MinimaxMaxPool, MinimaxRelu, Noise, NoisyMaxPool, NoisyRelu, OpError, PoolSpec,
    RangeRecorder, RangeStats, Sketch,
};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::builder::NetBuilder;
use crate::error::{ModelError, Result};
use crate::policy::{ActivationPolicy, Composition, MaxPoolPolicy, Outside, ReluPolicy};
use crate::weights::Weights;

/// Something that turns images into logits.
pub trait Forward: Send + Sync {
    /// # Shapes
    /// `images`: `[N, C, H, W]`; the result `[N, classes]`.
    ///
    /// # Errors
    /// candle's, such as an input of the wrong shape.
    fn forward(&self, images: &Tensor) -> Result<Tensor>;
}

impl Forward for Box<dyn Forward> {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        (**self).forward(images)
    }
}

/// Which function a site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteKind {
    /// A ReLU or what stands for it.
    Relu,
    /// A max-pooling or what stands for it.
    MaxPool,
}

impl SiteKind {
    fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::MaxPool => "max_pool",
        }
    }
}

/// A place in a network where an activation is.
#[derive(Debug)]
pub struct Site {
    name: String,
    bound: Option<f64>,
    recorder: RangeRecorder,
    slot: Slot,
}

/// What is at a site: shared with the layer there, so that it can be replaced.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    Relu(Arc<RwLock<ReluFunction>>),
    MaxPool(PoolSpec, Arc<RwLock<MaxPoolFunction>>),
}

#[derive(Debug, Clone)]
pub(crate) enum ReluFunction {
    Plain(Activation),
    Noisy(NoisyRelu),
}

#[derive(Debug, Clone)]
pub(crate) enum MaxPoolFunction {
    Exact,
    Minimax(MinimaxMaxPool),
    Noisy(NoisyMaxPool),
}

impl Site {
    pub(crate) fn new(name: String, recorder: RangeRecorder, slot: Slot) -> Self {
        Self { name, bound: None, recorder, slot }
    }

    /// The name in the style of the weights, such as `layer1.0.relu2`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// ReLU or max-pooling.
    pub fn kind(&self) -> SiteKind {
        match self.slot {
            Slot::Relu(..) => SiteKind::Relu,
            Slot::MaxPool(..) => SiteKind::MaxPool,
        }
    }

    /// The bound of the approximation range; `None` where nothing is approximated on a range.
    pub fn bound(&self) -> Option<f64> {
        self.bound
    }

    /// How many approximations of the sign function a value goes through one after the other here, and how many there
    /// are to an output: one of each for ReLU; for max-pooling those of the tournament, 2 and 3 for a window of 2×2, 4
    /// and 8 for one of 3×3.
    pub fn signs(&self) -> (u32, u32) {
        match &self.slot {
            Slot::Relu(..) => (1, 1),
            Slot::MaxPool(spec, _) => spec.signs(),
        }
    }

    /// The range of the inputs since the last call, and forgets it.
    pub fn take_range(&self) -> RangeStats {
        self.recorder.take()
    }

    /// Under noise, outputs of components that left the next one's domain since the last call, and forgets them.
    pub fn take_excursions(&self) -> Vec<Excursions> {
        self.recorder.take_excursions()
    }
}

impl Site {
    /// From now on, the distribution of the inputs is sketched, which takes a look at each of them.
    pub fn start_sketch(&self) {
        self.recorder.start_sketch();
    }

    /// The distribution of the inputs since [`Site::start_sketch`], which ends; `None` if it was not called.
    pub fn take_sketch(&self) -> Option<Sketch> {
        self.recorder.take_sketch()
    }
}

/// A network with its weights, its activations and their sites.
pub struct Network {
    forward: Box<dyn Forward>,
    sites: Vec<Site>,
    /// What the last layer adds to the logits.
    noise: Option<Noise>,
    /// How many numbers the weights are.
    parameters: usize,
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
    /// Builds a network from its definition: `define` asks the builder for layers and activations.
    ///
    /// ```
    /// use approx_models::{ActivationPolicy, Forward, Network, Result, Weights, layers};
    /// use candle_core::{DType, Device, Tensor};
    ///
    /// struct Tiny(layers::Linear, layers::Relu);
    ///
    /// impl Forward for Tiny {
    ///     fn forward(&self, images: &Tensor) -> Result<Tensor> {
    ///         self.1.forward(&self.0.forward(&images.flatten_from(1)?)?)
    ///     }
    /// }
    ///
    /// let weights = Weights::generate(Device::Cpu, |_name, shape| vec![1.0; shape.iter().product()]);
    /// let network = Network::build(&weights, &ActivationPolicy::square(), |b| {
    ///     Ok(Tiny(b.linear("fc", 4, 10)?, b.relu("relu")))
    /// })?;
    /// let logits = network.forward(&Tensor::ones((1, 1, 2, 2), DType::F32, &Device::Cpu)?)?;
    /// assert_eq!(logits.to_vec2::<f32>()?, [[25.0; 10]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`](crate::WeightsError::Mismatch) with all tensors that are missing, unused or
    /// of another shape; [`WeightsError::NotFinite`](crate::WeightsError::NotFinite); those of
    /// [`Network::set_policy`].
    pub fn build<M: Forward + 'static>(
        weights: &Weights,
        policy: &ActivationPolicy,
        define: impl FnOnce(&NetBuilder) -> Result<M>,
    ) -> Result<Self> {
        let (model, sites, parameters) = NetBuilder::run(weights, define)?;
        let mut network = Self { forward: Box::new(model), sites, noise: None, parameters };
        network.set_policy(policy)?;
        Ok(network)
    }

    /// Replaces all activations by what `policy` says, and keeps the weights.
    ///
    /// # Errors
    /// [`ModelError::UnknownSite`] if the policy has an exception for a site that there is not; a bound that is
    /// not positive and finite. The network is then as it was.
    pub fn set_policy(&mut self, policy: &ActivationPolicy) -> Result<()> {
        set_policy(&mut self.sites, policy)?;
        self.noise = policy.noise;
        Ok(())
    }

    /// The noise that is simulated.
    pub fn noise(&self) -> Option<Noise> {
        self.noise
    }

    /// The logits of a batch of images. On a CPU, each thread takes a slice of the batch through the whole network
    /// (docs/adr/0009-slices-of-a-batch.md).
    ///
    /// # Shapes
    /// `images`: `[N, C, H, W]`, normalised; the result `[N, classes]`.
    ///
    /// # Errors
    /// candle's, such as an input of the wrong shape.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let count = images.dim(0)?;
        let size = match images.device() {
            Device::Cpu => self.slice(count, images.elem_count() / count.max(1)),
            _ => count,
        };
        if size >= count {
            return self.with_noise(self.forward.forward(images)?);
        }
        let forward = |start: usize| -> Result<Tensor> {
            self.forward.forward(&images.narrow(0, start, size.min(count - start))?)
        };
        let starts: Vec<usize> = (0..count).step_by(size).collect();
        let logits: Vec<Tensor> = starts.into_par_iter().map(forward).collect::<Result<_>>()?;
        self.with_noise(Tensor::cat(&logits, 0)?)
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

    /// The sites, in an order in which each comes after those that its input depends on.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }
}

/// As [`Network::set_policy`].
pub(crate) fn set_policy(sites: &mut [Site], policy: &ActivationPolicy) -> Result<()> {
    check_names(sites, SiteKind::Relu, &policy.relu_sites)?;
    check_names(sites, SiteKind::MaxPool, &policy.max_pool_sites)?;
    let replacements: Vec<Replacement> =
        sites.iter().map(|site| Replacement::new(site, policy)).collect::<Result<_>>()?;
    for (site, replacement) in sites.iter_mut().zip(replacements) {
        replacement.apply(site);
    }
    Ok(())
}

fn check_names<P>(sites: &[Site], kind: SiteKind, exceptions: &BTreeMap<String, P>) -> Result<()> {
    let known: Vec<&str> = sites.iter().filter(|s| s.kind() == kind).map(Site::name).collect();
    match exceptions.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(ModelError::UnknownSite {
            name: name.clone(),
            kind: kind.name(),
            known: known.into_iter().map(str::to_owned).collect(),
        }),
    }
}

/// A site's next function, made before any site is changed.
enum Replacement {
    Relu(ReluFunction, Option<f64>),
    MaxPool(MaxPoolFunction, Option<f64>),
}

impl Replacement {
    fn new(site: &Site, policy: &ActivationPolicy) -> Result<Self> {
        let name = site.name();
        match &site.slot {
            Slot::Relu(_) => {
                let exact = |activation| Ok(Self::Relu(ReluFunction::Plain(activation), None));
                match policy.relu_at(name) {
                    ReluPolicy::Exact => exact(Activation::RELU),
                    ReluPolicy::Square => exact(Activation::SQUARE),
                    ReluPolicy::ReluAq => exact(Activation::RELU_AQ),
                    ReluPolicy::Minimax { alpha, bound } => Self::relu(name, policy, alpha.into(), bound),
                    ReluPolicy::Composite { composition, bound } => {
                        Self::relu(name, policy, composition, bound)
                    }
                }
            }
            Slot::MaxPool(spec, _) => match policy.max_pool_at(name) {
                MaxPoolPolicy::Exact => Ok(Self::MaxPool(MaxPoolFunction::Exact, None)),
                MaxPoolPolicy::Minimax { alpha, bound } => {
                    Self::max_pool(name, policy, alpha.into(), bound, *spec)
                }
                MaxPoolPolicy::Composite { composition, bound } => {
                    Self::max_pool(name, policy, composition, bound, *spec)
                }
            },
        }
    }

    fn relu(name: &str, policy: &ActivationPolicy, composition: Composition, bound: f64) -> Result<Self> {
        let sign = composition.sign();
        let function = match policy.noise {
            Some(noise) => ReluFunction::Noisy(NoisyRelu::new(sign, bound, noise, name).map_err(at(name))?),
            None => {
                let relu = MinimaxRelu::from_composite(sign, bound).map_err(at(name))?;
                let exact_outside = policy.outside == Outside::Exact;
                ReluFunction::Plain(if exact_outside { relu.with_exact_outside() } else { relu }.into())
            }
        };
        Ok(Self::Relu(function, Some(bound)))
    }

    fn max_pool(
        name: &str,
        policy: &ActivationPolicy,
        composition: Composition,
        bound: f64,
        spec: PoolSpec,
    ) -> Result<Self> {
        let (sign, epsilon) = (composition.sign(), composition.epsilon());
        let function = match policy.noise {
            Some(noise) => {
                let pool = NoisyMaxPool::new(sign, epsilon, bound, spec, noise, name);
                MaxPoolFunction::Noisy(pool.map_err(at(name))?)
            }
            None => {
                let pool = MinimaxMaxPool::from_composite(sign, epsilon, bound, spec).map_err(at(name))?;
                let exact_outside = policy.outside == Outside::Exact;
                MaxPoolFunction::Minimax(if exact_outside { pool.with_exact_outside() } else { pool })
            }
        };
        Ok(Self::MaxPool(function, Some(bound)))
    }

    fn apply(self, site: &mut Site) {
        const POISONED: &str = "nothing panics while it holds the lock";
        match (self, &site.slot) {
            (Self::Relu(function, bound), Slot::Relu(slot)) => {
                *slot.write().expect(POISONED) = function;
                site.bound = bound;
            }
            (Self::MaxPool(function, bound), Slot::MaxPool(_, slot)) => {
                *slot.write().expect(POISONED) = function;
                site.bound = bound;
            }
            _ => unreachable!("the replacement was made for this site"),
        }
    }
}

/// Names the site of an op's error.
pub(crate) fn at(site: &str) -> impl Fn(OpError) -> ModelError {
    move |source| ModelError::Site { site: site.to_owned(), source }
}
