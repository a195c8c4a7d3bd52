//! What is a property of a run, and not of the policy that it runs with.

use approx_ops::Noise;

/// How activations that are approximated on a range are run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RunOptions {
    /// What an encrypted evaluation would add, simulated; `None` for none.
    pub noise: Option<Noise>,
    /// What a value outside of its range becomes.
    pub outside: Outside,
}

/// What becomes of a value outside `[-B, B]`. It is counted in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outside {
    /// Whatever the polynomials give: the run is to fail.
    #[default]
    Undefined,
    /// The exact function of it, so that training can go on.
    Exact,
}

impl RunOptions {
    /// Values outside of their range become the exact function of them.
    pub const EXACT_OUTSIDE: Self = Self { noise: None, outside: Outside::Exact };

    /// With this noise, if there is some. What is outside of its range is undefined.
    pub fn with_noise(noise: Option<Noise>) -> Self {
        Self { noise, outside: Outside::Undefined }
    }
}
