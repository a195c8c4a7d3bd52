//! candle-datasets' loaders and ours, on the same files.

use std::fs;

use approx_data::{Split, candle_datasets, cifar10, fashion_mnist, mnist};

/// MNIST's files for `count` images, none of which is like another.
fn write_mnist(folder: &std::path::Path, part: &str, count: u32) {
    let pixels = (0..count * 784).map(|i| ((i * 7 + i / 28 * 3 + i / 784 * 31) % 256) as u8);
    let header = |dims: &[u32]| {
        [&[0, 0, 8, dims.len() as u8][..], &dims.iter().flat_map(|d| d.to_be_bytes()).collect::<Vec<_>>()]
            .concat()
    };
    let images = [header(&[count, 28, 28]), pixels.collect()].concat();
    let labels = [header(&[count]), (0..count).map(|i| (i * 3 % 10) as u8).collect()].concat();
    fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
    fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
}

#[test]
fn mnist_is_the_same_through_both_loaders() {
    let folder = tempfile::tempdir().unwrap();
    write_mnist(folder.path(), "train", 30);
    write_mnist(folder.path(), "t10k", 7);
    let dataset = ::candle_datasets::vision::mnist::load_dir(folder.path()).unwrap();
    for (split, count) in [(Split::Train, 30), (Split::Test, 7)] {
        let theirs = candle_datasets::images(&dataset, split, mnist::SHAPE).unwrap();
        assert_eq!(theirs.len(), count);
        assert_eq!(theirs, mnist::load(folder.path(), split).unwrap());
        assert_eq!(theirs, fashion_mnist::load(folder.path(), split).unwrap());
    }
    let error = candle_datasets::images(&dataset, Split::Test, [3, 32, 32]).unwrap_err().to_string();
    assert!(
        error.starts_with("images of [7, 784] with labels of [7] are not [N, …] of [3, 32, 32]"),
        "{error}"
    );
}

/// The binary files; docs/adr/0003-own-cifar10-loader.md says what is wrong with parquet.
#[test]
fn cifar10_is_the_same_through_both_loaders() {
    let folder = tempfile::tempdir().unwrap();
    let record = |i: usize| {
        std::iter::once((i % 10) as u8)
            .chain((0..3072).map(move |j| ((i * 31 + j * 7 + j / 32 * 3) % 256) as u8))
    };
    let batch: Vec<u8> = (0..10_000).flat_map(record).collect();
    let first = folder.path().join("test_batch.bin");
    fs::write(&first, batch).unwrap();
    for i in 1..=5 {
        fs::hard_link(&first, folder.path().join(format!("data_batch_{i}.bin"))).unwrap();
    }
    let dataset = ::candle_datasets::vision::cifar::load_dir(folder.path()).unwrap();
    let theirs = candle_datasets::images(&dataset, Split::Test, [3, cifar10::SIZE, cifar10::SIZE]).unwrap();
    assert_eq!(theirs, cifar10::load(folder.path(), Split::Test).unwrap());
}
