//! Tables as source text for the engines that evaluate them on encrypted data.
//!
//! Every format but JSON holds one table: the chain of components in the Chebyshev basis of `[-1, 1]`, with all
//! scaling folded in ([`Chain`](crate::chain::Chain)). No text leaves this module unread: [`Format::render`] parses
//! what it wrote, compares the numbers, and holds ReLU evaluated with them against `max(x, 0)` and the certificate.

mod desilo;
mod heir;
mod lattigo;
mod numpy;
mod openfhe;
mod poulpy;

use std::fmt;
use std::str::FromStr;

use crate::chain::clenshaw;
use crate::table_file::{Record, TableFile, TableFileError};
use crate::target::Target;

/// A format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// [`TableFile`]: everything, for any number of tables.
    Json,
    /// C++ for OpenFHE's `EvalChebyshevSeries`.
    OpenFhe,
    /// Go for Lattigo's `minimax.NewPolynomial`.
    Lattigo,
    /// Attributes of HEIR's polynomial dialect (MLIR).
    Heir,
    /// Rust for poulpy's `Polynomial::new(Basis::Chebyshev, …)`.
    Poulpy,
    /// Python with NumPy, to evaluate on plain data.
    NumPy,
    /// Python for DESILO FHE's `evaluate_chebyshev_polynomial`.
    Desilo,
}

/// Why a table is not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// This format holds one table.
    #[error("the format {format} holds one table, not {count}")]
    OneTable {
        /// The format.
        format: Format,
        /// How many were given.
        count: usize,
    },
    /// Not a format.
    #[error("there is no format `{given}`; known are: {}", Format::names())]
    Unknown {
        /// As given.
        given: String,
    },
    /// What was written does not parse.
    #[error("what was written as {format} does not parse: {reason}")]
    Unreadable {
        /// The format.
        format: Format,
        /// Why.
        reason: String,
    },
    /// What was written are other numbers.
    #[error(
        "component {component}, coefficient {order} is {written:e} in {format}, but {expected:e} in the table"
    )]
    OtherNumbers {
        /// The format.
        format: Format,
        /// 1-based.
        component: usize,
        /// Of the Chebyshev polynomial.
        order: usize,
        /// As parsed.
        written: f64,
        /// Of the table.
        expected: f64,
    },
    /// ReLU evaluated with it errs by more than is proven.
    #[error("as {format}, ReLU at {x} errs by {error:e}, but at most {bound:e} is proven")]
    Inexact {
        /// The format.
        format: Format,
        /// In `[-1, 1]`.
        x: f64,
        /// The error.
        error: f64,
        /// The bound.
        bound: f64,
    },
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 7] =
        [Self::Json, Self::OpenFhe, Self::Lattigo, Self::Heir, Self::Poulpy, Self::NumPy, Self::Desilo];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::OpenFhe => "openfhe",
            Self::Lattigo => "lattigo",
            Self::Heir => "heir",
            Self::Poulpy => "poulpy",
            Self::NumPy => "numpy",
            Self::Desilo => "desilo",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The tables as text, checked by reading it back.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn render(self, tables: &[Record]) -> Result<String, ExportError> {
        if self == Self::Json {
            let text = TableFile::new(tables.to_vec()).to_json();
            let read = TableFile::parse(&text).map_err(|error| self.unreadable(error.to_string()))?;
            for (written, table) in read.tables.iter().zip(tables) {
                let components = written.components.iter().map(|c| c.chebyshev.clone()).collect();
                self.check(components, table)?;
            }
            return Ok(text);
        }
        let [table] = tables else {
            return Err(ExportError::OneTable { format: self, count: tables.len() });
        };
        let text = match self {
            Self::Json => unreachable!("handled above"),
            Self::OpenFhe => openfhe::render(table),
            Self::Lattigo => lattigo::render(table),
            Self::Heir => heir::render(table),
            Self::Poulpy => poulpy::render(table),
            Self::NumPy => numpy::render(table),
            Self::Desilo => desilo::render(table),
        };
        self.check(self.read(&text)?, table)?;
        Ok(text)
    }

    /// The components' Chebyshev coefficients in a text of this format; of the first table in JSON.
    ///
    /// # Errors
    /// [`ExportError::Unreadable`].
    pub fn read(self, text: &str) -> Result<Vec<Vec<f64>>, ExportError> {
        let found = match self {
            Self::Json => {
                let first =
                    |file: TableFile| file.tables[0].components.iter().map(|c| c.chebyshev.clone()).collect();
                TableFile::parse(text).map(first).map_err(|error: TableFileError| error.to_string())
            }
            Self::OpenFhe | Self::Lattigo => nested_lists(text, '{', '}'),
            Self::Poulpy | Self::NumPy | Self::Desilo => nested_lists(text, '[', ']'),
            Self::Heir => heir::read(text),
        };
        found.map_err(|reason| self.unreadable(reason))
    }

    fn unreadable(self, reason: String) -> ExportError {
        ExportError::Unreadable { format: self, reason }
    }

    /// Whether `components` are those of `table` and approximate ReLU as well as is proven.
    fn check(self, components: Vec<Vec<f64>>, table: &Record) -> Result<(), ExportError> {
        /// What float64 may add to the proven error.
        const ROUNDING: f64 = 1e-12;
        const STEPS: i32 = 4000;
        let lengths = |c: &[Vec<f64>]| c.iter().map(Vec::len).collect::<Vec<_>>();
        let expected: Vec<Vec<f64>> = table.components.iter().map(|c| c.chebyshev.clone()).collect();
        if lengths(&components) != lengths(&expected) {
            return Err(
                self.unreadable(format!("the components have {:?} coefficients", lengths(&components)))
            );
        }
        for (i, (written, expected)) in components.iter().zip(&expected).enumerate() {
            if let Some(order) = (0..written.len()).find(|&k| written[k] != expected[k]) {
                let (written, expected) = (written[order], expected[order]);
                return Err(ExportError::OtherNumbers {
                    format: self,
                    component: i + 1,
                    order,
                    written,
                    expected,
                });
            }
        }
        let bound = table.certificates[0].relu_error + ROUNDING;
        for i in -STEPS..=STEPS {
            let x = f64::from(i) / f64::from(STEPS);
            let s = components.iter().fold(x, |x, c| clenshaw(c, x));
            let error = (x * (1.0 + s) / 2.0 - x.max(0.0)).abs();
            // Also for NaN.
            if error.is_nan() || error > bound {
                return Err(ExportError::Inexact { format: self, x, error, bound });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = ExportError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| ExportError::Unknown { given: text.to_owned() })
    }
}

/// What a reader of the text should know, a line each.
fn heading(table: &Record) -> Vec<String> {
    let degrees: Vec<String> = table.degrees.iter().map(usize::to_string).collect();
    let (cost, relu) = (table.cost, table.relu_cost);
    let mut lines = vec![
        format!("Composite minimax approximation of the sign function, for {}.", table.target),
        format!(
            "Degrees {}: depth {} and {} non-scalar multiplications; with the last one of ReLU {} and {}.",
            degrees.join(", "),
            cost.depth,
            cost.non_scalar_multiplications,
            relu.depth,
            relu.non_scalar_multiplications
        ),
        format!("Margin of each component's interval: {:e}.", table.eta),
    ];
    for certificate in &table.certificates {
        let disturbed = match certificate.delta {
            0.0 => String::new(),
            delta => format!(" with outputs disturbed by up to {delta:e}"),
        };
        let (relu, sign) = (certificate.relu_error, certificate.sign_error);
        lines.push(match table.target {
            Target::Relu { .. } => {
                format!("Proven{disturbed}: ReLU on [-1, 1] within {relu:.4e} (2^{:.3}).", relu.log2())
            }
            Target::Sign { .. } => {
                format!("Proven{disturbed}: the sign within {sign:.4e} (2^{:.3}).", sign.log2())
            }
        });
    }
    lines.push(
        "Coefficients of T_0, T_1, ... on [-1, 1], for all components in turn; scaling is folded in."
            .to_owned(),
    );
    lines
}

/// The heading, each line after `mark`.
fn comment(table: &Record, mark: &str) -> String {
    heading(table).iter().map(|line| format!("{mark} {line}\n")).collect()
}

/// The components as lists in `open` and `close`, a line each.
fn lists(table: &Record, indent: &str, open: &str, close: &str, number: impl Fn(f64) -> String) -> String {
    let line = |c: &[f64]| {
        let numbers: Vec<String> = c.iter().map(|&c| number(c)).collect();
        format!("{indent}{open}{}{close},\n", numbers.join(", "))
    };
    table.components.iter().map(|c| line(&c.chebyshev)).collect()
}

/// The inner lists of the list of lists after the first `=` that follows the word `components` in any spelling.
fn nested_lists(text: &str, open: char, close: char) -> Result<Vec<Vec<f64>>, String> {
    let name = ["SIGN_COMPONENTS", "SignComponents"].iter().filter_map(|name| text.find(name)).min();
    let rest = name.map(|at| &text[at..]).and_then(|rest| rest.split_once('=')).ok_or("there is no list")?.1;
    let start = rest.find(open).ok_or("there is no list")?;
    let mut result = Vec::new();
    let mut begin = None;
    for (at, c) in rest[start + 1..].char_indices().map(|(at, c)| (at + start + 1, c)) {
        match (begin, c) {
            (None, c) if c == open => begin = Some(at + 1),
            (None, c) if c == close => return Ok(result),
            (Some(begin_at), c) if c == close => {
                result.push(numbers(&rest[begin_at..at])?);
                begin = None;
            }
            _ => {}
        }
    }
    Err("the list does not end".to_owned())
}

/// Numbers between commas, in quotation marks or not.
fn numbers(text: &str) -> Result<Vec<f64>, String> {
    let parse = |item: &str| {
        let item = item.trim().trim_matches('"');
        item.parse::<f64>().map_err(|_| format!("`{item}` is no number"))
    };
    text.split(',').filter(|item| !item.trim().is_empty()).map(parse).collect()
}
