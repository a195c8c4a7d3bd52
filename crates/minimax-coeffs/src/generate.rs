//! Tables that were never published.

use crate::alpha::Alpha;
use crate::certificate::{CertificateError, certify};
use crate::chain::Chain;
use crate::compose::{
    Component, ComposeError, PUBLISHED_ETA, PUBLISHED_FACTORS, balanced_start, compose, relu_errors,
};
use crate::composite::CompositeSign;
use crate::decimal::Decimal;
use crate::float32;
use crate::real::{Big, Real, big, bits_of_digits, from_decimal, to_decimal};
use crate::table_file::{ComponentRecord, Record};
use crate::tables::Table;
use crate::target::{Target, TargetError};

/// Decimal digits that tables are computed with.
pub const WORKING_DIGITS: u32 = 60;
/// Decimal digits of a coefficient in a table.
pub const PRINTED_DIGITS: usize = 25;
/// Errors at the alternation points are equal to this part of themselves.
pub const EQUIOSCILLATION: f64 = 1e-30;
/// The same with the coefficients as printed.
pub const PRINTED_EQUIOSCILLATION: f64 = 1e-9;
/// Steps of the factor `f` of a first interval `[f · 2^-alpha, 1]`.
const FACTOR_STEP: f64 = 1e-3;

/// A composition with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// What it was made for.
    pub target: Target,
    /// By how much each component's output may be off without leaving the next one's interval.
    pub eta: f64,
    /// The components' coefficients as decimal numbers.
    pub table: Table,
    /// The error that the target speaks of, before coefficients are rounded.
    pub error: f64,
    /// What the components were made for, and what they reach.
    pub components: Vec<ComponentSummary>,
}

/// A component of [`Generated`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComponentSummary {
    /// Where it approximates 1.
    pub interval: [f64; 2],
    /// Its largest error there.
    pub error: f64,
    /// By how much the errors at the alternation points differ, as a part of the error.
    pub spread: f64,
}

/// Why there is no such table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// The target makes no sense.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is no such composition.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// The working digits are too few.
    #[error(
        "{digits} working digits are too few for component {component} with error {error:.1e}: the errors at the alternation \
         points differ by {spread:.1e} of themselves, as printed by {printed:.1e}; take more digits"
    )]
    Digits {
        /// As given.
        digits: u32,
        /// 1-based.
        component: usize,
        /// Its largest error.
        error: f64,
        /// By how much the errors differ, as a part of them; at most [`EQUIOSCILLATION`] is accepted.
        spread: f64,
        /// The same for the coefficients as printed; at most [`PRINTED_EQUIOSCILLATION`] is accepted.
        printed: f64,
    },
    /// The degrees are too small.
    #[error("degrees {degrees:?} do not reach {target}: with the margin {eta:e} the error is {error:.4e} (2^{:.2})", error.log2())]
    Missed {
        /// As given.
        degrees: Vec<usize>,
        /// As given.
        target: Target,
        /// As given.
        eta: f64,
        /// What is reached.
        error: f64,
    },
}

/// Why a composition has no record.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// A bound cannot be proven.
    #[error(
        "nothing can be proven of degrees {degrees:?} with coefficients rounded to float64: {reason}; smaller degrees or \
         a larger margin may help"
    )]
    Certificate {
        /// Of the components.
        degrees: Vec<usize>,
        /// Which bound, and why.
        reason: CertificateError,
    },
    /// The polynomials reach the target, but not with coefficients in float64.
    #[error(
        "degrees {degrees:?} reach {target}, but with coefficients rounded to float64 the error is {error:.4e} (2^{:.2}); \
         smaller degrees or a larger margin may help",
        error.log2()
    )]
    Rounded {
        /// Of the components.
        degrees: Vec<usize>,
        /// What they were made for.
        target: Target,
        /// The proven error.
        error: f64,
    },
}

impl CompositeSign {
    /// The composition of minimax polynomials of these degrees for `target`, each interval widened by `eta`. The
    /// first interval of a ReLU is searched for, so that its error is least.
    ///
    /// # Errors
    /// [`GenerateError`]: a target that makes no sense, degrees that are not odd, no convergence, or an error
    /// larger than the target allows.
    pub fn generate(target: Target, degrees: &[usize], eta: f64) -> Result<Generated, GenerateError> {
        Generated::with_digits(target, degrees, eta, WORKING_DIGITS)
    }
}

impl Generated {
    /// As [`CompositeSign::generate`], with another number of working digits.
    ///
    /// # Errors
    /// As [`CompositeSign::generate`].
    pub fn with_digits(
        target: Target,
        degrees: &[usize],
        eta: f64,
        digits: u32,
    ) -> Result<Self, GenerateError> {
        target.check()?;
        let start = match target {
            Target::Sign { epsilon, .. } => epsilon,
            Target::Relu { .. } => {
                let unit = target.error() * FACTOR_STEP;
                (balanced_start(degrees, eta)? / unit).round().max(1.0) * unit
            }
        };
        let generated = Self::on(target, [start, 1.0], degrees, eta, digits)?;
        if generated.error > target.error() {
            let error = generated.error;
            return Err(GenerateError::Missed { degrees: degrees.to_vec(), target, eta, error });
        }
        Ok(generated)
    }

    /// The composition for a given first interval, whether it reaches the target or not.
    ///
    /// # Errors
    /// [`GenerateError::Compose`].
    pub fn on(
        target: Target,
        first: [f64; 2],
        degrees: &[usize],
        eta: f64,
        digits: u32,
    ) -> Result<Self, GenerateError> {
        let bits = bits_of_digits(digits);
        let lift = |x: f64| big(if x.is_nan() { -1.0 } else { x }, bits);
        let components = compose(first.map(lift), degrees, &lift(eta), EQUIOSCILLATION)?;
        let error = match target {
            Target::Sign { .. } => components[components.len() - 1].minimax.error.as_f64(),
            Target::Relu { .. } => {
                let (gap, rest) = relu_errors(&components);
                gap.max(rest)
            }
        };
        let printed = components
            .iter()
            .map(|c| c.minimax.power_basis().iter().map(|c| to_decimal(c, PRINTED_DIGITS)).collect());
        let printed: Vec<Vec<Decimal>> = printed.collect();
        for (index, (component, printed)) in components.iter().zip(&printed).enumerate() {
            let (spread, error) = (component.minimax.spread, component.minimax.error.as_f64());
            let printed = printed_spread(component, printed);
            if spread > EQUIOSCILLATION || printed > PRINTED_EQUIOSCILLATION {
                return Err(GenerateError::Digits { digits, component: index + 1, error, spread, printed });
            }
        }
        let table = Table::of_odd(printed);
        let summary = |c: &Component<Big>| ComponentSummary {
            interval: [c.interval[0].as_f64(), c.interval[1].as_f64()],
            error: c.minimax.error.as_f64(),
            spread: c.minimax.spread,
        };
        let components = components.iter().map(summary).collect();
        Ok(Self { target, eta, table, error, components })
    }

    /// The published composition for `alpha`, reproduced by its rule.
    ///
    /// # Errors
    /// [`GenerateError::Compose`] if an approximation fails.
    pub fn published(alpha: Alpha) -> Result<Self, GenerateError> {
        let target = Target::Relu { alpha: alpha.bits() };
        let factor = PUBLISHED_FACTORS[usize::from(alpha.bits() - Alpha::MIN.bits())];
        // The tables for 4 and 5 reach twice as far as needed.
        let right = if alpha.bits() < 6 { 2.0 } else { 1.0 };
        let first = [f64::from(factor) * alpha.epsilon(), right];
        let degrees = CompositeSign::published(alpha).degrees();
        Self::on(target, first, &degrees, PUBLISHED_ETA, WORKING_DIGITS)
    }

    /// The composition in float64, each coefficient rounded once.
    pub fn composite(&self) -> CompositeSign {
        self.table.composite().expect("a generated table is odd and of known degrees")
    }

    /// All that is known of it: cost, both bases, proven bounds and float32 errors.
    ///
    /// # Errors
    /// [`RecordError`]: where a bound cannot be proven, or where the target is lost in rounding the coefficients.
    pub fn record(&self) -> Result<Record, RecordError> {
        let sign = self.composite();
        let start = self.components[0].interval[0];
        let degrees = self.degrees();
        let mut deltas = vec![0.0, self.eta];
        deltas.dedup();
        let certificates =
            deltas.iter().map(|&delta| certify(&sign, start, delta)).collect::<Result<Vec<_>, _>>();
        let certificates =
            certificates.map_err(|reason| RecordError::Certificate { degrees: degrees.clone(), reason })?;
        let proven = match self.target {
            Target::Relu { .. } => certificates[0].relu_error,
            Target::Sign { .. } => certificates[0].sign_error,
        };
        if self.error <= self.target.error() && proven > self.target.error() {
            return Err(RecordError::Rounded { degrees, target: self.target, error: proven });
        }
        let chain = Chain::new(&self.table, self.eta).expect("a generated table is odd and of known degrees");
        let odd = |c: &[Decimal]| c.iter().skip(1).step_by(2).map(ToString::to_string).collect();
        let components = self.components.iter().zip(self.table.components()).enumerate();
        let components = components.map(|(i, (summary, coefficients))| ComponentRecord {
            interval: summary.interval,
            error: summary.error,
            power: odd(coefficients),
            radius: chain.radii[i],
            chebyshev: chain.components[i].clone(),
        });
        Ok(Record {
            target: self.target,
            eta: self.eta,
            degrees,
            cost: sign.cost(),
            relu_cost: sign.relu_cost(),
            components: components.collect(),
            certificates,
            float32: float32::measure(&sign, &chain, start),
        })
    }

    /// The degrees of the components.
    pub fn degrees(&self) -> Vec<usize> {
        self.table.components().iter().map(|c| c.len() - 1).collect()
    }
}

/// By how much the errors of the printed polynomial at the alternation points differ from the error that it is said
/// to have, as a part of that; in twice the precision.
fn printed_spread(component: &Component<Big>, printed: &[Decimal]) -> f64 {
    let error = &component.minimax.error;
    let bits = 2 * error.precision();
    let coefficients: Vec<Big> = printed.iter().map(|c| from_decimal(c, bits)).collect();
    let differences = component.minimax.reference.iter().map(|x| {
        let x = x.clone().with_precision(bits).value();
        let y = x.clone() * &x;
        let p = coefficients.iter().rev().fold(x.lift(0.0), |sum, c| sum * &y + c) * &x;
        let found = (p - &x.lift(1.0)).abs();
        ((found - error) / error).abs().as_f64()
    });
    differences.fold(0.0, f64::max)
}
