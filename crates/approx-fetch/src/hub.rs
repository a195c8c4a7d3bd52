//! Files of the Hugging Face hub, through its cache on this machine.
//!
//! The crate hf-hub asks the server, resumes and keeps the cache. Added here are patience with broken
//! connections, a limit on silence, the check of the SHA-256 by which the hub names large files, and a way out
//! of a partial file that cannot be continued.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::{env, fs, io, thread};

use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::checksum::Checksum;
use crate::download::{HttpOptions, Severity, describe};
use crate::error::{FetchError, Result, reason_phrase};
use crate::files;
use crate::manifest::{Entry, HubRepoType, HubSource};
use crate::progress::Progress;

/// Which hub, and where its cache is. What is `None` comes from the environment, as for every tool of the hub:
/// `HF_ENDPOINT`, `HF_HOME`. The token of `HF_TOKEN`, or else of the cache's `token` file, is sent along.
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// The server.
    pub endpoint: Option<String>,
    /// The folder with the cached repositories.
    pub cache_dir: Option<PathBuf>,
}

impl HubOptions {
    fn endpoint(&self) -> String {
        let endpoint = self.endpoint.clone().or_else(|| variable("HF_ENDPOINT"));
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned());
        endpoint.trim_end_matches('/').to_owned()
    }

    fn cache(&self) -> Cache {
        self.cache_dir.clone().map_or_else(Cache::from_env, Cache::new)
    }

    fn builder(&self) -> ApiBuilder {
        let builder =
            ApiBuilder::from_cache(self.cache()).with_endpoint(self.endpoint()).with_progress(false);
        match variable("HF_TOKEN") {
            Some(token) => builder.with_token(Some(token)),
            None => builder,
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// One file of the hub.
pub(crate) struct HubFile<'a> {
    pub(crate) options: &'a HubOptions,
    pub(crate) http: &'a HttpOptions,
    pub(crate) source: &'a HubSource,
    pub(crate) entry: &'a Entry,
}

/// What hf-hub's thread reports.
enum Event {
    Size(usize),
    Bytes(usize),
    Done(Result<PathBuf, ApiError>),
}

struct Forward(Sender<Event>);

impl hf_hub::api::Progress for Forward {
    fn init(&mut self, size: usize, _: &str) {
        let _ = self.0.send(Event::Size(size));
    }

    fn update(&mut self, size: usize) {
        let _ = self.0.send(Event::Bytes(size));
    }

    fn finish(&mut self) {}
}

/// Why an attempt failed.
enum Failure {
    Fatal(FetchError),
    Passing(String, Severity),
}

impl HubFile<'_> {
    /// Gives the file its place at `destination`. A copy in the cache is used unless it is to be `fresh`.
    pub(crate) fn fetch(&self, destination: &Path, fresh: bool, progress: &mut dyn Progress) -> Result<()> {
        let blob = match self.cached().filter(|_| !fresh) {
            Some(blob) => {
                progress.note(&format!("{} from the cache {}", self.entry.path, blob.display()));
                blob
            }
            None => {
                progress.note(&format!(
                    "{} from {} (revision {}) at {}",
                    self.entry.path,
                    self.source.repo,
                    self.source.revision,
                    self.options.endpoint()
                ));
                self.download(progress)?
            }
        };
        place(&blob, destination, progress)
    }

    /// The file in the cache, if it is there and sound.
    fn cached(&self) -> Option<PathBuf> {
        // Without a home directory hf-hub panics; there is no cache then.
        if self.options.cache_dir.is_none() && variable("HF_HOME").is_none() && env::home_dir().is_none() {
            return None;
        }
        let pointer = self.options.cache().repo(self.repo()).get(&self.entry.path)?;
        let blob = fs::canonicalize(pointer).ok()?;
        self.verify(&blob).is_ok().then_some(blob)
    }

    fn download(&self, progress: &mut dyn Progress) -> Result<PathBuf> {
        let mut failures = 0;
        loop {
            let (reason, severity) = match self.attempt(progress) {
                Ok(blob) => return Ok(blob),
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Passing(reason, severity)) => (reason, severity),
            };
            failures += 1;
            let limit = match severity {
                Severity::Permanent => 1,
                Severity::Unreachable => self.http.connect_attempts,
                Severity::Broken => self.http.attempts,
            };
            if failures >= limit {
                return Err(self.error(match failures {
                    1 => reason,
                    n => format!("{reason} (gave up after {n} attempts)"),
                }));
            }
            let delay = self.http.delay(failures, None);
            progress.note(&format!("{}: {reason}; next attempt in {delay:.0?}", self.entry.path));
            thread::sleep(delay);
        }
    }

    fn attempt(&self, progress: &mut dyn Progress) -> Result<PathBuf, Failure> {
        let (sender, events) = mpsc::channel();
        let (options, repo, file) = (self.options.clone(), self.repo(), self.entry.path.clone());
        // hf-hub waits for ever where a server falls silent, so it waits in a thread that can be left behind.
        thread::spawn(move || {
            let result = deliver(&options, &repo, &file, &sender);
            let _ = sender.send(Event::Done(result));
        });
        let mut size = None;
        let mut started = false;
        let result = loop {
            match events.recv_timeout(self.http.stall_timeout) {
                Ok(Event::Size(total)) => (size, started) = (Some(total as u64), false),
                Ok(Event::Bytes(bytes)) if started => progress.advance(bytes as u64),
                // The first report of a transfer is what was there already.
                Ok(Event::Bytes(already)) => {
                    progress.start(&self.entry.path, size, already as u64);
                    started = true;
                }
                Ok(Event::Done(result)) => break result,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Failure::Fatal(self.error("the server fell silent".into())));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Fatal(self.error("the answer made no sense".into())));
                }
            }
        };
        let pointer = result.map_err(|error| self.failure(error))?;
        let blob =
            fs::canonicalize(&pointer).map_err(FetchError::io("open", &pointer)).map_err(Failure::Fatal)?;
        let forget = || {
            let _ = fs::remove_file(&pointer);
            let _ = fs::remove_file(&blob);
        };
        let length = fs::metadata(&blob).map_or(0, |metadata| metadata.len());
        if size.is_some_and(|size| size != length) {
            forget();
            let reason = format!("{length} bytes arrived instead of {}", size.unwrap_or_default());
            return Err(Failure::Passing(reason, Severity::Broken));
        }
        self.verify(&blob).map_err(|error| {
            forget();
            Failure::Fatal(error)
        })?;
        progress.finish();
        Ok(blob)
    }

    /// The manifest's checksum and, where the blob is named by one, its SHA-256.
    fn verify(&self, blob: &Path) -> Result<()> {
        let named = blob.file_name().and_then(|name| name.to_str()).and_then(Checksum::sha256);
        named.iter().chain(&self.entry.checksum).try_for_each(|checksum| checksum.verify(blob))
    }

    fn failure(&self, error: ApiError) -> Failure {
        match error {
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(status) => {
                    let severity = match status {
                        408 | 425 | 429 | 500..=599 => Severity::Broken,
                        _ => Severity::Permanent,
                    };
                    Failure::Passing(format!("HTTP status {status}{}", reason_phrase(status)), severity)
                }
                error => {
                    let (reason, severity) = describe(&error);
                    Failure::Passing(reason, severity)
                }
            },
            ApiError::IoError(error) => match error.kind() {
                // hf-hub does not tell reading from the network and writing to the disk apart.
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory => {
                    Failure::Fatal(FetchError::writing(self.options.cache().path(), 0, true, error))
                }
                _ => {
                    let (reason, severity) = describe(&error.into());
                    Failure::Passing(reason, severity)
                }
            },
            ApiError::LockAcquisition(path) => {
                let reason = format!("another process is downloading it (lock {})", path.display());
                Failure::Passing(reason, Severity::Permanent)
            }
            error => Failure::Passing(error.to_string(), Severity::Permanent),
        }
    }

    fn error(&self, reason: String) -> FetchError {
        FetchError::Hub {
            endpoint: self.options.endpoint(),
            repo: self.source.repo.clone(),
            file: self.entry.path.clone(),
            revision: self.source.revision.clone(),
            reason,
        }
    }

    fn repo(&self) -> Repo {
        let repo_type = match self.source.repo_type {
            HubRepoType::Model => RepoType::Model,
            HubRepoType::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(self.source.repo.clone(), repo_type, self.source.revision.clone())
    }
}

/// hf-hub's download. A partial file that it refuses to continue is removed first.
fn deliver(
    options: &HubOptions,
    repo: &Repo,
    file: &str,
    events: &Sender<Event>,
) -> Result<PathBuf, ApiError> {
    let api = options.builder().build()?;
    let files = api.repo(repo.clone());
    match files.download_with_progress(file, Forward(events.clone())) {
        Err(error) if is_stuck(&error) => {
            let metadata = api.metadata(&files.url(file))?;
            let part = options.cache().repo(repo.clone()).blob_path(metadata.etag()).with_extension("part");
            fs::remove_file(part)?;
            files.download_with_progress(file, Forward(events.clone()))
        }
        result => result,
    }
}

/// The partial file is longer than the file, or as long, so that there is no rest to ask for.
fn is_stuck(error: &ApiError) -> bool {
    match error {
        ApiError::InvalidResume => true,
        ApiError::RequestError(error) => matches!(**error, ureq::Error::StatusCode(416)),
        _ => false,
    }
}

/// Links `blob` to `destination`, or copies it where the two are on different file systems.
fn place(blob: &Path, destination: &Path, progress: &mut dyn Progress) -> Result<()> {
    let parent = files::create_parent(destination)?;
    let linked = tempfile::Builder::new()
        .prefix(".fetch-")
        .suffix(".part")
        .make_in(parent, |path| fs::hard_link(blob, path))
        .is_ok_and(|link| link.persist(destination).is_ok());
    if linked { Ok(()) } else { files::copy_file(blob, destination, None, progress) }
}
