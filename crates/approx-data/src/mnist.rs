//! MNIST (Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document Recognition",
//! 1998): the ten digits in grey images of 28×28 pixels, 60,000 for training and 10,000 for testing.
//!
//! The files are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
//! `t10k-labels-idx1-ubyte`, as they are or with `.gz`. They lie in the folder itself, in its `raw`, or in its `MNIST/raw`,
//! where torchvision puts them.

use std::path::{Path, PathBuf};

use crate::error::{DataError, Result, check_label};
use crate::idx::IdxFile;
use crate::image_set::ImageSet;
use crate::source::Split;

/// Channels, height and width.
pub const SHAPE: [usize; 3] = [1, 28, 28];
/// How many classes.
pub const CLASSES: usize = 10;

/// Reads a split from `folder`. How many images the files hold is for them to say.
///
/// # Errors
/// [`DataError`]: no such folder, no known file in it, a file that is not in the IDX format or not whole, images that are
/// not 28×28, another number of labels than of images, a label above 9.
pub fn load(folder: impl AsRef<Path>, split: Split) -> Result<ImageSet> {
    let hint = "; what is here is Fashion-MNIST";
    Dataset { name: "MNIST", folder: "MNIST", other: ("FashionMNIST", hint) }.load(folder.as_ref(), split)
}

/// A data set whose files have MNIST's names and format.
pub(crate) struct Dataset {
    pub(crate) name: &'static str,
    /// What torchvision calls its folder.
    pub(crate) folder: &'static str,
    /// The folder of another data set whose files have the same names, and what to say of it.
    pub(crate) other: (&'static str, &'static str),
}

impl Dataset {
    pub(crate) fn load(&self, folder: &Path, split: Split) -> Result<ImageSet> {
        if !folder.is_dir() {
            return Err(DataError::MissingFolder(folder.to_owned()));
        }
        let part = if split == Split::Train { "train" } else { "t10k" };
        let names = [format!("{part}-images-idx3-ubyte"), format!("{part}-labels-idx1-ubyte")];
        let bases = [folder.to_owned(), folder.join("raw"), folder.join(self.folder).join("raw")];
        for base in bases {
            let [images, labels] = names.each_ref().map(|name| find(&base, name));
            // One that is missing beside the other is an error of its own.
            if images.exists() || labels.exists() {
                return read(&images, &labels);
            }
        }
        let (other, hint) = self.other;
        Err(DataError::NotFound {
            folder: folder.to_owned(),
            dataset: self.name,
            split: split.name(),
            looked_for: names.map(|name| format!("{name}[.gz]")).to_vec(),
            hint: if folder.join(other).exists() { hint } else { "" },
        })
    }
}

/// The file in `base`, or where it should be.
fn find(base: &Path, name: &str) -> PathBuf {
    let (plain, packed) = (base.join(name), base.join(format!("{name}.gz")));
    if packed.exists() && !plain.exists() { packed } else { plain }
}

fn read(images: &Path, labels: &Path) -> Result<ImageSet> {
    let wrong = |reason: String| DataError::Idx { path: images.to_owned(), reason };
    let (image_file, label_file) = (IdxFile::<3>::open(images)?, IdxFile::<1>::open(labels)?);
    let ([count, height, width], [label_count]) = (image_file.dims(), label_file.dims());
    if [1, height, width] != SHAPE {
        let [_, rows, columns] = SHAPE;
        return Err(wrong(format!("the images are {height}×{width}, not {rows}×{columns}")));
    }
    if count != label_count {
        return Err(wrong(format!("has {count} images, but {} has {label_count} labels", labels.display())));
    }
    let classes = label_file.values()?.into_iter().enumerate();
    let classes = classes.map(|(index, label)| check_label(labels, index, label.into(), CLASSES));
    Ok(ImageSet::new(image_file.values()?, classes.collect::<Result<_>>()?, SHAPE, CLASSES))
}
