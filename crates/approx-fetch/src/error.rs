//! What can go wrong.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// The error of every function in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// A manifest that is no TOML, has unknown fields or contradicts itself.
    #[error("the manifest is invalid: {0}")]
    Manifest(String),
    /// An artifact that the manifest does not have.
    #[error("there is no artifact '{name}'; known are: {}", known.join(", "))]
    UnknownArtifact {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A part that the artifact does not have.
    #[error("'{artifact}' has no '{name}'; known are: {}", known.join(", "))]
    UnknownPart {
        /// The artifact.
        artifact: String,
        /// The key or path that was asked for.
        name: String,
        /// The keys that there are.
        known: Vec<String>,
    },
    /// A source that the artifact does not have.
    #[error("'{artifact}' has no source '{name}'; known are: {}", known.join(", "))]
    UnknownSource {
        /// The artifact.
        artifact: String,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A part that the artifact has, but not from the source that was named.
    #[error("'{name}' of '{artifact}' is not in the source '{source_name}'; it is in: {}", others.join(", "))]
    NotInSource {
        /// The artifact.
        artifact: String,
        /// The key or path that was asked for.
        name: String,
        /// The source that was named.
        source_name: String,
        /// The sources that have it.
        others: Vec<String>,
    },
    /// A mirror that is neither an existing directory nor a URL that this crate can read.
    #[error("'{given}' cannot be a mirror: {reason}")]
    InvalidMirror {
        /// What was given.
        given: String,
        /// Why not.
        reason: String,
    },
    /// A directory mirror without the file.
    #[error("{} does not hold {}", mirror.display(), files.join(" or "))]
    NotInMirror {
        /// The directory.
        mirror: PathBuf,
        /// The names looked for; one of them would do.
        files: Vec<String>,
    },
    /// The server answered, but not with the file.
    #[error("{url} answered with HTTP status {status}{}", reason_phrase(*status))]
    Status {
        /// The address asked.
        url: String,
        /// 404, 503 and so on.
        status: u16,
    },
    /// The server could not be reached, fell silent or kept cutting the connection.
    #[error("{url}: {reason}{}", after(*attempts, *kept))]
    Network {
        /// The address asked.
        url: String,
        /// What happened last.
        reason: String,
        /// How often it was tried since the last new byte.
        attempts: u32,
        /// Bytes in the partial file; the next call continues there.
        kept: u64,
    },
    /// An HTML page where a file was expected: a quota, consent or login page.
    #[error("{url} answered with a web page{} instead of the file", quoted(title.as_deref()))]
    WebPage {
        /// The address asked.
        url: String,
        /// The page's title.
        title: Option<String>,
    },
    /// The file is complete but not the expected one. It has been removed, unless it lies in a mirror or was
    /// there before.
    #[error("{} has the wrong {algorithm}: expected {expected}, got {actual}", file.display())]
    Checksum {
        /// The file.
        file: PathBuf,
        /// "MD5", "SHA-256" or "SHA-256 prefix".
        algorithm: &'static str,
        /// The digest in the manifest or named by the server.
        expected: String,
        /// The digest of what arrived.
        actual: String,
    },
    /// The file is complete but has another length than the expected one, or the server says that it has.
    #[error("{} has {actual} bytes instead of {expected}", file.display())]
    Size {
        /// The file.
        file: PathBuf,
        /// The length in the manifest.
        expected: u64,
        /// The length of what arrived or would.
        actual: u64,
    },
    /// A file that was cut short, or something else under its name. It has been removed, unless it lies in a mirror or
    /// was there before.
    #[error("{} is not a complete {kind}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// "parquet file" and so on.
        kind: &'static str,
        /// What tells so.
        reason: String,
    },
    /// A file of which nobody can tell whether all of it would arrive. Nothing of it is kept.
    #[error(
        "{url} did not say how long the file is, and neither a checksum nor its name tells whether it is complete"
    )]
    Unverified {
        /// The address asked.
        url: String,
    },
    /// No space left.
    #[error("the disk is full: {} got {written} bytes{}", file.display(), if *kept {
        "; they are kept, and the next call continues there"
    } else {
        " and was removed"
    })]
    DiskFull {
        /// The file being written.
        file: PathBuf,
        /// How many bytes of it this call wrote.
        written: u64,
        /// Whether the partial file is still there.
        kept: bool,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// "open", "write" and so on.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// An archive that is truncated or none at all.
    #[error("{} is not a complete {format} archive: {reason}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// "zip" or "tar.gz".
        format: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// An archive or a compressed file that unpacks to more than it may.
    #[error("{} unpacks to more than {limit} bytes{}", archive.display(), in_member(member.as_deref()))]
    TooLarge {
        /// The archive.
        archive: PathBuf,
        /// The member that goes beyond the limit, if it is known.
        member: Option<String>,
        /// How many bytes may come out of it: what the manifest says, or else 16 times its own length, or 64 MiB if
        /// that is more.
        limit: u64,
    },
    /// An archive that lacks files.
    #[error("{} does not contain {}", archive.display(), members.join(", "))]
    MissingMember {
        /// The archive.
        archive: PathBuf,
        /// The files looked for in vain.
        members: Vec<String>,
    },
    /// The hub did not deliver.
    #[error("{file} of {repo} (revision {revision}) from {endpoint}: {reason}")]
    Hub {
        /// The server.
        endpoint: String,
        /// Owner and name.
        repo: String,
        /// The path within the repository.
        file: String,
        /// Branch, tag, commit or other reference.
        revision: String,
        /// Why not.
        reason: String,
    },
    /// A gated repository of the hub, and no token to show. A download that has not begun asks the hub nothing.
    #[error("{page} is open only to accounts that have accepted its terms, and no access token was found: \
             accept them there, create a token at {tokens} and set HF_TOKEN to it (now it is not set{})",
            without(token_file.as_deref()))]
    TokenMissing {
        /// The repository's page.
        page: String,
        /// Where tokens are made.
        tokens: String,
        /// The file that may hold a token instead.
        token_file: Option<PathBuf>,
    },
    /// A token that the hub does not know, or no longer.
    #[error(
        "{page}: the access token in {token} is not valid (HTTP status 401); create another one at {tokens}"
    )]
    TokenRefused {
        /// The repository's page.
        page: String,
        /// Where the token comes from; not the token.
        token: String,
        /// Where tokens are made.
        tokens: String,
    },
    /// A valid token of an account that may not read the repository.
    #[error(
        "{page}: the account of the access token in {token} has no access (HTTP status 403); accept the \
             terms there while logged in to this account, and if the token is fine-grained, let it read public \
             gated repositories at {tokens}"
    )]
    AccessDenied {
        /// The repository's page.
        page: String,
        /// Where the token comes from; not the token.
        token: String,
        /// Where tokens are made.
        tokens: String,
    },
    /// Every source failed, each for its own reason.
    #[error("no source of '{artifact}' delivered:{}", listed(failures))]
    AllSources {
        /// The artifact.
        artifact: String,
        /// The sources' names and their errors, in the order of the attempts.
        failures: Vec<(String, FetchError)>,
    },
}

/// Shorthand for this crate's results.
pub type Result<T, E = FetchError> = std::result::Result<T, E>;

impl FetchError {
    /// Whether this machine is at fault, so that another source would not help.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Io { .. })
    }

    /// The same error about the file `to` instead of the file `from`, which has that name only for now.
    pub(crate) fn renamed(mut self, from: &Path, to: &Path) -> Self {
        match &mut self {
            Self::Checksum { file, .. }
            | Self::Size { file, .. }
            | Self::Damaged { file, .. }
            | Self::Archive { archive: file, .. }
            | Self::TooLarge { archive: file, .. }
            | Self::MissingMember { archive: file, .. }
                if file == from =>
            {
                *file = to.to_path_buf();
            }
            _ => {}
        }
        self
    }

    /// The same error about a file that is not what its name says, with what else is known about how it came.
    pub(crate) fn explained(mut self, explanation: &str) -> Self {
        if let Self::Damaged { reason, .. } | Self::Archive { reason, .. } = &mut self {
            *reason = format!("{reason}; {explanation}");
        }
        self
    }

    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |reason| Self::Io { action, path: path.to_path_buf(), reason }
    }

    /// An error while writing `file`, told apart by whether the disk is full.
    pub(crate) fn writing(file: &Path, written: u64, kept: bool, reason: io::Error) -> Self {
        match reason.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { file: file.to_path_buf(), written, kept }
            }
            _ => Self::Io { action: "write", path: file.to_path_buf(), reason },
        }
    }
}

/// What a status means, in brackets.
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    match status {
        401 => " (not authorised)",
        403 => " (forbidden)",
        404 => " (not found)",
        410 => " (gone)",
        429 => " (too many requests)",
        503 => " (service unavailable)",
        _ => "",
    }
}

fn without(token_file: Option<&Path>) -> String {
    token_file.map(|file| format!(", and {} holds none", file.display())).unwrap_or_default()
}

pub(crate) fn after(attempts: u32, kept: u64) -> String {
    let mut text = match attempts {
        0 | 1 => String::new(),
        n => format!(" (gave up after {n} attempts)"),
    };
    if kept > 0 {
        let _ = write!(text, "; the first {kept} bytes are kept, and the next call continues there");
    }
    text
}

fn in_member(member: Option<&str>) -> String {
    member.map(|member| format!(", in {member}")).unwrap_or_default()
}

fn quoted(title: Option<&str>) -> String {
    title.map(|title| format!(" (\"{title}\")")).unwrap_or_default()
}

fn listed(failures: &[(String, FetchError)]) -> String {
    failures.iter().fold(String::new(), |mut text, (source, error)| {
        let _ = write!(text, "\n  {source}: {error}");
        text
    })
}
