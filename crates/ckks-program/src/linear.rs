//! Linear layers: sums of sparse matrices times values, by diagonals, with baby and giant steps. One level each.
//!
//! All that is linear around a layer is in its weights: batch norm, the units in which inputs lie and in which the
//! output shall lie, and the map of the next activation's range to `[-1, 1]`. Where no number lies, the output is 0.
//!
//! *Periods.* A value that needs fewer positions than there are is repeated after its period. Then a rotation moves it
//! in a circle of that length, and the diagonals are those of a matrix modulo the smaller period of input and output. If
//! the output's is smaller, a layer gives partial sums, which some rotations and additions by multiples of the period
//! add up and repeat at once (the hybrid method of C. Juvekar et al., "GAZELLE", USENIX Security 2018, section 3.3).

use std::collections::HashMap;

use crate::layout::{Layout, Packing};
use crate::map::Map;
use crate::split::{Diagonal, RotationCost, Split, Steps};

/// A value and its matrix.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Where the value lies, in the ciphertexts from `first` on.
    pub layout: Layout,
    pub first: usize,
    pub map: Map,
    /// For each of its channels: a number is `scale` times what lies in the slot, and `shift`.
    pub scale: Vec<f64>,
    pub shift: Vec<f64>,
    /// For each channel of the output a factor.
    pub factor: Vec<f64>,
}

/// A sum of matrices times values, and a constant for each output.
#[derive(Debug, Clone)]
pub struct Linear {
    packing: Packing,
    sources: Vec<Source>,
    output: Layout,
    /// One for each channel of the output, or one for each number.
    bias: Vec<f64>,
    /// Sorted by block, giant step, input, baby step.
    products: Vec<Product>,
    steps: Steps,
    /// The period of the sums, which fold to that of the output.
    period: usize,
    /// For each input, the period after which its rotations repeat.
    periods: Vec<usize>,
    /// Whether baby steps are rotations of the same value, which share its decomposition. Otherwise each is a rotation of
    /// the one before, which takes few keys.
    pub(crate) hoisted: bool,
}

/// A plaintext product of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Product {
    /// Which ciphertext of the output.
    pub block: usize,
    /// The place of the giant step in the order in which sums are rotated.
    rank: (usize, i64),
    /// By how many positions the sum is rotated afterwards.
    pub giant: i64,
    /// Which ciphertext of the inputs.
    pub input: usize,
    /// By how many positions it is rotated before.
    pub baby: i64,
    shift: i64,
}

impl Linear {
    /// The layer with this layout of its output. `bias` has one number for each channel of the output.
    pub(crate) fn new(
        packing: Packing,
        sources: Vec<Source>,
        output: Layout,
        bias: Vec<f64>,
        cost: RotationCost,
    ) -> Self {
        let inputs = sources.iter().map(|s| s.first + s.layout.ciphertexts).max().unwrap_or(0);
        let mut periods = vec![packing.positions(); inputs];
        for source in &sources {
            periods[source.first..][..source.layout.ciphertexts].fill(source.layout.period);
        }
        let period = periods.iter().copied().max().unwrap_or(0).max(output.period);
        let mut linear = Self {
            packing,
            sources,
            output,
            bias,
            products: Vec::new(),
            steps: Steps::none(),
            period,
            periods,
            hoisted: true,
        };
        linear.bias = linear.complete_bias();
        let diagonals = linear.diagonals(inputs);
        let mut scales: Vec<i64> = vec![linear.output.pitch as i64, linear.output.block as i64];
        scales.extend(linear.sources.first().map(|source| source.layout.block as i64));
        let blocks = linear.output.ciphertexts;
        let split = Split::best(&diagonals, &scales, &linear.periods, period, blocks, cost);
        linear.steps = Steps::new(&split, &diagonals, &linear.periods, period, blocks);
        let product = |diagonal: &Diagonal| {
            let (baby, giant) = split.of(diagonal.shift);
            let giant = centred(giant, period);
            // From far steps to near ones, on each side of 0; 0 comes last.
            let rank = match giant.signum() {
                1 => (0, -giant),
                -1 => (1, giant),
                _ => (2, 0),
            };
            Product {
                block: diagonal.block,
                rank,
                giant,
                input: diagonal.input,
                baby: centred(baby, linear.periods[diagonal.input]),
                shift: diagonal.shift,
            }
        };
        linear.products = diagonals.iter().map(product).collect();
        linear.products.sort_unstable();
        linear
    }

    /// Where the output lies.
    pub fn output(&self) -> &Layout {
        &self.output
    }

    /// How many plaintext products there are: the non-zero diagonals.
    pub fn diagonals_count(&self) -> usize {
        self.products.len()
    }

    /// The products of a ciphertext of the output.
    pub(crate) fn products_of(&self, block: usize) -> &[Product] {
        let [first, end] = [block, block + 1].map(|b| self.products.partition_point(|p| p.block < b));
        &self.products[first..end]
    }

    /// The different baby steps: layers with the same ones share their keys.
    pub(crate) fn baby_steps(&self) -> Vec<i64> {
        let all = (0..self.periods.len()).flat_map(|input| self.babies(input).concat());
        let all: std::collections::BTreeSet<i64> = all.collect();
        all.into_iter().collect()
    }

    /// How many rotations the baby steps of all inputs are.
    pub(crate) fn baby_rotations(&self) -> usize {
        self.steps.babies.iter().map(std::collections::BTreeSet::len).sum()
    }

    /// The baby steps of an input by ascending size: first those above 0, then those below.
    pub(crate) fn babies(&self, input: usize) -> [Vec<i64>; 2] {
        let steps = self.steps.babies.get(input).into_iter().flatten();
        let centred = steps.map(|step| centred(*step as i64, self.periods[input]));
        let (above, mut below): (Vec<i64>, Vec<i64>) = centred.partition(|step| *step > 0);
        below.sort_unstable_by_key(|step| -step);
        [above, below]
    }

    /// By how many positions the sums are rotated, one after the other, to be folded.
    pub(crate) fn folds(&self) -> impl Iterator<Item = usize> {
        let (from, to) = (self.period, self.output.period);
        (0..(from / to).max(1).ilog2()).map(move |i| to << i)
    }

    pub(crate) fn cost(&self, cost: RotationCost) -> f64 {
        let folds = self.folds().count() * self.output.ciphertexts;
        self.steps.cost(cost) + cost.giant * folds as f64
    }

    /// The same layer with its output in other units.
    pub(crate) fn divide_by(&mut self, unit: f64) {
        self.bias.iter_mut().for_each(|bias| *bias /= unit);
        self.sources.iter_mut().flat_map(|source| &mut source.factor).for_each(|factor| *factor /= unit);
    }

    /// The bias with what the shifts of the inputs add, which is not the same at the border of a padded image.
    fn complete_bias(&self) -> Vec<f64> {
        let shifted = |source: &&Source| source.shift.iter().any(|shift| *shift != 0.0);
        let [channels, height, width] = self.output.shape;
        let mut full: Option<Vec<f64>> = None;
        for source in self.sources.iter().filter(shifted) {
            let full = full.get_or_insert_with(|| {
                self.bias.iter().flat_map(|b| std::iter::repeat_n(*b, height * width)).collect()
            });
            source.map.runs(source.layout.shape, self.output.shape, 0..channels, |run| {
                let [o, y, x] = run.output;
                let added = run.weight * source.factor[o] * source.shift[run.input[0]];
                let row = &mut full[(o * height + y) * width + x..][..run.length];
                row.iter_mut().for_each(|sum| *sum += added);
            });
        }
        full.unwrap_or_else(|| self.bias.clone())
    }

    /// Visits all weights of the outputs of some channels, as segments at equal distances in one ciphertext.
    fn segments(
        &self,
        channels: impl Iterator<Item = usize> + Clone,
        mut visit: impl FnMut(Diagonal, Segment),
    ) {
        let (positions, output) = (self.packing.positions(), &self.output);
        for source in &self.sources {
            let layout = &source.layout;
            let modulus = layout.period.min(output.period);
            let mut segment = |from: usize, to: usize, length: usize, weight: f64| {
                let (input, from) = (source.first + from / positions, from % positions);
                let (block, to) = (to / positions, to % positions);
                let shift = centred(from as i64 - to as i64, modulus);
                let place = match layout.period > output.period {
                    true => (from as i64 - shift).rem_euclid(layout.period as i64) as usize,
                    false => to,
                };
                let step = output.column_stride;
                visit(Diagonal { block, input, shift }, Segment { place, step, length, weight });
            };
            source.map.runs(layout.shape, output.shape, channels.clone(), |run| {
                let ([o, y, x], [i, r, c]) = (run.output, run.input);
                let (Some(from), Some(to)) = (layout.address(i, r, c), output.address(o, y, x)) else {
                    return;
                };
                let weight = run.weight * source.scale[i] * source.factor[o];
                let (from_step, to_step) = (layout.column_stride * run.step, output.column_stride);
                let last = run.length - 1;
                let whole =
                    |first: usize, step: usize| first / positions == (first + last * step) / positions;
                if last == 0 || from_step == to_step && whole(from, from_step) && whole(to, to_step) {
                    segment(from, to, run.length, weight);
                } else {
                    (0..run.length).for_each(|k| segment(from + k * from_step, to + k * to_step, 1, weight));
                }
            });
        }
    }

    /// The non-zero diagonals.
    fn diagonals(&self, inputs: usize) -> Vec<Diagonal> {
        let half = self.packing.positions() as i64 / 2;
        let words = self.packing.positions() / 64 + 1;
        let mut found: HashMap<usize, Vec<u64>> = HashMap::new();
        let mut last = (usize::MAX, i64::MAX);
        self.segments(0..self.output.shape[0], |diagonal, _| {
            let part = diagonal.block * inputs + diagonal.input;
            if last != (part, diagonal.shift) {
                last = (part, diagonal.shift);
                let bit = (diagonal.shift + half) as usize;
                found.entry(part).or_insert_with(|| vec![0; words])[bit / 64] |= 1 << (bit % 64);
            }
        });
        let mut diagonals = Vec::new();
        for (part, bits) in found {
            for (i, word) in bits.into_iter().enumerate().filter(|(_, word)| *word != 0) {
                let bits = (0..64).filter(|bit| word >> bit & 1 == 1);
                diagonals.extend(bits.map(|bit| Diagonal {
                    block: part / inputs,
                    input: part % inputs,
                    shift: (64 * i + bit) as i64 - half,
                }));
            }
        }
        diagonals.sort_unstable();
        diagonals
    }

    /// The vectors of some of a block's products, counted from the block's first, over the positions of a ciphertext.
    pub(crate) fn vectors(&self, block: usize, products: std::ops::Range<usize>) -> Vec<Vec<f64>> {
        let wanted = &self.products_of(block)[products];
        let index: HashMap<(usize, i64), usize> =
            wanted.iter().enumerate().map(|(i, product)| ((product.input, product.shift), i)).collect();
        let positions = self.packing.positions();
        let mut vectors = vec![vec![0.0; positions]; wanted.len()];
        let in_block = |channel: &usize| {
            let [_, height, width] = self.output.shape;
            let first = self.output.address(*channel, 0, 0);
            let last = self.output.address(*channel, height - 1, width - 1);
            first.is_some_and(|first| first / positions <= block)
                && last.is_some_and(|last| last / positions >= block)
        };
        let channels: Vec<usize> = (0..self.output.shape[0]).filter(in_block).collect();
        self.segments(channels.iter().copied(), |diagonal, segment| {
            if diagonal.block != block {
                return;
            }
            let Some(&i) = index.get(&(diagonal.input, diagonal.shift)) else { return };
            let (vector, giant) = (&mut vectors[i], wanted[i].giant);
            for k in 0..segment.length {
                let place = (segment.place + k * segment.step) as i64 + giant;
                let place = place.rem_euclid(self.period as i64) as usize;
                vector[place] += segment.weight;
            }
        });
        for vector in &mut vectors {
            for copy in 1..positions / self.period {
                vector.copy_within(..self.period, copy * self.period);
            }
        }
        vectors
    }

    /// The constants that are added to a ciphertext of the output, over its positions.
    pub(crate) fn bias_vector(&self, block: usize) -> Vec<f64> {
        let positions = self.packing.positions();
        let [channels, height, width] = self.output.shape;
        let pixels = height * width;
        let mut vector = vec![0.0; positions];
        for (i, address) in self.output.addresses().enumerate() {
            if let Some(address) = address.filter(|address| address / positions == block) {
                vector[address % positions] =
                    self.bias[if self.bias.len() == channels { i / pixels } else { i }];
            }
        }
        for copy in 1..positions / self.output.period {
            vector.copy_within(..self.output.period, copy * self.output.period);
        }
        vector
    }

    /// A bound of the output's size, where the inputs have these bounds.
    pub(crate) fn bound(&self, inputs: &[f64]) -> f64 {
        let [channels, height, width] = self.output.shape;
        let mut sums = vec![0.0; channels * height * width];
        for (i, sum) in sums.iter_mut().enumerate() {
            let bias =
                if self.bias.len() == channels { self.bias[i / (height * width)] } else { self.bias[i] };
            *sum = bias.abs();
        }
        for source in &self.sources {
            let largest =
                inputs[source.first..][..source.layout.ciphertexts].iter().fold(0.0, |a, &b| b.max(a));
            source.map.runs(source.layout.shape, self.output.shape, 0..channels, |run| {
                let [o, y, x] = run.output;
                let weight = (run.weight * source.factor[o] * source.scale[run.input[0]]).abs() * largest;
                let row = &mut sums[(o * height + y) * width + x..][..run.length];
                row.iter_mut().for_each(|sum| *sum += weight);
            });
        }
        sums.into_iter().fold(0.0, f64::max)
    }
}

/// Weights of outputs at equal distances in a ciphertext.
struct Segment {
    place: usize,
    step: usize,
    length: usize,
    weight: f64,
}

/// The number that is equal modulo `modulus`, from `−modulus/2` to below `modulus/2`.
fn centred(shift: i64, modulus: usize) -> i64 {
    let modulus = modulus as i64;
    (shift + modulus / 2).rem_euclid(modulus) - modulus / 2
}

impl Steps {
    fn none() -> Self {
        Self { babies: Vec::new(), giants: Vec::new() }
    }
}
