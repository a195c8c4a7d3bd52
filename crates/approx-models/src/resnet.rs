//! Residual networks (He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385).
//!
//! [`CifarResNet`] (section 4.2) is the reference's: three stages of basic blocks with 16, 32 and 64 channels and
//! shortcuts without parameters ("option A"). [`ResNet`] (table 1) is torchvision's: four stages, shortcuts by
//! 1×1 convolution, and the stride of a bottleneck at its 3×3 convolution.

use approx_ops::PoolSpec;
use candle_core::Tensor;

use crate::builder::NetBuilder;
use crate::error::Result;
use crate::layers::{Conv2d, ConvSpec, Linear, MaxPool, Relu, global_average, subsampled};
use crate::network::Forward;

/// A ResNet of `6 n + 2` layers for 32×32 images.
pub struct CifarResNet {
    conv1: Conv2d,
    relu1: Relu,
    blocks: Vec<Block>,
    linear: Linear,
}

impl CifarResNet {
    /// With `blocks` basic blocks a stage: 3 for ResNet-20, 18 for ResNet-110.
    ///
    /// # Errors
    /// The builder's.
    pub fn new(b: &NetBuilder, blocks: usize, classes: usize) -> Result<Self> {
        let conv1 = b.conv_bn("conv1", "bn1", ConvSpec::same(3, 16, 3))?;
        let relu1 = b.relu("relu1");
        let mut all = Vec::with_capacity(3 * blocks);
        let mut inputs = 16;
        for (stage, outputs) in [(1, 16), (2, 32), (3, 64)] {
            for block in 0..blocks {
                let (stride, shortcut) = match block == 0 && stage > 1 {
                    true => (2, Shortcut::Subsample { outputs }),
                    false => (1, Shortcut::Identity),
                };
                let name = format!("layer{stage}.{block}");
                let layers = basic(inputs, outputs, stride);
                all.push(b.pp(name, |b| Block::new(b, &layers, shortcut))?);
                inputs = outputs;
            }
        }
        Ok(Self { conv1, relu1, blocks: all, linear: b.linear("linear", 64, classes)? })
    }
}

impl Forward for CifarResNet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut xs = self.conv1.forward_relu(images, None, &self.relu1)?; // [N, 16, 32, 32]
        for block in &self.blocks {
            xs = block.forward(&xs)?; // … [N, 32, 16, 16] … [N, 64, 8, 8]
        }
        self.linear.forward(&global_average(&xs)?) // [N, 64] → [N, classes]
    }
}

/// What the blocks of a [`ResNet`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3 and 1×1 convolutions, the last one to four times as many channels.
    Bottleneck,
}

/// A ResNet for images of about 224×224.
pub struct ResNet {
    conv1: Conv2d,
    relu: Relu,
    maxpool: MaxPool,
    blocks: Vec<Block>,
    fc: Linear,
}

impl ResNet {
    /// With so many blocks in each of the four stages.
    ///
    /// # Errors
    /// The builder's.
    pub fn new(b: &NetBuilder, kind: BlockKind, blocks: [usize; 4], classes: usize) -> Result<Self> {
        let conv1 = b.conv_bn("conv1", "bn1", ConvSpec::same(3, 64, 7).with_stride(2))?;
        let relu = b.relu("relu");
        let maxpool = b.max_pool("maxpool", PoolSpec::new(3, 2, 1)?);
        let mut all = Vec::with_capacity(blocks.iter().sum());
        let mut inputs = 64;
        for (stage, blocks) in (1..).zip(blocks) {
            let width = 32 << stage;
            for block in 0..blocks {
                let stride = if block == 0 && stage > 1 { 2 } else { 1 };
                let (layers, outputs) = match kind {
                    BlockKind::Basic => (basic(inputs, width, stride), width),
                    BlockKind::Bottleneck => (bottleneck(inputs, width, stride), 4 * width),
                };
                let block = b.pp(format!("layer{stage}.{block}"), |b| -> Result<_> {
                    let shortcut = match inputs == outputs {
                        true => Shortcut::Identity,
                        false => Shortcut::Projection({
                            let spec = ConvSpec::same(inputs, outputs, 1).with_stride(stride);
                            b.conv_bn("downsample.0", "downsample.1", spec)?
                        }),
                    };
                    Block::new(b, &layers, shortcut)
                })?;
                all.push(block);
                inputs = outputs;
            }
        }
        Ok(Self { conv1, relu, maxpool, blocks: all, fc: b.linear("fc", inputs, classes)? })
    }
}

impl Forward for ResNet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let xs = self.conv1.forward_relu(images, None, &self.relu)?; // [N, 64, 112, 112]
        let mut xs = self.maxpool.forward(&xs)?; // [N, 64, 56, 56]
        for block in &self.blocks {
            xs = block.forward(&xs)?; // … [N, 512 (2048), 7, 7]
        }
        self.fc.forward(&global_average(&xs)?) // [N, classes]
    }
}

/// The convolutions of a basic block.
fn basic(inputs: usize, outputs: usize, stride: usize) -> Vec<ConvSpec> {
    vec![ConvSpec::same(inputs, outputs, 3).with_stride(stride), ConvSpec::same(outputs, outputs, 3)]
}

/// The convolutions of a bottleneck with `width` channels inside.
fn bottleneck(inputs: usize, width: usize, stride: usize) -> Vec<ConvSpec> {
    vec![
        ConvSpec::same(inputs, width, 1),
        ConvSpec::same(width, width, 3).with_stride(stride),
        ConvSpec::same(width, 4 * width, 1),
    ]
}

/// Convolutions with a ReLU behind each; the last one's sum and the shortcut go through the last ReLU.
struct Block {
    inner: Vec<(Conv2d, Relu)>,
    last: (Conv2d, Relu),
    shortcut: Shortcut,
}

impl Block {
    fn new(b: &NetBuilder, specs: &[ConvSpec], shortcut: Shortcut) -> Result<Self> {
        let layer = |(i, spec): (usize, &ConvSpec)| -> Result<_> {
            Ok((b.conv_bn(format!("conv{i}"), format!("bn{i}"), *spec)?, b.relu(format!("relu{i}"))))
        };
        let mut inner: Vec<_> = (1..).zip(specs).map(layer).collect::<Result<_>>()?;
        let last = inner.pop().expect("a block has convolutions");
        Ok(Self { inner, last, shortcut })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut ys = xs.clone();
        for (conv, relu) in &self.inner {
            ys = conv.forward_relu(&ys, None, relu)?;
        }
        let (conv, relu) = &self.last;
        conv.forward_relu(&ys, Some(&self.shortcut.forward(xs)?), relu)
    }
}

enum Shortcut {
    Identity,
    /// Every second row and column, and as many zero channels on both sides as it takes (option A).
    Subsample {
        outputs: usize,
    },
    /// A 1×1 convolution (option B).
    Projection(Conv2d),
}

impl Shortcut {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(xs.clone()),
            Self::Projection(conv) => conv.forward(xs),
            Self::Subsample { outputs } => subsampled(xs, *outputs),
        }
    }
}
