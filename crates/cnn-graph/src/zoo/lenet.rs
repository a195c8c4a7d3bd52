//! LeNet-5 (LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of
//! the IEEE 86(11), 1998, section II.B), as it is taught and taken for encrypted inference today: ReLU in place of tanh,
//! max-pooling in place of averages with weights, every map connected with every other, and linear layers to the logits.

use crate::builder::GraphBuilder;
use crate::graph::ValueId;
use crate::ops::{Conv, Pool};

/// For images of 28×28 pixels, which the first convolution pads to the paper's 32×32.
pub fn lenet5(b: &mut GraphBuilder, classes: usize) -> ValueId {
    let x = b.input(); // [1, 28, 28]
    let x = b.conv("conv1", x, Conv::same(6, 5).with_bias());
    let x = b.relu("relu1", x); // [6, 28, 28]
    let x = b.max_pool("maxpool1", x, Pool::square(2, 2)); // [6, 14, 14]
    let x = b.conv("conv2", x, Conv::new(16, [5, 5]).with_bias());
    let x = b.relu("relu2", x); // [16, 10, 10]
    let x = b.max_pool("maxpool2", x, Pool::square(2, 2)); // [16, 5, 5]
    let x = b.flatten(x); // [400]
    let x = b.linear("fc1", x, 120);
    let x = b.relu("relu3", x);
    let x = b.linear("fc2", x, 84);
    let x = b.relu("relu4", x);
    b.linear("fc3", x, classes)
}
