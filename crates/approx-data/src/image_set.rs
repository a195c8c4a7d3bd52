//! 8-bit images and their labels.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::preprocess::Normalization;
use crate::source::{ImageSource, RawBatch};

/// Channels of an image: red, green, blue.
pub const CHANNELS: usize = 3;

/// Labelled images of one size, 8 bits a channel, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    pixels: Vec<u8>,
    labels: Vec<u16>,
    height: usize,
    width: usize,
    classes: usize,
}

impl ImageSet {
    /// Images from their pixels, `[N, 3, height, width]` in row-major order.
    ///
    /// # Panics
    /// If the lengths do not fit together, or a label is `classes` or more.
    pub fn new(pixels: Vec<u8>, labels: Vec<u16>, (height, width): (usize, usize), classes: usize) -> Self {
        assert_eq!(pixels.len(), labels.len() * CHANNELS * height * width, "pixels and labels do not fit");
        assert!(labels.iter().all(|&label| usize::from(label) < classes), "a label is out of range");
        Self { pixels, labels, height, width, classes }
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// How many classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of each image.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The pixels of image `index`: `[3, height, width]` in row-major order.
    pub fn image(&self, index: usize) -> &[u8] {
        self.pixels_of(index..index + 1)
    }

    fn pixels_of(&self, range: Range<usize>) -> &[u8] {
        let size = CHANNELS * self.height * self.width;
        &self.pixels[range.start * size..range.end * size]
    }

    /// The same without all images but the first `limit`.
    #[must_use]
    pub fn truncated(mut self, limit: usize) -> Self {
        let limit = limit.min(self.len());
        self.labels.truncate(limit);
        self.pixels.truncate(limit * CHANNELS * self.height * self.width);
        self
    }

    /// These images, normalised.
    ///
    /// # Shapes
    /// The result: `[range.len(), 3, height, width]`, float32.
    ///
    /// # Errors
    /// candle's, where the tensor does not fit on the device.
    ///
    /// # Panics
    /// If the range goes beyond the last image.
    pub fn batch(
        &self,
        range: Range<usize>,
        normalization: &Normalization,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let shape = (range.len(), CHANNELS, self.height, self.width);
        let values = normalization.apply(self.pixels_of(range), self.height * self.width);
        Tensor::from_vec(values, shape, device)
    }
}

impl ImageSource for ImageSet {
    fn len(&self) -> usize {
        self.len()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    fn load(&self, range: Range<usize>) -> Result<RawBatch> {
        let labels = self.labels[range.clone()].to_vec();
        Ok(RawBatch { pixels: self.pixels_of(range).to_vec(), labels, skipped: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_image_once() {
        let set = ImageSet::new(vec![0; 10 * 12], vec![0; 10], (2, 2), 1);
        assert_eq!(set.batches(4), [0..4, 4..8, 8..10]);
        assert_eq!(set.clone().truncated(3).batches(4), std::slice::from_ref(&(0..3)));
        assert!(set.truncated(0).batches(4).is_empty());
    }

    #[test]
    fn each_channel_has_its_own_normalisation() {
        let set = ImageSet::new(vec![0, 255, 51], vec![0], (1, 1), 1);
        let normalization = Normalization { mean: [0.5, 0.5, 0.2], std: [0.5, 0.25, 1.0] };
        let values: Vec<f32> =
            set.batch(0..1, &normalization, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values, [-1.0, 2.0, 0.0]);
    }
}
