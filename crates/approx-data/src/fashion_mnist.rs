//! Fashion-MNIST (H. Xiao, K. Rasul and R. Vollgraf, arXiv 1708.07747, 2017): ten kinds of clothes in grey images of 28×28
//! pixels, 60,000 for training and 10,000 for testing.
//!
//! Its files have the names and the format of [`mnist`](crate::mnist)'s. They lie in the folder itself, in its `raw`, or in
//! its `FashionMNIST/raw`, where torchvision puts them.

use std::path::Path;

use crate::error::Result;
use crate::image_set::ImageSet;
use crate::mnist::Dataset;
use crate::source::Split;

/// Channels, height and width.
pub const SHAPE: [usize; 3] = crate::mnist::SHAPE;
/// How many classes.
pub const CLASSES: usize = crate::mnist::CLASSES;

/// Reads a split from `folder`. How many images the files hold is for them to say.
///
/// # Errors
/// [`DataError`](crate::DataError): as [`mnist::load`](crate::mnist::load).
pub fn load(folder: impl AsRef<Path>, split: Split) -> Result<ImageSet> {
    let other = ("MNIST", "; what is here is MNIST");
    Dataset { name: "Fashion-MNIST", folder: "FashionMNIST", other }.load(folder.as_ref(), split)
}
