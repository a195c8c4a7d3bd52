//! Residual networks (He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385).
//!
//! [`cifar`] (section 4.2) is the reference's: three stages of basic blocks with 16, 32 and 64 channels and shortcuts
//! without parameters ("option A"). [`imagenet`] (table 1) is torchvision's: four stages, shortcuts by 1×1 convolution, and
//! the stride of a bottleneck at its 3×3 convolution.

use crate::builder::GraphBuilder;
use crate::graph::ValueId;
use crate::ops::{BatchNorm, Conv, Pad, Pool, Slice};

const EPS: f64 = BatchNorm::DEFAULT_EPS;

/// A ResNet of `6 n + 2` layers for 32×32 images, with `n` basic blocks a stage: 3 for ResNet-20, 18 for ResNet-110.
pub fn cifar(b: &mut GraphBuilder, blocks: usize, classes: usize) -> ValueId {
    let x = b.input(); // [3, 32, 32]
    let x = b.conv_bn("conv1", "bn1", x, Conv::same(16, 3), EPS);
    let mut x = b.relu("relu1", x); // [16, 32, 32]
    for (stage, outputs) in [(1, 16), (2, 32), (3, 64)] {
        for index in 0..blocks {
            let halves = index == 0 && stage > 1;
            let stride = if halves { 2 } else { 1 };
            x = b.scope(format!("layer{stage}.{index}"), |b| {
                let shortcut = if halves { subsample(b, x, outputs) } else { x };
                block(b, x, &basic(outputs, stride), shortcut)
            }); // … [32, 16, 16] … [64, 8, 8]
        }
    }
    let x = b.global_avg_pool(x);
    let x = b.flatten(x); // [64]
    b.linear("linear", x, classes)
}

/// What the blocks of an ImageNet ResNet are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3 and 1×1 convolutions, the last one to four times as many channels.
    Bottleneck,
}

/// A ResNet for images of about 224×224, with so many blocks in each of the four stages.
pub fn imagenet(b: &mut GraphBuilder, kind: BlockKind, blocks: [usize; 4], classes: usize) -> ValueId {
    let x = b.input(); // [3, 224, 224]
    let x = b.conv_bn("conv1", "bn1", x, Conv::same(64, 7).with_stride(2), EPS);
    let x = b.relu("relu", x); // [64, 112, 112]
    let mut x = b.max_pool("maxpool", x, Pool::square(3, 2).with_padding(1)); // [64, 56, 56]
    let mut inputs = 64;
    for (stage, blocks) in (1..).zip(blocks) {
        let width = 32 << stage;
        for index in 0..blocks {
            let stride = if index == 0 && stage > 1 { 2 } else { 1 };
            let (convs, outputs) = match kind {
                BlockKind::Basic => (basic(width, stride).to_vec(), width),
                BlockKind::Bottleneck => (bottleneck(width, stride).to_vec(), 4 * width),
            };
            x = b.scope(format!("layer{stage}.{index}"), |b| {
                let shortcut = match inputs == outputs {
                    true => x,
                    false => {
                        let conv = Conv::same(outputs, 1).with_stride(stride);
                        b.conv_bn("downsample.0", "downsample.1", x, conv, EPS)
                    }
                };
                block(b, x, &convs, shortcut)
            }); // … [512 (2048), 7, 7]
            inputs = outputs;
        }
    }
    let x = b.global_avg_pool(x);
    let x = b.flatten(x);
    b.linear("fc", x, classes)
}

/// The convolutions of a basic block.
fn basic(outputs: usize, stride: usize) -> [Conv; 2] {
    [Conv::same(outputs, 3).with_stride(stride), Conv::same(outputs, 3)]
}

/// The convolutions of a bottleneck with `width` channels inside.
fn bottleneck(width: usize, stride: usize) -> [Conv; 3] {
    [Conv::same(width, 1), Conv::same(width, 3).with_stride(stride), Conv::same(4 * width, 1)]
}

/// Convolutions with a ReLU behind each; the sum of the last one and the shortcut goes through the last ReLU.
fn block(b: &mut GraphBuilder, x: ValueId, convs: &[Conv], shortcut: ValueId) -> ValueId {
    let mut x = x;
    for (i, conv) in (1..).zip(convs) {
        x = b.conv_bn(format!("conv{i}"), format!("bn{i}"), x, *conv, EPS);
        if i == convs.len() {
            x = b.add(x, shortcut);
        }
        x = b.relu(format!("relu{i}"), x);
    }
    x
}

/// Every second row and column, and as many zero channels on both sides as it takes (option A).
fn subsample(b: &mut GraphBuilder, x: ValueId, outputs: usize) -> ValueId {
    let [channels, height, width] = b.shape(x).image().unwrap_or_default();
    let rows = Slice { axis: 1, start: 0, end: height, step: 2 };
    let columns = Slice { axis: 2, start: 0, end: width, step: 2 };
    let x = b.unnamed("shortcut.rows", rows, &[x]);
    let x = b.unnamed("shortcut.columns", columns, &[x]);
    let zeros = outputs.saturating_sub(channels);
    b.unnamed("shortcut.pad", Pad::channels(zeros / 2, zeros - zeros / 2), &[x])
}
