//! A file with its tensors.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::dtype::Dtype;
use crate::error::{CheckpointError, TensorError};
use crate::state_dict::{Fault, RawTensor, tensors};
use crate::storage::Storage;
use crate::{legacy_layout, zip_layout};

/// How many values memory is taken for before they are there, if they are compressed and may be fewer.
const MAX_RESERVE: usize = 1 << 20;

/// A checkpoint file whose tensors are listed.
///
/// Values are read on demand, one tensor at a time, so that memory holds one copy only. Several threads may
/// read; they take turns.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: Mutex<File>,
    tensors: Vec<TensorInfo>,
    places: HashMap<String, usize>,
}

/// A tensor of a [`Checkpoint`].
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Its key in the state_dict, with the prefix `module.` if `torch.nn.DataParallel` put it there.
    pub name: String,
    /// The type of its elements in the file.
    pub dtype: Dtype,
    /// Its size in each dimension.
    pub shape: Vec<usize>,
    strides: Vec<usize>,
    elements: usize,
    /// The first element in the storage, and how many from there to the last, both included.
    first: u64,
    span: usize,
    storage: Storage,
}

impl Checkpoint {
    /// Opens a file of `torch.save`, whatever its name, and finds the tensors of its state_dict.
    ///
    /// The pickled object is a dict of tensors by name, or a dict with such a dict under `state_dict`, or else
    /// under `model`; what is beside that one is ignored. In the dict itself numbers, strings and None are
    /// skipped, and any other value is an error.
    ///
    /// # Errors
    /// [`CheckpointError`]: whatever keeps a tensor from being located is found here. Damaged values are only
    /// found when they are read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(CheckpointError::io("open", path))?;
        let metadata = file.metadata().map_err(CheckpointError::io("open", path))?;
        if metadata.is_dir() {
            return Err(CheckpointError::io("open", path)(ErrorKind::IsADirectory.into()));
        }
        let mut start = Vec::new();
        Read::by_ref(&mut file)
            .take(512)
            .read_to_end(&mut start)
            .map_err(CheckpointError::io("read", path))?;
        let (pickle, storages) = match &start[..] {
            [b'P', b'K', ..] => zip_layout::open(path, &file, metadata.len())?,
            // PROTO, with which pickles of protocol 2 and later begin.
            [0x80, ..] => legacy_layout::open(path, &file, metadata.len())?,
            start if start.get(257..262) == Some(b"ustar") => {
                return Err(CheckpointError::Tar(path.to_owned()));
            }
            _ => return Err(CheckpointError::UnknownFormat(path.to_owned())),
        };

        let raw = tensors(&pickle).map_err(|fault| match fault {
            Fault::NotAStateDict(found) => CheckpointError::NotAStateDict { path: path.to_owned(), found },
            Fault::Tensor(name, problem) => CheckpointError::Tensor { path: path.to_owned(), name, problem },
        })?;
        let mut tensors = Vec::with_capacity(raw.len());
        for (name, raw) in raw {
            let tensor = TensorInfo::locate(name, raw, &storages).map_err(|problem| {
                CheckpointError::Tensor { path: path.to_owned(), name: name.to_owned(), problem }
            })?;
            tensors.push(tensor);
        }
        let places = tensors.iter().enumerate().map(|(place, tensor)| (tensor.name.clone(), place)).collect();
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), tensors, places })
    }

    /// The tensors, in the order of the state_dict.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// The tensor `name`, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.places.get(name).map(|&place| &self.tensors[place])
    }

    /// The values of a tensor in row-major order, whatever its strides, as float32: float64 is rounded, and
    /// float16 and bfloat16 are exact.
    ///
    /// No tensor has more elements than its storage in the file, but many tensors may share one.
    ///
    /// # Errors
    /// [`CheckpointError::UnknownTensor`]; [`CheckpointError::Tensor`] if the elements are no floats, as those of
    /// the counter `num_batches_tracked` ([`Dtype::is_float`] tells), or if the file is damaged.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let tensor = self.tensor(name).ok_or_else(|| CheckpointError::UnknownTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        tensor.read_f32(&file).map_err(|problem| CheckpointError::Tensor {
            path: self.path.clone(),
            name: name.to_owned(),
            problem,
        })
    }
}

impl TensorInfo {
    /// The number of its elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Checks a tensor against the storages of the file.
    fn locate(name: &str, raw: RawTensor, storages: &HashMap<String, Storage>) -> Result<Self, TensorError> {
        let RawTensor { storage: reference, offset, shape, strides } = raw;
        if strides.len() != shape.len() {
            let found = format!("{strides:?}, and its shape {shape:?}");
            return Err(TensorError::Malformed { part: "strides", found });
        }
        let storage = *storages
            .get(reference.key)
            .ok_or_else(|| TensorError::MissingStorage(reference.key.to_owned()))?;
        let stored = storage.length / reference.dtype.size();
        if reference.elements > stored {
            return Err(TensorError::OutOfStorage { end: reference.elements.into(), available: stored });
        }
        let (base, available) = reference.view.unwrap_or((0, reference.elements));
        let end = u128::from(base) + u128::from(available);
        if end > reference.elements.into() {
            return Err(TensorError::OutOfStorage { end, available: reference.elements });
        }

        let elements = shape.iter().try_fold(1, |product: usize, &size| product.checked_mul(size));
        let elements = match elements {
            Some(elements) => elements,
            // An overflow that a later 0 makes up for.
            None if shape.contains(&0) => 0,
            None => return Err(TensorError::Overflow(shape)),
        };
        if elements as u64 > available {
            return Err(TensorError::Expanded { elements, available });
        }
        let (mut first, mut span) = (0, 0);
        if elements > 0 {
            // Saturation is far beyond any storage.
            let last = shape.iter().zip(&strides).fold(u128::from(offset), |last, (&size, &stride)| {
                last.saturating_add((size as u128 - 1).saturating_mul(stride.into()))
            });
            if last >= available.into() {
                return Err(TensorError::OutOfStorage { end: last.saturating_add(1), available });
            }
            first = base + offset;
            // `last` is an index into the storage now.
            span = usize::try_from(last - u128::from(offset) + 1)
                .map_err(|_| TensorError::Overflow(shape.clone()))?;
        }
        Ok(Self {
            name: name.to_owned(),
            dtype: reference.dtype,
            strides: strides.iter().map(|&stride| usize::try_from(stride).unwrap_or(usize::MAX)).collect(),
            shape,
            elements,
            first,
            span,
            storage,
        })
    }

    fn read_f32(&self, file: &File) -> Result<Vec<f32>, TensorError> {
        if !self.dtype.is_float() {
            return Err(TensorError::NotFloat(self.dtype));
        }
        if self.elements == 0 {
            return Ok(Vec::new());
        }
        let size = self.dtype.size();
        let range = self.first * size..(self.first + self.span as u64) * size;
        let reserve = if self.storage.deflated { self.span.min(MAX_RESERVE) } else { self.span };
        let mut values = Vec::with_capacity(reserve);
        self.storage
            .read(file, range, |bytes| self.dtype.append_f32(bytes, &mut values))
            .map_err(TensorError::Unreadable)?;
        Ok(if self.is_contiguous() { values } else { self.gather(&values) })
    }

    /// Whether the elements lie in row-major order without gaps.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        })
    }

    /// The elements in row-major order, out of the run from the first to the last.
    fn gather(&self, run: &[f32]) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.elements);
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        while values.len() < self.elements {
            values.push(run[at]);
            for (dimension, index) in index.iter_mut().enumerate().rev() {
                let (size, stride) = (self.shape[dimension], self.strides[dimension]);
                if *index + 1 < size {
                    *index += 1;
                    at += stride;
                    break;
                }
                at -= *index * stride;
                *index = 0;
            }
        }
        values
    }
}
