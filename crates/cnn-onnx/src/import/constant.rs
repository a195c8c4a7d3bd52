//! Constants of a file, and whole numbers of which one may be the batch.

use crate::import::call::{Outcome, unsupported};
use crate::tensor::Tensor;

/// A whole number of constant arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int {
    /// A number.
    Known(i64),
    /// How many images there are.
    Batch,
}

impl Int {
    /// The number, if it is not the batch.
    pub fn known(self) -> Outcome<i64> {
        match self {
            Self::Known(value) => Ok(value),
            Self::Batch => unsupported("depends on how many images there are"),
        }
    }
}

/// A constant tensor.
#[derive(Debug, Clone)]
pub(crate) struct Constant {
    pub dims: Vec<usize>,
    pub data: Data,
}

/// A constant's numbers.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// In the file.
    Stored(Tensor),
    /// A matrix that the file holds with its dimensions the other way round.
    Transposed(Tensor),
    /// Whole numbers that were computed.
    Ints(Vec<Int>),
    /// Numbers that were computed.
    Floats(Vec<f64>),
}

impl Constant {
    /// A tensor of the file.
    pub fn stored(tensor: Tensor) -> Self {
        Self { dims: tensor.dims.clone(), data: Data::Stored(tensor) }
    }

    /// Whole numbers.
    pub fn from_ints(dims: Vec<usize>, ints: Vec<Int>) -> Self {
        Self { dims, data: Data::Ints(ints) }
    }

    /// Numbers.
    pub fn from_floats(dims: Vec<usize>, floats: Vec<f64>) -> Self {
        Self { dims, data: Data::Floats(floats) }
    }

    /// How many numbers.
    pub fn elements(&self) -> usize {
        match &self.data {
            Data::Stored(tensor) | Data::Transposed(tensor) => tensor.elements(),
            Data::Ints(ints) => ints.len(),
            Data::Floats(floats) => floats.len(),
        }
    }

    /// Whether its numbers are in the file.
    pub fn is_stored(&self) -> bool {
        matches!(self.data, Data::Stored(_) | Data::Transposed(_))
    }

    /// Whether its numbers are whole.
    pub fn is_int(&self) -> bool {
        match &self.data {
            Data::Stored(tensor) | Data::Transposed(tensor) => !tensor.dtype.is_float(),
            Data::Ints(_) => true,
            Data::Floats(_) => false,
        }
    }

    /// The numbers; [`Importer::floats`](super::Importer::floats) counts how many are made.
    pub fn floats(&self) -> Outcome<Vec<f64>> {
        match &self.data {
            Data::Stored(tensor) => Ok(tensor.read_f64()?),
            Data::Ints(ints) => ints.iter().map(|int| Ok(int.known()? as f64)).collect(),
            Data::Floats(floats) => Ok(floats.clone()),
            Data::Transposed(_) => unsupported("takes a matrix the other way round; only a linear layer can"),
        }
    }

    /// The whole numbers; [`Importer::ints`](super::Importer::ints) counts how many are made.
    pub fn ints(&self) -> Outcome<Vec<Int>> {
        match &self.data {
            Data::Stored(tensor) if !tensor.dtype.is_float() => {
                Ok(tensor.read_i64()?.into_iter().map(Int::Known).collect())
            }
            Data::Ints(ints) => Ok(ints.clone()),
            _ => unsupported("takes whole numbers, not floating-point ones"),
        }
    }

    /// The tensor of the file that it is.
    pub fn tensor(&self) -> Outcome<Tensor> {
        match &self.data {
            Data::Stored(tensor) => Ok(tensor.clone()),
            _ => unsupported("its weight is computed; only one that the file holds can be read"),
        }
    }
}
