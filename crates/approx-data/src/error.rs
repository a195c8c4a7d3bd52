//! What can go wrong.

use std::path::{Path, PathBuf};

use crate::source::Split;

/// The error of every function that reads data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The data set's folder is not there.
    #[error("{}: no such folder", .0.display())]
    MissingFolder(PathBuf),
    /// The folder holds no data set in a known layout.
    #[error("{}: no {dataset} {split} images here; looked for {}{hint}", folder.display(), looked_for.join(", "))]
    NotFound {
        /// The folder.
        folder: PathBuf,
        /// Which images were to be there.
        dataset: &'static str,
        /// `test` or `train`.
        split: &'static str,
        /// The files that would do.
        looked_for: Vec<String>,
        /// What is there instead, where that is known.
        hint: &'static str,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A batch file is cut short or not one.
    #[error(
        "{}: has {found} bytes, but a {dataset} file has {} ({images} images of {record} bytes)",
        path.display(),
        images * record
    )]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// The data set.
        dataset: &'static str,
        /// How many images such a file has.
        images: usize,
        /// Bytes of each, with its label.
        record: usize,
        /// Bytes that this file has.
        found: u64,
    },
    /// A label that no class has.
    #[error("{}: image {index} has the label {label}, but labels go from 0 to {}", path.display(), classes - 1)]
    LabelOutOfRange {
        /// The file.
        path: PathBuf,
        /// The image's number in the file, from 0.
        index: usize,
        /// Its label.
        label: i64,
        /// How many classes there are.
        classes: usize,
    },
    /// A file that is not in the IDX format, holds something else, or is not whole.
    #[error("{}: {reason}", path.display())]
    Idx {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A parquet file that cannot be read, or has other columns.
    #[error("{}: {reason}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An image that cannot be decoded or has another size.
    #[error("{}: image {index}: {reason}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The image's number in the file, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A picture that cannot be decoded: damaged, cut short, too large or of a format that is not read.
    #[error("{name}: {reason}")]
    Undecodable {
        /// Its file, or its place in one.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The size to resize or crop to.
    #[error("pictures cannot be resized to {resize} and cropped to {size}: both must be from 1 to {largest}")]
    Preprocess {
        /// Of the shorter side.
        resize: usize,
        /// Height and width of the crop.
        size: usize,
        /// The largest that is accepted.
        largest: usize,
    },
    /// The folder holds no ImageNet images in a known layout.
    #[error("{}: no ImageNet {} images here: {found}; looked for {looked_for}", folder.display(), part(*split))]
    NoImageNet {
        /// Which images were to be there.
        split: Split,
        /// The folder.
        folder: PathBuf,
        /// What is there instead.
        found: String,
        /// What would do.
        looked_for: String,
    },
    /// The folder holds no class folders.
    #[error("{}: no class folders with {split} images here: {found}; looked for {looked_for}", folder.display())]
    NoClassFolders {
        /// The folder.
        folder: PathBuf,
        /// `test` or `train`.
        split: &'static str,
        /// What is there instead.
        found: String,
        /// What would do.
        looked_for: String,
    },
    /// A class folder with nothing to read in it.
    #[error("{}: a class folder without images; looked for files that end with {extensions}", folder.display())]
    EmptyClass {
        /// The folder.
        folder: PathBuf,
        /// The endings of images' names.
        extensions: String,
    },
    /// Some folders are ImageNet's classes, some are not, so that neither way to number them is right.
    #[error(
        "{}: {known} of the {count} class folders are among ImageNet's 1000 synsets, but `{unknown}` is not",
        folder.display()
    )]
    MixedClasses {
        /// The folder they are in.
        folder: PathBuf,
        /// How many are synsets.
        known: usize,
        /// How many there are.
        count: usize,
        /// The first that is none.
        unknown: String,
    },
    /// A line of a file with labels.
    #[error("{}: line {line}: {reason}", path.display())]
    LabelLine {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An image that the file with labels says nothing of.
    #[error("{image}: {} has no label for it: {reason}", path.display())]
    Unlabelled {
        /// The image.
        image: String,
        /// The file with the labels.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Images that a file with labels names, but that are not there.
    #[error("{}: {count} of its images are not in {}, the first is {first}", path.display(), folder.display())]
    MissingImages {
        /// The file with the labels.
        path: PathBuf,
        /// Where they should be.
        folder: PathBuf,
        /// How many.
        count: usize,
        /// The first.
        first: String,
    },
    /// Tensors that are not images and their labels.
    #[error("{what}")]
    Tensors {
        /// What is wrong with them.
        what: String,
    },
    /// The tensor of a batch cannot be made.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// What ImageNet calls its parts.
fn part(split: Split) -> &'static str {
    match split {
        Split::Train => "training",
        Split::Test => "validation",
    }
}

/// Shorthand for this crate's results.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// The label of image `index` of a file, if one of `classes` classes has it.
pub(crate) fn check_label(path: &Path, index: usize, label: i64, classes: usize) -> Result<u16> {
    match u16::try_from(label) {
        Ok(label) if usize::from(label) < classes => Ok(label),
        _ => Err(DataError::LabelOutOfRange { path: path.to_owned(), index, label, classes }),
    }
}
