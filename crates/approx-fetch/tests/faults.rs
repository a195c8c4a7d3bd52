//! What a server does wrong, held against what is known about the file: no wrong byte gets the file's name, and the
//! same call succeeds once the server is right.

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use approx_fetch::{Client, HttpOptions, Result};
use sha2::Sha256;
use tempfile::TempDir;

use support::{
    Framing, Memory, Route, Server, checkpoint, gz, hex, impatient, noise, parquet, safetensors, tar_gz,
    tree, zip,
};

/// What is known about the file that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The name says nothing.
    Nothing,
    /// By its name.
    Kind,
    Checksum,
}

const ALL: [Known; 3] = [Known::Nothing, Known::Kind, Known::Checksum];

struct Case {
    server: Server,
    directory: TempDir,
    known: Known,
    checksum: Option<String>,
}

impl Case {
    fn new(known: Known, right: &[u8]) -> Self {
        let checksum = (known == Known::Checksum).then(|| format!("sha256:{}", hex::<Sha256>(right)));
        Self { server: Server::start(), directory: tempfile::tempdir().unwrap(), known, checksum }
    }

    fn name(&self) -> &'static str {
        if self.known == Known::Kind { "net.safetensors" } else { "net" }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(self.name())
    }

    /// Asks for what the server has now.
    fn download(&self, route: Route) -> (Result<()>, Memory) {
        self.server.put("/file", route);
        let mut memory = Memory::default();
        let checksum = self.checksum.as_ref().map(|text| text.parse().unwrap());
        let client = Client::new(options());
        let url = self.server.url("/file");
        (client.download(&url, &self.path(), checksum.as_ref(), &mut memory), memory)
    }
}

fn options() -> HttpOptions {
    HttpOptions {
        attempts: 3,
        min_speed: 10_000,
        speed_window: Duration::from_millis(50),
        first_delay: Duration::from_millis(1),
        ..impatient()
    }
}

const SIZE: usize = 40_000;

fn right() -> Vec<u8> {
    safetensors(&noise(SIZE))
}

/// Another file of the same kind and length.
fn other() -> Vec<u8> {
    safetensors(&noise(SIZE + 1)[1..])
}

/// The errors with nothing known, with the kind and with the checksum; `None` where the right file is there.
type Expected = [Option<&'static str>; 3];

/// Asks a server once that is as `fault`, and then one that is right.
fn assert_safe(name: &str, fault: impl Fn() -> Route, expected: Expected) {
    for (known, expected) in ALL.into_iter().zip(expected) {
        let case = Case::new(known, &right());
        let (result, memory) = case.download(fault());
        match (result, expected) {
            (Ok(()), None) => assert!(fs::read(case.path()).unwrap() == right(), "{name}, {known:?}"),
            (Err(error), Some(part)) => {
                assert!(error.to_string().contains(part), "{name}, {known:?}: {error}");
                assert!(!case.path().exists(), "{name}, {known:?}");
            }
            (result, _) => panic!("{name}, {known:?}: {result:?} {:?}", memory.notes),
        }
        case.download(Route::new(right())).0.unwrap();
        assert_eq!(tree(case.directory.path()), [case.name()], "{name}, {known:?}");
        assert!(fs::read(case.path()).unwrap() == right(), "{name}, {known:?}");
    }
}

const DIGEST: Option<&str> = Some("net has the wrong SHA-256: expected ");
const UNTOLD: Option<&str> = Some(
    "/file did not say how long the file is, and neither a checksum nor its name tells whether it is complete",
);

#[test]
fn an_answer_that_is_cut_short_is_no_file() {
    let cut = |framing| move || Route { cuts: [20_000, 0, 0, 0].into(), framing, ..Route::new(right()) };
    let broken = Some("gave up after 3 attempts); the first 20000 bytes are kept");
    assert_safe("with a length", cut(Framing::Length), [broken; 3]);
    assert_safe("in chunks", cut(Framing::Chunked), [broken; 3]);
    let damaged = Some(
        "net.safetensors is not a complete safetensors file: the tensors have 40000 bytes, and there are 19900; the \
         server did not say how long it is, so it was cut short on the way or is another file",
    );
    assert_safe("without a length", cut(Framing::Close), [UNTOLD, damaged, DIGEST]);
    let cut_at_the_source = || Route::new(&right()[..20_000]);
    let damaged = Some("there are 19900; it was cut short before the server had it, or is another file");
    for (known, expected) in [(Known::Kind, damaged), (Known::Checksum, DIGEST)] {
        let case = Case::new(known, &right());
        let error = case.download(cut_at_the_source()).0.unwrap_err().to_string();
        assert!(error.contains(expected.unwrap()), "{error}");
        assert_eq!(tree(case.directory.path()), [""; 0]);
    }
}

#[test]
fn a_whole_answer_is_a_file_if_its_end_can_be_told() {
    let whole = |framing| move || Route { framing, ..Route::new(right()) };
    assert_safe("with a length", whole(Framing::Length), [None; 3]);
    assert_safe("in chunks", whole(Framing::Chunked), [None; 3]);
    assert_safe("without a length", whole(Framing::Close), [UNTOLD, None, None]);
}

#[test]
fn another_body_is_not_taken_for_the_file() {
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        for (known, expected) in
            [(Known::Kind, "is not a complete safetensors file: "), (Known::Checksum, DIGEST.unwrap())]
        {
            let case = Case::new(known, &right());
            for body in [noise(SIZE), b"{\"error\": \"quota\"}".to_vec(), Vec::new()] {
                let error = case.download(Route { framing, ..Route::new(body) }).0.unwrap_err().to_string();
                assert!(error.contains(expected), "{error}");
                assert_eq!(tree(case.directory.path()), [""; 0]);
            }
            case.download(Route::new(right())).0.unwrap();
            assert_eq!(tree(case.directory.path()), [case.name()]);
        }
    }
}

#[test]
fn a_web_page_and_a_circle_of_redirects_are_no_file() {
    let page = "<html><head><title>Quota</title></head></html>";
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        let page = || Route { framing, ..Route::new(page) };
        let told = Some("answered with a web page (\"Quota\") instead of the file");
        assert_safe("a page", page, [told; 3]);
    }
    assert_safe("redirects", || Route::redirect("/file"), [Some("too many redirects"); 3]);
}

#[test]
fn a_part_goes_on_with_a_file_only_if_it_says_that_it_belongs_to_it() {
    // The first answer is cut, and what the server then sends for the rest is wrong. Asked for the whole file it is right.
    let lie = |alter: fn(&mut Route)| {
        move || {
            let mut route = Route { cuts: [20_000].into(), ..Route::new(right()) };
            alter(&mut route);
            route
        }
    };
    assert_safe("wrong range", lie(|route| route.part_shift = 7), [None; 3]);
    assert_safe("wrong ETag", lie(|route| route.part_etag = Some(Some("\"2\"".into()))), [None; 3]);
    assert_safe("weak ETag", lie(|route| route.part_etag = Some(Some("W/\"1\"".into()))), [None; 3]);
    assert_safe("no ETag", lie(|route| route.part_etag = Some(None)), [None; 3]);
    assert_safe("never an ETag", lie(|route| route.etag = None), [None; 3]);
    assert_safe("ends before the part", lie(|route| route.part_shift = 1 << 20), [None; 3]);
}

#[test]
fn a_file_that_changes_between_two_calls_is_not_mixed_of_both() {
    for known in ALL {
        for (old_etag, new_etag) in [(true, true), (true, false), (false, true), (false, false)] {
            for ignores_if_range in [false, true] {
                let route = |body: Vec<u8>, with_etag: bool| {
                    let route = Route { ignores_if_range, ..Route::new(body) };
                    if with_etag { route } else { Route { etag: None, ..route } }
                };
                let case = Case::new(known, &right());
                let cut = Route { cuts: [20_000, 0, 0].into(), ..route(other(), old_etag) };
                case.download(cut).0.unwrap_err();
                // With a checksum and no ETag to go by, the checksum finds the mixture.
                match case.download(route(right(), new_etag)).0 {
                    Ok(()) => {}
                    Err(error) => {
                        assert!(known == Known::Checksum && !(old_etag && new_etag), "{error}");
                        assert!(error.to_string().contains(DIGEST.unwrap()), "{error}");
                        assert_eq!(tree(case.directory.path()), [""; 0]);
                        case.download(route(right(), new_etag)).0.unwrap();
                    }
                }
                assert!(fs::read(case.path()).unwrap() == right(), "{known:?} {old_etag} {new_etag}");
                assert_eq!(tree(case.directory.path()), [case.name()]);
            }
        }
    }
}

#[test]
fn a_server_that_drips_is_given_up_and_what_it_sent_is_gone_on_with() {
    let drip = || Route { drip: Some(Duration::from_millis(5)), ..Route::new(right()) };
    for known in ALL {
        let case = Case::new(known, &right());
        let start = std::time::Instant::now();
        let (result, memory) = case.download(drip());
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("the server is too slow: ") && error.contains("it should be 10000 a second"),
            "{error}"
        );
        assert!(error.contains("gave up after 3 attempts"), "{error}");
        // At that speed the file would have taken minutes.
        assert!(start.elapsed() < Duration::from_secs(20));
        assert!(memory.notes.iter().any(|note| note.contains("too slow")), "{:?}", memory.notes);
        case.download(Route::new(right())).0.unwrap();
        assert!(fs::read(case.path()).unwrap() == right());
        assert_eq!(tree(case.directory.path()), [case.name()]);
    }
}

/// Downloads `body` under a name.
fn named(name: &str, body: &[u8]) -> (Result<()>, Vec<String>) {
    let (server, directory) = (Server::with([("/file", Route::new(body))]), tempfile::tempdir().unwrap());
    let client = Client::new(options());
    let result = client.download(&server.url("/file"), &directory.path().join(name), None, &mut ());
    (result, tree(directory.path()))
}

#[test]
fn every_kind_of_file_is_known_when_it_is_whole_and_refused_when_it_is_not() {
    let members: &[(&str, &[u8])] = &[("a/one.bin", &noise(3000)), ("two.bin", &[b'x'; 5000])];
    let whole = [
        ("a.zip", zip(members)),
        ("a.tar.gz", tar_gz(members)),
        ("A.TGZ", tar_gz(members)),
        ("images-idx3-ubyte.gz", gz(&noise(5000))),
        ("a.parquet", parquet(&noise(5000))),
        ("a.safetensors", safetensors(&noise(5000))),
        ("zip.pt", checkpoint("net_zip.pt")),
        ("deflated.pt", checkpoint("net_deflated_zip.pt")),
        ("without_crc.pt", checkpoint("net_without_crc_zip.pt")),
        ("legacy.pth", checkpoint("net_legacy.pt")),
    ];
    for (name, body) in &whole {
        let (result, files) = named(name, body);
        result.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(files, [*name]);
        let refused = |what: &str, body: &[u8]| {
            let (result, files) = named(name, body);
            let error = result.expect_err(&format!("{name}: {what}")).to_string();
            assert!(error.contains(&format!("{name} is not a complete ")), "{error}");
            assert_eq!(files, [""; 0], "{name}: {what}");
        };
        for length in [0, 1, 11, 12, body.len() / 2, body.len() - 20, body.len() - 1] {
            refused(&format!("the first {length} bytes"), &body[..length]);
        }
        refused("nothing before it", &body[1..]);
        refused("another file", &noise(body.len()));
        // A checkpoint's values have no checksum of their own in the old layout, nor have those of the other two.
        let has_crc = !["a.parquet", "a.safetensors", "legacy.pth", "without_crc.pt"].contains(name);
        if has_crc {
            let mut flipped = body.clone();
            flipped[body.len() / 2] ^= 1;
            refused("a bit", &flipped);
        }
    }
}

#[test]
fn lengths_that_are_not_possible_are_named() {
    let header = |json: &str, values: usize| {
        [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &vec![0; values]].concat()
    };
    let huge = |magic: &[u8], length: &[u8]| [magic, &[0; 20], length, magic].concat();
    for (name, body, reason) in [
        ("a.parquet", huge(b"PAR1", &[0; 4]), "a footer of 0 bytes is not possible in 32"),
        ("a.parquet", huge(b"PAR1", &[255; 4]), "a footer of 4294967295 bytes is not possible in 32"),
        ("a.parquet", huge(b"PARE", &[4, 0, 0, 0]), "it does not begin with PAR1"),
        ("a.safetensors", [255; 40].to_vec(), "a header of 18446744073709551615 bytes is not possible in 40"),
        (
            "a.safetensors",
            header(r#"{"a":{"data_offsets":[0,4]}}"#, 5),
            "the tensors have 4 bytes, and there are 5",
        ),
        (
            "a.safetensors",
            header(r#"{"b":{"data_offsets":[5,6]},"a":{"data_offsets":[0,4]}}"#, 6),
            "b is at 5 to 6, after 4 bytes of others",
        ),
        (
            "a.safetensors",
            header(r#"{"a":{"data_offsets":[4,0]}}"#, 4),
            "a is at 4 to 0, after 0 bytes of others",
        ),
        ("a.safetensors", header(r#"{"a":{"shape":[4]}}"#, 4), "the tensor a has no place"),
        ("a.safetensors", header("{", 4), "its header: "),
        ("a.pt", zip(&[("x", b"1")]), "a zip archive without data.pkl, so not a PyTorch checkpoint"),
    ] {
        let error = named(name, &body).0.unwrap_err().to_string();
        assert!(error.contains(&format!("{name} is not a complete ")) && error.contains(reason), "{error}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_is_read_to_its_end() {
    // 70 MB, more than the 64 MiB that a small file may unpack to.
    let zeros = vec![0; 70_000_000];
    for (name, body) in [
        ("a.gz", gz(&zeros)),
        ("a.tar.gz", gz(&zeros)),
        ("a.zip", zip(&[("one", &zeros[..35_000_000]), ("two", &zeros[..35_000_000])])),
    ] {
        assert!(body.len() < 200_000, "{name} has {} bytes", body.len());
        let (result, files) = named(name, &body);
        let error = result.unwrap_err().to_string();
        assert!(error.ends_with(&format!("{name} unpacks to more than 67108864 bytes")), "{error}");
        assert_eq!(files, [""; 0]);
    }
}
