//! A built model and its sites.

use approx_ops::{RangeRecorder, RangeStats};
use candle_core::Tensor;

use crate::builder::NetBuilder;
use crate::error::Result;
use crate::policy::ActivationPolicy;
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

/// Which function a site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteKind {
    /// A ReLU or what stands for it.
    Relu,
    /// A max-pooling or what stands for it.
    MaxPool,
}

/// A place in a network where an activation is.
#[derive(Debug, Clone)]
pub struct Site {
    pub(crate) name: String,
    pub(crate) kind: SiteKind,
    pub(crate) bound: Option<f64>,
    pub(crate) recorder: RangeRecorder,
}

impl Site {
    /// The name in the style of the weights, such as `layer1.0.relu2`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// ReLU or max-pooling.
    pub fn kind(&self) -> SiteKind {
        self.kind
    }

    /// The bound of the approximation range; `None` where nothing is approximated on a range.
    pub fn bound(&self) -> Option<f64> {
        self.bound
    }

    /// The range of the inputs since the last call, and forgets it.
    pub fn take_range(&self) -> RangeStats {
        self.recorder.take()
    }
}

/// A network with its weights, its activations and their sites.
pub struct Network {
    forward: Box<dyn Forward>,
    sites: Vec<Site>,
}

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
    ///     Ok(Tiny(b.linear("fc", 4, 10)?, b.relu("relu")?))
    /// })?;
    /// let logits = network.forward(&Tensor::ones((1, 1, 2, 2), DType::F32, &Device::Cpu)?)?;
    /// assert_eq!(logits.to_vec2::<f32>()?, [[25.0; 10]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`](crate::WeightsError::Mismatch) with all tensors that are missing, unused or
    /// of another shape; [`ModelError::UnknownSite`](crate::ModelError::UnknownSite) if the policy has an
    /// exception for a site that there is not; a bound that is not positive.
    pub fn build<M: Forward + 'static>(
        weights: &Weights,
        policy: &ActivationPolicy,
        define: impl FnOnce(&NetBuilder) -> Result<M>,
    ) -> Result<Self> {
        let (model, sites) = NetBuilder::run(weights, policy, define)?;
        Ok(Self { forward: Box::new(model), sites })
    }

    /// The logits of a batch of images.
    ///
    /// # Shapes
    /// `images`: `[N, C, H, W]`, normalised; the result `[N, classes]`.
    ///
    /// # Errors
    /// candle's, such as an input of the wrong shape.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.forward.forward(images)
    }

    /// The sites, in an order in which each comes after those that its input depends on.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }
}
