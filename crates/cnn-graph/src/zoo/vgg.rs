//! VGG with batch norm (Simonyan and Zisserman, arXiv 1409.1556, table 1): five stages that end in a 2×2 max-pooling, then
//! three linear layers. The reference's for CIFAR-10 and torchvision's for ImageNet differ in the latter.

use crate::builder::GraphBuilder;
use crate::graph::ValueId;
use crate::ops::{BatchNorm, Conv, Pool};

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

/// The reference's for 32×32 images: linear layers of 512 units.
pub fn cifar(b: &mut GraphBuilder, layers: &[Layer], classes: usize) -> ValueId {
    let x = b.input(); // [3, 32, 32]
    let x = features(b, x, layers); // [512, 1, 1]
    let x = b.adaptive_avg_pool(x, [1, 1]);
    let x = b.flatten(x);
    let x = b.dropout("drop1", x, DROPOUT);
    let x = b.linear("linear1", x, 512);
    let x = b.relu("relu1", x);
    let x = b.dropout("drop2", x, DROPOUT);
    let x = b.linear("linear2", x, 512);
    let x = b.relu("relu2", x);
    b.linear("linear3", x, classes)
}

/// torchvision's for images of about 224×224: linear layers of 4,096 units on an average of 7×7 pixels.
pub fn imagenet(b: &mut GraphBuilder, layers: &[Layer], classes: usize) -> ValueId {
    const UNITS: usize = 4096;
    let x = b.input(); // [3, 224, 224]
    let x = features(b, x, layers);
    let x = b.adaptive_avg_pool(x, [7, 7]); // [512, 7, 7]
    let x = b.flatten(x);
    b.scope("classifier", |b| {
        let x = b.linear(0, x, UNITS);
        let x = b.relu(1, x);
        let x = b.dropout(2, x, DROPOUT);
        let x = b.linear(3, x, UNITS);
        let x = b.relu(4, x);
        let x = b.dropout(5, x, DROPOUT);
        b.linear(6, x, classes)
    })
}

/// Named by their place in PyTorch's `Sequential`, which counts batch norm and ReLU too.
fn features(b: &mut GraphBuilder, x: ValueId, layers: &[Layer]) -> ValueId {
    b.scope("features", |b| {
        let (mut x, mut index) = (x, 0);
        for layer in layers {
            match *layer {
                Layer::Conv(outputs) => {
                    let conv = Conv::same(outputs, 3).with_bias();
                    x = b.conv_bn(index, index + 1, x, conv, BatchNorm::DEFAULT_EPS);
                    x = b.relu(index + 2, x);
                    index += 3;
                }
                Layer::MaxPool => {
                    x = b.max_pool(index, x, Pool::square(2, 2));
                    index += 1;
                }
            }
        }
        x
    })
}
