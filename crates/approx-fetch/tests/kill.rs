//! A process that fetches all the time and is killed, again and again.

#![cfg(unix)] // Elsewhere only the age of a file tells whether somebody still writes it.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use approx_fetch::{Fetcher, HubOptions, Mirror};

use support::{Route, Server, impatient, manifest_at, noise, parquet, tree, zip};

/// Where the child fetches to, from which server, and from which folder.
const ROOT: &str = "APPROX_FETCH_TEST_ROOT";
const SERVER: &str = "APPROX_FETCH_TEST_SERVER";
const MIRROR: &str = "APPROX_FETCH_TEST_MIRROR";

/// No test, but what the child executes.
#[test]
#[ignore = "the test below runs it in a process of its own"]
fn child() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let (server, mirror) = (std::env::var(SERVER).unwrap(), std::env::var(MIRROR).unwrap());
    println!("ready");
    loop {
        fetch_all(Path::new(&root), &server, Path::new(&mirror));
    }
}

/// An archive from a server, files from a folder, and a file through the hub's cache.
fn fetch_all(root: &Path, server: &str, mirror: &Path) {
    let hub = HubOptions {
        endpoint: Some(server.to_owned()),
        cache_dir: Some(mirror.join("cache")),
        ..HubOptions::default()
    };
    let fetcher = Fetcher::new(root)
        .with_manifest(manifest_at(server))
        .with_http(impatient())
        .with_hub(hub)
        .with_force(true);
    fetcher.fetch("pair", None, &mut ()).unwrap();
    let in_folder = fetcher.clone().with_mirror(Some(Mirror::Directory(mirror.to_owned())));
    in_folder.fetch("data", None, &mut ()).unwrap();
    fetcher.with_source(Some("hub")).fetch("nets", None, &mut ()).unwrap();
}

#[test]
fn two_hundred_killed_processes_leave_nothing_that_the_next_call_does_not_remove() {
    let (one, two) = (noise(500_000), noise(400_000));
    let server = Server::with([
        ("/download?id=1", Route::new(zip(&[("one.pt", &one), ("two.pt", &two)]))),
        (
            "/org/net_a.v1/resolve/main/model.bin",
            Route::new(noise(300_000)).header("X-Repo-Commit", "0123456789abcdef"),
        ),
    ]);
    let (root, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for part in ["test", "train"] {
        let folder = mirror.path().join("plain_text").join(part);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("0000.parquet"), parquet(&noise(500_000))).unwrap();
    }
    let is_temporary = |name: &&String| name.contains("/.fetch-");
    let mut left = 0;
    for round in 0..200 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env(ROOT, root.path())
            .env(SERVER, server.url(""))
            .env(MIRROR, mirror.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("ready")));
        thread::sleep(Duration::from_micros(round * 7919 % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        left += tree(root.path()).iter().filter(is_temporary).count();
        for (name, contents) in [("one", &one), ("two", &two)] {
            let path = root.path().join(format!("weights/pair/{name}.pt"));
            assert!(!path.exists() || fs::read(path).unwrap() == *contents, "round {round}: {name}");
        }
    }
    assert!(left > 0, "no process was killed while it was writing, so this test has tested nothing");
    fetch_all(root.path(), &server.url(""), mirror.path());
    assert_eq!(
        tree(root.path()),
        [
            "datasets/data/plain_text/test/0000.parquet",
            "datasets/data/plain_text/train/0000.parquet",
            "weights/nets/a_hub.bin",
            "weights/pair/one.pt",
            "weights/pair/two.pt",
        ]
    );
    let in_cache = tree(&mirror.path().join("cache"));
    assert!(in_cache.iter().all(|name| !name.contains(".fetch") && !name.contains(".part")), "{in_cache:?}");
}
