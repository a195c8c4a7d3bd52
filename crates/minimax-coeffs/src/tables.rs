//! The published tables and their text format.
//!
//! A table is a text file: lines that start with `#` are comments (provenance and achieved error), the first
//! other line is `degrees D_1 D_2 …`, and each further line is one coefficient: all components in turn,
//! constant term first.

use crate::alpha::Alpha;
use crate::composite::{CompositeError, CompositeSign};
use crate::decimal::{Decimal, DecimalError};
use crate::polynomial::OddPolynomial;

/// Even coefficients of the published tables are rounding noise of their generator; above this they are not.
const EVEN_NOISE: f64 = 1e-20;

/// The components of a composition, with the coefficients exactly as printed.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    components: Vec<Vec<Decimal>>,
}

/// Why a text is not a table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The line with the degrees is missing or malformed.
    #[error("line {line}: expected `degrees D_1 D_2 …` with odd numbers, found `{text}`")]
    Degrees {
        /// 1-based; 0 where the text has no such line.
        line: usize,
        /// The line.
        text: String,
    },
    /// A coefficient does not parse.
    #[error("line {line}: {source}")]
    Coefficient {
        /// 1-based.
        line: usize,
        /// What is wrong with it.
        source: DecimalError,
    },
    /// Too few or too many coefficients.
    #[error("the degrees call for {expected} coefficients, the table has {found}")]
    Count {
        /// `Σ (degree + 1)`.
        expected: usize,
        /// Lines with a coefficient.
        found: usize,
    },
    /// The polynomial is not odd.
    #[error(
        "component {component}: the coefficient of x^{power} is {value:e}, but the polynomial must be odd"
    )]
    NotOdd {
        /// 1-based.
        component: usize,
        /// An even power.
        power: usize,
        /// Its coefficient.
        value: f64,
    },
    /// The polynomials are no composition.
    #[error(transparent)]
    Composite(#[from] CompositeError),
}

impl Table {
    /// Reads a table from its text.
    ///
    /// # Errors
    /// [`TableError`] where the text is malformed, names an even degree or has too few or many coefficients.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let (line, header) = lines.next().unwrap_or((0, ""));
        let malformed = || TableError::Degrees { line, text: header.to_owned() };
        let degrees: Vec<usize> = header
            .strip_prefix("degrees ")
            .ok_or_else(malformed)?
            .split_whitespace()
            .map(|d| d.parse().ok().filter(|d| d % 2 == 1 && *d < 1000))
            .collect::<Option<_>>()
            .ok_or_else(malformed)?;
        let coefficients: Vec<Decimal> = lines
            .map(|(line, text)| text.parse().map_err(|source| TableError::Coefficient { line, source }))
            .collect::<Result<_, _>>()?;
        let expected = degrees.iter().map(|d| d + 1).sum();
        if coefficients.len() != expected || degrees.is_empty() {
            return Err(TableError::Count { expected, found: coefficients.len() });
        }
        let mut rest = coefficients.as_slice();
        let components = degrees.iter().map(|d| rest.split_off(..=*d).expect("counted").to_vec()).collect();
        Ok(Self { components })
    }

    /// The table of odd components with these coefficients of `x, x³, x⁵, …`.
    #[cfg(feature = "generate")]
    pub(crate) fn of_odd(components: Vec<Vec<Decimal>>) -> Self {
        let with_even = |odd: Vec<Decimal>| odd.into_iter().flat_map(|c| [Decimal::ZERO, c]).collect();
        Self { components: components.into_iter().map(with_even).collect() }
    }

    /// The coefficients of each component, in order of application, constant term first, as printed.
    pub fn components(&self) -> &[Vec<Decimal>] {
        &self.components
    }

    /// The composition in float64, each coefficient rounded once.
    ///
    /// # Errors
    /// [`TableError::NotOdd`] if an even coefficient is more than noise, [`TableError::Composite`].
    pub fn composite(&self) -> Result<CompositeSign, TableError> {
        let mut polynomials = Vec::with_capacity(self.components.len());
        for (index, component) in self.components.iter().enumerate() {
            let values: Vec<f64> = component.iter().map(Decimal::to_f64).collect();
            if let Some((power, &value)) =
                values.iter().enumerate().step_by(2).find(|(_, c)| c.abs() > EVEN_NOISE)
            {
                return Err(TableError::NotOdd { component: index + 1, power, value });
            }
            polynomials.push(OddPolynomial::new(values.into_iter().skip(1).step_by(2).collect()));
        }
        Ok(CompositeSign::new(polynomials)?)
    }
}

/// The text of the published table for `alpha`, with its provenance.
pub fn published_text(alpha: Alpha) -> &'static str {
    match alpha.bits() {
        4 => include_str!("../tables/alpha_04.txt"),
        5 => include_str!("../tables/alpha_05.txt"),
        6 => include_str!("../tables/alpha_06.txt"),
        7 => include_str!("../tables/alpha_07.txt"),
        8 => include_str!("../tables/alpha_08.txt"),
        9 => include_str!("../tables/alpha_09.txt"),
        10 => include_str!("../tables/alpha_10.txt"),
        11 => include_str!("../tables/alpha_11.txt"),
        12 => include_str!("../tables/alpha_12.txt"),
        13 => include_str!("../tables/alpha_13.txt"),
        14 => include_str!("../tables/alpha_14.txt"),
        bits => unreachable!("Alpha holds 4..=14, not {bits}"),
    }
}

/// The published table for `alpha`.
pub fn published(alpha: Alpha) -> Table {
    Table::parse(published_text(alpha)).expect("the committed tables are well formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_tables_are_refused_with_the_reason() {
        let cases = [
            ("", "line 0: expected `degrees"),
            ("degrees 4\n0\n", "line 1: expected `degrees"),
            ("# comment\n1\n2\n", "line 2: expected `degrees"),
            ("degrees 3\n0\n1\nx\n2\n", "line 4: `x` is not a decimal number"),
            ("degrees 3\n0\n1\n0\n", "call for 4 coefficients, the table has 3"),
            ("degrees 1\n0.5\n1\n", "component 1: the coefficient of x^0 is 5e-1"),
            (
                &format!("degrees 65\n{}", "0\n1\n".repeat(33)),
                "component 1 has degree 65, but only odd ones up to 63",
            ),
        ];
        for (text, expected) in cases {
            let error = Table::parse(text).and_then(|t| t.composite()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
