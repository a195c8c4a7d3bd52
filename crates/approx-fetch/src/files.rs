//! Writing files so that nothing half-written ever has its final name.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use atomic_file::Temporaries;
use tempfile::NamedTempFile;

use crate::error::{FetchError, Result};
use crate::progress::Progress;
use crate::validate::Expected;

/// Files on their way to their name, readable by whom other files are readable.
pub(crate) const TEMPORARIES: Temporaries = Temporaries { prefix: ".fetch-", suffix: ".part", shared: true };

/// Which end of a copy failed.
pub(crate) enum CopyError {
    Read(io::Error),
    /// The error and how many bytes had been written.
    Write(io::Error, u64),
}

/// Copies until `reader` ends and returns how many bytes there were.
pub(crate) fn copy(
    reader: &mut impl Read,
    writer: &mut impl Write,
    progress: &mut dyn Progress,
) -> Result<u64, CopyError> {
    let mut buffer = vec![0; 1 << 16];
    let mut written = 0;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(written),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        writer.write_all(&buffer[..n]).map_err(|error| CopyError::Write(error, written))?;
        written += n as u64;
        progress.advance(n as u64);
    }
}

/// `path` with `suffix` appended to its file name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The last component of `path` for messages.
pub(crate) fn label(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Creates the folder that `path` is in.
pub(crate) fn create_parent(path: &Path) -> Result<&Path> {
    let parent = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(parent).map_err(FetchError::io("create", parent))?;
    Ok(parent)
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A temporary file next to `path`.
pub(crate) fn temporary(path: &Path) -> Result<NamedTempFile> {
    let parent = create_parent(path)?;
    TEMPORARIES.create(parent).map_err(FetchError::io("create a file in", parent))
}

/// Flushes `file` and gives it the name `path`.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all().map_err(|error| FetchError::writing(path, 0, false, error))?;
    file.persist(path).map_err(|error| FetchError::io("write", path)(error.error))?;
    sync_directory(path);
    Ok(())
}

/// Renames `from` to `to`, whose contents must have been flushed.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(FetchError::io("rename a file to", to))?;
    sync_directory(to);
    Ok(())
}

/// Makes a rename last. Not every system can; then it lasts once the system writes it.
fn sync_directory(path: &Path) {
    if cfg!(unix)
        && let Some(parent) = path.parent()
    {
        let _ = File::open(parent).and_then(|directory| directory.sync_all());
    }
}

/// Copies a local file, checks it and gives it the name `to`.
pub(crate) fn copy_file(
    from: &Path,
    to: &Path,
    expected: &Expected<'_>,
    progress: &mut dyn Progress,
) -> Result<()> {
    let mut reader = File::open(from).map_err(FetchError::io("open", from))?;
    let total = reader.metadata().map_err(FetchError::io("open", from))?.len();
    let mut file = temporary(to)?;
    progress.start(&label(to), Some(total), 0);
    copy(&mut reader, &mut file, progress).map_err(|error| match error {
        CopyError::Read(error) => FetchError::io("read", from)(error),
        CopyError::Write(error, written) => FetchError::writing(to, written, false, error),
    })?;
    expected.verify(file.path()).map_err(|error| error.renamed(file.path(), from))?;
    persist(file, to)?;
    progress.finish();
    Ok(())
}
