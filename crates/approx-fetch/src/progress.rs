//! How a caller follows what is going on.

/// Told about transfers as they happen. Every method does nothing by default, and `()` ignores everything.
pub trait Progress {
    /// A transfer begins, or begins again after a failure. `total` is its size if known; `already` bytes of it
    /// are there from an earlier attempt and will not be passed to [`advance`](Self::advance).
    fn start(&mut self, file: &str, total: Option<u64>, already: u64) {
        let _ = (file, total, already);
    }

    /// `bytes` more have arrived.
    fn advance(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// The transfer that was last started is complete.
    fn finish(&mut self) {}

    /// One line worth telling: where a file comes from, why it is tried again.
    fn note(&mut self, message: &str) {
        let _ = message;
    }
}

impl Progress for () {}
