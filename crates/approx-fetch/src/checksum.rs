//! MD5 and SHA-256 of files.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use md5::Md5;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{FetchError, Result};

/// An expected digest, written `md5:<32 hex>`, `sha256:<64 hex>` or `sha256-prefix:<8 hex or more>`.
///
/// ```
/// use approx_fetch::Checksum;
///
/// let checksum: Checksum = "sha256-prefix:F37072FD".parse()?;
/// assert_eq!(checksum.to_string(), "sha256-prefix:f37072fd");
/// assert!("md5:f37072fd".parse::<Checksum>().is_err());
/// # Ok::<(), approx_fetch::FetchError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Checksum {
    kind: Kind,
    /// In lower case.
    hex: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Md5,
    Sha256,
    /// The leading digits of a SHA-256, as in the file names of published weights.
    Sha256Prefix,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha256Prefix];

    fn tag(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha256Prefix => "sha256-prefix",
        }
    }

    fn accepts(self, digits: usize) -> bool {
        match self {
            Self::Md5 => digits == 32,
            Self::Sha256 => digits == 64,
            Self::Sha256Prefix => (8..=64).contains(&digits),
        }
    }
}

impl Checksum {
    /// The SHA-256 that `hex` spells, if it is one.
    pub(crate) fn sha256(hex: &str) -> Option<Self> {
        format!("sha256:{hex}").parse().ok()
    }

    /// The algorithm's name for people.
    pub fn algorithm(&self) -> &'static str {
        match self.kind {
            Kind::Md5 => "MD5",
            Kind::Sha256 => "SHA-256",
            Kind::Sha256Prefix => "SHA-256 prefix",
        }
    }

    /// Reads `file` and fails unless it has this digest. The file is left as it is.
    pub fn verify(&self, file: &Path) -> Result<()> {
        let mut actual = match self.kind {
            Kind::Md5 => digest::<Md5>(file)?,
            Kind::Sha256 | Kind::Sha256Prefix => digest::<Sha256>(file)?,
        };
        actual.truncate(self.hex.len());
        if actual == self.hex {
            return Ok(());
        }
        Err(FetchError::Checksum {
            file: file.to_path_buf(),
            algorithm: self.algorithm(),
            expected: self.hex.clone(),
            actual,
        })
    }
}

fn digest<D: Digest>(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(FetchError::io("open", path))?;
    let mut hasher = D::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(FetchError::io("read", path))? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

impl FromStr for Checksum {
    type Err = FetchError;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || FetchError::Manifest(format!("'{text}' is not a checksum"));
        let (tag, hex) = text.split_once(':').ok_or_else(invalid)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.tag() == tag).ok_or_else(invalid)?;
        if !kind.accepts(hex.len()) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        Ok(Self { kind, hex: hex.to_ascii_lowercase() })
    }
}

impl TryFrom<String> for Checksum {
    type Error = FetchError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.tag(), self.hex)
    }
}
