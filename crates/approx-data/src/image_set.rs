//! 8-bit images and their labels.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::preprocess::Normalization;
use crate::source::{ImageSource, RawBatch};

/// Channels of a colour picture: red, green, blue.
pub(crate) const RGB: usize = 3;

/// Labelled images of one shape, 8 bits a channel, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    pixels: Vec<u8>,
    labels: Vec<u16>,
    /// Channels, height and width.
    shape: [usize; 3],
    classes: usize,
}

impl ImageSet {
    /// Images of `shape`, which is `[channels, height, width]`, from their pixels: `[N, channels, height, width]` in
    /// row-major order.
    ///
    /// # Panics
    /// If the lengths do not fit together, or a label is `classes` or more.
    pub fn new(pixels: Vec<u8>, labels: Vec<u16>, shape: [usize; 3], classes: usize) -> Self {
        let pixels_of_all = labels.len() * shape.iter().product::<usize>();
        assert_eq!(pixels.len(), pixels_of_all, "pixels and labels do not fit");
        assert!(labels.iter().all(|&label| usize::from(label) < classes), "a label is out of range");
        Self { pixels, labels, shape, classes }
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

    /// The pixels of image `index`: `[channels, height, width]` in row-major order.
    pub fn image(&self, index: usize) -> &[u8] {
        self.pixels_of(index..index + 1)
    }

    fn pixels_of(&self, range: Range<usize>) -> &[u8] {
        let size = self.image_len();
        &self.pixels[range.start * size..range.end * size]
    }

    /// Bytes of an image.
    fn image_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same without all images but the first `limit`.
    #[must_use]
    pub fn truncated(mut self, limit: usize) -> Self {
        let limit = limit.min(self.len());
        self.labels.truncate(limit);
        self.pixels.truncate(limit * self.image_len());
        self
    }

    /// These images, normalised.
    ///
    /// # Shapes
    /// The result: `[range.len(), channels, height, width]`, float32.
    ///
    /// # Errors
    /// candle's, where the tensor does not fit on the device.
    ///
    /// # Panics
    /// If the range goes beyond the last image, or `normalization` is for another number of channels.
    pub fn batch(
        &self,
        range: Range<usize>,
        normalization: &Normalization,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let [channels, height, width] = self.shape;
        let shape = (range.len(), channels, height, width);
        let values = normalization.apply(self.pixels_of(range), self.shape);
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

    fn shape(&self) -> [usize; 3] {
        self.shape
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
        let set = ImageSet::new(vec![0; 10 * 12], vec![0; 10], [3, 2, 2], 1);
        assert_eq!(set.batches(4), [0..4, 4..8, 8..10]);
        assert_eq!(set.clone().truncated(3).batches(4), std::slice::from_ref(&(0..3)));
        assert!(set.truncated(0).batches(4).is_empty());
    }

    #[test]
    fn each_channel_has_its_own_normalisation() {
        let values = |shape: [usize; 3], normalization: &Normalization| -> Vec<f32> {
            let set = ImageSet::new(vec![0, 255, 51], vec![0; 3 / shape[0]], shape, 1);
            let batch = set.batch(0..set.len(), normalization, &Device::Cpu).unwrap();
            assert_eq!(batch.dims(), [&[set.len()], &shape[..]].concat());
            batch.flatten_all().unwrap().to_vec1().unwrap()
        };
        let three = Normalization::new(vec![0.5, 0.5, 0.2], vec![0.5, 0.25, 1.0]);
        assert_eq!(values([3, 1, 1], &three), [-1.0, 2.0, 0.0]);
        let one = Normalization::new(vec![0.2], vec![0.5]);
        assert_eq!(values([1, 1, 1], &one), [-0.4, 1.6, 0.0]);
    }
}
