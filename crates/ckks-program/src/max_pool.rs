//! Max-pooling as a tournament of maxima of two (arXiv 2105.10879, section IV).
//!
//! With `d = a − b`, `max_alpha(a, b) = b + d (1 + s(d)) / 2`. It depends on `a` and `b` as they are moved together, so the
//! `1/2` of the definition, which brings values into `[0, 1]`, cancels: slots hold `c · x` in `[-1/2, 1/2]`, and the zeros of
//! a padding are zeros.
//!
//! Where windows stay inside of the image, the maxima of all neighbours are computed at once, and one that is the same as
//! another up to a translation is a rotation of it: a window of 2×2 takes two maxima instead of three, one of 3×3 six
//! instead of eight. Otherwise a linear layer brings each pixel of the windows to the places of the output, and pads.

use std::collections::HashMap;

use cnn_graph::Node;
use cnn_graph::ops::Pool;
use cnn_graph::policy::{ActivationPolicy, Composition, SiteKind};

use crate::error::{Error, Result};
use crate::lower::{Lowering, Sum, Units, Value, View};
use crate::map::Map;
use crate::polynomial::Sign;
use crate::stage::{Kind, Range, StageId};

/// Whether no window reaches out of the image.
pub(crate) fn is_inside(pool: &Pool, [_, height, width]: [usize; 3], output: [usize; 3]) -> bool {
    let fits =
        |axis: usize, size: usize| (output[axis + 1] - 1) * pool.stride[axis] + pool.kernel[axis] <= size;
    pool.padding.top == 0 && pool.padding.left == 0 && fits(0, height) && fits(1, width)
}

/// `1/c`, where `c = (1 − 2 r · 2^-alpha) / (2 B)` with `r` rounds, and 3 of them for a window of 3×3.
fn unit_of(composition: &Composition, bound: f64, pool: &Pool) -> f64 {
    let rounds = match pool.kernel {
        [3, 3] => 3,
        _ => pool.signs().0,
    };
    let epsilon = (-f64::from(composition.bits())).exp2();
    2.0 * bound / (1.0 - 2.0 * f64::from(rounds) * epsilon)
}

/// The units that the input of a max-pooling is wanted in.
pub(crate) fn unit(policy: &ActivationPolicy, node: &Node, pool: &Pool) -> Option<f64> {
    let (composition, bound) = policy.at(&node.name, SiteKind::MaxPool).approximation()?;
    Some(unit_of(composition, bound, pool))
}

/// A pixel of a window, or how far one value is moved to meet another.
type Offset = [i64; 2];

/// One of those that play: a pixel, for `round` 0, or the winner of a match, moved by some pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Player {
    round: usize,
    index: usize,
    moved: Offset,
}

/// The matches of each round, from the first on. Of windows that are the same up to a translation there is one.
#[derive(Debug, Default)]
struct Tournament {
    rounds: Vec<Vec<[Player; 2]>>,
    known: HashMap<Vec<Offset>, Player>,
}

impl Tournament {
    /// The winner of a window that is relative to its first pixel. All pixels are the value itself, moved.
    fn of_window(&mut self, window: &[Offset]) -> Player {
        if window.len() == 1 {
            return Player { round: 0, index: 0, moved: [0, 0] };
        }
        if let Some(&known) = self.known.get(window) {
            return known;
        }
        let (first, others) = window.split_at(window.len().next_power_of_two() / 2);
        let to = others[0];
        let relative: Vec<Offset> = others.iter().map(|[y, x]| [y - to[0], x - to[1]]).collect();
        let players = [self.of_window(first), Player { moved: to, ..self.of_window(&relative) }];
        let winner = self.play(players);
        self.known.insert(window.to_vec(), winner);
        winner
    }

    /// The winner of the values from `first` to before `end`.
    fn of_values(&mut self, first: usize, end: usize) -> Player {
        let count = end - first;
        if count == 1 {
            return Player { round: 0, index: first, moved: [0, 0] };
        }
        let middle = first + count.next_power_of_two() / 2;
        let players = [self.of_values(first, middle), self.of_values(middle, end)];
        self.play(players)
    }

    fn play(&mut self, players: [Player; 2]) -> Player {
        let round = players[0].round.max(players[1].round) + 1;
        if self.rounds.len() < round {
            self.rounds.resize_with(round, Vec::new);
        }
        self.rounds[round - 1].push(players);
        Player { round, index: self.rounds[round - 1].len() - 1, moved: [0, 0] }
    }
}

impl Lowering<'_> {
    pub(crate) fn max_pool(&mut self, node: &Node, pool: &Pool, value: Value) -> Result<View> {
        let name = node.name.as_str();
        let policy = self.policy.at(name, SiteKind::MaxPool).clone();
        let Some((composition, bound)) = policy.approximation() else {
            return Err(Error::NotPolynomial { site: name.to_owned(), method: policy.method() });
        };
        let sign = Sign::new(composition.sign());
        let unit = unit_of(composition, bound, pool);
        let range = Range { site: name.to_owned(), center: 0.0, unit, largest: bound / unit };
        let shape = node.shape.image().unwrap_or_default();
        if !is_inside(pool, value.shape(), shape) {
            return self.max_pool_of_taps(name, pool, &sign, value, shape, range);
        }
        let x = self.in_units(name, value, 0.0, unit);
        if !x.has_whole_channels(self.packing.positions()) {
            return self.max_pool_of_taps(name, pool, &sign, Value::View(x), shape, range);
        }
        self.restrict(x.stages[0], range);
        let window = (0..pool.kernel[0]).flat_map(|y| (0..pool.kernel[1]).map(move |x| [y as i64, x as i64]));
        let mut tournament = Tournament::default();
        tournament.of_window(&window.collect::<Vec<Offset>>());
        let strides = [x.layout.row_stride, x.layout.column_stride].map(|stride| stride as i64);
        let winner = self.tournament(name, &sign, &tournament, &x.stages, strides, x.layout.ciphertexts)?;
        let mut result = x.after(winner, unit);
        for axis in [1, 2] {
            result.layout = result.layout.sliced(axis, 0, pool.stride[axis - 1], shape[axis]);
        }
        Ok(result)
    }

    /// With a linear layer for each pixel of the windows.
    fn max_pool_of_taps(
        &mut self,
        name: &str,
        pool: &Pool,
        sign: &Sign,
        value: Value,
        shape: [usize; 3],
        range: Range,
    ) -> Result<View> {
        let view = match value {
            Value::View(view) => view,
            Value::Sum(sum) => self.bounded(&format!("{name}.input"), sum),
        };
        let units = Units::Of { center: 0.0, unit: range.unit };
        let mut taps: Vec<View> = Vec::new();
        for index in 0..pool.kernel[0] * pool.kernel[1] {
            let sum = Sum::of(name, view.clone(), Map::Tap { window: *pool, index }, shape);
            let layout = taps.first().map(|tap| tap.layout.clone());
            let tap = self.stage_of(name, sum, units, layout.as_ref());
            self.restrict(tap.stages[0], range.clone());
            taps.push(tap);
        }
        let stages: Vec<StageId> = taps.iter().map(|tap| tap.stages[0]).collect();
        self.treat_alike(&stages);
        let mut tournament = Tournament::default();
        tournament.of_values(0, stages.len());
        let ciphertexts = taps[0].layout.ciphertexts;
        let winner = self.tournament(name, sign, &tournament, &stages, [0, 0], ciphertexts)?;
        Ok(taps[0].after(winner, range.unit))
    }

    /// All matches, round after round: `max_alpha(a, b)` of each. The matches of a round are treated alike.
    fn tournament(
        &mut self,
        name: &str,
        sign: &Sign,
        tournament: &Tournament,
        pixels: &[StageId],
        strides: [i64; 2],
        ciphertexts: usize,
    ) -> Result<StageId> {
        let mut winners: Vec<Vec<StageId>> = vec![pixels.to_vec()];
        let mut shifted: HashMap<Player, StageId> = HashMap::new();
        for round in &tournament.rounds {
            let mut matches: Vec<[StageId; 2]> = Vec::with_capacity(round.len());
            let mut shifts: Vec<StageId> = Vec::new();
            for players in round {
                let mut pair = [0; 2];
                for (slot, player) in pair.iter_mut().zip(players) {
                    let stage = winners[player.round][player.index];
                    *slot = match (player.moved, shifted.get(player)) {
                        ([0, 0], _) => stage,
                        (_, Some(&known)) => known,
                        ([rows, columns], None) => {
                            let by = rows * strides[0] + columns * strides[1];
                            let bound = self.stages[stage].bound;
                            let shift = self.one(name, Kind::Shift { by }, vec![stage], ciphertexts, bound);
                            shifted.insert(*player, shift);
                            shifts.push(shift);
                            shift
                        }
                    };
                }
                matches.push(pair);
            }
            self.treat_alike(&shifts);
            let difference = |lowering: &mut Self, pair: &[StageId; 2]| {
                lowering.one(name, Kind::Difference, pair.to_vec(), ciphertexts, 1.0)
            };
            let differences: Vec<StageId> = matches.iter().map(|pair| difference(self, pair)).collect();
            self.treat_alike(&differences);
            let gates = self.signs(name, sign, 0.5, 0.5, &differences, ciphertexts)?;
            let product = |lowering: &mut Self, (pair, (d, gate)): (&[StageId; 2], (&StageId, &StageId))| {
                lowering.one(name, Kind::Product, vec![*d, *gate, pair[1]], ciphertexts, 1.0)
            };
            let played = matches.iter().zip(differences.iter().zip(&gates));
            let products: Vec<StageId> = played.map(|played| product(self, played)).collect();
            self.treat_alike(&products);
            winners.push(products);
        }
        Ok(winners.last().and_then(|last| last.first()).copied().unwrap_or(pixels[0]))
    }
}
