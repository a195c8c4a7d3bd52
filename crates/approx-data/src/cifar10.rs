//! CIFAR-10 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): ten classes of
//! 32×32 colour images, 50,000 for training and 10,000 for testing.
//!
//! Two layouts are read: the binary version's files (`test_batch.bin`, `data_batch_1.bin` to
//! `data_batch_5.bin`: one label byte, then 3,072 bytes of red, green and blue rows an image), and the parquet
//! files of the Hugging Face Hub (`img`: PNG bytes, `label`: a number).
//!
//! candle-datasets has loaders for both; docs/adr/0003-own-cifar10-loader.md says why they are not used.

use std::path::Path;

use crate::cifar::{self, Layouts};
use crate::error::Result;
use crate::image_set::ImageSet;
use crate::source::Split;

/// Height and width.
pub const SIZE: usize = cifar::SIZE;
/// How many classes.
pub const CLASSES: usize = 10;

/// Reads a split from `folder`, in whichever layout is there.
///
/// # Errors
/// [`DataError`](crate::DataError): no such folder, no known file in it, a file of the wrong length, a label above 9,
/// an image that is not 32×32.
pub fn load(folder: impl AsRef<Path>, split: Split) -> Result<ImageSet> {
    const PICKLED: &str =
        "; what is here is CIFAR-10's Python version, which holds pickled objects and is not read";
    const CIFAR100: &str = "; what is here is CIFAR-100";
    // The Hub's own conversion to parquet, and the repository's own files.
    let (binary, parquet): (&[_], [_; 2]) = match split {
        Split::Train => (
            &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            ["plain_text/train/0000.parquet", "plain_text/train-00000-of-00001.parquet"],
        ),
        Split::Test => {
            (&["test_batch.bin"], ["plain_text/test/0000.parquet", "plain_text/test-00000-of-00001.parquet"])
        }
    };
    let layouts = Layouts {
        name: "CIFAR-10",
        classes: CLASSES,
        label_bytes: 1,
        binary_folder: "cifar-10-batches-bin",
        binary,
        images: 10_000,
        parquet: &parquet,
        label_column: "label",
        hints: &[
            ("data_batch_1", PICKLED),
            ("cifar-10-batches-py/data_batch_1", PICKLED),
            ("test.bin", CIFAR100),
            ("cifar-100-binary", CIFAR100),
            ("cifar100", CIFAR100),
        ],
    };
    layouts.load(folder.as_ref(), split)
}
