//! Listed members out of a zip or tar.gz archive.
//!
//! A member is found by its file name, whatever folder of the archive it is in, and always written to its own
//! path below the destination, so no path in an archive can lead anywhere else. Either all of them get their
//! names or none. How much may come out of an archive is limited, so that one which is a few megabytes long cannot
//! fill the disk.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tempfile::NamedTempFile;
use zip::ZipArchive;

use crate::error::{FetchError, Result};
use crate::files::{self, CopyError};
use crate::manifest::{ArchiveFormat, Entry};
use crate::progress::Progress;
use crate::validate::{Expected, default_unpacked};

/// An archive and where its members go.
#[derive(Debug)]
pub struct Unpack<'a> {
    /// The archive.
    pub archive: &'a Path,
    /// How it is packed.
    pub format: ArchiveFormat,
    /// The directory that the members go to.
    pub destination: &'a Path,
    /// Members that must be there. Files of the same name are overwritten.
    pub required: &'a [&'a Entry],
    /// Members to unpack as well if they are there.
    pub optional: &'a [&'a Entry],
    /// How many bytes may come out of the archive; without it 16 times its own length, or 64 MiB if that is more.
    pub max_unpacked: Option<u64>,
}

impl Unpack<'_> {
    /// Unpacks the members and returns the paths of the files written. The archive is left as it is.
    pub fn run(&self, progress: &mut dyn Progress) -> Result<Vec<PathBuf>> {
        let file = File::open(self.archive).map_err(FetchError::io("open", self.archive))?;
        let length = file.metadata().map_err(FetchError::io("open", self.archive))?.len();
        let limit = self.max_unpacked.unwrap_or_else(|| default_unpacked(length));
        let unpacked = match self.format {
            ArchiveFormat::Zip => self.zip(file, limit, progress)?,
            ArchiveFormat::TarGz => self.tar_gz(file, limit, progress)?,
        };
        self.check_members(|name| unpacked.contains_key(name))?;
        let mut written = Vec::new();
        for entry in self.required.iter().chain(self.optional) {
            if let Some(path) = unpacked.get(entry.path.as_str()).map(|_| self.destination.join(&entry.path))
            {
                written.push(path);
            }
        }
        for (name, file) in unpacked {
            files::persist(file, &self.destination.join(name))?;
        }
        Ok(written)
    }

    fn zip<'s>(
        &'s self,
        file: File,
        limit: u64,
        progress: &mut dyn Progress,
    ) -> Result<HashMap<&'s str, NamedTempFile>> {
        let mut archive =
            ZipArchive::new(BufReader::new(file)).map_err(|error| self.broken(error.to_string()))?;
        let mut members = HashMap::new();
        for index in 0..archive.len() {
            let member = archive.by_index(index).map_err(|error| self.broken(error.to_string()))?;
            let name = String::from_utf8_lossy(member.name_raw()).into_owned();
            if member.is_file()
                && !member.is_symlink()
                && let Some(entry) = self.entry(&name)
            {
                members.entry(entry.path.as_str()).or_insert((entry, index));
            }
        }
        self.check_members(|name| members.contains_key(name))?;
        let mut in_order: Vec<_> = members.into_values().collect();
        in_order.sort_by_key(|(_, index)| *index);
        let mut unpacked = HashMap::new();
        let mut total = 0_u64;
        for (entry, index) in in_order {
            let mut member = archive.by_index(index).map_err(|error| self.broken(error.to_string()))?;
            let size = member.size();
            total = total.saturating_add(size);
            if total > limit {
                return Err(self.too_large(Some(entry), limit));
            }
            unpacked.insert(entry.path.as_str(), self.extract(&mut member, size, entry, progress)?);
        }
        Ok(unpacked)
    }

    fn tar_gz<'s>(
        &'s self,
        file: File,
        limit: u64,
        progress: &mut dyn Progress,
    ) -> Result<HashMap<&'s str, NamedTempFile>> {
        let exceeded = Cell::new(false);
        let decoder = GzDecoder::new(BufReader::new(file));
        let mut archive = tar::Archive::new(Limited { inner: decoder, left: limit, exceeded: &exceeded });
        let failed = |error: io::Error| match exceeded.get() {
            true => self.too_large(None, limit),
            false => self.broken(error.to_string()),
        };
        let mut unpacked = HashMap::new();
        let mut total = 0_u64;
        for member in archive.entries().map_err(failed)? {
            let mut member = member.map_err(failed)?;
            let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
            if member.header().entry_type().is_file()
                && let Some(entry) = self.entry(&name)
                && !unpacked.contains_key(entry.path.as_str())
            {
                let size = member.size();
                // Before a byte of it is written; what is not asked for counts as it is read.
                total = total.saturating_add(size);
                if total > limit {
                    return Err(self.too_large(Some(entry), limit));
                }
                unpacked.insert(entry.path.as_str(), self.extract(&mut member, size, entry, progress)?);
            }
        }
        // The end of the compressed stream holds its checksum.
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(failed)?;
        Ok(unpacked)
    }

    /// The entry that a member of this name is, if any.
    fn entry(&self, member: &str) -> Option<&Entry> {
        let mut components = member.rsplit(['/', '\\']);
        let name = components.next()?;
        if components.any(|folder| folder == "__MACOSX") {
            return None;
        }
        self.required.iter().chain(self.optional).find(|entry| entry.path == name).copied()
    }

    fn extract(
        &self,
        member: &mut impl Read,
        size: u64,
        entry: &Entry,
        progress: &mut dyn Progress,
    ) -> Result<NamedTempFile> {
        let path = self.destination.join(&entry.path);
        // The archive vouches for what the member is, by a checksum of its own.
        let expected = Expected { kind: None, ..Expected::new(&entry.path, entry.size, &entry.checksum) };
        expected.verify_size(&path, size)?;
        let mut file = files::temporary(&path)?;
        progress.start(&entry.path, Some(size), 0);
        // One more byte than it may have: enough to see that it is too long, and to reach the check of its CRC.
        let mut member = member.take(size.saturating_add(1));
        let written = files::copy(&mut member, &mut file, progress).map_err(|error| match error {
            CopyError::Read(error) => self.broken(format!("{}: {error}", entry.path)),
            CopyError::Write(error, written) => FetchError::writing(&path, written, false, error),
        })?;
        if written != size {
            return Err(self.broken(format!("{} has {written} bytes instead of {size}", entry.path)));
        }
        expected.verify(file.path()).map_err(|error| error.renamed(file.path(), &path))?;
        progress.finish();
        Ok(file)
    }

    fn check_members(&self, contains: impl Fn(&str) -> bool) -> Result<()> {
        let members: Vec<_> = self
            .required
            .iter()
            .filter(|entry| !contains(&entry.path))
            .map(|entry| entry.path.clone())
            .collect();
        match members.is_empty() {
            true => Ok(()),
            false => Err(FetchError::MissingMember { archive: self.archive.to_path_buf(), members }),
        }
    }

    fn too_large(&self, entry: Option<&Entry>, limit: u64) -> FetchError {
        let member = entry.map(|entry| entry.path.clone());
        FetchError::TooLarge { archive: self.archive.to_path_buf(), member, limit }
    }

    fn broken(&self, reason: String) -> FetchError {
        FetchError::Archive { archive: self.archive.to_path_buf(), format: self.format.name(), reason }
    }
}

/// A stream that may not be longer than it should.
struct Limited<'a, R> {
    inner: R,
    left: u64,
    exceeded: &'a Cell<bool>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded.set(true);
                return Err(io::Error::other("too many bytes"));
            }
        }
        Ok(n)
    }
}
