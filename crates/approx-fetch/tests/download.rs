//! One file over HTTP, from a server that misbehaves in every way that servers do.

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use approx_fetch::{Client, FetchError, HttpOptions, Result};
use md5::Md5;
use sha2::Sha256;
use tempfile::TempDir;

use support::{Memory, Request, Route, Server, hex, impatient, noise, tree};

const SIZE: usize = 300_000;

/// A directory to download `/file` of `server` into.
struct Case {
    server: Server,
    directory: TempDir,
}

impl Case {
    fn new(route: Route) -> Self {
        Self { server: Server::with([("/file", route)]), directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn download_with(&self, options: HttpOptions, checksum: Option<String>) -> (Result<()>, Memory) {
        let checksum = checksum.map(|text| text.parse().unwrap());
        let mut memory = Memory::default();
        let url = self.server.url("/file");
        let result = Client::new(options).download(&url, &self.path("file"), checksum.as_ref(), &mut memory);
        (result, memory)
    }

    fn download(&self) -> (Result<()>, Memory) {
        self.download_with(impatient(), None)
    }

    /// Fails once, after `cut` bytes, and leaves a partial file.
    fn leave_partial_file(&self, cut: usize) {
        self.leave_partial_file_of(cut, None);
    }

    /// Fails once; the next call may go on after `cut` bytes.
    fn leave_partial_file_of(&self, cut: usize, checksum: Option<String>) {
        let (result, _) = self.download_with(HttpOptions { attempts: 1, ..impatient() }, checksum);
        match result {
            Err(FetchError::Network { kept, .. }) => assert_eq!(kept, cut as u64),
            other => panic!("{other:?}"),
        }
        assert_eq!(tree(self.directory.path()), ["file.part", "file.part.meta"]);
        self.server.clear_log();
    }

    fn assert_holds(&self, body: &[u8]) {
        assert_eq!(tree(self.directory.path()), ["file"]);
        assert!(fs::read(self.path("file")).unwrap() == body);
    }
}

fn ranges(log: &[Request]) -> Vec<(Option<&str>, u16, usize)> {
    log.iter().map(|request| (request.range.as_deref(), request.status, request.sent)).collect()
}

#[test]
fn a_whole_file_arrives_and_leaves_nothing_else() {
    for size in [0, 1, 511, 512, 513, SIZE] {
        let body = noise(size);
        let case = Case::new(Route::new(body.clone()));
        let (result, memory) = case.download();
        result.unwrap();
        case.assert_holds(&body);
        assert_eq!(ranges(&case.server.log()), [(None, 200, size)]);
        assert_eq!(memory.starts, [("file".to_owned(), Some(size as u64), 0)]);
        assert_eq!((memory.bytes, memory.finished), (size as u64, 1));
    }
}

#[test]
fn a_cut_connection_is_resumed_in_the_same_call() {
    let body = noise(SIZE);
    let case = Case::new(Route { cuts: [100_000, 50_000].into(), ..Route::new(body.clone()) });
    let (result, memory) = case.download();
    result.unwrap();
    case.assert_holds(&body);
    assert_eq!(
        ranges(&case.server.log()),
        [
            (None, 200, 100_000),
            (Some("bytes=100000-"), 206, 50_000),
            (Some("bytes=150000-"), 206, SIZE - 150_000)
        ]
    );
    assert_eq!(memory.starts[1], ("file".to_owned(), Some(SIZE as u64), 100_000));
    assert_eq!(memory.bytes, SIZE as u64);
    assert_eq!(memory.notes.len(), 2);
}

#[test]
fn a_partial_file_is_resumed_in_a_later_call() {
    let body = noise(SIZE);
    let case = Case::new(Route { cuts: [100_000].into(), ..Route::new(body.clone()) });
    case.leave_partial_file(100_000);
    let (result, memory) = case.download();
    result.unwrap();
    case.assert_holds(&body);
    let log = case.server.log();
    assert_eq!(ranges(&log), [(Some("bytes=100000-"), 206, SIZE - 100_000)]);
    assert_eq!(log[0].if_range, Some(format!("\"{}\"", hex::<Sha256>(&body))));
    assert_eq!(memory.bytes, (SIZE - 100_000) as u64);
}

#[test]
fn a_file_that_changed_in_between_is_started_again() {
    for (ignores_range, ignores_if_range) in [(false, false), (false, true), (true, false)] {
        let case = Case::new(Route { cuts: [100_000].into(), ..Route::new(noise(SIZE)) });
        case.leave_partial_file(100_000);
        let body = noise(SIZE + 1)[1..].to_vec();
        case.server.put("/file", Route { ignores_range, ignores_if_range, ..Route::new(body.clone()) });
        case.download().0.unwrap();
        case.assert_holds(&body);
        let log = case.server.log();
        assert_eq!(log[0].range.as_deref(), Some("bytes=100000-"));
        assert_eq!((log.last().unwrap().status, log.last().unwrap().sent), (200, SIZE));
    }
}

#[test]
fn without_etag_and_date_only_a_checksum_lets_a_file_go_on() {
    let nameless = |body: &[u8]| Route { etag: None, ..Route::new(body) };
    let checksum = |size| format!("sha256:{}", hex::<Sha256>(&noise(size)));
    for (size, checksum, first_range, last_status) in [
        (SIZE, None, None, 200),
        (SIZE + 1, None, None, 200),
        (SIZE, Some(checksum(SIZE)), Some("bytes=100000-"), 206),
        (SIZE + 1, Some(checksum(SIZE + 1)), Some("bytes=100000-"), 200),
    ] {
        let case = Case::new(Route { cuts: [100_000].into(), ..nameless(&noise(SIZE)) });
        let kept = if checksum.is_some() { 100_000 } else { 0 };
        case.leave_partial_file_of(kept, checksum.clone());
        case.server.put("/file", nameless(&noise(size)));
        case.download_with(impatient(), checksum).0.unwrap();
        case.assert_holds(&noise(size));
        let log = case.server.log();
        assert_eq!((log[0].range.as_deref(), &log[0].if_range), (first_range, &None));
        assert_eq!(log.last().unwrap().status, last_status);
    }
}

#[test]
fn a_date_validates_where_there_is_no_strong_etag() {
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    let route = Route { etag: Some("W/\"1\"".into()), ..Route::new(noise(SIZE)) };
    let route = Route { ignores_if_range: true, ..route.header("Last-Modified", date) };
    let case = Case::new(Route { cuts: [100_000].into(), ..route });
    case.leave_partial_file(100_000);
    case.download().0.unwrap();
    case.assert_holds(&noise(SIZE));
    assert_eq!(case.server.log()[0].if_range.as_deref(), Some(date));
}

#[test]
fn a_partial_file_from_another_address_is_not_continued() {
    let case = Case::new(Route { cuts: [100_000].into(), ..Route::new(noise(SIZE)) });
    case.leave_partial_file(100_000);
    case.server.put("/other", Route::new("short"));
    let client = Client::new(impatient());
    client.download(&case.server.url("/other"), &case.path("file"), None, &mut ()).unwrap();
    case.assert_holds(b"short");
    assert_eq!(ranges(&case.server.log()), [(None, 200, 5)]);
}

#[test]
fn a_partial_file_without_its_description_is_not_continued() {
    let case = Case::new(Route::new(noise(SIZE)));
    fs::write(case.path("file.part"), "of unknown origin").unwrap();
    case.download().0.unwrap();
    case.assert_holds(&noise(SIZE));
    assert_eq!(ranges(&case.server.log()), [(None, 200, SIZE)]);
}

#[test]
fn a_partial_file_that_is_complete_or_too_long_is_no_dead_end() {
    let body = noise(1000);
    let longer = noise(1001);
    let etag = format!("\"{}\"", hex::<Sha256>(&body));
    for (partial, total, statuses) in [
        (&body, Some(1000), vec![]),
        (&body, None, vec![416]),
        (&longer, Some(1000), vec![416, 200]),
        (&longer, None, vec![416, 200]),
    ] {
        let case = Case::new(Route::new(body.clone()));
        let total = total.map(|total| format!("total {total}\n")).unwrap_or_default();
        let url = case.server.url("/file");
        fs::write(case.path("file.part"), partial).unwrap();
        fs::write(case.path("file.part.meta"), format!("url {url}\netag {etag}\n{total}")).unwrap();
        case.download().0.unwrap();
        case.assert_holds(&body);
        let log: Vec<_> = case.server.log().iter().map(|request| request.status).collect();
        assert_eq!(log, statuses);
    }
}

#[test]
fn every_new_byte_renews_the_patience() {
    let case = Case::new(Route { cuts: [1000; 20].into(), ..Route::new(noise(SIZE)) });
    case.download_with(HttpOptions { attempts: 2, ..impatient() }, None).0.unwrap();
    case.assert_holds(&noise(SIZE));
    assert_eq!(case.server.log().len(), 21);
}

#[test]
fn a_connection_that_is_always_cut_at_once_is_given_up() {
    let case = Case::new(Route { cuts: [0; 20].into(), ..Route::new(noise(SIZE)) });
    match case.download().0 {
        Err(FetchError::Network { attempts: 5, kept: 0, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(case.server.log().len(), 5);
}

#[test]
fn a_server_that_falls_silent_is_asked_again() {
    let case = Case::new(Route { stalls: [100_000].into(), ..Route::new(noise(SIZE)) });
    let options = HttpOptions { stall_timeout: Duration::from_millis(200), ..impatient() };
    let (result, memory) = case.download_with(options, None);
    result.unwrap();
    case.assert_holds(&noise(SIZE));
    assert_eq!(case.server.log()[1].range.as_deref(), Some("bytes=100000-"));
    assert!(memory.notes[0].contains("fell silent"), "{:?}", memory.notes);
}

#[test]
fn a_busy_server_is_asked_again_and_a_refusal_is_final() {
    for (statuses, expected, requests) in [
        (vec![503], None, 2),
        (vec![500, 502, 429, 408], None, 5),
        (vec![503; 9], Some(503), 5),
        (vec![404], Some(404), 1),
        (vec![403], Some(403), 1),
        (vec![410], Some(410), 1),
    ] {
        let route = Route::new(noise(1000)).header("Retry-After", "3600");
        let case = Case::new(Route { statuses: statuses.into(), ..route });
        let url = case.server.url("/file");
        match (case.download().0, expected) {
            (Ok(()), None) => case.assert_holds(&noise(1000)),
            (Err(error), Some(status)) => {
                assert!(
                    error.to_string().starts_with(&format!("{url} answered with HTTP status {status} ("))
                );
                assert_eq!(tree(case.directory.path()), [""; 0]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(case.server.log().len(), requests);
    }
}

#[test]
fn redirects_are_followed_with_the_range() {
    let case = Case::new(Route::redirect("/a"));
    case.server.put("/a", Route::redirect(case.server.url("/b")));
    case.server.put("/b", Route { cuts: [100_000].into(), ..Route::new(noise(SIZE)) });
    case.download().0.unwrap();
    case.assert_holds(&noise(SIZE));
    let last = case.server.log().pop().unwrap();
    assert_eq!((last.path.as_str(), last.status, last.sent), ("/b", 206, SIZE - 100_000));
}

#[test]
fn redirects_in_a_circle_are_an_error() {
    let case = Case::new(Route::redirect("/file"));
    let error = case.download().0.unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
}

#[test]
fn the_right_checksum_is_accepted() {
    let body = noise(SIZE);
    let sha256 = hex::<Sha256>(&body);
    for checksum in [
        format!("sha256:{sha256}"),
        format!("sha256:{}", sha256.to_uppercase()),
        format!("sha256-prefix:{}", &sha256[..8]),
        format!("md5:{}", hex::<Md5>(&body)),
    ] {
        let case = Case::new(Route { cuts: [100_000].into(), ..Route::new(body.clone()) });
        case.download_with(impatient(), Some(checksum)).0.unwrap();
        case.assert_holds(&body);
    }
}

#[test]
fn a_wrong_checksum_leaves_no_file() {
    let body = noise(SIZE);
    let actual = hex::<Sha256>(&body);
    for (algorithm, checksum, actual) in [
        ("SHA-256", format!("sha256:{}", "0".repeat(64)), &actual[..]),
        ("SHA-256 prefix", "sha256-prefix:00000000".into(), &actual[..8]),
        ("MD5", format!("md5:{}", "0".repeat(32)), &hex::<Md5>(&body)),
    ] {
        let case = Case::new(Route::new(body.clone()));
        let error = case.download_with(impatient(), Some(checksum)).0.unwrap_err();
        let expected = "0".repeat(actual.len());
        let path = case.path("file");
        assert_eq!(
            error.to_string(),
            format!("{} has the wrong {algorithm}: expected {expected}, got {actual}", path.display())
        );
        assert_eq!(tree(case.directory.path()), [""; 0]);
    }
}

#[test]
fn a_web_page_is_not_taken_for_the_file() {
    let page = "\n<!DOCTYPE html><html><head><title>Google Drive -\n Quota exceeded</title></head></html>";
    for (content_type, body, title) in [
        ("text/html; charset=utf-8", page, Some("Google Drive - Quota exceeded")),
        ("application/octet-stream", page, Some("Google Drive - Quota exceeded")),
        ("text/html", "sign in", None),
    ] {
        let case = Case::new(Route { cuts: [100_000].into(), ..Route::new(noise(SIZE)) });
        case.leave_partial_file(100_000);
        case.server.put("/file", Route::new(body).header("Content-Type", content_type));
        match case.download().0 {
            Err(FetchError::WebPage { title: found, .. }) => assert_eq!(found.as_deref(), title),
            other => panic!("{other:?}"),
        }
        // What was there of the real file is still good.
        case.server.put("/file", Route::new(noise(SIZE)));
        case.download().0.unwrap();
        case.assert_holds(&noise(SIZE));
        assert_eq!(case.server.log().last().unwrap().sent, SIZE - 100_000);
    }
}

#[test]
fn an_unreachable_server_is_given_up_soon() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for server in [unused.to_string(), "name.invalid".into()] {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("http://{server}/file");
        let result = Client::new(impatient()).download(&url, &directory.path().join("file"), None, &mut ());
        match result {
            Err(FetchError::Network { attempts: 2, kept: 0, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_full_disk_is_named_and_not_tried_again() {
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("SKIPPED: this system has no /dev/full");
        return;
    }
    #[cfg(unix)]
    {
        let case = Case::new(Route::new(noise(SIZE)));
        std::os::unix::fs::symlink("/dev/full", case.path("file.part")).unwrap();
        let (result, _) = case.download();
        let part = case.path("file.part");
        match &result {
            Err(error @ FetchError::DiskFull { file, written: 0, kept: true }) => {
                assert_eq!(*file, part);
                assert!(error.is_local());
                let text = format!("the disk is full: {} got 0 bytes; they are kept", part.display());
                assert!(error.to_string().starts_with(&text), "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(case.server.log().len(), 1);
        assert!(!case.path("file").exists());
    }
}
