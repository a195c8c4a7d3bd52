//! The list of what can be fetched: `manifest.toml`, or a text of the same form.

use std::collections::HashSet;
use std::path::{Component, Path};

use serde::Deserialize;

use crate::checksum::Checksum;
use crate::error::{FetchError, Result};

const COMMITTED: &str = include_str!("../manifest.toml");

/// Artifacts by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(rename = "artifact")]
    artifacts: Vec<Artifact>,
}

/// Something to fetch: one or several files, with one or several sources.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// The name to ask for.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Where to read about it.
    pub homepage: String,
    /// Under which terms it may be used, as half a sentence.
    pub licence: String,
    /// How a copy of one's own may be laid out, a line each; empty where nobody is expected to have one.
    #[serde(default)]
    pub layouts: Vec<String>,
    /// In order of preference. They may deliver different files.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

/// Where an artifact comes from and where its files go.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// One archive, from which the entries are unpacked.
    Archive(ArchiveSource),
    /// Files of a repository on the Hugging Face hub.
    Hub(HubSource),
    /// Files with an address each.
    Files(FilesSource),
}

/// An archive at a URL.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSource {
    /// The source's name.
    pub name: String,
    /// Where the archive is.
    pub url: String,
    /// The archive's file name, here and in a mirror.
    pub file: String,
    /// How to read it.
    pub format: ArchiveFormat,
    /// The archive's digest, if known.
    pub checksum: Option<Checksum>,
    /// The archive's length in bytes, if known.
    pub size: Option<u64>,
    /// How many bytes may come out of it; without it 16 times its own length, or 64 MiB if that is more.
    pub max_unpacked: Option<u64>,
    /// Where the entries go, relative to the root.
    pub destination: String,
    /// The members to unpack, found by their file name in whatever folder of the archive.
    pub entries: Vec<Entry>,
}

/// A repository on the hub, or files of several ones.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// The source's name.
    pub name: String,
    /// Owner and name; without them each entry says where it is by [`Entry::hub`].
    pub repo: Option<String>,
    /// What sort of repository it is.
    pub repo_type: HubRepoType,
    /// Branch, tag, commit or other reference.
    pub revision: String,
    /// Whether the hub asks for a token, of an account that has accepted the repository's terms.
    #[serde(default)]
    pub gated: bool,
    /// Where the entries go, relative to the root; those of one repository keep their path within it.
    pub destination: String,
    /// The files.
    pub entries: Vec<Entry>,
}

/// Files at URLs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesSource {
    /// The source's name.
    pub name: String,
    /// Where the entries go, relative to the root.
    pub destination: String,
    /// The files; each has a URL.
    pub entries: Vec<Entry>,
}

/// One file in its final place.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its path below the destination.
    pub path: String,
    /// A short name to ask for it by; several entries may share one.
    pub key: Option<String>,
    /// Its address, in a [`FilesSource`] only.
    pub url: Option<String>,
    /// Owner, name and path within the repository, in a [`HubSource`] without a repository only.
    pub hub: Option<String>,
    /// The file's digest, if known.
    pub checksum: Option<Checksum>,
    /// Its length in bytes, if known.
    pub size: Option<u64>,
}

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ArchiveFormat {
    /// `.zip`
    #[serde(rename = "zip")]
    Zip,
    /// `.tar.gz`
    #[serde(rename = "tar.gz")]
    TarGz,
}

impl ArchiveFormat {
    /// The usual file name extension.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::TarGz => "tar.gz",
        }
    }
}

/// The hub's sorts of repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HubRepoType {
    /// Weights.
    Model,
    /// Data.
    Dataset,
}

impl Manifest {
    /// The manifest that is part of this crate.
    pub fn committed() -> Self {
        Self::parse(COMMITTED).expect("a test parses the committed manifest")
    }

    /// Reads a manifest and checks that it makes sense: unknown fields, duplicate names, destinations and paths
    /// that lead out of the root, and URLs in the wrong place are errors.
    pub fn parse(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text)
            .map_err(|error| FetchError::Manifest(error.to_string().trim().to_owned()))?;
        distinct("artifact", manifest.artifacts.iter().map(|artifact| artifact.name.as_str()))?;
        manifest.artifacts.iter().try_for_each(Artifact::check)?;
        Ok(manifest)
    }

    /// All of them, in the manifest's order.
    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// The artifact with this name.
    pub fn artifact(&self, name: &str) -> Result<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.name == name).ok_or_else(|| {
            FetchError::UnknownArtifact {
                name: name.to_owned(),
                known: self.artifacts.iter().map(|artifact| artifact.name.clone()).collect(),
            }
        })
    }
}

impl Artifact {
    /// The names by which parts of it can be asked for, each once, in the manifest's order.
    pub fn keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        for key in self.sources.iter().flat_map(Source::entries).filter_map(|entry| entry.key.as_deref()) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    fn check(&self) -> Result<()> {
        if self.sources.is_empty() {
            return Err(FetchError::Manifest(format!("'{}' has no source", self.name)));
        }
        distinct("source", self.sources.iter().map(Source::name))?;
        self.sources.iter().try_for_each(Source::check)
    }
}

impl Source {
    /// The source's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Archive(source) => &source.name,
            Self::Hub(source) => &source.name,
            Self::Files(source) => &source.name,
        }
    }

    /// Where its files go, relative to the root.
    pub fn destination(&self) -> &str {
        match self {
            Self::Archive(source) => &source.destination,
            Self::Hub(source) => &source.destination,
            Self::Files(source) => &source.destination,
        }
    }

    /// Its files.
    pub fn entries(&self) -> &[Entry] {
        match self {
            Self::Archive(source) => &source.entries,
            Self::Hub(source) => &source.entries,
            Self::Files(source) => &source.entries,
        }
    }

    /// Whether an entry has this key or path.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries().iter().any(|entry| entry.is_called(name))
    }

    fn check(&self) -> Result<()> {
        let invalid = |reason: String| FetchError::Manifest(format!("source '{}': {reason}", self.name()));
        relative(self.destination()).map_err(invalid)?;
        distinct("path", self.entries().iter().map(|entry| entry.path.as_str()))?;
        if let Self::Archive(source) = self {
            plain(&source.file).map_err(invalid)?;
        }
        for entry in self.entries() {
            match self {
                Self::Archive(_) => plain(&entry.path).map_err(invalid)?,
                Self::Hub(_) | Self::Files(_) => relative(&entry.path).map_err(invalid)?,
            }
            if entry.url.is_some() != matches!(self, Self::Files(_)) {
                let reason =
                    format!("'{}': a URL per file belongs in a source of kind 'files' only", entry.path);
                return Err(invalid(reason));
            }
            if entry.hub.is_some() != matches!(self, Self::Hub(HubSource { repo: None, .. })) {
                let reason = format!(
                    "'{}': a place on the hub per file belongs in a source of kind 'hub' without a repo only",
                    entry.path
                );
                return Err(invalid(reason));
            }
            if let Some(hub) = &entry.hub {
                relative(hub).map_err(invalid)?;
                if hub.split('/').count() < 3 {
                    return Err(invalid(format!("'{hub}' is not OWNER/NAME/PATH")));
                }
            }
        }
        distinct("name in a mirror", self.entries().iter().map(|entry| entry.mirror_names()[0]))
    }
}

impl HubSource {
    /// The repository that an entry is in, and its path there.
    pub(crate) fn locate<'a>(&'a self, entry: &'a Entry) -> (&'a str, &'a str) {
        let third = |hub: &'a str| hub.match_indices('/').nth(1).map(|(at, _)| (&hub[..at], &hub[at + 1..]));
        match (&self.repo, entry.hub.as_deref().and_then(third)) {
            (_, Some(place)) => place,
            (repo, None) => (repo.as_deref().unwrap_or_default(), &entry.path),
        }
    }
}

impl Entry {
    /// Whether `name` is its key or its path.
    pub fn is_called(&self, name: &str) -> bool {
        self.path == name || self.key.as_deref() == Some(name)
    }

    /// What it may be called in a mirror: as at its source, which comes first, or as here.
    pub fn mirror_names(&self) -> Vec<&str> {
        let of_url = |url: &'_ str| url.rfind('/').map_or(0, |slash| slash + 1);
        let url = self.url.as_deref().map(|url| &url[of_url(url)..]).filter(|name| is_file_name(name));
        let mut names: Vec<_> = self.hub.as_deref().or(url).into_iter().collect();
        if names != [self.path.as_str()] {
            names.push(&self.path);
        }
        names
    }

    /// Its path without the folders.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(FetchError::Manifest(format!("the {what} '{name}' occurs twice")));
        }
    }
    Ok(())
}

/// A path that stays below the folder it is joined to, on every system.
fn relative(path: &str) -> Result<(), String> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !inside || path.contains(['\\', ':']) {
        return Err(format!("'{path}' is not a plain relative path"));
    }
    Ok(())
}

/// Whether the end of a URL names a file, rather than a query.
fn is_file_name(name: &str) -> bool {
    !name.contains(['?', '#', '%']) && plain(name).is_ok()
}

/// A file name without folders.
fn plain(name: &str) -> Result<(), String> {
    if name.contains('/') {
        return Err(format!("'{name}' must be a file name without folders"));
    }
    relative(name)
}
