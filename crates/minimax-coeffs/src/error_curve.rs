//! How the error of a minimax approximation of 1 depends on its interval.

use crate::compose::{SEARCH_TOLERANCE, sign_minimax};
use crate::remez::RemezError;

/// The error of the odd minimax approximation of 1 of one degree as a function of the interval's *width*
/// `ln(b / a)`; scaling an interval does not change the error.
///
/// # Accuracy
/// Cubic interpolation between exact values, in the logarithms of the width before and after: relative error
/// below 1e-5 for widths up to 23 and errors above 1e-12 (a test holds it).
pub struct ErrorCurve {
    /// `ln` of the largest width of the table.
    top: f64,
    /// `ln` of the width `ln((1 + e) / (1 − e))` of what comes out, at `top`, `top − STEP`, ….
    after: Vec<f64>,
}

/// Distance of the nodes in `ln(width)`.
const STEP: f64 = 0.1;
/// The widest interval: its ends have a ratio of 1e10.
const WIDEST: f64 = 23.0;
/// Smaller errors are not told apart; float64 does not resolve them.
const LEAST_ERROR: f64 = 1e-12;

impl ErrorCurve {
    /// The curve of one odd degree of at least 3.
    ///
    /// # Errors
    /// [`RemezError`] where an approximation fails.
    pub fn new(degree: usize) -> Result<Self, RemezError> {
        let top = WIDEST.ln();
        let mut after = Vec::new();
        loop {
            let half = (top - STEP * after.len() as f64).exp() / 2.0;
            let error = match sign_minimax(&[(-half).exp(), half.exp()], degree, SEARCH_TOLERANCE) {
                Ok(minimax) => minimax.error,
                Err(RemezError::Unresolved { .. }) => break,
                Err(error) => return Err(error),
            };
            if error < LEAST_ERROR {
                break;
            }
            after.push((2.0 * error.atanh()).ln());
        }
        Ok(Self { top, after })
    }

    /// The error on intervals of this width; 0 where it is too small to be told.
    pub fn error(&self, width: f64) -> f64 {
        let place = (self.top - width.ln()) / STEP;
        match place <= (self.after.len() - 1) as f64 {
            true => (self.interpolate(place.max(0.0)).exp() / 2.0).tanh(),
            false => 0.0,
        }
    }

    /// The widest interval on which the error is at most `error`.
    pub fn widest(&self, error: f64) -> f64 {
        let wanted = (2.0 * error.min(1.0 - 1e-12).atanh()).ln();
        let (mut low, mut high) = (0.0, (self.after.len() - 1) as f64);
        // The values fall with the place.
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if self.interpolate(middle) > wanted {
                low = middle;
            } else {
                high = middle;
            }
        }
        (self.top - STEP * high).exp()
    }

    /// Lagrange's cubic through the four nodes around.
    fn interpolate(&self, place: f64) -> f64 {
        let first = (place as usize).saturating_sub(1).min(self.after.len().saturating_sub(4));
        let nodes = &self.after[first..self.after.len().min(first + 4)];
        let x = place - first as f64;
        let weight = |i: usize| {
            let others = (0..nodes.len()).filter(|&j| j != i);
            others.map(|j| (x - j as f64) / (i as f64 - j as f64)).product::<f64>()
        };
        nodes.iter().enumerate().map(|(i, y)| weight(i) * y).sum()
    }
}
