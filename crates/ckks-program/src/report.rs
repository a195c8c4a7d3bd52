//! What a program consists of, layer by layer, and what it will take.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::Result;
use crate::ir::{Instruction, Op, OpKind, count};
use crate::plan::{Plan, key_bytes};
use crate::simulate::LayerError;

/// A layer of the report: a stage of the program.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// The name of the network's node.
    pub name: String,
    /// Such as `linear` or `polynomial`.
    pub kind: String,
    /// Ciphertexts of its value.
    pub ciphertexts: usize,
    /// Channels, height and width of its value, and rows and columns between two pixels; `None` where they are those of the
    /// layer before.
    pub layout: Option<([usize; 3], [usize; 2])>,
    /// Products with plaintext vectors: the non-zero diagonals.
    pub diagonals: usize,
    /// Rotations, hoisted ones included.
    pub rotations: usize,
    /// How many of the rotations are hoisted.
    pub hoisted: usize,
    /// By how many different numbers of slots it rotates.
    pub keys: usize,
    /// Products of two ciphertexts.
    pub products: usize,
    /// Rescalings.
    pub rescalings: usize,
    /// The level at which it works.
    pub level_before: u32,
    /// The level of its value, before a bootstrap.
    pub level_after: u32,
    /// Bootstraps of its value.
    pub bootstraps: usize,
    /// Predicted seconds, bootstraps included; `None` without a profile.
    pub seconds: Option<f64>,
    /// A bound of what is in the slots, if it is known.
    pub bound: Option<f64>,
    /// The root mean square of what encryption disturbs a slot by, once [`Report::add_errors`] has told it.
    pub error: Option<f64>,
}

/// Sums over all layers, and what there is only once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    /// Bootstraps of one ciphertext.
    pub bootstraps: usize,
    /// Rotations, hoisted ones included.
    pub rotations: usize,
    /// How many of them are hoisted.
    pub hoisted: usize,
    /// Different rotations: a key each.
    pub keys: usize,
    /// Products with plaintext vectors.
    pub diagonals: usize,
    /// Products of two ciphertexts.
    pub products: usize,
    /// Rescalings.
    pub rescalings: usize,
    /// Images that share ciphertexts.
    pub images: usize,
    /// Ciphertexts that are sent.
    pub input_ciphertexts: usize,
    /// Ciphertexts that come back.
    pub output_ciphertexts: usize,
    /// The most ciphertexts at the same time.
    pub live_ciphertexts: usize,
    /// What the engine's profile says.
    pub engine: Option<EngineTotals>,
}

/// Predictions by a profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EngineTotals {
    /// The engine and its version.
    pub engine: String,
    /// Bits of security of its parameters.
    pub security_bits: u32,
    /// Seconds for the images that share ciphertexts.
    pub latency_seconds: f64,
    /// Seconds for each of them.
    pub seconds_per_image: f64,
    /// Seconds of all bootstraps.
    pub bootstrap_seconds: f64,
    /// Bytes of all keys that are needed, each rotation's at the highest level at which it is used.
    pub key_bytes: f64,
    /// Seconds to make them.
    pub key_seconds: f64,
    /// Bytes of keys and of ciphertexts where most are there.
    pub peak_bytes: f64,
    /// Bytes of the encrypted images.
    pub upload_bytes: f64,
    /// Bytes of the results.
    pub download_bytes: f64,
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// In the order of the program.
    pub layers: Vec<LayerReport>,
    /// Sums.
    pub totals: Totals,
}

impl Report {
    /// Adds the errors that a simulation found ([`Plan::errors`]).
    pub fn add_errors(&mut self, errors: &[LayerError]) {
        for error in errors {
            if let Some(layer) = self.layers.get_mut(error.layer) {
                layer.error = Some(error.deviation);
            }
        }
    }
}

impl Plan {
    /// Counts the program, and costs it if there is a profile.
    ///
    /// # Errors
    /// [`Error::NoCost`](crate::Error::NoCost) where the profile has no cost of an operation.
    pub fn report(&self) -> Result<Report> {
        let program = &self.program;
        let profile = self.profile.as_ref();
        let mut layers = Vec::with_capacity(program.layers.len());
        let mut rest = &program.instructions[..];
        let mut bootstrap_seconds = 0.0;
        for (id, layer) in program.layers.iter().enumerate() {
            let length = rest.iter().take_while(|instruction| instruction.layer as usize == id).count();
            let (own, others) = rest.split_at(length);
            rest = others;
            let counts = count(own);
            let of = |kinds: &[OpKind]| {
                counts.iter().filter(|((kind, _), _)| kinds.contains(kind)).map(|(_, n)| n).sum::<usize>()
            };
            let mut seconds = profile.map(|_| 0.0);
            for (&(kind, level), &n) in &counts {
                if let (Some(profile), Some(seconds)) = (profile, &mut seconds) {
                    let cost = n as f64 * profile.seconds(kind, level)?;
                    *seconds += cost;
                    bootstrap_seconds += if kind == OpKind::Bootstrap { cost } else { 0.0 };
                }
            }
            let decision = self.placement.decisions[id];
            let extra = profile.map_or(0, |profile| profile.levels.extra_per_polynomial);
            layers.push(LayerReport {
                name: layer.name.clone(),
                kind: layer.kind.clone(),
                ciphertexts: layer.values.len(),
                layout: layer.layout.as_ref().map(|layout| (layout.shape, layout.gap())),
                diagonals: of(&[OpKind::MultiplyPlain]),
                rotations: of(&[OpKind::Rotate, OpKind::RotateHoisted]),
                hoisted: of(&[OpKind::RotateHoisted]),
                keys: own.iter().filter_map(|i| i.op.rotation()).collect::<BTreeSet<_>>().len(),
                products: of(&[OpKind::Multiply]),
                rescalings: of(&[OpKind::Rescale]),
                level_before: decision.works_at,
                level_after: decision.works_at - self.stages[id].depth(extra),
                bootstraps: of(&[OpKind::Bootstrap]),
                seconds,
                bound: layer.bound,
                error: None,
            });
        }
        let totals = self.totals(&layers, bootstrap_seconds);
        Ok(Report { layers, totals })
    }

    fn totals(&self, layers: &[LayerReport], bootstrap_seconds: f64) -> Totals {
        let program = &self.program;
        let sum = |of: fn(&LayerReport) -> usize| layers.iter().map(of).sum::<usize>();
        let last_uses = program.last_uses();
        let images = program.packing.lanes;
        let inputs = || program.instructions.iter().filter(|i| matches!(i.op, Op::Input { .. }));
        let engine = self.profile.as_ref().map(|profile| {
            let latency_seconds = layers.iter().filter_map(|layer| layer.seconds).sum::<f64>();
            let bytes = &profile.bytes;
            let key_bytes = key_bytes(program, profile);
            let ciphertext = |level: u32| bytes.ciphertext.at(level).unwrap_or(0.0);
            let results = program.results.iter().map(|result| &program.instructions[*result as usize]);
            EngineTotals {
                engine: format!("{} {}", profile.engine, profile.engine_version),
                security_bits: profile.security_bits,
                latency_seconds,
                seconds_per_image: latency_seconds / images as f64,
                bootstrap_seconds,
                key_bytes,
                key_seconds: profile.key_seconds.others
                    + profile.key_seconds.rotation * program.rotations().len() as f64,
                peak_bytes: key_bytes + self.peak(&last_uses, |instruction| ciphertext(instruction.level)),
                upload_bytes: inputs().map(|instruction| ciphertext(instruction.level)).sum(),
                download_bytes: results.map(|instruction| ciphertext(instruction.level)).sum(),
            }
        });
        Totals {
            bootstraps: sum(|layer| layer.bootstraps),
            rotations: sum(|layer| layer.rotations),
            hoisted: sum(|layer| layer.hoisted),
            keys: program.rotations().len(),
            diagonals: sum(|layer| layer.diagonals),
            products: sum(|layer| layer.products),
            rescalings: sum(|layer| layer.rescalings),
            images,
            input_ciphertexts: inputs().count(),
            output_ciphertexts: program.results.len(),
            live_ciphertexts: self.peak(&last_uses, |_| 1.0) as usize,
            engine,
        }
    }

    /// The largest sum of sizes of values that are needed at the same time.
    pub(crate) fn peak(&self, last_uses: &[usize], size: impl Fn(&Instruction) -> f64) -> f64 {
        let instructions = &self.program.instructions;
        let mut freed: Vec<f64> = vec![0.0; instructions.len()];
        for (instruction, &last) in instructions.iter().zip(last_uses) {
            if let Some(freed) = freed.get_mut(last) {
                *freed += size(instruction);
            }
        }
        let (mut live, mut peak) = (0.0, 0.0f64);
        for (instruction, freed) in instructions.iter().zip(freed) {
            live += size(instruction);
            peak = peak.max(live);
            live -= freed;
        }
        peak
    }
}
