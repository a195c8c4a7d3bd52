//! What can go wrong.

use std::path::PathBuf;

/// The error of every function that reads data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The data set's folder is not there.
    #[error("{}: no such folder", .0.display())]
    MissingFolder(PathBuf),
    /// The folder holds no data set in a known layout.
    #[error("{}: no CIFAR-10 {split} images here; looked for {}{hint}", folder.display(), looked_for.join(", "))]
    NotFound {
        /// The folder.
        folder: PathBuf,
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
    #[error("{}: has {found} bytes, but a CIFAR-10 batch has {expected} (10000 images of 3073 bytes)", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// What a batch has.
        expected: u64,
        /// What this one has.
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
}

/// Shorthand for this crate's results.
pub type Result<T, E = DataError> = std::result::Result<T, E>;
