//! Composite minimax polynomials of the sign function, as data and as float64 truth.
//!
//! Homomorphic encryption schemes such as CKKS can only add and multiply. Lee et al. ("Precise Approximation
//! of Convolutional Neural Networks for Homomorphically Encrypted Data", arXiv 2105.10879) build ReLU and
//! max-pooling from `s_alpha = p_k ∘ … ∘ p_1`, a composition of low-degree odd minimax polynomials that
//! approximates the sign function on `[-1, 1]`. This crate holds the published tables for a precision of
//! `alpha` = 4 to 14 bits, evaluates them in float64, converts them between bases and tells what they cost in
//! multiplicative depth. It depends on no tensor library. With the feature `generate` it makes tables that were never
//! published, for any precision, degrees and margin, and proves bounds of their errors.
//!
//! | module | what |
//! |---|---|
//! | [`alpha`] | [`Alpha`], the precision parameter |
//! | [`composite`] | [`CompositeSign`]: the components, `sign`, ReLU and maximum in float64 |
//! | [`polynomial`] | [`OddPolynomial`]: evaluation, derivative, power and Chebyshev basis |
//! | [`activation`] | [`ActivationFunction`]: the functions that networks have for ReLU, exactly |
//! | [`piecewise`] | [`PiecewiseLinear`]: ReLU6, leaky ReLU, hard-swish and their kind through ReLU |
//! | [`smooth`] | [`Smooth`]: sigmoid, tanh, SiLU, GELU, and their best polynomials with proven errors |
//! | [`fitted`] | [`FittedPolynomial`]: polynomials fitted to the distribution of an activation's inputs, with proven bounds |
//! | [`remez`], [`real`] | the best approximation of a function on a union of intervals |
//! | [`adapted`] | [`AdaptedForm`]: the same polynomial arranged so that float32 evaluates it fast |
//! | [`nested`] | [`NestedForm`]: the same polynomial arranged so that float32 evaluates it accurately |
//! | [`noise`] | what an encrypted evaluation adds: its noise, and by what a composition amplifies it |
//! | [`chain`] | [`Chain`](chain::Chain): the components in the Chebyshev basis, scaled, as encrypted evaluations have them |
//! | [`plan`] | [`EvaluationPlan`]: the steps of an encrypted evaluation with operands, levels and scales |
//! | [`cost`] | [`Cost`]: multiplicative depth and non-scalar multiplications |
//! | [`decimal`] | [`Decimal`]: a coefficient exactly as printed |
//! | [`tables`] | the published tables and the parser of their text format |
//! | [`target`] | [`Target`]: what a composition is to achieve |
//!
//! With the feature `json`:
//!
//! | module | what |
//! |---|---|
//! | `table_file` | `TableFile`: tables as JSON, with all that is known of them |
//!
//! With the feature `generate`, which needs big floats (docs/coefficients.md):
//!
//! | module | what |
//! |---|---|
//! | `compose` | compositions of given degrees, and where their first interval should begin |
//! | `error_curve`, `schedule` | which degrees: least depth, then fewest multiplications |
//! | `generate` | `CompositeSign::generate`: all of it, to decimal tables |
//! | `exact`, `certificate` | proven bounds, in exact binary arithmetic |
//! | `float32` | what float32 makes of a composition |
//! | `export` | source text for OpenFHE, Lattigo, HEIR, poulpy, NumPy and DESILO FHE |
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
//!
//! A table with more precision, and a margin for noise of 1e-6 after each component:
//!
//! ```
//! # #[cfg(feature = "generate")] {
//! use minimax_coeffs::{CompositeSign, Target, schedule};
//!
//! let target = Target::Relu { alpha: 16 };
//! let found = schedule::search(target, 31, 1e-6)?;
//! assert_eq!((found.cost.depth, found.cost.non_scalar_multiplications), (17, 31));
//! let table = CompositeSign::generate(target, &found.degrees, 1e-6)?;
//! let proven = table.record()?.certificates;
//! assert_eq!((proven[0].delta, proven[1].delta), (0.0, 1e-6));
//! assert!(proven.iter().all(|bound| bound.relu_error <= target.error()));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod activation;
pub mod adapted;
pub mod alpha;
#[cfg(feature = "generate")]
pub mod certificate;
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
pub mod fitted;
#[cfg(feature = "generate")]
pub mod float32;
#[cfg(feature = "generate")]
pub mod generate;
pub mod nested;
pub mod noise;
pub mod piecewise;
pub mod plan;
pub mod polynomial;
pub mod real;
pub mod remez;
#[cfg(feature = "generate")]
pub mod schedule;
pub mod smooth;
#[cfg(feature = "json")]
pub mod table_file;
pub mod tables;
pub mod target;

pub use activation::ActivationFunction;
pub use adapted::{AdaptedForm, AdaptedSign};
pub use alpha::{Alpha, AlphaError};
pub use composite::{CompositeError, CompositeSign};
pub use cost::Cost;
pub use decimal::Decimal;
pub use fitted::FittedPolynomial;
#[cfg(feature = "generate")]
pub use generate::Generated;
pub use nested::NestedForm;
pub use piecewise::PiecewiseLinear;
pub use plan::EvaluationPlan;
pub use polynomial::OddPolynomial;
pub use smooth::{Smooth, SmoothApproximation, SmoothError};
#[cfg(feature = "json")]
pub use table_file::TableFile;
pub use tables::{Table, TableError};
pub use target::Target;
