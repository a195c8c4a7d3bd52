//! Files that are written whole or not at all.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::Path;

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};

use crate::error::{EvalError, Result};
use crate::evaluate::Logits;

/// Writes `path` by way of a temporary file beside it, so that it never exists half written.
///
/// # Errors
/// [`EvalError::Write`] with the path.
pub fn write_atomically(path: &Path, contents: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let folder = parent(path);
        let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        // Temporary files are for their owner only; a result is not.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| EvalError::Write { path: path.to_owned(), source })
}

/// Whether `path` can be written later: better to know before the work than after.
///
/// # Errors
/// [`EvalError::Write`] with the path.
pub fn check_writable(path: &Path) -> Result<()> {
    let error = |source| EvalError::Write { path: path.to_owned(), source };
    if path.is_dir() || path.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
        return Err(error(io::ErrorKind::IsADirectory.into()));
    }
    tempfile::tempfile_in(parent(path)).map(drop).map_err(error)
}

/// Whether files can be written later in the folder `path`, which need not be there yet. Nothing is created.
///
/// # Errors
/// [`EvalError::Write`] with the path.
pub fn check_folder(path: &Path) -> Result<()> {
    let error = |source| EvalError::Write { path: path.to_owned(), source };
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(error(io::ErrorKind::NotADirectory.into()));
    }
    tempfile::tempfile_in(there).map(drop).map_err(error)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes `exact` and `approx` (`[N, classes]`, float32) and `labels` (`[N]`, int64) as safetensors.
///
/// # Errors
/// [`EvalError::Write`] with the path.
pub fn write_logits(path: &Path, exact: &Logits, approx: &Logits, labels: &[u16]) -> Result<()> {
    let tensor = |logits: &Logits| {
        let shape = (labels.len(), logits.classes());
        Tensor::from_slice(logits.values(), shape, &Device::Cpu)
    };
    let labels: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
    let tensors = HashMap::from([
        ("exact", tensor(exact)?),
        ("approx", tensor(approx)?),
        ("labels", Tensor::new(labels, &Device::Cpu)?),
    ]);
    let error = |source| EvalError::Write { path: path.to_owned(), source };
    let folder = tempfile::tempdir_in(parent(path)).map_err(error)?;
    let whole = folder.path().join("logits");
    candle_core::safetensors::save(&tensors, &whole)?;
    std::fs::rename(&whole, path).map_err(error)
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// The file system's.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// The SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(sha256_of_file(&path).unwrap(), sha256(b"two"));
    }

    #[test]
    fn unwritable_paths_are_named_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let error = check_writable(folder.path()).unwrap_err().to_string();
        assert!(error.contains("directory"), "{error}");
        let error = check_writable(&folder.path().join("no/such/report.json")).unwrap_err().to_string();
        assert!(error.contains("no/such/report.json: No such file or directory"), "{error}");
        check_writable(&folder.path().join("report.json")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        for path in ["file", "file/inner"] {
            let error = check_folder(&folder.path().join(path)).unwrap_err().to_string();
            assert!(error.contains(&format!("{path}: not a directory")), "{error}");
        }
        check_folder(&folder.path().join("no/such")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn sha256_is_the_standards() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
