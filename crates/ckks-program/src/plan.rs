//! A network's program with what it was made from.

use std::collections::BTreeMap;

use cnn_graph::policy::{ActivationPolicy, SiteKind};
use cnn_graph::{Graph, ParamSpec};

use crate::error::{Error, Result};
use crate::ir::{Counts, Layer, OpKind, Plain, Program, ValueId, count};
use crate::layout::Packing;
use crate::levels::{LevelBudget, LevelNode, Placement, place};
use crate::linear::Linear;
use crate::lower::{Lowered, View, Weights, lower};
use crate::profile::Profile;
use crate::split::RotationCost;
use crate::stage::{Kind, Stage, Writer};

/// Bounds of the size of values, by the name of the graph's node: what a calibration recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recorded(pub BTreeMap<String, f64>);

impl Recorded {
    /// The bound of a node's value.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}

/// For what a program is made.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Slots of a ciphertext, where no profile says it.
    pub slots: usize,
    /// The engine. Without one, a program has as many levels as it takes and no bootstraps, and no times.
    pub profile: Option<Profile>,
    /// Whether parameters of less than 128 bits of security will do.
    pub insecure: bool,
    /// Bounds of values that are no activation's input, so that they can be bootstrapped. Where there is none, a bound is
    /// computed from the weights, which is far larger than what occurs.
    pub recorded: Recorded,
    /// The most bytes that all keys may take, by the profile. Where they would take more, baby steps are rotations of one
    /// another instead of hoisted ones: that takes few different rotations, and more time.
    pub key_bytes: Option<f64>,
}

impl PlanOptions {
    /// For ciphertexts with so many slots, and no engine.
    pub fn new(slots: usize) -> Self {
        Self { slots, profile: None, insecure: false, recorded: Recorded::default(), key_bytes: None }
    }

    /// For an engine.
    pub fn for_engine(profile: Profile) -> Self {
        Self { profile: Some(profile), ..Self::new(0) }
    }
}

/// A network for encrypted images: its program, and all that the program is costed, simulated and exported with.
#[derive(Debug)]
pub struct Plan {
    pub(crate) program: Program,
    pub(crate) stages: Vec<Stage>,
    pub(crate) placement: Placement,
    pub(crate) profile: Option<Profile>,
    /// The values of one image that the network takes.
    pub(crate) image: usize,
}

/// What a plaintext product costs, in rotations, where no profile says it.
const PRODUCT: f64 = 0.05;

/// By how much a bound may be above the range of a bootstrap, in parts of it: what float64 rounds.
const ROUNDING: f64 = 1e-9;

/// A level at which a stage is written to see what it consists of.
const BASE: u32 = 1 << 10;

impl Plan {
    /// Plans a network. `weights` gives the values of each parameter of [`Graph::params`] in row-major order.
    ///
    /// # Errors
    /// [`Error`]: for weights that do not fit, sites that have no polynomial, what there is no program for, and levels that
    /// run out.
    pub fn new(
        graph: &Graph,
        weights: impl FnMut(&ParamSpec) -> Vec<f32>,
        policy: &ActivationPolicy,
        options: &PlanOptions,
    ) -> Result<Self> {
        Self::with_progress(graph, weights, policy, options, |_, _| {})
    }

    /// The same; `progress` is called with the number of nodes that are done, and of all.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_progress(
        graph: &Graph,
        mut weights: impl FnMut(&ParamSpec) -> Vec<f32>,
        policy: &ActivationPolicy,
        options: &PlanOptions,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let profile = options.profile.as_ref();
        if let Some(profile) = profile.filter(|_| !options.insecure) {
            profile.check_security()?;
        }
        let slots = profile.map_or(options.slots, |profile| profile.slots);
        if slots < 64 || !slots.is_power_of_two() {
            return Err(Error::Slots { slots });
        }
        let sites: Vec<_> =
            graph.sites().map(|(_, node)| (node.name.as_str(), SiteKind::of(&node.op))).collect();
        policy.check(sites.into_iter())?;
        let graph = cnn_graph::passes::prune(graph);
        let largest = graph.nodes().iter().map(|node| node.shape.elements()).max().unwrap_or(1);
        let positions = largest.next_power_of_two().clamp(64, slots);
        let packing = Packing { slots, lanes: slots / positions };
        let costs = match profile {
            Some(profile) => {
                // Linear layers work at low levels, where they cost least.
                let level = profile.levels.refreshed.div_ceil(2).min(4);
                let product = profile.seconds(OpKind::MultiplyPlain, level)?;
                Weights { rotations: profile.rotation_cost(level)?, product }
            }
            None => Weights { rotations: RotationCost::COUNT, product: PRODUCT },
        };
        let lowered = lower(&graph, &mut weights, policy, packing, costs, &options.recorded, &mut progress)?;
        let Lowered { mut stages, output } = needed(lowered);
        let classes = sharing_keys(&stages);
        let (mut placement, mut program) = arrange(&stages, &output, packing, profile)?;
        let limit = profile.zip(options.key_bytes);
        if let Some((profile, most)) = limit.filter(|(profile, most)| key_bytes(&program, profile) > *most) {
            // As few classes as it takes, the cheapest first.
            let (mut too_few, mut enough) = (0, classes.len());
            chain(&mut stages, &classes, enough);
            (placement, program) = arrange(&stages, &output, packing, Some(profile))?;
            let needs = key_bytes(&program, profile);
            if needs > most {
                return Err(Error::KeyBytes { needs, most });
            }
            while too_few + 1 < enough {
                let middle = too_few.midpoint(enough);
                chain(&mut stages, &classes, middle);
                let found = arrange(&stages, &output, packing, Some(profile))?;
                if key_bytes(&found.1, profile) <= most {
                    enough = middle;
                    (placement, program) = found;
                } else {
                    too_few = middle;
                }
            }
            chain(&mut stages, &classes, enough);
        }
        let image = graph.input_shape().elements();
        Ok(Self { program, stages, placement, profile: options.profile.clone(), image })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The engine that it is for.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// The vectors of some products of one of a linear layer's outputs, slot by slot: those in `products`, counted as
    /// [`Plain::product`] does. Making many at once is faster. No vectors for a layer that is not linear.
    pub fn plaintexts(&self, layer: usize, block: usize, products: std::ops::Range<usize>) -> Vec<Vec<f64>> {
        let linear = self.stages.get(layer).and_then(Stage::linear);
        let vectors = linear.map(|linear| linear.vectors(block, products)).unwrap_or_default();
        vectors.into_iter().map(|vector| self.in_lanes(vector)).collect()
    }

    /// The vector that an instruction names.
    pub fn plaintext(&self, plain: Plain) -> Vec<f64> {
        let (layer, block) = (plain.layer as usize, plain.block as usize);
        match (plain.product, self.stages.get(layer).and_then(Stage::linear)) {
            (Some(product), _) => {
                let product = product as usize;
                self.plaintexts(layer, block, product..product + 1).pop().unwrap_or_default()
            }
            (None, Some(linear)) => self.in_lanes(linear.bias_vector(block)),
            (None, None) => Vec::new(),
        }
    }

    /// A vector over positions as one over slots.
    fn in_lanes(&self, vector: Vec<f64>) -> Vec<f64> {
        match self.program.packing.lanes {
            1 => vector,
            lanes => vector.into_iter().flat_map(|x| std::iter::repeat_n(x, lanes)).collect(),
        }
    }
}

/// Levels, bootstraps and instructions.
fn arrange(
    stages: &[Stage],
    output: &View,
    packing: Packing,
    profile: Option<&Profile>,
) -> Result<(Placement, Program)> {
    let extra = profile.map_or(0, |profile| profile.levels.extra_per_polynomial);
    let mut nodes = level_nodes(stages, packing, profile, extra)?;
    let budget = budget(&nodes, profile);
    if profile.is_none() {
        nodes.iter_mut().for_each(|node| node.seconds = vec![0.0; budget.fresh as usize + 1]);
    }
    let mut placement = in_groups(stages, &nodes, budget)?;
    // Images are encrypted at the level at which they are first needed.
    for (i, _) in stages.iter().enumerate().filter(|(_, stage)| matches!(stage.kind, Kind::Input { .. })) {
        let users = (0..stages.len()).filter(|user| stages[*user].inputs.contains(&i));
        if let Some(level) = users.map(|user| placement.decisions[user].works_at).max()
            && !placement.decisions[i].bootstrapped
        {
            placement.decisions[i].works_at = level;
        }
    }
    let program = write(stages, output, packing, &placement, budget, extra);
    Ok((placement, program))
}

/// Makes the baby steps of the first so many classes rotations of one another, and those of the others hoisted ones.
fn chain(stages: &mut [Stage], classes: &[Vec<usize>], count: usize) {
    for (i, class) in classes.iter().enumerate() {
        for &stage in class {
            if let Kind::Linear(linear) = &mut stages[stage].kind {
                linear.hoisted = i >= count;
            }
        }
    }
}

/// The linear stages with several baby steps, by what these are: those that save most keys for the time that it takes come
/// first.
fn sharing_keys(stages: &[Stage]) -> Vec<Vec<usize>> {
    let mut classes: BTreeMap<Vec<i64>, Vec<usize>> = BTreeMap::new();
    for (i, stage) in stages.iter().enumerate() {
        let steps = stage.linear().map(Linear::baby_steps).unwrap_or_default();
        if steps.len() > 1 {
            classes.entry(steps).or_default().push(i);
        }
    }
    let mut classes: Vec<(Vec<i64>, Vec<usize>)> = classes.into_iter().collect();
    let rotations = |class: &[usize]| -> usize {
        let linears = class.iter().filter_map(|stage| stages[*stage].linear());
        linears.map(Linear::baby_rotations).sum()
    };
    let price = |(steps, class): &(Vec<i64>, Vec<usize>)| rotations(class) as f64 / steps.len() as f64;
    classes.sort_by(|a, b| price(a).total_cmp(&price(b)));
    classes.into_iter().map(|(_, class)| class).collect()
}

/// Bytes of all keys of a program: each rotation's at the highest level at which it is used.
pub(crate) fn key_bytes(program: &Program, profile: &Profile) -> f64 {
    let mut keys: BTreeMap<u32, u32> = BTreeMap::new();
    for instruction in &program.instructions {
        if let Some(by) = instruction.op.rotation() {
            let highest = keys.entry(by).or_default();
            *highest = instruction.level.max(*highest);
        }
    }
    let one = |level: &u32| profile.bytes.rotation_key.at(*level).unwrap_or(0.0);
    keys.values().map(one).sum::<f64>() + profile.bytes.other_keys
}

/// Without the stages that the output does not depend on.
fn needed(lowered: Lowered) -> Lowered {
    let Lowered { stages, mut output } = lowered;
    let mut is_needed = vec![false; stages.len()];
    output.stages.iter().for_each(|stage| is_needed[*stage] = true);
    for (i, stage) in stages.iter().enumerate().rev() {
        if is_needed[i] {
            stage.inputs.iter().for_each(|input| is_needed[*input] = true);
        }
    }
    let mut renumbered = Vec::with_capacity(stages.len());
    let mut kept: Vec<Stage> = Vec::new();
    for (mut stage, is_needed) in stages.into_iter().zip(is_needed) {
        renumbered.push(kept.len());
        if is_needed {
            stage.inputs.iter_mut().for_each(|input| *input = renumbered[*input]);
            kept.push(stage);
        }
    }
    output.stages.iter_mut().for_each(|stage| *stage = renumbered[*stage]);
    Lowered { stages: kept, output }
}

/// What a stage consists of, by the number of levels below that at which it works.
pub(crate) fn contents(stages: &[Stage], packing: Packing, extra: u32) -> Vec<Counts> {
    let one = |(id, stage): (usize, &Stage)| {
        let mut writer = Writer::new(packing, extra);
        let inputs: Vec<Vec<ValueId>> = stage
            .inputs
            .iter()
            .map(|input| (0..stages[*input].ciphertexts).map(|_| writer.placeholder(BASE)).collect())
            .collect();
        writer.stage(id, stage, &inputs, BASE);
        let counts = count(&writer.instructions);
        counts.into_iter().map(|((kind, level), n)| ((kind, BASE - level), n)).collect()
    };
    stages.iter().enumerate().map(one).collect()
}

fn level_nodes(
    stages: &[Stage],
    packing: Packing,
    profile: Option<&Profile>,
    extra: u32,
) -> Result<Vec<LevelNode>> {
    let mut nodes = Vec::with_capacity(stages.len());
    for (stage, counts) in stages.iter().zip(contents(stages, packing, extra)) {
        let depth = stage.depth(extra);
        let mut node = LevelNode {
            name: stage.name.clone(),
            inputs: stage.inputs.clone(),
            depth,
            seconds: Vec::new(),
            bootstrap: None,
            bound: stage.bound,
        };
        if let Some(profile) = profile {
            for works_at in 0..=profile.levels.fresh.max(profile.levels.refreshed) {
                let mut sum = if works_at < depth { f64::INFINITY } else { 0.0 };
                for (&(kind, below), &n) in counts.iter().filter(|_| works_at >= depth) {
                    sum += n as f64 * profile.seconds(kind, works_at.saturating_sub(below))?;
                }
                node.seconds.push(sum);
            }
            let takes =
                |bootstrap: &crate::profile::Bootstrap| stage.bound <= bootstrap.range * (1.0 + ROUNDING);
            let bootstrap = profile.bootstrap.filter(takes);
            node.bootstrap = bootstrap.map(|bootstrap| bootstrap.seconds * stage.ciphertexts as f64);
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// Places bootstraps with each group of stages as one.
fn in_groups(stages: &[Stage], nodes: &[LevelNode], budget: LevelBudget) -> Result<Placement> {
    let mut place_of: Vec<usize> = Vec::with_capacity(nodes.len());
    let mut merged: Vec<LevelNode> = Vec::new();
    let mut last_group = None;
    for (stage, node) in stages.iter().zip(nodes) {
        let inputs: Vec<usize> = node.inputs.iter().map(|input| place_of[*input]).collect();
        match merged.last_mut().filter(|_| stage.group.is_some() && stage.group == last_group) {
            Some(group) => {
                group.inputs.extend(inputs);
                group.seconds.iter_mut().zip(&node.seconds).for_each(|(sum, own)| *sum += own);
                group.bootstrap = group.bootstrap.zip(node.bootstrap).map(|(sum, own)| sum + own);
                group.bound = group.bound.max(node.bound);
            }
            None => merged.push(LevelNode { inputs, ..node.clone() }),
        }
        last_group = stage.group;
        place_of.push(merged.len() - 1);
    }
    let Placement { decisions, seconds } = place(&merged, budget)?;
    Ok(Placement { decisions: place_of.into_iter().map(|place| decisions[place]).collect(), seconds })
}

/// The engine's levels, or as many as the network takes.
fn budget(nodes: &[LevelNode], profile: Option<&Profile>) -> LevelBudget {
    match profile {
        Some(profile) => LevelBudget {
            fresh: profile.levels.fresh,
            refreshed: profile.levels.refreshed,
            least: profile.levels.least,
            range: profile.bootstrap.map_or(0.0, |bootstrap| bootstrap.range),
        },
        None => {
            let mut depths: Vec<u32> = Vec::with_capacity(nodes.len());
            for node in nodes {
                let before = node.inputs.iter().map(|input| depths[*input]).max().unwrap_or(0);
                depths.push(before + node.depth);
            }
            let fresh = depths.into_iter().max().unwrap_or(0);
            LevelBudget { fresh, refreshed: 0, least: 0, range: 0.0 }
        }
    }
}

fn write(
    stages: &[Stage],
    output: &View,
    packing: Packing,
    placement: &Placement,
    budget: LevelBudget,
    extra: u32,
) -> Program {
    let mut writer = Writer::new(packing, extra);
    let mut values: Vec<Vec<ValueId>> = Vec::with_capacity(stages.len());
    let mut layers: Vec<Layer> = Vec::with_capacity(stages.len());
    for (id, (stage, decision)) in stages.iter().zip(&placement.decisions).enumerate() {
        let inputs: Vec<Vec<ValueId>> = stage.inputs.iter().map(|input| values[*input].clone()).collect();
        let mut own = writer.stage(id, stage, &inputs, decision.works_at);
        if decision.bootstrapped {
            own = writer.bootstrap(&own, budget.refreshed);
        }
        layers.push(Layer {
            name: stage.name.clone(),
            kind: stage.kind.name().to_owned(),
            values: own.clone(),
            bound: stage.bound.is_finite().then_some(stage.bound),
            layout: match &stage.kind {
                Kind::Input { layout } => Some(layout.clone()),
                Kind::Linear(linear) => Some(linear.output().clone()),
                _ => None,
            },
        });
        values.push(own);
    }
    let input = layers.first().and_then(|layer| layer.layout.clone());
    Program {
        version: Program::VERSION,
        packing,
        input: input.unwrap_or_else(|| output.layout.clone()),
        output: output.layout.clone(),
        output_scale: output.scale.iter().zip(&output.shift).map(|(a, b)| [*a, *b]).collect(),
        results: output.stages.iter().flat_map(|stage| values[*stage].clone()).collect(),
        layers,
        instructions: writer.instructions,
    }
}
