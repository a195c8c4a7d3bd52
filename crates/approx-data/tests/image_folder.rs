//! Pictures in class folders.

use std::fs;
use std::path::{Path, PathBuf};

use approx_data::{DataError, ImageFiles, ImageSource, OnCorrupt, Preprocess, Split, image_folder};
use tempfile::TempDir;

/// A folder with a copy of a picture under each of these names.
fn folder(names: &[&str]) -> TempDir {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/preprocess/small.png");
    let picture = fs::read(picture).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &picture).unwrap();
    }
    folder
}

fn open(folder: &Path, split: Split, limit: Option<usize>) -> Result<ImageFiles, DataError> {
    image_folder::open(folder, split, Preprocess::new(8, 8).unwrap(), OnCorrupt::Fail, limit)
}

/// The images as they were found: relative to `base`, with their labels.
fn found(files: &ImageFiles, base: &Path) -> Vec<(String, u16)> {
    let relative = |path: &PathBuf| path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
    files.files().iter().map(|(path, label)| (relative(path), *label)).collect()
}

#[test]
fn classes_are_numbered_in_the_order_of_torchvision() {
    // By code points: capitals first. Synsets are names like all others.
    let names =
        ["cat/2.png", "cat/10.png", "Zebra/a.png", "n02105855/sub/x.png", "n02105855/b.JPEG", ".git/a.png"];
    let folder = folder(&names);
    let files = open(folder.path(), Split::Test, None).unwrap();
    let expected = [
        ("Zebra/a.png", 0),
        ("cat/10.png", 1),
        ("cat/2.png", 1),
        ("n02105855/b.JPEG", 2),
        ("n02105855/sub/x.png", 2),
    ];
    assert_eq!(found(&files, folder.path()), expected.map(|(name, label)| (name.to_owned(), label)));
    assert_eq!((files.classes(), files.shape()), (3, [3, 8, 8]));
    let batch = files.load(0..5).unwrap();
    assert_eq!((batch.labels, batch.pixels.len()), (vec![0, 1, 1, 2, 2], 5 * 3 * 8 * 8));
}

#[test]
fn each_split_has_a_folder() {
    let folder = folder(&["train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/2.png", "test/a/3.png"]);
    for (split, place) in [(Split::Train, "train"), (Split::Test, "val")] {
        let files = open(folder.path(), split, None).unwrap();
        let first = &found(&files, folder.path())[0].0;
        assert!(first.starts_with(&format!("{place}/a/")), "{first}");
    }
    fs::remove_dir_all(folder.path().join("val")).unwrap();
    let files = open(folder.path(), Split::Test, None).unwrap();
    assert_eq!(found(&files, folder.path()), [("test/a/3.png".to_owned(), 0)]);
}

#[test]
fn a_limit_takes_images_of_all_classes() {
    let names: Vec<String> = (0..12).map(|i| format!("{}/{i:02}.png", ["a", "b", "c"][i / 4])).collect();
    let folder = folder(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (limit, expected) in
        [(3, [0, 4, 8].as_slice()), (5, &[0, 2, 4, 7, 9]), (12, &[0, 1, 2, 3]), (50, &[0])]
    {
        let files = open(folder.path(), Split::Test, Some(limit)).unwrap();
        assert_eq!(files.len(), limit.min(12));
        let found = found(&files, folder.path());
        let expected: Vec<&String> = expected.iter().map(|&i| &names[i]).collect();
        let found: Vec<&String> = found.iter().take(expected.len()).map(|(name, _)| name).collect();
        assert_eq!(found, expected, "{limit}");
    }
}

#[test]
fn folders_without_classes_are_errors_that_say_what_is_there() {
    for (names, split, expected) in [
        (
            &["1.png", "2.png", "notes.txt"][..],
            Split::Test,
            "no class folders with test images here: 0 folders, 2 pictures (1.png, …), 1 other files; looked for a \
             folder for each class in `val`, `validation`, `test` or in the folder itself",
        ),
        (
            &["train/a/1.png"],
            Split::Test,
            "no class folders with test images here: 1 folders (train), 0 pictures",
        ),
        (
            &["val/a/1.png"],
            Split::Train,
            "1 folders (val), 0 pictures, 0 other files; looked for a folder for each class in `train`",
        ),
        (
            &["val/1.png"],
            Split::Test,
            "val: no class folders with test images here: 0 folders, 1 pictures (1.png)",
        ),
        (
            &["a/1.png", "b/notes.txt"],
            Split::Test,
            "b: a class folder without images; looked for files that end",
        ),
    ] {
        let folder = folder(names);
        let error = open(folder.path(), split, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = open(Path::new("/no/such"), Split::Test, None).unwrap_err().to_string();
    assert_eq!(error, "/no/such: no such folder");
}
