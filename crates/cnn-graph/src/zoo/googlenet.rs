//! GoogLeNet (Szegedy et al., "Going Deeper with Convolutions", arXiv 1409.4842, table 1), as torchvision has it:
//! batch norm behind each convolution, max-pooling in ceil mode, and 3×3 convolutions where the paper has 5×5.

use crate::builder::GraphBuilder;
use crate::graph::ValueId;
use crate::ops::{Conv, Pool};
use crate::zoo::inception::{conv_relu, rescale};

/// A line of the paper's table: the module's name, and the channels of the 1×1 convolution, of the reduction and the
/// convolution of the second and the third branch, and of the one behind the pooling.
type Row = (&'static str, usize, [usize; 2], [usize; 2], usize);

#[rustfmt::skip]
const STAGES: [&[Row]; 3] = [
    &[
        ("inception3a",  64, [ 96, 128], [16,  32],  32),
        ("inception3b", 128, [128, 192], [32,  96],  64),
    ],
    &[
        ("inception4a", 192, [ 96, 208], [16,  48],  64),
        ("inception4b", 160, [112, 224], [24,  64],  64),
        ("inception4c", 128, [128, 256], [24,  64],  64),
        ("inception4d", 112, [144, 288], [32,  64],  64),
        ("inception4e", 256, [160, 320], [32, 128], 128),
    ],
    &[
        ("inception5a", 256, [160, 320], [32, 128], 128),
        ("inception5b", 384, [192, 384], [48, 128], 128),
    ],
];

/// A GoogLeNet for images of about 224×224, without its auxiliary heads.
pub fn googlenet(b: &mut GraphBuilder, classes: usize) -> ValueId {
    b.ignore("aux1");
    b.ignore("aux2");
    let window = |kernel| Pool::square(kernel, 2).with_ceil_mode(true);
    let x = b.input(); // [3, 224, 224]
    let x = rescale(b, x);
    let x = conv_relu(b, "conv1", x, Conv::same(64, 7).with_stride(2)); // [64, 112, 112]
    let x = b.max_pool("maxpool1", x, window(3)); // [64, 56, 56]
    let x = conv_relu(b, "conv2", x, Conv::same(64, 1));
    let x = conv_relu(b, "conv3", x, Conv::same(192, 3)); // [192, 56, 56]
    let mut x = b.max_pool("maxpool2", x, window(3)); // [192, 28, 28]
    for (rows, end) in STAGES.iter().zip([Some(("maxpool3", 3)), Some(("maxpool4", 2)), None]) {
        for row in *rows {
            x = b.scope(row.0, |b| module(b, x, row)); // … 480 … 832 … 1024 channels
        }
        if let Some((name, kernel)) = end {
            x = b.max_pool(name, x, window(kernel)); // [480, 14, 14], [832, 7, 7]
        }
    }
    let x = b.global_avg_pool(x);
    let x = b.flatten(x); // [1024]
    b.linear("fc", x, classes)
}

/// An inception module: four branches, joined.
fn module(b: &mut GraphBuilder, x: ValueId, row: &Row) -> ValueId {
    let (_, one, two, three, four) = *row;
    let branch1 = conv_relu(b, "branch1", x, Conv::same(one, 1));
    let [branch2, branch3] = [("branch2", two), ("branch3", three)].map(|(name, [reduction, outputs])| {
        b.scope(name, |b| {
            let x = conv_relu(b, 0, x, Conv::same(reduction, 1));
            conv_relu(b, 1, x, Conv::same(outputs, 3))
        })
    });
    let branch4 = b.scope("branch4", |b| {
        let x = b.max_pool(0, x, Pool::square(3, 1).with_padding(1).with_ceil_mode(true));
        conv_relu(b, 1, x, Conv::same(four, 1))
    });
    b.concat(&[branch1, branch2, branch3, branch4])
}
