//! The polynomials: published, or from a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use approx_models::Composition;
use minimax_coeffs::{Alpha, TableFile};

use crate::args::Alphas;

/// Where polynomials come from.
pub enum PolynomialSource {
    /// The authors' tables.
    Published,
    /// A file of generated tables.
    File(PathBuf, TableFile),
}

impl PolynomialSource {
    /// Those of `file`, or the published ones.
    pub fn open(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else { return Ok(Self::Published) };
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let file = TableFile::parse(&text).with_context(|| path.display().to_string())?;
        if file.alphas().is_empty() {
            bail!("{}: no table in it is for ReLU", path.display());
        }
        Ok(Self::File(path.to_owned(), file))
    }

    /// All precisions, ascending.
    pub fn alphas(&self) -> Vec<u8> {
        match self {
            Self::Published => Alpha::all().map(Alpha::bits).collect(),
            Self::File(_, file) => file.alphas(),
        }
    }

    /// Whether float32, which the ops run in, errs by no more than the polynomials of this precision do.
    pub fn suits_float32(&self, alpha: u8) -> bool {
        match self {
            Self::Published => true,
            Self::File(_, file) => file.relu(alpha).is_some_and(|t| t.float32.nested <= t.target.error()),
        }
    }

    /// The composition of this precision.
    pub fn get(&self, alpha: u8) -> Result<Arc<Composition>> {
        let (path, file) = match self {
            Self::Published => {
                let alpha = Alpha::new(alpha).map_err(|e| invalid(&e.to_string(), e.given()))?;
                return Ok(Composition::published(alpha));
            }
            Self::File(path, file) => (path.display(), file),
        };
        let Some(table) = file.relu(alpha) else {
            let known: Vec<String> = file.alphas().iter().map(u8::to_string).collect();
            let reason = format!("{path} offers alpha {}", known.join(", "));
            return Err(invalid(&reason, &alpha.to_string()));
        };
        if !self.suits_float32(alpha) {
            let (adds, allowed) = (table.float32.nested, table.target.error());
            bail!(
                "alpha {alpha} of {path} needs more than float32, which the ops run in: it adds {adds:.1e} B to an \
                 error of {allowed:.1e} B"
            );
        }
        Composition::from_table(table).with_context(|| format!("{path}: the table of alpha {alpha}"))
    }

    /// The compositions of these precisions, or of all that float32 can evaluate; it is said which ones are left out.
    pub fn choose(&self, alphas: Option<&Alphas>) -> Result<Vec<Arc<Composition>>> {
        if let Some(Alphas(alphas)) = alphas {
            return alphas.iter().map(|&alpha| self.get(alpha)).collect();
        }
        let (suited, others): (Vec<u8>, Vec<u8>) =
            self.alphas().into_iter().partition(|&alpha| self.suits_float32(alpha));
        for alpha in others {
            eprintln!("note: alpha {alpha} needs more than float32 and is left out");
        }
        suited.into_iter().map(|alpha| self.get(alpha)).collect()
    }
}

fn invalid(reason: &str, given: &str) -> anyhow::Error {
    anyhow::anyhow!("invalid value '{given}' for '--alpha <ALPHA>': {reason}")
}
