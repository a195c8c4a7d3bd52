//! Tables as JSON, with all that is known of them.
//!
//! A file holds one or more tables, each with its coefficients in the power basis (decimal text) and in the scaled
//! Chebyshev basis, its intervals, cost, proven bounds and float32 errors. Reading one needs no big floats.

use serde::{Deserialize, Serialize};

use crate::composite::CompositeSign;
use crate::cost::Cost;
use crate::decimal::Decimal;
use crate::polynomial::OddPolynomial;
use crate::target::Target;

/// What a file says that it is.
const FORMAT: &str = "composite minimax sign";
/// Of the layout.
const VERSION: u32 = 1;

/// A file of tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableFile {
    format: String,
    version: u32,
    /// The tables.
    pub tables: Vec<Record>,
}

/// A composition with all that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What it was made for.
    pub target: Target,
    /// By how much each component's output may be off without leaving the next one's interval.
    pub eta: f64,
    /// Of the components, in order of application.
    pub degrees: Vec<usize>,
    /// Of `s`.
    pub cost: Cost,
    /// Of one ReLU, or of one maximum.
    pub relu_cost: Cost,
    /// In order of application.
    pub components: Vec<ComponentRecord>,
    /// Proven bounds: undisturbed, and with outputs disturbed by up to `eta`.
    pub certificates: Vec<Certificate>,
    /// What float32 makes of it.
    pub float32: Float32Error,
}

/// A component of a [`Record`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentRecord {
    /// Where it approximates 1.
    pub interval: [f64; 2],
    /// Its largest error there.
    pub error: f64,
    /// The coefficients of `x, x³, x⁵, …` as decimal numbers.
    pub power: Vec<String>,
    /// `r`: the largest absolute value that it may see.
    pub radius: f64,
    /// The coefficients of `T_0, T_1, …` of `p(r z) / r'`, where `r'` is the next component's radius, and 1 after
    /// the last one.
    pub chebyshev: Vec<f64>,
}

/// Proven bounds of a composition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// By how much each component's output may be disturbed.
    pub delta: f64,
    /// `|s(x) − sign(x)|` is at most this for `start ≤ |x| ≤ 1`.
    pub sign_error: f64,
    /// `|x (1 + s(x)) / 2 − max(x, 0)|` is at most this for `|x| ≤ 1`; for `|x| ≤ B` it is `B` times that.
    pub relu_error: f64,
    /// Each component's values for `start ≤ x ≤ 1`, without its own disturbance.
    pub ranges: Vec<[f64; 2]>,
}

/// The largest difference of ReLU evaluated in float32 and in float64, for `|x| ≤ 1`; `f64::MAX` where float32
/// overflows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Float32Error {
    /// Places where it was measured.
    pub points: u32,
    /// With `chebyshev` of the components, by Clenshaw's recurrence.
    pub chebyshev: f64,
    /// With the components in the nested form ([`NestedForm`](crate::NestedForm)).
    pub nested: f64,
}

/// Why a text is no file of tables.
#[derive(Debug, thiserror::Error)]
pub enum TableFileError {
    /// No JSON, or not with these fields.
    #[error("not a file of tables: {0}")]
    Json(#[from] serde_json::Error),
    /// Something else, or of another version.
    #[error("the file is `{format}` version {version}, but `{FORMAT}` version {VERSION} is needed")]
    Version {
        /// As read.
        format: String,
        /// As read.
        version: u32,
    },
    /// No table.
    #[error("the file holds no table")]
    Empty,
    /// A table contradicts itself.
    #[error("table {table}: {reason}")]
    Table {
        /// 1-based.
        table: usize,
        /// What is wrong.
        reason: String,
    },
}

impl TableFile {
    /// A file of these tables.
    pub fn new(tables: Vec<Record>) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, tables }
    }

    /// Reads a file, and checks that its coefficients are numbers and as many as its degrees say.
    ///
    /// # Errors
    /// [`TableFileError`].
    pub fn parse(text: &str) -> Result<Self, TableFileError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let Head { format, version } = serde_json::from_str(text)?;
        if format != FORMAT || version != VERSION {
            return Err(TableFileError::Version { format, version });
        }
        let file: Self = serde_json::from_str(text)?;
        if file.tables.is_empty() {
            return Err(TableFileError::Empty);
        }
        for (index, record) in file.tables.iter().enumerate() {
            record.composite().map_err(|reason| TableFileError::Table { table: index + 1, reason })?;
        }
        Ok(file)
    }

    /// The file as indented JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, texts and lists") + "\n"
    }

    /// The precisions of ReLU that the file offers, ascending.
    pub fn alphas(&self) -> Vec<u8> {
        let alpha = |record: &Record| match record.target {
            Target::Relu { alpha } => Some(alpha),
            Target::Sign { .. } => None,
        };
        let mut alphas: Vec<u8> = self.tables.iter().filter_map(alpha).collect();
        alphas.sort_unstable();
        alphas
    }

    /// The table for ReLU with this precision.
    pub fn relu(&self, alpha: u8) -> Option<&Record> {
        self.tables.iter().find(|record| record.target == Target::Relu { alpha })
    }
}

impl Record {
    /// The composition in float64, each coefficient rounded once.
    ///
    /// # Errors
    /// What is wrong with the table, in words.
    pub fn composite(&self) -> Result<CompositeSign, String> {
        if self.components.len() != self.degrees.len() {
            let (degrees, components) = (self.degrees.len(), self.components.len());
            return Err(format!("{degrees} degrees, but {components} components"));
        }
        let polynomial = |(degree, component): (&usize, &ComponentRecord)| {
            let expected = degree.div_ceil(2);
            if degree.is_multiple_of(2) || component.power.len() != expected {
                let found = component.power.len();
                return Err(format!(
                    "degree {degree} calls for {expected} odd coefficients, there are {found}"
                ));
            }
            let parse = |text: &String| {
                let value = text.parse::<Decimal>().map_err(|error| error.to_string())?.to_f64();
                value.is_finite().then_some(value).ok_or_else(|| format!("`{text}` is too large"))
            };
            Ok(OddPolynomial::new(component.power.iter().map(parse).collect::<Result<_, String>>()?))
        };
        let polynomials: Vec<_> =
            self.degrees.iter().zip(&self.components).map(polynomial).collect::<Result<_, _>>()?;
        let sign = CompositeSign::new(polynomials).map_err(|error| error.to_string())?;
        Ok(sign.with_margin(self.eta))
    }
}
