//! ImageNet's layouts, good and bad. Pictures are of one colour, so that pixels tell which is which.

use std::fs;
use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};

use approx_data::imagenet::{Layout, synsets};
use approx_data::{ImageNet, ImageSource, OnCorrupt, Preprocess, RawBatch, Split};
use image::{ImageFormat, RgbImage};
use tempfile::TempDir;

const TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
const DEVKIT: &str = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt";
const KAGGLE: &str = "LOC_val_solution.csv";

enum Entry<'a> {
    Picture(u8),
    Text(&'a str),
    Bytes(&'a [u8]),
    Folder,
}
use Entry::{Bytes, Folder, Picture, Text};

fn picture(value: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(3, 2, image::Rgb([value; 3])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn folder(entries: &[(&str, Entry)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, entry) in entries {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry {
            Picture(value) => fs::write(path, picture(*value)).unwrap(),
            Text(text) => fs::write(path, text).unwrap(),
            Bytes(bytes) => fs::write(path, bytes).unwrap(),
            Folder => fs::create_dir_all(path).unwrap(),
        }
    }
    folder
}

fn open(
    folder: &Path,
    on_corrupt: OnCorrupt,
    limit: Option<usize>,
) -> Result<ImageNet, approx_data::DataError> {
    ImageNet::open(folder, Split::Test, Preprocess::new(5, 4).unwrap(), on_corrupt, limit)
}

/// The colour and the label of each image.
fn summary(batch: &RawBatch) -> Vec<(u8, u16)> {
    assert_eq!(batch.pixels.len(), batch.labels.len() * 3 * 4 * 4);
    let colour = |image: &[u8]| {
        assert!(image.iter().all(|p| *p == image[0]));
        image[0]
    };
    batch.pixels.chunks(48).map(colour).zip(batch.labels.iter().copied()).collect()
}

fn all(images: &ImageNet) -> Vec<(u8, u16)> {
    assert_eq!(images.shape(), [3, 4, 4]);
    summary(&images.load(0..images.len()).unwrap())
}

#[test]
fn every_layout_gives_its_images_in_order_with_their_labels() {
    type Case<'a> = (&'a str, &'a [(&'a str, Entry<'a>)], Layout, usize, &'a [(u8, u16)]);
    let val1 = "val/ILSVRC2012_val_00000001.JPEG";
    let cases: [Case; 11] = [
        (
            "folders of unknown names are numbered in order, files sorted as torchvision sorts them",
            &[
                ("val/b/2.png", Picture(2)),
                ("val/b/10.JPeG", Picture(1)),
                ("val/b/.hidden.png", Text("")),
                ("val/b/notes.txt", Text("")),
                ("val/b/x/1.png", Picture(3)),
                ("val/B/z.Png", Picture(0)),
                ("val/c/y.bmp", Picture(6)),
                ("val/c/a.d/1.jpg", Picture(5)),
                ("val/c/a/1.jpg", Picture(4)),
                ("val/.ipynb_checkpoints/1.jpg", Picture(9)),
                ("val/read.me", Text("")),
                ("train/a/1.jpg", Picture(9)),
            ],
            Layout::ClassFolders,
            3,
            &[(0, 0), (1, 1), (2, 1), (3, 1), (6, 2), (4, 2), (5, 2)],
        ),
        (
            "synsets have their true labels, without `val` too",
            &[
                ("n15075141/1.png", Picture(2)),
                ("n01440764/1.png", Picture(0)),
                ("n01751748/1.png", Picture(1)),
            ],
            Layout::ClassFolders,
            1000,
            &[(0, 0), (1, 65), (2, 999)],
        ),
        (
            "a csv beside class folders is not needed",
            &[("val/n01440764/1.png", Picture(0)), (KAGGLE, Text("ImageId,PredictionString\nno,no\n"))],
            Layout::ClassFolders,
            1000,
            &[(0, 0)],
        ),
        (
            "image N has line N of the ground truth",
            &[
                ("val/ILSVRC2012_val_00000004.JPEG", Picture(4)),
                ("val/ILSVRC2012_val_00000002.JPEG", Picture(2)),
                (val1, Picture(1)),
                (DEVKIT, Text("490\n361\n171\r\n1\n1000\n\n")),
            ],
            Layout::GroundTruth,
            1000,
            &[(1, 65), (2, 970), (4, 278)],
        ),
        (
            "the ground truth may be in the same folder",
            &[("ILSVRC2012_val_00000001.JPEG", Picture(1)), (TRUTH, Text("490"))],
            Layout::GroundTruth,
            1000,
            &[(1, 65)],
        ),
        (
            "or in data",
            &[(val1, Picture(1)), ("data/ILSVRC2012_validation_ground_truth.txt", Text("490\n"))],
            Layout::GroundTruth,
            1000,
            &[(1, 65)],
        ),
        (
            "csv without a header",
            &[
                ("val/a.png", Picture(0)),
                ("val/b.png", Picture(1)),
                ("val/not named.png", Picture(9)),
                ("val.csv", Text("n01751748,b.png\r\nn01440764, a.png\r\n\r\n")),
                ("train.csv", Text("")),
            ],
            Layout::Csv,
            1000,
            &[(1, 65), (0, 0)],
        ),
        (
            "csv with a header, quotes, another column and folders",
            &[
                ("x/a.png", Picture(0)),
                ("b.png", Picture(1)),
                (
                    "labels.csv",
                    Text(
                        "\u{feff}FileName,split,\"WNID\"\nb.png,val,n01751748\n\"x/a.png\",val,\"n01440764\"\n",
                    ),
                ),
            ],
            Layout::Csv,
            1000,
            &[(1, 65), (0, 0)],
        ),
        (
            "Kaggle's csv and folders",
            &[
                ("ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG", Picture(2)),
                ("ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG", Picture(1)),
                ("LOC_train_solution.csv", Text("")),
                (
                    KAGGLE,
                    Text(
                        "ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 85 1 499 272 n01440764 1 2 3 4 \n\
                         ILSVRC2012_val_00000001,n15075141 131 0 499 254 \n",
                    ),
                ),
            ],
            Layout::Csv,
            1000,
            &[(2, 0), (1, 999)],
        ),
        (
            "folders within a class belong to it",
            &[("val/n01440764/1.png", Picture(0)), ("val/n01440764/more/2.png", Picture(1))],
            Layout::ClassFolders,
            1000,
            &[(0, 0), (1, 0)],
        ),
        (
            "the ground truth goes before a csv",
            &[(val1, Picture(1)), (TRUTH, Text("490")), ("labels.csv", Text("n01440764,1.png"))],
            Layout::GroundTruth,
            1000,
            &[(1, 65)],
        ),
    ];
    for (name, entries, layout, classes, expected) in cases {
        let folder = folder(entries);
        let images = open(folder.path(), OnCorrupt::Fail, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            (images.layout(), images.classes(), images.len()),
            (layout, classes, expected.len()),
            "{name}"
        );
        assert_eq!(all(&images), expected, "{name}");
        let limited = open(folder.path(), OnCorrupt::Fail, Some(1)).unwrap();
        assert_eq!((limited.len(), all(&limited)), (1, expected[..1].to_vec()), "{name}");
        assert_eq!(all(&images.truncated(1)), expected[..1], "{name}");
    }
}

#[test]
fn beside_the_folder_only_the_ground_truth_is_looked_for() {
    let image = ("val/ILSVRC2012_val_00000001.JPEG", Picture(1));
    let outer = folder(&[image, (TRUTH, Text("490")), ("labels.csv", Text("n01440764,1.png"))]);
    let val = outer.path().join("val");
    assert_eq!(all(&open(&val, OnCorrupt::Fail, None).unwrap()), [(1, 65)]);
    fs::remove_file(outer.path().join(TRUTH)).unwrap();
    let error = open(&val, OnCorrupt::Fail, None).err().unwrap().to_string();
    assert!(error.contains("0 folders, 1 pictures (ILSVRC2012_val_00000001.JPEG), 0 other files"), "{error}");
}

#[cfg(unix)]
#[test]
fn linked_folders_are_classes() {
    let target = folder(&[("1.png", Picture(7))]);
    let folder = folder(&[("val", Folder)]);
    std::os::unix::fs::symlink(target.path(), folder.path().join("val/n01440764")).unwrap();
    assert_eq!(all(&open(folder.path(), OnCorrupt::Fail, None).unwrap()), [(7, 0)]);
}

#[test]
fn all_synsets_as_folders_are_the_thousand_classes() {
    let names: Vec<String> = synsets().iter().map(|synset| format!("{synset}/1.png")).collect();
    let entries: Vec<_> =
        names.iter().zip(0..).map(|(name, i)| (&**name, Picture((i % 256) as u8))).collect();
    let folder = folder(&entries);
    let images = open(folder.path(), OnCorrupt::Fail, None).unwrap();
    assert_eq!(all(&images), (0..1000).map(|i| ((i % 256) as u8, i as u16)).collect::<Vec<_>>());
}

#[test]
fn bad_folders_are_named_with_what_is_there() {
    type Case<'a> = (&'a [(&'a str, Entry<'a>)], &'a [&'a str]);
    let val1 = "val/ILSVRC2012_val_00000001.JPEG";
    let cases: [Case; 19] = [
        (
            &[],
            &[
                "no ImageNet validation images here: 0 folders, 0 pictures, 0 other files",
                "looked for class folders",
            ],
        ),
        (
            &[("1.jpg", Picture(0)), ("2.jpg", Picture(0)), ("x.txt", Text(""))],
            &[
                "0 folders, 2 pictures (1.jpg, …), 1 other files",
                TRUTH,
                KAGGLE,
                "validation-00000-of-00014.parquet",
            ],
        ),
        (&[("train/n01440764/1.png", Picture(0))], &["1 folders (train)"]),
        (
            &[("val/a/1.png", Picture(0)), ("val/b/x.txt", Text(""))],
            &["val/b: a class folder without images", "jpg"],
        ),
        (
            &[("n01440764/1.png", Picture(0)), ("n01751748/1.png", Picture(0)), ("cat/1.png", Picture(0))],
            &["2 of the 3 class folders are among ImageNet's 1000 synsets, but `cat` is not"],
        ),
        (&[(val1, Picture(0)), (TRUTH, Text("1\n\nx\n"))], &[TRUTH, "line 2: `` is not an ILSVRC2012_ID"]),
        (
            &[(val1, Picture(0)), (TRUTH, Text("1\n1001\n"))],
            &["line 2: `1001` is not an ILSVRC2012_ID, 1 to 1000"],
        ),
        (&[(val1, Picture(0)), (TRUTH, Text("0\n"))], &["line 1: `0`"]),
        (
            &[("val/ILSVRC2012_val_00000003.JPEG", Picture(0)), (TRUTH, Text("1\n2\n"))],
            &["ILSVRC2012_val_00000003.JPEG: ", "has no label for it: it ends at line 2"],
        ),
        (
            &[(val1, Picture(0)), ("val/cat.JPEG", Picture(0)), (TRUTH, Text("1\n2\n"))],
            &["cat.JPEG: ", "it is not called ILSVRC2012_val_"],
        ),
        (
            &[
                ("a.png", Picture(0)),
                ("val.csv", Text("n01440764,a.png\nn01440764,b.png\nn01440764,c/d.png\n")),
            ],
            &["val.csv: 2 of its images are not in", "the first is b.png"],
        ),
        (
            &[("a.png", Picture(0)), ("val.csv", Text("n00000001,a.png\n"))],
            &["val.csv: line 1: `n00000001` is not among"],
        ),
        (
            &[("a.png", Picture(0)), ("val.csv", Text("file,synset\na.png,cat\n"))],
            &["line 2: `cat` is not among ImageNet's 1000 synsets"],
        ),
        (
            &[("a.png", Picture(0)), ("val.csv", Text("file,synset\na.png\n"))],
            &["line 2: has 1 fields, not 2"],
        ),
        (
            &[("a.png", Picture(0)), ("a.csv", Text("")), ("b.csv", Text(""))],
            &["2 csv files (a.csv, b.csv, …)", "one with `val` in its name"],
        ),
        (
            &[
                ("data/validation-00000-of-00002.parquet", Text("")),
                ("data/validation-00000-of-00003.parquet", Text("")),
            ],
            &["parquet files of two data sets, of 00002 and of 00003"],
        ),
        (&[("validation-00000-of-00001.parquet", Text("hello"))], &["validation-00000-of-00001.parquet: "]),
        (
            &[("validation-00001-of-00002.parquet", Text(""))],
            &["validation-00000-of-00002.parquet: No such file"],
        ),
        (&[("val/a", Folder), ("val/b", Folder)], &["val/a: a class folder without images"]),
    ];
    for (entries, expected) in cases {
        let folder = folder(entries);
        let error = open(folder.path(), OnCorrupt::Skip, None).err().expect(expected[0]).to_string();
        assert!(error.starts_with(&*folder.path().to_string_lossy()), "{error}");
        for expected in expected {
            assert!(error.contains(expected), "{error}: {expected}");
        }
    }
    let error = open(Path::new("/no/such"), OnCorrupt::Fail, None).err().unwrap().to_string();
    assert_eq!(error, "/no/such: no such folder");
}

#[test]
fn an_image_that_cannot_be_decoded_is_named_or_skipped() {
    let good = picture(1);
    let cases: [(&str, &[u8], &str); 6] = [
        ("torn.png", &good[..good.len() - 30], ""),
        ("empty.jpg", b"", "is an empty file"),
        (
            "text.jpg",
            b"hello, I am no picture",
            "is not a picture that is read; JPEG, PNG, WebP, BMP and PNM are",
        ),
        ("scan.tif", b"II*\0\x08\0\0\0\0\0\0\0\0\0", "is Tiff, which is not read"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01", "is cut short"),
        ("huge.bmp", &huge_bmp(), "is 60000×60000, but at most 178956970 pixels are read"),
    ];
    for (name, bytes, expected) in cases {
        let (file, torn) = (format!("val/b/{name}"), Bytes(bytes));
        let folder =
            folder(&[("val/a/1.png", Picture(1)), ("val/c/3.png", Picture(3)), (file.as_str(), torn)]);
        let error = open(folder.path(), OnCorrupt::Fail, None).unwrap().load(0..3).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");

        let images = open(folder.path(), OnCorrupt::Skip, None).unwrap();
        let batch = images.load(0..3).unwrap();
        assert_eq!(summary(&batch), [(1, 0), (3, 2)]);
        assert_eq!(batch.skipped.len(), 1);
        assert!(batch.skipped[0].name.ends_with(name) && batch.skipped[0].reason.contains(expected));
        assert_eq!(summary(&images.load(2..3).unwrap()), [(3, 2)]);
        // That it is not there is no matter of decoding.
        fs::remove_file(folder.path().join(&file)).unwrap();
        let error = images.load(0..3).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}: No such file")), "{error}");
    }
}

/// The head of a picture of 60000×60000 pixels.
fn huge_bmp() -> Vec<u8> {
    let mut bytes = vec![0; 100];
    bytes[..2].copy_from_slice(b"BM");
    for (at, value) in [(10, 54), (14, 40), (18, 60_000), (22, 60_000), (26, 1 + (24 << 16))] {
        bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    bytes
}

fn shards() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/imagenet")
}

/// The shards with these numbers, in `data`.
fn shard_folder(numbers: Range<usize>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    for i in numbers {
        let name = format!("validation-{i:05}-of-00003.parquet");
        fs::copy(shards().join(&name), folder.path().join("data").join(&name)).unwrap();
    }
    folder
}

const SHARDS: [(u8, u16); 10] =
    [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 7), (6, 999), (7, 5), (8, 8), (9, 9)];

#[test]
fn parquet_files_give_any_range_in_any_order() {
    let folder = shard_folder(0..3);
    for folder in [folder.path().to_owned(), folder.path().join("data")] {
        let images = open(&folder, OnCorrupt::Fail, None).unwrap();
        assert_eq!((images.layout(), images.classes(), images.len()), (Layout::Parquet, 1000, 10));
        assert_eq!(all(&images), SHARDS);
        for size in [1, 2, 3, 4, 7] {
            for range in images.batches(size) {
                assert_eq!(summary(&images.load(range.clone()).unwrap()), SHARDS[range]);
            }
        }
        for start in (0..=10).rev() {
            for end in start..=10 {
                assert_eq!(summary(&images.load(start..end).unwrap()), SHARDS[start..end]);
            }
        }
        let first = images.truncated(6);
        assert_eq!(all(&first), SHARDS[..6]);
    }
}

#[test]
fn a_limit_does_not_need_the_parquet_files_behind_it() {
    let folder = shard_folder(0..2);
    let limited = |limit| open(folder.path(), OnCorrupt::Fail, limit);
    for limit in [0, 1, 5, 8] {
        assert_eq!(all(&limited(Some(limit)).unwrap()), SHARDS[..limit]);
    }
    for limit in [Some(9), None] {
        let error = limited(limit).err().unwrap().to_string();
        assert!(error.contains("data/validation-00002-of-00003.parquet: No such file"), "{error}");
    }
}

#[test]
fn bad_parquet_files_are_named() {
    let only = |file: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(shards().join(file), folder.path().join("validation-00000-of-00001.parquet")).unwrap();
        folder
    };
    for (file, expected) in [
        ("unlabelled.parquet", "image 1 has the label -1, but labels go from 0 to 999"),
        ("null.parquet", "row 1 has no label"),
        ("int32.parquet", "the column `label` is of type INT32, not INT64"),
        ("../other/label.parquet", "there is no column `image.bytes`"),
    ] {
        let error = open(only(file).path(), OnCorrupt::Skip, None).err().unwrap().to_string();
        assert!(error.contains("validation-00000-of-00001.parquet: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    let zstd = only("zstd.parquet");
    let error = open(zstd.path(), OnCorrupt::Skip, None).err().unwrap().to_string();
    assert!(error.contains("validation-00000-of-00001.parquet") && error.contains("zstd"), "{error}");

    let torn = only("torn.parquet");
    let images = open(torn.path(), OnCorrupt::Fail, None).unwrap();
    let error = images.load(0..4).unwrap_err().to_string();
    assert!(error.contains("validation-00000-of-00001.parquet: image 1 (1.JPEG): "), "{error}");
    let error = images.load(2..3).unwrap_err().to_string();
    assert!(error.contains("image 2 (2.JPEG): holds no picture"), "{error}");
    let batch = open(torn.path(), OnCorrupt::Skip, None).unwrap().load(0..4).unwrap();
    assert_eq!(summary(&batch), [(0, 0), (3, 3)]);
    assert_eq!(batch.skipped.iter().map(|s| s.reason.is_empty()).collect::<Vec<_>>(), [false, false]);
}

#[test]
fn training_images_are_in_folders_and_files_of_their_own() {
    let train = |folder: &Path| {
        ImageNet::open(folder, Split::Train, Preprocess::new(5, 4).unwrap(), OnCorrupt::Fail, None)
    };
    let folders = folder(&[
        ("train/n15075141/1.png", Picture(2)),
        ("train/n01440764/1.png", Picture(1)),
        ("val/n01440764/1.png", Picture(9)),
    ]);
    let images = train(folders.path()).unwrap();
    assert_eq!((all(&images), images.layout()), (vec![(1, 0), (2, 999)], Layout::ClassFolders));
    assert_eq!(all(&open(folders.path(), OnCorrupt::Fail, None).unwrap()), [(9, 0)]);

    let shards = folder(&[]);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/imagenet");
    for index in 0..3 {
        let name = format!("-{index:05}-of-00003.parquet");
        fs::copy(fixtures.join(format!("validation{name}")), shards.path().join(format!("train{name}")))
            .unwrap();
    }
    let images = train(shards.path()).unwrap();
    assert_eq!((images.len(), images.layout()), (10, Layout::Parquet));
    for (folder, split) in [(&shards, "validation"), (&folder(&[("val/a/1.png", Picture(0))]), "training")] {
        let opened = if split == "training" {
            train(folder.path())
        } else {
            open(folder.path(), OnCorrupt::Fail, None)
        };
        let error = opened.err().unwrap().to_string();
        assert!(error.contains(&format!("no ImageNet {split} images here: ")), "{error}");
    }
}
