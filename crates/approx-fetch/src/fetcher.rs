//! From an artifact's name to files in their place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::download::{Client, HttpOptions, Part, Remote};
use crate::error::{FetchError, Result};
use crate::files;
use crate::hub::{HubFile, HubOptions};
use crate::lock::Lock;
use crate::manifest::{ArchiveSource, Artifact, Entry, Manifest, Source};
use crate::mirror::Mirror;
use crate::progress::Progress;
use crate::unpack::Unpack;
use crate::validate::Expected;

/// Fetches artifacts into a directory tree. Made by [`Fetcher::new`] and the methods that follow it.
#[derive(Debug, Clone)]
pub struct Fetcher {
    manifest: Manifest,
    root: PathBuf,
    mirror: Option<Mirror>,
    source: Option<String>,
    force: bool,
    keep_archive: bool,
    http: HttpOptions,
    hub: HubOptions,
}

/// What [`Fetcher::fetch`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The artifact's name.
    pub artifact: String,
    /// The source whose files are there now.
    pub source: String,
    /// Files written. From an archive these can be more than were asked for: once it has been downloaded, every
    /// member of the manifest that is not there yet is unpacked.
    pub fetched: Vec<PathBuf>,
    /// Files asked for that were there already.
    pub kept: Vec<PathBuf>,
}

impl Fetcher {
    /// A fetcher of the committed manifest's artifacts; its destinations are relative to `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            manifest: Manifest::committed(),
            root: root.into(),
            mirror: None,
            source: None,
            force: false,
            keep_archive: false,
            http: HttpOptions::default(),
            hub: HubOptions::default(),
        }
    }

    /// Another manifest.
    pub fn with_manifest(self, manifest: Manifest) -> Self {
        Self { manifest, ..self }
    }

    /// Takes every file from `mirror` and asks no other server.
    pub fn with_mirror(self, mirror: Option<Mirror>) -> Self {
        Self { mirror, ..self }
    }

    /// Uses only the source of this name; with `None` all of them, in the manifest's order.
    pub fn with_source(self, source: Option<&str>) -> Self {
        Self { source: source.map(str::to_owned), ..self }
    }

    /// Fetches files that are already there as well, and overwrites them.
    pub fn with_force(self, force: bool) -> Self {
        Self { force, ..self }
    }

    /// Keeps a downloaded archive after it has been unpacked.
    pub fn with_keep_archive(self, keep_archive: bool) -> Self {
        Self { keep_archive, ..self }
    }

    /// Timeouts and retries.
    pub fn with_http(self, http: HttpOptions) -> Self {
        Self { http, ..self }
    }

    /// Another hub, or another cache of its files.
    pub fn with_hub(self, hub: HubOptions) -> Self {
        Self { hub, ..self }
    }

    /// What there is to fetch.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What destinations are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The paths that are not there yet: none once any source's files are complete, else those of the first
    /// source. `only` restricts the question to parts of the artifact, by key or path.
    pub fn missing(&self, artifact: &str, only: Option<&[&str]>) -> Result<Vec<PathBuf>> {
        let artifact = self.manifest.artifact(artifact)?;
        let mut first = None;
        for source in self.candidates(artifact, only)? {
            let missing = self.absent(source, &selected(source, only));
            if missing.is_empty() {
                return Ok(missing);
            }
            first.get_or_insert(missing);
        }
        Ok(first.unwrap_or_default())
    }

    /// Fetches what is missing of an artifact, or, with `only`, of these parts of it, by key or path.
    ///
    /// The sources are tried in order. A failure of this machine, such as a full disk, ends it at once. What processes
    /// that were killed have left in the folders of the artifact, and nobody can go on with, is removed first.
    pub fn fetch(
        &self,
        artifact: &str,
        only: Option<&[&str]>,
        progress: &mut dyn Progress,
    ) -> Result<Outcome> {
        let artifact = self.manifest.artifact(artifact)?;
        let sources = self.candidates(artifact, only)?;
        artifact.sources.iter().for_each(|source| self.tidy(source, progress));
        let complete = sources.iter().find(|source| self.absent(source, &selected(source, only)).is_empty());
        if let Some(source) = complete.filter(|_| !self.force) {
            return Ok(Outcome {
                artifact: artifact.name.clone(),
                source: source.name().to_owned(),
                fetched: Vec::new(),
                kept: self.paths(source, &selected(source, only)),
            });
        }
        let mut failures = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            match self.fetch_from(source, &selected(source, only), progress) {
                Ok((fetched, kept)) => {
                    return Ok(Outcome {
                        artifact: artifact.name.clone(),
                        source: source.name().to_owned(),
                        fetched,
                        kept,
                    });
                }
                Err(error) if error.is_local() => return Err(error),
                Err(error) => {
                    tracing::debug!(artifact = artifact.name, source = source.name(), %error, "source failed");
                    if let Some(next) = sources.get(index + 1) {
                        progress.note(&format!("{error}; trying the source '{}'", next.name()));
                    }
                    failures.push((source.name().to_owned(), error));
                }
            }
        }
        match failures.len() {
            1 => Err(failures.remove(0).1),
            _ => Err(FetchError::AllSources { artifact: artifact.name.clone(), failures }),
        }
    }

    /// The sources that [`fetch`](Self::fetch) would try, in this order, and what it would take from each.
    ///
    /// Each has everything in `only`, by key or path. Where neither parts nor a source are named, sources that
    /// lack a part which another one has are left out, so that "everything" means the same from all of them.
    pub fn sources(&self, artifact: &str, only: Option<&[&str]>) -> Result<Vec<(&Source, Vec<&Entry>)>> {
        let sources = self.candidates(self.manifest.artifact(artifact)?, only)?;
        Ok(sources.into_iter().map(|source| (source, selected(source, only))).collect())
    }

    fn candidates<'a>(&self, artifact: &'a Artifact, only: Option<&[&str]>) -> Result<Vec<&'a Source>> {
        let unknown_part = |name: &str| FetchError::UnknownPart {
            artifact: artifact.name.clone(),
            name: name.to_owned(),
            known: artifact.keys().into_iter().map(str::to_owned).collect(),
        };
        let names = match (only, &self.source) {
            (Some(names), _) => names.to_vec(),
            (None, None) => artifact.keys(),
            (None, Some(_)) => Vec::new(),
        };
        let mut sources: Vec<_> = artifact.sources.iter().collect();
        if let Some(name) = names.iter().find(|name| !sources.iter().any(|source| source.has(name))) {
            return Err(unknown_part(name));
        }
        if let Some(wanted) = &self.source {
            sources.retain(|source| source.name() == wanted);
            let Some(source) = sources.first() else {
                return Err(FetchError::UnknownSource {
                    artifact: artifact.name.clone(),
                    name: wanted.clone(),
                    known: artifact.sources.iter().map(|source| source.name().to_owned()).collect(),
                });
            };
            if let Some(name) = names.iter().find(|name| !source.has(name)) {
                let others = artifact.sources.iter().filter(|source| source.has(name));
                return Err(FetchError::NotInSource {
                    artifact: artifact.name.clone(),
                    name: (*name).to_owned(),
                    source_name: wanted.clone(),
                    others: others.map(|source| source.name().to_owned()).collect(),
                });
            }
        }
        for name in names {
            sources.retain(|source| source.has(name));
            if sources.is_empty() {
                return Err(unknown_part(name));
            }
        }
        Ok(sources)
    }

    fn destination(&self, source: &Source) -> PathBuf {
        self.root.join(source.destination())
    }

    fn paths(&self, source: &Source, entries: &[&Entry]) -> Vec<PathBuf> {
        entries.iter().map(|entry| self.destination(source).join(&entry.path)).collect()
    }

    fn absent(&self, source: &Source, entries: &[&Entry]) -> Vec<PathBuf> {
        self.paths(source, entries).into_iter().filter(|path| !path.is_file()).collect()
    }

    /// Files written and files kept.
    fn fetch_from(
        &self,
        source: &Source,
        entries: &[&Entry],
        progress: &mut dyn Progress,
    ) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let destination = self.destination(source);
        let _lock = Lock::acquire(&destination, progress)?;
        // Only now, since another process may just have fetched them.
        let (to_do, kept): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().partition(|entry| self.force || !destination.join(&entry.path).is_file());
        let kept = self.paths(source, &kept);
        if to_do.is_empty() {
            return Ok((Vec::new(), kept));
        }
        let fetched = match source {
            Source::Archive(archive) => self.archive(archive, &destination, &to_do, progress)?,
            Source::Hub(_) | Source::Files(_) => self.files(source, &destination, &to_do, progress)?,
        };
        Ok((fetched, kept))
    }

    /// Removes what killed processes have left for a source: files without a name yet, notes about partial files that
    /// have got theirs, and an archive that nothing is missing of any more. Whoever fetches into the folder now does
    /// that by himself; what cannot be removed stays.
    fn tidy(&self, source: &Source, progress: &mut dyn Progress) {
        let destination = self.destination(source);
        let paths: Vec<_> = source.entries().iter().map(|entry| destination.join(&entry.path)).collect();
        let folders: BTreeSet<_> = paths.iter().filter_map(|path| path.parent()).collect();
        for folder in folders {
            let swept = files::TEMPORARIES.sweep(folder);
            if swept.files > 0 {
                progress.note(&format!("{}: removed {swept}", folder.display()));
            }
        }
        let Some(_lock) = Lock::take_over(&destination) else { return };
        for path in &paths {
            let _ = Part::new(path).remove_orphan();
        }
        if let Source::Archive(archive) = source
            && !self.force
            && paths.iter().all(|path| path.is_file())
        {
            let _ = Part::new(&destination.join(&archive.file)).remove();
        }
    }

    /// Entries one by one.
    fn files(
        &self,
        source: &Source,
        destination: &Path,
        to_do: &[&Entry],
        progress: &mut dyn Progress,
    ) -> Result<Vec<PathBuf>> {
        let in_mirror = |directory: &Path, entry: &Entry| {
            let names = entry.mirror_names().into_iter();
            names.map(|name| directory.join(name)).find(|path| path.is_file())
        };
        if let Some(Mirror::Directory(directory)) = &self.mirror
            && let Some(entry) = to_do.iter().find(|entry| in_mirror(directory, entry).is_none())
        {
            return Err(not_in_mirror(directory, entry.mirror_names().into_iter().map(str::to_owned)));
        }
        let client = Client::new(self.http.clone());
        let mut written = Vec::new();
        for entry in to_do {
            let path = destination.join(&entry.path);
            let expected = Expected::new(&entry.path, entry.size, &entry.checksum);
            match (&self.mirror, source, &entry.url) {
                (Some(Mirror::Directory(directory)), ..) => {
                    let from = in_mirror(directory, entry).unwrap_or_else(|| directory.join(&entry.path));
                    progress.note(&format!("{} from {}", entry.path, from.display()));
                    files::copy_file(&from, &path, &expected, progress)?;
                }
                (None, Source::Hub(source), _) => {
                    HubFile { options: &self.hub, client: &client, source, entry }
                        .fetch(&path, self.force, progress)?;
                }
                (mirror, _, url) => {
                    let mirrored = mirror.as_ref().map(|base| format!("{base}/{}", entry.mirror_names()[0]));
                    let url = mirrored.or_else(|| url.clone()).unwrap_or_default();
                    progress.note(&format!("{} from {url}", entry.path));
                    let remote = Remote { url: &url, label: entry.file_name(), authorization: None };
                    client.download_remote(&remote, &path, &expected, progress)?;
                }
            }
            written.push(path);
        }
        Ok(written)
    }

    /// Entries out of an archive.
    fn archive(
        &self,
        source: &ArchiveSource,
        destination: &Path,
        to_do: &[&Entry],
        progress: &mut dyn Progress,
    ) -> Result<Vec<PathBuf>> {
        let ours = destination.join(&source.file);
        // What comes out of the archive tells whether it is complete.
        let expected = Expected { kind: None, ..Expected::new(&source.file, source.size, &source.checksum) };
        if let Some(Mirror::Directory(directory)) = &self.mirror {
            if to_do.iter().all(|entry| directory.join(&entry.path).is_file()) {
                return unpacked(directory, destination, to_do, progress);
            }
            let archive = directory.join(&source.file);
            if !archive.is_file() {
                let absent = to_do.iter().find(|entry| !directory.join(&entry.path).is_file());
                let names = absent.map(|entry| entry.path.clone()).into_iter();
                return Err(not_in_mirror(directory, [source.file.clone()].into_iter().chain(names)));
            }
            expected.verify(&archive)?;
            return self.unpack(source, &archive, destination, to_do, progress);
        }
        if self.mirror.is_none() && ours.is_file() && !self.force {
            progress.note(&format!("unpacking {}", ours.display()));
            let verified = expected.verify(&ours);
            match verified.and_then(|()| self.unpack(source, &ours, destination, to_do, progress)) {
                Err(error) if !error.is_local() => progress.note(&format!("{error}; fetching it again")),
                result => return result,
            }
        }
        let mirrored = self.mirror.as_ref().map(|base| format!("{base}/{}", source.file));
        let url = mirrored.unwrap_or_else(|| source.url.clone());
        progress.note(&format!("{} from {url}", source.file));
        let remote = Remote { url: &url, label: &source.file, authorization: None };
        let part = Client::new(self.http.clone()).download_part(&remote, &ours, &expected, progress)?;
        part.verify(&ours, &expected)?;
        progress.finish();
        progress.note(&format!("unpacking {}", ours.display()));
        match self.unpack(source, part.path(), destination, to_do, progress) {
            Ok(written) => {
                match self.keep_archive {
                    true => part.keep(&ours)?,
                    false => {
                        part.remove()?;
                        files::remove(&ours)?;
                    }
                }
                Ok(written)
            }
            Err(error) => {
                let is_local = error.is_local();
                let error = part.rejected(error).renamed(part.path(), &ours);
                // After a failure of this machine the archive is still good, and the next call starts from it.
                if is_local {
                    part.shelve();
                }
                Err(error)
            }
        }
    }

    /// Unpacks `to_do`, and whatever else of the source is not there yet.
    fn unpack(
        &self,
        source: &ArchiveSource,
        archive: &Path,
        destination: &Path,
        to_do: &[&Entry],
        progress: &mut dyn Progress,
    ) -> Result<Vec<PathBuf>> {
        let optional: Vec<_> = source
            .entries
            .iter()
            .filter(|entry| !to_do.iter().any(|other| other.path == entry.path))
            .filter(|entry| !destination.join(&entry.path).is_file())
            .collect();
        Unpack {
            archive,
            format: source.format,
            destination,
            required: to_do,
            optional: &optional,
            max_unpacked: source.max_unpacked,
        }
        .run(progress)
    }
}

/// The entries of `source` that `only` asks for.
fn selected<'a>(source: &'a Source, only: Option<&[&str]>) -> Vec<&'a Entry> {
    let wanted = |entry: &&Entry| only.is_none_or(|names| names.iter().any(|name| entry.is_called(name)));
    source.entries().iter().filter(wanted).collect()
}

/// Copies members that a mirror holds unpacked.
fn unpacked(
    directory: &Path,
    destination: &Path,
    entries: &[&Entry],
    progress: &mut dyn Progress,
) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for entry in entries {
        let (from, to) = (directory.join(&entry.path), destination.join(&entry.path));
        progress.note(&format!("{} from {}", entry.path, from.display()));
        let expected = Expected::new(&entry.path, entry.size, &entry.checksum);
        files::copy_file(&from, &to, &expected, progress)?;
        written.push(to);
    }
    Ok(written)
}

fn not_in_mirror(directory: &Path, files: impl IntoIterator<Item = String>) -> FetchError {
    FetchError::NotInMirror { mirror: directory.to_path_buf(), files: files.into_iter().collect() }
}
