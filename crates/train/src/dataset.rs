//! The data sets that networks are trained for.

use std::path::Path;

use approx_data::{Augmentation, ImageSet, Normalization, Split, cifar10, fashion_mnist, mnist};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A data set that there are backbones for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DataSet {
    /// CIFAR-10
    #[default]
    Cifar10,
    /// MNIST: handwritten digits
    Mnist,
    /// Fashion-MNIST: clothes
    FashionMnist,
}

impl DataSet {
    /// Its name on the command line, in folders and in the zoo.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cifar10 => "CIFAR-10",
            Self::Mnist => "MNIST",
            Self::FashionMnist => "Fashion-MNIST",
        }
    }

    /// The network to train if none is named.
    pub fn backbone(self) -> &'static str {
        match self {
            Self::Cifar10 => "resnet20",
            Self::Mnist | Self::FashionMnist => "lenet5",
        }
    }

    /// What its networks take.
    pub fn normalization(self) -> Normalization {
        match self {
            Self::Cifar10 => Normalization::CIFAR10,
            Self::Mnist => Normalization::MNIST,
            Self::FashionMnist => Normalization::FASHION_MNIST,
        }
    }

    /// What is done to its images. The mirror image of a digit is none.
    pub fn augmentation(self) -> Augmentation {
        match self {
            Self::Cifar10 => Augmentation::REFERENCE,
            Self::Mnist => Augmentation { crop_padding: 2, flip: false },
            Self::FashionMnist => Augmentation { crop_padding: 2, flip: true },
        }
    }

    /// The largest learning rate of the preset `fast`. LeNet-5 has no batch norm, which makes up for a larger one.
    pub fn fast_lr(self) -> f64 {
        match self {
            Self::Cifar10 => 0.1,
            Self::Mnist | Self::FashionMnist => 0.03,
        }
    }

    /// Reads a split from a folder.
    pub fn load(self, folder: &Path, split: Split) -> approx_data::Result<ImageSet> {
        match self {
            Self::Cifar10 => cifar10::load(folder, split),
            Self::Mnist => mnist::load(folder, split),
            Self::FashionMnist => fashion_mnist::load(folder, split),
        }
    }
}

#[cfg(test)]
mod tests {
    use approx_models::Backbone;

    use super::*;

    #[test]
    fn names_are_those_of_the_command_line_the_checkpoint_and_the_zoo() {
        let names: Vec<_> = DataSet::value_variants().iter().map(|dataset| dataset.name()).collect();
        assert_eq!(names, approx_cli::inputs::TRAINED);
        for dataset in DataSet::value_variants() {
            assert_eq!(dataset.to_possible_value().unwrap().get_name(), dataset.name());
            assert_eq!(serde_json::to_value(dataset).unwrap(), dataset.name());
            let backbone = Backbone::find(dataset.name(), dataset.backbone()).unwrap();
            assert_eq!(backbone.graph().unwrap().input_shape().dims()[0], dataset.normalization().channels());
        }
    }
}
