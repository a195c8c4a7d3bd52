//! MNIST's files, good and hostile.

use std::fs;
use std::io::Write;
use std::path::Path;

use approx_data::idx::IdxFile;
use approx_data::{ImageSet, ImageSource, Split, fashion_mnist, mnist};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

/// A file of bytes in the IDX format.
fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let dims_of = dims.iter().flat_map(|dim| dim.to_be_bytes());
    [0, 0, 8, dims.len() as u8].into_iter().chain(dims_of).chain(values.iter().copied()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Pixels that all differ from their neighbours.
fn pixels(count: usize, seed: usize) -> Vec<u8> {
    (0..count * 784).map(|i| ((i * 7 + i / 28 * 3 + i / 784 * 31 + seed) % 256) as u8).collect()
}

fn labels(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 3 % 10) as u8).collect()
}

/// Images and labels as files.
fn part(count: usize, seed: usize) -> [Vec<u8>; 2] {
    [idx(&[count as u32, 28, 28], &pixels(count, seed)), idx(&[count as u32], &labels(count))]
}

const TEST: [&str; 2] = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
const TRAIN: [&str; 2] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];

fn write(folder: &TempDir, name: &str, bytes: &[u8]) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn error(folder: &Path) -> String {
    mnist::load(folder, Split::Test).unwrap_err().to_string()
}

type Load = fn(&Path, Split) -> approx_data::Result<ImageSet>;

#[test]
fn images_are_read_from_every_layout() {
    let loads: [(&str, Load); 2] = [
        ("MNIST", |folder, split| mnist::load(folder, split)),
        ("FashionMNIST", |folder, split| fashion_mnist::load(folder, split)),
    ];
    for (name, load) in loads {
        for base in ["".to_owned(), "raw/".to_owned(), format!("{name}/raw/")] {
            for packed in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                for (names, count, seed) in [(TRAIN, 12, 1), (TEST, 5, 2)] {
                    for (name, bytes) in names.iter().zip(part(count, seed)) {
                        match packed {
                            false => write(&folder, &format!("{base}{name}"), &bytes),
                            true => write(&folder, &format!("{base}{name}.gz"), &gzip(&bytes)),
                        }
                    }
                }
                for (split, count, seed) in [(Split::Train, 12, 1), (Split::Test, 5, 2)] {
                    let images = load(folder.path(), split).unwrap();
                    assert_eq!((images.len(), images.classes(), images.shape()), (count, 10, [1, 28, 28]));
                    let expected = pixels(count, seed);
                    for index in 0..count {
                        assert_eq!(images.image(index), &expected[index * 784..(index + 1) * 784]);
                        assert_eq!(images.labels()[index], (index * 3 % 10) as u16);
                    }
                }
            }
        }
    }
}

/// A file that was unpacked and kept its name, two members, and a plain file beside a packed one.
#[test]
fn what_a_file_is_called_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let [images, labels] = part(3, 0);
    write(&folder, &format!("{}.gz", TEST[0]), &images);
    write(&folder, TEST[1], &[gzip(&labels[..9]), gzip(&labels[9..])].concat());
    let read = mnist::load(folder.path(), Split::Test).unwrap();
    assert_eq!(read.image(2), &pixels(3, 0)[2 * 784..]);
    write(&folder, TEST[0], &part(3, 9)[0]);
    let read = mnist::load(folder.path(), Split::Test).unwrap();
    assert_eq!(read.image(0), &pixels(3, 9)[..784]);
    let empty = tempfile::tempdir().unwrap();
    part(0, 0).iter().zip(TEST).for_each(|(bytes, name)| write(&empty, name, bytes));
    assert!(mnist::load(empty.path(), Split::Test).unwrap().is_empty());
}

#[test]
fn folders_without_images_are_named() {
    assert_eq!(error(Path::new("/no/such")), "/no/such: no such folder");
    let folder = tempfile::tempdir().unwrap();
    let nothing = error(folder.path());
    let expected =
        "no MNIST test images here; looked for t10k-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz]";
    assert!(nothing.ends_with(expected), "{nothing}");
    for (name, bytes) in TEST.iter().zip(part(1, 0)) {
        write(&folder, &format!("FashionMNIST/raw/{name}"), &bytes);
    }
    assert!(error(folder.path()).ends_with("; what is here is Fashion-MNIST"));
    let train = fashion_mnist::load(folder.path(), Split::Train).unwrap_err().to_string();
    assert!(train.contains("no Fashion-MNIST train images here; looked for train-images"), "{train}");
    fs::rename(folder.path().join("FashionMNIST"), folder.path().join("MNIST")).unwrap();
    let other = fashion_mnist::load(folder.path(), Split::Test).unwrap_err().to_string();
    assert!(other.ends_with("; what is here is MNIST"), "{other}");
}

#[test]
fn files_that_do_not_fit_together_are_refused_with_the_numbers() {
    let good = part(3, 0);
    let mut label10 = good[1].clone();
    label10[9] = 10;
    let cases: [(Vec<u8>, Vec<u8>, &str); 6] = [
        (
            good[0].clone(),
            label10,
            "t10k-labels-idx1-ubyte: image 1 has the label 10, but labels go from 0 to 9",
        ),
        (part(4, 0)[0].clone(), good[1].clone(), "t10k-images-idx3-ubyte: has 4 images, but "),
        (good[0].clone(), part(4, 0)[1].clone(), "t10k-labels-idx1-ubyte has 4 labels"),
        (idx(&[3, 32, 32], &[0; 3072]), good[1].clone(), "the images are 32×32, not 28×28"),
        // Each in the other's place.
        (
            good[1].clone(),
            good[0].clone(),
            "the magic number is 0x00000801, not 0x00000803 of an IDX file of bytes in 3",
        ),
        (good[0].clone(), good[0].clone(), "the magic number is 0x00000803, not 0x00000801"),
    ];
    for (images, labels, expected) in cases {
        for packed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            for (name, bytes) in TEST.iter().zip([&images, &labels]) {
                match packed {
                    false => write(&folder, name, bytes),
                    true => write(&folder, name, &gzip(bytes)),
                }
            }
            let error = error(folder.path());
            assert!(error.contains(expected), "{error}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    write(&folder, TEST[0], &good[0]);
    assert!(error(folder.path()).contains("t10k-labels-idx1-ubyte: No such file"));
    fs::create_dir(folder.path().join(TEST[1])).unwrap();
    assert!(error(folder.path()).contains("t10k-labels-idx1-ubyte: Is a directory"));
}

/// The error of opening a file, or of reading its values.
fn refused(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "file", bytes);
    let read = IdxFile::<3>::open(folder.path().join("file")).and_then(IdxFile::values);
    let error = read.unwrap_err().to_string();
    error.strip_prefix(&format!("{}: ", folder.path().join("file").display())).unwrap().to_owned()
}

#[test]
fn every_truncation_is_an_error() {
    let file = idx(&[2, 3, 4], &(0..24).collect::<Vec<_>>());
    for length in 0..file.len() {
        let expected = match length {
            0..4 => format!("ends after {length} bytes, in the magic number of an IDX file"),
            4..16 => format!("ends after {length} bytes, in the header of 16"),
            _ => format!("has {} bytes after the header, but 2×3×4 values are 24", length - 16),
        };
        assert_eq!(refused(&file[..length]), expected);
        let inner = refused(&gzip(&file[..length]));
        match length {
            0..16 => assert_eq!(inner, expected),
            _ => assert_eq!(inner, format!("ends after {} of 2×3×4 = 24 values", length - 16)),
        }
    }
    let packed = gzip(&file);
    for length in 0..packed.len() {
        let error = refused(&packed[..length]);
        assert!(!error.is_empty(), "{length}");
    }
    // The checksum behind the values.
    let mut damaged = packed.clone();
    let place = damaged.len() - 8;
    damaged[place] ^= 1;
    assert!(refused(&damaged).contains("checksum"), "{}", refused(&damaged));
}

#[test]
fn more_than_the_header_promises_is_refused() {
    let file = [idx(&[2, 3, 4], &[1; 24]), vec![0]].concat();
    assert_eq!(refused(&file), "has 25 bytes after the header, but 2×3×4 values are 24");
    assert_eq!(refused(&gzip(&file)), "goes on after its 2×3×4 = 24 values");
    // 16 MiB of zeros behind a header of 24 bytes: no more than these are unpacked.
    let bomb = gzip(&[idx(&[2, 3, 4], &[]), vec![0; 1 << 24]].concat());
    assert!(bomb.len() < 100_000);
    assert_eq!(refused(&bomb), "goes on after its 2×3×4 = 24 values");
}

#[test]
fn headers_that_promise_what_no_file_holds_take_no_memory() {
    let largest = u32::MAX;
    let overflow = format!("{largest}×{largest}×{largest} values are more than memory can hold");
    let many =
        format!("{largest}×28×28 values are {} bytes, which cannot be packed in ", u64::from(largest) * 784);
    for (dims, plain, packed) in [
        ([largest; 3], overflow.as_str(), overflow.as_str()),
        ([largest, 28, 28], "has 0 bytes after the header, but ", &many),
        // What may be packed so small, but is not.
        (
            [20, 28, 28],
            "has 0 bytes after the header, but 20×28×28 values are 15680",
            "ends after 0 of 20×28×28",
        ),
    ] {
        let file = idx(&dims, &[]);
        assert!(refused(&file).starts_with(plain), "{}", refused(&file));
        assert!(refused(&gzip(&file)).starts_with(packed), "{}", refused(&gzip(&file)));
    }
}

#[test]
fn other_magic_numbers_are_refused() {
    for (magic, shown) in [
        ([0, 0, 8, 1], "0x00000801"),
        ([0, 0, 9, 3], "0x00000903"),
        ([0, 0, 13, 3], "0x00000d03"),
        ([0, 1, 8, 3], "0x00010803"),
        (*b"PK\x03\x04", "0x504b0304"),
        ([8, 3, 0, 0], "0x08030000"),
    ] {
        let file = [&magic[..], &[0; 40]].concat();
        let expected =
            format!("the magic number is {shown}, not 0x00000803 of an IDX file of bytes in 3 dimensions");
        assert_eq!(refused(&file), expected);
        assert_eq!(refused(&gzip(&file)), expected);
    }
}
