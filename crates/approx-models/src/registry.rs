//! Models by data set and name.

use std::num::NonZeroUsize;

use crate::builder::NetBuilder;
use crate::error::{ModelError, Result};
use crate::googlenet::GoogLeNet;
use crate::inception::InceptionV3;
use crate::network::{Forward, Network};
use crate::policy::ActivationPolicy;
use crate::resnet::{BlockKind, CifarResNet, ResNet};
use crate::vgg::{Layer, VGG11, VGG13, VGG16, VGG19, Vgg};
use crate::weights::{Mismatch, Weights, WeightsError};

/// A model that can be built by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backbone {
    dataset: &'static str,
    name: &'static str,
    architecture: Architecture,
    classes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Architecture {
    CifarResNet { blocks: usize },
    CifarVgg { layers: &'static [Layer] },
    ResNet { kind: BlockKind, blocks: [usize; 4] },
    Vgg { layers: &'static [Layer] },
    GoogLeNet,
    InceptionV3,
}

use Architecture as A;

/// The nine backbones of Lee et al. (arXiv 2105.10879, table IV).
const CIFAR10: [Backbone; 9] = [
    cifar10("resnet20", A::CifarResNet { blocks: 3 }),
    cifar10("resnet32", A::CifarResNet { blocks: 5 }),
    cifar10("resnet44", A::CifarResNet { blocks: 7 }),
    cifar10("resnet56", A::CifarResNet { blocks: 9 }),
    cifar10("resnet110", A::CifarResNet { blocks: 18 }),
    cifar10("vgg11bn", A::CifarVgg { layers: VGG11 }),
    cifar10("vgg13bn", A::CifarVgg { layers: VGG13 }),
    cifar10("vgg16bn", A::CifarVgg { layers: VGG16 }),
    cifar10("vgg19bn", A::CifarVgg { layers: VGG19 }),
];

/// torchvision's, that the same paper approximates (table V).
const IMAGENET: [Backbone; 11] = [
    imagenet("resnet18", A::ResNet { kind: BlockKind::Basic, blocks: [2, 2, 2, 2] }),
    imagenet("resnet34", A::ResNet { kind: BlockKind::Basic, blocks: [3, 4, 6, 3] }),
    imagenet("resnet50", A::ResNet { kind: BlockKind::Bottleneck, blocks: [3, 4, 6, 3] }),
    imagenet("resnet101", A::ResNet { kind: BlockKind::Bottleneck, blocks: [3, 4, 23, 3] }),
    imagenet("resnet152", A::ResNet { kind: BlockKind::Bottleneck, blocks: [3, 8, 36, 3] }),
    imagenet("vgg11bn", A::Vgg { layers: VGG11 }),
    imagenet("vgg13bn", A::Vgg { layers: VGG13 }),
    imagenet("vgg16bn", A::Vgg { layers: VGG16 }),
    imagenet("vgg19bn", A::Vgg { layers: VGG19 }),
    imagenet("googlenet", A::GoogLeNet),
    imagenet("inception_v3", A::InceptionV3),
];

const fn imagenet(name: &'static str, architecture: Architecture) -> Backbone {
    Backbone { dataset: "imagenet", name, architecture, classes: 1000 }
}

const fn cifar10(name: &'static str, architecture: Architecture) -> Backbone {
    Backbone { dataset: "cifar10", name, architecture, classes: 10 }
}

impl Backbone {
    /// All models for `dataset`; none if the data set is unknown.
    pub fn all(dataset: &str) -> &'static [Backbone] {
        match dataset {
            "cifar10" => &CIFAR10,
            "imagenet" => &IMAGENET,
            _ => &[],
        }
    }

    /// The model called `name` for `dataset`.
    ///
    /// # Errors
    /// [`ModelError::UnknownBackbone`], with the known names.
    pub fn find(dataset: &str, name: &str) -> Result<&'static Backbone> {
        let all = Self::all(dataset);
        all.iter().find(|backbone| backbone.name == name).ok_or_else(|| ModelError::UnknownBackbone {
            dataset: dataset.to_owned(),
            name: name.to_owned(),
            known: all.iter().map(Backbone::name).collect(),
        })
    }

    /// The data set it is for.
    pub fn dataset(&self) -> &'static str {
        self.dataset
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Whether a value goes through all of its activations one after the other, as in a ResNet or VGG. Elsewhere some
    /// are side by side.
    pub fn is_sequential(&self) -> bool {
        !matches!(self.architecture, A::GoogLeNet | A::InceptionV3)
    }

    /// The same for another number of classes.
    #[must_use]
    pub fn with_classes(self, classes: NonZeroUsize) -> Self {
        Self { classes: classes.get(), ..self }
    }

    /// The smallest height and width of images that reach the last layer: networks end in an average over the whole
    /// image, so larger ones do.
    pub fn smallest_image(&self) -> usize {
        match self.architecture {
            A::CifarResNet { .. } | A::ResNet { .. } => 1,
            A::GoogLeNet => 31,
            // Five halvings.
            A::CifarVgg { .. } | A::Vgg { .. } => 32,
            A::InceptionV3 => 75,
        }
    }

    /// The name of the last layer.
    fn head(&self) -> &'static str {
        match self.architecture {
            A::CifarResNet { .. } => "linear",
            A::CifarVgg { .. } => "linear3",
            A::Vgg { .. } => "classifier.6",
            A::ResNet { .. } | A::GoogLeNet | A::InceptionV3 => "fc",
        }
    }

    /// Builds it with these weights and activations.
    ///
    /// # Errors
    /// [`ModelError::Classes`] if nothing but the number of classes differs; else as [`Network::build`].
    pub fn build(&self, weights: &Weights, policy: &ActivationPolicy) -> Result<Network> {
        Network::build(weights, policy, |b| self.define(b)).map_err(|error| self.explain(error))
    }

    /// The same error, or that the weights are for another number of classes if that is all.
    pub(crate) fn explain(&self, error: ModelError) -> ModelError {
        let ModelError::Weights(WeightsError::Mismatch { origin, mismatch }) = &error else { return error };
        let Mismatch { missing, unused, misshapen } = mismatch;
        let (weight, bias) = (format!("{}.weight", self.head()), format!("{}.bias", self.head()));
        match &misshapen[..] {
            [(first, needed, found), (second, _, biases)]
                if missing.is_empty()
                    && unused.is_empty()
                    && (first, second) == (&weight, &bias)
                    && found.get(1..) == needed.get(1..)
                    && found[..1] == biases[..] =>
            {
                ModelError::Classes { origin: origin.clone(), found: found[0], asked: self.classes }
            }
            _ => error,
        }
    }

    /// Asks the builder for its layers and activations.
    pub(crate) fn define(&self, b: &NetBuilder) -> Result<Box<dyn Forward>> {
        let classes = self.classes;
        Ok(match self.architecture {
            A::CifarResNet { blocks } => Box::new(CifarResNet::new(b, blocks, classes)?),
            A::CifarVgg { layers } => Box::new(Vgg::cifar(b, layers, classes)?),
            A::ResNet { kind, blocks } => Box::new(ResNet::new(b, kind, blocks, classes)?),
            A::Vgg { layers } => Box::new(Vgg::imagenet(b, layers, classes)?),
            A::GoogLeNet => Box::new(GoogLeNet::new(b, classes)?),
            A::InceptionV3 => Box::new(InceptionV3::new(b, classes)?),
        })
    }
}
