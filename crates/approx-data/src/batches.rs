//! Batches that are made while the one before is computed with.

use std::ops::{ControlFlow, Range};
use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;
use std::thread;

use candle_core::{Device, Tensor};

use crate::error::{DataError, Result};
use crate::preprocess::Normalization;
use crate::source::{ImageSource, RawBatch, Skipped};

/// Batches that wait to be taken. The loader holds one more, so it is at most two ahead.
const WAITING: usize = 1;

/// Normalised images with their labels.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[labels.len(), channels, height, width]`, float32; `None` if every image was skipped.
    pub images: Option<Tensor>,
    /// The class of each image.
    pub labels: Vec<u16>,
    /// What could not be decoded, in order.
    pub skipped: Vec<Skipped>,
}

/// Calls `consume(index, batch)` for each of `ranges` in order, while a thread of its own loads and normalises
/// the next ones and puts them on the device, at most two ahead.
///
/// Ends early, and the loader with it, when `consume` breaks, fails or panics.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use approx_data::{DataError, ImageSource, Normalization, demo, prefetch};
/// use candle_core::Device;
///
/// let images = demo::images();
/// let mut seen = 0;
/// prefetch(&images, &images.batches(300), &Normalization::CIFAR10, &Device::Cpu, |_index, batch| {
///     seen += batch.labels.len();
///     Ok::<_, DataError>(ControlFlow::Continue(()))
/// })?;
/// assert_eq!(seen, 1000);
/// # Ok::<(), DataError>(())
/// ```
///
/// # Errors
/// The first one in order: of loading a batch, in place of its call, or of `consume`.
///
/// # Panics
/// If `normalization` is for another number of channels than the images have.
pub fn prefetch<E: From<DataError>>(
    source: &dyn ImageSource,
    ranges: &[Range<usize>],
    normalization: &Normalization,
    device: &Device,
    mut consume: impl FnMut(usize, Batch) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let [channels, height, width] = source.shape();
    let load = |range: &Range<usize>| -> Result<Batch> {
        let RawBatch { pixels, labels, skipped } = source.load(range.clone())?;
        if labels.is_empty() {
            return Ok(Batch { images: None, labels, skipped });
        }
        let values = normalization.apply(&pixels, [channels, height, width]);
        let images = Tensor::from_vec(values, (labels.len(), channels, height, width), device)?;
        // Each thread has a stream of its own on a GPU: the consumer's must not read before this one has written.
        device.synchronize()?;
        Ok(Batch { images: Some(images), labels, skipped })
    };
    thread::scope(|scope| {
        // The receiver belongs to this closure: however it ends, the loader's next `send` fails.
        let (sender, receiver) = sync_channel(WAITING);
        let loader = scope.spawn(move || {
            for range in ranges {
                let loaded = load(range);
                let last = loaded.is_err();
                if sender.send(loaded).is_err() || last {
                    break;
                }
            }
        });
        for index in 0..ranges.len() {
            let Ok(batch) = receiver.recv() else {
                // Without an error it stops before the last batch only by a panic, which is passed on.
                resume_unwind(loader.join().expect_err("the loader gives every batch or an error"));
            };
            if consume(index, batch?)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}
