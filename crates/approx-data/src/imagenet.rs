//! The validation images of ImageNet (O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge",
//! IJCV 2015) as they lie in a user's folder.
//!
//! | layout | what is in the folder |
//! |---|---|
//! | class folders | `val/n01440764/*.JPEG`, …, or the class folders themselves |
//! | devkit | `val/ILSVRC2012_val_00000001.JPEG`, … and `ILSVRC2012_validation_ground_truth.txt` |
//! | csv | `val/*.JPEG` and a csv of `synset,file`, or Kaggle's `LOC_val_solution.csv` |
//! | parquet | `data/validation-00000-of-00014.parquet`, … of the Hugging Face Hub's `ILSVRC/imagenet-1k` |
//!
//! `val/` may be left out, or be Kaggle's `ILSVRC/Data/CLS-LOC/val/`. Files whose names begin with a dot are
//! ignored. Training images are read from class folders in `train/` and from `data/train-….parquet`.
//!
//! # Labels
//! A label is the place of an image's synset among the 1000 sorted ones: what pretrained networks speak of. That
//! goes for class folders too, when all are named by such synsets, even if there are fewer than 1000 (Imagenette).
//! Folders of other names are numbered in sorted order, like torchvision's `ImageFolder` does.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::error::{DataError, Result};
use crate::folders::{self, Listing};
use crate::image_files::ImageFiles;
use crate::image_shards::ImageShards;
use crate::preprocess::Preprocess;
use crate::source::{ImageSource, OnCorrupt, RawBatch, Split};

/// How many classes.
pub const CLASSES: usize = 1000;

const GROUND_TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
const KAGGLE_CSV: &str = "LOC_val_solution.csv";
const KAGGLE_IMAGES: &str = "ILSVRC/Data/CLS-LOC/val";
const KAGGLE_TRAIN: &str = "ILSVRC/Data/CLS-LOC/train";

/// By `ILSVRC2012_ID` − 1.
static BY_ID: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let lines = include_str!("imagenet_synsets.txt").lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).collect()
});

static SORTED: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let mut sorted = BY_ID.clone();
    sorted.sort_unstable();
    sorted
});

/// The 1000 synsets (WordNet ids such as `n01440764`) by label.
pub fn synsets() -> &'static [&'static str] {
    &SORTED
}

/// The label of a synset; `None` if it is not among the 1000.
pub fn label_of(synset: &str) -> Option<u16> {
    SORTED.binary_search(&synset).ok().map(|index| index as u16)
}

/// The synset with this `ILSVRC2012_ID`, 1 to 1000: the development kit's number, which is not the label.
pub fn synset_of_id(id: usize) -> Option<&'static str> {
    BY_ID.get(id.checked_sub(1)?).copied()
}

/// How images and labels lie in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A folder for each class.
    ClassFolders,
    /// One folder, with the development kit's `ILSVRC2012_validation_ground_truth.txt`.
    GroundTruth,
    /// One folder, with a csv file.
    Csv,
    /// Parquet files.
    Parquet,
}

/// ImageNet's validation images, decoded when they are asked for.
pub struct ImageNet {
    images: Images,
    layout: Layout,
}

enum Images {
    Files(ImageFiles),
    Shards(Box<ImageShards>),
}

impl ImageNet {
    /// Finds images and labels of a split in `folder`, of which the first `limit` are enough, and checks that all are
    /// there. Training images may lie in class folders and parquet files, in `train` instead of `val`.
    ///
    /// # Errors
    /// [`DataError`]: no such folder or none of the layouts, a class folder without images, an unknown synset,
    /// images without labels or labels without images, a parquet file that is missing or has other columns.
    pub fn open(
        folder: impl AsRef<Path>,
        split: Split,
        preprocess: Preprocess,
        on_corrupt: OnCorrupt,
        limit: Option<usize>,
    ) -> Result<Self> {
        let folder = folder.as_ref();
        if !folder.is_dir() {
            return Err(DataError::MissingFolder(folder.to_owned()));
        }
        let (images, layout) = match find_shards(folder, split)? {
            Some(paths) => {
                let shards = ImageShards::open(paths, CLASSES, preprocess, on_corrupt, limit)?;
                (Images::Shards(Box::new(shards)), Layout::Parquet)
            }
            None => {
                let Found { mut files, classes, layout } = find_files(folder, split, limit)?;
                files.truncate(limit.unwrap_or(usize::MAX));
                (Images::Files(ImageFiles::new(files, classes, preprocess, on_corrupt)), layout)
            }
        };
        Ok(Self { images, layout })
    }

    /// How they lie in the folder.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The same without all images but the first `limit`.
    #[must_use]
    pub fn truncated(self, limit: usize) -> Self {
        let images = match self.images {
            Images::Files(files) => Images::Files(files.truncated(limit)),
            Images::Shards(shards) => Images::Shards(Box::new(shards.truncated(limit))),
        };
        Self { images, ..self }
    }

    fn source(&self) -> &dyn ImageSource {
        match &self.images {
            Images::Files(files) => files,
            Images::Shards(shards) => &**shards,
        }
    }
}

impl ImageSource for ImageNet {
    fn len(&self) -> usize {
        self.source().len()
    }

    fn classes(&self) -> usize {
        self.source().classes()
    }

    fn shape(&self) -> [usize; 3] {
        self.source().shape()
    }

    fn load(&self, range: Range<usize>) -> Result<RawBatch> {
        self.source().load(range)
    }

    fn identify(&self, consume: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.source().identify(consume)
    }
}

/// Picture files with their labels.
struct Found {
    files: Vec<(PathBuf, u16)>,
    classes: usize,
    layout: Layout,
}

/// The parquet files in `folder/data` or `folder`, if there is one: all that there should be.
fn find_shards(folder: &Path, split: Split) -> Result<Option<Vec<PathBuf>>> {
    for base in [folder.join("data"), folder.to_owned()] {
        if !base.is_dir() {
            continue;
        }
        let listing = Listing::of(&base)?;
        let mut counts: Vec<&str> =
            listing.files.iter().filter_map(|name| shard_count(name, split)).collect();
        counts.dedup();
        match *counts {
            [] => {}
            [count] => {
                let paths = (0..count.parse().unwrap_or(0)).map(|index: usize| {
                    base.join(format!("{}-{index:05}-of-{count}.parquet", shard_prefix(split)))
                });
                return Ok(Some(paths.collect()));
            }
            [one, other, ..] => {
                return Err(DataError::NoImageNet {
                    split,
                    folder: base,
                    found: format!("parquet files of two data sets, of {one} and of {other}"),
                    looked_for: "those of one".to_owned(),
                });
            }
        }
    }
    Ok(None)
}

/// What names of parquet files begin with.
fn shard_prefix(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Test => "validation",
    }
}

/// `00014` of `validation-00003-of-00014.parquet`.
fn shard_count(name: &str, split: Split) -> Option<&str> {
    let name = name.strip_prefix(shard_prefix(split))?.strip_prefix('-')?;
    let (index, count) = name.strip_suffix(".parquet")?.split_once("-of-")?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(index) && is_number(count)).then_some(count)
}

fn find_files(folder: &Path, split: Split, limit: Option<usize>) -> Result<Found> {
    let (inner, kaggle) = match split {
        Split::Train => ("train", KAGGLE_TRAIN),
        Split::Test => ("val", KAGGLE_IMAGES),
    };
    let base = [folder.join(inner), folder.join(kaggle)].into_iter().find(|base| base.is_dir());
    let Some(base) = base.or_else(|| (split == Split::Test).then(|| folder.to_owned())) else {
        return Err(DataError::NoImageNet {
            split,
            folder: folder.to_owned(),
            found: Listing::of(folder)?.to_string(),
            looked_for: "class folders in `train`; or data/train-00000-of-00294.parquet".to_owned(),
        });
    };
    let listing = Listing::of(&base)?;
    let pictures: Vec<&str> = listing.pictures().collect();
    if split == Split::Test && !pictures.is_empty() {
        let places = [folder, &base];
        // Its name says what it is, so it may be outside the folder.
        let around = places.into_iter().chain(base.parent());
        if let Some(truth) = find_ground_truth(around)
            && pictures.iter().any(|picture| number(picture).is_some())
        {
            return ground_truth_files(&base, &pictures, &truth, limit);
        }
        if let Some(csv) = find_csv(places)? {
            return csv_files(&base, &pictures, &csv, limit);
        }
    }
    // Folders of a data set's parts are no classes.
    if !listing.folders.is_empty() && !listing.folders.iter().any(|name| name == "train" || name == "test") {
        return class_files(&base, &listing.folders);
    }
    Err(DataError::NoImageNet {
        split,
        folder: base,
        found: listing.to_string(),
        looked_for: format!(
            "class folders in `{inner}`; or pictures with {GROUND_TRUTH} (also in ILSVRC2012_devkit_t12/data), \
             {KAGGLE_CSV} or another csv of synset,file; or data/validation-00000-of-00014.parquet"
        ),
    })
}

/// Class folders, numbered like ImageNet's if that is what they are.
fn class_files(base: &Path, classes: &[String]) -> Result<Found> {
    let known = classes.iter().filter(|name| label_of(name).is_some()).count();
    let unknown = classes.iter().find(|name| label_of(name).is_none());
    if let (1.., Some(unknown)) = (known, unknown) {
        let (folder, count, unknown) = (base.to_owned(), classes.len(), unknown.clone());
        return Err(DataError::MixedClasses { folder, known, count, unknown });
    }
    let files = folders::class_files(base, classes, label_of)?;
    let classes = if known > 0 { CLASSES } else { classes.len() };
    Ok(Found { files, classes, layout: Layout::ClassFolders })
}

/// The number in `ILSVRC2012_val_00000017.JPEG`.
fn number(picture: &str) -> Option<usize> {
    let (number, _) = picture.strip_prefix("ILSVRC2012_val_")?.split_once('.')?;
    number.parse().ok().filter(|&number| number > 0)
}

fn find_ground_truth<'a>(places: impl Iterator<Item = &'a Path>) -> Option<PathBuf> {
    let within = |place: &Path| ["", "ILSVRC2012_devkit_t12/data", "data"].map(|inner| place.join(inner));
    places.flat_map(within).map(|place| place.join(GROUND_TRUTH)).find(|path| path.is_file())
}

fn ground_truth_files(base: &Path, pictures: &[&str], path: &Path, limit: Option<usize>) -> Result<Found> {
    let text = read(path)?;
    let mut labels = Vec::new();
    for (index, line) in text.trim_end().lines().enumerate() {
        let synset = line.trim().parse().ok().and_then(synset_of_id);
        let reason = || format!("`{}` is not an ILSVRC2012_ID, 1 to {CLASSES}", line.trim());
        let synset = synset.ok_or_else(|| label_line(path, index + 1, reason()))?;
        labels.push(label_of(synset).expect("it is among the 1000"));
    }
    let unlabelled = |picture: &str, reason| DataError::Unlabelled {
        image: base.join(picture).display().to_string(),
        path: path.to_owned(),
        reason,
    };
    let mut numbered = Vec::with_capacity(pictures.len());
    for picture in pictures {
        let reason = || "it is not called ILSVRC2012_val_ and its number".to_owned();
        numbered.push((number(picture).ok_or_else(|| unlabelled(picture, reason()))?, picture));
    }
    numbered.sort_unstable();
    numbered.truncate(limit.unwrap_or(usize::MAX));
    let mut files = Vec::with_capacity(numbered.len());
    for (number, picture) in numbered {
        let reason = || format!("it ends at line {}", labels.len());
        let label = labels.get(number - 1).ok_or_else(|| unlabelled(picture, reason()))?;
        files.push((base.join(picture), *label));
    }
    Ok(Found { files, classes: CLASSES, layout: Layout::GroundTruth })
}

/// Kaggle's csv file or the only one; if there are more, the only one with `val` in its name.
fn find_csv(places: [&Path; 2]) -> Result<Option<PathBuf>> {
    for place in places {
        let files = Listing::of(place)?.files;
        let csv: Vec<&String> = files.iter().filter(|name| name.ends_with(".csv")).collect();
        let val: Vec<&String> = csv.iter().copied().filter(|name| name.contains("val")).collect();
        match (&*csv, &*val) {
            ([], _) => {}
            (_, _) if files.iter().any(|name| name == KAGGLE_CSV) => return Ok(Some(place.join(KAGGLE_CSV))),
            ([only], _) | (_, [only]) => return Ok(Some(place.join(only))),
            ([one, other, ..], _) => {
                return Err(DataError::NoImageNet {
                    split: Split::Test,
                    folder: place.to_owned(),
                    found: format!("{} csv files ({one}, {other}, …)", csv.len()),
                    looked_for: "one, or one with `val` in its name".to_owned(),
                });
            }
        }
    }
    Ok(None)
}

/// Which fields of a csv line say what.
struct Columns {
    synset: usize,
    file: usize,
    count: usize,
    kaggle: bool,
}

impl Columns {
    /// From a header; `None` if the line is none.
    fn of(header: &[&str]) -> Option<Self> {
        let find =
            |names: &[&str]| header.iter().position(|h| names.iter().any(|n| h.eq_ignore_ascii_case(n)));
        let columns = |synset, file, kaggle| Self { synset, file, count: header.len(), kaggle };
        if let (Some(file), Some(synset)) = (find(&["ImageId"]), find(&["PredictionString"])) {
            return Some(columns(synset, file, true));
        }
        Some(columns(find(&["synset", "wnid", "label"])?, find(&["file", "filename", "image"])?, false))
    }
}

fn csv_files(base: &Path, pictures: &[&str], path: &Path, limit: Option<usize>) -> Result<Found> {
    let text = read(path)?;
    let mut columns = Columns { synset: 0, file: 1, count: 2, kaggle: false };
    let mut files = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"').trim()).collect();
        if index == 0
            && let Some(found) = Columns::of(&fields)
        {
            columns = found;
            continue;
        }
        let error = |reason| label_line(path, index + 1, reason);
        if fields.len() != columns.count {
            return Err(error(format!("has {} fields, not {}", fields.len(), columns.count)));
        }
        // Kaggle's boxes follow the synset.
        let synset = fields[columns.synset].split_whitespace().next().unwrap_or("");
        let label = label_of(synset)
            .ok_or_else(|| error(format!("`{synset}` is not among ImageNet's {CLASSES} synsets")))?;
        let file = fields[columns.file];
        files.push((if columns.kaggle { format!("{file}.JPEG") } else { file.to_owned() }, label));
    }
    files.truncate(limit.unwrap_or(usize::MAX));
    let here: HashSet<&str> = pictures.iter().copied().collect();
    let is_missing = |file: &&(String, u16)| !here.contains(&*file.0) && !base.join(&file.0).is_file();
    let mut missing = files.iter().filter(is_missing);
    if let Some((first, _)) = missing.next() {
        let (first, count) = (first.clone(), 1 + missing.count());
        return Err(DataError::MissingImages {
            path: path.to_owned(),
            folder: base.to_owned(),
            count,
            first,
        });
    }
    let files = files.into_iter().map(|(file, label)| (base.join(file), label)).collect();
    Ok(Found { files, classes: CLASSES, layout: Layout::Csv })
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| DataError::Io { path: path.to_owned(), source })
}

fn label_line(path: &Path, line: usize, reason: String) -> DataError {
    DataError::LabelLine { path: path.to_owned(), line, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_synsets_are_a_thousand_in_both_orders() {
        assert_eq!((BY_ID.len(), synsets().len()), (CLASSES, CLASSES));
        assert!(synsets().windows(2).all(|pair| pair[0] < pair[1]));
        // ILSVRC2012_ID, synset, class index: of the first images of the validation set, and the ends of both orders.
        for (id, synset, label) in [
            (490, "n01751748", 65),
            (361, "n09193705", 970),
            (171, "n02105855", 230),
            (822, "n04263257", 809),
            (297, "n03125729", 516),
            (1, "n02119789", 278),
            (1000, "n03255030", 543),
            (449, "n01440764", 0),
            (889, "n15075141", 999),
        ] {
            assert_eq!((synset_of_id(id), label_of(synset)), (Some(synset), Some(label)));
            assert_eq!(synsets()[usize::from(label)], synset);
        }
        assert_eq!((synset_of_id(0), synset_of_id(1001), label_of("n00000000")), (None, None, None));
    }
}
