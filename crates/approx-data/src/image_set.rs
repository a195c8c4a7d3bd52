//! 8-bit images and their labels.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::preprocess::Normalization;

/// Channels of an image: red, green, blue.
pub const CHANNELS: usize = 3;

/// Labelled images of one size, 8 bits a channel, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    height: usize,
    width: usize,
    classes: usize,
}

impl ImageSet {
    /// Images from their pixels, `[N, 3, height, width]` in row-major order.
    ///
    /// # Panics
    /// If the lengths do not fit together, or a label is `classes` or more.
    pub fn new(pixels: Vec<u8>, labels: Vec<u8>, (height, width): (usize, usize), classes: usize) -> Self {
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
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The pixels of image `index`: `[3, height, width]` in row-major order.
    pub fn image(&self, index: usize) -> &[u8] {
        let size = CHANNELS * self.height * self.width;
        &self.pixels[index * size..(index + 1) * size]
    }

    /// The same without all images but the first `limit`.
    #[must_use]
    pub fn truncated(mut self, limit: usize) -> Self {
        let limit = limit.min(self.len());
        self.labels.truncate(limit);
        self.pixels.truncate(limit * CHANNELS * self.height * self.width);
        self
    }

    /// The index ranges of consecutive batches of `size` images; the last one may be smaller.
    ///
    /// # Panics
    /// If `size` is 0.
    pub fn batches(&self, size: usize) -> impl ExactSizeIterator<Item = Range<usize>> + use<> {
        assert!(size > 0, "a batch has at least one image");
        let len = self.len();
        (0..len.div_ceil(size)).map(move |i| i * size..((i + 1) * size).min(len))
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
        let tables: [[f32; 256]; CHANNELS] = std::array::from_fn(|channel| normalization.table(channel));
        let shape = (range.len(), CHANNELS, self.height, self.width);
        let mut values = Vec::with_capacity(range.len() * CHANNELS * self.height * self.width);
        for index in range {
            for (plane, table) in self.image(index).chunks(self.height * self.width).zip(&tables) {
                values.extend(plane.iter().map(|&p| table[usize::from(p)]));
            }
        }
        Tensor::from_vec(values, shape, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_image_once() {
        let set = ImageSet::new(vec![0; 10 * 12], vec![0; 10], (2, 2), 1);
        let ranges: Vec<_> = set.batches(4).collect();
        assert_eq!(ranges, [0..4, 4..8, 8..10]);
        assert_eq!(set.truncated(3).batches(4).collect::<Vec<_>>(), std::slice::from_ref(&(0..3)));
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
