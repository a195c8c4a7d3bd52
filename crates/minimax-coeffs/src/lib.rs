//! Composite minimax polynomials of the sign function, as data and as float64 truth.
//!
//! Homomorphic encryption schemes such as CKKS can only add and multiply. Lee et al. ("Precise Approximation
//! of Convolutional Neural Networks for Homomorphically Encrypted Data", arXiv 2105.10879) build ReLU and
//! max-pooling from `s_alpha = p_k ∘ … ∘ p_1`, a composition of low-degree odd minimax polynomials that
//! approximates the sign function on `[-1, 1]`. This crate holds the published tables for a precision of
//! `alpha` = 4 to 14 bits, evaluates them in float64, converts them between bases and tells what they cost in
//! multiplicative depth. It depends on no tensor library.
//!
//! | module | what |
//! |---|---|
//! | [`alpha`] | [`Alpha`], the precision parameter |
//! | [`composite`] | [`CompositeSign`]: the components, `sign`, ReLU and maximum in float64 |
//! | [`polynomial`] | [`OddPolynomial`]: evaluation, derivative, power and Chebyshev basis |
//! | [`nested`] | [`NestedForm`]: the same polynomial arranged so that float32 evaluates it accurately |
//! | [`cost`] | [`Cost`]: multiplicative depth and non-scalar multiplications |
//! | [`decimal`] | [`Decimal`]: a coefficient exactly as printed |
//! | [`tables`] | the published tables and the parser of their text format |
//!
//! ```
//! use minimax_coeffs::{Alpha, CompositeSign};
//!
//! let alpha = Alpha::new(10)?;
//! let sign = CompositeSign::published(alpha);
//! assert_eq!(sign.degrees(), [7, 7, 13]);
//! // ReLU on [-50, 50]: off by at most about 50 * 2^-10.
//! assert!((sign.relu(-20.0, 50.0) - 0.0).abs() < 50.0 * alpha.epsilon());
//! assert_eq!(sign.relu_cost().depth, 3 + 3 + 4 + 1);
//! # Ok::<(), minimax_coeffs::AlphaError>(())
//! ```

pub mod alpha;
#[cfg(feature = "generate")]
pub mod certificate;
#[cfg(feature = "generate")]
pub mod chain;
#[cfg(feature = "generate")]
pub mod compose;
pub mod composite;
pub mod cost;
pub mod decimal;
#[cfg(feature = "generate")]
pub mod error_curve;
#[cfg(feature = "generate")]
pub mod exact;
#[cfg(feature = "generate")]
pub mod export;
#[cfg(feature = "generate")]
pub mod float32;
#[cfg(feature = "generate")]
pub mod generate;
pub mod nested;
pub mod polynomial;
#[cfg(feature = "generate")]
pub mod real;
#[cfg(feature = "generate")]
pub mod remez;
#[cfg(feature = "generate")]
pub mod schedule;
#[cfg(feature = "json")]
pub mod table_file;
pub mod tables;
pub mod target;

pub use alpha::{Alpha, AlphaError};
pub use composite::CompositeSign;
pub use cost::Cost;
pub use decimal::Decimal;
#[cfg(feature = "generate")]
pub use generate::Generated;
pub use nested::NestedForm;
pub use polynomial::OddPolynomial;
#[cfg(feature = "json")]
pub use table_file::TableFile;
pub use tables::{Table, TableError};
pub use target::Target;
