//! The layout since PyTorch 1.6: a zip archive with `data.pkl`, and a file for each storage.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use crate::error::CheckpointError;
use crate::input::Input;
use crate::pickle::{MAX_PICKLE_MEMORY, Pickle};
use crate::storage::Storage;

/// Deflate cannot make more out of a byte.
const MAX_INFLATION: u64 = 1032;

/// Reads the pickle and finds the storages.
pub(crate) fn open(
    path: &Path,
    file: &File,
    length: u64,
) -> Result<(Pickle, HashMap<String, Storage>), CheckpointError> {
    let malformed = |reason: String| CheckpointError::Archive { path: path.to_owned(), reason };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| malformed(error.to_string()))?;

    // `archive/data.pkl`, where `archive` may be any name.
    let folder = archive
        .file_names_raw()
        .filter_map(|name| name.strip_suffix(b"data.pkl"))
        .find(|folder| folder.iter().position(|&byte| byte == b'/') == folder.len().checked_sub(1))
        .ok_or_else(|| CheckpointError::NoPickle(path.to_owned()))?
        .to_vec();

    let mut entries = HashMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| malformed(error.to_string()))?;
        let Some(name) = entry.name_raw().strip_prefix(&folder[..]) else { continue };
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let storage = Storage {
            start: entry.data_start().ok_or_else(|| malformed(format!("{name} has no data")))?,
            stored: entry.compressed_size(),
            length: entry.size(),
            deflated: entry.compression() == CompressionMethod::Deflated,
            // PyTorch writes 0 when it is told not to compute checksums.
            crc: Some(entry.crc32()).filter(|&crc| crc != 0),
        };
        if entry.encrypted() {
            return Err(malformed(format!("{name} is encrypted")));
        }
        if !storage.deflated && entry.compression() != CompressionMethod::Stored {
            return Err(malformed(format!("{name} is compressed as {}", entry.compression())));
        }
        if storage.start.checked_add(storage.stored).is_none_or(|end| end > length) {
            return Err(malformed(format!(
                "{name} has {} bytes at {}, and the file has {length}",
                storage.stored, storage.start
            )));
        }
        let most =
            if storage.deflated { storage.stored.saturating_mul(MAX_INFLATION) } else { storage.stored };
        if storage.length > most {
            return Err(malformed(format!(
                "{name} is said to have {} bytes out of {}",
                storage.length, storage.stored
            )));
        }
        entries.insert(name.to_owned(), storage);
    }
    drop(archive);

    let read = |name: &str, limit: usize| -> Result<Option<Vec<u8>>, CheckpointError> {
        let Some(storage) = entries.get(name) else { return Ok(None) };
        if storage.length > limit as u64 {
            return Err(malformed(format!("{name} has {} bytes, more than {limit}", storage.length)));
        }
        let mut bytes = Vec::new();
        storage
            .read(file, 0..storage.length, |chunk| bytes.extend_from_slice(chunk))
            .map_err(|error| malformed(format!("{name}: {error}")))?;
        Ok(Some(bytes))
    };
    if let Some(order) = read("byteorder", 16)? {
        match &order[..] {
            b"little" => {}
            b"big" => return Err(CheckpointError::BigEndian(path.to_owned())),
            other => return Err(malformed(format!("its byte order is '{}'", other.escape_ascii()))),
        }
    }
    let bytes =
        read("data.pkl", MAX_PICKLE_MEMORY)?.ok_or_else(|| CheckpointError::NoPickle(path.to_owned()))?;
    let pickle =
        Pickle::read(&mut Input::new(&bytes[..], bytes.len() as u64)).map_err(|fault| fault.at(path))?;

    let storages = entries
        .into_iter()
        .filter_map(|(name, storage)| Some((name.strip_prefix("data/")?.to_owned(), storage)))
        .collect();
    Ok((pickle, storages))
}
