//! Pictures in parquet files as of the Hugging Face Hub, decoded when they are asked for.
//!
//! A row has the columns `image` {`bytes`: an encoded picture, `path`: its name} and `label`. Opening reads the
//! labels and names. Pictures are read from where the last ones ended, so that consecutive ranges read each page
//! once and no more than the pages of a range are in memory.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;
use rayon::prelude::*;

use crate::contained::{self, ParquetReader, contained};
use crate::error::{DataError, Result, check_label};
use crate::preprocess::Preprocess;
use crate::source::{ImageSource, OnCorrupt, RawBatch, identify_file};

const LABEL: &str = "label";
const BYTES: &str = "image.bytes";
const NAME: &str = "image.path";

/// The rows of parquet files, one file after the other.
pub struct ImageShards {
    shards: Vec<Shard>,
    groups: Vec<Group>,
    labels: Vec<u16>,
    /// Of each picture, where the files tell.
    names: Vec<Option<String>>,
    classes: usize,
    preprocess: Preprocess,
    on_corrupt: OnCorrupt,
    /// Where the last pictures ended.
    cursor: Mutex<Option<Cursor>>,
}

struct Shard {
    path: PathBuf,
    reader: ParquetReader,
    /// The number of its first picture.
    start: usize,
}

/// A row group: the unit that can be read on its own.
#[derive(Clone)]
struct Group {
    shard: usize,
    /// Its number in the shard.
    index: usize,
    /// The numbers of its pictures.
    rows: Range<usize>,
}

/// A column that is being read.
struct Cursor {
    group: usize,
    next: usize,
    column: ColumnReaderImpl<ByteArrayType>,
    nullable: Option<i16>,
}

impl ImageShards {
    /// Opens parquet files and reads their labels, until there are `limit` pictures.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::Parquet`] if a file cannot be read or has other columns,
    /// [`DataError::LabelOutOfRange`].
    pub fn open(
        paths: impl IntoIterator<Item = PathBuf>,
        classes: usize,
        preprocess: Preprocess,
        on_corrupt: OnCorrupt,
        limit: Option<usize>,
    ) -> Result<Self> {
        let mut images = Self {
            shards: Vec::new(),
            groups: Vec::new(),
            labels: Vec::new(),
            names: Vec::new(),
            classes,
            preprocess,
            on_corrupt,
            cursor: Mutex::new(None),
        };
        for path in paths {
            if limit.is_some_and(|limit| images.labels.len() >= limit) {
                break;
            }
            images.push(path)?;
        }
        Ok(images.truncated(limit.unwrap_or(usize::MAX)))
    }

    /// The same without all images but the first `limit`.
    #[must_use]
    pub fn truncated(mut self, limit: usize) -> Self {
        self.labels.truncate(limit);
        self.names.truncate(limit);
        self
    }

    /// How many parquet files were opened.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    fn push(&mut self, path: PathBuf) -> Result<()> {
        let reader = contained::open(&path)?;
        let start = self.labels.len();
        let required = |name| {
            let reason = format!("there is no column `{name}`");
            column_of(&reader, name).ok_or_else(|| DataError::Parquet { path: path.clone(), reason })
        };
        let label = required(LABEL)?;
        required(BYTES)?;
        let name = column_of(&reader, NAME);
        for index in 0..reader.num_row_groups() {
            let labels = contained(&path, || read_column::<Int64Type>(&reader, index, label))?;
            let group_start = self.labels.len();
            for label in labels {
                let row = self.labels.len() - start;
                let label = label.ok_or_else(|| DataError::Parquet {
                    path: path.clone(),
                    reason: format!("row {row} has no label"),
                })?;
                self.labels.push(check_label(&path, row, label, self.classes)?);
            }
            let rows = group_start..self.labels.len();
            match name {
                Some(name) => {
                    let names = contained(&path, || read_column::<ByteArrayType>(&reader, index, name))?;
                    let text = |name: ByteArray| String::from_utf8_lossy(name.data()).into_owned();
                    self.names.extend(names.into_iter().map(|name| name.map(text)));
                }
                None => self.names.extend(rows.clone().map(|_| None)),
            }
            self.groups.push(Group { shard: self.shards.len(), index, rows });
        }
        self.shards.push(Shard { path, reader, start });
        Ok(())
    }

    /// The encoded pictures of `range`; `None` where there is none.
    fn encoded(&self, range: Range<usize>) -> Result<Vec<Option<ByteArray>>> {
        let mut pictures = Vec::with_capacity(range.len());
        // A panic elsewhere leaves the cursor where it is, or none.
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.groups.partition_point(|group| group.rows.end <= range.start);
        for (number, group) in self.groups.iter().enumerate().skip(first) {
            let wanted = range.start.max(group.rows.start)..range.end.min(group.rows.end);
            if wanted.is_empty() {
                if group.rows.start >= range.end {
                    break;
                }
                continue;
            }
            let shard = &self.shards[group.shard];
            // Taken out, so that a failure does not leave it somewhere in the middle.
            let usable = |c: &Cursor| c.group == number && c.next <= wanted.start;
            let here = cursor.take().filter(usable);
            *cursor = Some(contained(&shard.path, || {
                let mut here = here.map_or_else(|| Cursor::new(shard, group, number), Ok)?;
                here.read(wanted, &mut pictures)?;
                Ok(here)
            })?);
        }
        Ok(pictures)
    }

    /// What an error calls a picture.
    fn name(&self, index: usize) -> String {
        let shard = self.shards.partition_point(|shard| shard.start <= index) - 1;
        let Shard { path, start, .. } = &self.shards[shard];
        let place = format!("{}: image {}", path.display(), index - start);
        match &self.names[index] {
            Some(name) => format!("{place} ({name})"),
            None => place,
        }
    }
}

impl ImageSource for ImageShards {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn shape(&self) -> [usize; 3] {
        self.preprocess.shape()
    }

    fn identify(&self, consume: &mut dyn FnMut(&[u8])) -> Result<()> {
        let images = self.labels.len();
        consume(format!("{images} {:?} {:?}\n", self.preprocess, self.on_corrupt).as_bytes());
        self.shards.iter().try_for_each(|shard| identify_file(&shard.path, consume))
    }

    fn load(&self, range: Range<usize>) -> Result<RawBatch> {
        let labels = &self.labels[range.clone()];
        let pictures = self.encoded(range.clone())?;
        let load = |((index, &label), picture): ((usize, &u16), Option<ByteArray>)| {
            let image = match &picture {
                Some(picture) => self.preprocess.image(&self.name(index), picture.data()),
                None => {
                    let reason = "holds no picture".to_owned();
                    Err(DataError::Undecodable { name: self.name(index), reason })
                }
            };
            (label, image)
        };
        let images: Vec<_> = range.into_par_iter().zip(labels).zip(pictures).map(load).collect();
        RawBatch::collect(images, self.on_corrupt)
    }
}

impl Cursor {
    fn new(shard: &Shard, group: &Group, number: usize) -> Result<Self, ParquetError> {
        let column = column_of(&shard.reader, BYTES).expect("it was there when the file was opened");
        let (column, nullable) = typed_column(&shard.reader, group.index, column)?;
        Ok(Self { group: number, next: group.rows.start, column, nullable })
    }

    fn read(
        &mut self,
        wanted: Range<usize>,
        pictures: &mut Vec<Option<ByteArray>>,
    ) -> Result<(), ParquetError> {
        let before = wanted.start - self.next;
        if self.column.skip_records(before)? != before {
            return Err(too_short(before));
        }
        pictures.extend(read_records(&mut self.column, self.nullable, wanted.len())?);
        self.next = wanted.end;
        Ok(())
    }
}

fn too_short(rows: usize) -> ParquetError {
    ParquetError::EOF(format!("a row group has fewer than the {rows} rows it should have"))
}

/// The number of the column with this dotted name.
fn column_of(reader: &ParquetReader, name: &str) -> Option<usize> {
    let columns = reader.metadata().file_metadata().schema_descr().columns();
    columns.iter().position(|column| column.path().string() == name)
}

/// A column of a row group, and the definition level of its values if they can be null.
fn typed_column<T: DataType>(
    reader: &ParquetReader,
    group: usize,
    column: usize,
) -> Result<(ColumnReaderImpl<T>, Option<i16>), ParquetError> {
    let descriptor = reader.metadata().file_metadata().schema_descr().column(column);
    let name = descriptor.path().string();
    if descriptor.physical_type() != T::get_physical_type() {
        let (found, expected): (Type, Type) = (descriptor.physical_type(), T::get_physical_type());
        return Err(ParquetError::General(format!("the column `{name}` is of type {found}, not {expected}")));
    }
    if descriptor.max_rep_level() > 0 {
        return Err(ParquetError::General(format!("the column `{name}` holds lists")));
    }
    let level = descriptor.max_def_level();
    let column = reader.get_row_group(group)?.get_column_reader(column)?;
    Ok((get_typed_column_reader(column), (level > 0).then_some(level)))
}

/// All values of a column in a row group; `None` for null.
fn read_column<T: DataType>(
    reader: &ParquetReader,
    group: usize,
    column: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let rows = usize::try_from(reader.metadata().row_group(group).num_rows()).unwrap_or(0);
    let (mut column, nullable) = typed_column::<T>(reader, group, column)?;
    read_records(&mut column, nullable, rows)
}

/// The next `rows` values; `None` for null.
fn read_records<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    nullable: Option<i16>,
    rows: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (read, ..) = column.read_records(rows, Some(&mut levels), None, &mut values)?;
    if read != rows {
        return Err(too_short(rows));
    }
    let mut values = values.into_iter();
    Ok(match nullable {
        Some(level) => levels.iter().map(|&l| if l == level { values.next() } else { None }).collect(),
        None => values.map(Some).collect(),
    })
}
