//! What can go wrong.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use approx_models::{ModelError, SiteKind};

/// The error of every function that evaluates.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A value left the range of approximation, and the range was not to be widened.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// NaN or an infinity, which no range can hold.
    #[error("{site}: a value is {value} (images {} to {}): the network overflows or its weights are wrong", images.start, images.end - 1)]
    NotFinite {
        /// The site whose input it is in, or `logits`.
        site: String,
        /// NaN or infinity.
        value: f32,
        /// In which batch.
        images: Range<usize>,
    },
    /// The search for B does not end.
    #[error("the search for B gave up after {widened} times of widening; the last was {last}")]
    SearchGaveUp {
        /// How often the range was widened.
        widened: usize,
        /// The value that was out of range at last.
        last: RangeError,
    },
    /// The network could not be built or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// candle's own error.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No images to evaluate.
    #[error("there are no images to evaluate")]
    NoImages,
}

/// A value outside the range of approximation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct RangeError {
    /// Where.
    pub site: String,
    /// Which function.
    pub kind: SiteKind,
    /// The largest |x| there.
    pub max_abs: f32,
    /// The bound that it should not exceed.
    pub bound: f64,
    /// How many values of the batch exceed it.
    pub out_of_range: u64,
    /// The images of the batch.
    pub images: Range<usize>,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { site, max_abs, bound, out_of_range, images, .. } = self;
        let values = if *out_of_range == 1 { "value" } else { "values" };
        let last = images.end - 1;
        write!(f, "{site}: |x| reached {max_abs}, the bound is {bound} ")?;
        write!(f, "({out_of_range} {values} out of range in images {} to {last})", images.start)
    }
}

/// Shorthand for this crate's results.
pub type Result<T, E = EvalError> = std::result::Result<T, E>;
