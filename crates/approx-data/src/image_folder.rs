//! Pictures of one's own in class folders, as for torchvision's `ImageFolder`.
//!
//! | images | class folders in |
//! |---|---|
//! | [`Split::Test`] | `val`, `validation`, `test`, or the folder itself |
//! | [`Split::Train`] | `train` |
//!
//! Classes are numbered in the sorted order of their folders' names, whatever these are. (Folders that are called like
//! ImageNet's synsets have ImageNet's numbers only in [`ImageNet`](crate::ImageNet).) Files whose names begin with a dot
//! are ignored.

use std::path::Path;

use crate::error::{DataError, Result};
use crate::folders::{Listing, class_files};
use crate::image_files::ImageFiles;
use crate::preprocess::Preprocess;
use crate::source::{OnCorrupt, Split};

/// What folders of a data set's parts are called: they are no classes.
const PARTS: [&str; 4] = ["val", "validation", "test", "train"];

/// Finds the images of a split in `folder`. Of more than `limit` images it takes that many at even distances, since one
/// class comes after the other.
///
/// # Errors
/// [`DataError`]: no such folder, no class folders, a class folder without images, a name that is not UTF-8.
pub fn open(
    folder: impl AsRef<Path>,
    split: Split,
    preprocess: Preprocess,
    on_corrupt: OnCorrupt,
    limit: Option<usize>,
) -> Result<ImageFiles> {
    let folder = folder.as_ref();
    if !folder.is_dir() {
        return Err(DataError::MissingFolder(folder.to_owned()));
    }
    let places: &[&str] = match split {
        Split::Train => &["train"],
        Split::Test => &["val", "validation", "test", ""],
    };
    let listing = |place: &&str| {
        let base = folder.join(place);
        base.is_dir().then(|| Ok::<_, DataError>((Listing::of(&base)?, base)))
    };
    let found = places.iter().find_map(listing).transpose()?;
    let (listing, base) = match found {
        Some((listing, base))
            if !listing.folders.is_empty()
                && !listing.folders.iter().any(|name| PARTS.contains(&&**name)) =>
        {
            (listing, base)
        }
        found => {
            let (listing, base) = match found {
                Some(found) => found,
                None => (Listing::of(folder)?, folder.to_owned()),
            };
            let named = |place: &&&str| !place.is_empty();
            let places: Vec<String> = places.iter().filter(named).map(|place| format!("`{place}`")).collect();
            let itself = if split == Split::Test { " or in the folder itself" } else { "" };
            return Err(DataError::NoClassFolders {
                folder: base,
                split: split.name(),
                found: listing.to_string(),
                looked_for: format!("a folder for each class in {}{itself}", places.join(", ")),
            });
        }
    };
    let mut files = class_files(&base, &listing.folders, |_| None)?;
    if let Some(limit) = limit.filter(|&limit| limit < files.len()) {
        files = (0..limit).map(|i| files[i * files.len() / limit].clone()).collect();
    }
    Ok(ImageFiles::new(files, listing.folders.len(), preprocess, on_corrupt))
}
