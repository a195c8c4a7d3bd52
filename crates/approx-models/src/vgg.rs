//! VGG with batch norm (Simonyan and Zisserman, arXiv 1409.1556, table 1): five stages that end in a 2×2
//! max-pooling, then three linear layers. The reference's for CIFAR-10 and torchvision's for ImageNet differ in
//! the latter.

use approx_ops::PoolSpec;
use candle_core::Tensor;

use crate::builder::NetBuilder;
use crate::error::Result;
use crate::layers::{Conv2d, ConvSpec, Dropout, Linear, MaxPool, Relu, adaptive_average, flatten};
use crate::network::Forward;

/// A line of the paper's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// 3×3 convolution to this many channels, batch norm, ReLU.
    Conv(usize),
    /// 2×2 max-pooling with stride 2.
    MaxPool,
}

/// Writes a table as the paper does: numbers of channels, and `M` for a max-pooling.
macro_rules! layers {
    ($($entry:tt),*) => { &[$(layers!(@ $entry)),*] };
    (@ M) => { Layer::MaxPool };
    (@ $channels:literal) => { Layer::Conv($channels) };
}

/// Configuration A.
pub const VGG11: &[Layer] = layers![64, M, 128, M, 256, 256, M, 512, 512, M, 512, 512, M];
/// Configuration B.
pub const VGG13: &[Layer] = layers![64, 64, M, 128, 128, M, 256, 256, M, 512, 512, M, 512, 512, M];
/// Configuration D.
pub const VGG16: &[Layer] =
    layers![64, 64, M, 128, 128, M, 256, 256, 256, M, 512, 512, 512, M, 512, 512, 512, M];
/// Configuration E.
pub const VGG19: &[Layer] =
    layers![64, 64, M, 128, 128, M, 256, 256, 256, 256, M, 512, 512, 512, 512, M, 512, 512, 512, 512, M];

/// Share of a hidden layer's inputs that is left out while it is trained.
const DROPOUT: f64 = 0.5;

/// A VGG with batch norm.
pub struct Vgg {
    features: Vec<Feature>,
    /// Height and width of what the linear layers take; the average brings images of another size there.
    size: usize,
    hidden: [(Dropout, Linear, Relu); 2],
    last: (Dropout, Linear),
}

enum Feature {
    Conv(Conv2d, Relu),
    MaxPool(MaxPool),
}

impl Vgg {
    /// The reference's for 32×32 images: linear layers of 512 units.
    ///
    /// # Errors
    /// The builder's.
    pub fn cifar(b: &NetBuilder, layers: &[Layer], classes: usize) -> Result<Self> {
        let features = b.pp("features", |b| Self::features(b, layers, 32))?;
        let first = (b.dropout("drop1", DROPOUT), b.linear("linear1", 512, 512)?, b.relu("relu1"));
        let second = (b.dropout("drop2", DROPOUT), b.linear("linear2", 512, 512)?, b.relu("relu2"));
        let last = (b.dropout("drop3", 0.0), b.linear("linear3", 512, classes)?);
        Ok(Self { features, size: 1, hidden: [first, second], last })
    }

    /// torchvision's for images of about 224×224: linear layers of 4,096 units on an average of 7×7 pixels.
    ///
    /// # Errors
    /// The builder's.
    pub fn imagenet(b: &NetBuilder, layers: &[Layer], classes: usize) -> Result<Self> {
        const SIZE: usize = 7;
        const UNITS: usize = 4096;
        let features = b.pp("features", |b| Self::features(b, layers, 224))?;
        // The numbers that are missing are dropout's in PyTorch's `Sequential`.
        b.pp("classifier", |b| {
            let first = (b.dropout("none", 0.0), b.linear("0", 512 * SIZE * SIZE, UNITS)?, b.relu("1"));
            let second = (b.dropout("2", DROPOUT), b.linear("3", UNITS, UNITS)?, b.relu("4"));
            let last = (b.dropout("5", DROPOUT), b.linear("6", UNITS, classes)?);
            Ok(Self { features, size: SIZE, hidden: [first, second], last })
        })
    }

    /// Named by their place in PyTorch's `Sequential`, which counts batch norm and ReLU too.
    /// `size`: height and width of the images that it is meant for.
    fn features(b: &NetBuilder, layers: &[Layer], size: usize) -> Result<Vec<Feature>> {
        let window = PoolSpec::new(2, 2, 0)?;
        let mut index = 0;
        let (mut inputs, mut size) = (3, size);
        let mut features = Vec::with_capacity(layers.len());
        for layer in layers {
            match *layer {
                Layer::Conv(outputs) => {
                    let spec = ConvSpec::same(inputs, outputs, 3).with_bias().for_output(size, size);
                    features.push(Feature::Conv(b.conv_bn(index, index + 1, spec)?, b.relu(index + 2)));
                    inputs = outputs;
                    index += 3;
                }
                Layer::MaxPool => {
                    features.push(Feature::MaxPool(b.max_pool(index, window)));
                    index += 1;
                    size /= 2;
                }
            }
        }
        Ok(features)
    }
}

impl Forward for Vgg {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut xs = images.clone(); // [N, 3, 32, 32] or [N, 3, 224, 224]
        for feature in &self.features {
            xs = match feature {
                Feature::Conv(conv, relu) => conv.forward_relu(&xs, None, relu)?,
                Feature::MaxPool(pool) => pool.forward(&xs)?,
            };
        }
        xs = flatten(&adaptive_average(&xs, self.size)?)?; // [N, 512] or [N, 512 · 7 · 7]
        for (dropout, linear, relu) in &self.hidden {
            xs = relu.forward(&linear.forward(&dropout.forward(&xs)?)?)?;
        }
        let (dropout, linear) = &self.last;
        linear.forward(&dropout.forward(&xs)?) // [N, classes]
    }
}
