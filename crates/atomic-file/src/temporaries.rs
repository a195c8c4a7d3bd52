//! Temporary files of which another process can tell whether somebody still writes them.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

/// How many characters `tempfile` puts between prefix and suffix.
const RANDOM: usize = 6;

/// Where there are no locks, a file that nobody has written to for so long is taken for one that was left.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Temporary files of one purpose: their names are `prefix`, six letters or digits, `suffix`.
///
/// Whoever writes such a file holds a lock on it, which the system releases when the process ends, however it ends. So
/// [`sweep`](Self::sweep) removes the files that nobody has locked.
///
/// ```
/// use std::io::Write;
/// use atomic_file::Temporaries;
///
/// let folder = tempfile::tempdir()?;
/// const PLOTS: Temporaries = Temporaries { prefix: ".plot-", suffix: ".tmp", shared: false };
/// let mut file = PLOTS.create(folder.path())?;
/// file.write_all(b"a line")?;
/// std::fs::write(folder.path().join(".plot-a1B2c3.tmp"), "left by a process that was killed")?;
/// let swept = PLOTS.sweep(folder.path());
/// assert_eq!((swept.files, swept.bytes), (1, 33));
/// assert!(file.path().exists());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// On systems other than Unix, and on file systems without locks, a file is taken for left once nobody has written to
/// it for a day.
#[derive(Debug, Clone, Copy)]
pub struct Temporaries {
    /// How their names begin. It should tell whose they are, because files with such names are removed.
    pub prefix: &'static str,
    /// How their names end.
    pub suffix: &'static str,
    /// Whether others may read them, as they may read other new files; if not, only their owner may.
    pub shared: bool,
}

/// What [`Temporaries::sweep`] has removed. It is displayed as `2 unfinished files (1024 bytes) of a process that was
/// killed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many files.
    pub files: usize,
    /// How many bytes were in them.
    pub bytes: u64,
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, noun) = (self.files, if self.files == 1 { "file" } else { "files" });
        write!(f, "{files} unfinished {noun} ({} bytes) of a process that was killed", self.bytes)
    }
}

impl Temporaries {
    /// A new file in `folder`, which is removed when it is dropped, unless it has been renamed.
    ///
    /// # Errors
    /// The system's, if no file can be created in `folder`.
    pub fn create(&self, folder: &Path) -> io::Result<NamedTempFile> {
        loop {
            let mut builder = tempfile::Builder::new();
            builder.prefix(self.prefix).suffix(self.suffix).rand_bytes(RANDOM);
            #[cfg(unix)]
            if self.shared {
                builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            }
            let file = builder.tempfile_in(folder)?;
            match lock(file.as_file()) {
                // Another process swept between the two steps: it holds the lock and removes the file, or has done so.
                Err(TryLockError::WouldBlock) => {}
                Ok(()) if !is_at(file.as_file(), file.path()) => {}
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
            }
        }
    }

    /// Removes the files in `folder` that nobody writes any more. Files that cannot be read or removed stay.
    pub fn sweep(&self, folder: &Path) -> Swept {
        let mut swept = Swept::default();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let named = entry.file_name().to_str().is_some_and(|name| self.is_name(name));
            if !named || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            let path = entry.path();
            // Some network file systems lock only what is open for writing; others may not write to the file.
            let Ok(file) = File::options().write(true).open(&path).or_else(|_| File::open(&path)) else {
                continue;
            };
            let abandoned = match lock(&file) {
                Ok(()) => is_at(&file, &path),
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(_)) => is_old(&file),
            };
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            if abandoned && fs::remove_file(&path).is_ok() {
                swept.files += 1;
                swept.bytes += bytes;
            }
        }
        swept
    }

    fn is_name(&self, name: &str) -> bool {
        name.strip_prefix(self.prefix).and_then(|name| name.strip_suffix(self.suffix)).is_some_and(|random| {
            random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    }
}

/// Locks `file` for as long as it is open. Elsewhere than on Unix a lock would keep its own process from reading the
/// file by its name.
fn lock(file: &File) -> Result<(), TryLockError> {
    match cfg!(unix) {
        true => file.try_lock(),
        false => Err(TryLockError::Error(io::ErrorKind::Unsupported.into())),
    }
}

fn is_old(file: &File) -> bool {
    let written = file.metadata().and_then(|metadata| metadata.modified());
    written.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED))
}

/// Whether the open `file` is the one that `path` names now, so that a lock on it is a lock on that. Elsewhere than on Unix
/// it is always said to be.
pub fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (file.metadata(), fs::metadata(path)) {
            (Ok(open), Ok(named)) => identity(open) == identity(named),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        true
    }
}
