//! Labelled images, read with checks and handed out in normalised batches.
//!
//! | module | what |
//! |---|---|
//! | [`source`] | [`ImageSource`]: images by range, wherever they are kept |
//! | [`image_set`] | [`ImageSet`]: 8-bit images and their labels in memory |
//! | [`cifar10`], [`cifar100`] | from their binary files or the Hugging Face parquet layout |
//! | [`mnist`], [`fashion_mnist`] | from their IDX files, which [`idx`] reads |
//! | `candle_datasets` | from what the crate candle-datasets has loaded; with the feature of this name |
//! | [`demo`] | 1,000 embedded images in CIFAR-10's shape |
//! | [`imagenet`] | ImageNet's images from folders or the Hugging Face parquet layout |
//! | [`image_folder`] | one's own pictures in class folders |
//! | [`image_files`], [`image_shards`] | pictures that are decoded when asked for |
//! | [`epoch`], [`augment`] | [`Epoch`]: a training set shuffled and varied, as its seed says |
//! | [`random`] | random numbers without a state to keep |
//! | [`preprocess`] | [`Preprocess`]: pictures to one size; [`Normalization`]: to what networks take |
//! | [`batches`] | [`prefetch`]: the next batch is made while this one is used |
//!
//! ```
//! use approx_data::{Normalization, demo};
//! use candle_core::Device;
//!
//! let images = demo::images();
//! let batch = images.batch(0..8, &Normalization::CIFAR10, &Device::Cpu)?;
//! assert_eq!(batch.dims(), [8, 3, 32, 32]);
//! assert_eq!(images.labels()[..3], [4, 0, 5]);
//! # Ok::<(), candle_core::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod augment;
pub mod batches;
#[cfg(feature = "candle-datasets")]
pub mod candle_datasets;
mod cifar;
pub mod cifar10;
pub mod cifar100;
mod contained;
mod decode;
pub mod demo;
pub mod epoch;
pub mod error;
pub mod fashion_mnist;
mod folders;
pub mod idx;
pub mod image_files;
pub mod image_folder;
pub mod image_set;
pub mod image_shards;
pub mod imagenet;
pub mod mnist;
pub mod preprocess;
pub mod random;
mod resize;
pub mod source;
mod tensors;

pub use augment::Augmentation;
pub use batches::{Batch, prefetch};
pub use epoch::{Epoch, EpochOptions};
pub use error::{DataError, Result};
pub use image_files::ImageFiles;
pub use image_set::ImageSet;
pub use image_shards::ImageShards;
pub use imagenet::ImageNet;
pub use preprocess::{Normalization, Preprocess};
pub use source::{First, ImageSource, OnCorrupt, RawBatch, Skipped, Split};
