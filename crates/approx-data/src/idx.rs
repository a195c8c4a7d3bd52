//! The IDX format, in which MNIST comes (Y. LeCun, "The MNIST database of handwritten digits",
//! <http://yann.lecun.com/exdb/mnist/>).
//!
//! A file is two zero bytes, the type of its values (8 for bytes), the number of dimensions, then each dimension as a
//! big-endian number of 32 bits, then the values in row-major order. It may be packed by gzip, whatever it is called.
//!
//! Nothing in a file is trusted: no memory is taken for values that a file of its length cannot hold, and no more is
//! unpacked than its dimensions say.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::{DataError, Result};

/// The type of values that is read.
const BYTES: u8 = 8;
/// Every gzip file begins so.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How many bytes deflate can make of one: 258 of 2 bits.
const LARGEST_RATIO: u64 = 1032;

/// A file of bytes whose header has been read.
pub struct IdxFile<const D: usize> {
    path: PathBuf,
    dims: [usize; D],
    values: Box<dyn Read>,
}

impl<const D: usize> IdxFile<D> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`DataError::Io`], and [`DataError::Idx`] if it is no file of bytes in `D` dimensions, or if its length does not
    /// fit to them.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |source| DataError::Io { path: path.to_owned(), source };
        let wrong = |reason: String| DataError::Idx { path: path.to_owned(), reason };
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut file = BufReader::new(file);
        let packed = file.fill_buf().map_err(io)?.starts_with(&GZIP);
        let mut values: Box<dyn Read> =
            if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };

        let mut header = Vec::new();
        let header_len = 4 + 4 * D;
        values.by_ref().take(header_len as u64).read_to_end(&mut header).map_err(io)?;
        let Some((magic, dims)) = header.split_first_chunk::<4>() else {
            return Err(wrong(format!(
                "ends after {} bytes, in the magic number of an IDX file",
                header.len()
            )));
        };
        let expected = [0, 0, BYTES, D as u8];
        if *magic != expected {
            let [magic, expected] = [*magic, expected].map(u32::from_be_bytes);
            return Err(wrong(format!(
                "the magic number is {magic:#010x}, not {expected:#010x} of an IDX file of bytes in {D} dimensions"
            )));
        }
        if dims.len() < 4 * D {
            return Err(wrong(format!("ends after {} bytes, in the header of {header_len}", header.len())));
        }
        let mut numbers =
            dims.chunks_exact(4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let dims: [u32; D] = std::array::from_fn(|_| numbers.next().expect("there are so many"));
        let shown = || dims.map(|dim| dim.to_string()).join("×");
        let count = dims.iter().try_fold(1_u64, |count, &dim| count.checked_mul(dim.into()));
        let Some(count) = count.filter(|&count| usize::try_from(count).is_ok()) else {
            return Err(wrong(format!("{} values are more than memory can hold", shown())));
        };
        let rest = length.saturating_sub(header_len as u64);
        match packed {
            false if rest != count => {
                return Err(wrong(format!(
                    "has {rest} bytes after the header, but {} values are {count}",
                    shown()
                )));
            }
            true if count / LARGEST_RATIO > length => {
                return Err(wrong(format!(
                    "{} values are {count} bytes, which cannot be packed in {length}",
                    shown()
                )));
            }
            _ => {}
        }
        Ok(Self { path: path.to_owned(), dims: dims.map(|dim| dim as usize), values })
    }

    /// The dimensions.
    pub fn dims(&self) -> [usize; D] {
        self.dims
    }

    /// The values, in row-major order.
    ///
    /// # Errors
    /// [`DataError::Io`], and [`DataError::Idx`] if there are fewer or more of them than the dimensions say.
    pub fn values(self) -> Result<Vec<u8>> {
        let Self { path, dims, values } = self;
        let count: usize = dims.iter().product();
        // It grows with what is there.
        let mut bytes = Vec::new();
        let read = values.take(count as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|source| DataError::Io { path: path.clone(), source })?;
        if bytes.len() == count {
            return Ok(bytes);
        }
        let dims = dims.map(|dim| dim.to_string()).join("×");
        let reason = match bytes.len() < count {
            true => format!("ends after {} of {dims} = {count} values", bytes.len()),
            false => format!("goes on after its {dims} = {count} values"),
        };
        Err(DataError::Idx { path, reason })
    }
}
