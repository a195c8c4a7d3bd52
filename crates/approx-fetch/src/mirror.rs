//! Another place to take every file from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{FetchError, Result};

/// A directory or a web server that holds the files of the manifest's sources under the names that they have
/// there: an archive under its file name (`cifar10.zip`), a file of the hub under its path in the repository
/// (`plain_text/test/0000.parquet`), after the repository's name where a source has several
/// (`timm/resnet50.tv_in1k/model.safetensors`), any other as its URL ends (`resnet50-19c8e357.pth`). A directory may
/// hold an archive's members instead of the archive, and other files under the paths that they get here
/// (`resnet50_timm.safetensors`).
///
/// ```
/// use approx_fetch::Mirror;
///
/// assert_eq!("https://example.org/files/".parse::<Mirror>()?, Mirror::Url("https://example.org/files".into()));
/// assert_eq!(".".parse::<Mirror>()?, Mirror::Directory(".".into()));
/// assert!("/no/such/directory".parse::<Mirror>().is_err());
/// assert!("ftp://example.org".parse::<Mirror>().is_err());
/// # Ok::<(), approx_fetch::FetchError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// A directory on this machine.
    Directory(PathBuf),
    /// The base address on a web server, without a slash at the end.
    Url(String),
}

impl FromStr for Mirror {
    type Err = FetchError;

    /// An `http://`, `https://` or `file://` URL, or the path of an existing directory.
    fn from_str(given: &str) -> Result<Self> {
        let invalid = |reason: &str| FetchError::InvalidMirror { given: given.into(), reason: reason.into() };
        let path = match given.split_once("://") {
            Some((scheme, rest)) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => {
                return match rest.trim_end_matches('/') {
                    "" => Err(invalid("the address names no server")),
                    _ => Ok(Self::Url(given.trim_end_matches('/').to_owned())),
                };
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(invalid("a file URL has three slashes: file:///path/to/directory"));
                }
                percent_decoded(path).ok_or_else(|| invalid("a malformed %-escape"))?
            }
            Some((scheme, _)) if !Path::new(given).exists() => {
                return Err(invalid(&format!("'{scheme}' is none of http, https and file")));
            }
            _ => given.to_owned(),
        };
        let path = PathBuf::from(path);
        if path.is_dir() {
            Ok(Self::Directory(path))
        } else if path.exists() {
            Err(invalid("it is a file; name the directory that holds it"))
        } else {
            Err(invalid("there is no such directory"))
        }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}
