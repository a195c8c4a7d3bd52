//! Polynomials with what is known of them.

use std::sync::{Arc, LazyLock};

use minimax_coeffs::decimal::DecimalError;
use minimax_coeffs::table_file::Record;
use minimax_coeffs::{Alpha, CompositeError, CompositeSign, Cost, Decimal, OddPolynomial, Target};
use serde::{Deserialize, Serialize};

/// A composition of minimax polynomials with its precision. Two are the same if their polynomials and precisions are.
#[derive(Debug, Clone)]
pub struct Composition {
    bits: u8,
    digest: String,
    provenance: Provenance,
}

/// Where polynomials are from.
#[derive(Debug, Clone)]
enum Provenance {
    /// The tables of Lee et al.
    Published(Alpha),
    /// A generator.
    Generated { sign: Box<CompositeSign>, record: CompositionRecord },
}

/// Generated polynomials as data. The precision of ReLU is stated for `[-1, 1]`; on `[-B, B]` errors are `B` times as
/// large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompositionRecord {
    /// `alpha`: ReLU is off by at most `2^-alpha`.
    pub bits: u8,
    /// Of the components, in order of application.
    pub degrees: Vec<usize>,
    /// By how much the output of each component may be off without leaving the next one's interval.
    pub eta: f64,
    /// A proven bound of the error of ReLU, in exact arithmetic.
    pub relu_error: f64,
    /// By how much ReLU in float32 differed from float64, measured.
    pub float32_error: f64,
    /// Of each component the coefficients of `x, x³, x⁵, …` as decimal numbers.
    pub coefficients: Vec<Vec<String>>,
}

/// Why polynomials are not a composition of the precision that they claim.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompositionError {
    /// Made for a sign with a gap, and not for ReLU.
    #[error("the table is for {target}, and not for ReLU")]
    NotForRelu {
        /// What it is for.
        target: Target,
    },
    /// A table file without a bound for undisturbed evaluation.
    #[error("the table has no proven bound for evaluation without disturbance")]
    NoBound,
    /// As many lists of coefficients as degrees are needed.
    #[error("there are {degrees} degrees, but coefficients of {components} components")]
    Components {
        /// How many degrees there are.
        degrees: usize,
        /// How many lists of coefficients there are.
        components: usize,
    },
    /// A list of coefficients has another length than the degree calls for.
    #[error("component {component}: degree {degree} calls for {} odd coefficients, there are {found}", degree.div_ceil(2))]
    Count {
        /// 1-based.
        component: usize,
        /// As given.
        degree: usize,
        /// How many coefficients there are.
        found: usize,
    },
    /// A coefficient is no decimal number.
    #[error("component {component}: {source}")]
    Coefficient {
        /// 1-based.
        component: usize,
        /// What is wrong with it.
        source: DecimalError,
    },
    /// A coefficient is no float64 number.
    #[error("component {component}: `{text}` is too large")]
    TooLarge {
        /// 1-based.
        component: usize,
        /// The coefficient.
        text: String,
    },
    /// An even degree.
    #[error("degrees {degrees:?}: only odd ones up to {} are supported", Cost::MAX_DEGREE)]
    Degrees {
        /// As given.
        degrees: Vec<usize>,
    },
    /// The polynomials are no composition.
    #[error(transparent)]
    Composite(#[from] CompositeError),
    /// The claimed error is larger than the claimed precision allows.
    #[error("the claimed error of ReLU is {claimed:e}, but alpha {bits} allows {:e}", (-f64::from(*bits)).exp2())]
    Precision {
        /// The claimed precision.
        bits: u8,
        /// The claimed error.
        claimed: f64,
    },
    /// The error is larger than claimed.
    #[error("the claimed error of ReLU is {claimed:e}, but at {place:e} it is {measured:e}")]
    Claim {
        /// The claimed bound.
        claimed: f64,
        /// The error in float64.
        measured: f64,
        /// Where, between -1 and 0.
        place: f64,
    },
    /// float32 cannot evaluate the polynomials.
    #[error("alpha {bits} needs more than float32, which adds an error of {added:.1e} to {:.1e}", (-f64::from(*bits)).exp2())]
    Float32 {
        /// The claimed precision.
        bits: u8,
        /// What float32 adds.
        added: f64,
    },
    /// The polynomials are others than the digest says.
    #[error("the digest of its coefficients is {found}")]
    Digest {
        /// Of the coefficients.
        found: String,
    },
}

impl Composition {
    /// The published composition for `alpha`. There is one of each in a program.
    pub fn published(alpha: Alpha) -> Arc<Self> {
        static ALL: LazyLock<Vec<Arc<Composition>>> = LazyLock::new(|| {
            let composition = |alpha: Alpha| Composition {
                bits: alpha.bits(),
                digest: CompositeSign::published(alpha).digest(),
                provenance: Provenance::Published(alpha),
            };
            Alpha::all().map(|alpha| Arc::new(composition(alpha))).collect()
        });
        ALL[usize::from(alpha.bits() - Alpha::MIN.bits())].clone()
    }

    /// A composition for ReLU from a file of tables.
    ///
    /// # Errors
    /// [`CompositionError`], as [`Composition::from_record`]; also for a table that is not for ReLU.
    pub fn from_table(table: &Record) -> Result<Arc<Self>, CompositionError> {
        let Target::Relu { alpha } = table.target else {
            return Err(CompositionError::NotForRelu { target: table.target });
        };
        let undisturbed = table.certificates.iter().find(|certificate| certificate.delta == 0.0);
        Self::from_record(CompositionRecord {
            bits: alpha,
            degrees: table.degrees.clone(),
            eta: table.eta,
            relu_error: undisturbed.ok_or(CompositionError::NoBound)?.relu_error,
            float32_error: table.float32.nested,
            coefficients: table.components.iter().map(|component| component.power.clone()).collect(),
        })
    }

    /// A composition from its data. The claimed error of ReLU is compared with the error in float64 on a dense grid, but
    /// for polynomials that are published for this precision: these are [`Composition::published`].
    ///
    /// # Errors
    /// [`CompositionError`] if the data contradict themselves, or if the error is larger than claimed.
    pub fn from_record(record: CompositionRecord) -> Result<Arc<Self>, CompositionError> {
        let CompositionRecord { bits, relu_error: claimed, float32_error: added, .. } = record;
        let sign = sign(&record)?;
        let digest = sign.digest();
        if let Some(published) = Alpha::new(bits).ok().map(Self::published)
            && published.digest == digest
        {
            return Ok(published);
        }
        let allowed = (-f64::from(bits)).exp2();
        if claimed.is_nan() || claimed > allowed {
            return Err(CompositionError::Precision { bits, claimed });
        }
        if added.is_nan() || added > allowed {
            return Err(CompositionError::Float32 { bits, added });
        }
        let (measured, place) = largest_relu_error(&sign);
        if measured.is_nan() || measured > claimed * (1.0 + ROUNDING.0) + ROUNDING.1 {
            return Err(CompositionError::Claim { claimed, measured, place });
        }
        Ok(Arc::new(Self {
            bits,
            digest,
            provenance: Provenance::Generated { sign: Box::new(sign), record },
        }))
    }

    /// The precision of ReLU on `[-1, 1]` in bits, `alpha`.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// `2^-alpha`.
    pub fn epsilon(&self) -> f64 {
        (-f64::from(self.bits)).exp2()
    }

    /// The polynomials.
    pub fn sign(&self) -> &CompositeSign {
        match &self.provenance {
            Provenance::Published(alpha) => CompositeSign::published(*alpha),
            Provenance::Generated { sign, .. } => sign,
        }
    }

    /// What the polynomials are ([`CompositeSign::digest`]).
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Which of the published ones it is; `None` for a generated one.
    pub fn alpha(&self) -> Option<Alpha> {
        match self.provenance {
            Provenance::Published(alpha) => Some(alpha),
            Provenance::Generated { .. } => None,
        }
    }

    /// The data of a generated composition; `None` for a published one.
    pub fn record(&self) -> Option<&CompositionRecord> {
        match &self.provenance {
            Provenance::Published(_) => None,
            Provenance::Generated { record, .. } => Some(record),
        }
    }
}

impl PartialEq for Composition {
    fn eq(&self, other: &Self) -> bool {
        (self.bits, &self.digest) == (other.bits, &other.digest)
    }
}

/// By how much an error in float64 may be larger than the exact one, relative and absolute: near 0 the polynomials are
/// steep, and float64 rounds what they are made of.
const ROUNDING: (f64, f64) = (1e-3, 2e-8);

/// The composition in float64, each coefficient rounded once.
fn sign(record: &CompositionRecord) -> Result<CompositeSign, CompositionError> {
    let CompositionRecord { degrees, coefficients, eta, .. } = record;
    if degrees.len() != coefficients.len() {
        let (degrees, components) = (degrees.len(), coefficients.len());
        return Err(CompositionError::Components { degrees, components });
    }
    let mut polynomials = Vec::with_capacity(degrees.len());
    for (index, (&degree, texts)) in degrees.iter().zip(coefficients).enumerate() {
        let component = index + 1;
        if degree.is_multiple_of(2) {
            return Err(CompositionError::Degrees { degrees: degrees.clone() });
        }
        if texts.len() != degree.div_ceil(2) {
            return Err(CompositionError::Count { component, degree, found: texts.len() });
        }
        let parse = |text: &String| {
            let number = text.parse::<Decimal>();
            let number =
                number.map_err(|source| CompositionError::Coefficient { component, source })?.to_f64();
            match number.is_finite() {
                true => Ok(number),
                false => Err(CompositionError::TooLarge { component, text: text.clone() }),
            }
        };
        polynomials.push(OddPolynomial::new(texts.iter().map(parse).collect::<Result<_, _>>()?));
    }
    Ok(CompositeSign::new(polynomials)?.with_margin(*eta))
}

/// The largest `|x (1 + s(x)) / 2 − max(x, 0)|` in float64 on a grid of `[-1, 0]`, and where it is. As `s` is odd, the
/// error at `-x` is the same. The grid is even, and evenly spaced in `log |x|` besides, because near 0 the sign changes.
fn largest_relu_error(sign: &CompositeSign) -> (f64, f64) {
    const EVEN: u32 = 1 << 16;
    const PER_OCTAVE: u32 = 256;
    const OCTAVES: u32 = 32;
    let even = (0..=EVEN).map(|i| f64::from(i) / f64::from(EVEN));
    let logarithmic = (0..OCTAVES * PER_OCTAVE).map(|i| (-f64::from(i) / f64::from(PER_OCTAVE)).exp2());
    let errors = even.chain(logarithmic).map(|x| (sign.relu(-x, 1.0).abs(), -x));
    // NaN is larger than all numbers here, as it must be.
    errors.max_by(|a, b| a.0.total_cmp(&b.0)).expect("the grid is not empty")
}
