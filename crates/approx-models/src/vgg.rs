//! VGG with batch norm for CIFAR-10 (Simonyan and Zisserman, arXiv 1409.1556, table 1), as the reference has
//! it: five stages that end in a 2×2 max-pooling, then three linear layers of 512 units.

use approx_ops::PoolSpec;
use candle_core::Tensor;

use crate::builder::{NetBuilder, at};
use crate::error::Result;
use crate::layers::{Conv2d, ConvSpec, Linear, MaxPool, Relu};
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

/// A VGG for 32×32 images.
pub struct CifarVgg {
    features: Vec<Feature>,
    linear1: Linear,
    relu1: Relu,
    linear2: Linear,
    relu2: Relu,
    linear3: Linear,
}

enum Feature {
    Conv(Conv2d, Relu),
    MaxPool(MaxPool),
}

impl CifarVgg {
    /// With these convolutions and poolings.
    ///
    /// # Errors
    /// The builder's.
    pub fn new(b: &NetBuilder, layers: &[Layer], classes: usize) -> Result<Self> {
        let features = b.pp("features", |b| Self::features(b, layers))?;
        Ok(Self {
            features,
            linear1: b.linear("linear1", 512, 512)?,
            relu1: b.relu("relu1")?,
            linear2: b.linear("linear2", 512, 512)?,
            relu2: b.relu("relu2")?,
            linear3: b.linear("linear3", 512, classes)?,
        })
    }

    /// Named by their place in PyTorch's `Sequential`, which counts batch norm and ReLU too.
    fn features(b: &NetBuilder, layers: &[Layer]) -> Result<Vec<Feature>> {
        let window = PoolSpec::new(2, 2, 0).map_err(at("features"))?;
        let mut index = 0;
        let mut inputs = 3;
        let mut features = Vec::with_capacity(layers.len());
        for layer in layers {
            match *layer {
                Layer::Conv(outputs) => {
                    let spec = ConvSpec::three_by_three(inputs, outputs).with_bias();
                    features.push(Feature::Conv(b.conv_bn(index, index + 1, spec)?, b.relu(index + 2)?));
                    inputs = outputs;
                    index += 3;
                }
                Layer::MaxPool => {
                    features.push(Feature::MaxPool(b.max_pool(index, window)?));
                    index += 1;
                }
            }
        }
        Ok(features)
    }
}

impl Forward for CifarVgg {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut xs = images.clone(); // [N, 3, 32, 32]
        for feature in &self.features {
            xs = match feature {
                Feature::Conv(conv, relu) => conv.forward_relu(&xs, None, relu)?,
                Feature::MaxPool(pool) => pool.forward(&xs)?,
            };
        }
        let xs = xs.flatten_from(1)?; // [N, 512, 1, 1] → [N, 512]
        let xs = self.relu1.forward(&self.linear1.forward(&xs)?)?;
        let xs = self.relu2.forward(&self.linear2.forward(&xs)?)?;
        self.linear3.forward(&xs) // [N, classes]
    }
}
