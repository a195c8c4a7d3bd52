//! Values in the file.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::ops::Range;

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// How much is read at once: a multiple of every element's size.
const CHUNK: usize = 1 << 18;

/// A run of bytes in the file, as it is or deflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storage {
    /// Where it begins in the file.
    pub start: u64,
    /// How many bytes of the file it takes.
    pub stored: u64,
    /// How many bytes it holds.
    pub length: u64,
    pub deflated: bool,
    /// The CRC-32 of what it holds.
    pub crc: Option<u32>,
}

impl Storage {
    /// Calls `each` with the bytes of `range`, in chunks of whole elements.
    ///
    /// The checksum is compared if the range is all there is.
    pub(crate) fn read(&self, mut file: &File, range: Range<u64>, each: impl FnMut(&[u8])) -> Result<()> {
        if self.deflated {
            file.seek(SeekFrom::Start(self.start))?;
            let mut reader = DeflateDecoder::new(file.take(self.stored));
            let skipped = std::io::copy(&mut reader.by_ref().take(range.start), &mut std::io::sink())?;
            if skipped < range.start {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.read_from(reader, range, each)
        } else {
            file.seek(SeekFrom::Start(self.start + range.start))?;
            self.read_from(file, range, each)
        }
    }

    fn read_from(&self, mut reader: impl Read, range: Range<u64>, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut left = range.end.saturating_sub(range.start);
        let expected = self.crc.filter(|_| left == self.length);
        let mut crc = Crc::new();
        let mut buffer = vec![0; left.min(CHUNK as u64) as usize];
        while left > 0 {
            let chunk = &mut buffer[..left.min(CHUNK as u64) as usize];
            reader.read_exact(chunk)?;
            if expected.is_some() {
                crc.update(chunk);
            }
            each(chunk);
            left -= chunk.len() as u64;
        }
        match expected {
            Some(expected) if expected != crc.sum() => Err(Error::new(
                ErrorKind::InvalidData,
                format!("its CRC-32 is {:08x}, not {expected:08x}: the file is damaged", crc.sum()),
            )),
            _ => Ok(()),
        }
    }
}
