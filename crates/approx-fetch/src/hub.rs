//! Files of the Hugging Face hub, through its cache on this machine.
//!
//! The crate hf-hub knows the layout of the cache, the addresses and where a token may be. The hub itself is
//! first asked for a file's commit and digest; then [`Client`] downloads from wherever the hub points to, so that
//! its patience, resuming and checks apply. The token is shown to the hub's own server only.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use hf_hub::{Cache, Repo, RepoType};
use ureq::http::{HeaderMap, HeaderValue};

use crate::checksum::Checksum;
use crate::download::{Client, Remote, header};
use crate::error::{FetchError, Result, after, reason_phrase};
use crate::files::{self, TEMPORARIES};
use crate::lock::Lock;
use crate::manifest::{Entry, HubRepoType, HubSource};
use crate::progress::Progress;
use crate::validate::Expected;

/// How often the hub may send the client to another of its own pages.
const REDIRECTS: usize = 10;

/// Which hub, where its cache is and what to show for access. What is `None` comes from the environment, as for
/// every tool of the hub: `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` or else the file `token` next to the cache.
///
/// ```
/// use approx_fetch::{HubOptions, Token};
///
/// let options = HubOptions { token: Some(Token::new("hf_secret", "a safe")), ..HubOptions::default() };
/// assert_eq!(options.find_token().unwrap().origin(), "a safe");
/// assert!(!format!("{options:?}").contains("hf_secret"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// The server.
    pub endpoint: Option<String>,
    /// The folder with the cached repositories.
    pub cache_dir: Option<PathBuf>,
    /// What to show for access.
    pub token: Option<Token>,
}

/// An access token of the hub. It appears in no message and in no `Debug` output.
#[derive(Clone)]
pub struct Token {
    secret: String,
    origin: String,
}

impl Token {
    /// The token `secret`; `origin` tells in messages where it comes from.
    pub fn new(secret: impl Into<String>, origin: impl Into<String>) -> Self {
        Self { secret: secret.into(), origin: origin.into() }
    }

    /// Where it comes from: `HF_TOKEN` or the path of a file, unless a caller has brought it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The value of a header, unless it has characters that no token has.
    fn authorization(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.secret)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl HubOptions {
    /// The token that would be used. Asks no server.
    pub fn find_token(&self) -> Option<Token> {
        let given = self.token.clone();
        let variable = || Some(Token::new(variable("HF_TOKEN")?, "HF_TOKEN"));
        let file = || {
            let cache = self.cache()?;
            Some(Token::new(cache.token()?, cache.token_path().display().to_string()))
        };
        given.or_else(variable).or_else(file)
    }

    /// The address of a source's entry, for a browser.
    pub fn url(&self, source: &HubSource, entry: &Entry) -> String {
        let (repo, path) = place_of(source, entry);
        format!("{}/{}/resolve/{}/{path}", self.endpoint(), repo.url(), repo.url_revision())
    }

    fn endpoint(&self) -> String {
        let endpoint = self.endpoint.clone().or_else(|| variable("HF_ENDPOINT"));
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned());
        endpoint.trim_end_matches('/').to_owned()
    }

    /// `None` where there is not even a home directory, for which hf-hub would panic.
    fn cache(&self) -> Option<Cache> {
        match &self.cache_dir {
            Some(folder) => Some(Cache::new(folder.clone())),
            None if variable("HF_HOME").is_some() => Some(Cache::from_env()),
            None => env::home_dir().map(|home| Cache::new(home.join(".cache/huggingface/hub"))),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// One file of the hub.
pub(crate) struct HubFile<'a> {
    pub(crate) options: &'a HubOptions,
    pub(crate) client: &'a Client,
    pub(crate) source: &'a HubSource,
    pub(crate) entry: &'a Entry,
}

/// What the hub says about a file.
struct Answer {
    /// On the hub's own server, perhaps not where it was asked for first.
    url: String,
    /// The digest by which the cache names it: SHA-256 if the file is large.
    etag: String,
    commit: String,
}

impl HubFile<'_> {
    /// Gives the file its place at `destination`. A copy in the cache is used unless it is to be `fresh`.
    pub(crate) fn fetch(&self, destination: &Path, fresh: bool, progress: &mut dyn Progress) -> Result<()> {
        let blob = match self.cached().filter(|_| !fresh) {
            Some(blob) => {
                progress.note(&format!("{} from the cache {}", self.entry.path, blob.display()));
                blob
            }
            None => self.download(fresh, progress)?,
        };
        place(&blob, destination, progress)
    }

    /// The file in the cache, if it is there and sound.
    fn cached(&self) -> Option<PathBuf> {
        let pointer = self.options.cache()?.repo(self.repo()).get(self.path())?;
        let blob = fs::canonicalize(pointer).ok()?;
        self.verify(&blob).is_ok().then_some(blob)
    }

    /// The file in the cache, where it has just arrived.
    fn download(&self, fresh: bool, progress: &mut dyn Progress) -> Result<PathBuf> {
        let token = self.options.find_token();
        if self.source.gated && token.is_none() {
            return Err(self.token_missing());
        }
        let (repo, endpoint) = (self.source.locate(self.entry).0, self.options.endpoint());
        progress.note(&format!(
            "{} from {repo} (revision {}) at {endpoint}",
            self.entry.path, self.source.revision
        ));
        let cache = self.options.cache();
        let cache =
            cache.ok_or_else(|| self.error("no home directory to cache it in; HF_HOME can name one"))?;
        let authorization = token.as_ref().map(|token| {
            let unfit = || self.error(format!("the token in {} has characters that none has", token.origin));
            token.authorization().ok_or_else(unfit)
        });
        let authorization = authorization.transpose()?;
        let answer = self.ask(token.as_ref(), authorization.as_ref(), progress)?;

        let cached = cache.repo(self.repo());
        let blob = cached.blob_path(&answer.etag);
        let _lock = Lock::acquire(blob.parent().unwrap_or(Path::new("")), progress)?;
        // A file of an older commit can be the same.
        if fresh || !blob.is_file() || Checksum::sha256(&answer.etag).is_none() || self.verify(&blob).is_err()
        {
            let sha256 = Checksum::sha256(&answer.etag);
            let remote = self.remote(&answer.url, authorization.as_ref());
            self.client
                .download_remote(&remote, &blob, &self.expected(sha256.as_ref()), progress)
                .map_err(|error| self.described(error))?;
        }
        let pointer = cached.pointer_path(&answer.commit).join(self.path());
        point(&pointer, &blob, Path::new(self.path()).components().count() + 1)?;
        cached.create_ref(&answer.commit).map_err(FetchError::io("write to the cache", cache.path()))?;
        Ok(blob)
    }

    /// Asks the hub, but no server that it points to.
    fn ask(
        &self,
        token: Option<&Token>,
        authorization: Option<&HeaderValue>,
        progress: &mut dyn Progress,
    ) -> Result<Answer> {
        let mut url = self.options.url(self.source, self.entry);
        let (mut etag, mut commit) = (None, None);
        for _ in 0..=REDIRECTS {
            let remote = self.remote(&url, authorization);
            let (status, headers) =
                self.client.head(&remote, progress).map_err(|error| self.described(error))?;
            let text = |name| header(&headers, name).map(str::to_owned);
            commit = text("x-repo-commit").or(commit);
            etag = text("x-linked-etag").or(etag);
            let elsewhere = match status {
                200..=299 => None,
                300..=399 => text("location").and_then(|location| on_same_server(&url, &location)),
                _ => return Err(self.refusal(status, &headers, token)),
            };
            if let Some(elsewhere) = elsewhere {
                url = elsewhere;
                continue;
            }
            let lacking = |name: &str| self.error(format!("the answer has no valid header {name}"));
            let etag = etag.or(text("etag")).and_then(|etag| file_name(etag.trim_start_matches("W/")));
            return Ok(Answer {
                url,
                etag: etag.ok_or_else(|| lacking("ETag"))?,
                commit: commit
                    .and_then(|commit| file_name(&commit))
                    .ok_or_else(|| lacking("X-Repo-Commit"))?,
            });
        }
        Err(self.error(format!("more than {REDIRECTS} redirects")))
    }

    fn remote<'r>(&'r self, url: &'r str, authorization: Option<&'r HeaderValue>) -> Remote<'r> {
        Remote { url, label: &self.entry.path, authorization }
    }

    /// What the manifest says, and the SHA-256 that the hub has named.
    fn expected<'e>(&'e self, sha256: Option<&'e Checksum>) -> Expected<'e> {
        Expected::new(self.path(), self.entry.size, sha256.into_iter().chain(&self.entry.checksum))
    }

    /// Whether a blob of the cache, which is named by its SHA-256 if it is large, is sound.
    fn verify(&self, blob: &Path) -> Result<()> {
        let named = blob.file_name().and_then(|name| name.to_str()).and_then(Checksum::sha256);
        self.expected(named.as_ref()).verify(blob)
    }

    fn refusal(&self, status: u16, headers: &HeaderMap, token: Option<&Token>) -> FetchError {
        let gated = self.source.gated || header(headers, "x-error-code") == Some("GatedRepo");
        let token = token.map(|token| token.origin.clone());
        match (status, token) {
            (401, Some(token)) => {
                FetchError::TokenRefused { page: self.page(), token, tokens: self.tokens() }
            }
            (403, Some(token)) if gated => {
                FetchError::AccessDenied { page: self.page(), token, tokens: self.tokens() }
            }
            (401 | 403, None) if gated => self.token_missing(),
            (status, _) => self.error(format!("HTTP status {status}{}", reason_phrase(status))),
        }
    }

    fn token_missing(&self) -> FetchError {
        let token_file = self.options.cache().map(|cache| cache.token_path());
        FetchError::TokenMissing { page: self.page(), tokens: self.tokens(), token_file }
    }

    /// An error of the client, with the repository instead of the address.
    fn described(&self, error: FetchError) -> FetchError {
        match error {
            FetchError::Status { status, .. } => {
                self.error(format!("HTTP status {status}{}", reason_phrase(status)))
            }
            FetchError::Network { reason, attempts, kept, .. } => {
                self.error(format!("{reason}{}", after(attempts, kept)))
            }
            other => other,
        }
    }

    fn error(&self, reason: impl Into<String>) -> FetchError {
        FetchError::Hub {
            endpoint: self.options.endpoint(),
            repo: self.source.locate(self.entry).0.to_owned(),
            file: self.path().to_owned(),
            revision: self.source.revision.clone(),
            reason: reason.into(),
        }
    }

    /// The repository's page.
    fn page(&self) -> String {
        format!("{}/{}", self.options.endpoint(), self.repo().url())
    }

    /// The page where tokens are made.
    fn tokens(&self) -> String {
        format!("{}/settings/tokens", self.options.endpoint())
    }

    fn repo(&self) -> Repo {
        place_of(self.source, self.entry).0
    }

    /// Within the repository.
    fn path(&self) -> &str {
        self.source.locate(self.entry).1
    }
}

fn place_of<'a>(source: &'a HubSource, entry: &'a Entry) -> (Repo, &'a str) {
    let repo_type = match source.repo_type {
        HubRepoType::Model => RepoType::Model,
        HubRepoType::Dataset => RepoType::Dataset,
    };
    let (repo, path) = source.locate(entry);
    (Repo::with_revision(repo.to_owned(), repo_type, source.revision.clone()), path)
}

/// The address that a redirect from `url` leads to, if it is on the same server and port, by the same scheme.
fn on_same_server(url: &str, location: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let server = format!("{scheme}://{}", rest.split('/').next()?);
    match location.strip_prefix(&server) {
        Some(path) if path.starts_with('/') => Some(location.to_owned()),
        None if location.starts_with('/') && !location.starts_with("//") => {
            Some(format!("{server}{location}"))
        }
        _ => None,
    }
}

/// A header's value that is to name a file, without its quotes.
fn file_name(value: &str) -> Option<String> {
    let name = value.trim_matches('"');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (!name.is_empty() && name.bytes().all(plain)).then(|| name.to_owned())
}

/// Makes `pointer` lead to `blob`, which is in the folder `blobs`, `depth` levels up.
fn point(pointer: &Path, blob: &Path, depth: usize) -> Result<()> {
    files::create_parent(pointer)?;
    files::remove(pointer)?;
    #[cfg(unix)]
    {
        let name = blob.file_name().unwrap_or_default();
        let target = PathBuf::from("../".repeat(depth)).join("blobs").join(name);
        std::os::unix::fs::symlink(target, pointer).map_err(FetchError::io("write", pointer))
    }
    // Elsewhere not everybody may make symbolic links.
    #[cfg(not(unix))]
    {
        let _ = depth;
        fs::hard_link(blob, pointer).map_err(FetchError::io("write", pointer))
    }
}

/// Links `blob` to `destination`, or copies it where the two are on different file systems.
fn place(blob: &Path, destination: &Path, progress: &mut dyn Progress) -> Result<()> {
    let parent = files::create_parent(destination)?;
    let linked = tempfile::Builder::new()
        .prefix(TEMPORARIES.prefix)
        .suffix(TEMPORARIES.suffix)
        .make_in(parent, |path| fs::hard_link(blob, path))
        .is_ok_and(|link| link.persist(destination).is_ok());
    if linked { Ok(()) } else { files::copy_file(blob, destination, &Expected::default(), progress) }
}
