//! One pass over the images of a training set.

use std::ops::Range;

use rand::seq::SliceRandom;

use crate::augment::Augmentation;
use crate::error::Result;
use crate::image_set::ImageSet;
use crate::random::stream;
use crate::source::{ImageSource, RawBatch};

/// How the images of an epoch differ from those of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochOptions {
    /// Decides all that is random.
    pub seed: u64,
    /// Whether each epoch has its own order.
    pub shuffle: bool,
    /// What is done to each image.
    pub augmentation: Augmentation,
}

/// The images of a set in the order of one epoch, each in a random variation of its own.
///
/// Order and variations follow from the seed, the number of the epoch and that of the image in the set, whichever
/// parts of the epoch are loaded, and in which batches.
///
/// ```
/// use approx_data::{Augmentation, Epoch, EpochOptions, ImageSource, demo};
///
/// let images = demo::images();
/// let options = EpochOptions { seed: 1, shuffle: true, augmentation: Augmentation::REFERENCE };
/// let epoch = Epoch::new(&images, 0, options);
/// assert_eq!(epoch.load(3..8)?, Epoch::new(&images, 0, options).load(3..8)?);
/// assert_ne!(epoch.load(3..8)?, Epoch::new(&images, 1, options).load(3..8)?);
/// # Ok::<(), approx_data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Epoch<'a> {
    images: &'a ImageSet,
    number: usize,
    order: Vec<usize>,
    options: EpochOptions,
}

impl<'a> Epoch<'a> {
    /// Epoch `number` over `images`.
    pub fn new(images: &'a ImageSet, number: usize, options: EpochOptions) -> Self {
        let mut order: Vec<usize> = (0..images.len()).collect();
        if options.shuffle {
            order.shuffle(&mut stream(options.seed, "shuffle", number, 0));
        }
        Self { images, number, order, options }
    }
}

impl ImageSource for Epoch<'_> {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn classes(&self) -> usize {
        self.images.classes()
    }

    fn shape(&self) -> [usize; 3] {
        self.images.shape()
    }

    fn load(&self, range: Range<usize>) -> Result<RawBatch> {
        let mut batch = RawBatch::default();
        for &index in &self.order[range] {
            let mut random = stream(self.options.seed, "augment", self.number, index);
            let augmentation = self.options.augmentation;
            augmentation.apply(self.images.image(index), self.shape(), &mut random, &mut batch.pixels);
            batch.labels.push(self.images.labels()[index]);
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo;

    const OPTIONS: EpochOptions =
        EpochOptions { seed: 3, shuffle: true, augmentation: Augmentation::REFERENCE };
    const PLAIN: EpochOptions = EpochOptions { augmentation: Augmentation::NONE, ..OPTIONS };

    fn load(images: &ImageSet, number: usize, options: EpochOptions, range: Range<usize>) -> RawBatch {
        Epoch::new(images, number, options).load(range).unwrap()
    }

    #[test]
    fn an_epoch_has_every_image_once() {
        let images = demo::images().truncated(100);
        let epoch = load(&images, 5, PLAIN, 0..100);
        let mut found: Vec<(&[u8], u16)> =
            epoch.pixels.chunks(3072).zip(epoch.labels.iter().copied()).collect();
        let mut expected: Vec<(&[u8], u16)> =
            (0..100).map(|i| (images.image(i), images.labels()[i])).collect();
        assert_ne!(found, expected);
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn seed_and_number_decide_order_and_variations() {
        let images = demo::images().truncated(100);
        let all = |number, options| load(&images, number, options, 0..100);
        assert_eq!(all(2, OPTIONS), all(2, OPTIONS));
        for options in [OPTIONS, PLAIN] {
            assert_ne!(all(2, options), all(3, options));
            assert_ne!(all(2, options), all(2, EpochOptions { seed: 4, ..options }));
        }
        let in_order = EpochOptions { shuffle: false, ..OPTIONS };
        assert_eq!(all(2, in_order).labels, images.labels());
        assert_ne!(all(2, in_order), all(3, in_order));
    }

    #[test]
    fn parts_of_an_epoch_are_the_same_however_it_is_divided() {
        let images = demo::images().truncated(100);
        let whole = load(&images, 1, OPTIONS, 0..100);
        for size in [1, 7, 64] {
            let mut parts = RawBatch::default();
            for range in images.batches(size) {
                let part = load(&images, 1, OPTIONS, range);
                parts.pixels.extend(part.pixels);
                parts.labels.extend(part.labels);
            }
            assert_eq!(parts, whole, "{size}");
        }
    }
}
