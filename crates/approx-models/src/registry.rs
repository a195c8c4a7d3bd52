//! Models by data set and name.

use crate::error::{ModelError, Result};
use crate::network::Network;
use crate::policy::ActivationPolicy;
use crate::resnet::CifarResNet;
use crate::vgg::{CifarVgg, Layer, VGG11, VGG13, VGG16, VGG19};
use crate::weights::Weights;

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

const fn cifar10(name: &'static str, architecture: Architecture) -> Backbone {
    Backbone { dataset: "cifar10", name, architecture, classes: 10 }
}

impl Backbone {
    /// All models for `dataset`; none if the data set is unknown.
    pub fn all(dataset: &str) -> &'static [Backbone] {
        match dataset {
            "cifar10" => &CIFAR10,
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

    /// Builds it with these weights and activations.
    ///
    /// # Errors
    /// As [`Network::build`].
    pub fn build(&self, weights: &Weights, policy: &ActivationPolicy) -> Result<Network> {
        match self.architecture {
            A::CifarResNet { blocks } => {
                Network::build(weights, policy, |b| CifarResNet::new(b, blocks, self.classes))
            }
            A::CifarVgg { layers } => {
                Network::build(weights, policy, |b| CifarVgg::new(b, layers, self.classes))
            }
        }
    }
}
