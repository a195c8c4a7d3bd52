//! How a network is trained: every number that decides what comes out.

use std::fmt;

use anyhow::{Result, ensure};
use approx_data::{Augmentation, EpochOptions};
use approx_models::{ActivationPolicy, RunOptions};
use clap::ValueEnum;
use minimax_coeffs::Alpha;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dataset::DataSet;

/// A training run but for its data and its files. Fields are named like their flags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Earlier checkpoints are all CIFAR-10's.
    #[serde(default)]
    pub dataset: DataSet,
    pub backbone: String,
    pub seed: u64,
    pub epochs: usize,
    pub batch_size: usize,
    pub schedule: Schedule,
    /// The first, or the largest, learning rate.
    pub lr: f64,
    /// Epochs after which the learning rate is multiplied by `gamma`.
    pub milestones: Vec<usize>,
    pub gamma: f64,
    /// The share of all steps in which a one-cycle schedule rises.
    pub warm_up: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    pub shuffle: bool,
    pub crop_padding: usize,
    pub flip: bool,
    /// Whether half of the units in front of VGG's linear layers are left out.
    pub dropout: bool,
    pub limit: Option<usize>,
    pub limit_test: Option<usize>,
    /// The name or file of the weights to start from; random ones if there is none.
    pub init: Option<String>,
    pub approx: Option<Approximation>,
    /// Bounds and precision by site, instead of `approx`. What the file held, since it may change.
    #[serde(default)]
    pub policy: Option<ActivationPolicy>,
    pub range_penalty: f64,
}

/// How the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Multiplied by --gamma after each of --milestones
    Steps,
    /// Up from 0 for a share --warm-up of all steps, then down to 0, both in straight lines
    OneCycle,
}

/// A set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Lee et al.'s: 200 epochs
    Reference,
    /// One cycle of a larger learning rate: 8 epochs
    Fast,
}

impl Preset {
    /// This preset's recipe.
    pub fn recipe(self, dataset: DataSet, backbone: &str) -> Recipe {
        let Augmentation { crop_padding, flip } = dataset.augmentation();
        let reference = Recipe {
            dataset,
            backbone: backbone.to_owned(),
            seed: 1,
            epochs: 200,
            batch_size: 128,
            schedule: Schedule::Steps,
            lr: 1e-3,
            milestones: vec![100, 150],
            gamma: 0.1,
            warm_up: 0.2,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 5e-3,
            shuffle: true,
            crop_padding,
            flip,
            dropout: true,
            limit: None,
            limit_test: None,
            init: None,
            approx: None,
            policy: None,
            range_penalty: 0.0,
        };
        match self {
            Self::Reference => reference,
            Self::Fast => Recipe {
                epochs: 8,
                schedule: Schedule::OneCycle,
                lr: dataset.fast_lr(),
                weight_decay: 5e-4,
                ..reference
            },
        }
    }
}

/// The approximation that a network is trained through.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Approximation {
    pub alpha: Alpha,
    pub b_relu: f64,
    pub b_max: f64,
}

impl Recipe {
    /// The most black pixels around an image before it is cropped.
    pub const MOST_PADDING: usize = 32;

    /// Fails for numbers that the command line would refuse.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.batch_size > 0 && self.epochs > 0,
            "{} epochs in batches of {}",
            self.epochs,
            self.batch_size
        );
        ensure!(self.crop_padding <= Self::MOST_PADDING, "crop_padding is {}", self.crop_padding);
        for (name, value, most) in [
            ("lr", self.lr, f64::MAX),
            ("gamma", self.gamma, f64::MAX),
            ("warm_up", self.warm_up, 1.0),
            ("momentum", self.momentum, 1.0),
            ("weight_decay", self.weight_decay, f64::MAX),
            ("range_penalty", self.range_penalty, f64::MAX),
        ] {
            ensure!((0.0..=most).contains(&value), "{name} is {value}");
        }
        Ok(())
    }

    /// The learning rate of the step for `batch` in `epoch`, both from 0, where an epoch has `batches`.
    pub fn learning_rate(&self, epoch: usize, batch: usize, batches: usize) -> f64 {
        match self.schedule {
            Schedule::Steps => {
                let passed = self.milestones.iter().filter(|&&milestone| epoch >= milestone).count();
                self.lr * self.gamma.powi(passed as i32)
            }
            Schedule::OneCycle => {
                // In the middle of the step, so that neither the first nor the last one is for nothing.
                let done = (epoch * batches + batch) as f64 + 0.5;
                let share = done / (self.epochs * batches) as f64;
                match share < self.warm_up {
                    true => self.lr * share / self.warm_up,
                    false => self.lr * (1.0 - share) / (1.0 - self.warm_up),
                }
            }
        }
    }

    /// What an epoch's images are.
    pub fn epoch_options(&self) -> EpochOptions {
        let augmentation = Augmentation { crop_padding: self.crop_padding, flip: self.flip };
        EpochOptions { seed: self.seed, shuffle: self.shuffle, augmentation }
    }

    /// A value out of range becomes the exact function of it, in training and in the test.
    pub const OPTIONS: RunOptions = RunOptions::EXACT_OUTSIDE;

    /// What the activations are, in training and in the test.
    pub fn policy(&self) -> ActivationPolicy {
        match (&self.policy, self.approx) {
            (Some(policy), _) => policy.clone(),
            (None, None) => ActivationPolicy::exact(),
            (None, Some(Approximation { alpha, b_relu, b_max })) => {
                ActivationPolicy::minimax(alpha, b_relu, b_max)
            }
        }
    }

    /// The flags by which `self` differs from `other`, as `--lr 0.1 (the checkpoint has 0.001)`.
    ///
    /// The number of epochs is no difference where the learning rate does not depend on it.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fields = |recipe: &Self| match serde_json::to_value(recipe) {
            Ok(Value::Object(fields)) => fields,
            other => unreachable!("a recipe is an object: {other:?}"),
        };
        let epochs_may_differ = (self.schedule, other.schedule) == (Schedule::Steps, Schedule::Steps);
        let others = fields(other);
        let mut differences = Vec::new();
        for (field, value) in fields(self) {
            if value != others[&field] && !(field == "epochs" && epochs_may_differ) {
                if field == "policy" {
                    differences.push("the --policy is another one".to_owned());
                    continue;
                }
                let (flag, old) = (field.replace('_', "-"), Shown(&others[&field]));
                differences.push(format!("--{flag} {} (the checkpoint has {old})", Shown(&value)));
            }
        }
        differences
    }
}

/// A field's value as on the command line.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => write!(f, "none"),
            Value::String(text) => write!(f, "{text}"),
            Value::Array(values) => {
                let values: Vec<String> = values.iter().map(|value| Shown(value).to_string()).collect();
                write!(f, "{}", values.join(","))
            }
            Value::Object(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{}={}", name.replace('_', "-"), Shown(value)))
                    .collect();
                write!(f, "{}", fields.join(","))
            }
            other => write!(f, "{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_pytorchs_multi_step_lr() {
        let recipe = Preset::Reference.recipe(DataSet::Cifar10, "resnet20");
        for (epoch, expected) in [(0, 1e-3), (99, 1e-3), (100, 1e-4), (149, 1e-4), (150, 1e-5), (199, 1e-5)] {
            let lr = recipe.learning_rate(epoch, 17, 391);
            assert!((lr / expected - 1.0).abs() < 1e-12, "{epoch}: {lr}");
        }
    }

    #[test]
    fn one_cycle_rises_to_the_largest_rate_and_falls_to_nothing() {
        let recipe =
            Recipe { epochs: 10, warm_up: 0.3, lr: 0.5, ..Preset::Fast.recipe(DataSet::Cifar10, "resnet20") };
        let rates: Vec<f64> =
            (0..1000).map(|step| recipe.learning_rate(step / 100, step % 100, 100)).collect();
        assert!(rates[..300].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[300..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!(rates.iter().all(|&rate| rate > 0.0 && rate <= 0.5));
        assert!(rates[0] < 1e-3 && rates[999] < 1e-3 && rates[300] > 0.499);
        for warm_up in [0.0, 1.0] {
            let recipe = Recipe { warm_up, ..recipe.clone() };
            assert!(
                (0..1000).all(|step| recipe.learning_rate(step / 100, step % 100, 100) > 0.0),
                "{warm_up}"
            );
        }
    }

    #[test]
    fn differences_name_the_flags_and_both_values() {
        let old = Preset::Reference.recipe(DataSet::Cifar10, "resnet20");
        let approx = Approximation { alpha: Alpha::MIN, b_relu: 20.0, b_max: 5.5 };
        let new = Recipe { lr: 0.1, milestones: vec![3], epochs: 9, approx: Some(approx), ..old.clone() };
        assert_eq!(
            new.differences(&old),
            [
                "--approx alpha=4,b-max=5.5,b-relu=20.0 (the checkpoint has none)",
                "--lr 0.1 (the checkpoint has 0.001)",
                "--milestones 3 (the checkpoint has 100,150)",
            ]
        );
        let one_cycle = Preset::Fast.recipe(DataSet::Cifar10, "resnet20");
        let longer = Recipe { epochs: 9, ..one_cycle.clone() };
        assert_eq!(longer.differences(&one_cycle), ["--epochs 9 (the checkpoint has 8)"]);
    }
}
