//! Baby steps and giant steps.
//!
//! A matrix times a vector is `Σ_d diag_d ⊙ rot(x, d)` over its non-zero diagonals `d` (S. Halevi and V. Shoup,
//! "Algorithms in HElib", CRYPTO 2014, section 4). With every `d = b + g`, it is
//! `Σ_g rot(Σ_b rot(diag_(b+g), −g) ⊙ rot(x, b), g)`, and takes a rotation for each baby step `b` and each giant step
//! `g` instead of one for each diagonal.
//!
//! The diagonals of a convolution are sums of a column offset, some rows and some blocks of channels. So `d` is written
//! in digits of a few scales (1, the pitch of the grid, the distance of blocks), and of each digit a part goes to the
//! baby step and the rest to the giant step. All ways are estimated, and the best ones counted exactly.

use std::collections::BTreeSet;

/// What rotations cost, in any unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RotationCost {
    /// What all baby steps of a ciphertext share: the decomposition of its digits.
    pub setup: f64,
    /// A baby step.
    pub hoisted: f64,
    /// A giant step.
    pub giant: f64,
}

impl RotationCost {
    /// Each rotation counts alike.
    pub const COUNT: Self = Self { setup: 0.0, hoisted: 1.0, giant: 1.0 };
}

/// A diagonal of the part of a matrix that takes ciphertext `input` to ciphertext `block`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Diagonal {
    pub block: usize,
    pub input: usize,
    pub shift: i64,
}

/// How a digit is shared.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    scale: i64,
    /// What all values of the digit are multiples of.
    unit: i64,
    /// How many values the baby steps have; `None` if they have all.
    babies: Option<i64>,
}

/// A way to write every diagonal as a baby step and a giant step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Split {
    /// By ascending scale.
    axes: Vec<Axis>,
}

impl Split {
    /// The baby step and the giant step of a diagonal.
    pub fn of(&self, shift: i64) -> (i64, i64) {
        let (mut rest, mut baby) = (shift, 0);
        for axis in self.axes.iter().rev() {
            let digit = digit(rest, axis.scale);
            rest -= digit * axis.scale;
            let low = match axis.babies {
                Some(babies) => (digit / axis.unit).rem_euclid(babies) * axis.unit,
                None => digit,
            };
            baby += low * axis.scale;
        }
        (baby, shift - baby)
    }

    /// The split that costs least.
    ///
    /// `periods` has the period of each input, after which its rotations repeat; `period` is that of the sums.
    pub fn best(
        diagonals: &[Diagonal],
        scales: &[i64],
        periods: &[usize],
        period: usize,
        blocks: usize,
        cost: RotationCost,
    ) -> Self {
        let shifts: BTreeSet<i64> = diagonals.iter().map(|d| d.shift).collect();
        let mut found: Vec<(f64, Self)> = Vec::new();
        for chain in chains(scales) {
            candidates(&shifts, &chain, periods.len(), blocks, cost, &mut found);
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found.truncate(EXACT);
        let exact = |split: &Self| {
            let steps = Steps::new(split, diagonals, periods, period, blocks);
            steps.cost(cost)
        };
        let best =
            found.into_iter().map(|(_, split)| (exact(&split), split)).min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(Self { axes: vec![Axis { scale: 1, unit: 1, babies: None }] }, |(_, split)| split)
    }
}

/// How many splits are counted exactly.
const EXACT: usize = 32;
/// How many ways to share a digit are tried.
const SHARES: i64 = 24;

fn digit(rest: i64, scale: i64) -> i64 {
    if scale == 1 { rest } else { (rest + scale / 2).div_euclid(scale) }
}

/// All choices among the scales; 1 is always one of them.
fn chains(scales: &[i64]) -> Vec<Vec<i64>> {
    let more: BTreeSet<i64> = scales.iter().copied().filter(|scale| *scale > 1).collect();
    let more: Vec<i64> = more.into_iter().collect();
    let chain = |choice: usize| {
        let chosen =
            more.iter().enumerate().filter(move |(i, _)| choice >> i & 1 == 1).map(|(_, scale)| *scale);
        std::iter::once(1).chain(chosen).collect()
    };
    (0..1 << more.len()).map(chain).collect()
}

fn candidates(
    shifts: &BTreeSet<i64>,
    chain: &[i64],
    inputs: usize,
    blocks: usize,
    cost: RotationCost,
    found: &mut Vec<(f64, Split)>,
) {
    let mut digits: Vec<BTreeSet<i64>> = vec![BTreeSet::new(); chain.len()];
    for &shift in shifts {
        let mut rest = shift;
        for (i, &scale) in chain.iter().enumerate().rev() {
            let digit = digit(rest, scale);
            rest -= digit * scale;
            digits[i].insert(digit);
        }
    }
    // Of each digit, the ways to share it, with the numbers of baby and giant steps.
    let shares = |(digits, &scale): (&BTreeSet<i64>, &i64)| {
        let unit = digits.iter().fold(0, |a, &b| gcd(a, b)).max(1);
        let (first, last) = (digits.first().map_or(0, |d| d / unit), digits.last().map_or(0, |d| d / unit));
        let length = last - first + 1;
        let mut sizes: BTreeSet<i64> = (1..length.min(SHARES)).collect();
        let mut size = SHARES as f64;
        while size < length as f64 {
            sizes.insert(size as i64);
            sizes.insert((size as i64 as u64).next_power_of_two() as i64);
            size *= 1.15;
        }
        let mut shares = vec![(Axis { scale, unit, babies: None }, digits.len(), 1)];
        for babies in sizes.into_iter().filter(|babies| *babies < length) {
            let lows: BTreeSet<i64> = digits.iter().map(|d| (d / unit).rem_euclid(babies)).collect();
            let highs: BTreeSet<i64> = digits.iter().map(|d| (d / unit).div_euclid(babies)).collect();
            shares.push((Axis { scale, unit, babies: Some(babies) }, lows.len(), highs.len()));
        }
        shares
    };
    let mut partial: Vec<(Vec<Axis>, usize, usize)> = vec![(Vec::new(), 1, 1)];
    for shares in digits.iter().zip(chain).map(shares) {
        partial = partial
            .iter()
            .flat_map(|(axes, babies, giants)| {
                shares.iter().map(move |(axis, lows, highs)| {
                    let axes = axes.iter().copied().chain([*axis]).collect();
                    (axes, babies * lows, giants * highs)
                })
            })
            .collect();
    }
    let estimate = |babies: usize, giants: usize| {
        (inputs * babies) as f64 * cost.hoisted + (blocks * giants) as f64 * cost.giant
    };
    let estimated = partial.into_iter().map(|(axes, b, g)| (estimate(b, g), Split { axes }));
    let mut estimated: Vec<(f64, Split)> = estimated.collect();
    estimated.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.extend(estimated.into_iter().take(EXACT));
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

/// The baby steps that each input needs, and the giant steps of each block; without those by 0, which are none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Steps {
    pub babies: Vec<BTreeSet<usize>>,
    pub giants: Vec<BTreeSet<usize>>,
}

impl Steps {
    pub fn new(
        split: &Split,
        diagonals: &[Diagonal],
        periods: &[usize],
        period: usize,
        blocks: usize,
    ) -> Self {
        let mut steps =
            Self { babies: vec![BTreeSet::new(); periods.len()], giants: vec![BTreeSet::new(); blocks] };
        for diagonal in diagonals {
            let (baby, giant) = split.of(diagonal.shift);
            let baby = baby.rem_euclid(periods[diagonal.input] as i64) as usize;
            let giant = giant.rem_euclid(period as i64) as usize;
            if baby != 0 {
                steps.babies[diagonal.input].insert(baby);
            }
            if giant != 0 {
                steps.giants[diagonal.block].insert(giant);
            }
        }
        steps
    }

    pub fn cost(&self, cost: RotationCost) -> f64 {
        let babies = self.babies.iter().filter(|babies| !babies.is_empty());
        let babies: f64 = babies.map(|babies| cost.setup + cost.hoisted * babies.len() as f64).sum();
        babies + cost.giant * self.giants.iter().map(BTreeSet::len).sum::<usize>() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotations(shifts: impl Iterator<Item = i64>, scales: &[i64], period: usize) -> usize {
        let diagonals: Vec<Diagonal> = shifts.map(|shift| Diagonal { block: 0, input: 0, shift }).collect();
        let split = Split::best(&diagonals, scales, &[period], period, 1, RotationCost::COUNT);
        for diagonal in &diagonals {
            let (baby, giant) = split.of(diagonal.shift);
            assert_eq!(baby + giant, diagonal.shift);
        }
        let steps = Steps::new(&split, &diagonals, &[period], period, 1);
        steps.babies[0].len() + steps.giants[0].len()
    }

    #[test]
    fn the_diagonals_of_a_convolution_take_two_square_roots() {
        // 3×3 offsets in a grid of 32 columns, and 16 blocks of 1,024: 144 = 12 · 12, less the two by 0.
        let shifts =
            (-8..8).flat_map(|c| (-1..=1).flat_map(move |y| (-1..=1).map(move |x| 1024 * c + 32 * y + x)));
        assert_eq!(rotations(shifts, &[32, 1024], 16_384), 22);
        // All of 1,024: 32 and 32.
        assert_eq!(rotations(-512..512, &[], 1024), 62);
        assert_eq!(rotations(0..1, &[], 1024), 0);
    }
}
