//! What can go wrong.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use approx_data::{DataError, Skipped};
use approx_models::{ModelError, SiteKind};
use atomic_file::WriteError;
use minimax_coeffs::fitted::FitError;

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
    /// Under simulated noise, the polynomials explode: no range holds what they give.
    #[error(
        "{site}: under noise of 2^-{bits:.2} a value is {value}, far outside the range of {bound} (images {} to {})",
        images.start, images.end - 1
    )]
    Noise {
        /// The site whose input it is in, or `logits`.
        site: String,
        /// `−log2` of the noise's standard deviation.
        bits: f64,
        /// The value.
        value: f32,
        /// The bound of the range of approximation.
        bound: f64,
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
    /// No precision keeps the accuracy.
    #[error(
        "even the highest precision everywhere gives {:.2} %, which is more than {:.2} % below the exact network's {:.2} %; \
         allow a larger drop or a higher precision",
        100.0 * accuracy, 100.0 * max_drop, 100.0 * exact_accuracy
    )]
    TooImprecise {
        /// With the highest precision.
        accuracy: f64,
        /// Of the exact network.
        exact_accuracy: f64,
        /// What may be lost, relative to that.
        max_drop: f64,
    },
    /// Nothing that was to choose from can stand at a site.
    #[error("{site}: none of the candidates can stand there")]
    NoCandidate {
        /// The site.
        site: String,
    },
    /// Nothing can be fitted to what a site sees.
    #[error("{site}: {source}")]
    Fit {
        /// The site.
        site: String,
        /// Why not.
        source: FitError,
    },
    /// The device's memory does not hold a batch.
    #[error("the device's memory does not hold a batch of {batch_size} images{}: {source}", smaller(*batch_size))]
    OutOfMemory {
        /// Images at a time.
        batch_size: usize,
        /// What the device said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The network could not be built or run.
    #[error(transparent)]
    Model(ModelError),
    /// The images could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// candle's own error.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file where a sweep keeps results holds something else.
    #[error("{}: no result of a sweep: {reason}; delete it to have it computed again", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A policy file cannot be used.
    #[error("{}: {reason}", path.display())]
    PolicyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No images to evaluate.
    #[error("there are no images to evaluate")]
    NoImages,
    /// Not one image could be decoded.
    #[error("none of the {} images could be decoded; the first is {}: {}", skipped.len(), skipped[0].name, skipped[0].reason)]
    AllSkipped {
        /// All of them.
        skipped: Vec<Skipped>,
    },
}

impl EvalError {
    /// Tells apart a batch that is too large.
    pub(crate) fn of_model(error: ModelError, batch_size: usize) -> Self {
        match is_out_of_memory(&error) {
            true => Self::OutOfMemory { batch_size, source: Box::new(error) },
            false => Self::Model(error),
        }
    }

    /// The same of an error of any kind: images may not even get onto the device.
    pub(crate) fn of_batch(self, batch_size: usize) -> Self {
        match self {
            Self::Data(error) if is_out_of_memory(&error) => {
                Self::OutOfMemory { batch_size, source: Box::new(error) }
            }
            error => error,
        }
    }
}

/// Only the text tells: candle wraps the errors of the driver, of cuBLAS and of cuDNN.
fn is_out_of_memory(error: &dyn std::error::Error) -> bool {
    let text = error.to_string().to_lowercase();
    ["out of memory", "out_of_memory", "alloc_failed", "allocation_failed"]
        .iter()
        .any(|phrase| text.contains(phrase))
}

impl From<ModelError> for EvalError {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

/// A batch that may do where this one did not.
fn smaller(batch_size: usize) -> String {
    match batch_size / 2 {
        0 => String::new(),
        half => format!("; try {half}"),
    }
}

/// A value outside the range of approximation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct RangeError {
    /// Where.
    pub site: String,
    /// Which function.
    pub kind: SiteKind,
    /// The middle of the range: 0 for `[-B, B]`.
    pub center: f64,
    /// The largest |x| there, or |x − center|.
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
        let distance = match self.center {
            0.0 => "|x|".to_owned(),
            center if center > 0.0 => format!("|x − {}|", center as f32),
            center => format!("|x + {}|", -center as f32),
        };
        write!(f, "{site}: {distance} reached {max_abs}, the bound is {bound} ")?;
        write!(f, "({out_of_range} {values} out of range in images {} to {last})", images.start)
    }
}

/// Shorthand for this crate's results.
pub type Result<T, E = EvalError> = std::result::Result<T, E>;
