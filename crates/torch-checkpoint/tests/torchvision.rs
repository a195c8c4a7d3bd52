//! Checkpoints of real networks, where there are some; `fixtures/torchvision_checkpoints.py` writes them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use torch_checkpoint::Checkpoint;

/// The sum over all values of splitmix64(index · 2³² + bits), modulo 2⁶⁴: one that NumPy computes fast too.
fn checksum(values: &[f32]) -> u64 {
    let mix = |(index, value): (usize, &f32)| {
        let mut z = ((index as u64) << 32 | u64::from(value.to_bits())).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    values.iter().enumerate().map(mix).fold(0, u64::wrapping_add)
}

/// Name, type, shape and checksum of each tensor, and how long reading took.
fn summary(path: &Path) -> (BTreeMap<String, String>, usize, Duration) {
    let (mut lines, mut values_read, mut time) = (BTreeMap::new(), 0, Duration::ZERO);
    let start = Instant::now();
    let checkpoint = Checkpoint::open(path).unwrap();
    time += start.elapsed();
    for tensor in checkpoint.tensors() {
        let sizes: Vec<_> = tensor.shape.iter().map(usize::to_string).collect();
        let mut line = format!("{} [{}]", tensor.dtype, sizes.join(","));
        if tensor.dtype.is_float() {
            let start = Instant::now();
            let values = checkpoint.read_f32(&tensor.name).unwrap();
            time += start.elapsed();
            values_read += values.len();
            write!(line, " {:016x}", checksum(&values)).unwrap();
        }
        lines.insert(tensor.name.clone(), line);
    }
    (lines, values_read, time)
}

#[test]
fn torchvision_checkpoints_are_read_as_by_pytorch() {
    let Some(folder) = std::env::var_os("TORCHVISION_CHECKPOINTS").map(PathBuf::from) else {
        println!("skipped: TORCHVISION_CHECKPOINTS names no folder");
        return;
    };
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pth"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no .pth files", folder.display());
    for path in paths {
        let expected = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        let expected: BTreeMap<_, _> = expected
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
            .collect();
        let (found, values, time) = summary(&path);
        assert_eq!(found, expected, "{}", path.display());
        println!(
            "{}: {} tensors, {values} floats in {:.3} s",
            path.display(),
            found.len(),
            time.as_secs_f64()
        );
    }
}

#[test]
fn the_checksum_is_that_of_splitmix64_and_tells_order() {
    // The first number of splitmix64 with the seed 0.
    assert_eq!(checksum(&[0.0]), 0xe220_a839_7b1d_cdaf);
    assert_ne!(checksum(&[1.0, 2.0]), checksum(&[2.0, 1.0]));
}
