//! A reader that knows where its input ends.

use std::io::{BufRead, Read};

use crate::error::PickleError;

/// The longest line of a text opcode.
const MAX_LINE: u64 = 1 << 16;

/// Bytes up to a known end; no length is believed that reaches beyond it.
pub(crate) struct Input<R> {
    reader: R,
    offset: u64,
    end: u64,
}

impl<R: BufRead> Input<R> {
    /// `end` is the number of bytes that `reader` has.
    pub(crate) fn new(reader: R, end: u64) -> Self {
        Self { reader, offset: 0, end }
    }

    /// How many bytes have been read.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes follow.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.offset
    }

    /// Whether there are `needed` bytes more.
    pub(crate) fn check(&self, needed: u64) -> Result<(), PickleError> {
        let left = self.left();
        if needed > left { Err(PickleError::Truncated { needed, left }) } else { Ok(()) }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        self.check(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.offset += N as u64;
        Ok(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, PickleError> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn bytes(&mut self, length: u64) -> Result<Vec<u8>, PickleError> {
        self.check(length)?;
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        if (bytes.len() as u64) < length {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        Ok(bytes)
    }

    pub(crate) fn skip(&mut self, length: u64) -> Result<(), PickleError> {
        self.check(length)?;
        let skipped = std::io::copy(&mut self.reader.by_ref().take(length), &mut std::io::sink())?;
        self.offset += skipped;
        if skipped < length {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }

    /// A line of text without its line feed.
    pub(crate) fn line(&mut self) -> Result<String, PickleError> {
        let mut line = Vec::new();
        let limit = MAX_LINE.min(self.left());
        self.reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
        self.offset += line.len() as u64;
        if line.pop() != Some(b'\n') {
            return Err(PickleError::Text("line: it does not end"));
        }
        String::from_utf8(line).map_err(|_| PickleError::Text("line: not UTF-8"))
    }
}
