//! Values of options.

use approx_ops::MinimaxRelu;
use clap::ValueEnum;
use minimax_coeffs::Alpha;

/// Vector instructions by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[expect(missing_docs, reason = "they would be in the help, too")]
pub enum Simd {
    Portable,
    Neon,
    Avx2,
    Avx512,
}

impl From<Simd> for cnn_kernels::SimdLevel {
    fn from(simd: Simd) -> Self {
        match simd {
            Simd::Portable => Self::Portable,
            Simd::Neon => Self::Neon,
            Simd::Avx2 => Self::Avx2,
            Simd::Avx512 => Self::Avx512,
        }
    }
}

/// The bound of an approximation range.
///
/// # Errors
/// A text that is no number, or a number that no op takes as its bound.
pub fn bound(text: &str) -> Result<f64, String> {
    let bound = text.parse().map_err(|_| "not a number".to_owned())?;
    // The op knows which bounds it takes.
    MinimaxRelu::new(Alpha::MIN, bound).map_err(|e| e.to_string())?;
    Ok(bound)
}
