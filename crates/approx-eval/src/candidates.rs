//! What can stand at a site, and what of it is made for the site's inputs.

use std::fmt;
use std::sync::Arc;

use approx_models::{Composition, Fitted, ModelError, Site, SiteKind, SitePolicy};
use approx_ops::Sketch;
use cnn_graph::ops::Op;
use minimax_coeffs::fitted::{Density, FLOOR, Fit, FitError};
use minimax_coeffs::{Cost, FittedPolynomial};

use crate::error::{EvalError, Result};

/// Of a site that sees zeros only.
pub(crate) const SMALLEST_BOUND: f64 = 1e-3;

/// What can stand at a site.
#[derive(Debug, Clone, PartialEq)]
pub enum Candidate {
    /// A composition, on `[-B, B]`.
    Composition(Arc<Composition>),
    /// A polynomial of this degree, fitted to the site's inputs.
    Fitted {
        /// Its degree.
        degree: usize,
    },
}

/// As it is named in tables: `alpha 9`, `degree 27`.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Composition(composition) => write!(f, "alpha {}", composition.bits()),
            Self::Fitted { degree } => write!(f, "degree {degree}"),
        }
    }
}

impl serde::Serialize for Candidate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Candidate {
    /// What it costs at a site, on `[-bound, bound]`.
    ///
    /// # Errors
    /// [`ModelError::Smooth`], as [`Site::cost`].
    pub fn cost(&self, site: &Site, bound: f64) -> Result<Cost, ModelError> {
        match self {
            Self::Composition(composition) => site.cost(composition, bound),
            Self::Fitted { degree } => Ok(FittedPolynomial::cost_of_degree(*degree).unwrap_or_default()),
        }
    }
}

/// What a site sees, and the ranges that approximations of it are to have.
#[derive(Debug, Clone)]
pub struct SiteInputs {
    name: String,
    op: Op,
    density: Density,
    /// `B` of a composition.
    bound: f64,
    /// Middle and half of the length of a fitted polynomial's interval.
    interval: (f64, f64),
    /// Best polynomials of all degrees; made when one is asked for.
    fit: Option<Arc<Fit>>,
}

impl SiteInputs {
    /// The inputs of a site. Ranges are `headroom` times as long as they have to be.
    ///
    /// # Errors
    /// [`EvalError::Fit`] for a site that saw no number.
    pub fn new(site: &Site, sketch: &Sketch, headroom: f64) -> Result<Self> {
        let (name, op) = (site.name().to_owned(), site.op());
        let density = sketch.density().map_err(fit_error(&name))?;
        // The density's own are the middles of buckets.
        let [low, high] = [sketch.min(), sketch.max()].map(|end| f64::from(end.unwrap_or_default()));
        Ok(Self {
            bound: padded(high.abs().max(low.abs()), headroom),
            interval: (low.midpoint(high), padded((high - low) / 2.0, headroom)),
            density,
            name,
            op,
            fit: None,
        })
    }

    /// The site's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The site's kind.
    pub fn kind(&self) -> SiteKind {
        SiteKind::of(&self.op)
    }

    /// `B` of a composition.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// How the inputs are distributed.
    pub fn density(&self) -> &Density {
        &self.density
    }

    /// The same site with what it sees in another run. Ranges hold both.
    #[must_use]
    pub fn with_inputs(self, other: Self) -> Self {
        let ends = |(center, radius): (f64, f64)| (center - radius, center + radius);
        let ((low, high), (other_low, other_high)) = (ends(self.interval), ends(other.interval));
        let (low, high) = (low.min(other_low), high.max(other_high));
        let interval = (low.midpoint(high), (high - low) / 2.0);
        Self { bound: self.bound.max(other.bound), interval, ..other }
    }

    /// Widens the range of `candidate`, so that it holds a value that is `distance` from its middle, and `headroom` more.
    /// Gives the new half of its length.
    pub fn widen(&mut self, candidate: &Candidate, distance: f32, headroom: f64) -> f64 {
        let radius = padded(f64::from(distance), headroom);
        match candidate {
            Candidate::Composition(_) => self.bound = radius,
            Candidate::Fitted { .. } => {
                self.interval.1 = radius;
                self.fit = None;
            }
        }
        radius
    }

    /// What stands at the site if it is to be `candidate`.
    ///
    /// # Errors
    /// [`EvalError::Fit`]: for a degree that is not supported, above all.
    pub fn policy(&mut self, candidate: &Candidate) -> Result<SitePolicy> {
        match candidate {
            Candidate::Composition(composition) => Ok(SitePolicy::minimax(composition, self.bound)),
            Candidate::Fitted { degree } => {
                let polynomial = self.fit()?.polynomial(*degree).map_err(fit_error(&self.name))?;
                Ok(SitePolicy::Fitted(Fitted::new(polynomial, &self.density)))
            }
        }
    }

    /// The root of the mean square by which `candidate` is off over the inputs; `None` where that is not known.
    ///
    /// # Errors
    /// As [`SiteInputs::policy`].
    pub fn rms(&mut self, candidate: &Candidate) -> Result<Option<f64>> {
        Ok(match (candidate, self.op.clone()) {
            (Candidate::Composition(composition), Op::Activation(function)) => {
                let bound = self.bound;
                function.piecewise().map(|sum| {
                    let off = |x: f64| sum.approximate(composition.sign(), bound, x) - function.eval(x);
                    self.density.mean(|x| off(x).powi(2)).sqrt()
                })
            }
            (Candidate::Fitted { degree }, Op::Activation(_)) => {
                let polynomial = self.fit()?.polynomial(*degree).map_err(fit_error(&self.name))?;
                Some(polynomial.rms(&self.density))
            }
            _ => None,
        })
    }

    fn fit(&mut self) -> Result<Arc<Fit>> {
        if let Some(fit) = &self.fit {
            return Ok(fit.clone());
        }
        let Op::Activation(function) = self.op else {
            return Err(EvalError::NoCandidate { site: self.name.clone() });
        };
        let (center, radius) = self.interval;
        let interval = [center - radius, center + radius];
        let fit = Fit::new(function, &self.density, interval, FLOOR).map_err(fit_error(&self.name))?;
        Ok(self.fit.insert(Arc::new(fit)).clone())
    }
}

/// Half of a range's length, with headroom.
fn padded(radius: f64, headroom: f64) -> f64 {
    (radius * headroom).max(SMALLEST_BOUND)
}

/// Names the site that has no fit.
fn fit_error(site: &str) -> impl FnOnce(FitError) -> EvalError {
    |source| EvalError::Fit { site: site.to_owned(), source }
}
