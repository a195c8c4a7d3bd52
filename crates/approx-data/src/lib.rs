//! Labelled images, read with checks and handed out in normalised batches.
//!
//! | module | what |
//! |---|---|
//! | [`image_set`] | [`ImageSet`]: 8-bit images and their labels |
//! | [`cifar10`] | CIFAR-10 from its binary files or the Hugging Face parquet layout |
//! | [`demo`] | 1,000 embedded images in CIFAR-10's shape |
//! | [`preprocess`] | [`Normalization`]: from 8-bit to what networks take |
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

pub mod cifar10;
pub mod demo;
pub mod error;
pub mod image_set;
pub mod preprocess;

pub use error::{DataError, Result};
pub use image_set::ImageSet;
pub use preprocess::Normalization;
