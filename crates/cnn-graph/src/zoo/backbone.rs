//! Backbones by data set and name.

use std::num::NonZeroUsize;

use crate::builder::GraphBuilder;
use crate::error::{GraphError, Result};
use crate::graph::Graph;
use crate::zoo::googlenet::googlenet;
use crate::zoo::inception::inception_v3;
use crate::zoo::lenet::lenet5;
use crate::zoo::resnet::{self, BlockKind};
use crate::zoo::vgg::{self, Layer, VGG11, VGG13, VGG16, VGG19};

/// A network that can be built by name.
///
/// ```
/// use cnn_graph::zoo::Backbone;
///
/// let backbone = Backbone::find("imagenet", "googlenet")?;
/// let graph = backbone.with_image_size([64, 64]).graph()?;
/// assert_eq!(graph.input_shape().dims(), [3, 64, 64]);
/// assert_eq!(backbone.smallest_image(), 31);
/// # Ok::<(), cnn_graph::GraphError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backbone {
    dataset: &'static str,
    name: &'static str,
    architecture: Architecture,
    classes: usize,
    /// Channels, height and width.
    input: [usize; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Architecture {
    CifarResNet { blocks: usize },
    CifarVgg { layers: &'static [Layer] },
    ResNet { kind: BlockKind, blocks: [usize; 4] },
    Vgg { layers: &'static [Layer] },
    GoogLeNet,
    InceptionV3,
    LeNet5,
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

/// For MNIST, and for Fashion-MNIST, whose images are alike.
const MNIST: [Backbone; 1] = [mnist("mnist")];
const FASHION_MNIST: [Backbone; 1] = [mnist("fashion-mnist")];

const fn mnist(dataset: &'static str) -> Backbone {
    Backbone { dataset, name: "lenet5", architecture: A::LeNet5, classes: 10, input: [1, 28, 28] }
}

const fn imagenet(name: &'static str, architecture: Architecture) -> Backbone {
    Backbone { dataset: "imagenet", name, architecture, classes: 1000, input: [3, 224, 224] }
}

const fn cifar10(name: &'static str, architecture: Architecture) -> Backbone {
    Backbone { dataset: "cifar10", name, architecture, classes: 10, input: [3, 32, 32] }
}

impl Backbone {
    /// The data sets that there are backbones for.
    pub const DATASETS: [&str; 4] = ["cifar10", "imagenet", "mnist", "fashion-mnist"];

    /// All backbones for `dataset`; none if the data set is unknown.
    pub fn all(dataset: &str) -> &'static [Backbone] {
        match dataset {
            "cifar10" => &CIFAR10,
            "fashion-mnist" => &FASHION_MNIST,
            "imagenet" => &IMAGENET,
            "mnist" => &MNIST,
            _ => &[],
        }
    }

    /// The backbone called `name` for `dataset`.
    ///
    /// # Errors
    /// [`GraphError::UnknownBackbone`], with the known names.
    pub fn find(dataset: &str, name: &str) -> Result<&'static Backbone> {
        let all = Self::all(dataset);
        all.iter().find(|backbone| backbone.name == name).ok_or_else(|| GraphError::UnknownBackbone {
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

    /// Channels, height and width of the images that it takes.
    pub fn image_shape(&self) -> [usize; 3] {
        self.input
    }

    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The same for another number of classes.
    #[must_use]
    pub fn with_classes(self, classes: NonZeroUsize) -> Self {
        Self { classes: classes.get(), ..self }
    }

    /// The same for images of another height and width. The weights stay the same where the network ends in an average over
    /// the whole image: LeNet-5 does not.
    #[must_use]
    pub fn with_image_size(self, [height, width]: [usize; 2]) -> Self {
        Self { input: [self.input[0], height, width], ..self }
    }

    /// The smallest height and width of images that reach the last layer.
    pub fn smallest_image(&self) -> usize {
        let fits = |size: &usize| self.with_image_size([*size; 2]).graph().is_ok();
        (1..).find(fits).expect("every backbone takes large images")
    }

    /// The network as a graph.
    ///
    /// # Errors
    /// [`GraphError::Node`] if the image is too small, with the first layer that it does not reach.
    pub fn graph(&self) -> Result<Graph> {
        let mut b = GraphBuilder::new(self.input);
        let (classes, b_ref) = (self.classes, &mut b);
        let logits = match self.architecture {
            A::CifarResNet { blocks } => resnet::cifar(b_ref, blocks, classes),
            A::CifarVgg { layers } => vgg::cifar(b_ref, layers, classes),
            A::ResNet { kind, blocks } => resnet::imagenet(b_ref, kind, blocks, classes),
            A::Vgg { layers } => vgg::imagenet(b_ref, layers, classes),
            A::GoogLeNet => googlenet(b_ref, classes),
            A::InceptionV3 => inception_v3(b_ref, classes),
            A::LeNet5 => lenet5(b_ref, classes),
        };
        b.finish(logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backbones_are_found_by_data_set_and_name() {
        let all: Vec<&Backbone> = Backbone::DATASETS.into_iter().flat_map(Backbone::all).collect();
        assert_eq!(all.len(), 9 + 11 + 1 + 1);
        for backbone in all {
            assert_eq!(Backbone::find(backbone.dataset(), backbone.name()).unwrap(), backbone);
        }
        let error = Backbone::find("mnist", "lenet").unwrap_err().to_string();
        assert_eq!(error, "unknown backbone `lenet` for mnist; known: lenet5");
        assert!(Backbone::all("emnist").is_empty());
    }

    #[test]
    fn mnist_and_fashion_mnist_have_the_same_network() {
        let [mnist, fashion] =
            ["mnist", "fashion-mnist"].map(|dataset| Backbone::find(dataset, "lenet5").unwrap());
        let graph = mnist.graph().unwrap();
        assert_eq!(graph.nodes(), fashion.graph().unwrap().nodes());
        assert_eq!((graph.input_shape().dims(), graph.output_shape().dims()), (&[1, 28, 28][..], &[10][..]));
        // 12 pixels become 6, then 2, then 1.
        assert_eq!(mnist.smallest_image(), 12);
        assert_eq!(graph.parameters(), 156 + 2416 + 48_120 + 10_164 + 850);
    }
}
