//! Element types and their conversion to float32.

use std::fmt;

use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Dtype {
    Float16,
    BFloat16,
    Float32,
    Float64,
    UInt8,
    Int8,
    Int16,
    Int32,
    Int64,
    Bool,
    Complex64,
    Complex128,
}

impl Dtype {
    /// Whether [`Checkpoint::read_f32`](crate::Checkpoint::read_f32) reads it.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float16 | Self::BFloat16 | Self::Float32 | Self::Float64)
    }

    /// Bytes of an element.
    pub fn size(self) -> u64 {
        match self {
            Self::UInt8 | Self::Int8 | Self::Bool => 1,
            Self::Float16 | Self::BFloat16 | Self::Int16 => 2,
            Self::Float32 | Self::Int32 => 4,
            Self::Float64 | Self::Int64 | Self::Complex64 => 8,
            Self::Complex128 => 16,
        }
    }

    /// Appends the elements of `bytes`, little-endian, to `values`; nothing for types that are no floats.
    pub(crate) fn append_f32(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Self::Float32 => values.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Self::Float64 => values.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
            Self::Float16 => {
                values.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()));
            }
            Self::BFloat16 => {
                values.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()));
            }
            _ => {}
        }
    }
}

impl fmt::Display for Dtype {
    /// PyTorch's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float16 => "float16",
            Self::BFloat16 => "bfloat16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::UInt8 => "uint8",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Bool => "bool",
            Self::Complex64 => "complex64",
            Self::Complex128 => "complex128",
        })
    }
}

/// PyTorch's prefixes of storage and tensor classes (`FloatStorage`, `FloatTensor`).
const PREFIXES: [(&str, Dtype); 12] = [
    ("Half", Dtype::Float16),
    ("BFloat16", Dtype::BFloat16),
    ("Float", Dtype::Float32),
    ("Double", Dtype::Float64),
    ("Byte", Dtype::UInt8),
    ("Char", Dtype::Int8),
    ("Short", Dtype::Int16),
    ("Int", Dtype::Int32),
    ("Long", Dtype::Int64),
    ("Bool", Dtype::Bool),
    ("ComplexFloat", Dtype::Complex64),
    ("ComplexDouble", Dtype::Complex128),
];

/// The type in a class `torch.XSuffix` or `torch.cuda.XSuffix`.
pub(crate) fn of_class(global: &str, suffix: &str) -> Option<Dtype> {
    let class = global.strip_prefix("torch.")?;
    let prefix = class.strip_prefix("cuda.").unwrap_or(class).strip_suffix(suffix)?;
    PREFIXES.iter().find(|(known, _)| *known == prefix).map(|(_, dtype)| *dtype)
}

/// Bytes of an element in a storage class, those of unsupported tensors included: in a legacy file they have to
/// be skipped.
pub(crate) fn storage_element_size(global: &str) -> Option<u64> {
    match global.strip_prefix("torch.")?.trim_start_matches("cuda.") {
        "storage.UntypedStorage" | "UntypedStorage" => Some(1),
        "QUInt8Storage" | "QInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => Some(1),
        "QInt32Storage" => Some(4),
        _ => of_class(global, "Storage").map(Dtype::size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_name_their_element_type() {
        let cases = [
            ("torch.FloatStorage", Some(Dtype::Float32)),
            ("torch.cuda.HalfStorage", Some(Dtype::Float16)),
            ("torch.BFloat16Storage", Some(Dtype::BFloat16)),
            ("torch.FloatTensor", None),
            ("numpy.FloatStorage", None),
            ("torch.Storage", None),
        ];
        for (class, dtype) in cases {
            assert_eq!(of_class(class, "Storage"), dtype, "{class}");
        }
        assert_eq!(storage_element_size("torch.QInt32Storage"), Some(4));
        assert_eq!(storage_element_size("torch.storage.UntypedStorage"), Some(1));
        assert_eq!(storage_element_size("torch.SparseStorage"), None);
    }

    #[test]
    fn floats_become_float32() {
        let cases: [(Dtype, &[u8], &[f32]); 4] = [
            (Dtype::Float32, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0], &[1.0, -2.0]),
            (Dtype::Float16, &[0, 0x3c, 1, 0], &[1.0, 5.960_464_5e-8]),
            (Dtype::BFloat16, &[0x80, 0x3f, 0, 0xc0], &[1.0, -2.0]),
            (Dtype::Float64, &0.1f64.to_le_bytes(), &[0.1]),
        ];
        for (dtype, bytes, expected) in cases {
            let mut values = Vec::new();
            dtype.append_f32(bytes, &mut values);
            assert_eq!(values, expected, "{dtype}");
        }
    }
}
