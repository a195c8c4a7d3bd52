//! All that a page shows.

use approx_eval::calibrate::SiteSummary;
use approx_eval::report::WeightsIdentity;
use approx_eval::sweep::Row;
use approx_models::Composition;

use crate::machine::Machine;

/// A sweep over one network or several, and how it was made.
#[derive(Debug, Clone)]
pub struct SweepData {
    /// The command that makes the page, as a shell takes it ([`shell_quoted`]).
    pub command: String,
    /// What it ran on.
    pub machine: Machine,
    /// The networks, at least one.
    pub networks: Vec<NetworkData>,
    /// The approximations.
    pub signs: Vec<SignError>,
}

/// A network's results.
#[derive(Debug, Clone)]
pub struct NetworkData {
    /// `resnet20`, …
    pub backbone: String,
    /// `cifar10`, `imagenet`.
    pub dataset: String,
    /// Its weights.
    pub weights: WeightsIdentity,
    /// The file with a bound for each site, if it was not one B that was searched.
    pub policy: Option<String>,
    /// A row for each precision, in ascending order, without noise.
    pub rows: Vec<Row>,
    /// Rows with noise.
    pub noisy: Vec<Row>,
    /// What each site saw, in the network's order. Empty if that was not looked at.
    pub sites: Vec<SiteSummary>,
    /// The precision whose bounds the sites have; `None` if no range held for any.
    pub bounds_of: Option<u8>,
}

impl NetworkData {
    /// Share of images that the exact network gets right; `None` if there are no results.
    pub fn exact_accuracy(&self) -> Option<f64> {
        self.rows.iter().find_map(|row| row.exact_accuracy)
    }

    /// How many images were evaluated.
    pub fn images(&self) -> usize {
        self.rows.first().map_or(0, |row| row.images)
    }

    /// The precision of the least depth whose accuracy is at most `drop` (relative, such as 0.01) below the exact one.
    pub fn least_depth_within(&self, drop: f64) -> Option<&Row> {
        let within = |row: &&Row| row.relative_difference.is_some_and(|difference| difference >= -drop);
        // With the same depth, the first is the smaller alpha.
        self.rows.iter().filter(within).min_by_key(|row| row.relu_depth)
    }
}

/// How far the accuracy of `row` may be off by chance: one standard error of the difference of both networks' accuracies
/// is at most this. An image counts for +1, 0 or −1, and for something only if it changes its class.
pub fn standard_error(row: &Row) -> Option<f64> {
    Some(((1.0 - row.agreement?) / row.images as f64).sqrt())
}

/// The error of ReLU's approximation on `[-1, 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SignError {
    /// Precision in bits.
    pub alpha: u8,
    /// Of the components.
    pub degrees: Vec<usize>,
    /// Levels of one ReLU.
    pub depth: u32,
    /// Non-scalar multiplications of one ReLU.
    pub multiplications: u32,
    /// In the middle of each interval of `[-1, 1]` the largest |relu_{alpha,B}(Bx)/B − max(x, 0)| in it.
    pub curve: Vec<(f64, f64)>,
    /// The largest error of all.
    pub largest: f64,
}

impl SignError {
    /// Intervals of `[0, 1]`, and places in each at which the error is taken. It is the same at `-x`, for `s` is odd.
    const INTERVALS: usize = 120;
    const PLACES: usize = 100;

    /// The error of `composition`, in float64.
    pub fn of(composition: &Composition) -> Self {
        let sign = composition.sign();
        let error = |x: f64| (sign.relu(x, 1.0) - x).abs();
        let interval = |index: usize| {
            let place = |j: usize| {
                let share = j as f64 / (Self::PLACES - 1) as f64;
                (index as f64 + share) / Self::INTERVALS as f64
            };
            let middle = (index as f64 + 0.5) / Self::INTERVALS as f64;
            (middle, (0..Self::PLACES).map(|j| error(place(j))).fold(0.0, f64::max))
        };
        let right: Vec<(f64, f64)> = (0..Self::INTERVALS).map(interval).collect();
        // Near 0 the sign changes within less than an interval.
        let small = (0..4000).map(|i| error((-f64::from(i) / 200.0).exp2()));
        let largest = right.iter().map(|&(_, error)| error).chain(small).fold(0.0, f64::max);
        let left = right.iter().rev().map(|&(x, error)| (-x, error));
        Self {
            alpha: composition.bits(),
            degrees: sign.degrees(),
            depth: sign.relu_cost().depth,
            multiplications: sign.relu_cost().non_scalar_multiplications,
            curve: left.chain(right.iter().copied()).collect(),
            largest,
        }
    }
}

/// A command and its arguments as a POSIX shell reads them back.
pub fn shell_quoted(arguments: impl IntoIterator<Item = String>) -> String {
    let quoted = |argument: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
        match !argument.is_empty() && argument.chars().all(plain) {
            true => argument,
            false => format!("'{}'", argument.replace('\'', r"'\''")),
        }
    };
    arguments.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use minimax_coeffs::Alpha;

    use super::*;

    #[test]
    fn errors_of_the_published_approximations_are_those_known() {
        // log2 of the largest error, measured in float64 on a grid of two million.
        for (alpha, log2) in [(4, -3.71), (5, -4.86), (6, -6.05), (10, -10.11), (14, -14.02)] {
            let sign = SignError::of(&Composition::published(Alpha::new(alpha).unwrap()));
            assert!((sign.largest.log2() - log2).abs() < 0.01, "{alpha}: {}", sign.largest.log2());
            assert!(sign.curve.is_sorted_by(|a, b| a.0 < b.0) && sign.curve.len() == 240);
            assert!(sign.curve.iter().all(|&(_, error)| error > 0.0 && error <= sign.largest));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_the_same_arguments() {
        let arguments =
            ["infer", "--x=1,2", "", "it's", "a b", "$HOME", "`x`", "a\"b\\", "*", "é", "4..14", "~"];
        let command = shell_quoted(arguments.map(str::to_owned));
        assert!(command.starts_with("infer --x=1,2 '' "), "{command}");
        let output = Command::new("sh").args(["-c", &format!("printf '%s|' {command}")]).output().unwrap();
        let expected: String = arguments.iter().map(|argument| format!("{argument}|")).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
