//! What the files of CIFAR-10 and CIFAR-100 have in common.

use std::path::{Path, PathBuf};

use parquet::file::reader::FileReader;
use parquet::record::{Row, RowAccessor};
use rayon::prelude::*;

use crate::contained::{self, contained};
use crate::error::{DataError, Result, check_label};
use crate::image_set::{ImageSet, RGB};
use crate::source::Split;

/// Height and width.
pub(crate) const SIZE: usize = 32;
/// Channels, height and width.
pub(crate) const SHAPE: [usize; 3] = [RGB, SIZE, SIZE];
const IMAGE_BYTES: usize = RGB * SIZE * SIZE;

/// How a split of a data set may lie in a folder.
pub(crate) struct Layouts<'a> {
    /// The data set's name.
    pub(crate) name: &'static str,
    pub(crate) classes: usize,
    /// Bytes before each image in a binary file; the last of them is the class.
    pub(crate) label_bytes: usize,
    /// The folder in which the binary files come.
    pub(crate) binary_folder: &'static str,
    /// The binary files of the split.
    pub(crate) binary: &'a [&'static str],
    /// How many images are in each.
    pub(crate) images: usize,
    /// Parquet files of the split: any of them has all images.
    pub(crate) parquet: &'a [&'static str],
    /// The parquet column with the class.
    pub(crate) label_column: &'static str,
    /// Files that are of no use, and what to say of them.
    pub(crate) hints: &'a [(&'static str, &'static str)],
}

impl Layouts<'_> {
    /// Reads the split from `folder`, in whichever layout is there.
    pub(crate) fn load(&self, folder: &Path, split: Split) -> Result<ImageSet> {
        if !folder.is_dir() {
            return Err(DataError::MissingFolder(folder.to_owned()));
        }
        for base in [folder.to_owned(), folder.join(self.binary_folder)] {
            let files: Vec<PathBuf> = self.binary.iter().map(|file| base.join(file)).collect();
            // One that is missing beside others is an error of its own.
            if files.iter().any(|file| file.exists()) {
                return self.load_binary(&files);
            }
        }
        if let Some(file) = self.parquet.iter().map(|file| folder.join(file)).find(|file| file.exists()) {
            return self.load_parquet(&file);
        }
        let looked_for = self.binary.iter().chain(self.parquet).map(|&file| file.to_owned()).collect();
        let hint =
            self.hints.iter().find(|(file, _)| folder.join(file).exists()).map_or("", |(_, hint)| hint);
        let (folder, split) = (folder.to_owned(), split.name());
        Err(DataError::NotFound { folder, dataset: self.name, split, looked_for, hint })
    }

    fn load_binary(&self, files: &[PathBuf]) -> Result<ImageSet> {
        let record = self.label_bytes + IMAGE_BYTES;
        let expected = (self.images * record) as u64;
        let mut pixels = Vec::with_capacity(files.len() * self.images * IMAGE_BYTES);
        let mut labels = Vec::with_capacity(files.len() * self.images);
        for path in files {
            let io = |source| DataError::Io { path: path.clone(), source };
            let found = std::fs::metadata(path).map_err(io)?.len();
            if found != expected {
                let (path, dataset, images) = (path.clone(), self.name, self.images);
                return Err(DataError::WrongLength { path, dataset, images, record, found });
            }
            let bytes = std::fs::read(path).map_err(io)?;
            parse_records(&bytes, path, self.label_bytes, self.classes, &mut pixels, &mut labels)?;
        }
        Ok(ImageSet::new(pixels, labels, SHAPE, self.classes))
    }

    fn load_parquet(&self, path: &Path) -> Result<ImageSet> {
        let reader = contained::open(path)?;
        let (encoded, labels): (Vec<_>, Vec<_>) = contained(path, || {
            reader.get_row_iter(None)?.map(|row| columns(&row?, self.label_column)).collect()
        })?;
        let check = |(index, label)| check_label(path, index, label, self.classes);
        let labels = labels.into_iter().enumerate().map(check).collect::<Result<_>>()?;
        let images: Vec<Vec<u8>> = encoded
            .par_iter()
            .enumerate()
            .map(|(index, bytes)| {
                decode(bytes).map_err(|reason| DataError::Image { path: path.to_owned(), index, reason })
            })
            .collect::<Result<_>>()?;
        Ok(ImageSet::new(images.concat(), labels, SHAPE, self.classes))
    }
}

/// Reads records of `label_bytes`, of which the last is the class, and an image.
pub(crate) fn parse_records(
    bytes: &[u8],
    path: &Path,
    label_bytes: usize,
    classes: usize,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<u16>,
) -> Result<()> {
    for (index, record) in bytes.chunks(label_bytes + IMAGE_BYTES).enumerate() {
        let (label, image) = record.split_at(label_bytes);
        labels.push(check_label(path, index, i64::from(label[label_bytes - 1]), classes)?);
        pixels.extend_from_slice(image);
    }
    Ok(())
}

/// The PNG file and the label of a row.
fn columns(row: &Row, label: &str) -> parquet::errors::Result<(Vec<u8>, i64)> {
    let column = |name: &str| {
        let missing = || parquet::errors::ParquetError::General(format!("there is no column `{name}`"));
        row.get_column_iter().position(|(column, _)| column == name).ok_or_else(missing)
    };
    let image = row.get_group(column("img")?)?;
    let bytes = image.get_column_iter().position(|(name, _)| name == "bytes").unwrap_or(0);
    Ok((image.get_bytes(bytes)?.data().to_vec(), row.get_long(column(label)?)?))
}

/// Red, green and blue rows of an encoded image.
fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let image = image::load_from_memory(bytes).map_err(|e| e.to_string())?.into_rgb8();
    let (width, height) = image.dimensions();
    if (width as usize, height as usize) != (SIZE, SIZE) {
        return Err(format!("is {width}×{height}, not {SIZE}×{SIZE}"));
    }
    // The decoder gives pixels row by row, each with its channels; we want each channel's rows.
    let interleaved = image.into_raw();
    let channel = |c: usize| interleaved.iter().copied().skip(c).step_by(RGB);
    Ok((0..RGB).flat_map(channel).collect())
}
