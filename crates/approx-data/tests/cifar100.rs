//! CIFAR-100's layouts, good and bad.

use std::fs;
use std::path::{Path, PathBuf};

use approx_data::{ImageSource, Split, cifar100, demo};
use tempfile::TempDir;

/// A coarse label, a fine label, 3,072 bytes of pixels.
const RECORD: usize = 3074;

/// A file of records whose bytes all differ from their neighbours'. The coarse label is no fine one.
fn records(count: usize) -> Vec<u8> {
    let record = |i: usize| {
        let pixels = (0..RECORD - 2).map(move |j| ((i * 31 + j * 7 + j / 32 * 3) % 256) as u8);
        [200, (i % 100) as u8].into_iter().chain(pixels)
    };
    (0..count).flat_map(record).collect()
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn error(folder: &Path, split: Split) -> String {
    cifar100::load(folder, split).unwrap_err().to_string()
}

#[test]
fn fine_labels_of_binary_files_are_the_classes() {
    let (train, test) = (records(50_000), records(10_000));
    let folder = folder(&[("cifar-100-binary/train.bin", &train), ("cifar-100-binary/test.bin", &test)]);
    for (place, split, bytes) in [("", Split::Test, &test), ("cifar-100-binary", Split::Train, &train)] {
        let images = cifar100::load(folder.path().join(place), split).unwrap();
        assert_eq!(
            (images.len(), images.classes(), images.shape()),
            (bytes.len() / RECORD, 100, [3, 32, 32])
        );
        for i in [0, 1, images.len() - 1] {
            assert_eq!(usize::from(images.labels()[i]), i % 100);
            assert_eq!(images.image(i), &bytes[i * RECORD + 2..(i + 1) * RECORD]);
        }
    }
}

#[test]
fn fine_labels_of_parquet_files_are_the_classes() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let images = cifar100::load(fixtures.join("hub"), Split::Test).unwrap();
    assert_eq!(images.labels(), [99, 0, 42]);
    for i in 0..3 {
        assert_eq!(images.image(i), demo::images().image(i), "{i}");
    }
}

#[test]
fn bad_folders_and_files_are_named() {
    assert_eq!(error(Path::new("/no/such/folder"), Split::Test), "/no/such/folder: no such folder");
    let good = records(10_000);
    let mut mislabelled = good.clone();
    mislabelled[5 * RECORD + 1] = 100;
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(Files, Split, &str); 6] = [
        (&[], Split::Test, "no CIFAR-100 test images here; looked for test.bin, cifar100/test/0000.parquet"),
        (&[("test.bin", &good)], Split::Train, "no CIFAR-100 train images here; looked for train.bin"),
        (
            &[("cifar-100-python/test", b"")],
            Split::Test,
            "what is here is CIFAR-100's Python version, which holds pickled objects",
        ),
        (&[("cifar-10-batches-bin/test_batch.bin", b"")], Split::Test, "what is here is CIFAR-10"),
        (
            &[("train.bin", &good)],
            Split::Train,
            "train.bin: has 30740000 bytes, but a CIFAR-100 file has 153700000 (50000 images of 3074 bytes)",
        ),
        (
            &[("test.bin", &mislabelled)],
            Split::Test,
            "test.bin: image 5 has the label 100, but labels go from 0 to 99",
        ),
    ];
    for (files, split, expected) in cases {
        let folder = folder(files);
        let error = error(folder.path(), split);
        assert!(error.contains(expected), "{error}");
    }
}
