//! What the committed manifest says, and what no manifest may say.

use approx_fetch::{Manifest, Source};

#[test]
fn the_committed_manifest_has_the_nine_networks() {
    let manifest = Manifest::committed();
    let params = manifest.artifact("cifar10-params").unwrap();
    let keys = [
        "resnet20",
        "resnet32",
        "resnet44",
        "resnet56",
        "resnet110",
        "vgg11bn",
        "vgg13bn",
        "vgg16bn",
        "vgg19bn",
    ];
    assert_eq!(params.keys(), keys);
    let [Source::Archive(source)] = &params.sources[..] else { panic!("{params:?}") };
    assert_eq!((source.file.as_str(), source.destination.as_str()), ("cifar10.zip", "weights/cifar10"));
    for (entry, key) in source.entries.iter().zip(keys) {
        assert_eq!(entry.path, format!("{key}_ours.pt"));
    }
    assert!(params.licence.contains("state none"));
}

#[test]
fn the_committed_manifest_has_two_sources_of_cifar10() {
    let manifest = Manifest::committed();
    let data = manifest.artifact("cifar10").unwrap();
    assert_eq!(data.keys(), ["test", "train"]);
    let [Source::Hub(hub), Source::Archive(toronto)] = &data.sources[..] else { panic!("{data:?}") };
    assert_eq!((hub.name.as_str(), toronto.name.as_str()), ("hub", "toronto"));
    assert_eq!((hub.repo.as_str(), hub.revision.as_str()), ("uoft-cs/cifar10", "refs/convert/parquet"));
    assert_eq!(toronto.checksum.as_ref().unwrap().to_string(), "md5:c32a1d4ab5d03f1284b67883e8d87530");
    assert_eq!(toronto.entries.len(), 7);
}

#[test]
fn unknown_artifacts_are_answered_with_the_known_ones() {
    let error = Manifest::committed().artifact("cifar100").unwrap_err();
    assert_eq!(error.to_string(), "there is no artifact 'cifar100'; known are: cifar10-params, cifar10");
}

/// A manifest that is fine until `from` is replaced by `to`.
fn altered(from: &str, to: &str) -> Result<Manifest, String> {
    let text = r#"
[[artifact]]
name = "a"
title = "t"
homepage = "h"
licence = "l"
[[artifact.source]]
kind = "archive"
name = "s"
url = "https://example.org/a.zip"
file = "a.zip"
format = "zip"
destination = "weights/a"
entries = [{ path = "one.pt" }, { path = "two.pt" }]
[[artifact.source]]
kind = "files"
name = "f"
destination = "weights/a"
entries = [{ path = "x/one.pt", url = "https://example.org/one.pt", checksum = "sha256-prefix:01234567" }]
"#;
    assert!(text.contains(from));
    Manifest::parse(&text.replacen(from, to, 1)).map_err(|error| error.to_string())
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    altered("name", "name").unwrap();
    for (from, to, message) in [
        ("title", "titel", "unknown field `titel`"),
        ("file =", "datei =", "unknown field `datei`"),
        ("{ path = \"one.pt\" }", "{ path = \"one.pt\", size = 1 }", "unknown field `size`"),
        ("\"zip\"", "\"rar\"", "unknown variant `rar`"),
        ("\"archive\"", "\"torrent\"", "unknown variant `torrent`"),
        ("licence = \"l\"", "", "missing field `licence`"),
        ("\"two.pt\"", "\"one.pt\"", "the path 'one.pt' occurs twice"),
        ("name = \"f\"", "name = \"s\"", "the source 's' occurs twice"),
        ("weights/a", "../a", "'../a' is not a plain relative path"),
        ("weights/a", "/a", "'/a' is not a plain relative path"),
        ("x/one.pt", "x/../../one.pt", "'x/../../one.pt' is not a plain relative path"),
        ("x/one.pt", "C:one.pt", "'C:one.pt' is not a plain relative path"),
        ("x/one.pt", "", "'' is not a plain relative path"),
        ("\"one.pt\"", "\"x/one.pt\"", "'x/one.pt' must be a file name without folders"),
        ("{ path = \"one.pt\" }", "{ path = \"one.pt\", url = \"u\" }", "a URL per file belongs in"),
        ("url = \"https://example.org/one.pt\", ", "", "a URL per file belongs in"),
        ("sha256-prefix:01234567", "sha256-prefix:0123456", "is not a checksum"),
        ("sha256-prefix:01234567", "sha256:01234567", "is not a checksum"),
        ("sha256-prefix:01234567", "crc32:01234567", "is not a checksum"),
        ("01234567", "0123456g", "is not a checksum"),
    ] {
        let error = altered(from, to).unwrap_err();
        assert!(error.starts_with("the manifest is invalid: ") && error.contains(message), "{error}");
    }
}
