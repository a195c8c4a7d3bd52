//! Policies as they are serialised.

use std::collections::BTreeMap;
use std::sync::Arc;

use minimax_coeffs::Alpha;
use serde::{Deserialize, Serialize};

use super::{
    ActivationPolicy, Composition, CompositionError, CompositionRecord, Fitted, FittedRecord, PolicyError,
    SitePolicy,
};

/// A policy with the generated compositions that it uses.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyRecord {
    relu: SiteRecord,
    max_pool: SiteRecord,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sites: BTreeMap<String, SiteRecord>,
    /// By their digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    compositions: BTreeMap<String, CompositionRecord>,
}

/// A site, with its polynomials by name.
#[derive(Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
enum SiteRecord {
    Exact,
    Square,
    ReluAq,
    Minimax {
        /// Of published polynomials.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alpha: Option<Alpha>,
        /// The digest of generated ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        composition: Option<String>,
        bound: f64,
    },
    Fitted(Box<FittedRecord>),
}

impl From<ActivationPolicy> for PolicyRecord {
    fn from(policy: ActivationPolicy) -> Self {
        let table = |composition: &Arc<Composition>| {
            composition.record().map(|record| (composition.digest().to_owned(), record.clone()))
        };
        let compositions = policy.compositions().filter_map(table).collect();
        let sites = policy.sites.iter().map(|(name, site)| (name.clone(), SiteRecord::of(site))).collect();
        let (relu, max_pool) = (SiteRecord::of(&policy.relu), SiteRecord::of(&policy.max_pool));
        Self { relu, max_pool, sites, compositions }
    }
}

impl TryFrom<PolicyRecord> for ActivationPolicy {
    type Error = PolicyError;

    fn try_from(record: PolicyRecord) -> Result<Self, PolicyError> {
        let read = |(digest, record): (String, CompositionRecord)| {
            let checked =
                Composition::from_record(record).and_then(|composition| match composition.digest() {
                    found if found == digest => Ok(composition),
                    found => Err(CompositionError::Digest { found: found.to_owned() }),
                });
            match checked {
                Ok(composition) => Ok((digest, composition)),
                Err(source) => Err(PolicyError::Table { digest, source }),
            }
        };
        let tables: Tables = record.compositions.into_iter().map(read).collect::<Result<_, _>>()?;
        let sites = record.sites.into_iter().map(|(name, site)| {
            let policy = site.policy(&name, &tables)?;
            Ok((name, policy))
        });
        Ok(Self {
            relu: record.relu.policy("relu", &tables)?,
            max_pool: record.max_pool.policy("max_pool", &tables)?,
            sites: sites.collect::<Result<_, PolicyError>>()?,
        })
    }
}

/// Compositions by their digest.
type Tables = BTreeMap<String, Arc<Composition>>;

impl SiteRecord {
    fn of(policy: &SitePolicy) -> Self {
        match policy {
            SitePolicy::Exact => Self::Exact,
            SitePolicy::Square => Self::Square,
            SitePolicy::ReluAq => Self::ReluAq,
            SitePolicy::Minimax { composition, bound } => {
                let alpha = composition.alpha();
                let digest = alpha.is_none().then(|| composition.digest().to_owned());
                Self::Minimax { alpha, composition: digest, bound: *bound }
            }
            SitePolicy::Fitted(fitted) => Self::Fitted(Box::new(fitted.record().clone())),
        }
    }

    /// What stands at the site called `name`.
    fn policy(self, name: &str, tables: &Tables) -> Result<SitePolicy, PolicyError> {
        let (alpha, digest, bound) = match self {
            Self::Exact => return Ok(SitePolicy::Exact),
            Self::Square => return Ok(SitePolicy::Square),
            Self::ReluAq => return Ok(SitePolicy::ReluAq),
            Self::Fitted(record) => {
                let error = |source| PolicyError::Fitted { site: name.to_owned(), source };
                return Ok(SitePolicy::Fitted(Fitted::from_record(*record).map_err(error)?));
            }
            Self::Minimax { alpha, composition, bound } => (alpha, composition, bound),
        };
        let composition = match (alpha, digest) {
            (Some(alpha), None) => Composition::published(alpha),
            (None, Some(digest)) => match tables.get(&digest) {
                Some(composition) => composition.clone(),
                None => return Err(PolicyError::NoTable { digest }),
            },
            _ => return Err(PolicyError::Name),
        };
        Ok(SitePolicy::Minimax { composition, bound })
    }
}
