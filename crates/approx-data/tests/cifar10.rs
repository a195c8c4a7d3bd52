//! CIFAR-10's layouts, good and bad.

use std::fs;
use std::path::{Path, PathBuf};

use approx_data::cifar10;
use approx_data::{Split, demo};
use tempfile::TempDir;

const RECORD: usize = 3073;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A file of 10,000 records whose bytes all differ from their neighbours'.
fn batch(seed: usize) -> Vec<u8> {
    let record = |i: usize| {
        std::iter::once((i % 10) as u8)
            .chain((0..RECORD - 1).map(move |j| ((i * 31 + j * 7 + j / 32 * 3 + seed) % 256) as u8))
    };
    (0..10_000).flat_map(record).collect()
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
    cifar10::load(folder, split).unwrap_err().to_string()
}

#[test]
fn binary_files_are_read_in_order() {
    let batches: Vec<Vec<u8>> = (1..=5).map(batch).collect();
    let mut files: Vec<(String, &[u8])> = (1..=5)
        .zip(&batches)
        .map(|(i, bytes)| (format!("cifar-10-batches-bin/data_batch_{i}.bin"), bytes.as_slice()))
        .collect();
    let test = batch(9);
    files.push(("cifar-10-batches-bin/test_batch.bin".to_owned(), &test));
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let folder = folder(&files);

    let test_images = cifar10::load(folder.path(), Split::Test).unwrap();
    assert_eq!((test_images.len(), test_images.classes()), (10_000, 10));
    for i in [0, 1, 9_999] {
        assert_eq!(test_images.labels()[i], u16::from(test[i * RECORD]));
        assert_eq!(test_images.image(i), &test[i * RECORD + 1..(i + 1) * RECORD]);
    }
    let train_images = cifar10::load(folder.path().join("cifar-10-batches-bin"), Split::Train).unwrap();
    assert_eq!(train_images.len(), 50_000);
    assert_eq!(train_images.image(20_003), &batches[2][3 * RECORD + 1..4 * RECORD]);
}

/// candle-datasets 0.11 gives transposed images here.
#[test]
fn parquet_images_equal_the_binary_ones() {
    let images = cifar10::load(fixtures().join("hub"), Split::Test).unwrap();
    assert_eq!(images, demo::images().truncated(20));

    let flat = tempfile::tempdir().unwrap();
    fs::create_dir(flat.path().join("plain_text")).unwrap();
    fs::copy(
        fixtures().join("hub/plain_text/test/0000.parquet"),
        flat.path().join("plain_text/test-00000-of-00001.parquet"),
    )
    .unwrap();
    assert_eq!(cifar10::load(flat.path(), Split::Test).unwrap(), images);
}

#[test]
fn bad_folders_and_files_are_named() {
    let good = batch(0);
    let mut mislabelled = good.clone();
    mislabelled[3 * RECORD] = 10;
    let missing = Path::new("/no/such/folder");
    assert_eq!(error(missing, Split::Test), "/no/such/folder: no such folder");
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(Files, Split, &str); 6] = [
        (
            &[],
            Split::Test,
            "no CIFAR-10 test images here; looked for test_batch.bin, plain_text/test/0000.parquet",
        ),
        (
            &[("cifar-10-batches-py/data_batch_1", b"")],
            Split::Test,
            "what is here is CIFAR-10's Python version",
        ),
        (
            &[("test_batch.bin", &good[..5_000 * RECORD])],
            Split::Test,
            "test_batch.bin: has 15365000 bytes, but a CIFAR-10 file has 30730000",
        ),
        (&[("test_batch.bin", b"")], Split::Test, "test_batch.bin: has 0 bytes"),
        (
            &[("test_batch.bin", &mislabelled)],
            Split::Test,
            "test_batch.bin: image 3 has the label 10, but labels go from 0 to 9",
        ),
        (
            &[("data_batch_1.bin", &good), ("data_batch_3.bin", &good)],
            Split::Train,
            "data_batch_2.bin: No such file",
        ),
    ];
    for (files, split, expected) in cases {
        let folder = folder(files);
        let error = error(folder.path(), split);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn bad_parquet_files_are_named() {
    let cases = [
        ("label.parquet", "0000.parquet: image 2 has the label 12"),
        ("size.parquet", "0000.parquet: image 1: is 32×16, not 32×32"),
        ("column.parquet", "there is no column `img`"),
        ("decode.parquet", "0000.parquet: image 0: "),
    ];
    for (file, expected) in cases {
        let bytes = fs::read(fixtures().join("other").join(file)).unwrap();
        let folder = folder(&[("plain_text/test/0000.parquet", &bytes)]);
        let error = error(folder.path(), Split::Test);
        assert!(error.contains(expected), "{error}");
    }
    let good = fs::read(fixtures().join("hub/plain_text/test/0000.parquet")).unwrap();
    for bytes in [&good[..good.len() / 2], b"", b"hello"] {
        let folder = folder(&[("plain_text/test/0000.parquet", bytes)]);
        assert!(error(folder.path(), Split::Test).contains("0000.parquet: "));
    }
}

#[test]
fn the_demo_has_a_thousand_images_of_ten_classes() {
    let images = demo::images();
    assert_eq!(images.len(), 1000);
    for class in 0..10 {
        assert!(images.labels().contains(&class), "{}", demo::CLASSES[usize::from(class)]);
    }
}
