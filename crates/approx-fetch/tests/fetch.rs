//! Artifacts: archives, mirrors, what is kept and what is overwritten.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use approx_fetch::{FetchError, Fetcher, Mirror};
use tempfile::TempDir;

use support::{
    Framing, Memory, NET, Route, Server, checkpoint, data_tar_gz, impatient, manifest, pair_zip, parquet,
    tar_gz, tree, zip,
};

/// A server with everything, and a root to fetch into.
struct Case {
    server: Server,
    root: TempDir,
}

impl Case {
    fn new() -> Self {
        let server = Server::with([
            ("/download?id=1", Route::new(pair_zip())),
            ("/net.pth", Route::new(NET)),
            ("/data.tar.gz", Route::new(data_tar_gz())),
        ]);
        Self { server, root: tempfile::tempdir().unwrap() }
    }

    fn fetcher(&self) -> Fetcher {
        Fetcher::new(self.root.path()).with_manifest(manifest(&self.server)).with_http(impatient())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), contents).unwrap();
    }

    fn tree(&self) -> Vec<String> {
        tree(self.root.path())
    }
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

fn directory(files: Files<'_>) -> (TempDir, Option<Mirror>) {
    let directory = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    let mirror = Mirror::Directory(directory.path().to_path_buf());
    (directory, Some(mirror))
}

const ONE: &str = "weights/pair/one.pt";
const TWO: &str = "weights/pair/two.pt";

#[test]
fn a_zip_is_downloaded_unpacked_and_removed() {
    let case = Case::new();
    let fetcher = case.fetcher();
    assert_eq!(fetcher.missing("pair", None).unwrap(), [case.path(ONE), case.path(TWO)]);
    let mut memory = Memory::default();
    let outcome = fetcher.fetch("pair", None, &mut memory).unwrap();
    assert_eq!(outcome.source, "web");
    assert_eq!((outcome.fetched, outcome.kept), (vec![case.path(ONE), case.path(TWO)], vec![]));
    assert_eq!(
        (case.tree(), case.read(ONE), case.read(TWO)),
        (vec![ONE.into(), TWO.into()], "first".into(), "second".into())
    );
    assert_eq!(memory.notes[0], format!("pair.zip from {}", case.server.url("/download?id=1")));
    assert_eq!(memory.finished, 3);
    assert!(fetcher.missing("pair", None).unwrap().is_empty());
}

#[test]
fn a_tar_gz_is_downloaded_and_unpacked() {
    let case = Case::new();
    case.fetcher().with_source(Some("toronto")).fetch("data", None, &mut ()).unwrap();
    assert_eq!(case.tree(), ["datasets/data/bin/test.bin", "datasets/data/bin/train.bin"]);
    assert_eq!(case.read("datasets/data/bin/train.bin"), "training images");
}

#[test]
fn a_single_file_is_downloaded() {
    let case = Case::new();
    case.fetcher().fetch("single", Some(&["net"]), &mut ()).unwrap();
    assert_eq!(case.tree(), ["weights/single/net.pth"]);
}

#[cfg(unix)]
#[test]
fn unpacked_files_are_as_readable_as_others() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    case.fetcher().fetch("pair", None, &mut ()).unwrap();
    case.write("ordinary", "");
    let mode = |name| fs::metadata(case.path(name)).unwrap().permissions().mode();
    assert_eq!(mode(ONE), mode("ordinary"));
}

#[test]
fn files_that_are_there_are_kept_unless_forced() {
    for force in [false, true] {
        let case = Case::new();
        case.write(ONE, "mine");
        let fetcher = case.fetcher().with_force(force);
        let outcome = fetcher.fetch("pair", None, &mut ()).unwrap();
        let (fetched, kept, one) = match force {
            false => (vec![case.path(TWO)], vec![case.path(ONE)], "mine"),
            true => (vec![case.path(ONE), case.path(TWO)], vec![], "first"),
        };
        assert_eq!((outcome.fetched, outcome.kept), (fetched, kept));
        assert_eq!((case.read(ONE).as_str(), case.read(TWO).as_str()), (one, "second"));
    }
}

#[test]
fn nothing_is_asked_for_when_everything_is_there() {
    let case = Case::new();
    case.write("datasets/data/bin/test.bin", "");
    case.write("datasets/data/bin/train.bin", "");
    let outcome = case.fetcher().fetch("data", None, &mut ()).unwrap();
    assert_eq!((outcome.source.as_str(), outcome.kept.len()), ("toronto", 2));
    assert!(outcome.fetched.is_empty() && case.server.log().is_empty());
}

#[test]
fn an_archive_fills_in_what_was_not_asked_for() {
    for (present, fetched) in [(false, vec![ONE, TWO]), (true, vec![ONE])] {
        let case = Case::new();
        if present {
            case.write(TWO, "mine");
        }
        let fetcher = case.fetcher().with_force(true);
        let outcome = fetcher.fetch("pair", Some(&["one"]), &mut ()).unwrap();
        assert_eq!(outcome.fetched, fetched.iter().map(|name| case.path(name)).collect::<Vec<_>>());
        assert_eq!(case.read(TWO), if present { "mine" } else { "second" });
    }
}

#[test]
fn an_archive_can_be_kept_and_is_then_used() {
    let case = Case::new();
    case.fetcher().with_keep_archive(true).fetch("pair", None, &mut ()).unwrap();
    assert_eq!(case.tree(), [ONE, "weights/pair/pair.zip", TWO]);
    fs::remove_file(case.path(TWO)).unwrap();
    case.fetcher().fetch("pair", None, &mut ()).unwrap();
    assert_eq!(case.tree(), [ONE, "weights/pair/pair.zip", TWO]);
    assert_eq!(case.server.log().len(), 1);
}

#[test]
fn parts_go_by_key_or_path_and_unknown_ones_are_named() {
    let case = Case::new();
    let fetcher = case.fetcher();
    for only in ["one", "one.pt"] {
        assert_eq!(fetcher.missing("pair", Some(&[only])).unwrap(), [case.path(ONE)]);
    }
    for (artifact, only, source, message) in [
        ("pair", Some("three"), None, "'pair' has no 'three'; known are: one, two"),
        ("pear", None, None, "there is no artifact 'pear'; known are: pair, single, data, nets, gated"),
        ("data", None, Some("moon"), "'data' has no source 'moon'; known are: hub, toronto"),
        (
            "data",
            Some("test.bin"),
            Some("hub"),
            "'test.bin' of 'data' is not in the source 'hub'; it is in: toronto",
        ),
        ("nets", Some("b"), Some("hub"), "'b' of 'nets' is not in the source 'hub'; it is in: web"),
        ("nets", Some("c"), Some("hub"), "'nets' has no 'c'; known are: a, b"),
    ] {
        let fetcher = case.fetcher().with_source(source);
        let only = only.map(|name| vec![name]);
        let error = fetcher.fetch(artifact, only.as_deref(), &mut ()).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(fetcher.missing(artifact, only.as_deref()).unwrap_err().to_string(), message);
    }
    assert_eq!(case.tree(), [""; 0]);
}

#[test]
fn a_mirror_directory_serves_archives_members_and_paths() {
    let (pair, data) = (pair_zip(), data_tar_gz());
    let (pt, parquet) = (&checkpoint("net_zip.pt")[..], &parquet(b"1")[..]);
    let cases: [(&str, Files<'_>, &[&str]); 6] = [
        ("pair", &[("pair.zip", &pair)], &[ONE, TWO]),
        ("pair", &[("one.pt", pt), ("two.pt", pt)], &[ONE, TWO]),
        ("pair", &[("one.pt", pt), ("pair.zip", &pair)], &[ONE, TWO]),
        ("single", &[("net.pth", NET)], &["weights/single/net.pth"]),
        (
            "data",
            &[("plain_text/test/0000.parquet", parquet), ("plain_text/train/0000.parquet", parquet)],
            &["datasets/data/plain_text/test/0000.parquet", "datasets/data/plain_text/train/0000.parquet"],
        ),
        ("data", &[("data.tar.gz", &data)], &["datasets/data/bin/test.bin", "datasets/data/bin/train.bin"]),
    ];
    for (artifact, files, expected) in cases {
        let case = Case::new();
        let (directory, mirror) = directory(files);
        let before = tree(directory.path());
        case.fetcher().with_mirror(mirror).fetch(artifact, None, &mut ()).unwrap();
        assert_eq!(case.tree(), expected);
        assert_eq!(tree(directory.path()), before);
        assert!(case.server.log().is_empty());
    }
}

/// The names that the files of the artifact "nets" have at their sources.
fn names_at_the_source() -> [String; 2] {
    let prefix = &support::hex::<sha2::Sha256>(NET)[..8];
    ["a", "b"].map(|key| format!("net_{key}-{prefix}.pth"))
}

#[test]
fn a_mirror_holds_files_under_their_name_at_the_source_and_a_directory_also_as_here() {
    let [a, b] = &names_at_the_source();
    let web = ["weights/nets/a_web.pth", "weights/nets/b_web.pth"];
    let cases: [(Files<'_>, Option<&str>, &[&str]); 5] = [
        (&[(a, NET), (b, NET)], None, &web),
        (&[(a, NET), ("b_web.pth", NET)], None, &web),
        (&[(a, NET), ("a_web.pth", b"not looked at"), (b, NET)], None, &web),
        (&[("org/net_a.v1/model.bin", b"x")], Some("hub"), &["weights/nets/a_hub.bin"]),
        (&[("a_hub.bin", b"x")], Some("hub"), &["weights/nets/a_hub.bin"]),
    ];
    for (files, source, expected) in cases {
        let case = Case::new();
        let (_directory, mirror) = directory(files);
        let fetcher = case.fetcher().with_mirror(mirror).with_source(source);
        fetcher.fetch("nets", None, &mut ()).unwrap();
        assert_eq!(case.tree(), expected);
    }

    let (case, server) = (Case::new(), Server::start());
    server.put(&format!("/m/{a}"), Route::new(NET));
    server.put("/m/org/net_a.v1/model.bin", Route::new("x"));
    let fetcher = case.fetcher().with_mirror(Some(server.url("/m").parse().unwrap()));
    for source in ["web", "hub"] {
        fetcher.clone().with_source(Some(source)).fetch("nets", Some(&["a"]), &mut ()).unwrap();
    }
    assert_eq!(case.tree(), ["weights/nets/a_hub.bin", "weights/nets/a_web.pth"]);
}

#[test]
fn a_mirror_without_a_file_names_both_of_its_names() {
    let [a, b] = &names_at_the_source();
    let case = Case::new();
    let (directory, mirror) = directory(&[(a, NET)]);
    let fetcher = case.fetcher().with_mirror(mirror);
    let place = directory.path().display();
    assert_eq!(
        fetcher.fetch("nets", None, &mut ()).unwrap_err().to_string(),
        format!("{place} does not hold {b} or b_web.pth")
    );
    assert_eq!(
        fetcher.with_source(Some("hub")).fetch("nets", None, &mut ()).unwrap_err().to_string(),
        format!("{place} does not hold org/net_a.v1/model.bin or a_hub.bin")
    );
}

#[test]
fn files_one_by_one_are_resumed_and_the_ones_that_are_there_are_kept() {
    let names = names_at_the_source();
    let [a, b] = names.each_ref().map(|name| format!("/models/{name}"));
    let case = Case::new();
    case.server.put(&a, Route::new(NET));
    case.server.put(&b, Route { cuts: [700].into(), ..Route::new(NET) });
    let fetcher = case.fetcher().with_source(Some("web"));
    let impatient = approx_fetch::HttpOptions { attempts: 1, ..impatient() };
    fetcher.clone().with_http(impatient).fetch("nets", None, &mut ()).unwrap_err();
    assert_eq!(
        case.tree(),
        ["weights/nets/a_web.pth", "weights/nets/b_web.pth.part", "weights/nets/b_web.pth.part.meta"]
    );
    case.server.clear_log();
    let mut memory = Memory::default();
    let outcome = fetcher.fetch("nets", None, &mut memory).unwrap();
    assert_eq!(outcome.kept, [case.path("weights/nets/a_web.pth")]);
    assert_eq!(outcome.fetched, [case.path("weights/nets/b_web.pth")]);
    assert_eq!(memory.starts, [("b_web.pth".to_owned(), Some(1000), 700)]);
    let log = case.server.log();
    assert_eq!((log.len(), log[0].range.as_deref(), log[0].sent), (1, Some("bytes=700-"), 300));
    assert_eq!(case.tree(), ["weights/nets/a_web.pth", "weights/nets/b_web.pth"]);
}

#[test]
fn a_file_whose_digest_does_not_begin_as_its_name_says_is_refused() {
    let case = Case::new();
    case.server.put(&format!("/models/{}", names_at_the_source()[0]), Route::new("something else"));
    let error = case.fetcher().with_source(Some("web")).fetch("nets", Some(&["a"]), &mut ()).unwrap_err();
    assert!(error.to_string().contains("a_web.pth has the wrong SHA-256 prefix: expected "), "{error}");
    assert_eq!(case.tree(), [""; 0]);
}

/// The committed entries, from the server in place of their own.
#[test]
fn mnist_and_fashion_mnist_are_fetched_file_by_file_and_held_against_their_digests() {
    let committed = include_str!("../manifest.toml");
    let own = [
        "https://ossci-datasets.s3.amazonaws.com",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ];
    for (name, path) in [("mnist", "/mnist"), ("fashion-mnist", "")] {
        let (case, server) = (Case::new(), Server::start());
        let here = own.iter().fold(committed.to_owned(), |text, own| text.replace(own, &server.url("")));
        let files = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"];
        for file in files {
            server.put(&format!("{path}/{file}"), Route::new(file));
        }
        // Some other files have come.
        let fetcher = |text: &str| case.fetcher().with_manifest(approx_fetch::Manifest::parse(text).unwrap());
        let error = fetcher(&here).fetch(name, Some(&["test"]), &mut ()).unwrap_err().to_string();
        assert!(error.contains(&format!("{} has the wrong MD5: expected ", files[0])), "{error}");
        assert_eq!(case.tree(), [""; 0]);
        // With the digests of these, they are the right ones.
        let lines = here.lines().map(|line| match files.iter().find(|file| line.contains(**file)) {
            Some(file) => {
                let (start, _) = line.split_once("md5:").unwrap();
                format!("{start}md5:{}\" }},", support::hex::<md5::Md5>(file.as_bytes()))
            }
            None => line.to_owned(),
        });
        let fetcher = fetcher(&lines.collect::<Vec<_>>().join("\n"));
        fetcher.fetch(name, Some(&["test"]), &mut ()).unwrap();
        assert_eq!(case.tree(), files.map(|file| format!("datasets/{name}/{file}")));
        assert!(fetcher.missing(name, Some(&["test"])).unwrap().is_empty());
        assert_eq!(fetcher.missing(name, Some(&["train"])).unwrap().len(), 2);
    }
}

#[test]
fn one_unpacked_member_in_a_mirror_is_enough_for_itself() {
    let case = Case::new();
    let (_directory, mirror) = directory(&[("one.pt", &checkpoint("net_legacy.pt"))]);
    let fetcher = case.fetcher().with_mirror(mirror);
    fetcher.fetch("pair", Some(&["one"]), &mut ()).unwrap();
    assert_eq!(case.tree(), [ONE]);
}

#[test]
fn a_mirror_directory_without_the_file_names_what_it_lacks() {
    let case = Case::new();
    let (directory, mirror) = directory(&[("one.pt", b"1")]);
    let fetcher = case.fetcher().with_mirror(mirror);
    let place = directory.path().display();
    assert_eq!(
        fetcher.fetch("pair", None, &mut ()).unwrap_err().to_string(),
        format!("{place} does not hold pair.zip or two.pt")
    );
    assert_eq!(
        fetcher.fetch("data", None, &mut ()).unwrap_err().to_string(),
        format!(
            "no source of 'data' delivered:\n  hub: {place} does not hold plain_text/test/0000.parquet\n  \
             toronto: {place} does not hold data.tar.gz or test.bin"
        )
    );
    assert!(case.server.log().is_empty());
}

#[test]
fn files_of_a_mirror_are_checked_and_left_alone() {
    let case = Case::new();
    let (directory, mirror) = directory(&[("net.pth", b"other"), ("data.tar.gz", b"other")]);
    let fetcher = case.fetcher().with_mirror(mirror).with_source(None);
    for (artifact, file) in [("single", "net.pth"), ("data", "data.tar.gz")] {
        let error = fetcher.fetch(artifact, None, &mut ()).unwrap_err().to_string();
        let path = directory.path().join(file);
        assert!(error.contains(&format!("{} has the wrong ", path.display())), "{error}");
        assert!(path.exists());
    }
    assert_eq!(case.tree(), [""; 0]);
}

#[test]
fn a_mirror_url_serves_everything_below_it() {
    let server = Server::with([
        ("/m/pair.zip", Route::new(pair_zip())),
        ("/m/net.pth", Route::new(NET)),
        ("/m/plain_text/test/0000.parquet", Route::new(parquet(b"test"))),
        ("/m/plain_text/train/0000.parquet", Route::new(parquet(b"train"))),
    ]);
    for slash in ["", "/"] {
        let case = Case::new();
        let mirror = format!("{}{slash}", server.url("/m")).parse().unwrap();
        let fetcher = case.fetcher().with_mirror(Some(mirror));
        for artifact in ["pair", "single", "data"] {
            fetcher.fetch(artifact, None, &mut ()).unwrap();
        }
        assert_eq!(
            case.tree(),
            [
                "datasets/data/plain_text/test/0000.parquet",
                "datasets/data/plain_text/train/0000.parquet",
                ONE,
                TWO,
                "weights/single/net.pth"
            ]
        );
        assert!(case.server.log().is_empty());
    }
}

#[test]
fn mirrors_are_told_apart_by_their_form() {
    let directory = tempfile::tempdir().unwrap();
    let spaced = directory.path().join("with space");
    fs::create_dir(&spaced).unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let place = directory.path().to_str().unwrap();
    for given in [
        spaced.to_str().unwrap().to_owned(),
        format!("file://{place}/with%20space"),
        format!("file://localhost{place}/with space"),
    ] {
        assert_eq!(given.parse::<Mirror>().unwrap(), Mirror::Directory(spaced.clone()));
    }
    for (given, reason) in [
        (format!("{place}/none"), "there is no such directory"),
        (format!("{place}/file"), "it is a file; name the directory that holds it"),
        ("file://server/share".into(), "three slashes"),
        (format!("file://{place}/%zz"), "malformed"),
        ("ftp://example.org".into(), "'ftp' is none of http, https and file"),
        ("https://".into(), "names no server"),
        (String::new(), "there is no such directory"),
    ] {
        let error = given.parse::<Mirror>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("'{given}' cannot be a mirror: ")), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

/// What happens to the artifact "pair" with this archive: the error and what is left.
fn with_archive(archive: &[u8]) -> (FetchError, Case) {
    let case = Case::new();
    case.server.put("/download?id=1", Route::new(archive));
    let error = case.fetcher().fetch("pair", None, &mut ()).unwrap_err();
    (error, case)
}

#[test]
fn truncated_and_foreign_archives_leave_nothing() {
    let whole = pair_zip();
    let mut flipped = zip(&[("one.pt", b"first"), ("two.pt", b"second")]);
    let position = flipped.windows(5).position(|window| window == b"secon");
    // Small members are stored deflated; flip a bit of the data, wherever that is.
    let position = position.unwrap_or(40);
    flipped[position] ^= 1;
    for archive in [&whole[..whole.len() - 30], &whole[..20], b"neither zip nor page", b"", &flipped] {
        let (error, case) = with_archive(archive);
        let path = case.path("weights/pair/pair.zip");
        let start = format!("{} is not a complete zip archive: ", path.display());
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(case.tree(), [""; 0]);
    }
}

#[test]
fn a_truncated_tar_gz_leaves_nothing() {
    let whole = tar_gz(&[("test.bin", &support::noise(50_000)), ("train.bin", &support::noise(50_000))]);
    for length in [whole.len() - 4, whole.len() / 2, 5] {
        let (_mirror_directory, mirror) = directory(&[("data.tar.gz", &whole[..length])]);
        let case = Case::new();
        let text = include_str!("support/unchecked.toml");
        let fetcher = case.fetcher().with_manifest(approx_fetch::Manifest::parse(text).unwrap());
        let error = fetcher.with_mirror(mirror).fetch("data", None, &mut ()).unwrap_err();
        assert!(matches!(error, FetchError::Archive { format: "tar.gz", .. }), "{error}");
        assert_eq!(case.tree(), [""; 0]);
    }
}

#[test]
fn a_missing_member_is_named_and_nothing_is_unpacked() {
    for archive in [
        zip(&[("one.pt", b"first")]),
        zip(&[("one.pt", b"first"), ("two.pt/", b"")]),
        zip(&[("one.pt", b"first"), ("__MACOSX/two.pt", b"resource fork"), ("._two.pt", b"")]),
    ] {
        let (error, case) = with_archive(&archive);
        let path = case.path("weights/pair/pair.zip");
        assert_eq!(error.to_string(), format!("{} does not contain two.pt", path.display()));
        assert_eq!(case.tree(), [""; 0]);
        assert!(!case.path("weights/pair").exists());
    }
}

#[test]
fn members_cannot_leave_the_destination() {
    type Pack = fn(Files<'_>) -> Vec<u8>;
    let packs: [(&str, Pack); 2] = [("pair.zip", zip), ("data.tar.gz", tar_gz)];
    let names: [(&str, &str); 2] = [("../../../one.pt", "/tmp/two.pt"), ("..\\..\\one.pt", "a/../../two.pt")];
    for (file, pack) in packs {
        for (one, two) in names {
            let outer = tempfile::tempdir().unwrap();
            let root = outer.path().join("a/b/root");
            let archive = pack(&[(one, b"1"), (two, b"2"), ("../../../evil.txt", b"3")]);
            let (_directory, mirror) = directory(&[(file, &archive)]);
            let manifest = approx_fetch::Manifest::parse(include_str!("support/unchecked.toml")).unwrap();
            let fetcher = Fetcher::new(&root).with_manifest(manifest).with_mirror(mirror);
            let artifact = Path::new(file).file_stem().unwrap().to_str().unwrap();
            match artifact {
                "pair" => drop(fetcher.fetch("pair", None, &mut ()).unwrap()),
                _ => drop(fetcher.fetch("pair-tar", None, &mut ()).unwrap()),
            }
            assert_eq!(tree(outer.path()), ["a/b/root/weights/pair/one.pt", "a/b/root/weights/pair/two.pt"]);
        }
    }
}

#[test]
fn a_web_page_instead_of_the_archive_is_an_error_of_its_own() {
    let page = "<html><head><title>Virus scan warning</title></head></html>";
    let (error, case) = with_archive(page.as_bytes());
    let url = case.server.url("/download?id=1");
    assert_eq!(
        error.to_string(),
        format!("{url} answered with a web page (\"Virus scan warning\") instead of the file")
    );
    assert_eq!(case.tree(), [""; 0]);
}

#[test]
fn two_that_fetch_the_same_download_it_once() {
    let case = Case::new();
    case.server.put("/download?id=1", Route { stalls: [1000].into(), ..Route::new(pair_zip_of(2000)) });
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..2).map(|_| scope.spawn(|| case.fetcher().fetch("pair", None, &mut ()).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(case.tree(), [ONE, TWO]);
    assert_eq!(case.server.log().iter().filter(|request| request.range.is_none()).count(), 1);
    let mut counts: Vec<_> =
        outcomes.iter().map(|outcome| (outcome.fetched.len(), outcome.kept.len())).collect();
    counts.sort_unstable();
    assert_eq!(counts, [(0, 2), (2, 0)]);
}

fn pair_zip_of(size: usize) -> Vec<u8> {
    zip(&[("one.pt", &support::noise(size)), ("two.pt", b"second")])
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_search_for_other_sources() {
    if !Path::new("/dev/full").exists() {
        eprintln!("SKIPPED: this system has no /dev/full");
        return;
    }
    let case = Case::new();
    let part = case.path("datasets/data/plain_text/test/0000.parquet.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    case.server.put("/plain_text/test/0000.parquet", Route::new("test"));
    let mirror = case.server.url("").parse().unwrap();
    let error = case.fetcher().with_mirror(Some(mirror)).fetch("data", None, &mut ()).unwrap_err();
    assert!(matches!(error, FetchError::DiskFull { .. }), "{error}");
    assert_eq!(case.server.log().len(), 1);
}

/// Members that are too much for an archive of a few kilobytes.
fn bomb(pack: impl Fn(Files<'_>) -> Vec<u8>) -> Vec<u8> {
    let zeros = vec![0; 40_000_000];
    pack(&[("one.pt", &zeros), ("two.pt", &zeros)])
}

#[test]
fn what_may_come_out_of_an_archive_is_limited() {
    let unchecked = || approx_fetch::Manifest::parse(include_str!("support/unchecked.toml")).unwrap();
    for (artifact, file, archive) in [
        ("pair", "pair.zip", bomb(zip)),
        ("pair-tar", "data.tar.gz", bomb(tar_gz)),
        // What nobody asked for does not reach the disk, but costs time.
        (
            "pair-tar",
            "data.tar.gz",
            tar_gz(&[("other", &vec![0; 70_000_000]), ("one.pt", b"1"), ("two.pt", b"2")]),
        ),
    ] {
        let case = Case::new();
        let (place, mirror) = directory(&[(file, &archive)]);
        let fetcher = case.fetcher().with_manifest(unchecked()).with_mirror(mirror);
        let error = fetcher.fetch(artifact, None, &mut ()).unwrap_err().to_string();
        let path = place.path().join(file);
        // 64 MiB, since 16 times the archive's length is less.
        let start = format!("{} unpacks to more than 67108864 bytes", path.display());
        assert!(error.starts_with(&start), "{error}");
        assert_eq!(
            error.ends_with(", in two.pt"),
            archive == bomb(zip) || archive == bomb(tar_gz),
            "{error}"
        );
        assert_eq!(case.tree(), [""; 0]);
    }
    // The manifest can say less, or more.
    let zeros = vec![0; 35_000_000];
    let fits = zip(&[("one.pt", &zeros), ("two.pt", &zeros)]);
    for (max_unpacked, refused) in [(69_999_999, true), (70_000_000, false)] {
        let case = Case::new();
        let text = include_str!("support/unchecked.toml");
        let limit = format!("format = \"zip\"\nmax_unpacked = {max_unpacked}");
        let manifest = approx_fetch::Manifest::parse(&text.replace("format = \"zip\"", &limit)).unwrap();
        let (_place, mirror) = directory(&[("pair.zip", &fits)]);
        let result = case.fetcher().with_manifest(manifest).with_mirror(mirror).fetch("pair", None, &mut ());
        match result {
            Ok(_) => assert!(!refused),
            Err(error) => {
                assert!(refused);
                assert!(
                    error.to_string().ends_with("unpacks to more than 69999999 bytes, in two.pt"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_zip_whose_member_is_longer_than_it_says_is_broken() {
    let mut archive = zip(&[("one.pt", b"first"), ("two.pt", &[b'x'; 5000])]);
    // The length in the local header and in the directory, in bytes 22 and 24 of each.
    for (magic, offset) in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)] {
        let places = archive.windows(4).enumerate().filter(|(_, window)| window == magic);
        let second = places.map(|(place, _)| place).nth(1).unwrap();
        archive[second + offset..][..4].copy_from_slice(&100_u32.to_le_bytes());
    }
    let (error, case) = with_archive(&archive);
    assert!(matches!(error, FetchError::Archive { format: "zip", .. }), "{error}");
    assert_eq!(case.tree(), [""; 0]);
}

#[test]
fn the_sizes_of_the_manifest_are_held_against_what_comes() {
    let whole = pair_zip();
    let sized = |size: usize, member: usize| {
        let text = include_str!("support/unchecked.toml").replacen(
            "path = \"one.pt\"",
            &format!("path = \"one.pt\", size = {member}"),
            1,
        );
        let text = text.replacen("format =", &format!("size = {size}\nformat ="), 1);
        approx_fetch::Manifest::parse(&text).unwrap()
    };
    let server = Server::with([("/pair.zip", Route::new(whole.clone()))]);
    let (_place, in_directory) = directory(&[("pair.zip", &whole)]);
    for mirror in [in_directory, Some(server.url("").parse().unwrap())] {
        let fetch = |manifest| {
            let case = Case::new();
            let result = case.fetcher().with_manifest(manifest).with_mirror(mirror.clone()).fetch(
                "pair",
                None,
                &mut (),
            );
            (result, case.tree())
        };
        assert_eq!(fetch(sized(whole.len(), 5)).1, [ONE, TWO]);
        for (manifest, file, told) in [
            (sized(whole.len() + 1, 5), "pair.zip", (whole.len(), whole.len() + 1)),
            (sized(whole.len(), 6), "one.pt", (5, 6)),
        ] {
            let (result, files) = fetch(manifest);
            let error = result.unwrap_err().to_string();
            let end = format!("{file} has {} bytes instead of {}", told.0, told.1);
            assert!(error.ends_with(&end), "{error}");
            assert_eq!(files, [""; 0]);
        }
    }
}

#[test]
fn an_archive_is_used_again_after_a_failure_of_this_machine() {
    for (forced, by_mirror, framing) in [
        (false, false, Framing::Length),
        (true, false, Framing::Length),
        (false, true, Framing::Length),
        (false, false, Framing::Chunked),
    ] {
        let case = Case::new();
        for path in ["/download?id=1", "/pair.zip"] {
            case.server.put(path, Route { framing, ..Route::new(pair_zip()) });
        }
        let mirror = by_mirror.then(|| case.server.url("").parse().unwrap());
        let fetcher = case.fetcher().with_force(forced).with_mirror(mirror);
        // A folder in the place of a member: the disk is not full, but the file cannot be written.
        case.write(&format!("{ONE}/inside"), "");
        let error = fetcher.fetch("pair", None, &mut ()).unwrap_err();
        assert!(error.is_local(), "{error}");
        assert!(case.tree().contains(&"weights/pair/pair.zip.part".to_owned()), "{:?}", case.tree());
        fs::remove_dir_all(case.path(ONE)).unwrap();
        case.server.clear_log();
        fetcher.fetch("pair", None, &mut ()).unwrap();
        assert_eq!((case.read(ONE).as_str(), case.read(TWO).as_str()), ("first", "second"));
        assert_eq!(case.tree(), [ONE, TWO]);
        assert_eq!(case.server.log(), [], "{forced} {by_mirror}");
    }
}

#[test]
fn a_kept_archive_that_is_broken_is_fetched_again() {
    for broken in [&pair_zip()[..50], &zip(&[("one.pt", b"first")])[..]] {
        let case = Case::new();
        case.write("weights/pair/pair.zip", broken);
        let mut memory = Memory::default();
        case.fetcher().fetch("pair", None, &mut memory).unwrap();
        assert_eq!(case.tree(), [ONE, TWO]);
        assert_eq!(case.server.log().len(), 1);
        assert!(memory.notes.iter().any(|note| note.ends_with("; fetching it again")), "{:?}", memory.notes);
    }
}

#[test]
fn files_of_a_mirror_without_a_checksum_are_held_against_their_kind() {
    let whole = parquet(b"test");
    let cut = &whole[..whole.len() - 1];
    let server = Server::with([("/plain_text/test/0000.parquet", Route::new(cut))]);
    let (_place, in_directory) = directory(&[("plain_text/test/0000.parquet", cut)]);
    for mirror in [in_directory, Some(server.url("").parse().unwrap())] {
        let case = Case::new();
        let fetcher = case.fetcher().with_mirror(mirror).with_source(Some("hub"));
        let error = fetcher.fetch("data", Some(&["test"]), &mut ()).unwrap_err().to_string();
        assert!(
            error.contains("0000.parquet is not a complete parquet file: it does not end with PAR1"),
            "{error}"
        );
        assert_eq!(case.tree(), [""; 0]);
    }
}

#[cfg(unix)]
#[test]
fn what_a_killed_process_left_is_removed_and_told() {
    let case = Case::new();
    case.write(ONE, "mine");
    case.write(TWO, "mine");
    let inside = |name: &str| format!("weights/pair/{name}");
    // The names end with six letters or digits, and the lock is there because the process could not remove it.
    for name in [
        ".fetch-a1B2c3.part",
        ".fetch-d4E5f6.part",
        ".fetch.lock",
        "one.pt.part.meta",
        "pair.zip.part",
        "pair.zip.part.meta",
    ] {
        case.write(&inside(name), "left");
    }
    case.write(&inside(".fetch-mine.part"), "not ours");
    let mut memory = Memory::default();
    case.fetcher().fetch("pair", None, &mut memory).unwrap();
    assert_eq!(case.tree(), [&inside(".fetch-mine.part"), ONE, TWO]);
    let told = format!(
        "{}: removed 2 unfinished files (8 bytes) of a process that was killed",
        case.path("weights/pair").display()
    );
    assert_eq!(memory.notes, [told]);
}
