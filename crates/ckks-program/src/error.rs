//! What can be wrong.

use minimax_coeffs::SmoothError;

/// Why there is no program, or it does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter has another number of values than its shape says.
    #[error("{name} has {found} values, but its shape {shape:?} has {}", shape.iter().product::<usize>())]
    Weights {
        /// The parameter.
        name: String,
        /// As the network has it.
        shape: Vec<usize>,
        /// How many values were given.
        found: usize,
    },
    /// Slots that make no ciphertext.
    #[error("{slots} slots: a ciphertext has a power of two, 64 at least")]
    Slots {
        /// As given.
        slots: usize,
    },
    /// An image that is none of the network's.
    #[error("an image has {found} values, but the network takes {expected}")]
    Image {
        /// What the network takes.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A site without a polynomial.
    #[error("{site}: the policy has `{method}` here, which no ciphertext can be put through")]
    NotPolynomial {
        /// The site.
        site: String,
        /// What the policy has there.
        method: &'static str,
    },
    /// An operation that there is no program for.
    #[error("{node} ({op}): {reason}")]
    Unsupported {
        /// The node.
        node: String,
        /// The operation.
        op: &'static str,
        /// What is the matter, with the numbers.
        reason: String,
    },
    /// The policy is not one for this network.
    #[error(transparent)]
    Policy(#[from] cnn_graph::policy::PolicyError),
    /// No polynomial is near enough to a smooth activation.
    #[error("{site}: {source}")]
    Smooth {
        /// The site.
        site: String,
        /// Why not.
        source: SmoothError,
    },
    /// The polynomials of a site have no plan.
    #[error("{site}: {source}")]
    Polynomial {
        /// The site.
        site: String,
        /// Why not.
        source: minimax_coeffs::plan::PlanError,
    },
    /// A value left the range that a policy or a record has for it.
    #[error("{site}: values reached from {:.4} to {:.4}, but its range is {:.4} to {:.4}", seen[0], seen[1], allowed[0], allowed[1])]
    OutOfRange {
        /// The activation or the value.
        site: String,
        /// The smallest and the largest value.
        seen: [f64; 2],
        /// What they may be.
        allowed: [f64; 2],
    },
    /// A part of the network takes more levels than a bootstrap gives.
    #[error(
        "{layer} takes {needs} levels at once, but there are at most {has}: after a bootstrap, or at the start"
    )]
    Depth {
        /// The part.
        layer: String,
        /// How many levels it takes.
        needs: u32,
        /// How many there are.
        has: u32,
    },
    /// Levels run out where no bootstrap can be.
    #[error(
        "levels run out at {layer}: there is no place for a bootstrap before it; the largest values in reach have the bound \
         {bound:.3}, and a bootstrap takes values up to {range}"
    )]
    NoBootstrap {
        /// The part that has too few levels left.
        layer: String,
        /// The bound of the value before it.
        bound: f64,
        /// What a bootstrap takes.
        range: f64,
    },
    /// Keys take too much memory.
    #[error("keys take {:.2} GB at least, but {:.2} GB are allowed", needs / 1e9, most / 1e9)]
    KeyBytes {
        /// What they take with as few different rotations as possible.
        needs: f64,
        /// What they may take.
        most: f64,
    },
    /// A profile that says nothing about an operation.
    #[error("the profile of {engine} has no cost of `{operation}` at level {level}")]
    NoCost {
        /// The engine.
        engine: String,
        /// The operation.
        operation: String,
        /// Where it is needed.
        level: u32,
    },
    /// Parameters that do not keep the data secret.
    #[error(
        "the parameters of {engine} have {bits} bits of security, which is below {}",
        crate::profile::SECURE_BITS
    )]
    Insecure {
        /// The engine.
        engine: String,
        /// As the profile has it.
        bits: u32,
    },
    /// A file that is no profile.
    #[error("not a profile of an engine: {0}")]
    Profile(String),
    /// A file that is no program.
    #[error("not a program: {0}")]
    Program(String),
}

/// A result with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
