//! The hub, played by the server on this machine.

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use approx_fetch::{FetchError, Fetcher, HttpOptions, HubOptions, Outcome, Token};
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
        Fetcher::new(self.root.path())
            .with_manifest(manifest(&self.server))
            .with_http(impatient())
            .with_hub(self.hub(None))
            .with_source(Some("hub"))
    }

    fn hub(&self, token: Option<&str>) -> HubOptions {
        HubOptions {
            // The slash at the end must not matter.
            endpoint: Some(self.server.url("/")),
            cache_dir: Some(self.cache.path().join("hub")),
            token: token.map(|secret| Token::new(secret, "the test")),
        }
    }

    fn fetch(&self) -> approx_fetch::Result<Outcome> {
        self.fetcher().fetch("data", Some(&["test"]), &mut ())
    }

    fn blob(&self, body: &[u8]) -> PathBuf {
        self.cache.path().join("hub/datasets--org--data/blobs").join(hex::<Sha256>(body))
    }

    fn assert_holds(&self, body: &[u8]) {
        assert_eq!(tree(self.root.path()), [PLACED]);
        assert!(fs::read(self.root.path().join(PLACED)).unwrap() == body);
    }

    /// The requests but for the first of each download, which asks what there is.
    fn transfers(&self) -> Vec<(Option<String>, usize)> {
        let log = self.server.log().into_iter().filter(|request| request.method != "HEAD");
        log.map(|request| (request.range, request.sent)).collect()
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
    assert_eq!(case.transfers(), [(None, SIZE)]);
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
    assert_eq!(case.transfers(), [(None, 100_000), (Some("bytes=100000-".to_owned()), SIZE - 100_000)]);
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
    assert_eq!(tree(case.cache.path()), [""; 0]);
    assert_eq!(tree(case.root.path()), [""; 0]);
}

#[test]
fn errors_of_the_hub_name_repository_file_and_revision() {
    let cases = [
        (Route { statuses: [404].into(), ..hub_route(vec![]) }, "HTTP status 404 (not found)"),
        (Route { statuses: [401].into(), ..hub_route(vec![]) }, "HTTP status 401 (not authorised)"),
        (Route { statuses: [503; 9].into(), ..hub_route(vec![]) }, "HTTP status 503 (service unavailable)"),
        (Route { etag: None, ..hub_route(noise(9)) }, "the answer has no valid header ETag"),
        (
            Route { etag: Some("../../a".into()), ..hub_route(noise(9)) },
            "the answer has no valid header ETag",
        ),
        (Route::new(noise(9)), "the answer has no valid header X-Repo-Commit"),
        (Route::new(noise(9)).header("X-Repo-Commit", ".."), "the answer has no valid header X-Repo-Commit"),
        (Route::redirect(TEST), "more than 10 redirects"),
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
fn a_hub_that_falls_silent_is_asked_for_the_rest_and_one_that_is_away_does_not_hold_up() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Some(format!("http://{unused}"));
    for endpoint in [None, away] {
        let case = Case::new(Route { stalls: [1000].into(), ..hub_route(noise(SIZE)) });
        let http = HttpOptions { stall_timeout: Duration::from_millis(300), ..impatient() };
        let is_away = endpoint.is_some();
        let mut hub = case.hub(None);
        hub.endpoint = endpoint.or(hub.endpoint);
        let fetcher = case.fetcher().with_http(http).with_hub(hub);
        let start = Instant::now();
        match fetcher.fetch("data", Some(&["test"]), &mut ()) {
            Ok(_) => case.assert_holds(&noise(SIZE)),
            Err(error) => assert!(is_away && error.to_string().contains("no connection ("), "{error}"),
        }
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

const NET_A: &str = "/org/net_a.v1/resolve/main/model.bin";

#[test]
fn each_entry_can_be_in_a_repository_of_its_own() {
    for only in [None, Some(&["a"][..])] {
        let case = Case::new(Route::redirect(""));
        case.server.put(NET_A, hub_route(b"from the hub".to_vec()));
        let outcome = case.fetcher().fetch("nets", only, &mut ()).unwrap();
        assert_eq!(
            (outcome.source.as_str(), tree(case.root.path())),
            ("hub", vec!["weights/nets/a_hub.bin".into()])
        );
    }
}

#[test]
fn sources_with_different_files_stand_in_for_each_other_only_where_they_have_everything() {
    let case = Case::new(Route::redirect(""));
    case.server.put(NET_A, hub_route(b"from the hub".to_vec()));
    let fetcher = case.fetcher().with_source(None);
    let mut memory = Memory::default();
    let outcome = fetcher.fetch("nets", Some(&["a"]), &mut memory).unwrap();
    assert_eq!(
        (outcome.source.as_str(), tree(case.root.path())),
        ("hub", vec!["weights/nets/a_hub.bin".into()])
    );
    assert!(
        memory.notes.iter().any(|note| note.ends_with("; trying the source 'hub'")),
        "{:?}",
        memory.notes
    );
    // The file of either source will do, but not for everything.
    assert!(fetcher.missing("nets", Some(&["a"])).unwrap().is_empty());
    assert_eq!(fetcher.missing("nets", None).unwrap().len(), 2);
    let error = fetcher.fetch("nets", None, &mut ()).unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 404, .. }), "{error}");
}

const SHARDS: [&str; 2] =
    ["/datasets/org/gated/resolve/main/data/0.parquet", "/datasets/org/gated/resolve/main/data/1.parquet"];
const SECRET: &str = "hf_very_secret";

/// A hub that sends the client for two shards to a server of its own.
fn gated() -> (Case, Server) {
    let (case, elsewhere) = (Case::new(Route::redirect("")), Server::start());
    for (index, path) in SHARDS.iter().enumerate() {
        let body = noise(SIZE + index);
        let moved = format!("/moved/{index}?x=1");
        case.server.put(path, Route::redirect(&moved));
        let away = Route::redirect(elsewhere.url(&format!("/{index}?signature=2")));
        let away = away.header("X-Linked-Etag", format!("\"{}\"", hex::<Sha256>(&body)));
        case.server.put(&moved, away.header("X-Repo-Commit", "0123456789abcdef"));
        elsewhere.put(&format!("/{index}?signature=2"), Route::new(body));
    }
    (case, elsewhere)
}

fn fetch_gated(case: &Case, token: Option<&str>, memory: &mut Memory) -> approx_fetch::Result<Outcome> {
    case.fetcher().with_hub(case.hub(token)).fetch("gated", Some(&["validation"]), memory)
}

#[test]
fn the_token_is_shown_to_the_hub_only_and_told_to_nobody() {
    let (case, elsewhere) = gated();
    let mut memory = Memory::default();
    fetch_gated(&case, Some(SECRET), &mut memory).unwrap();
    assert_eq!(tree(case.root.path()), ["datasets/gated/data/0.parquet", "datasets/gated/data/1.parquet"]);
    let bearer = Some(format!("Bearer {SECRET}"));
    assert!(case.server.log().iter().all(|request| request.authorization == bearer));
    // Asked, sent to another page of the hub, asked there, downloaded: twice.
    assert_eq!(case.server.log().len(), 6);
    assert!(elsewhere.log().iter().all(|request| request.authorization.is_none() && request.method == "GET"));
    assert_eq!(elsewhere.log().len(), 2);
    assert!(memory.notes.iter().all(|note| !note.contains(SECRET)), "{:?}", memory.notes);
    for file in tree(case.cache.path()) {
        assert!(!fs::read(case.cache.path().join(&file)).unwrap().ends_with(SECRET.as_bytes()), "{file}");
    }
}

#[test]
fn shards_that_are_there_are_kept_and_a_partial_one_is_resumed() {
    let (case, elsewhere) = gated();
    elsewhere.put("/1?signature=2", Route { cuts: [100_000].into(), ..Route::new(noise(SIZE + 1)) });
    let http = HttpOptions { attempts: 1, ..impatient() };
    let fetcher = case.fetcher().with_hub(case.hub(Some(SECRET)));
    let error = fetcher.clone().with_http(http).fetch("gated", None, &mut ()).unwrap_err();
    let text = "; the first 100000 bytes are kept, and the next call continues there";
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(tree(case.root.path()), ["datasets/gated/data/0.parquet"]);

    // The hub signs another address each time.
    elsewhere.put("/1?signature=3", Route::new(noise(SIZE + 1)));
    let away = Route::redirect(elsewhere.url("/1?signature=3")).header("X-Repo-Commit", "0123456789abcdef");
    let etag = format!("\"{}\"", hex::<Sha256>(&noise(SIZE + 1)));
    case.server.put("/moved/1?x=1", away.header("X-Linked-Etag", etag));
    elsewhere.clear_log();
    let mut memory = Memory::default();
    let outcome = fetcher.fetch("gated", None, &mut memory).unwrap();
    assert_eq!((outcome.kept.len(), outcome.fetched.len()), (1, 1));
    let log = elsewhere.log();
    assert_eq!(
        (log.len(), log[0].range.as_deref(), log[0].sent),
        (1, Some("bytes=100000-"), SIZE + 1 - 100_000)
    );
    assert_eq!(memory.starts, [("data/1.parquet".to_owned(), Some(SIZE as u64 + 1), 100_000)]);
    assert!(fs::read(case.root.path().join("datasets/gated/data/1.parquet")).unwrap() == noise(SIZE + 1));
}

#[test]
fn a_refusal_says_whether_the_token_or_the_account_is_at_fault() {
    let denied =
        "the account of the access token in the test has no access (HTTP status 403); accept the terms";
    for (status, code, artifact, expected) in [
        (
            401,
            "",
            "gated",
            "the access token in the test is not valid (HTTP status 401); create another one at",
        ),
        (401, "GatedRepo", "gated", "the access token in the test is not valid (HTTP status 401)"),
        (401, "", "data", "the access token in the test is not valid (HTTP status 401)"),
        (403, "GatedRepo", "gated", denied),
        (403, "", "gated", denied),
        (403, "GatedRepo", "data", denied),
        (403, "", "data", "from the hub: HTTP status 403 (forbidden)"),
    ] {
        let (case, _elsewhere) = gated();
        let route = || Route { statuses: [status].into(), ..hub_route(vec![]) }.header("X-Error-Code", code);
        case.server.put(SHARDS[0], route());
        case.server.put(TEST, route());
        let only = if artifact == "data" { "test" } else { "validation" };
        let fetcher = case.fetcher().with_hub(case.hub(Some(SECRET)));
        let error = fetcher.fetch(artifact, Some(&[only]), &mut ()).unwrap_err();
        let told = error.to_string().replace(&case.server.url(":"), "the hub:");
        assert!(told.replace(&case.server.url(""), "the hub").contains(expected), "{error}");
        assert!(!format!("{error} {error:?}").contains(SECRET));
        let page = format!("{}/datasets/org/{artifact}", case.server.url(""));
        match error {
            FetchError::TokenRefused { page: named, tokens, .. } => {
                assert_eq!((status, named, tokens), (401, page, case.server.url("/settings/tokens")));
            }
            FetchError::AccessDenied { page: named, .. } => assert_eq!((status, named), (403, page)),
            other => assert_eq!((status, code), (403, ""), "{other}"),
        }
        assert_eq!((case.server.log().len(), tree(case.root.path())), (1, vec![]));
    }
}

#[test]
fn without_a_token_a_gated_repository_is_not_even_asked() {
    if std::env::var_os("HF_TOKEN").is_some() {
        eprintln!("SKIPPED: HF_TOKEN is set");
        return;
    }
    let (case, elsewhere) = gated();
    let error = fetch_gated(&case, None, &mut Memory::default()).unwrap_err();
    let told = error.to_string();
    let file = case.cache.path().join("token");
    assert!(
        told.contains("/datasets/org/gated is open only to accounts that have accepted its terms"),
        "{told}"
    );
    assert!(told.ends_with(&format!("(now it is not set, and {} holds none)", file.display())), "{told}");
    assert!(case.server.log().is_empty() && elsewhere.log().is_empty());
    assert_eq!(tree(case.root.path()), [""; 0]);

    // The file that the hub's own tools write.
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    fetch_gated(&case, None, &mut Memory::default()).unwrap();
    assert_eq!(case.server.log()[0].authorization, Some(format!("Bearer {SECRET}")));

    // What is in the cache of the hub's tools needs no token any more.
    let case = Case { root: tempfile::tempdir().unwrap(), ..case };
    fs::remove_file(&file).unwrap();
    case.server.clear_log();
    fetch_gated(&case, None, &mut Memory::default()).unwrap();
    assert_eq!((case.server.log().len(), tree(case.root.path()).len()), (0, 2));
}

#[test]
fn a_token_that_no_header_can_hold_is_an_error_that_does_not_show_it() {
    let (case, _elsewhere) = gated();
    let error = fetch_gated(&case, Some("hf_very\nsecret"), &mut Memory::default()).unwrap_err();
    assert!(error.to_string().ends_with("the token in the test has characters that none has"), "{error}");
    assert!(case.server.log().is_empty());
}
