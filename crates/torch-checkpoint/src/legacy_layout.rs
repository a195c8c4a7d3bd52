//! The layout of PyTorch 0.1.10 to 1.5: pickles one after the other, then the values of the storages.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::dtype::storage_element_size;
use crate::error::CheckpointError;
use crate::input::Input;
use crate::pickle::{Node, Pickle};
use crate::state_dict::StorageRef;
use crate::storage::Storage;

const MAGIC_NUMBER: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL_VERSION: i128 = 1001;

/// Reads the pickle and finds the storages.
pub(crate) fn open(
    path: &Path,
    mut file: &File,
    length: u64,
) -> Result<(Pickle, HashMap<String, Storage>), CheckpointError> {
    let malformed = |part: &str, expected, found: String| CheckpointError::Malformed {
        path: path.to_owned(),
        part: part.to_owned(),
        expected,
        found,
    };
    file.seek(SeekFrom::Start(0)).map_err(CheckpointError::io("read", path))?;
    let mut input = Input::new(BufReader::with_capacity(1 << 16, file), length);
    let mut next = || Pickle::read(&mut input).map_err(|fault| fault.at(path));

    let magic = next()?;
    if !matches!(magic.root(), Node::Int(MAGIC_NUMBER)) {
        return Err(malformed("its first pickle", "PyTorch's magic number", magic.describe(magic.root_id())));
    }
    let version = next()?;
    if !matches!(version.root(), Node::Int(PROTOCOL_VERSION)) {
        let found = match version.root() {
            Node::Int(number) => number.to_string(),
            _ => version.describe(version.root_id()),
        };
        return Err(malformed("its version", "1001", found));
    }
    let system = next()?;
    match system.get(system.root_id(), "little_endian").map(|id| system.node(id)) {
        Some(Node::Bool(true)) => {}
        Some(Node::Bool(false)) => return Err(CheckpointError::BigEndian(path.to_owned())),
        _ => {
            let found = system.describe(system.root_id());
            return Err(malformed("its third pickle", "a dict with `little_endian`", found));
        }
    }
    let pickle = next()?;
    let keys = next()?;
    let Node::List(keys_in_order) = keys.root() else {
        return Err(malformed("its fifth pickle", "a list of storages", keys.describe(keys.root_id())));
    };

    // How long a storage is follows from its type, which only the references to it tell.
    let mut element_sizes = HashMap::new();
    for &id in pickle.persistent() {
        let Some((key, class)) = StorageRef::key_and_class(&pickle, id) else { continue };
        let size = storage_element_size(class).ok_or_else(|| {
            malformed(&format!("storage '{key}'"), "of a known type", format!("a `{class}`"))
        })?;
        if element_sizes.insert(key, size).is_some_and(|other| other != size) {
            return Err(malformed(&format!("storage '{key}'"), "of one type", "of several types".to_owned()));
        }
    }

    let mut storages = HashMap::new();
    let mut offset = input.offset();
    for &id in keys_in_order {
        let Node::Str(key) = keys.node(id) else {
            return Err(malformed("a storage's name", "a string", keys.describe(id)));
        };
        let Some(size) = element_sizes.get(&**key) else {
            let found = format!("a list with the unknown '{}'", key.escape_debug());
            return Err(malformed("its fifth pickle", "a list of the storages in use", found));
        };
        let cut_short = |needed| CheckpointError::Truncated {
            path: path.to_owned(),
            key: key.to_string(),
            needed,
            left: length - offset,
        };
        // The number of elements.
        let start = offset + 8;
        if start > length {
            return Err(cut_short(8));
        }
        let mut count = [0; 8];
        file.seek(SeekFrom::Start(offset)).map_err(CheckpointError::io("read", path))?;
        file.read_exact(&mut count).map_err(CheckpointError::io("read", path))?;
        let count = i64::from_le_bytes(count);
        let bytes =
            u64::try_from(count).ok().and_then(|count| count.checked_mul(*size)).ok_or_else(|| {
                malformed(&format!("the length of storage '{key}'"), "a possible one", count.to_string())
            })?;
        if bytes > length - start {
            return Err(cut_short(bytes.saturating_add(8)));
        }
        storages.insert(
            key.to_string(),
            Storage { start, stored: bytes, length: bytes, deflated: false, crc: None },
        );
        offset = start + bytes;
    }
    Ok((pickle, storages))
}
