//! 1,000 images in CIFAR-10's shape and a network for them, embedded in the program: no download needed.
//!
//! Pictures of emoji on coloured gradients; datasets/demo/README.md and weights/demo/README.md tell whose they are.

use std::path::Path;

use crate::cifar::{SHAPE, parse_records};
use crate::image_set::ImageSet;

/// The records of CIFAR-10's binary version.
const RECORDS: &[u8] = include_bytes!("../../../datasets/demo/test_batch_1000.bin");

/// The weights of a ResNet-20 for these classes: a safetensors file with the tensor names of the reference.
pub const RESNET20: &[u8] = include_bytes!("../../../weights/demo/resnet20.safetensors");

/// The classes, by label.
pub const CLASSES: [&str; 10] =
    ["smiley", "person", "hand", "animal", "food", "travel", "activity", "object", "symbol", "flag"];

/// The images.
pub fn images() -> ImageSet {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    parse_records(RECORDS, Path::new("the embedded demo"), 1, CLASSES.len(), &mut pixels, &mut labels)
        .expect("the embedded file is well formed");
    ImageSet::new(pixels, labels, SHAPE, CLASSES.len())
}
