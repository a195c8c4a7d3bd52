//! A web server on this machine, archives made on the spot, and a `Progress` that remembers.

#![allow(dead_code)] // Each test binary uses its own part.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use approx_fetch::{HttpOptions, Manifest, Progress};
use sha2::{Digest, Sha256};

/// What the server has under a path.
#[derive(Clone)]
pub struct Route {
    pub body: Vec<u8>,
    pub etag: Option<String>,
    pub headers: Vec<(&'static str, String)>,
    /// Where to send the client instead.
    pub redirect: Option<String>,
    /// Statuses to answer with first, one a request.
    pub statuses: VecDeque<u16>,
    /// After how many bytes of the body to cut the connection, one a request.
    pub cuts: VecDeque<usize>,
    /// After how many bytes to fall silent, one a request.
    pub stalls: VecDeque<usize>,
    /// Answers `Range` with the whole file.
    pub ignores_range: bool,
    /// Answers `Range` with a part even where `If-Range` names another file.
    pub ignores_if_range: bool,
    /// How the client learns where the body ends.
    pub framing: Framing,
    /// Sends a byte at a time, with this pause in between.
    pub drip: Option<Duration>,
    /// The ETag of an answer to `Range`, instead of the file's.
    pub part_etag: Option<Option<String>>,
    /// How many bytes later than asked for an answer to `Range` begins.
    pub part_shift: usize,
}

/// How an answer says where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`
    Length,
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// It ends with the connection.
    Close,
}

impl Route {
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            etag: Some(format!("\"{}\"", hex::<Sha256>(&body))),
            body,
            headers: vec![("Content-Type", "application/octet-stream".into())],
            redirect: None,
            statuses: VecDeque::new(),
            cuts: VecDeque::new(),
            stalls: VecDeque::new(),
            ignores_range: false,
            ignores_if_range: false,
            framing: Framing::Length,
            drip: None,
            part_etag: None,
            part_shift: 0,
        }
    }

    pub fn redirect(to: impl Into<String>) -> Self {
        Self { redirect: Some(to.into()), etag: None, ..Self::new("") }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }
}

/// What the server was asked and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub status: u16,
    /// Bytes of the body.
    pub sent: usize,
}

type Routes = Arc<Mutex<HashMap<String, Route>>>;
type Log = Arc<Mutex<Vec<Request>>>;

pub struct Server {
    address: SocketAddr,
    routes: Routes,
    log: Log,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (routes, log, stop) = (Routes::default(), Log::default(), Arc::new(AtomicBool::new(false)));
        let acceptor = {
            let (routes, log, stop) = (routes.clone(), log.clone(), stop.clone());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let (routes, log) = (routes.clone(), log.clone());
                    thread::spawn(move || drop(serve(stream.unwrap(), &routes, &log)));
                }
            })
        };
        Self { address, routes, log, stop, acceptor: Some(acceptor) }
    }

    pub fn with(routes: impl IntoIterator<Item = (&'static str, Route)>) -> Self {
        let server = Self::start();
        routes.into_iter().for_each(|(path, route)| server.put(path, route));
        server
    }

    pub fn put(&self, path: &str, route: Route) {
        self.routes.lock().unwrap().insert(path.to_owned(), route);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests so far.
    pub fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    pub fn clear_log(&self) {
        self.log.lock().unwrap().clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.acceptor.take().unwrap().join().unwrap();
    }
}

/// Answers one request and closes the connection.
fn serve(stream: TcpStream, routes: &Routes, log: &Log) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut headers = HashMap::new();
    for line in lines {
        match line?.split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (range, if_range) = (headers.get("range").cloned(), headers.get("if-range").cloned());
    let (mut cut, mut stall) = (None, None);
    let (mut framing, mut drip) = (Framing::Length, None);
    let mut status = 404;
    let mut extra = Vec::new();
    let mut body = b"nothing here".to_vec();
    if let Some(route) = routes.lock().unwrap().get_mut(path) {
        extra.extend(route.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        (framing, drip) = (route.framing, route.drip);
        let total = route.body.len();
        let start = range
            .as_deref()
            .filter(|_| !route.ignores_range)
            .filter(|_| route.ignores_if_range || if_range.is_none() || if_range == route.etag)
            .and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let early = route.statuses.pop_front();
        (status, body) = match (early, &route.redirect, start) {
            (Some(early), ..) => (early, Vec::new()),
            (_, Some(to), _) => {
                extra.push(format!("Location: {to}"));
                (302, Vec::new())
            }
            (_, _, Some((start, end))) => {
                let start: usize = start.parse::<usize>().unwrap() + route.part_shift;
                let end = end.parse().map_or(total, |end: usize| (end + 1).min(total));
                if start < total {
                    extra.push(format!("Content-Range: bytes {start}-{}/{total}", end - 1));
                    (206, route.body[start..end].to_vec())
                } else {
                    extra.push(format!("Content-Range: bytes */{total}"));
                    (416, Vec::new())
                }
            }
            (_, _, None) => (200, route.body.clone()),
        };
        let etag = route.part_etag.as_ref().filter(|_| status == 206).unwrap_or(&route.etag);
        extra.extend(etag.iter().map(|etag| format!("ETag: {etag}")));
        if early.is_none() && method != "HEAD" {
            (cut, stall) = (route.cuts.pop_front(), route.stalls.pop_front());
        }
    }
    let mut head = format!("HTTP/1.1 {status} -\r\nConnection: close\r\n");
    match framing {
        Framing::Length => head.extend([format!("Content-Length: {}\r\n", body.len())]),
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => {}
    }
    extra.iter().for_each(|line| head.extend([line, "\r\n"]));
    let sent = match method {
        "HEAD" => 0,
        _ => cut.or(stall).unwrap_or(body.len()).min(body.len()),
    };
    let authorization = headers.remove("authorization");
    let (method, path) = (method.to_owned(), path.to_owned());
    log.lock().unwrap().push(Request { method, path, authorization, range, if_range, status, sent });
    let mut stream = stream;
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    for piece in body[..sent].chunks(if drip.is_some() { 1 } else { 10_000 }) {
        match framing {
            Framing::Chunked => {
                write!(stream, "{:x}\r\n", piece.len())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            }
            Framing::Length | Framing::Close => stream.write_all(piece)?,
        }
        if let Some(pause) = drip {
            thread::sleep(pause);
        }
    }
    if framing == Framing::Chunked && sent == body.len() {
        stream.write_all(b"0\r\n\r\n")?;
    }
    stream.flush()?;
    if stall.is_some() {
        thread::sleep(Duration::from_secs(2));
    }
    Ok(())
}

/// Short pauses and timeouts.
pub fn impatient() -> HttpOptions {
    HttpOptions {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(10),
        first_delay: Duration::from_millis(5),
        max_delay: Duration::from_millis(20),
        ..HttpOptions::default()
    }
}

/// `length` bytes without a pattern that compresses or repeats.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(|_| next()).collect()
}

pub fn hex<D: Digest>(bytes: &[u8]) -> String {
    D::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, contents) in members {
        match name.strip_suffix('/') {
            Some(folder) => writer.add_directory(folder, options).unwrap(),
            None => {
                writer.start_file(*name, options).unwrap();
                writer.write_all(contents).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

pub fn tar_gz(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), Default::default()));
    for (name, contents) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        // Set by hand, since the crate refuses names that lead upwards.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *contents).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// A file that ends with a footer, as parquet files do, around `contents`.
pub fn parquet(contents: &[u8]) -> Vec<u8> {
    [b"PAR1", contents, b"footer\x06\0\0\0PAR1"].concat()
}

/// Bytes as in a safetensors file, as one tensor.
pub fn safetensors(contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},"a":{{"dtype":"U8","shape":[{length}],"data_offsets":[0,{length}]}}}}"#
    );
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), contents].concat()
}

/// A checkpoint that PyTorch has written.
pub fn checkpoint(name: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../torch-checkpoint/tests/fixtures");
    std::fs::read(fixtures.join(name)).unwrap()
}

/// Compressed as by gzip.
pub fn gz(contents: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

/// A manifest with an archive of two members, single files, a data set on the hub or in an archive, weights from
/// the web or the hub, and a gated data set.
pub fn manifest(server: &Server) -> Manifest {
    manifest_at(&server.url(""))
}

/// The same, of a server in another process.
pub fn manifest_at(base: &str) -> Manifest {
    let text = format!(
        r#"
        [[artifact]]
        name = "pair"
        title = "Two files in an archive"
        homepage = "{base}"
        licence = "none"
        [[artifact.source]]
        kind = "archive"
        name = "web"
        url = "{base}/download?id=1"
        file = "pair.zip"
        format = "zip"
        destination = "weights/pair"
        entries = [{{ key = "one", path = "one.pt" }}, {{ key = "two", path = "two.pt" }}]

        [[artifact]]
        name = "single"
        title = "A file with a digest in its name"
        homepage = "{base}"
        licence = "none"
        [[artifact.source]]
        kind = "files"
        name = "web"
        destination = "weights/single"
        entries = [
          {{ key = "net", path = "net.pth", url = "{base}/net.pth", checksum = "sha256-prefix:{prefix}" }},
        ]

        [[artifact]]
        name = "data"
        title = "Parquet from the hub or binary files from the university"
        homepage = "{base}"
        licence = "none"
        [[artifact.source]]
        kind = "hub"
        name = "hub"
        repo = "org/data"
        repo_type = "dataset"
        revision = "refs/convert/parquet"
        destination = "datasets/data"
        entries = [
          {{ key = "test", path = "plain_text/test/0000.parquet" }},
          {{ key = "train", path = "plain_text/train/0000.parquet" }},
        ]
        [[artifact.source]]
        kind = "archive"
        name = "toronto"
        url = "{base}/data.tar.gz"
        file = "data.tar.gz"
        format = "tar.gz"
        checksum = "md5:{md5}"
        destination = "datasets/data/bin"
        entries = [{{ key = "test", path = "test.bin" }}, {{ key = "train", path = "train.bin" }}]

        [[artifact]]
        name = "nets"
        title = "Files with digests in their names, of which the hub has one"
        homepage = "{base}"
        licence = "none"
        [[artifact.source]]
        kind = "files"
        name = "web"
        destination = "weights/nets"
        entries = [
          {{ key = "a", path = "a_web.pth", url = "{base}/models/net_a-{prefix}.pth", checksum = "sha256-prefix:{prefix}" }},
          {{ key = "b", path = "b_web.pth", url = "{base}/models/net_b-{prefix}.pth", checksum = "sha256-prefix:{prefix}" }},
        ]
        [[artifact.source]]
        kind = "hub"
        name = "hub"
        repo_type = "model"
        revision = "main"
        destination = "weights/nets"
        entries = [{{ key = "a", path = "a_hub.bin", hub = "org/net_a.v1/model.bin" }}]

        [[artifact]]
        name = "gated"
        title = "Shards for those who have accepted the terms"
        homepage = "{base}"
        licence = "none"
        [[artifact.source]]
        kind = "hub"
        name = "hub"
        repo = "org/gated"
        repo_type = "dataset"
        revision = "main"
        gated = true
        destination = "datasets/gated"
        entries = [
          {{ key = "validation", path = "data/0.parquet" }},
          {{ key = "validation", path = "data/1.parquet" }},
        ]
        "#,
        prefix = &hex::<Sha256>(NET)[..8],
        md5 = hex::<md5::Md5>(&data_tar_gz()),
    );
    Manifest::parse(&text).unwrap()
}

/// The file of the artifacts "single" and "nets".
pub const NET: &[u8] = &[b'n'; 1000];

/// The archive of the artifact "data".
pub fn data_tar_gz() -> Vec<u8> {
    tar_gz(&[("data-bin/test.bin", b"test images"), ("data-bin/train.bin", b"training images")])
}

/// The archive of the artifact "pair".
pub fn pair_zip() -> Vec<u8> {
    zip(&[("pair/", b""), ("pair/one.pt", b"first"), ("pair/two.pt", b"second")])
}

/// Remembers what it was told, in short.
#[derive(Debug, Default)]
pub struct Memory {
    /// File, total and what was there already.
    pub starts: Vec<(String, Option<u64>, u64)>,
    pub bytes: u64,
    pub finished: usize,
    pub notes: Vec<String>,
}

impl Progress for Memory {
    fn start(&mut self, file: &str, total: Option<u64>, already: u64) {
        self.starts.push((file.into(), total, already));
    }

    fn advance(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn finish(&mut self) {
        self.finished += 1;
    }

    fn note(&mut self, message: &str) {
        self.notes.push(message.into());
    }
}

/// The files below `root`, relative and sorted.
pub fn tree(root: &Path) -> Vec<String> {
    fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, files),
                false => files.push(path),
            }
        }
    }
    let mut files = Vec::new();
    walk(root, &mut files);
    let relative = files.iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<_> = relative.collect();
    names.sort();
    names
}
