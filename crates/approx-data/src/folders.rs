//! What lies in folders.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use rayon::prelude::*;

use crate::error::{DataError, Result, check_label};

/// What names of picture files end with, in any case. Of these, TIFF is not read.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];

/// The names in a folder but those that begin with a dot, sorted.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<String>,
    pub(crate) folders: Vec<String>,
}

impl Listing {
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let io = |source| DataError::Io { path: folder.to_owned(), source };
        let mut listing = Self::default();
        for entry in fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().into_string().map_err(|_| DataError::Io {
                path: entry.path(),
                source: io::Error::new(io::ErrorKind::InvalidData, "its name is not UTF-8"),
            })?;
            if name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(io)?;
            // Links are followed.
            match kind.is_dir() || kind.is_symlink() && entry.path().is_dir() {
                true => listing.folders.push(name),
                false => listing.files.push(name),
            }
        }
        listing.files.sort_unstable();
        listing.folders.sort_unstable();
        Ok(listing)
    }

    pub(crate) fn pictures(&self) -> impl Iterator<Item = &str> {
        let is_picture = |name: &str| {
            let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
            EXTENSIONS.iter().any(|extension| ending.eq_ignore_ascii_case(extension))
        };
        self.files.iter().map(String::as_str).filter(move |name| is_picture(name))
    }
}

/// For messages: how many of each kind, and the first of them.
impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = |names: &[&str]| match names {
            [] => String::new(),
            [one] => format!(" ({one})"),
            [one, ..] => format!(" ({one}, …)"),
        };
        let folders: Vec<&str> = self.folders.iter().map(String::as_str).collect();
        let pictures: Vec<&str> = self.pictures().collect();
        write!(
            f,
            "{} folders{}, {} pictures{}, {} other files",
            folders.len(),
            first(&folders),
            pictures.len(),
            first(&pictures),
            self.files.len() - pictures.len()
        )
    }
}

/// The pictures in the class folders of `base` with their labels: what `label_of` says of a folder's name, or else its
/// place among `classes`. They are in the order of torchvision's `ImageFolder`.
pub(crate) fn class_files(
    base: &Path,
    classes: &[String],
    label_of: impl Fn(&str) -> Option<u16> + Sync,
) -> Result<Vec<(PathBuf, u16)>> {
    let class_of = |position: usize, name: &str| match label_of(name) {
        Some(label) => Ok(label),
        None => check_label(base, 0, position as i64, classes.len()),
    };
    let files: Vec<Vec<(PathBuf, u16)>> = classes
        .par_iter()
        .enumerate()
        .map(|(position, name)| {
            let folder = base.join(name);
            let label = class_of(position, name)?;
            let mut files = Vec::new();
            walk(&folder, &mut files)?;
            if files.is_empty() {
                return Err(DataError::EmptyClass { folder, extensions: EXTENSIONS.join(", ") });
            }
            // By folder and then by name, not by components: so does torchvision.
            files.sort_unstable();
            Ok(files.into_iter().map(|(folder, name)| (Path::new(&folder).join(name), label)).collect())
        })
        .collect::<Result<_>>()?;
    Ok(files.concat())
}

/// All pictures in a folder and in those within.
fn walk(folder: &Path, files: &mut Vec<(OsString, String)>) -> Result<()> {
    let listing = Listing::of(folder)?;
    files.extend(listing.pictures().map(|name| (folder.as_os_str().to_owned(), name.to_owned())));
    listing.folders.iter().try_for_each(|name| walk(&folder.join(name), files))
}
