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
    assert_eq!(
        (hub.repo.as_deref(), hub.revision.as_str()),
        (Some("uoft-cs/cifar10"), "refs/convert/parquet")
    );
    assert_eq!(toronto.checksum.as_ref().unwrap().to_string(), "md5:c32a1d4ab5d03f1284b67883e8d87530");
    assert_eq!(toronto.entries.len(), 7);
}

#[test]
fn the_committed_manifest_has_two_sources_of_cifar100() {
    let manifest = Manifest::committed();
    let data = manifest.artifact("cifar100").unwrap();
    assert_eq!(data.keys(), ["test", "train"]);
    let [Source::Hub(hub), Source::Archive(toronto)] = &data.sources[..] else { panic!("{data:?}") };
    assert_eq!(
        (hub.repo.as_deref(), hub.revision.as_str()),
        (Some("uoft-cs/cifar100"), "refs/convert/parquet")
    );
    assert_eq!(toronto.checksum.as_ref().unwrap().to_string(), "md5:03b5dce01913d631647c71ecec9e9cb8");
    assert_eq!(toronto.destination, "datasets/cifar100/cifar-100-binary");
}

#[test]
fn the_committed_manifest_has_the_files_of_mnist_and_fashion_mnist() {
    let manifest = Manifest::committed();
    for (name, source) in [("mnist", "ossci"), ("fashion-mnist", "zalando")] {
        let data = manifest.artifact(name).unwrap();
        assert_eq!(data.keys(), ["train", "test"]);
        let [Source::Files(files)] = &data.sources[..] else { panic!("{data:?}") };
        assert_eq!((files.name.as_str(), &files.destination), (source, &format!("datasets/{name}")));
        let names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"];
        assert_eq!(files.entries.len(), names.len());
        for (entry, file) in files.entries.iter().zip(names) {
            assert_eq!(entry.path, format!("{file}-ubyte.gz"));
            assert!(entry.url.as_ref().unwrap().ends_with(&format!("/{}", entry.path)));
            assert_eq!(entry.key.as_deref(), Some(if file.starts_with("train") { "train" } else { "test" }));
            assert!(entry.checksum.as_ref().unwrap().to_string().starts_with("md5:"));
        }
    }
}

#[test]
fn the_committed_manifest_has_the_networks_of_torchvision_and_timm() {
    let manifest = Manifest::committed();
    let params = manifest.artifact("imagenet-params").unwrap();
    let [Source::Files(torchvision), Source::Hub(hub)] = &params.sources[..] else { panic!("{params:?}") };
    assert_eq!((torchvision.name.as_str(), hub.name.as_str()), ("torchvision", "hub"));
    assert_eq!((&hub.repo, hub.gated), (&None, false));
    let mut timm = hub.entries.iter();
    for (entry, (key, file, repo)) in torchvision.entries.iter().zip([
        ("resnet18", "resnet18-5c106cde.pth", "resnet18"),
        ("resnet34", "resnet34-333f7ec4.pth", "resnet34"),
        ("resnet50", "resnet50-19c8e357.pth", "resnet50"),
        ("resnet101", "resnet101-5d3b4d8f.pth", "resnet101"),
        ("resnet152", "resnet152-b121ed2d.pth", "resnet152"),
        ("vgg11bn", "vgg11_bn-6002323d.pth", "vgg11_bn"),
        ("vgg13bn", "vgg13_bn-abd245e5.pth", "vgg13_bn"),
        ("vgg16bn", "vgg16_bn-6c64b313.pth", "vgg16_bn"),
        ("vgg19bn", "vgg19_bn-c79401a0.pth", "vgg19_bn"),
        ("googlenet", "googlenet-1378be20.pth", ""),
        ("inception_v3", "inception_v3_google-1a9a5a14.pth", "inception_v3"),
    ]) {
        let path = format!("{key}_torchvision.pth");
        assert_eq!((entry.key.as_deref(), &entry.path), (Some(key), &path));
        assert_eq!(entry.mirror_names(), [file, &path]);
        assert_eq!(entry.url, Some(format!("https://download.pytorch.org/models/{file}")));
        let (digits, _) = file.rsplit_once('-').unwrap().1.split_once('.').unwrap();
        assert_eq!(entry.checksum.as_ref().unwrap().to_string(), format!("sha256-prefix:{digits}"));
        if !repo.is_empty() {
            let entry = timm.next().unwrap();
            let path = format!("{key}_timm.safetensors");
            assert_eq!((entry.key.as_deref(), &entry.path), (Some(key), &path));
            let hub = format!("timm/{repo}.tv_in1k/model.safetensors");
            assert_eq!(entry.mirror_names(), [&hub, &path]);
        }
    }
    assert_eq!((torchvision.entries.len(), timm.next().is_none()), (11, true));
}

#[test]
fn the_committed_manifest_has_the_gated_validation_images() {
    let manifest = Manifest::committed();
    let data = manifest.artifact("imagenet").unwrap();
    assert_eq!((data.keys(), data.layouts.len()), (vec!["validation"], 4));
    let [Source::Hub(hub)] = &data.sources[..] else { panic!("{data:?}") };
    assert_eq!((hub.repo.as_deref(), hub.gated), (Some("ILSVRC/imagenet-1k"), true));
    assert_eq!((hub.destination.as_str(), hub.entries.len()), ("datasets/imagenet", 14));
    for (index, entry) in hub.entries.iter().enumerate() {
        assert_eq!(entry.path, format!("data/validation-{index:05}-of-00014.parquet"));
    }
}

#[test]
fn unknown_artifacts_are_answered_with_the_known_ones() {
    let error = Manifest::committed().artifact("emnist").unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no artifact 'emnist'; known are: cifar10-params, cifar10, cifar100, mnist, fashion-mnist, \
         imagenet-params, imagenet"
    );
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
[[artifact.source]]
kind = "hub"
name = "h"
repo_type = "model"
revision = "main"
destination = "weights/a"
entries = [{ path = "three.pt", hub = "org/three/model.pt" }, { path = "four.pt", hub = "org/four/model.pt" }]
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
        ("{ path = \"one.pt\" }", "{ path = \"one.pt\", weight = 1 }", "unknown field `weight`"),
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
        (
            "{ path = \"one.pt\" }",
            "{ path = \"one.pt\", hub = \"a/b/c\" }",
            "a place on the hub per file belongs",
        ),
        ("repo_type", "repo = \"org/all\"\nrepo_type", "a place on the hub per file belongs in"),
        (", hub = \"org/three/model.pt\"", "", "a place on the hub per file belongs in"),
        ("org/three/model.pt", "org/model.pt", "'org/model.pt' is not OWNER/NAME/PATH"),
        ("org/three/model.pt", "org/../three/x", "'org/../three/x' is not a plain relative path"),
        ("org/three/", "org/four/", "the name in a mirror 'org/four/model.pt' occurs twice"),
        ("sha256-prefix:01234567", "sha256-prefix:0123456", "is not a checksum"),
        ("sha256-prefix:01234567", "sha256:01234567", "is not a checksum"),
        ("sha256-prefix:01234567", "crc32:01234567", "is not a checksum"),
        ("01234567", "0123456g", "is not a checksum"),
    ] {
        let error = altered(from, to).unwrap_err();
        assert!(error.starts_with("the manifest is invalid: ") && error.contains(message), "{error}");
    }
}
