//! What each epoch came to.

use std::fmt::Write;

use approx_models::StepReport;
use serde::{Deserialize, Serialize};

/// Sums over the steps of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sums {
    pub images: usize,
    pub loss: f64,
    pub penalty: f64,
    pub correct: usize,
    pub out_of_range: u64,
}

impl Sums {
    /// Adds a step with so many images.
    pub fn add(&mut self, step: &StepReport, images: usize) {
        self.images += images;
        self.loss += f64::from(step.loss) * images as f64;
        self.penalty += f64::from(step.penalty) * images as f64;
        self.correct += step.correct;
        self.out_of_range += step.out_of_range;
    }

    /// The means so far.
    pub fn means(&self) -> Means {
        let mean = |sum: f64| sum / self.images.max(1) as f64;
        Means { loss: mean(self.loss), accuracy: mean(self.correct as f64), out_of_range: self.out_of_range }
    }
}

/// Means over images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Means {
    /// Cross-entropy.
    pub loss: f64,
    /// Share of the images that get their class.
    pub accuracy: f64,
    /// How many inputs of activations were outside the range of approximation.
    pub out_of_range: u64,
}

/// An epoch. It has no times, so that it is the same in every run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// The learning rate of its last step.
    pub lr: f64,
    /// While the weights changed.
    pub train: Means,
    /// Mean range penalty, already multiplied by its weight.
    pub penalty: f64,
    /// Afterwards.
    pub test: Means,
}

/// The number of the first epoch with the best test accuracy.
pub fn best(history: &[EpochRecord]) -> Option<&EpochRecord> {
    let better = |best: &&EpochRecord, record: &EpochRecord| record.test.accuracy > best.test.accuracy;
    history.iter().fold(None, |best, record| match best {
        Some(best) if !better(&best, record) => Some(best),
        _ => Some(record),
    })
}

/// The history as a table.
pub fn to_csv(history: &[EpochRecord]) -> String {
    let mut csv = "epoch,learning_rate,train_loss,train_accuracy,range_penalty,train_out_of_range,\
                   test_loss,test_accuracy,test_out_of_range\n"
        .to_owned();
    for EpochRecord { epoch, lr, train, penalty, test } in history {
        writeln!(
            csv,
            "{epoch},{lr:.6e},{:.6},{:.6},{penalty:.6},{},{:.6},{:.6},{}",
            train.loss, train.accuracy, train.out_of_range, test.loss, test.accuracy, test.out_of_range
        )
        .expect("a String takes all");
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: usize, accuracy: f64) -> EpochRecord {
        let means = Means { loss: 0.5, accuracy, out_of_range: 3 };
        EpochRecord { epoch, lr: 1e-3, train: means, penalty: 0.0, test: means }
    }

    #[test]
    fn the_best_epoch_is_the_first_of_the_best() {
        assert_eq!(best(&[]), None);
        let history = [record(1, 0.2), record(2, 0.7), record(3, 0.7), record(4, 0.6)];
        assert_eq!(best(&history).unwrap().epoch, 2);
    }

    #[test]
    fn sums_weigh_batches_by_their_images() {
        let mut sums = Sums::default();
        sums.add(&StepReport { loss: 1.0, correct: 3, penalty: 0.0, out_of_range: 2 }, 30);
        sums.add(&StepReport { loss: 4.0, correct: 1, penalty: 0.0, out_of_range: 5 }, 10);
        assert_eq!(sums.means(), Means { loss: 1.75, accuracy: 0.1, out_of_range: 7 });
    }

    #[test]
    fn every_line_has_a_value_for_each_column() {
        let csv = to_csv(&[record(1, 0.25)]);
        assert!(csv.ends_with("\n1,1.000000e-3,0.500000,0.250000,0.000000,3,0.500000,0.250000,3\n"), "{csv}");
        assert!(csv.lines().all(|line| line.split(',').count() == 9), "{csv}");
    }
}
