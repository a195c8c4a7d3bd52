//! Files whose tensors are read one by one, so that no more than one of them is in memory besides the network.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use cnn_graph::shape::elements;
use safetensors::tensor::{Dtype, Metadata};
use torch_checkpoint::Checkpoint;

use super::WeightsError;

/// The largest header that safetensors files may have.
const LARGEST_HEADER: u64 = 100_000_000;

/// The types whose numbers become float32 here.
const TYPES: [Dtype; 10] = [
    Dtype::F16,
    Dtype::BF16,
    Dtype::F32,
    Dtype::F64,
    Dtype::F8_E4M3,
    Dtype::U8,
    Dtype::U32,
    Dtype::I16,
    Dtype::I32,
    Dtype::I64,
];

/// A file of one of the known formats.
pub(super) enum WeightsFile {
    Checkpoint(Checkpoint),
    Safetensors(Safetensors),
}

/// A safetensors file: an 8-byte length, a header in JSON, and the tensors' bytes.
pub(super) struct Safetensors {
    path: PathBuf,
    file: Mutex<File>,
    metadata: Metadata,
    /// Where the tensors' bytes begin.
    start: u64,
}

impl WeightsFile {
    /// Opens a file; its extension tells the format.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(io)?.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors(Safetensors::open(path)?)),
            Some("pt" | "pth") => Ok(Self::Checkpoint(Checkpoint::open(path)?)),
            _ => Err(WeightsError::UnknownFormat(path.to_owned())),
        }
    }

    /// Names and shapes.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Checkpoint(file) => file.tensors().map(|t| (t.name.clone(), t.shape.clone())).collect(),
            Self::Safetensors(file) => {
                let tensors = file.metadata.tensors().into_iter();
                tensors.map(|(name, info)| (name, info.shape.clone())).collect()
            }
        }
    }

    /// The values of one tensor in row-major order.
    pub(super) fn read(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        match self {
            Self::Checkpoint(file) => Ok(file.read_f32(name)?),
            Self::Safetensors(file) => file.read(name),
        }
    }
}

impl Safetensors {
    fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io { path: path.to_owned(), source };
        let malformed = |reason: String| WeightsError::Malformed { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(io)?;
        let available = file.metadata().map_err(io)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| malformed(format!("it has {available} bytes")))?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER.min(available - 8) {
            return Err(malformed(format!("a header of {length} bytes in a file of {available}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| malformed(e.to_string()))?;
        let expected = 8 + length + metadata.data_len() as u64;
        if available != expected {
            return Err(malformed(format!("it has {available} bytes, but its header tells of {expected}")));
        }
        for (name, info) in metadata.tensors() {
            let (shape, dtype) = (&info.shape, info.dtype);
            if elements(shape).is_none() {
                return Err(malformed(format!("`{name}` of shape {shape:?} would have too many numbers")));
            }
            if !TYPES.contains(&dtype) {
                return Err(malformed(format!("`{name}` is of type {dtype}, which is not supported")));
            }
        }
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), metadata, start: 8 + length })
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let info = self.metadata.info(name).expect("the name is one of the file's");
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| WeightsError::Io { path: self.path.clone(), source })?;
        let dtype = DType::try_from(info.dtype)?;
        let tensor = Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)?;
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}
