//! Stages: what a network is lowered to, and the instructions of each.
//!
//! A stage gives one value, in one or more ciphertexts, from those of other stages. It takes a known number of levels, and
//! between stages there may be bootstraps: where, is decided for all of them together.

use std::collections::HashMap;

use minimax_coeffs::EvaluationPlan;
use minimax_coeffs::plan::{Operation, StepId};

use crate::ir::{Instruction, Op, Plain, ValueId};
use crate::layout::{Layout, Packing};
use crate::linear::Linear;

/// The place of a stage among all.
pub(crate) type StageId = usize;

/// A part of a network.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub name: String,
    pub kind: Kind,
    /// The stages whose values it takes.
    pub inputs: Vec<StageId>,
    /// How many ciphertexts its value has.
    pub ciphertexts: usize,
    /// A bound of what is in the slots.
    pub bound: f64,
    /// The range that a policy allows for what is in the slots.
    pub range: Option<Range>,
    /// Stages of the same group follow each other, take none of each other's values, and are treated alike: they work at
    /// the same level, and all or none are bootstrapped.
    pub group: Option<usize>,
}

/// What a policy allows a value to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// The activation.
    pub site: String,
    /// A number is `center + unit` times what is in its slot.
    pub center: f64,
    /// See [`Range::center`].
    pub unit: f64,
    /// The largest size of what may be in a slot.
    pub largest: f64,
}

/// What a stage does.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Input {
        layout: Layout,
    },
    Linear(Box<Linear>),
    /// A polynomial of each slot.
    Polynomial(EvaluationPlan),
    /// `a · b`, and a third value added if there is one.
    Product,
    /// `a − b`.
    Difference,
    /// `Σ coefficient · value + constant`; a level unless all coefficients are 1.
    Combination {
        coefficients: Vec<f64>,
        constant: f64,
    },
    /// What lies so many positions farther.
    Shift {
        by: i64,
    },
    /// The sums of `count` slots at these distances.
    Sums {
        distances: [usize; 2],
        counts: [usize; 2],
    },
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Linear(_) => "linear",
            Self::Polynomial(_) => "polynomial",
            Self::Product => "product",
            Self::Difference => "difference",
            Self::Combination { .. } => "combination",
            Self::Shift { .. } => "shift",
            Self::Sums { .. } => "sums",
        }
    }
}

impl Stage {
    /// The levels that it takes; `extra` is what an engine takes in addition for a polynomial.
    pub fn depth(&self, extra: u32) -> u32 {
        match &self.kind {
            Kind::Linear(_) | Kind::Product => 1,
            Kind::Polynomial(plan) => plan.levels() + extra,
            Kind::Combination { coefficients, .. } => u32::from(coefficients.iter().any(|c| *c != 1.0)),
            Kind::Input { .. } | Kind::Difference | Kind::Shift { .. } | Kind::Sums { .. } => 0,
        }
    }

    pub fn linear(&self) -> Option<&Linear> {
        match &self.kind {
            Kind::Linear(linear) => Some(linear),
            _ => None,
        }
    }
}

/// Writes instructions.
pub(crate) struct Writer {
    packing: Packing,
    extra: u32,
    pub instructions: Vec<Instruction>,
    layer: u32,
    /// Values at lower levels.
    dropped: HashMap<(ValueId, u32), ValueId>,
}

impl Writer {
    pub fn new(packing: Packing, extra: u32) -> Self {
        Self { packing, extra, instructions: Vec::new(), layer: 0, dropped: HashMap::new() }
    }

    fn push(&mut self, op: Op, level: u32, scale: u32) -> ValueId {
        self.instructions.push(Instruction { op, layer: self.layer, level, scale });
        (self.instructions.len() - 1) as ValueId
    }

    fn level(&self, value: ValueId) -> u32 {
        self.instructions[value as usize].level
    }

    fn scale(&self, value: ValueId) -> u32 {
        self.instructions[value as usize].scale
    }

    /// A value that stands for one that is not there, at this level.
    pub fn placeholder(&mut self, level: u32) -> ValueId {
        self.push(Op::Input { ciphertext: 0 }, level, 1)
    }

    fn at(&mut self, value: ValueId, level: u32) -> ValueId {
        if self.level(value) == level {
            return value;
        }
        debug_assert!(self.level(value) > level);
        if let Some(&dropped) = self.dropped.get(&(value, level)) {
            return dropped;
        }
        let scale = self.scale(value);
        let dropped = self.push(Op::Drop { a: value }, level, scale);
        self.dropped.insert((value, level), dropped);
        dropped
    }

    /// An operation at the level and scale of its first operand.
    fn like(&mut self, a: ValueId, op: Op) -> ValueId {
        self.push(op, self.level(a), self.scale(a))
    }

    fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.like(a, Op::Add { a, b })
    }

    fn add_constant(&mut self, a: ValueId, constant: f64) -> ValueId {
        if constant == 0.0 { a } else { self.like(a, Op::AddConstant { a, constant }) }
    }

    fn multiply(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.push(Op::Multiply { a, b }, self.level(a), 2)
    }

    fn rescale(&mut self, a: ValueId) -> ValueId {
        self.push(Op::Rescale { a }, self.level(a) - 1, 1)
    }

    fn rotate(&mut self, a: ValueId, by: i64) -> ValueId {
        match self.packing.rotation(by) {
            0 => a,
            by => self.like(a, Op::Rotate { a, by: by as u32 }),
        }
    }

    /// `Σ coefficient · value`, one level lower.
    fn combine(&mut self, terms: impl Iterator<Item = (ValueId, f64)>, level: u32) -> Option<ValueId> {
        let mut sum = None;
        for (value, constant) in terms {
            let a = self.at(value, level);
            let product = self.push(Op::MultiplyConstant { a, constant }, level, 2);
            sum = Some(sum.map_or(product, |sum| self.add(sum, product)));
        }
        sum.map(|sum| self.rescale(sum))
    }

    pub fn bootstrap(&mut self, values: &[ValueId], level: u32) -> Vec<ValueId> {
        values.iter().map(|&a| self.push(Op::Bootstrap { a }, level, 1)).collect()
    }

    /// The instructions of a stage that works at `level`. `inputs` has the ciphertexts of each of its inputs.
    pub fn stage(&mut self, id: StageId, stage: &Stage, inputs: &[Vec<ValueId>], level: u32) -> Vec<ValueId> {
        self.layer = id as u32;
        self.dropped.clear();
        let lowered = |writer: &mut Self, input: usize, k: usize| writer.at(inputs[input][k], level);
        let all = 0..stage.ciphertexts;
        match &stage.kind {
            Kind::Input { .. } => {
                all.map(|k| self.push(Op::Input { ciphertext: k as u32 }, level, 1)).collect()
            }
            Kind::Linear(linear) => {
                let inputs: Vec<ValueId> = inputs.iter().flatten().copied().collect();
                let inputs = inputs.into_iter().map(|value| self.at(value, level)).collect();
                self.linear(linear, inputs)
            }
            Kind::Polynomial(plan) => {
                let one = |k| {
                    let x = lowered(self, 0, k);
                    let value = self.polynomial(plan, x);
                    self.at(value, level - plan.levels() - self.extra)
                };
                all.map(one).collect()
            }
            Kind::Product => all
                .map(|k| {
                    let (a, b) = (lowered(self, 0, k), lowered(self, 1, k));
                    let product = self.multiply(a, b);
                    let product = self.rescale(product);
                    match inputs.get(2) {
                        Some(plus) => {
                            let plus = self.at(plus[k], level - 1);
                            self.add(product, plus)
                        }
                        None => product,
                    }
                })
                .collect(),
            Kind::Difference => all
                .map(|k| {
                    let (a, b) = (lowered(self, 0, k), lowered(self, 1, k));
                    self.like(a, Op::Subtract { a, b })
                })
                .collect(),
            Kind::Combination { coefficients, constant } => {
                let depth = stage.depth(self.extra);
                all.map(|k| self.combination(inputs, k, coefficients, *constant, level, depth)).collect()
            }
            Kind::Shift { by } => all
                .map(|k| {
                    let a = lowered(self, 0, k);
                    self.rotate(a, *by)
                })
                .collect(),
            Kind::Sums { distances, counts } => all
                .map(|k| {
                    let mut sum = lowered(self, 0, k);
                    for (&distance, &count) in distances.iter().zip(counts) {
                        sum = self.sums(sum, distance, count);
                    }
                    sum
                })
                .collect(),
        }
    }

    fn combination(
        &mut self,
        inputs: &[Vec<ValueId>],
        k: usize,
        coefficients: &[f64],
        constant: f64,
        level: u32,
        depth: u32,
    ) -> ValueId {
        let terms = || inputs.iter().map(|input| input[k]).zip(coefficients.iter().copied());
        let mut sum = self.combine(terms().filter(|(_, c)| *c != 1.0), level);
        for (value, _) in terms().filter(|(_, c)| *c == 1.0) {
            let value = self.at(value, level - depth);
            sum = Some(sum.map_or(value, |sum| self.add(sum, value)));
        }
        self.add_constant(sum.expect("a combination has a term"), constant)
    }

    /// The sums of `count` slots, each `distance` positions from the next: sums of 2, 4, 8, …, and of these those that
    /// make up the count.
    fn sums(&mut self, x: ValueId, distance: usize, count: usize) -> ValueId {
        let (mut power, mut size) = (x, 1);
        let mut sum: Option<(ValueId, usize)> = None;
        loop {
            if count & size != 0 {
                sum = Some(match sum {
                    None => (power, size),
                    Some((sum, covered)) => {
                        let more = self.rotate(power, (covered * distance) as i64);
                        (self.add(sum, more), covered + size)
                    }
                });
            }
            if 2 * size > count {
                return sum.map_or(x, |(sum, _)| sum);
            }
            let shifted = self.rotate(power, (size * distance) as i64);
            power = self.add(power, shifted);
            size *= 2;
        }
    }

    fn polynomial(&mut self, plan: &EvaluationPlan, x: ValueId) -> ValueId {
        let start = self.level(x);
        let mut values: Vec<ValueId> = Vec::with_capacity(plan.steps().len());
        for step in plan.steps() {
            let level = start - step.level;
            let of = |id: &StepId| values[id.index()];
            let value = match &step.operation {
                Operation::Input => x,
                Operation::Chebyshev { left, right, minus } => {
                    let (a, b) = (self.at(of(left), level + 1), self.at(of(right), level + 1));
                    let product = self.multiply(a, b);
                    let doubled = self.add(product, product);
                    let sum = match minus {
                        Some(minus) => {
                            let a = self.at(of(minus), level + 1);
                            let b = self.push(Op::MultiplyConstant { a, constant: 1.0 }, level + 1, 2);
                            self.like(doubled, Op::Subtract { a: doubled, b })
                        }
                        None => self.add_constant(doubled, -1.0),
                    };
                    self.rescale(sum)
                }
                Operation::Combination { terms, constant } => {
                    let terms = terms.iter().map(|(id, c)| (values[id.index()], *c));
                    let sum = self.combine(terms, level + 1).expect("a combination has a term");
                    self.add_constant(sum, *constant)
                }
                Operation::MultiplyAdd { left, right, plus } => {
                    let (a, b) = (self.at(of(left), level + 1), self.at(of(right), level + 1));
                    let product = self.multiply(a, b);
                    let product = self.rescale(product);
                    match plus {
                        Some(plus) => {
                            let plus = self.at(of(plus), level);
                            self.add(product, plus)
                        }
                        None => product,
                    }
                }
            };
            values.push(value);
        }
        values[plan.output().index()]
    }

    fn joined(&mut self, sum: Option<ValueId>, term: ValueId) -> ValueId {
        sum.map_or(term, |sum| self.add(sum, term))
    }

    fn linear(&mut self, linear: &Linear, inputs: Vec<ValueId>) -> Vec<ValueId> {
        let mut rotated: HashMap<(usize, i64), ValueId> = HashMap::new();
        for (input, &a) in inputs.iter().enumerate() {
            rotated.insert((input, 0), a);
            let sides = linear.babies(input);
            let is_hoisted = linear.hoisted && sides.iter().map(Vec::len).sum::<usize>() > 1;
            for side in sides {
                let mut before = (0, a);
                for baby in side {
                    let value = match is_hoisted {
                        true => {
                            let by = self.packing.rotation(baby) as u32;
                            self.like(a, Op::RotateHoisted { a, by })
                        }
                        false => self.rotate(before.1, baby - before.0),
                    };
                    rotated.insert((input, baby), value);
                    before = (baby, value);
                }
            }
        }
        let mut outputs = Vec::with_capacity(linear.output().ciphertexts);
        for block in 0..linear.output().ciphertexts {
            let bias = linear.bias_vector(block);
            let plain = |product| Plain { layer: self.layer, block: block as u32, product };
            let bias_plain = plain(None);
            let plains: Vec<Plain> =
                (0..linear.products_of(block).len()).map(|i| plain(Some(i as u32))).collect();
            let mut plains = plains.into_iter();
            // Sums of far steps are rotated by the distance to the next one and added to its sum, up to step 0: as many
            // rotations as steps, and few different ones.
            let mut total = None;
            let mut side: Option<(i64, ValueId)> = None;
            for giant in linear.products_of(block).chunk_by(|a, b| a.giant == b.giant) {
                let mut sum = None;
                for (product, plain) in giant.iter().zip(&mut plains) {
                    let a = rotated[&(product.input, product.baby)];
                    let term = self.push(Op::MultiplyPlain { a, plain }, self.level(a), 2);
                    sum = Some(sum.map_or(term, |sum| self.add(sum, term)));
                }
                let mut sum = sum.expect("a giant step has a product");
                let step = giant[0].giant;
                if let Some((far, value)) = side.take() {
                    let is_same_side = far.signum() == step.signum();
                    let moved = self.rotate(value, if is_same_side { far - step } else { far });
                    match is_same_side {
                        true => sum = self.add(moved, sum),
                        false => total = Some(self.joined(total, moved)),
                    }
                }
                side = Some((step, sum));
            }
            if let Some((step, value)) = side {
                let moved = self.rotate(value, step);
                total = Some(self.joined(total, moved));
            }
            // Nothing but the bias where all of a ciphertext's windows lie in the padding.
            let total = total.unwrap_or_else(|| {
                let a = inputs[0];
                self.push(Op::MultiplyConstant { a, constant: 0.0 }, self.level(a), 2)
            });
            let mut value = self.rescale(total);
            for fold in linear.folds() {
                let moved = self.rotate(value, fold as i64);
                value = self.add(value, moved);
            }
            if bias.iter().any(|b| *b != 0.0) {
                value = self.like(value, Op::AddPlain { a: value, plain: bias_plain });
            }
            outputs.push(value);
        }
        outputs
    }
}
