//! The parameters of a network that was read.

use std::collections::BTreeMap;

use crate::error::{OnnxError, Result};
use crate::tensor::Tensor;

/// The parameters of a network, by the names of [`Graph::params`](cnn_graph::Graph::params).
///
/// Large ones are read from their file when they are asked for, and not kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params {
    by_name: BTreeMap<String, Param>,
}

#[derive(Debug, Clone, PartialEq)]
struct Param {
    shape: Vec<usize>,
    values: Values,
}

/// What a parameter is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    /// A tensor of the file, times a factor.
    Stored {
        tensor: Tensor,
        /// Whether a matrix is stored with its dimensions the other way round.
        transposed: bool,
        factor: f64,
    },
    /// Numbers that were computed.
    Computed(Vec<f32>),
}

impl Values {
    /// A tensor as it is.
    pub fn plain(tensor: Tensor) -> Self {
        Self::Stored { tensor, transposed: false, factor: 1.0 }
    }

    fn elements(&self) -> usize {
        match self {
            Self::Stored { tensor, .. } => tensor.elements(),
            Self::Computed(values) => values.len(),
        }
    }
}

impl Params {
    /// Adds a parameter.
    pub(crate) fn insert(&mut self, name: String, shape: Vec<usize>, values: Values) -> Result<()> {
        let elements: usize = shape.iter().product();
        if values.elements() != elements {
            let reason = format!("{} numbers are not as many as the shape {shape:?} has", values.elements());
            return Err(OnnxError::Tensor { name, reason });
        }
        self.by_name.insert(name, Param { shape, values });
        Ok(())
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// How many parameters there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether the network has none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The shape of a parameter.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.by_name.get(name).map(|param| param.shape.as_slice())
    }

    /// A parameter in row-major order. Numbers of other types are rounded to float32.
    ///
    /// # Errors
    /// [`OnnxError::NoParameter`], or [`OnnxError::Io`] if the file is not there any more.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let param = self.by_name.get(name).ok_or_else(|| OnnxError::NoParameter(name.to_owned()))?;
        match &param.values {
            Values::Computed(values) => Ok(values.clone()),
            Values::Stored { tensor, transposed, factor } => {
                let mut values = tensor.read_f32()?;
                if *factor != 1.0 {
                    for value in &mut values {
                        *value = (f64::from(*value) * factor) as f32;
                    }
                }
                if *transposed {
                    let [rows, columns] = [param.shape[0], param.shape[1]];
                    values = (0..rows * columns).map(|i| values[i % columns * rows + i / columns]).collect();
                }
                Ok(values)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_weights_stay_in_the_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/residual_legacy13.onnx");
        let model = crate::Model::open(path).unwrap();
        let in_file = |name: &str| match &model.params.by_name[name].values {
            Values::Stored { tensor, .. } => tensor.is_in_file(),
            Values::Computed(_) => false,
        };
        assert!(in_file("layer1.1.conv2.weight") && !in_file("fc.bias"));
    }

    #[test]
    fn matrices_are_turned_and_scaled() {
        let mut proto = crate::proto::TensorProto { dims: vec![2, 3], data_type: 1, ..Default::default() };
        proto.float_data = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let tensor = crate::tensor::Origin::new(None, &bytes::Bytes::new()).tensor(&proto).unwrap();
        let mut params = Params::default();
        let values = Values::Stored { tensor, transposed: true, factor: 0.5 };
        params.insert("w".to_owned(), vec![3, 2], values).unwrap();
        assert_eq!(params.read("w").unwrap(), [0.5, 2.0, 1.0, 2.5, 1.5, 3.0]);
        assert!(params.insert("v".to_owned(), vec![2], Values::Computed(vec![1.0])).is_err());
        assert!(matches!(params.read("v"), Err(OnnxError::NoParameter(_))));
    }
}
