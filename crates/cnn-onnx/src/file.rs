//! Bytes of files that are not trusted.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{OnnxError, Result};

/// The most bytes of an ONNX file: a protobuf message has less than 2 GiB.
const LARGEST: u64 = (1 << 31) - 1;

/// The bytes of an ONNX file.
pub(crate) fn read(path: &Path) -> Result<Bytes> {
    let (mut file, length) = open(path)?;
    if length > LARGEST {
        return Err(OnnxError::Format(format!("{length} bytes are more than the 2 GiB that one can have")));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.by_ref().take(length).read_to_end(&mut bytes).map_err(io_error(path))?;
    Ok(bytes.into())
}

/// Opens a regular file; its length with it.
fn open(path: &Path) -> Result<(File, u64)> {
    let not_regular = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "is not a regular file");
    // Before it is opened: opening a pipe would wait for its other end.
    let metadata = path.metadata().map_err(io_error(path))?;
    if !metadata.is_file() {
        return Err(io_error(path)(not_regular()));
    }
    let file = File::open(path).map_err(io_error(path))?;
    Ok((file, metadata.len()))
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> OnnxError {
    move |source| OnnxError::Io { path: path.to_owned(), source }
}

/// Where a tensor's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In memory.
    Memory(Bytes),
    /// In a file, which is read when the tensor is.
    File {
        /// Which file.
        path: Arc<Path>,
        /// The first byte.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
}

impl Place {
    /// How many bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// Calls `take` with the bytes in pieces, which are a multiple of 8 bytes long except for the last one.
    pub fn read(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        const PIECE: usize = 1 << 16;
        match self {
            Self::Memory(bytes) => take(bytes),
            Self::File { path, offset, length } => {
                let (mut file, size) = open(path)?;
                if offset.checked_add(*length).is_none_or(|end| end > size) {
                    let short =
                        std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "is shorter than it was");
                    return Err(io_error(path)(short));
                }
                file.seek(SeekFrom::Start(*offset)).map_err(io_error(path))?;
                let mut left = *length as usize;
                let mut piece = vec![0; left.min(PIECE)];
                while left > 0 {
                    let piece = &mut piece[..left.min(PIECE)];
                    file.read_exact(piece).map_err(io_error(path))?;
                    take(piece);
                    left -= piece.len();
                }
            }
        }
        Ok(())
    }
}

/// The file beside an ONNX file that holds tensors of it.
///
/// It must lie in the ONNX file's folder or one below, also if it is a symbolic link.
///
/// # Errors
/// In words.
pub(crate) fn beside(model: &Path, location: &str) -> Result<(PathBuf, u64), String> {
    let relative = Path::new(location);
    let inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || location.contains(['\\', '\0']) || !inside {
        return Err(format!("its file `{location}` is not a path inside the model's folder"));
    }
    let folder = match model.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
    let path = folder.join(relative);
    let path = path.canonicalize().map_err(|error| format!("its file {}: {error}", path.display()))?;
    if !path.starts_with(&folder) {
        return Err(format!("its file `{location}` is a link to outside the model's folder"));
    }
    let metadata = path.metadata().map_err(|error| format!("its file {}: {error}", path.display()))?;
    if !metadata.is_file() {
        return Err(format!("its file `{location}` is not a regular file"));
    }
    Ok((path, metadata.len()))
}
