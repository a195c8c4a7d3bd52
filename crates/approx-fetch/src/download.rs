//! One file over HTTP: resumed, tried again, checked, renamed.
//!
//! The bytes go to `<file>.part`; `<file>.part.meta` remembers what the server said about them. A later attempt,
//! in this process or another, asks for the rest with `Range` and `If-Range`. Only an answer with the same strong ETag,
//! or the same date, continues the file; any other starts it from zero. Where the server named neither, the rest is
//! asked for only if a checksum will tell whether the parts belong together.
//!
//! Before it gets its name, the file is held against its checksum or else against its kind. A file that has neither is
//! accepted only if the server said how long it is, or sent it in chunks, of which the last is marked.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, HeaderValue};
use ureq::{Agent, RequestBuilder, Timeout};

use crate::checksum::Checksum;
use crate::error::{FetchError, Result};
use crate::files::{self, CopyError};
use crate::progress::Progress;
use crate::validate::Expected;

/// How patient to be with a server.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// For the connection to come about, its encryption included.
    pub connect_timeout: Duration,
    /// For the next byte to arrive, and for all headers of an answer.
    pub stall_timeout: Duration,
    /// How many bytes a second a server has to send, over each [`speed_window`](Self::speed_window) that is spent
    /// waiting for it. One that is slower is asked again for the rest, and given up after as many attempts as one that
    /// sends nothing.
    pub min_speed: u64,
    /// Over how long the speed is measured.
    pub speed_window: Duration,
    /// How often to try without a new byte before giving up on a connection that breaks or a server that is
    /// overloaded.
    pub attempts: u32,
    /// How often to try a server that cannot be reached at all.
    pub connect_attempts: u32,
    /// The pause after the first failure. It doubles with each further one.
    pub first_delay: Duration,
    /// The longest pause, also where a server asks for a longer one.
    pub max_delay: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            min_speed: 1024,
            speed_window: Duration::from_secs(60),
            attempts: 5,
            connect_attempts: 2,
            first_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
        }
    }
}

impl HttpOptions {
    /// The pause after `failures` failures in a row, or what the server asked for.
    fn delay(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let backoff = self.first_delay.saturating_mul(1 << (failures.clamp(1, 16) - 1));
        asked.unwrap_or(backoff).min(self.max_delay)
    }
}

/// A file on a server.
pub(crate) struct Remote<'a> {
    pub(crate) url: &'a str,
    /// Its name in messages.
    pub(crate) label: &'a str,
    /// For the server in the address only, not for any that it redirects to.
    pub(crate) authorization: Option<&'a HeaderValue>,
}

impl Remote<'_> {
    /// The headers of a request that are the same for every one.
    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match self.authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }

    fn network(&self, reason: String, attempts: u32, kept: u64) -> FetchError {
        FetchError::Network { url: self.url.into(), reason, attempts, kept }
    }

    fn failure(&self, error: &ureq::Error, kept: u64) -> Failure {
        let (reason, severity) = describe(error);
        let error = self.network(reason, 1, kept);
        match severity {
            Severity::Permanent => Failure::Fatal(error),
            severity => Failure::passing(error, severity),
        }
    }

    /// A server that is overloaded, which may be over soon.
    fn busy(&self, status: u16, headers: &HeaderMap) -> Option<Failure> {
        let delay =
            header(headers, "retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let error = Box::new(FetchError::Status { url: self.url.into(), status });
        matches!(status, 408 | 425 | 429 | 500..=599).then_some(Failure::Passing {
            error,
            delay,
            severity: Severity::Broken,
        })
    }
}

/// Downloads files one after the other.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    options: HttpOptions,
}

/// Why an attempt failed and what to do about it.
enum Failure {
    Fatal(FetchError),
    /// Worth another attempt after a pause.
    Passing {
        error: Box<FetchError>,
        delay: Option<Duration>,
        severity: Severity,
    },
    /// The partial file does not fit what the server has; it is gone.
    Outdated,
}

impl Failure {
    fn passing(error: FetchError, severity: Severity) -> Self {
        Self::Passing { error: Box::new(error), delay: None, severity }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Fatal(error)
    }
}

impl Client {
    /// A client that follows redirects and takes its proxy from the environment (`HTTPS_PROXY` and so on).
    pub fn new(options: HttpOptions) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .accept_encoding("identity")
            .redirect_auth_headers(RedirectAuthHeaders::Never)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.stall_timeout))
            .timeout_per_read(Some(options.stall_timeout))
            .timeout_per_write(Some(options.stall_timeout))
            .build()
            .into();
        Self { agent, options }
    }

    /// Downloads `url` to `destination`, which has its name only once it is complete and has the digest. Without one the
    /// file has to be what the end of its name says, if that is `.zip`, `.gz`, `.parquet`, `.safetensors`, `.pt` or
    /// `.pth`.
    ///
    /// The caller makes sure that nobody else downloads to the same destination.
    pub fn download(
        &self,
        url: &str,
        destination: &Path,
        checksum: Option<&Checksum>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let label = files::label(destination);
        let remote = Remote { url, label: &label, authorization: None };
        self.download_remote(&remote, destination, &Expected::new(&label, None, checksum), progress)
    }

    /// [`download`](Self::download) of a file that asks for a token or of which more is known.
    pub(crate) fn download_remote(
        &self,
        remote: &Remote<'_>,
        destination: &Path,
        expected: &Expected<'_>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let part = self.download_part(remote, destination, expected, progress)?;
        part.verify(destination, expected)?;
        part.keep(destination)?;
        progress.finish();
        Ok(())
    }

    /// Downloads what will become `destination`, and leaves it without its name.
    pub(crate) fn download_part(
        &self,
        remote: &Remote<'_>,
        destination: &Path,
        expected: &Expected<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Part> {
        files::create_parent(destination)?;
        let transfer = Transfer { remote, expected, part: Part::new(destination) };
        let kept = || transfer.kept();
        let end = self.patiently(remote, kept, progress, |progress| self.attempt(&transfer, progress))?;
        Ok(Part { end, ..transfer.part })
    }

    /// Status and headers of the server's own answer, which may be a refusal or a redirect.
    pub(crate) fn head(&self, remote: &Remote<'_>, progress: &mut dyn Progress) -> Result<(u16, HeaderMap)> {
        self.patiently(
            remote,
            || 0,
            progress,
            |_| {
                let request = remote.authorized(self.agent.head(remote.url));
                let response = request.config().max_redirects(0).build().call();
                let (parts, _) = response.map_err(|error| remote.failure(&error, 0))?.into_parts();
                let status = parts.status.as_u16();
                remote.busy(status, &parts.headers).map_or(Ok((status, parts.headers)), Err)
            },
        )
    }

    /// Calls `attempt` until it succeeds or the options' patience is at its end; `kept` tells how many bytes
    /// there are.
    fn patiently<T>(
        &self,
        remote: &Remote<'_>,
        kept: impl Fn() -> u64,
        progress: &mut dyn Progress,
        attempt: impl Fn(&mut dyn Progress) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut best = kept();
        let mut failures = 0;
        loop {
            let failure = match attempt(progress) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let kept = kept();
            if kept > best {
                best = kept;
                // A server that is too slow will not be done in time however often it is asked.
                if !matches!(failure, Failure::Passing { severity: Severity::Slow, .. }) {
                    failures = 0;
                }
            }
            failures += 1;
            let (error, delay, limit) = match failure {
                Failure::Fatal(error) => return Err(error),
                Failure::Outdated => {
                    let reason = "the file is another one on the server now".into();
                    (Box::new(remote.network(reason, 0, kept)), Some(Duration::ZERO), self.options.attempts)
                }
                Failure::Passing { error, delay, severity: Severity::Unreachable } => {
                    (error, delay, self.options.connect_attempts)
                }
                Failure::Passing { error, delay, .. } => (error, delay, self.options.attempts),
            };
            if failures >= limit {
                return Err(match *error {
                    FetchError::Network { url, reason, .. } => {
                        FetchError::Network { url, reason, attempts: failures, kept }
                    }
                    other => other,
                });
            }
            let delay = self.options.delay(failures, delay);
            progress.note(&match &*error {
                FetchError::Network { reason, .. } if delay.is_zero() => {
                    format!("{}: {reason}; starting again", remote.label)
                }
                FetchError::Network { reason, .. } => {
                    format!("{}: {reason}; next attempt in {delay:.0?}", remote.label)
                }
                other => format!("{other}; next attempt in {delay:.0?}"),
            });
            thread::sleep(delay);
        }
    }

    fn attempt(&self, transfer: &Transfer<'_>, progress: &mut dyn Progress) -> Result<End, Failure> {
        let remote = transfer.remote;
        let meta = transfer.meta();
        let have = meta.as_ref().map_or(0, |_| transfer.part.length());
        if have > 0 && meta.as_ref().is_some_and(|meta| meta.total == Some(have)) {
            progress.start(remote.label, Some(have), have);
            return Ok(End::Announced);
        }

        let resumed = meta.filter(|meta| have > 0 && transfer.can_resume(meta));
        let mut request = remote.authorized(self.agent.get(remote.url));
        if let Some(meta) = &resumed {
            request = request.header("Range", format!("bytes={have}-"));
            if let Some(validator) = meta.validator() {
                request = request.header("If-Range", validator);
            }
        }
        let response = request.call().map_err(|error| transfer.failure(&error))?;
        let (parts, body) = response.into_parts();
        let status = parts.status.as_u16();
        let new = Meta::new(remote.url, &parts.headers);
        let continues = |old: &Meta, total| transfer.continues(old, &new, total);
        let (start, total) = match (status, &resumed) {
            (200, _) => (0, header(&parts.headers, "content-length").and_then(|text| text.parse().ok())),
            (206, Some(old)) => match content_range(&parts.headers) {
                Some((Some(start), total)) if start == have && continues(old, total) => {
                    (start, total.or(old.total))
                }
                _ => return Err(transfer.outdated()?),
            },
            (416, Some(old)) => match content_range(&parts.headers) {
                Some((None, total)) if total == Some(have) && continues(old, total) => {
                    progress.start(remote.label, total, have);
                    return Ok(End::Announced);
                }
                _ => return Err(transfer.outdated()?),
            },
            _ => {
                let refused = || FetchError::Status { url: remote.url.into(), status }.into();
                return Err(remote.busy(status, &parts.headers).unwrap_or_else(refused));
            }
        };
        let chunked =
            header(&parts.headers, "transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
        let mut reader = Paced::new(body.into_reader(), &self.options);
        let mut head = Vec::new();
        if start == 0 {
            // A web page must not overwrite a partial file, so look before the file is opened.
            let is_html = header(&parts.headers, "content-type")
                .is_some_and(|kind| kind.starts_with("text/html") || kind.starts_with("application/xhtml"));
            reader
                .by_ref()
                .take(if is_html { PAGE_HEAD } else { SNIFF })
                .read_to_end(&mut head)
                .map_err(|error| transfer.interrupted(error))?;
            if is_html || looks_like_html(&head) {
                let title = page_title(&head);
                return Err(FetchError::WebPage { url: remote.url.into(), title }.into());
            }
        }
        let end = match total.is_some() || (status == 200 && chunked) {
            true => End::Announced,
            false if transfer.expected.tells_the_end() => End::Unknown,
            false => return Err(FetchError::Unverified { url: remote.url.into() }.into()),
        };
        if let Some(total) = total {
            transfer.expected.verify_size(Path::new(remote.label), total)?;
        }

        let mut file = transfer.part.open(start)?;
        // What began as one file goes on as that one.
        let meta = resumed.filter(|_| start > 0).unwrap_or(new);
        Meta { total, ..meta }.write(&transfer.part.meta)?;
        progress.start(remote.label, total, start);
        let part = &transfer.part.path;
        let arrived = files::copy(&mut head.as_slice().chain(reader), &mut file, progress);
        let arrived = arrived.map_err(|error| match error {
            CopyError::Read(error) => transfer.interrupted(error),
            CopyError::Write(error, written) => FetchError::writing(part, written, true, error).into(),
        })?;
        file.sync_all().map_err(|error| FetchError::writing(part, arrived, true, error))?;
        match total {
            Some(total) if start + arrived < total => {
                let reason = format!("the connection ended {} bytes early", total - start - arrived);
                Err(Failure::passing(remote.network(reason, 0, transfer.kept()), Severity::Broken))
            }
            Some(total) if start + arrived > total => Err(transfer.outdated()?),
            _ => Ok(end),
        }
    }
}

/// How much of a file tells whether it is a web page.
const SNIFF: u64 = 512;
/// How much of a web page to search for its title.
const PAGE_HEAD: u64 = 1 << 16;

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Where the server had said.
    Announced,
    /// With the connection, which may have been cut.
    Unknown,
}

/// A file on its way here.
struct Transfer<'a> {
    remote: &'a Remote<'a>,
    expected: &'a Expected<'a>,
    part: Part,
}

impl Transfer<'_> {
    /// What is known about the partial file, provided that it came from the same address.
    fn meta(&self) -> Option<Meta> {
        fs::read_to_string(&self.part.meta)
            .ok()
            .map(|text| Meta::parse(&text))
            .filter(|meta| meta.url == self.remote.url)
    }

    /// Whether it can be told that what comes next belongs to the same file.
    fn can_resume(&self, meta: &Meta) -> bool {
        meta.validator().is_some() || !self.expected.checksums.is_empty()
    }

    /// Whether the `new` answer, with this total, goes on with the file of the `old` one.
    fn continues(&self, old: &Meta, new: &Meta, total: Option<u64>) -> bool {
        let is_named = old.validator().is_some_and(|validator| new.validator() == Some(validator));
        old.agrees_with(new, total) && (is_named || !self.expected.checksums.is_empty())
    }

    /// How many bytes the next attempt need not ask for.
    fn kept(&self) -> u64 {
        self.meta().filter(|meta| self.can_resume(meta)).map_or(0, |_| self.part.length())
    }

    fn outdated(&self) -> Result<Failure> {
        self.part.remove()?;
        Ok(Failure::Outdated)
    }

    fn failure(&self, error: &ureq::Error) -> Failure {
        self.remote.failure(error, self.kept())
    }

    /// An error while the file was arriving.
    fn interrupted(&self, error: io::Error) -> Failure {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TooSlow>()) {
            Some(slow) => {
                Failure::passing(self.remote.network(slow.to_string(), 0, self.kept()), Severity::Slow)
            }
            None => self.failure(&error.into()),
        }
    }
}

/// The bytes of a file that has not got its name yet, and a note of where they come from.
pub(crate) struct Part {
    path: PathBuf,
    meta: PathBuf,
    end: End,
}

impl Part {
    /// Of the file that will be called `destination`.
    pub(crate) fn new(destination: &Path) -> Self {
        Self {
            path: files::with_suffix(destination, ".part"),
            meta: files::with_suffix(destination, ".part.meta"),
            end: End::Unknown,
        }
    }

    /// Where the bytes are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails unless it is as `expected`, and removes it if it is something else.
    pub(crate) fn verify(&self, destination: &Path, expected: &Expected<'_>) -> Result<()> {
        expected.verify(&self.path).map_err(|error| self.rejected(error).renamed(&self.path, destination))
    }

    /// Removes it if `error` tells that it is not the file it should be, and adds what may be the reason.
    pub(crate) fn rejected(&self, error: FetchError) -> FetchError {
        if error.is_local() {
            return error;
        }
        let error = error.explained(match self.end {
            End::Announced => "it was cut short before the server had it, or is another file",
            End::Unknown => {
                "the server did not say how long it is, so it was cut short on the way or is another file"
            }
        });
        self.remove().err().unwrap_or(error)
    }

    /// Keeps it for the next call, which goes on with it as with an interrupted download.
    pub(crate) fn shelve(&self) {
        let Ok(text) = fs::read_to_string(&self.meta) else { return };
        // If that cannot be written, the next call asks the server for the rest, and there is none.
        let _ = Meta { total: Some(self.length()), ..Meta::parse(&text) }.write(&self.meta);
    }

    /// Gives it its name.
    pub(crate) fn keep(&self, destination: &Path) -> Result<()> {
        files::rename(&self.path, destination)?;
        files::remove(&self.meta)
    }

    /// Removes it and its note.
    pub(crate) fn remove(&self) -> Result<()> {
        files::remove(&self.meta)?;
        files::remove(&self.path)
    }

    /// Removes the note if there is nothing that it is about: a process ended between two steps.
    pub(crate) fn remove_orphan(&self) -> Result<()> {
        match self.path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => files::remove(&self.meta),
            _ => Ok(()),
        }
    }

    /// How many bytes there are.
    fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn open(&self, start: u64) -> Result<File> {
        let mut options = OpenOptions::new();
        match start {
            0 => options.write(true).truncate(true),
            _ => options.append(true),
        };
        options.create(true).open(&self.path).map_err(FetchError::io("open", &self.path))
    }
}

/// A reader that gives up on a server that is too slow.
struct Paced<R> {
    inner: R,
    min_speed: u64,
    window: Duration,
    /// Since the window began: how long the server was waited for, and what it sent.
    waited: Duration,
    bytes: u64,
}

/// A server sent fewer bytes than it has to.
#[derive(Debug)]
struct TooSlow {
    bytes: u64,
    waited: Duration,
    min_speed: u64,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, waited, min_speed } = self;
        write!(
            f,
            "the server is too slow: {bytes} bytes in {waited:.0?}, and it should be {min_speed} a second"
        )
    }
}

impl std::error::Error for TooSlow {}

impl<R> Paced<R> {
    fn new(inner: R, options: &HttpOptions) -> Self {
        let (min_speed, window) = (options.min_speed, options.speed_window);
        Self { inner, min_speed, window, waited: Duration::ZERO, bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.waited >= self.window {
            let (bytes, waited, min_speed) = (self.bytes, self.waited, self.min_speed);
            if (bytes as f64) < min_speed as f64 * waited.as_secs_f64() {
                return Err(io::Error::other(TooSlow { bytes, waited, min_speed }));
            }
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        let start = Instant::now();
        let n = self.inner.read(buffer)?;
        self.waited += start.elapsed();
        self.bytes += n as u64;
        Ok(n)
    }
}

/// Whether another attempt may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// No: a malformed address, a certificate that does not fit.
    Permanent,
    /// Hardly: no connection came about.
    Unreachable,
    /// Perhaps: the connection broke.
    Broken,
    /// Perhaps, but not much: bytes come, and too few of them.
    Slow,
}

/// An error of ureq in words.
fn describe(error: &ureq::Error) -> (String, Severity) {
    use io::ErrorKind as Kind;
    match error {
        ureq::Error::HostNotFound => ("the server's name cannot be resolved".into(), Severity::Unreachable),
        ureq::Error::ConnectionFailed => ("no connection".into(), Severity::Unreachable),
        ureq::Error::Timeout(timeout @ (Timeout::Connect | Timeout::Resolve)) => {
            (format!("no connection in time ({timeout})"), Severity::Unreachable)
        }
        ureq::Error::Timeout(_) => ("the server fell silent".into(), Severity::Broken),
        ureq::Error::Io(error) => match error.kind() {
            Kind::UnexpectedEof
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::TimedOut
            | Kind::WouldBlock => (format!("the connection was cut ({error})"), Severity::Broken),
            Kind::InvalidData | Kind::InvalidInput => (error.to_string(), Severity::Permanent),
            // Refused, no route and, under no kind of its own, a name that nobody knows.
            _ => (format!("no connection ({error})"), Severity::Unreachable),
        },
        ureq::Error::Protocol(_) | ureq::Error::BodyStalled => (error.to_string(), Severity::Broken),
        _ => (error.to_string(), Severity::Permanent),
    }
}

/// What the server said about the bytes in a partial file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meta {
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    total: Option<u64>,
}

impl Meta {
    fn new(url: &str, headers: &HeaderMap) -> Self {
        Self {
            url: url.to_owned(),
            etag: header(headers, "etag").map(str::to_owned),
            last_modified: header(headers, "last-modified").map(str::to_owned),
            total: None,
        }
    }

    fn parse(text: &str) -> Self {
        let mut meta = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match key {
                "url" => meta.url = value.to_owned(),
                "etag" => meta.etag = Some(value.to_owned()),
                "last-modified" => meta.last_modified = Some(value.to_owned()),
                "total" => meta.total = value.parse().ok(),
                _ => {}
            }
        }
        meta
    }

    fn write(&self, path: &Path) -> Result<()> {
        let total = self.total.map(|total| total.to_string());
        let lines = [
            ("url", Some(self.url.as_str())),
            ("etag", self.etag.as_deref()),
            ("last-modified", self.last_modified.as_deref()),
            ("total", total.as_deref()),
        ];
        let text: String =
            lines.iter().filter_map(|(key, value)| value.map(|value| format!("{key} {value}\n"))).collect();
        fs::write(path, text).map_err(|error| FetchError::writing(path, 0, true, error))
    }

    /// For `If-Range`, which takes no weak ETag.
    fn validator(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/")).or(self.last_modified.as_deref())
    }

    /// Whether nothing of what the server says now, with this total, contradicts what it said.
    fn agrees_with(&self, new: &Self, total: Option<u64>) -> bool {
        fn same<T: PartialEq>(old: Option<&T>, new: Option<&T>) -> bool {
            old.zip(new).is_none_or(|(old, new)| old == new)
        }
        same(self.etag.as_ref(), new.etag.as_ref())
            && same(self.last_modified.as_ref(), new.last_modified.as_ref())
            && same(self.total.as_ref(), total.as_ref())
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// First byte and total of `bytes 5-9/10`, `bytes 5-9/*` or `bytes */10`.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = header(headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let start = match range {
        "*" => None,
        range => Some(range.split_once('-')?.0.trim().parse().ok()?),
    };
    Some((start, total.trim().parse().ok()))
}

fn looks_like_html(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    ["<!doctype html", "<html"]
        .iter()
        .any(|tag| head.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes())))
}

fn page_title(page: &[u8]) -> Option<String> {
    let page = String::from_utf8_lossy(page);
    let lower = page.to_ascii_lowercase();
    let open = lower.find("<title")?;
    let start = open + lower[open..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let title = page[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}
