//! Parquet files whose damage stays an error.
//!
//! The crate parquet panics on some damaged files, and on others it reads on and on behind their end. [`contained`] makes
//! an error of a panic, and [`ParquetFile`] one of a read behind the end.

use std::any::Any;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length, SerializedFileReader};

use crate::error::{DataError, Result};

/// The reader of a parquet file.
pub(crate) type ParquetReader = SerializedFileReader<ParquetFile>;

/// A file that cannot be read behind its end.
pub(crate) struct ParquetFile(File);

/// The rest of a file. Where it ends, there is an error and not a read of no bytes, which some loops would wait for.
pub(crate) struct Rest(File);

/// Opens a parquet file and reads its metadata.
///
/// # Errors
/// [`DataError::Io`] and [`DataError::Parquet`] with the file.
pub(crate) fn open(path: &Path) -> Result<ParquetReader> {
    let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    contained(path, || SerializedFileReader::new(ParquetFile(file)))
}

/// What `read` gives; an error or a panic of the crate parquet becomes [`DataError::Parquet`].
pub(crate) fn contained<T>(path: &Path, read: impl FnOnce() -> ParquetResult<T>) -> Result<T> {
    silence_contained_panics();
    let outer = CONTAINED.replace(true);
    // What `read` left half done is not used again: each caller makes its readers anew after an error.
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    CONTAINED.set(outer);
    let reason = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("damaged: {}", message(&*panic)),
    };
    Err(DataError::Parquet { path: path.to_owned(), reason })
}

thread_local! {
    /// Whether a panic of this thread becomes an error.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// From the first call on, panics that become errors print nothing. Others do what they did before.
fn silence_contained_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CONTAINED.get() {
                others(info);
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the reader gave up")
}

impl Length for ParquetFile {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for ParquetFile {
    type T = BufReader<Rest>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let mut file = self.0.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(Rest(file)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let available = Length::len(self).saturating_sub(start);
        if length as u64 > available {
            let reason = format!("{length} bytes are needed where {available} are left");
            return Err(ParquetError::EOF(reason));
        }
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

impl Read for Rest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends where more is needed"))
            }
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors_with_the_file() {
        let path = Path::new("some.parquet");
        let broken = |text: &'static str| move || -> ParquetResult<()> { panic!("{text}") };
        let error = contained(path, broken("index out of bounds")).unwrap_err().to_string();
        assert!(
            error.contains("some.parquet: ") && error.contains("damaged: index out of bounds"),
            "{error}"
        );
        assert_eq!(contained(path, || Ok(3)).unwrap(), 3);
        assert!(!CONTAINED.get());
    }
}
