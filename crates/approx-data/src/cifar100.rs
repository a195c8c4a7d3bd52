//! CIFAR-100 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): a hundred classes of
//! 32×32 colour images, 50,000 for training and 10,000 for testing.
//!
//! Two layouts are read: the binary version's files (`train.bin`, `test.bin`: a byte with the coarse label, one with the
//! fine label, then 3,072 bytes of red, green and blue rows an image), and the parquet files of the Hugging Face Hub
//! (`img`: PNG bytes, `fine_label`: a number). The classes are the fine labels.

use std::path::Path;

use crate::cifar::{self, Layouts};
use crate::error::Result;
use crate::image_set::ImageSet;
use crate::source::Split;

/// Height and width.
pub const SIZE: usize = cifar::SIZE;
/// How many classes.
pub const CLASSES: usize = 100;

/// Reads a split from `folder`, in whichever layout is there.
///
/// # Errors
/// [`DataError`](crate::DataError): no such folder, no known file in it, a file of the wrong length, a label above 99,
/// an image that is not 32×32.
pub fn load(folder: impl AsRef<Path>, split: Split) -> Result<ImageSet> {
    const PICKLED: &str =
        "; what is here is CIFAR-100's Python version, which holds pickled objects and is not read";
    const CIFAR10: &str = "; what is here is CIFAR-10";
    let (binary, images, parquet) = match split {
        Split::Train => {
            ("train.bin", 50_000, ["cifar100/train/0000.parquet", "cifar100/train-00000-of-00001.parquet"])
        }
        Split::Test => {
            ("test.bin", 10_000, ["cifar100/test/0000.parquet", "cifar100/test-00000-of-00001.parquet"])
        }
    };
    let layouts = Layouts {
        name: "CIFAR-100",
        classes: CLASSES,
        label_bytes: 2,
        binary_folder: "cifar-100-binary",
        binary: &[binary],
        images,
        parquet: &parquet,
        label_column: "fine_label",
        hints: &[
            ("cifar-100-python", PICKLED),
            ("test_batch.bin", CIFAR10),
            ("cifar-10-batches-bin", CIFAR10),
            ("plain_text", CIFAR10),
        ],
    };
    layouts.load(folder.as_ref(), split)
}
