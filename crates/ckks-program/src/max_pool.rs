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

/// A pixel of a window.
type Offset = [i64; 2];

/// Maxima of the same ciphertexts, by the window that they are over: its pixels relative to the first.
struct Tournament<'s> {
    name: &'s str,
    sign: &'s Sign,
    ciphertexts: usize,
    strides: [i64; 2],
    maxima: HashMap<Vec<Offset>, StageId>,
    moved: HashMap<(StageId, Offset), StageId>,
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
        let window = (0..pool.kernel[0]).flat_map(|y| (0..pool.kernel[1]).map(move |x| [y as i64, x as i64]));
        let window: Vec<Offset> = window.collect();
        let input = value.shape();
        if is_inside(pool, input, shape) {
            let x = self.in_units(name, value, 0.0, unit);
            if x.has_whole_channels(self.packing.positions()) {
                self.restrict(x.stages[0], range);
                let layout = &x.layout;
                let mut tournament = Tournament {
                    name,
                    sign: &sign,
                    ciphertexts: layout.ciphertexts,
                    strides: [layout.row_stride as i64, layout.column_stride as i64],
                    maxima: HashMap::from([(vec![[0, 0]], x.stages[0])]),
                    moved: HashMap::new(),
                };
                let winner = tournament.winner(self, &window)?;
                let mut result = x.after(winner, unit);
                for axis in [1, 2] {
                    result.layout = result.layout.sliced(axis, 0, pool.stride[axis - 1], shape[axis]);
                }
                return Ok(result);
            }
            return self.max_pool_of_taps(name, pool, &sign, Value::View(x), shape, range);
        }
        self.max_pool_of_taps(name, pool, &sign, value, shape, range)
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
            Value::Sum(sum) => self.bounded(name, sum),
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
        let winner = self.knockout(name, sign, &stages, taps[0].layout.ciphertexts)?;
        Ok(taps[0].after(winner, range.unit))
    }

    /// The winner among some values: the first `2^k` of them play among themselves, and so do the others.
    fn knockout(
        &mut self,
        name: &str,
        sign: &Sign,
        values: &[StageId],
        ciphertexts: usize,
    ) -> Result<StageId> {
        if let [only] = values {
            return Ok(*only);
        }
        let (first, others) = values.split_at(values.len().next_power_of_two() / 2);
        let a = self.knockout(name, sign, first, ciphertexts)?;
        let b = self.knockout(name, sign, others, ciphertexts)?;
        self.maximum(name, sign, a, b, ciphertexts)
    }

    /// `max_alpha(a, b)`.
    fn maximum(
        &mut self,
        name: &str,
        sign: &Sign,
        a: StageId,
        b: StageId,
        ciphertexts: usize,
    ) -> Result<StageId> {
        let difference = self.one(name, Kind::Difference, vec![a, b], ciphertexts, 1.0);
        let gate = self.sign(name, sign, 0.5, 0.5, difference, ciphertexts)?;
        Ok(self.one(name, Kind::Product, vec![difference, gate, b], ciphertexts, 1.0))
    }
}

impl Tournament<'_> {
    /// The winner of a window whose first pixel is at the origin.
    fn winner(&mut self, lowering: &mut Lowering, window: &[Offset]) -> Result<StageId> {
        if let Some(&known) = self.maxima.get(window) {
            return Ok(known);
        }
        let (first, others) = window.split_at(window.len().next_power_of_two() / 2);
        let to = others[0];
        let relative: Vec<Offset> = others.iter().map(|[y, x]| [y - to[0], x - to[1]]).collect();
        let a = self.winner(lowering, first)?;
        let b = self.winner(lowering, &relative)?;
        let b = self.moved(lowering, b, to);
        let winner = lowering.maximum(self.name, self.sign, a, b, self.ciphertexts)?;
        self.maxima.insert(window.to_vec(), winner);
        Ok(winner)
    }

    fn moved(&mut self, lowering: &mut Lowering, stage: StageId, to: Offset) -> StageId {
        let by = to[0] * self.strides[0] + to[1] * self.strides[1];
        let bound = lowering.stages[stage].bound;
        *self.moved.entry((stage, to)).or_insert_with(|| {
            lowering.one(self.name, Kind::Shift { by }, vec![stage], self.ciphertexts, bound)
        })
    }
}
