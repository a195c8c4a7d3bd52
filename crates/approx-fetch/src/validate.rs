//! What a file is held against before it gets its name.
//!
//! A digest decides where one is known. Elsewhere the file has to be what the end of its name says: a `.parquet` file
//! ends with its footer, the lengths in the header of a `.safetensors` file add up to its own, and so on. That tells a
//! file that was cut short and a page that came in its place, but not another file of the same kind.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use torch_checkpoint::{Checkpoint, CheckpointError};
use zip::ZipArchive;

use crate::checksum::Checksum;
use crate::error::{FetchError, Result};

/// What is known about a file before it comes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected<'a> {
    /// Digests, all of which it must have.
    pub(crate) checksums: Vec<&'a Checksum>,
    /// Its length in bytes.
    pub(crate) size: Option<u64>,
    /// What it is, if the end of its name tells.
    pub(crate) kind: Option<Kind>,
}

/// Files that tell by themselves whether they are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every member has its CRC-32.
    Zip,
    /// The stream ends with its CRC-32.
    TarGz,
    /// The same, of something else than an archive.
    Gzip,
    /// The footer is as long as the end of the file says.
    Parquet,
    /// The tensors fill the file.
    Safetensors,
    /// All storages are there and, if they are in a zip archive, have their CRC-32.
    Checkpoint,
}

/// Why a file is not what it should be.
enum Fault {
    /// It could not be read.
    Io(io::Error),
    /// It is damaged, or something else.
    Damaged(String),
    /// It unpacks to more than this many bytes.
    TooLarge(u64),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The decoders' words for what does not fit their format.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

/// How many bytes may come out of `packed` bytes where the manifest does not say: 16 for each, which is more than
/// images and weights compress to, and 64 MiB in any case.
pub(crate) fn default_unpacked(packed: u64) -> u64 {
    packed.saturating_mul(16).max(64 << 20)
}

impl<'a> Expected<'a> {
    /// Of a file called `name`.
    pub(crate) fn new(
        name: &str,
        size: Option<u64>,
        checksums: impl IntoIterator<Item = &'a Checksum>,
    ) -> Self {
        Self { checksums: checksums.into_iter().collect(), size, kind: Kind::of(name) }
    }

    /// Whether a complete file can be told from one that was cut short.
    pub(crate) fn tells_the_end(&self) -> bool {
        !self.checksums.is_empty() || self.size.is_some() || self.kind.is_some()
    }

    /// Reads `file` and fails unless it is as expected. The file is left as it is.
    pub(crate) fn verify(&self, file: &Path) -> Result<()> {
        let length = std::fs::metadata(file).map_err(FetchError::io("open", file))?.len();
        self.verify_size(file, length)?;
        match (&self.checksums[..], self.kind) {
            ([], Some(kind)) => kind.verify(file, length),
            (checksums, _) => checksums.iter().try_for_each(|checksum| checksum.verify(file)),
        }
    }

    /// Whether a file of `actual` bytes can be the right one.
    pub(crate) fn verify_size(&self, file: &Path, actual: u64) -> Result<()> {
        match self.size {
            Some(expected) if expected != actual => {
                Err(FetchError::Size { file: file.to_path_buf(), expected, actual })
            }
            _ => Ok(()),
        }
    }
}

impl Kind {
    /// By the end of a file's name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        const ENDS: [(&str, Kind); 8] = [
            (".zip", Kind::Zip),
            (".tar.gz", Kind::TarGz),
            (".tgz", Kind::TarGz),
            (".gz", Kind::Gzip),
            (".parquet", Kind::Parquet),
            (".safetensors", Kind::Safetensors),
            (".pt", Kind::Checkpoint),
            (".pth", Kind::Checkpoint),
        ];
        let name = name.to_ascii_lowercase();
        ENDS.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| kind)
    }

    fn verify(self, path: &Path, length: u64) -> Result<()> {
        let check = || -> Result<(), Fault> {
            let mut file = File::open(path)?;
            match self {
                Self::Zip => zip(file, length, false),
                Self::TarGz | Self::Gzip => gzip(file, length),
                Self::Parquet => parquet(&mut file, length),
                Self::Safetensors => safetensors(&mut file, length),
                Self::Checkpoint => checkpoint(file, path, length),
            }
        };
        let damaged = |kind, reason| FetchError::Damaged { file: path.to_path_buf(), kind, reason };
        let archive = |format, reason| FetchError::Archive { archive: path.to_path_buf(), format, reason };
        check().map_err(|fault| match (fault, self) {
            (Fault::Io(error), _) => FetchError::io("read", path)(error),
            (Fault::TooLarge(limit), _) => {
                FetchError::TooLarge { archive: path.to_path_buf(), member: None, limit }
            }
            (Fault::Damaged(reason), Self::Zip) => archive("zip", reason),
            (Fault::Damaged(reason), Self::TarGz) => archive("tar.gz", reason),
            (Fault::Damaged(reason), Self::Gzip) => damaged("gzip file", reason),
            (Fault::Damaged(reason), Self::Parquet) => damaged("parquet file", reason),
            (Fault::Damaged(reason), Self::Safetensors) => damaged("safetensors file", reason),
            (Fault::Damaged(reason), Self::Checkpoint) => damaged("PyTorch checkpoint", reason),
        })
    }
}

/// Reads every member of an archive, but for those `without_crc` that have 0 for it, if there may be such.
fn zip(file: File, length: u64, without_crc: bool) -> Result<(), Fault> {
    let damaged = |error: zip::result::ZipError| match error {
        zip::result::ZipError::Io(error) => Fault::from(error),
        other => Fault::Damaged(other.to_string()),
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let limit = default_unpacked(length);
    let mut total = 0_u64;
    for index in 0..archive.len() {
        if without_crc && archive.by_index_raw(index).map_err(damaged)?.crc32() == 0 {
            continue;
        }
        let mut member = archive.by_index(index).map_err(damaged)?;
        let (name, size) = (String::from_utf8_lossy(member.name_raw()).into_owned(), member.size());
        total = total.saturating_add(size);
        if total > limit {
            return Err(Fault::TooLarge(limit));
        }
        // One more byte than it may have: enough to see that it is too long, and to reach the check of its CRC.
        let read = io::copy(&mut member.by_ref().take(size + 1), &mut io::sink());
        let read = read.map_err(|error| match Fault::from(error) {
            Fault::Damaged(reason) => Fault::Damaged(format!("{name}: {reason}")),
            other => other,
        })?;
        if read != size {
            return Err(Fault::Damaged(format!("{name} has {read} bytes instead of {size}")));
        }
    }
    Ok(())
}

/// Reads a compressed stream to its end.
fn gzip(file: File, length: u64) -> Result<(), Fault> {
    let limit = default_unpacked(length);
    let mut stream = MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file)).take(limit + 1);
    match io::copy(&mut stream, &mut io::sink())? {
        read if read > limit => Err(Fault::TooLarge(limit)),
        _ => Ok(()),
    }
}

/// `PAR1`, the values, the footer, its length in four bytes, `PAR1`
/// (<https://parquet.apache.org/docs/file-format/>).
fn parquet(file: &mut File, length: u64) -> Result<(), Fault> {
    const MAGIC: &[u8] = b"PAR1";
    let (mut start, mut end) = ([0; 4], [0; 8]);
    if length < 12 {
        return Err(Fault::Damaged(format!("it has {length} bytes, and the shortest one has 12")));
    }
    file.read_exact(&mut start)?;
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut end)?;
    if start != MAGIC || &end[4..] != MAGIC {
        let at = if start == MAGIC { "end" } else { "begin" };
        return Err(Fault::Damaged(format!("it does not {at} with PAR1")));
    }
    let footer = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    match footer {
        1.. if footer <= length - 12 => Ok(()),
        _ => Err(Fault::Damaged(format!("a footer of {footer} bytes is not possible in {length}"))),
    }
}

/// The length of the header in eight bytes, the header in JSON, the values of the tensors without gaps
/// (<https://github.com/huggingface/safetensors#format>).
fn safetensors(file: &mut File, length: u64) -> Result<(), Fault> {
    /// As much as other readers take.
    const MAX_HEADER: u64 = 100_000_000;
    const METADATA: &str = "__metadata__";
    #[derive(Deserialize)]
    struct Item {
        data_offsets: Option<(u64, u64)>,
    }

    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    if size > length - 8 || size > MAX_HEADER {
        return Err(Fault::Damaged(format!("a header of {size} bytes is not possible in {length}")));
    }
    let mut header = Vec::new();
    file.take(size).read_to_end(&mut header)?;
    let header: HashMap<String, Item> =
        serde_json::from_slice(&header).map_err(|error| Fault::Damaged(format!("its header: {error}")))?;
    let mut tensors = Vec::new();
    for (name, item) in &header {
        match item.data_offsets {
            Some(offsets) => tensors.push((offsets, name)),
            None if name == METADATA => {}
            None => return Err(Fault::Damaged(format!("the tensor {name} has no place"))),
        }
    }
    tensors.sort_unstable();
    let mut place = 0;
    for ((start, end), name) in tensors {
        if start != place || end < start {
            return Err(Fault::Damaged(format!(
                "{name} is at {start} to {end}, after {place} bytes of others"
            )));
        }
        place = end;
    }
    let values = length - 8 - size;
    match place == values {
        true => Ok(()),
        false => Err(Fault::Damaged(format!("the tensors have {place} bytes, and there are {values}"))),
    }
}

/// Locates all tensors without running the pickle.
fn checkpoint(file: File, path: &Path, length: u64) -> Result<(), Fault> {
    match Checkpoint::open(path) {
        Ok(_) => {}
        Err(CheckpointError::Io { reason, .. }) => return Err(reason.into()),
        Err(error) => {
            // The path is told by the error that this becomes.
            let (text, path) = (error.to_string(), format!("{}: ", path.display()));
            return Err(Fault::Damaged(text.strip_prefix(&path).unwrap_or(&text).to_owned()));
        }
    }
    let (mut file, mut start) = (file, [0; 2]);
    file.read_exact(&mut start)?;
    // PyTorch writes 0 when it is told not to compute checksums.
    if &start == b"PK" { zip(file, length, true) } else { Ok(()) }
}
