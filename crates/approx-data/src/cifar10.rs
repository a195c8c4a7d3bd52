//! CIFAR-10 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): ten classes of
//! 32×32 colour images, 50,000 for training and 10,000 for testing.
//!
//! Two layouts are read: the binary version's files (`test_batch.bin`, `data_batch_1.bin` to
//! `data_batch_5.bin`: one label byte, then 3,072 bytes of red, green and blue rows an image), and the parquet
//! files of the Hugging Face Hub (`img`: PNG bytes, `label`: a number).
//!
//! candle-datasets has loaders for both; docs/adr/0003-own-cifar10-loader.md says why they are not used.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Row, RowAccessor};
use rayon::prelude::*;

use crate::error::{DataError, Result, check_label};
use crate::image_set::{CHANNELS, ImageSet};

/// Height and width.
pub const SIZE: usize = 32;
/// How many classes.
pub const CLASSES: usize = 10;
/// Images in a binary file.
const IMAGES_PER_BATCH: usize = 10_000;
const IMAGE_BYTES: usize = CHANNELS * SIZE * SIZE;
const RECORD_BYTES: usize = 1 + IMAGE_BYTES;

/// Which images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The 50,000 for training.
    Train,
    /// The 10,000 for testing.
    Test,
}

impl Split {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }

    fn binary_files(self) -> Vec<String> {
        match self {
            Self::Train => (1..=5).map(|i| format!("data_batch_{i}.bin")).collect(),
            Self::Test => vec!["test_batch.bin".to_owned()],
        }
    }

    /// The Hub's own conversion to parquet, and the repository's own files.
    fn parquet_files(self) -> [String; 2] {
        let name = self.name();
        [format!("plain_text/{name}/0000.parquet"), format!("plain_text/{name}-00000-of-00001.parquet")]
    }
}

/// Reads a split from `folder`, in whichever layout is there.
///
/// # Errors
/// [`DataError`]: no such folder, no known file in it, a file of the wrong length, a label above 9, an image that
/// is not 32×32.
pub fn load(folder: impl AsRef<Path>, split: Split) -> Result<ImageSet> {
    let folder = folder.as_ref();
    if !folder.is_dir() {
        return Err(DataError::MissingFolder(folder.to_owned()));
    }
    let binary = split.binary_files();
    for base in [folder.to_owned(), folder.join("cifar-10-batches-bin")] {
        let files: Vec<PathBuf> = binary.iter().map(|file| base.join(file)).collect();
        // One that is missing beside others is an error of its own.
        if files.iter().any(|file| file.exists()) {
            return load_binary(&files);
        }
    }
    if let Some(file) = split.parquet_files().map(|file| folder.join(file)).iter().find(|file| file.exists())
    {
        return load_parquet(file);
    }
    let pickled =
        ["", "cifar-10-batches-py"].iter().any(|base| folder.join(base).join("data_batch_1").exists());
    let mut looked_for = binary;
    looked_for.extend(split.parquet_files());
    let hint = match pickled {
        true => "; what is here is CIFAR-10's Python version, which holds pickled objects and is not read",
        false => "",
    };
    Err(DataError::NotFound { folder: folder.to_owned(), split: split.name(), looked_for, hint })
}

fn load_binary(files: &[PathBuf]) -> Result<ImageSet> {
    let expected = (IMAGES_PER_BATCH * RECORD_BYTES) as u64;
    let mut pixels = Vec::with_capacity(files.len() * IMAGES_PER_BATCH * IMAGE_BYTES);
    let mut labels = Vec::with_capacity(files.len() * IMAGES_PER_BATCH);
    for path in files {
        let io = |source| DataError::Io { path: path.clone(), source };
        let found = std::fs::metadata(path).map_err(io)?.len();
        if found != expected {
            return Err(DataError::WrongLength { path: path.clone(), expected, found });
        }
        parse_records(&std::fs::read(path).map_err(io)?, path, &mut pixels, &mut labels)?;
    }
    Ok(ImageSet::new(pixels, labels, (SIZE, SIZE), CLASSES))
}

/// Reads records of one label byte and an image.
pub(crate) fn parse_records(
    bytes: &[u8],
    path: &Path,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<u16>,
) -> Result<()> {
    for (index, record) in bytes.chunks(RECORD_BYTES).enumerate() {
        let (label, image) = (record[0], &record[1..]);
        labels.push(check_label(path, index, i64::from(label), CLASSES)?);
        pixels.extend_from_slice(image);
    }
    Ok(())
}

fn load_parquet(path: &Path) -> Result<ImageSet> {
    let parquet = |e: parquet::errors::ParquetError| DataError::Parquet {
        path: path.to_owned(),
        reason: e.to_string(),
    };
    let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let reader = SerializedFileReader::new(file).map_err(parquet)?;
    let mut labels = Vec::new();
    let mut encoded = Vec::new();
    for (index, row) in reader.get_row_iter(None).map_err(parquet)?.enumerate() {
        let (bytes, label) = columns(&row.map_err(parquet)?).map_err(parquet)?;
        labels.push(check_label(path, index, label, CLASSES)?);
        encoded.push(bytes);
    }
    let images: Vec<Vec<u8>> = encoded
        .par_iter()
        .enumerate()
        .map(|(index, bytes)| {
            decode(bytes).map_err(|reason| DataError::Image { path: path.to_owned(), index, reason })
        })
        .collect::<Result<_>>()?;
    Ok(ImageSet::new(images.concat(), labels, (SIZE, SIZE), CLASSES))
}

/// The PNG file and the label of a row.
fn columns(row: &Row) -> parquet::errors::Result<(Vec<u8>, i64)> {
    let column = |name: &str| {
        let missing = || parquet::errors::ParquetError::General(format!("there is no column `{name}`"));
        row.get_column_iter().position(|(column, _)| column == name).ok_or_else(missing)
    };
    let image = row.get_group(column("img")?)?;
    let bytes = image.get_column_iter().position(|(name, _)| name == "bytes").unwrap_or(0);
    Ok((image.get_bytes(bytes)?.data().to_vec(), row.get_long(column("label")?)?))
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
    let channel = |c: usize| interleaved.iter().copied().skip(c).step_by(CHANNELS);
    Ok((0..CHANNELS).flat_map(channel).collect())
}
