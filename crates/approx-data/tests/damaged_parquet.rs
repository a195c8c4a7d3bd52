//! Damaged parquet files: an error with the file's name, soon. Each of these made the crate parquet 60.1 panic, or read on
//! and on behind the end of the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use approx_data::{DataError, ImageSource, OnCorrupt, Preprocess, Split, cifar10, image_shards::ImageShards};

/// More than any of these takes, and less than a user would wait.
const LIMIT: Duration = Duration::from_secs(2);

fn damaged() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/damaged");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 6, "{files:?}");
    files
}

/// Damages of each file.
const SEEDS: u64 = 60;

/// All that can be read of a file as pictures.
fn read_shard(path: &Path) -> Result<usize, DataError> {
    let shards = ImageShards::open([path.to_owned()], 1000, Preprocess::IMAGENET, OnCorrupt::Skip, None)?;
    let batches = shards.batches(2);
    batches.into_iter().try_fold(0, |read, batch| Ok(read + shards.load(batch)?.labels.len()))
}

/// The same as a test set of CIFAR-10.
fn read_cifar10(path: &Path) -> Result<usize, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("plain_text/test/0000.parquet");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(path, place).unwrap();
    Ok(cifar10::load(folder.path(), Split::Test)?.len())
}

#[test]
fn damaged_files_are_errors_with_their_name_in_little_time() {
    for path in damaged() {
        for (what, read) in [("shard", read_shard as fn(&Path) -> _), ("CIFAR-10", read_cifar10)] {
            let start = Instant::now();
            let result: Result<usize, DataError> = read(&path);
            let time = start.elapsed();
            let error = result.unwrap_err().to_string();
            assert!(error.contains(".parquet: "), "{error}");
            assert!(time < LIMIT, "{} as {what}: {time:?}", path.display());
        }
    }
}

/// `len` bytes with some of them changed, some left out, or some twice: another damage for each `seed`.
fn damage(good: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut bytes = good.to_vec();
    for _ in 0..=random(4) {
        let at = random(bytes.len());
        let to = (at + 1 + random(32)).min(bytes.len());
        match random(4) {
            0 => bytes[at] ^= 1 << random(8),
            1 => bytes[at] = [0, 0x7f, 0x80, 0xff][random(4)],
            2 => drop(bytes.drain(at..to)),
            _ => drop(bytes.splice(at..at, bytes[at..to].to_vec())),
        }
    }
    bytes
}

#[test]
fn no_damage_makes_a_reader_panic_or_hang() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("validation-00000-of-00001.parquet");
    let hub = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hub");
    let whole = ["plain_text/test/0000.parquet", "cifar100/test/0000.parquet"].map(|file| hub.join(file));
    let (mut errors, mut slowest) = (0, Duration::ZERO);
    for file in whole.into_iter().chain(damaged()) {
        let (name, contents) = (file.display(), fs::read(&file).unwrap());
        for seed in 0..SEEDS {
            fs::write(&path, damage(&contents, seed)).unwrap();
            for read in [read_shard as fn(&Path) -> _, read_cifar10] {
                let start = Instant::now();
                let result: Result<usize, DataError> = read(&path);
                errors += u32::from(result.is_err());
                slowest = slowest.max(start.elapsed());
                assert!(start.elapsed() < LIMIT, "{name}, seed {seed}: {:?}", start.elapsed());
            }
        }
    }
    println!("{errors} errors; the slowest took {slowest:?}");
    assert!(errors > 10 * SEEDS as u32, "{errors}");
}
