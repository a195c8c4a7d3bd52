//! What an engine can do and what that costs: a profile, which is a file in TOML.
//!
//! Costs are measured at some levels, as pairs of a level and a number. Between two of them, costs are interpolated; beyond
//! the last, the line of the last two goes on, but not below zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ir::OpKind;
use crate::split::RotationCost;

/// The least security, in bits, by the tables of the Homomorphic Encryption Standard (M. Albrecht et al., 2018).
pub const SECURE_BITS: u32 = 128;

/// Measured numbers by level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByLevel(Vec<(u32, f64)>);

impl ByLevel {
    /// The number at a level; `None` if nothing was measured.
    pub fn at(&self, level: u32) -> Option<f64> {
        let points = &self.0;
        let upper = points.partition_point(|(measured, _)| *measured < level);
        let (a, b) = match (points.len(), upper) {
            (0, _) => return None,
            (1, _) => return Some(points[0].1),
            (n, upper) => {
                let upper = upper.clamp(1, n - 1);
                (points[upper - 1], points[upper])
            }
        };
        let slope = (b.1 - a.1) / f64::from(b.0 - a.0);
        Some((a.1 + slope * (f64::from(level) - f64::from(a.0))).max(0.0))
    }

    fn check(&self, name: &str) -> Result<()> {
        let ascend = self.0.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ascend || self.0.iter().any(|(_, cost)| !(cost.is_finite() && *cost >= 0.0)) {
            let reason = format!("{name}: levels must ascend, and numbers be finite and not negative");
            return Err(Error::Profile(reason));
        }
        Ok(())
    }
}

/// The levels of an engine's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    /// Of a fresh ciphertext.
    pub fresh: u32,
    /// After a bootstrap.
    pub refreshed: u32,
    /// That a bootstrap needs.
    #[serde(default)]
    pub least: u32,
    /// That the engine takes for a polynomial beyond its depth.
    #[serde(default)]
    pub extra_per_polynomial: u32,
}

/// A bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// How long one takes.
    pub seconds: f64,
    /// The largest size of values.
    pub range: f64,
    /// The standard deviation of its error, for values in its range.
    pub error: f64,
}

/// Standard deviations of the errors in a slot, for values of about 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// Of a fresh ciphertext.
    pub fresh: f64,
    /// Of a rescaling.
    pub rescale: f64,
    /// Of a rotation.
    pub rotate: f64,
}

/// Sizes in bytes, by level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bytes {
    /// A ciphertext.
    pub ciphertext: ByLevel,
    /// A plaintext vector.
    pub plaintext: ByLevel,
    /// The key of one rotation.
    pub rotation_key: ByLevel,
    /// All keys that a program needs whatever its rotations are, that of bootstrapping included.
    pub other_keys: f64,
}

/// How long keys take to be made, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySeconds {
    /// One of a rotation.
    pub rotation: f64,
    /// All others.
    pub others: f64,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Of the format: [`Profile::VERSION`].
    pub version: u32,
    /// The engine's name.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// Its licence.
    pub licence: String,
    /// The machine that was measured on.
    pub machine: String,
    /// The day.
    pub date: String,
    /// The dimension of the ring.
    pub ring: u32,
    /// Slots of a ciphertext.
    pub slots: usize,
    /// Security against the best known attacks.
    pub security_bits: u32,
    /// Bits of the scale.
    pub scale_bits: f64,
    /// Levels.
    pub levels: Levels,
    /// Bootstrapping; some parameters have none.
    pub bootstrap: Option<Bootstrap>,
    /// Errors.
    #[serde(default)]
    pub errors: Errors,
    /// Seconds of operations by level.
    pub seconds: BTreeMap<OpKind, ByLevel>,
    /// Sizes.
    pub bytes: Bytes,
    /// Making keys.
    pub key_seconds: KeySeconds,
}

impl Profile {
    /// The version of the format that is read.
    pub const VERSION: u32 = 1;

    /// Reads a profile.
    ///
    /// # Errors
    /// [`Error::Profile`] for a file of another format or version, or with numbers that make no sense.
    pub fn from_toml(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let error = |error: toml::de::Error| Error::Profile(error.to_string());
        let Version { version } = toml::from_str(text).map_err(error)?;
        if version != Self::VERSION {
            let reason = format!("it has version {version}, but this program reads {}", Self::VERSION);
            return Err(Error::Profile(reason));
        }
        let profile: Self = toml::from_str(text).map_err(error)?;
        for (kind, costs) in &profile.seconds {
            costs.check(&format!("seconds of {kind:?}"))?;
        }
        for (name, bytes) in [
            ("ciphertext", &profile.bytes.ciphertext),
            ("plaintext", &profile.bytes.plaintext),
            ("rotation_key", &profile.bytes.rotation_key),
        ] {
            bytes.check(&format!("bytes of {name}"))?;
        }
        Ok(profile)
    }

    /// Refuses parameters below [`SECURE_BITS`].
    ///
    /// # Errors
    /// [`Error::Insecure`].
    pub fn check_security(&self) -> Result<()> {
        match self.security_bits < SECURE_BITS {
            true => Err(Error::Insecure { engine: self.engine.clone(), bits: self.security_bits }),
            false => Ok(()),
        }
    }

    /// The seconds of an operation on values of this level.
    ///
    /// # Errors
    /// [`Error::NoCost`].
    pub fn seconds(&self, kind: OpKind, level: u32) -> Result<f64> {
        let bootstrap = self.bootstrap.filter(|_| kind == OpKind::Bootstrap).map(|b| b.seconds);
        let own = |kind: OpKind| self.seconds.get(&kind).and_then(|costs| costs.at(level));
        let found = bootstrap.or_else(|| own(kind)).or_else(|| match kind {
            // What is not told apart.
            OpKind::MultiplyConstant => own(OpKind::MultiplyPlain),
            OpKind::RotateHoisted => own(OpKind::Rotate),
            OpKind::Hoist => Some(0.0),
            _ => None,
        });
        found.ok_or_else(|| {
            let operation = serde_json::to_string(&kind).unwrap_or_default();
            let operation = operation.trim_matches('"').to_owned();
            Error::NoCost { engine: self.engine.clone(), operation, level }
        })
    }

    /// What rotations cost at a level.
    ///
    /// # Errors
    /// [`Error::NoCost`].
    pub fn rotation_cost(&self, level: u32) -> Result<RotationCost> {
        Ok(RotationCost {
            setup: self.seconds(OpKind::Hoist, level)?,
            hoisted: self.seconds(OpKind::RotateHoisted, level)?,
            giant: self.seconds(OpKind::Rotate, level)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_between_levels_are_interpolated() {
        let costs = ByLevel(vec![(2, 1.0), (4, 3.0), (8, 5.0)]);
        let at = |level| costs.at(level).unwrap();
        assert_eq!([2, 3, 4, 6, 8, 10].map(at), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(at(0), 0.0);
        assert_eq!(ByLevel(vec![(3, 7.0)]).at(9), Some(7.0));
        assert_eq!(ByLevel(Vec::new()).at(9), None);
    }
}
