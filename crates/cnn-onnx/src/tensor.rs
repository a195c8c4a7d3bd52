//! Constant tensors of a file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};

use crate::error::{OnnxError, Result};
use crate::file::{self, Place};
use crate::proto::TensorProto;

/// Tensors of at most so many bytes stay in memory; others are read from the file again.
const SMALL: usize = 1 << 10;

/// What the numbers of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DType {
    F32,
    F16,
    Bf16,
    F64,
    I64,
    I32,
    I8,
    U8,
    Bool,
}

impl DType {
    /// By ONNX's number.
    pub fn find(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            16 => Self::Bf16,
            _ => return None,
        })
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16 | Self::F64)
    }

    /// A floating-point number.
    fn float(self, bytes: &[u8]) -> f64 {
        match self {
            Self::F32 => f64::from(f32::from_le_bytes(array(bytes))),
            Self::F16 => f16::from_le_bytes(array(bytes)).to_f64(),
            Self::Bf16 => bf16::from_le_bytes(array(bytes)).to_f64(),
            Self::F64 => f64::from_le_bytes(array(bytes)),
            _ => self.int(bytes) as f64,
        }
    }

    /// A whole number.
    fn int(self, bytes: &[u8]) -> i64 {
        match self {
            Self::I64 => i64::from_le_bytes(array(bytes)),
            Self::I32 => i64::from(i32::from_le_bytes(array(bytes))),
            Self::I8 => i64::from(bytes[0] as i8),
            _ => i64::from(bytes[0]),
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("pieces are as long as numbers")
}

/// A constant tensor whose bytes are as many as its shape needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub dims: Vec<usize>,
    pub dtype: DType,
    place: Place,
}

impl Tensor {
    /// How many numbers.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether its bytes are read from the file each time.
    #[cfg(test)]
    pub fn is_in_file(&self) -> bool {
        matches!(self.place, Place::File { .. })
    }

    /// The numbers as float32.
    pub fn read_f32(&self) -> Result<Vec<f32>> {
        self.read(|bytes| self.dtype.float(bytes) as f32)
    }

    /// The numbers as float64.
    pub fn read_f64(&self) -> Result<Vec<f64>> {
        self.read(|bytes| self.dtype.float(bytes))
    }

    /// Whole numbers.
    pub fn read_i64(&self) -> Result<Vec<i64>> {
        self.read(|bytes| self.dtype.int(bytes))
    }

    fn read<T>(&self, number: impl Fn(&[u8]) -> T) -> Result<Vec<T>> {
        let mut numbers = Vec::with_capacity(self.elements());
        self.place.read(|piece| numbers.extend(piece.chunks_exact(self.dtype.size()).map(&number)))?;
        Ok(numbers)
    }
}

/// Where a file's tensors come from.
#[derive(Debug)]
pub(crate) struct Origin<'f> {
    /// The file, if it is one.
    pub path: Option<&'f Path>,
    /// Its bytes.
    pub bytes: &'f Bytes,
    /// Files with external data that were found.
    external: HashMap<String, (Arc<Path>, u64)>,
    shared_path: Option<Arc<Path>>,
}

impl<'f> Origin<'f> {
    pub fn new(path: Option<&'f Path>, bytes: &'f Bytes) -> Self {
        Self { path, bytes, external: HashMap::new(), shared_path: path.map(Arc::from) }
    }

    /// A tensor of the file, if its numbers are there.
    pub fn tensor(&mut self, proto: &TensorProto) -> Result<Tensor> {
        let error = |reason: String| OnnxError::Tensor { name: proto.name.clone(), reason };
        let dtype = DType::find(proto.data_type)
            .ok_or_else(|| error(format!("data type {} is not supported", proto.data_type)))?;
        if proto.dims.len() > MAX_RANK {
            return Err(error(format!("{} dimensions are more than {MAX_RANK}", proto.dims.len())));
        }
        let dims: Option<Vec<usize>> = proto.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
        let too_large = || error(format!("the shape {:?} is not possible", proto.dims));
        let dims = dims.ok_or_else(too_large)?;
        let length = dims
            .iter()
            .try_fold(dtype.size(), |length, dim| length.checked_mul(*dim))
            .filter(|length| *length <= isize::MAX as usize)
            .ok_or_else(too_large)?;
        let place = match proto.data_location {
            TensorProto::EXTERNAL => self.external(proto, length as u64).map_err(error)?,
            _ if proto.raw_data.is_empty() => Place::Memory(typed(proto, dtype).into()),
            _ => self.raw(&proto.raw_data),
        };
        if place.length() != length as u64 {
            return Err(error(format!(
                "{} bytes are there, but the shape {:?} needs {length}",
                place.length(),
                proto.dims
            )));
        }
        Ok(Tensor { dims, dtype, place })
    }

    /// Bytes that are a part of the file: large ones are left there.
    fn raw(&self, raw: &Bytes) -> Place {
        let start = (raw.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize);
        let inside = start.checked_add(raw.len()).is_some_and(|end| end <= self.bytes.len());
        match &self.shared_path {
            Some(path) if inside && raw.len() > SMALL => {
                Place::File { path: path.clone(), offset: start as u64, length: raw.len() as u64 }
            }
            // Not a part of the file's bytes, so that those can be freed.
            Some(_) => Place::Memory(Bytes::copy_from_slice(raw)),
            None => Place::Memory(raw.clone()),
        }
    }

    fn external(&mut self, proto: &TensorProto, length: u64) -> Result<Place, String> {
        let entry = |key: &str| {
            proto.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
        };
        let number = |key: &str, default: u64| match entry(key) {
            Some(text) => text.parse().map_err(|_| format!("its {key} `{text}` is no number")),
            None => Ok(default),
        };
        let location = entry("location").ok_or("its file is not named")?;
        let model = self.path.ok_or("its numbers are in another file, and the model is not read from one")?;
        let (path, size) = match self.external.get(location) {
            Some((path, size)) => (path.clone(), *size),
            None => {
                let (path, size) = file::beside(model, location)?;
                let path: Arc<Path> = path.into();
                self.external.insert(location.to_owned(), (path.clone(), size));
                (path, size)
            }
        };
        let offset = number("offset", 0)?;
        let length = number("length", length)?;
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(format!(
                "bytes {offset} to {offset} + {length} are not in {location}, which has {size}"
            ));
        }
        Ok(Place::File { path, offset, length })
    }
}

/// The most dimensions of a value.
pub(crate) const MAX_RANK: usize = 8;

/// Numbers in the fields for one type, as bytes.
fn typed(proto: &TensorProto, dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F32 => proto.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F64 => proto.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::I64 => proto.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::I32 => proto.int32_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        // The bits of 16-bit floats, and smaller numbers, are in 32-bit numbers.
        DType::F16 | DType::Bf16 => proto.int32_data.iter().flat_map(|x| (*x as u16).to_le_bytes()).collect(),
        DType::I8 | DType::U8 | DType::Bool => proto.int32_data.iter().map(|x| *x as u8).collect(),
    }
}
