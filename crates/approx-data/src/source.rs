//! Where images come from.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::error::{DataError, Result};

/// Which images of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Those for training.
    Train,
    /// Those for testing; ImageNet's validation images, as its test images have no public labels.
    Test,
}

impl Split {
    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Labelled images of one shape that are handed out range by range, wherever they are kept.
pub trait ImageSource: Send + Sync {
    /// How many images.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many classes.
    fn classes(&self) -> usize;

    /// Channels, height and width of every image that [`load`](Self::load) gives.
    fn shape(&self) -> [usize; 3];

    /// The images of `range`, decoded.
    ///
    /// # Errors
    /// [`DataError`]: a file that cannot be read, or cannot be decoded where that is not to be skipped.
    ///
    /// # Panics
    /// If the range goes beyond the last image.
    fn load(&self, range: Range<usize>) -> Result<RawBatch>;

    /// Hands all that decides what [`load`](Self::load) gives to `consume`, so that results can be kept under its hash:
    /// here pixels and labels. Sources whose images are dear to decode hand over what their files are called, how
    /// large they are and when they were changed.
    ///
    /// # Errors
    /// As [`load`](Self::load); a file that cannot be looked at.
    fn identify(&self, consume: &mut dyn FnMut(&[u8])) -> Result<()> {
        const AT_A_TIME: usize = 256;
        for range in self.batches(AT_A_TIME) {
            let batch = self.load(range)?;
            consume(&batch.pixels);
            batch.labels.iter().for_each(|label| consume(&label.to_le_bytes()));
            batch.skipped.iter().for_each(|image| consume(image.name.as_bytes()));
        }
        Ok(())
    }

    /// The index ranges of consecutive batches of `size` images; the last one may be smaller.
    ///
    /// # Panics
    /// If `size` is 0.
    fn batches(&self, size: usize) -> Vec<Range<usize>> {
        assert!(size > 0, "a batch has at least one image");
        (0..self.len()).step_by(size).map(|start| start..(start + size).min(self.len())).collect()
    }
}

/// The first images of a source.
pub struct First<'a> {
    source: &'a dyn ImageSource,
    count: usize,
}

impl<'a> First<'a> {
    /// The first `count` images of `source`, or all if there are fewer.
    pub fn new(source: &'a dyn ImageSource, count: usize) -> Self {
        Self { source, count: count.min(source.len()) }
    }
}

impl ImageSource for First<'_> {
    fn len(&self) -> usize {
        self.count
    }

    fn classes(&self) -> usize {
        self.source.classes()
    }

    fn shape(&self) -> [usize; 3] {
        self.source.shape()
    }

    fn load(&self, range: Range<usize>) -> Result<RawBatch> {
        assert!(range.end <= self.count, "{range:?} of {} images", self.count);
        self.source.load(range)
    }
}

/// 8-bit images and their labels. Those that were skipped are in neither.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawBatch {
    /// `[n, channels, height, width]` in row-major order.
    pub pixels: Vec<u8>,
    /// The class of each of the `n` images.
    pub labels: Vec<u16>,
    /// What could not be decoded, in order.
    pub skipped: Vec<Skipped>,
}

/// An image that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its file, or its place in one.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What to do about an image that cannot be decoded. (A file that cannot be *read* is always an error.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCorrupt {
    /// Fail with its name.
    #[default]
    Fail,
    /// Leave it out and list it in [`RawBatch::skipped`].
    Skip,
}

/// A file's name, size and time of change, for [`ImageSource::identify`].
pub(crate) fn identify_file(path: &Path, consume: &mut dyn FnMut(&[u8])) -> Result<()> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(io)?;
    let changed = metadata.modified().map_err(io)?.duration_since(UNIX_EPOCH).unwrap_or_default();
    consume(path.file_name().unwrap_or_default().as_encoded_bytes());
    consume(format!("/{}/{}\n", metadata.len(), changed.as_nanos()).as_bytes());
    Ok(())
}

impl RawBatch {
    /// Puts decoded images together in their order.
    pub(crate) fn collect(
        images: impl IntoIterator<Item = (u16, Result<Vec<u8>>)>,
        on_corrupt: OnCorrupt,
    ) -> Result<Self> {
        let mut batch = Self::default();
        for (label, image) in images {
            match (image, on_corrupt) {
                (Ok(pixels), _) => {
                    batch.pixels.extend(pixels);
                    batch.labels.push(label);
                }
                (Err(DataError::Undecodable { name, reason }), OnCorrupt::Skip) => {
                    batch.skipped.push(Skipped { name, reason });
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(batch)
    }
}
