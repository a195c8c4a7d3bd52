//! What stands for ReLU and max-pooling.

use std::collections::BTreeMap;

use approx_ops::Noise;
use minimax_coeffs::{Alpha, CompositeSign};
use serde::{Deserialize, Serialize};

/// A composition by its precision: a published one, or one from a file of generated tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Composition {
    bits: u8,
    sign: &'static CompositeSign,
}

impl Composition {
    /// A composition with a precision of `bits`. It stays in memory until the program ends, as the published ones
    /// do, so that policies can be copied.
    pub fn loaded(bits: u8, sign: CompositeSign) -> Self {
        Self { bits, sign: Box::leak(Box::new(sign)) }
    }

    /// The precision of ReLU on `[-1, 1]` in bits, `alpha`.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// `2^-alpha`.
    pub fn epsilon(self) -> f64 {
        (-f64::from(self.bits)).exp2()
    }

    /// The polynomials.
    pub fn sign(self) -> &'static CompositeSign {
        self.sign
    }
}

impl From<Alpha> for Composition {
    fn from(alpha: Alpha) -> Self {
        Self { bits: alpha.bits(), sign: CompositeSign::published(alpha) }
    }
}

/// What stands for a ReLU.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum ReluPolicy {
    /// `max(x, 0)`.
    Exact,
    /// `x (1 + s_alpha(x / bound)) / 2`.
    Minimax {
        /// Precision in bits.
        alpha: Alpha,
        /// `B`: the range of approximation is `[-B, B]`, in units of the input.
        bound: f64,
    },
    /// As `Minimax`, with a composition that need not be published. It has no name to be serialised by.
    #[serde(skip)]
    Composite {
        /// The polynomials.
        composition: Composition,
        /// `B`: the range of approximation is `[-B, B]`, in units of the input.
        bound: f64,
    },
    /// `x²`.
    Square,
    /// `x²/8 + x/2 + 1/4`.
    ReluAq,
}

/// What stands for a max-pooling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum MaxPoolPolicy {
    /// The maximum.
    Exact,
    /// A tournament of `max_alpha`.
    Minimax {
        /// Precision in bits.
        alpha: Alpha,
        /// `B`: the range of approximation is `[-B, B]`, in units of the input.
        bound: f64,
    },
    /// As `Minimax`, with a composition that need not be published. It has no name to be serialised by.
    #[serde(skip)]
    Composite {
        /// The polynomials.
        composition: Composition,
        /// `B`: the range of approximation is `[-B, B]`, in units of the input.
        bound: f64,
    },
}

/// What stands for ReLU and max-pooling in a whole network, with exceptions by the name of the site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActivationPolicy {
    /// For each ReLU that is not in `relu_sites`.
    pub relu: ReluPolicy,
    /// For each max-pooling that is not in `max_pool_sites`.
    pub max_pool: MaxPoolPolicy,
    /// For single ReLUs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relu_sites: BTreeMap<String, ReluPolicy>,
    /// For single max-poolings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_pool_sites: BTreeMap<String, MaxPoolPolicy>,
    /// What a value outside its range of approximation becomes.
    #[serde(default, skip_serializing_if = "Outside::is_undefined")]
    pub outside: Outside,
    /// What an encrypted evaluation would add, simulated where something is approximated on a range; it is no property
    /// of a policy that is kept.
    #[serde(skip)]
    pub noise: Option<Noise>,
}

/// What becomes of a value outside `[-B, B]`. It is counted in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// Whatever the polynomials give: the run is to fail.
    #[default]
    Undefined,
    /// The exact function of it, so that training can go on.
    Exact,
}

impl Outside {
    fn is_undefined(&self) -> bool {
        *self == Self::Undefined
    }
}

impl ActivationPolicy {
    /// The same everywhere.
    pub fn uniform(relu: ReluPolicy, max_pool: MaxPoolPolicy) -> Self {
        Self {
            relu,
            max_pool,
            relu_sites: BTreeMap::new(),
            max_pool_sites: BTreeMap::new(),
            outside: Outside::default(),
            noise: None,
        }
    }

    /// The network as it was trained.
    pub fn exact() -> Self {
        Self::uniform(ReluPolicy::Exact, MaxPoolPolicy::Exact)
    }

    /// The approximation of Lee et al. (arXiv 2105.10879): ReLU on `[-b_relu, b_relu]`, max-pooling on
    /// `[-b_max, b_max]`.
    pub fn minimax(alpha: Alpha, b_relu: f64, b_max: f64) -> Self {
        Self::uniform(
            ReluPolicy::Minimax { alpha, bound: b_relu },
            MaxPoolPolicy::Minimax { alpha, bound: b_max },
        )
    }

    /// As [`ActivationPolicy::minimax`], with any composition.
    pub fn composite(composition: Composition, b_relu: f64, b_max: f64) -> Self {
        Self::uniform(
            ReluPolicy::Composite { composition, bound: b_relu },
            MaxPoolPolicy::Composite { composition, bound: b_max },
        )
    }

    /// `x²` for ReLU, with the exact max-pooling.
    pub fn square() -> Self {
        Self::uniform(ReluPolicy::Square, MaxPoolPolicy::Exact)
    }

    /// `x²/8 + x/2 + 1/4` for ReLU, with the exact max-pooling.
    pub fn relu_aq() -> Self {
        Self::uniform(ReluPolicy::ReluAq, MaxPoolPolicy::Exact)
    }

    /// The same bounds with another composition: for each ReLU and max-pooling that is approximated on a range.
    #[must_use]
    pub fn with_composition(&self, composition: Composition) -> Self {
        let relu = |policy: &ReluPolicy| match *policy {
            ReluPolicy::Minimax { bound, .. } | ReluPolicy::Composite { bound, .. } => {
                ReluPolicy::Composite { composition, bound }
            }
            other => other,
        };
        let max_pool = |policy: &MaxPoolPolicy| match *policy {
            MaxPoolPolicy::Minimax { bound, .. } | MaxPoolPolicy::Composite { bound, .. } => {
                MaxPoolPolicy::Composite { composition, bound }
            }
            MaxPoolPolicy::Exact => MaxPoolPolicy::Exact,
        };
        let relu_sites = self.relu_sites.iter().map(|(name, policy)| (name.clone(), relu(policy)));
        let max_pool_sites =
            self.max_pool_sites.iter().map(|(name, policy)| (name.clone(), max_pool(policy)));
        Self {
            relu: relu(&self.relu),
            max_pool: max_pool(&self.max_pool),
            relu_sites: relu_sites.collect(),
            max_pool_sites: max_pool_sites.collect(),
            outside: self.outside,
            noise: self.noise,
        }
    }

    /// The same, but a value outside its range becomes the exact function of it.
    #[must_use]
    pub fn with_exact_outside(self) -> Self {
        Self { outside: Outside::Exact, ..self }
    }

    /// The same under noise, or without.
    #[must_use]
    pub fn with_noise(self, noise: Option<Noise>) -> Self {
        Self { noise, ..self }
    }

    /// What stands for the ReLU at `site`.
    pub fn relu_at(&self, site: &str) -> ReluPolicy {
        self.relu_sites.get(site).copied().unwrap_or(self.relu)
    }

    /// What stands for the max-pooling at `site`.
    pub fn max_pool_at(&self, site: &str) -> MaxPoolPolicy {
        self.max_pool_sites.get(site).copied().unwrap_or(self.max_pool)
    }
}
