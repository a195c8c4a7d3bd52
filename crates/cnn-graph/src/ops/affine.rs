use super::{Operator, Reason, one};
use crate::shape::Shape;

/// `scale[c] · x + shift[c]` for each channel `c`, with constants that belong to the network's definition, such as those
/// of an input normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// One factor for each channel, or one for all.
    pub scale: Vec<f64>,
    /// One summand for each channel, or one for all.
    pub shift: Vec<f64>,
}

impl Operator for Affine {
    const NAME: &'static str = "affine";

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape, Reason> {
        let shape = one(inputs)?;
        let channels = shape.channels().unwrap_or(1);
        for (what, constants) in [("factors", &self.scale), ("summands", &self.shift)] {
            if constants.len() != 1 && constants.len() != channels {
                return Err(format!(
                    "{} {what} are not one for each of {channels} channels",
                    constants.len()
                ));
            }
            if let Some(value) = constants.iter().find(|value| !value.is_finite()) {
                return Err(format!("one of its {what} is {value}"));
            }
        }
        Ok(shape.clone())
    }
}
