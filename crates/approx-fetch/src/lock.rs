//! One process at a time in a directory.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use atomic_file::is_at;

use crate::error::{FetchError, Result};
use crate::progress::Progress;

/// The name of a directory's lock.
const LOCK: &str = ".fetch.lock";

/// Keeps other processes from fetching into a directory until it is dropped.
pub(crate) struct Lock {
    path: PathBuf,
    /// `None` where the file system has no locks, as with some network file systems.
    _file: Option<File>,
}

impl Lock {
    /// Waits until no other process fetches into `directory`, which is created.
    pub(crate) fn acquire(directory: &Path, progress: &mut dyn Progress) -> Result<Self> {
        let path = directory.join(LOCK);
        loop {
            fs::create_dir_all(directory).map_err(FetchError::io("create", directory))?;
            let file = match File::options().write(true).create(true).truncate(false).open(&path) {
                // Another process has just removed the empty directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => continue,
                result => result.map_err(FetchError::io("open", &path))?,
            };
            let result = match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let place = directory.display();
                    progress.note(&format!("waiting for another process that fetches into {place}"));
                    file.lock()
                }
                Err(TryLockError::Error(error)) => Err(error),
                Ok(()) => Ok(()),
            };
            match result {
                Ok(()) if is_at(&file, &path) => return Ok(Self { path, _file: Some(file) }),
                // The process that had the lock has removed the file, and another may hold a new one.
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(Self { path, _file: None });
                }
                Err(error) => return Err(FetchError::io("lock", &path)(error)),
            }
        }
    }
}

impl Lock {
    /// The lock that a killed process has left in `directory`, if there is one and no other process has taken it.
    pub(crate) fn take_over(directory: &Path) -> Option<Self> {
        let path = directory.join(LOCK);
        let file = File::options().write(true).open(&path).ok()?;
        if file.try_lock().is_ok() && is_at(&file, &path) {
            return Some(Self { path, _file: Some(file) });
        }
        None
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Elsewhere `is_at` cannot tell, so the file stays.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
            // Fails if there is anything in the directory, as it should.
            let _ = self.path.parent().map(fs::remove_dir);
        }
    }
}
