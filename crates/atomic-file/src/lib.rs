//! Files that are written whole or not at all.
//!
//! [`write()`] puts the contents into a temporary file beside the target and renames that. So a reader finds the old
//! contents or the new ones, and a process that is killed leaves the old ones. [`check_writable`] and [`check_folder`]
//! tell before long work whether its results can be written at the end.
//!
//! A process that is killed also leaves its temporary file. [`Temporaries`] tells such files from those that another
//! process writes at this moment, and [`write()`] removes them before it writes into their folder.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("report.json");
//! atomic_file::check_writable(&path)?;
//! atomic_file::write(&path, b"{}\n")?;
//! assert_eq!(std::fs::read(&path)?, b"{}\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A symbolic link stays a link, and the file that it points to is replaced. What is not a regular file, such as a pipe
//! or `/dev/stdout`, has no contents that could be replaced, and is written to directly.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

mod temporaries;

pub use temporaries::{Swept, Temporaries, is_at};

/// What [`write()`] calls its temporary files.
const WRITING: Temporaries = Temporaries { prefix: ".writing-", suffix: "", shared: false };

/// How many symbolic links are followed one after the other, as many as Linux does.
const MAX_LINKS: usize = 40;

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}{}", path.display(), advice(path, source))]
pub struct WriteError {
    /// The file, as the caller named it.
    pub path: PathBuf,
    /// Why it cannot be written.
    pub source: io::Error,
}

/// What to do about a folder that is missing.
fn advice(path: &Path, error: &io::Error) -> String {
    let folder = parent(path);
    match error.kind() == io::ErrorKind::NotFound && !folder.exists() {
        true => format!("; create the folder {} first", folder.display()),
        false => String::new(),
    }
}

/// Where a write to a path has to go.
enum Target {
    /// A regular file, or one that does not exist yet. No component of the path's end is a symbolic link.
    Replaced(PathBuf),
    /// A pipe, a terminal or another device.
    Direct,
}

/// Writes `contents` to `path`, replacing the whole file. A new file can be read by everybody and written by its owner;
/// a file that is replaced keeps its permissions.
///
/// What killed processes have left of earlier calls in the same folder is removed, and a warning of `tracing` says so.
///
/// # Errors
/// [`WriteError`] if the folder does not exist or cannot be written to, if `path` is a folder, or if the disk is full.
/// A regular file is then as it was.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), WriteError> {
    let write = || match resolve(path)? {
        Target::Replaced(file) => replace(&file, contents),
        // Appending, so that what the program printed before is not overwritten if `/dev/stdout` is a file.
        Target::Direct => File::options().append(true).open(path)?.write_all(contents),
    };
    write().map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Checks that `path` can be written later. The file is neither created nor changed.
///
/// # Errors
/// As [`write()`], but for a disk that becomes full.
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    let check = || match resolve(path)? {
        Target::Replaced(file) => tempfile::tempfile_in(parent(&file)).map(drop),
        // Opening a pipe would wait for its reader.
        Target::Direct => Ok(()),
    };
    check().map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Checks that files can be written later in the folder `path`, which need not exist yet. Nothing is created.
///
/// # Errors
/// [`WriteError`] if `path`, or the first of its parents that exists, is not a folder or cannot be written to.
pub fn check_folder(path: &Path) -> Result<(), WriteError> {
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let check = match existing.is_dir() {
        true => tempfile::tempfile_in(existing).map(drop),
        false => Err(io::ErrorKind::NotADirectory.into()),
    };
    check.map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Follows symbolic links to what is to be written.
fn resolve(path: &Path) -> io::Result<Target> {
    if path.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut place = path.to_owned();
    for _ in 0..=MAX_LINKS {
        // Links such as `/dev/stdout` lead to files that the program has open: replacing those would part the two.
        if ["/dev", "/proc"].iter().any(|folder| place.starts_with(folder))
            && place.exists()
            && !place.is_dir()
        {
            return Ok(Target::Direct);
        }
        let kind = match fs::symlink_metadata(&place) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Target::Replaced(place)),
            Err(error) => return Err(error),
        };
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if kind.is_file() {
            return Ok(Target::Replaced(place));
        }
        if !kind.is_symlink() {
            return Ok(Target::Direct);
        }
        // The link's target is relative to the folder that the link is in, unless it is absolute.
        place = parent(&place).join(fs::read_link(&place)?);
    }
    Err(io::Error::other("too many symbolic links, one behind the other"))
}

fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = parent(path);
    let swept = WRITING.sweep(folder);
    if swept.files > 0 {
        tracing::warn!("{}: removed {swept}", folder.display());
    }
    let mut file = WRITING.create(folder)?;
    file.write_all(contents)?;
    // A temporary file is for its owner only.
    let permissions = fs::metadata(path).map(|metadata| metadata.permissions()).ok().or_else(readable);
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The permissions of a new file; `None` where the system's default will do.
#[cfg(unix)]
fn readable() -> Option<fs::Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable() -> Option<fs::Permissions> {
    None
}

/// The folder that a file is in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
