//! What the crate candle-datasets loads, as images of ours.

use ::candle_datasets::vision::Dataset;

use crate::error::Result;
use crate::image_set::ImageSet;
use crate::source::Split;

/// A split of a data set of pictures: of `shape`, which is `[channels, height, width]`. candle-datasets does not say it of
/// MNIST, whose images are rows of 784 numbers there.
///
/// ```no_run
/// use approx_data::{Split, candle_datasets, mnist};
///
/// let dataset = ::candle_datasets::vision::mnist::load_dir("datasets/mnist")?;
/// let images = candle_datasets::images(&dataset, Split::Test, mnist::SHAPE)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`ImageSet::from_tensors`].
pub fn images(dataset: &Dataset, split: Split, shape: [usize; 3]) -> Result<ImageSet> {
    let (images, labels) = match split {
        Split::Train => (&dataset.train_images, &dataset.train_labels),
        Split::Test => (&dataset.test_images, &dataset.test_labels),
    };
    ImageSet::from_tensors(images, labels, shape, dataset.labels)
}
