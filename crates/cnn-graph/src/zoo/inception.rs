//! Inception-v3 (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", arXiv 1512.00567, table 1),
//! as torchvision has it.

use std::fmt::Display;

use crate::builder::GraphBuilder;
use crate::graph::ValueId;
use crate::ops::window::Padding;
use crate::ops::{AvgPool, Conv, Pool};

/// What these networks' batch norm adds to the variance.
const EPS: f64 = 1e-3;

/// An Inception-v3 for images of about 299×299, without its auxiliary head.
pub fn inception_v3(b: &mut GraphBuilder, classes: usize) -> ValueId {
    b.ignore("AuxLogits");
    let plain = |outputs, kernel: usize| Conv::new(outputs, [kernel; 2]);
    let x = b.input(); // [3, 299, 299]
    let x = rescale(b, x);
    let x = conv_relu(b, "Conv2d_1a_3x3", x, plain(32, 3).with_stride(2)); // [32, 149, 149]
    let x = conv_relu(b, "Conv2d_2a_3x3", x, plain(32, 3)); // [32, 147, 147]
    let x = conv_relu(b, "Conv2d_2b_3x3", x, Conv::same(64, 3)); // [64, 147, 147]
    let x = b.max_pool("maxpool1", x, Pool::square(3, 2)); // [64, 73, 73]
    let x = conv_relu(b, "Conv2d_3b_1x1", x, plain(80, 1)); // [80, 73, 73]
    let x = conv_relu(b, "Conv2d_4a_3x3", x, plain(192, 3)); // [192, 71, 71]
    let x = b.max_pool("maxpool2", x, Pool::square(3, 2)); // [192, 35, 35]
    let x = b.scope("Mixed_5b", |b| module_a(b, x, 32)); // 256 channels
    let x = b.scope("Mixed_5c", |b| module_a(b, x, 64)); // 288
    let x = b.scope("Mixed_5d", |b| module_a(b, x, 64));
    let x = b.scope("Mixed_6a", |b| module_b(b, x)); // [768, 17, 17]
    let x = b.scope("Mixed_6b", |b| module_c(b, x, 128));
    let x = b.scope("Mixed_6c", |b| module_c(b, x, 160));
    let x = b.scope("Mixed_6d", |b| module_c(b, x, 160));
    let x = b.scope("Mixed_6e", |b| module_c(b, x, 192));
    let x = b.scope("Mixed_7a", |b| module_d(b, x)); // [1280, 8, 8]
    let x = b.scope("Mixed_7b", |b| module_e(b, x)); // [2048, 8, 8]
    let x = b.scope("Mixed_7c", |b| module_e(b, x));
    let x = b.global_avg_pool(x);
    let x = b.flatten(x);
    b.linear("fc", x, classes)
}

/// From images normalised by ImageNet's mean and standard deviation to a range of -1 to 1, with which these networks were
/// trained: torchvision's `transform_input`.
pub(crate) fn rescale(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
    const STD: [f64; 3] = [0.229, 0.224, 0.225];
    let scale = STD.map(|std| std / 0.5).to_vec();
    let shift = MEAN.map(|mean| (mean - 0.5) / 0.5).to_vec();
    b.affine("transform_input", x, scale, shift)
}

/// A convolution without bias, batch norm and ReLU, under one name.
pub(crate) fn conv_relu(b: &mut GraphBuilder, name: impl Display, x: ValueId, conv: Conv) -> ValueId {
    b.scope(name, |b| {
        let x = b.conv_bn("conv", "bn", x, conv, EPS);
        b.relu("relu", x)
    })
}

/// How a convolution goes over the image.
#[derive(Clone, Copy)]
enum Kernel {
    /// Height and width, padded so that the image keeps its size.
    Same(usize, usize),
    /// 3×3 with stride 2, without padding.
    Halve,
}

use Kernel::{Halve, Same};

/// A convolution's name, output channels and kernel.
type Row = (&'static str, usize, Kernel);

/// Convolutions one after the other.
fn convs(b: &mut GraphBuilder, x: ValueId, rows: &[Row]) -> ValueId {
    rows.iter().fold(x, |x, &(name, outputs, kernel)| {
        let conv = match kernel {
            Same(height, width) => Conv::new(outputs, [height, width]).with_padding(height / 2, width / 2),
            Halve => Conv::new(outputs, [3, 3]).with_stride(2),
        };
        conv_relu(b, name, x, conv)
    })
}

/// The same, and then two that both take the last one's output, joined.
fn forked(b: &mut GraphBuilder, x: ValueId, rows: &[Row], fork: [Row; 2]) -> ValueId {
    let x = convs(b, x, rows);
    let parts = fork.map(|row| convs(b, x, &[row]));
    b.concat(&parts)
}

/// The mean of each 3×3 window, then a 1×1 convolution.
fn average(b: &mut GraphBuilder, x: ValueId, outputs: usize) -> ValueId {
    let window = Pool { padding: Padding::symmetric(1, 1), ..Pool::square(3, 1) };
    let x = b.unnamed("avgpool", AvgPool { window, count_padding: true }, &[x]);
    convs(b, x, &[("branch_pool", outputs, Same(1, 1))])
}

/// A max-pooling that halves the image.
fn max_pool(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    b.max_pool("branch_pool", x, Pool::square(3, 2))
}

/// Figure 5 of the paper, on 35×35 pixels.
fn module_a(b: &mut GraphBuilder, x: ValueId, pooled: usize) -> ValueId {
    let parts = [
        convs(b, x, &[("branch1x1", 64, Same(1, 1))]),
        convs(b, x, &[("branch5x5_1", 48, Same(1, 1)), ("branch5x5_2", 64, Same(5, 5))]),
        convs(
            b,
            x,
            &[
                ("branch3x3dbl_1", 64, Same(1, 1)),
                ("branch3x3dbl_2", 96, Same(3, 3)),
                ("branch3x3dbl_3", 96, Same(3, 3)),
            ],
        ),
        average(b, x, pooled),
    ];
    b.concat(&parts)
}

/// From 35×35 to 17×17 pixels.
fn module_b(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let parts = [
        convs(b, x, &[("branch3x3", 384, Halve)]),
        convs(
            b,
            x,
            &[
                ("branch3x3dbl_1", 64, Same(1, 1)),
                ("branch3x3dbl_2", 96, Same(3, 3)),
                ("branch3x3dbl_3", 96, Halve),
            ],
        ),
        max_pool(b, x),
    ];
    b.concat(&parts)
}

/// Figure 6, on 17×17 pixels, with `width` channels inside.
fn module_c(b: &mut GraphBuilder, x: ValueId, width: usize) -> ValueId {
    let parts = [
        convs(b, x, &[("branch1x1", 192, Same(1, 1))]),
        convs(
            b,
            x,
            &[
                ("branch7x7_1", width, Same(1, 1)),
                ("branch7x7_2", width, Same(1, 7)),
                ("branch7x7_3", 192, Same(7, 1)),
            ],
        ),
        convs(
            b,
            x,
            &[
                ("branch7x7dbl_1", width, Same(1, 1)),
                ("branch7x7dbl_2", width, Same(7, 1)),
                ("branch7x7dbl_3", width, Same(1, 7)),
                ("branch7x7dbl_4", width, Same(7, 1)),
                ("branch7x7dbl_5", 192, Same(1, 7)),
            ],
        ),
        average(b, x, 192),
    ];
    b.concat(&parts)
}

/// From 17×17 to 8×8 pixels.
fn module_d(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let parts = [
        convs(b, x, &[("branch3x3_1", 192, Same(1, 1)), ("branch3x3_2", 320, Halve)]),
        convs(
            b,
            x,
            &[
                ("branch7x7x3_1", 192, Same(1, 1)),
                ("branch7x7x3_2", 192, Same(1, 7)),
                ("branch7x7x3_3", 192, Same(7, 1)),
                ("branch7x7x3_4", 192, Halve),
            ],
        ),
        max_pool(b, x),
    ];
    b.concat(&parts)
}

/// Figure 7, on 8×8 pixels.
fn module_e(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    let parts = [
        convs(b, x, &[("branch1x1", 320, Same(1, 1))]),
        forked(
            b,
            x,
            &[("branch3x3_1", 384, Same(1, 1))],
            [("branch3x3_2a", 384, Same(1, 3)), ("branch3x3_2b", 384, Same(3, 1))],
        ),
        forked(
            b,
            x,
            &[("branch3x3dbl_1", 448, Same(1, 1)), ("branch3x3dbl_2", 384, Same(3, 3))],
            [("branch3x3dbl_3a", 384, Same(1, 3)), ("branch3x3dbl_3b", 384, Same(3, 1))],
        ),
        average(b, x, 192),
    ];
    b.concat(&parts)
}
