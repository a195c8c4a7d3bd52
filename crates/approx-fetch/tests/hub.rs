//! The hub, played by the server on this machine.

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use approx_fetch::{FetchError, Fetcher, HttpOptions, HubOptions};
use sha2::Sha256;
use tempfile::TempDir;

use support::{Memory, Route, Server, data_tar_gz, hex, impatient, manifest, noise, tree};

const SIZE: usize = 300_000;
const TEST: &str = "/datasets/org/data/resolve/refs%2Fconvert%2Fparquet/plain_text/test/0000.parquet";
const PLACED: &str = "datasets/data/plain_text/test/0000.parquet";

/// A hub with the file "test", a root to fetch into and a cache.
struct Case {
    server: Server,
    root: TempDir,
    cache: TempDir,
}

fn hub_route(body: Vec<u8>) -> Route {
    Route::new(body).header("X-Repo-Commit", "0123456789abcdef")
}

impl Case {
    fn new(route: Route) -> Self {
        let server = Server::with([(TEST, route)]);
        Self { server, root: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    fn fetcher(&self) -> Fetcher {
        // The slash at the end must not matter.
        let endpoint = Some(self.server.url("/"));
        let cache_dir = Some(self.cache.path().to_path_buf());
        Fetcher::new(self.root.path())
            .with_manifest(manifest(&self.server))
            .with_http(impatient())
            .with_hub(HubOptions { endpoint, cache_dir })
            .with_source(Some("hub"))
    }

    fn fetch(&self) -> approx_fetch::Result<approx_fetch::Outcome> {
        self.fetcher().fetch("data", Some(&["test"]), &mut ())
    }

    fn blob(&self, body: &[u8]) -> PathBuf {
        self.cache.path().join("datasets--org--data/blobs").join(hex::<Sha256>(body))
    }

    fn assert_holds(&self, body: &[u8]) {
        assert_eq!(tree(self.root.path()), [PLACED]);
        assert!(fs::read(self.root.path().join(PLACED)).unwrap() == body);
    }

    /// The requests but for the first of each download, which asks for one byte.
    fn transfers(&self) -> Vec<(String, usize)> {
        let log = self.server.log().into_iter().map(|request| (request.range.unwrap(), request.sent));
        log.filter(|(range, _)| range != "bytes=0-0").collect()
    }
}

#[test]
fn a_file_of_the_hub_keeps_its_path() {
    let body = noise(SIZE);
    let case = Case::new(hub_route(body.clone()));
    let mut memory = Memory::default();
    let outcome = case.fetcher().fetch("data", Some(&["test"]), &mut memory).unwrap();
    assert_eq!((outcome.source.as_str(), outcome.fetched), ("hub", vec![case.root.path().join(PLACED)]));
    case.assert_holds(&body);
    assert_eq!(memory.starts, [("plain_text/test/0000.parquet".to_owned(), Some(SIZE as u64), 0)]);
    assert_eq!((memory.bytes, memory.finished), (SIZE as u64, 1));
    assert_eq!(case.transfers(), [("bytes=0-".to_owned(), SIZE)]);
}

#[test]
fn large_files_come_from_where_the_hub_points() {
    let body = noise(SIZE);
    let case = Case::new(Route::redirect(""));
    let etag = format!("\"{}\"", hex::<Sha256>(&body));
    let route = Route::redirect(case.server.url("/cdn")).header("X-Linked-Etag", etag);
    case.server.put(TEST, route.header("X-Repo-Commit", "0123456789abcdef"));
    case.server.put("/cdn", Route::new(body.clone()));
    case.fetch().unwrap();
    case.assert_holds(&body);
}

#[test]
fn the_cache_of_the_hub_is_used_and_checked() {
    let body = noise(SIZE);
    let case = Case::new(hub_route(body.clone()));
    case.fetch().unwrap();
    for (broken, force, transfers) in [(false, false, 0), (false, true, 1), (true, false, 1)] {
        case.server.clear_log();
        fs::remove_file(case.root.path().join(PLACED)).unwrap();
        if broken {
            fs::remove_file(case.blob(&body)).unwrap();
            fs::write(case.blob(&body), noise(SIZE - 1)).unwrap();
        }
        case.fetcher().with_force(force).fetch("data", Some(&["test"]), &mut ()).unwrap();
        case.assert_holds(&body);
        assert_eq!(case.transfers().len(), transfers, "broken: {broken}, force: {force}");
    }
}

#[test]
fn a_cut_connection_to_the_hub_is_resumed() {
    let body = noise(SIZE);
    let case = Case::new(Route { cuts: [100_000].into(), ..hub_route(body.clone()) });
    case.fetch().unwrap();
    case.assert_holds(&body);
    assert_eq!(
        case.transfers(),
        [("bytes=0-".to_owned(), 100_000), ("bytes=100000-".to_owned(), SIZE - 100_000)]
    );
}

#[test]
fn a_partial_file_in_the_cache_is_no_dead_end() {
    let body = noise(SIZE);
    for partial in [SIZE, SIZE + 1] {
        let case = Case::new(hub_route(body.clone()));
        fs::create_dir_all(case.blob(&body).parent().unwrap()).unwrap();
        fs::write(case.blob(&body).with_extension("part"), noise(partial)).unwrap();
        case.fetch().unwrap();
        case.assert_holds(&body);
    }
}

#[test]
fn a_busy_hub_is_asked_again() {
    let case = Case::new(Route { statuses: [503, 429].into(), ..hub_route(noise(SIZE)) });
    case.fetch().unwrap();
    case.assert_holds(&noise(SIZE));
}

#[test]
fn a_file_that_is_not_what_the_hub_promised_is_not_kept() {
    let promised = "0".repeat(64);
    let route = Route { etag: Some(format!("\"{promised}\"")), ..hub_route(noise(SIZE)) };
    let case = Case::new(route);
    match case.fetch() {
        Err(FetchError::Checksum { expected, actual, .. }) => {
            assert_eq!((expected, actual), (promised, hex::<Sha256>(&noise(SIZE))));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(tree(&case.cache.path().join("datasets--org--data/snapshots")), [""; 0]);
    assert_eq!(tree(case.root.path()), [""; 0]);
}

#[test]
fn errors_of_the_hub_name_repository_file_and_revision() {
    let cases = [
        (Route { statuses: [404].into(), ..hub_route(vec![]) }, "HTTP status 404 (not found)"),
        (Route { statuses: [401].into(), ..hub_route(vec![]) }, "HTTP status 401 (not authorised)"),
        (
            Route { statuses: [503; 9].into(), ..hub_route(vec![]) },
            "HTTP status 503 (service unavailable) (gave up after 5 attempts)",
        ),
        (Route { etag: None, ..hub_route(noise(9)) }, "Header etag is missing"),
    ];
    for (route, reason) in cases {
        let case = Case::new(route);
        assert_eq!(
            case.fetch().unwrap_err().to_string(),
            format!(
                "plain_text/test/0000.parquet of org/data (revision refs/convert/parquet) from {}: {reason}",
                case.server.url("")
            )
        );
        assert_eq!(tree(case.root.path()), [""; 0]);
    }
}

#[test]
fn a_hub_that_falls_silent_or_is_away_does_not_hold_up() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Some(format!("http://{unused}"));
    for (endpoint, reason) in [(None, "the server fell silent"), (away, "no connection (")] {
        let case = Case::new(Route { stalls: [1000].into(), ..hub_route(noise(SIZE)) });
        let endpoint = endpoint.or_else(|| Some(case.server.url("")));
        let cache_dir = Some(case.cache.path().to_path_buf());
        let http = HttpOptions { stall_timeout: Duration::from_millis(300), ..impatient() };
        let fetcher = case.fetcher().with_http(http).with_hub(HubOptions { endpoint, cache_dir });
        let start = Instant::now();
        let error = fetcher.fetch("data", Some(&["test"]), &mut ()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn the_next_source_steps_in_for_the_hub() {
    let case = Case::new(Route { statuses: [404].into(), ..hub_route(vec![]) });
    case.server.put("/data.tar.gz", Route::new(data_tar_gz()));
    let mut memory = Memory::default();
    let outcome = case.fetcher().with_source(None).fetch("data", None, &mut memory).unwrap();
    assert_eq!(outcome.source, "toronto");
    assert_eq!(tree(case.root.path()), ["datasets/data/bin/test.bin", "datasets/data/bin/train.bin"]);
    let note = memory.notes.iter().find(|note| note.contains("trying the source")).unwrap();
    assert!(note.contains(" 404") && note.ends_with("; trying the source 'toronto'"), "{note}");
}

#[test]
fn when_no_source_delivers_each_reason_is_told() {
    let case = Case::new(Route { statuses: [404].into(), ..hub_route(vec![]) });
    let error = case.fetcher().with_source(None).fetch("data", None, &mut ()).unwrap_err().to_string();
    let mut lines = error.lines();
    assert_eq!(lines.next().unwrap(), "no source of 'data' delivered:");
    assert!(lines.next().unwrap().starts_with("  hub: plain_text/test/0000.parquet of org/data"));
    assert!(lines.next().unwrap().starts_with("  toronto: http://127.0.0.1:"));
}
