//! What stands at the activations of a network.
//!
//! An [`ActivationPolicy`] says it for each site: exact, a parabola, or a composition of minimax polynomials on a
//! range, or a polynomial that is fitted to what the site sees. A [`Composition`] is known by what it is, by the digest of its coefficients, so that a policy can be written
//! to a file with the polynomials that were not published, and read again by anybody. How a run treats values outside
//! of the range, and what noise it simulates, is no part of a policy.
//!
//! | module | what |
//! |---|---|
//! | [`composition`] | [`Composition`]: polynomials with their precision, provenance and digest |
//! | [`fitted`] | [`Fitted`]: polynomials made for the inputs of a site, with proven bounds |
//! | `cost` | what stands at a site costs, and what all of it does |
//! | [`v1`] | reads policies as they were written before compositions had digests |

use std::collections::BTreeMap;
use std::sync::Arc;

use minimax_coeffs::Alpha;
use serde::{Deserialize, Serialize};

pub mod composition;
mod cost;
pub mod fitted;
mod record;
pub mod v1;

pub use composition::{Composition, CompositionError, CompositionRecord};
pub use fitted::{Fitted, FittedError, FittedRecord};

use crate::ops::Op;
use record::PolicyRecord;

/// Which function a site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteKind {
    /// A ReLU or another function of one variable, or what stands for it.
    Relu,
    /// A max-pooling or what stands for it.
    MaxPool,
}

impl SiteKind {
    /// That of a site with this operation.
    pub fn of(op: &Op) -> Self {
        if matches!(op, Op::MaxPool(_)) { Self::MaxPool } else { Self::Relu }
    }
}

/// What stands at a site.
#[derive(Debug, Clone, PartialEq)]
pub enum SitePolicy {
    /// The function that the network was trained with.
    Exact,
    /// `x²` for ReLU.
    Square,
    /// `x²/8 + x/2 + 1/4` for ReLU.
    ReluAq,
    /// The approximation of Lee et al. (arXiv 2105.10879): `x (1 + s(x / bound)) / 2` for ReLU, sums of these for other
    /// piecewise linear functions, and for max-pooling a tournament of maxima of two. For a smooth function, such as the
    /// sigmoid, its minimax polynomial on the range with the composition's precision.
    Minimax {
        /// The polynomials, `s`.
        composition: Arc<Composition>,
        /// `B`: the range of approximation is `[-B, B]`, in units of the input.
        bound: f64,
    },
    /// A polynomial that is best for what the site sees.
    Fitted(Arc<Fitted>),
}

impl SitePolicy {
    /// An approximation on `[-bound, bound]`.
    pub fn minimax(composition: &Arc<Composition>, bound: f64) -> Self {
        Self::Minimax { composition: composition.clone(), bound }
    }

    /// Its name in files.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Square => "square",
            Self::ReluAq => "relu_aq",
            Self::Minimax { .. } => "minimax",
            Self::Fitted(_) => "fitted",
        }
    }

    /// The composition and the bound; `None` for anything else.
    pub fn approximation(&self) -> Option<(&Arc<Composition>, f64)> {
        match self {
            Self::Minimax { composition, bound } => Some((composition, *bound)),
            Self::Exact | Self::Square | Self::ReluAq | Self::Fitted(_) => None,
        }
    }

    /// The fitted polynomial; `None` for anything else.
    pub fn fitted(&self) -> Option<&Arc<Fitted>> {
        match self {
            Self::Fitted(fitted) => Some(fitted),
            _ => None,
        }
    }

    /// The middle of the range of approximation and half of its length, 0 and `B` for `[-B, B]`; `None` where nothing is
    /// approximated on a range.
    pub fn range(&self) -> Option<(f64, f64)> {
        match self {
            Self::Minimax { bound, .. } => Some((0.0, *bound)),
            Self::Fitted(fitted) => Some((fitted.polynomial().center(), fitted.polynomial().radius())),
            Self::Exact | Self::Square | Self::ReluAq => None,
        }
    }

    /// Whether it can stand at a site of this kind.
    fn suits(&self, kind: SiteKind) -> bool {
        match self {
            Self::Exact | Self::Minimax { .. } => true,
            Self::Square | Self::ReluAq | Self::Fitted(_) => kind == SiteKind::Relu,
        }
    }
}

/// What stands at the sites of a whole network: one thing for each kind, and exceptions by the name of the site.
///
/// It is serialised with the generated compositions that it uses, each under its digest; published ones are named by
/// their alpha. Reading checks both.
///
/// ```
/// use cnn_graph::policy::{ActivationPolicy, SiteKind, SitePolicy};
/// use minimax_coeffs::Alpha;
///
/// let policy = ActivationPolicy::minimax(Alpha::MAX, 50.0, 10.0).with_site("relu1", SitePolicy::Exact);
/// assert_eq!(policy.at("relu1", SiteKind::Relu), &SitePolicy::Exact);
/// assert_eq!(policy.at("maxpool", SiteKind::MaxPool).approximation().unwrap().1, 10.0);
/// let text = serde_json::to_string(&policy)?;
/// assert_eq!(serde_json::from_str::<ActivationPolicy>(&text)?, policy);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PolicyRecord", into = "PolicyRecord")]
pub struct ActivationPolicy {
    /// For each ReLU that is not in `sites`.
    pub relu: SitePolicy,
    /// For each max-pooling that is not in `sites`.
    pub max_pool: SitePolicy,
    /// For single sites by their name.
    pub sites: BTreeMap<String, SitePolicy>,
}

impl ActivationPolicy {
    /// The same at all sites of a kind.
    pub fn uniform(relu: SitePolicy, max_pool: SitePolicy) -> Self {
        Self { relu, max_pool, sites: BTreeMap::new() }
    }

    /// The network as it was trained.
    pub fn exact() -> Self {
        Self::uniform(SitePolicy::Exact, SitePolicy::Exact)
    }

    /// The published approximation: ReLU on `[-b_relu, b_relu]`, max-pooling on `[-b_max, b_max]`.
    pub fn minimax(alpha: Alpha, b_relu: f64, b_max: f64) -> Self {
        Self::composite(&Composition::published(alpha), b_relu, b_max)
    }

    /// As [`ActivationPolicy::minimax`], with any composition.
    pub fn composite(composition: &Arc<Composition>, b_relu: f64, b_max: f64) -> Self {
        Self::uniform(SitePolicy::minimax(composition, b_relu), SitePolicy::minimax(composition, b_max))
    }

    /// `x²` for ReLU, with the exact max-pooling.
    pub fn square() -> Self {
        Self::uniform(SitePolicy::Square, SitePolicy::Exact)
    }

    /// `x²/8 + x/2 + 1/4` for ReLU, with the exact max-pooling.
    pub fn relu_aq() -> Self {
        Self::uniform(SitePolicy::ReluAq, SitePolicy::Exact)
    }

    /// The same with an exception for the site called `name`.
    #[must_use]
    pub fn with_site(mut self, name: impl Into<String>, policy: SitePolicy) -> Self {
        self.sites.insert(name.into(), policy);
        self
    }

    /// The same bounds with another composition, wherever something is approximated on a range. That of a fitted
    /// polynomial becomes `[-B, B]` with the end that is farther from 0.
    #[must_use]
    pub fn with_composition(mut self, composition: &Arc<Composition>) -> Self {
        let all = [&mut self.relu, &mut self.max_pool].into_iter().chain(self.sites.values_mut());
        for policy in all {
            if let Some((center, radius)) = policy.range() {
                *policy = SitePolicy::minimax(composition, center.abs() + radius);
            }
        }
        self
    }

    /// What stands at the site called `name`, which is of this kind.
    pub fn at(&self, name: &str, kind: SiteKind) -> &SitePolicy {
        self.sites.get(name).unwrap_or(match kind {
            SiteKind::Relu => &self.relu,
            SiteKind::MaxPool => &self.max_pool,
        })
    }

    /// The one composition that all approximations of the policy have; `None` if there are none or several.
    pub fn composition(&self) -> Option<&Arc<Composition>> {
        let mut all = self.compositions();
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// The compositions of all approximations, one for each.
    fn compositions(&self) -> impl Iterator<Item = &Arc<Composition>> {
        let all = [&self.relu, &self.max_pool].into_iter().chain(self.sites.values());
        all.filter_map(|policy| policy.approximation().map(|(composition, _)| composition))
    }

    /// Checks that the policy is one for a network with these sites.
    ///
    /// # Errors
    /// [`PolicyError::UnknownSite`] for an exception that no site has the name of; [`PolicyError::NotForMaxPool`] for a
    /// parabola at a max-pooling.
    pub fn check<'a>(
        &self,
        sites: impl Iterator<Item = (&'a str, SiteKind)> + Clone,
    ) -> Result<(), PolicyError> {
        if let Some(name) = self.sites.keys().find(|name| sites.clone().all(|(site, _)| site != *name)) {
            let known = sites.map(|(site, _)| site.to_owned()).collect();
            return Err(PolicyError::UnknownSite { name: name.clone(), known });
        }
        for (site, kind) in sites {
            let policy = self.at(site, kind);
            if !policy.suits(kind) {
                return Err(PolicyError::NotForMaxPool { site: site.to_owned(), method: policy.method() });
            }
        }
        Ok(())
    }
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The policy names a place that the network does not have.
    #[error("the policy names `{name}`, but the network has no such site; it has {}", known.join(", "))]
    UnknownSite {
        /// The name in the policy.
        name: String,
        /// The sites that there are.
        known: Vec<String>,
    },
    /// A parabola or a fitted polynomial that stands for a max-pooling.
    #[error("{site}: `{method}` stands for ReLU only; a max-pooling can be `exact` or `minimax`")]
    NotForMaxPool {
        /// The max-pooling.
        site: String,
        /// [`SitePolicy::method`].
        method: &'static str,
    },
    /// A fitted polynomial is not what it claims to be.
    #[error("{site}: {source}")]
    Fitted {
        /// Where it stands.
        site: String,
        /// What is wrong with it.
        source: FittedError,
    },
    /// A site's polynomials are named in two ways, or not at all.
    #[error(
        "a `minimax` site has either an `alpha`, which names published polynomials, or a `composition`, a digest"
    )]
    Name,
    /// The policy has no polynomials with the digest that a site names.
    #[error("a site names the composition {digest}, but the policy has no table of this digest")]
    NoTable {
        /// As the site has it.
        digest: String,
    },
    /// A table in the policy is not what it claims to be.
    #[error("composition {digest}: {source}")]
    Table {
        /// Under which digest it is in the policy.
        digest: String,
        /// What is wrong with it.
        source: CompositionError,
    },
    /// A policy of version 1 names a site both as a ReLU and as a max-pooling, or is no such policy.
    #[error("not a policy of version 1: {reason}")]
    Version1 {
        /// What is wrong with it.
        reason: String,
    },
}
