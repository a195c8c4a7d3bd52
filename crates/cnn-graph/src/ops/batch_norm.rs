use super::{Operator, Reason, one};
use crate::shape::Shape;

/// Batch norm with known mean and variance: `(x − mean) / sqrt(variance + eps) · weight + bias` for each channel.
///
/// Parameters: `weight`, `bias`, `running_mean` and `running_var`, each `[C]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f64,
}

impl BatchNorm {
    /// What PyTorch adds to the variance if it is not told otherwise.
    pub const DEFAULT_EPS: f64 = 1e-5;
}

impl Operator for BatchNorm {
    const NAME: &'static str = "batch_norm";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let shape = one(inputs)?;
        if shape.rank() == 0 {
            return Err("takes a value with channels, not a single number".to_owned());
        }
        Ok(shape.clone())
    }

    fn params(&self, inputs: &[&Shape]) -> Vec<(&'static str, Vec<usize>)> {
        let channels = inputs[0].dims()[0];
        ["weight", "bias", "running_mean", "running_var"].map(|name| (name, vec![channels])).to_vec()
    }
}
