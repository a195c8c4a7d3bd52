//! Running a program in float64, slot by slot.
//!
//! Each group of images that shares ciphertexts runs by itself, on as many threads as there are; plaintexts are made once
//! for all of them. A value's memory is free after its last use.

use std::collections::BTreeMap;
use std::ops::Range as Span;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::ir::{Instruction, Op, Plain, Program, ValueId};
use crate::plan::Plan;
use crate::profile::Errors;

/// Whether a simulation adds the errors of encryption.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Noise {
    /// None.
    None,
    /// Gaussian ones with the standard deviations of the plan's profile; of a plan without one, none.
    Measured {
        /// Runs with the same seed are the same.
        seed: u64,
    },
}

/// What an activation saw, or a value that a bound is recorded of.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteRange {
    /// The activation, or the name of the value.
    pub site: String,
    /// The range that the policy or the record has for it.
    pub allowed: [f64; 2],
    /// The smallest and the largest value in any slot. Where no number lies, a linear layer gives the middle of the range.
    pub seen: [f64; 2],
    /// In how many ciphertexts a slot was outside.
    pub outside: usize,
}

/// What a simulation gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// Of each image the network's output in row-major order.
    pub outputs: Vec<Vec<f64>>,
    /// Of each activation and value with a range what it saw, in the order of the program.
    pub ranges: Vec<SiteRange>,
}

impl Simulation {
    /// Whether all values kept to their ranges.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] with the first one that did not.
    pub fn check_ranges(&self) -> Result<()> {
        match self.ranges.iter().find(|range| range.outside > 0) {
            Some(SiteRange { site, allowed, seen, .. }) => {
                Err(Error::OutOfRange { site: site.clone(), seen: *seen, allowed: *allowed })
            }
            None => Ok(()),
        }
    }
}

/// By how much encryption disturbs a layer's value.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerError {
    /// Of which layer: its place in [`Program::layers`].
    pub layer: usize,
    /// The root of the mean square of the error of a slot.
    pub deviation: f64,
    /// The largest error.
    pub largest: f64,
}

/// One in so many slots is looked at for errors: no power of two, so that all gaps of a layout are met.
const SAMPLE: usize = 61;

/// Memory for values and for plaintexts, in float64 numbers.
const MEMORY: usize = 1 << 28;
const PLAINTEXTS: usize = 1 << 25;

impl Plan {
    /// Runs the program for some images, each in row-major order.
    ///
    /// # Errors
    /// [`Error::Image`] for an image that the network does not take.
    pub fn simulate(&self, images: &[Vec<f64>], noise: Noise) -> Result<Simulation> {
        if let Some(image) = images.iter().find(|image| image.len() != self.image) {
            return Err(Error::Image { expected: self.image, found: image.len() });
        }
        let last_uses = self.program.last_uses();
        let lanes = self.program.packing.lanes;
        let groups: Vec<&[Vec<f64>]> = images.chunks(lanes).collect();
        let live = self.peak(&last_uses, |_| 1.0) as usize;
        let at_once = (MEMORY / (live * self.program.packing.slots).max(1)).max(1);
        let mut simulation = Simulation { outputs: Vec::new(), ranges: Vec::new() };
        for (batch, groups) in groups.chunks(at_once).enumerate() {
            let mut runs: Vec<Run> = groups
                .iter()
                .enumerate()
                .map(|(i, images)| {
                    let noise = self.noise(noise, (batch * at_once + i) as u64);
                    Run::new(self, images, noise)
                })
                .collect();
            self.run(&mut runs, &last_uses);
            for run in runs {
                simulation.outputs.extend((0..run.images.len()).map(|lane| run.output(lane)));
                merge(&mut simulation.ranges, run.ranges.into_values());
            }
        }
        Ok(simulation)
    }

    /// Runs the program with and without the errors of encryption for images that share ciphertexts, and tells by how much
    /// they differ at each layer, in units of what is in the slots. Images beyond those are left out.
    ///
    /// # Errors
    /// [`Error::Image`] for an image that the network does not take.
    pub fn errors(&self, images: &[Vec<f64>], seed: u64) -> Result<Vec<LayerError>> {
        if let Some(image) = images.iter().find(|image| image.len() != self.image) {
            return Err(Error::Image { expected: self.image, found: image.len() });
        }
        let images = &images[..images.len().min(self.program.packing.lanes)];
        let noises = [None, self.noise(Noise::Measured { seed }, 0)];
        let mut runs =
            noises.map(|noise| Run { samples: Some(BTreeMap::new()), ..Run::new(self, images, noise) });
        self.run(&mut runs, &self.program.last_uses());
        let [exact, noisy] = runs.map(|run| run.samples.unwrap_or_default());
        let error = |((layer, exact), noisy): ((usize, Vec<f64>), &Vec<f64>)| {
            let differences = || exact.iter().zip(noisy).map(|(a, b)| b - a);
            let squares: f64 = differences().map(|d| d * d).sum();
            LayerError {
                layer,
                deviation: (squares / exact.len().max(1) as f64).sqrt(),
                largest: differences().fold(0.0, |largest, d| d.abs().max(largest)),
            }
        };
        Ok(exact.into_iter().zip(noisy.values()).map(error).collect())
    }

    /// The errors of a group of images, and where they are drawn from.
    fn noise(&self, noise: Noise, stream: u64) -> Option<(Errors, f64, Random)> {
        let Noise::Measured { seed } = noise else { return None };
        let profile = self.profile.as_ref()?;
        let bootstrap = profile.bootstrap.map_or(0.0, |bootstrap| bootstrap.error);
        Some((profile.errors, bootstrap, Random::new(seed, stream)))
    }

    /// Runs all instructions, in parts that need few plaintexts at a time.
    fn run(&self, runs: &mut [Run], last_uses: &[usize]) {
        let instructions = &self.program.instructions;
        let mut start = 0;
        while start < instructions.len() {
            let (end, window) = self.part(start);
            let plaintexts = window.map(|(first, products)| Plaintexts {
                first,
                vectors: self.plaintexts(first.layer as usize, first.block as usize, products),
            });
            runs.par_iter_mut().for_each(|run| run.part(start..end, plaintexts.as_ref(), last_uses));
            start = end;
        }
    }

    /// Where the part ends that begins at an instruction, and the products that it takes.
    fn part(&self, start: usize) -> (usize, Option<(Plain, Span<usize>)>) {
        let most = (PLAINTEXTS / self.program.packing.slots).max(1);
        let mut window: Option<(Plain, Span<usize>)> = None;
        for (i, instruction) in self.program.instructions.iter().enumerate().skip(start) {
            let Op::MultiplyPlain { plain, .. } = instruction.op else { continue };
            let Some(product) = plain.product.map(|product| product as usize) else { continue };
            match &mut window {
                None => window = Some((plain, product..product + 1)),
                Some((first, products)) => {
                    let is_next = (plain.layer, plain.block) == (first.layer, first.block)
                        && product == products.end
                        && products.len() < most;
                    if !is_next {
                        return (i, window);
                    }
                    products.end += 1;
                }
            }
        }
        (self.program.instructions.len(), window)
    }
}

fn merge(all: &mut Vec<SiteRange>, ranges: impl Iterator<Item = SiteRange>) {
    for range in ranges {
        match all.iter_mut().find(|known| known.site == range.site) {
            Some(known) => {
                known.seen = [known.seen[0].min(range.seen[0]), known.seen[1].max(range.seen[1])];
                known.outside += range.outside;
            }
            None => all.push(range),
        }
    }
}

struct Plaintexts {
    first: Plain,
    vectors: Vec<Vec<f64>>,
}

impl Plaintexts {
    fn get(&self, plain: Plain) -> &[f64] {
        let index = plain.product.unwrap_or(0) - self.first.product.unwrap_or(0);
        &self.vectors[index as usize]
    }
}

/// The images of one group of ciphertexts on their way through the program.
struct Run<'a> {
    plan: &'a Plan,
    images: &'a [Vec<f64>],
    values: Vec<Vec<f64>>,
    /// By the place of the stage.
    ranges: BTreeMap<usize, SiteRange>,
    noise: Option<(Errors, f64, Random)>,
    /// If they are wanted, some slots of each layer's value, by the place of the layer.
    samples: Option<BTreeMap<usize, Vec<f64>>>,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, images: &'a [Vec<f64>], noise: Option<(Errors, f64, Random)>) -> Self {
        Self { plan, images, values: Vec::new(), ranges: BTreeMap::new(), noise, samples: None }
    }

    fn part(&mut self, span: Span<usize>, plaintexts: Option<&Plaintexts>, last_uses: &[usize]) {
        let program = &self.plan.program;
        for i in span {
            let instruction = &program.instructions[i];
            let value = self.instruction(i, instruction, plaintexts, last_uses);
            self.values.push(value);
            for operand in instruction.op.operands() {
                if last_uses[operand as usize] == i {
                    self.values[operand as usize] = Vec::new();
                }
            }
            let layer = instruction.layer as usize;
            if program.layers[layer].values.contains(&(i as ValueId)) {
                self.check(layer, i);
                if let Some(samples) = &mut self.samples {
                    let some = self.values[i].iter().step_by(SAMPLE).copied();
                    samples.entry(layer).or_default().extend(some);
                }
            }
            if last_uses[i] == i {
                self.values[i] = Vec::new();
            }
        }
    }

    fn instruction(
        &mut self,
        i: usize,
        instruction: &Instruction,
        plaintexts: Option<&Plaintexts>,
        last_uses: &[usize],
    ) -> Vec<f64> {
        let own = |values: &mut Vec<Vec<f64>>, a: ValueId| {
            // Its memory is the result's where nothing else takes it.
            match last_uses[a as usize] == i {
                true => std::mem::take(&mut values[a as usize]),
                false => values[a as usize].clone(),
            }
        };
        let values = &mut self.values;
        match instruction.op {
            Op::Input { ciphertext } => {
                let mut value = self.plan.program.encoded(ciphertext as usize, self.images);
                self.disturb(&mut value, |errors, _| errors.fresh);
                value
            }
            Op::Add { a, b } if a == b => {
                let mut value = own(values, a);
                value.iter_mut().for_each(|x| *x *= 2.0);
                value
            }
            Op::Add { a, b } => {
                let mut value = own(values, a);
                value.iter_mut().zip(&values[b as usize]).for_each(|(x, y)| *x += y);
                value
            }
            Op::Subtract { a, b } if a == b => vec![0.0; values[a as usize].len()],
            Op::Subtract { a, b } => {
                let mut value = own(values, a);
                value.iter_mut().zip(&values[b as usize]).for_each(|(x, y)| *x -= y);
                value
            }
            Op::AddConstant { a, constant } => {
                let mut value = own(values, a);
                value.iter_mut().for_each(|x| *x += constant);
                value
            }
            Op::MultiplyConstant { a, constant } => {
                let mut value = own(values, a);
                value.iter_mut().for_each(|x| *x *= constant);
                value
            }
            Op::AddPlain { a, plain } => {
                let mut value = own(values, a);
                let vector = self.plan.plaintext(plain);
                value.iter_mut().zip(&vector).for_each(|(x, y)| *x += y);
                value
            }
            Op::MultiplyPlain { a, plain } => {
                let made;
                let vector = match plaintexts {
                    Some(plaintexts) => plaintexts.get(plain),
                    None => {
                        made = self.plan.plaintext(plain);
                        &made
                    }
                };
                values[a as usize].iter().zip(vector).map(|(x, y)| x * y).collect()
            }
            Op::Multiply { a, b } if a == b => {
                let mut value = own(values, a);
                value.iter_mut().for_each(|x| *x *= *x);
                value
            }
            Op::Multiply { a, b } => {
                let mut value = own(values, a);
                value.iter_mut().zip(&values[b as usize]).for_each(|(x, y)| *x *= y);
                value
            }
            Op::Rescale { a } => {
                let mut value = own(values, a);
                self.disturb(&mut value, |errors, _| errors.rescale);
                value
            }
            Op::Drop { a } => own(values, a),
            Op::Rotate { a, by } | Op::RotateHoisted { a, by } => {
                let x = &values[a as usize];
                let (first, rest) = x.split_at(by as usize);
                let mut value = Vec::with_capacity(x.len());
                value.extend_from_slice(rest);
                value.extend_from_slice(first);
                self.disturb(&mut value, |errors, _| errors.rotate);
                value
            }
            Op::Bootstrap { a } => {
                let mut value = own(values, a);
                self.disturb(&mut value, |_, bootstrap| bootstrap);
                value
            }
        }
    }

    fn disturb(&mut self, value: &mut [f64], sigma: impl Fn(&Errors, f64) -> f64) {
        if let Some((errors, bootstrap, random)) = &mut self.noise {
            let sigma = sigma(errors, *bootstrap);
            if sigma > 0.0 {
                value.iter_mut().for_each(|x| *x += sigma * random.gaussian());
            }
        }
    }

    /// Compares a value with the range that a policy allows.
    fn check(&mut self, layer: usize, value: usize) {
        let stage = &self.plan.stages[layer];
        let Some(range) = &stage.range else { return };
        let at = |slot: f64| range.center + range.unit * slot;
        let known = self.ranges.entry(layer).or_insert_with(|| SiteRange {
            site: range.site.clone(),
            allowed: [at(-range.largest), at(range.largest)],
            seen: [f64::INFINITY, f64::NEG_INFINITY],
            outside: 0,
        });
        let (mut low, mut high, mut is_nan) = (f64::INFINITY, f64::NEG_INFINITY, false);
        for &slot in &self.values[value] {
            low = low.min(slot);
            high = high.max(slot);
            is_nan |= slot.is_nan();
        }
        known.seen = [known.seen[0].min(at(low)), known.seen[1].max(at(high))];
        let size = low.abs().max(high.abs());
        known.outside += usize::from(is_nan || size > range.largest * (1.0 + 1e-9));
    }

    fn output(&self, lane: usize) -> Vec<f64> {
        self.plan.program.decoded(lane, |result| &self.values[result as usize])
    }
}

impl Program {
    /// What the slots of a ciphertext of the input hold, for the images that share it, each in row-major order. If there are
    /// fewer than can share it, the last one is there several times. An image that is shorter than the network's input is
    /// filled with zeros.
    pub fn encoded(&self, ciphertext: usize, images: &[Vec<f64>]) -> Vec<f64> {
        let (packing, layout) = (self.packing, &self.input);
        let positions = packing.positions();
        let mut slots = vec![0.0; packing.slots];
        for (i, address) in layout.addresses().enumerate() {
            let Some(address) = address.filter(|address| address / positions == ciphertext) else { continue };
            for lane in 0..packing.lanes {
                let image = images.get(lane).or(images.last());
                let pixel = image.and_then(|image| image.get(i)).copied().unwrap_or(0.0);
                for copy in (address % positions..positions).step_by(layout.period) {
                    slots[packing.slot(copy, lane)] = pixel;
                }
            }
        }
        slots
    }

    /// The output of the image in a lane, in row-major order, from the slots of each result.
    ///
    /// # Panics
    /// If there is no such lane, or `slots` gives fewer than a ciphertext has.
    pub fn decoded<'v>(&self, lane: usize, slots: impl Fn(ValueId) -> &'v Vec<f64>) -> Vec<f64> {
        let (packing, layout) = (self.packing, &self.output);
        let [_, height, width] = layout.shape;
        let number = |(i, address): (usize, Option<usize>)| {
            let [scale, shift] = self.output_scale[i / (height * width)];
            let slot = address.map_or(0.0, |address| {
                let (ciphertext, position) = (address / packing.positions(), address % packing.positions());
                slots(self.results[ciphertext])[packing.slot(position, lane)]
            });
            scale * slot + shift
        };
        layout.addresses().enumerate().map(number).collect()
    }
}

/// Gaussian numbers, from SplitMix64 (G. Steele, D. Lea and C. Flood, OOPSLA 2014) by the polar method.
struct Random {
    state: u64,
    spare: Option<f64>,
}

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self { state: seed, spare: None };
        random.state = random.next() ^ stream.wrapping_mul(0xd134_2543_de82_ef95);
        random
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn gaussian(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (self.uniform(), self.uniform());
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }
}
