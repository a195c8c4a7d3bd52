//! ResNets for CIFAR-10: three stages of basic blocks with 16, 32 and 64 channels (He et al., "Deep Residual
//! Learning for Image Recognition", arXiv 1512.03385, section 4.2), as the reference has them: parameter-free
//! shortcuts ("option A").

use candle_core::Tensor;

use crate::builder::NetBuilder;
use crate::error::Result;
use crate::layers::{Conv2d, ConvSpec, Linear, Relu};
use crate::network::Forward;

/// A ResNet of `6 n + 2` layers for 32×32 images.
pub struct CifarResNet {
    conv1: Conv2d,
    relu1: Relu,
    blocks: Vec<BasicBlock>,
    linear: Linear,
}

impl CifarResNet {
    /// With `blocks` basic blocks a stage: 3 for ResNet-20, 18 for ResNet-110.
    ///
    /// # Errors
    /// The builder's.
    pub fn new(b: &NetBuilder, blocks: usize, classes: usize) -> Result<Self> {
        let conv1 = b.conv_bn("conv1", "bn1", ConvSpec::three_by_three(3, 16))?;
        let relu1 = b.relu("relu1")?;
        let mut all = Vec::with_capacity(3 * blocks);
        let mut inputs = 16;
        for (stage, outputs) in [(1, 16), (2, 32), (3, 64)] {
            for block in 0..blocks {
                let stride = if block == 0 && stage > 1 { 2 } else { 1 };
                let name = format!("layer{stage}.{block}");
                all.push(b.pp(name, |b| BasicBlock::new(b, inputs, outputs, stride))?);
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
        self.linear.forward(&xs.mean((2, 3))?) // [N, 64] → [N, classes]
    }
}

struct BasicBlock {
    conv1: Conv2d,
    relu1: Relu,
    conv2: Conv2d,
    relu2: Relu,
    shortcut: Shortcut,
}

impl BasicBlock {
    fn new(b: &NetBuilder, inputs: usize, outputs: usize, stride: usize) -> Result<Self> {
        let first = ConvSpec::three_by_three(inputs, outputs).with_stride(stride);
        Ok(Self {
            conv1: b.conv_bn("conv1", "bn1", first)?,
            relu1: b.relu("relu1")?,
            conv2: b.conv_bn("conv2", "bn2", ConvSpec::three_by_three(outputs, outputs))?,
            relu2: b.relu("relu2")?,
            shortcut: if stride == 1 { Shortcut::Identity } else { Shortcut::Subsample { outputs } },
        })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = self.conv1.forward_relu(xs, None, &self.relu1)?;
        self.conv2.forward_relu(&ys, Some(&self.shortcut.forward(xs)?), &self.relu2)
    }
}

enum Shortcut {
    Identity,
    /// Every second row and column, and as many zero channels on both sides as it takes (option A).
    Subsample {
        outputs: usize,
    },
}

impl Shortcut {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Identity => Ok(xs.clone()),
            Self::Subsample { outputs } => {
                let (_, channels, height, width) = xs.dims4()?;
                let every_second = |size: usize| Tensor::arange_step(0u32, size as u32, 2, xs.device());
                let zeros = outputs - channels;
                // On [N, H, W, C], as convolutions give it.
                xs.permute((0, 2, 3, 1))?
                    .contiguous()?
                    .index_select(&every_second(height)?, 1)?
                    .index_select(&every_second(width)?, 2)?
                    .pad_with_zeros(3, zeros / 2, zeros - zeros / 2)?
                    .permute((0, 3, 1, 2))
            }
        }
    }
}
