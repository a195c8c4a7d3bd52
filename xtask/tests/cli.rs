//! The built binary, as one calls it, with a mirror directory instead of a network.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const BACKBONES: [&str; 9] =
    ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "vgg11bn", "vgg13bn", "vgg16bn", "vgg19bn"];

fn xtask(root: &Path, arguments: &[&str]) -> (bool, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .arg("--root")
        .arg(root)
        .current_dir(root)
        .output()
        .unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A directory with `cifar10.zip` in it, which contains these networks.
fn mirror(backbones: &[&str]) -> TempDir {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for backbone in backbones {
        let name = format!("cifar10/{backbone}_ours.pt");
        writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(backbone.as_bytes()).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("cifar10.zip"), writer.finish().unwrap().into_inner()).unwrap();
    directory
}

#[test]
fn fetch_params_unpacks_all_networks_and_then_keeps_them() {
    let (mirror, root) = (mirror(&BACKBONES), tempfile::tempdir().unwrap());
    let from = mirror.path().to_str().unwrap();
    for (arguments, verb) in [
        (&["fetch-params", "--from", from][..], "fetched"),
        (&["fetch-params", "cifar10", "all", "--from", from], "there already"),
        (&["fetch-params", "cifar10", "--force", "--from", from], "fetched"),
    ] {
        let (success, stdout, stderr) = xtask(root.path(), arguments);
        assert!(success, "{stderr}");
        let mut expected: Vec<_> =
            BACKBONES.iter().map(|name| format!("{verb}: weights/cifar10/{name}_ours.pt")).collect();
        expected.push("next: cargo run -p infer -- cifar10 resnet20".to_owned());
        assert_eq!(stdout.lines().collect::<Vec<_>>(), expected);
        let licences = stderr.lines().filter(|line| line.starts_with("licence: the authors state none"));
        assert_eq!(licences.count(), usize::from(verb == "fetched"), "{stderr}");
    }
    for name in BACKBONES {
        let path = root.path().join(format!("weights/cifar10/{name}_ours.pt"));
        assert_eq!(fs::read_to_string(path).unwrap(), name);
    }
}

#[test]
fn fetch_params_of_one_network_needs_no_other() {
    let (mirror, root) = (mirror(&["vgg11bn"]), tempfile::tempdir().unwrap());
    let from = format!("file://{}", mirror.path().display());
    let (success, stdout, stderr) =
        xtask(root.path(), &["fetch-params", "cifar10", "vgg11bn", "--from", &from]);
    assert!(success, "{stderr}");
    assert_eq!(
        stdout,
        "fetched: weights/cifar10/vgg11bn_ours.pt\nnext: cargo run -p infer -- cifar10 vgg11bn\n"
    );
}

#[test]
fn fetch_data_takes_what_the_mirror_has() {
    let hub = ["plain_text/test/0000.parquet", "plain_text/train/0000.parquet"];
    let toronto = [
        "test_batch.bin",
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "batches.meta.txt",
    ];
    for (files, arguments, folder, fetched) in [
        (&hub[..], &["fetch-data"][..], "datasets/cifar10", 2),
        (&hub, &["fetch-data", "cifar10", "--source", "hub"], "datasets/cifar10", 2),
        (&hub[..1], &["fetch-data", "cifar10", "test"], "datasets/cifar10", 1),
        (&toronto, &["fetch-data", "cifar10"], "datasets/cifar10/cifar-10-batches-bin", 7),
        (&toronto, &["fetch-data", "--source=toronto"], "datasets/cifar10/cifar-10-batches-bin", 7),
    ] {
        let (mirror, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for file in files {
            let path = mirror.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let from = ["--from", mirror.path().to_str().unwrap()];
        let (success, stdout, stderr) = xtask(root.path(), &[arguments, &from].concat());
        assert!(success, "{stderr}");
        let mut expected: Vec<_> =
            files[..fetched].iter().map(|file| format!("fetched: {folder}/{file}")).collect();
        expected.push("next: cargo run -p infer -- cifar10 resnet20".to_owned());
        assert_eq!(stdout.lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn bad_input_fails_and_says_what_would_be_good() {
    let (empty, incomplete) = (tempfile::tempdir().unwrap(), mirror(&["resnet20"]));
    let broken = tempfile::tempdir().unwrap();
    fs::write(broken.path().join("cifar10.zip"), "PK").unwrap();
    let path = |directory: &TempDir| directory.path().to_str().unwrap().to_owned();
    for (arguments, message) in [
        (vec!["fetch-params", "cifar100"], "there is no data set 'cifar100'; known are: cifar10\n"),
        (vec!["fetch-params", "resnet20"], "name the data set first (cifar10), then 'resnet20'\n"),
        (vec!["fetch-params", "cifar10", "resnet21"], "has no 'resnet21'; known are: resnet20, resnet32,"),
        (vec!["fetch-data", "mnist"], "there is no data set 'mnist'; known are: cifar10\n"),
        (vec!["fetch-data", "cifar10-params"], "there is no data set 'cifar10-params'; known are: cifar10\n"),
        (vec!["fetch-data", "cifar10", "validation"], "has no 'validation'; known are: test, train\n"),
        (vec!["fetch-data", "--source", "moon"], "has no source 'moon'; known are: hub, toronto\n"),
        (vec!["fetch-params", "--from", "/no/such/directory"], "there is no such directory"),
        (vec!["fetch-params", "--from", "ftp://example.org"], "'ftp' is none of http, https and file"),
        (vec!["fetch-params", "--from", &path(&empty)], "does not hold cifar10.zip or resnet20_ours.pt\n"),
        (vec!["fetch-params", "--from", &path(&incomplete)], "does not contain resnet32_ours.pt, resnet44"),
        (vec!["fetch-params", "--from", &path(&broken)], "is not a complete zip archive"),
        (
            vec!["fetch-params", "--from", "http://127.0.0.1:1"],
            "http://127.0.0.1:1/cifar10.zip: no connection",
        ),
        (vec!["fetch"], "unrecognized subcommand 'fetch'"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let (success, stdout, stderr) = xtask(root.path(), &arguments);
        assert!(!success && stdout.is_empty(), "{arguments:?}: {stdout}");
        assert!(stderr.contains("error: ") && stderr.contains(message), "{arguments:?}: {stderr}");
        assert!(!root.path().join("weights/cifar10/resnet20_ours.pt").exists());
    }
}

#[test]
fn the_help_names_both_commands() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for line in ["Usage: cargo xtask <COMMAND>", "fetch-params", "fetch-data"] {
        assert!(help.contains(line), "{help}");
    }
}
