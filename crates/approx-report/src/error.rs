//! What can go wrong.

use atomic_file::WriteError;

/// Why there is no page or picture.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A picture cannot be drawn.
    #[error("drawing {title}: {reason}")]
    Drawing {
        /// Which one.
        title: String,
        /// What the plotting library says.
        reason: String,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Shorthand for this crate's results.
pub type Result<T, E = ReportError> = std::result::Result<T, E>;
