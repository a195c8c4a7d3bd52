//! At which level everything is computed, and where bootstraps are.
//!
//! Each stage works at some level, no higher than those of its inputs, and its value is lower by the levels that it takes;
//! then a bootstrap may bring it up. The lower the level, the less each operation costs. What is wanted is the least sum of
//! all times.
//!
//! Stages are gone through in order. A *state* tells the levels of the values that are still needed: of one value, where
//! the network is a chain, and of several between a fork and its join. For each state the least time to get there is
//! kept, which is a shortest path over (stage, levels); a state is left out if another one has no lower level and took
//! no longer, since levels can be dropped for nothing. Of values that are taken by the same stages, such as the branches of
//! a module, only the lowest level counts. So the placement is the best one, whatever the shape of the network.
//! (Orion, A. Ebel et al., arXiv 2311.03470, section 6, takes shortest paths over single values, and joins solved apart.)

use std::collections::HashMap;

use crate::error::{Error, Result};

/// A stage as far as levels matter.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelNode {
    /// Its name in messages.
    pub name: String,
    /// The nodes whose values it takes: earlier ones. None for an input.
    pub inputs: Vec<usize>,
    /// The levels that it takes.
    pub depth: u32,
    /// The seconds that it takes if it works at level 0, 1, …; those below its depth do not matter.
    pub seconds: Vec<f64>,
    /// The seconds of a bootstrap of its value; `None` where its range forbids one.
    pub bootstrap: Option<f64>,
    /// A bound of what is in its slots, for messages.
    pub bound: f64,
}

/// The levels that there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelBudget {
    /// Of a fresh ciphertext.
    pub fresh: u32,
    /// After a bootstrap.
    pub refreshed: u32,
    /// That a bootstrap needs.
    pub least: u32,
    /// The largest size of values that a bootstrap takes, for messages.
    pub range: f64,
}

/// What was decided for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The level at which it works.
    pub works_at: u32,
    /// Whether its value is bootstrapped.
    pub bootstrapped: bool,
}

/// Decisions for all nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// One for each node.
    pub decisions: Vec<Decision>,
    /// The sum of all times, in seconds.
    pub seconds: f64,
}

/// Beyond about these, states are left out: far more than networks of the usual shapes have.
const MOST_STATES: usize = 4_000;

/// How a state came about.
#[derive(Clone, Copy)]
struct Step {
    before: usize,
    decision: Decision,
}

/// The levels of the values that are still needed.
type Levels = Vec<u16>;

/// The placement that takes the least time for the value of the last node.
///
/// # Errors
/// [`Error::Depth`] for a node that takes more levels than there are at all, [`Error::NoBootstrap`] where levels run out.
pub fn place(nodes: &[LevelNode], budget: LevelBudget) -> Result<Placement> {
    let most = budget.fresh.max(budget.refreshed);
    if let Some(node) = nodes.iter().find(|node| node.depth > most) {
        return Err(Error::Depth { layer: node.name.clone(), needs: node.depth, has: most });
    }
    // For each value, the nodes that take it, in order. The last one is taken by what comes after.
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        for &input in &node.inputs {
            if users[input].last() != Some(&i) {
                users[input].push(i);
            }
        }
    }
    if let Some(last) = users.last_mut() {
        last.push(usize::MAX);
    }
    let later = |value: usize, i: usize| {
        let users = &users[value];
        &users[users.partition_point(|user| *user <= i)..]
    };
    // Values that all the same nodes are still to take are one: only the lowest of their levels matters.
    let mut live: Vec<Vec<usize>> = Vec::new();
    let mut history: Vec<Step> = Vec::new();
    let mut states: Vec<(Levels, f64, usize)> = vec![(Vec::new(), 0.0, usize::MAX)];
    for (i, node) in nodes.iter().enumerate() {
        let holds = |values: &Vec<usize>| node.inputs.iter().any(|input| values.contains(input));
        let places: Vec<usize> = (0..live.len()).filter(|place| holds(&live[*place])).collect();
        let mut next: Vec<Vec<usize>> = Vec::new();
        // Of each of the next values, which of these it comes from; this node's own is the last of them.
        let mut origins: Vec<Vec<usize>> = Vec::new();
        for (place, values) in live.iter().cloned().chain([vec![i]]).enumerate() {
            let rest = later(values[0], i);
            if rest.is_empty() {
                continue;
            }
            match next.iter().position(|known| later(known[0], i) == rest) {
                Some(at) => {
                    next[at].extend(values);
                    origins[at].push(place);
                }
                None => {
                    next.push(values);
                    origins.push(vec![place]);
                }
            }
        }
        let mut found: HashMap<Levels, (f64, Step)> = HashMap::new();
        for (levels, seconds, before) in &states {
            let highest = match node.inputs.is_empty() {
                true => budget.fresh,
                false => places.iter().map(|place| u32::from(levels[*place])).min().unwrap_or(0),
            };
            for works_at in node.depth..=highest {
                let result = works_at - node.depth;
                let own = node.seconds.get(works_at as usize).copied().unwrap_or(f64::INFINITY);
                let refreshed =
                    node.bootstrap.filter(|_| result >= budget.least && result < budget.refreshed);
                let ways = [(result, 0.0, false)]
                    .into_iter()
                    .chain(refreshed.map(|seconds| (budget.refreshed, seconds, true)));
                for (level, more, bootstrapped) in ways {
                    let seconds = seconds + own + more;
                    if !seconds.is_finite() {
                        continue;
                    }
                    let at = |place: &usize| levels.get(*place).copied().unwrap_or(level as u16);
                    let lowest = |places: &Vec<usize>| places.iter().map(at).min().unwrap_or(0);
                    let key: Levels = origins.iter().map(lowest).collect();
                    let step = Step { before: *before, decision: Decision { works_at, bootstrapped } };
                    let entry = found.entry(key).or_insert((f64::INFINITY, step));
                    if seconds < entry.0 {
                        *entry = (seconds, step);
                    }
                }
            }
        }
        if found.is_empty() {
            let bounds = live.iter().flatten().map(|&value| nodes[value].bound);
            let bound = bounds.fold(0.0, f64::max);
            return Err(Error::NoBootstrap { layer: node.name.clone(), bound, range: budget.range });
        }
        live = next;
        states = undominated(found)
            .into_iter()
            .map(|(levels, seconds, step)| {
                history.push(step);
                (levels, seconds, history.len() - 1)
            })
            .collect();
    }
    let best = states.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let (seconds, mut at) = best.map_or((0.0, usize::MAX), |state| (state.1, state.2));
    let mut decisions = Vec::with_capacity(nodes.len());
    while let Some(step) = history.get(at) {
        decisions.push(step.decision);
        at = step.before;
    }
    decisions.reverse();
    Ok(Placement { decisions, seconds })
}

/// The states of which none is as high everywhere and took no longer, the fastest first.
fn undominated(found: HashMap<Levels, (f64, Step)>) -> Vec<(Levels, f64, Step)> {
    let mut all: Vec<(Levels, f64, Step)> =
        found.into_iter().map(|(levels, (seconds, step))| (levels, seconds, step)).collect();
    let sum = |levels: &Levels| levels.iter().map(|level| u32::from(*level)).sum::<u32>();
    all.sort_by(|a, b| {
        a.1.total_cmp(&b.1).then_with(|| sum(&b.0).cmp(&sum(&a.0))).then_with(|| b.0.cmp(&a.0))
    });
    let mut kept: Vec<(Levels, f64, Step)> = Vec::new();
    for state in all {
        let dominates = |other: &(Levels, f64, Step)| other.0.iter().zip(&state.0).all(|(a, b)| a >= b);
        if !kept.iter().any(dominates) {
            kept.push(state);
        }
        if kept.len() == 2 * MOST_STATES {
            // The fastest ones, and of the others those that have most levels left.
            kept[MOST_STATES..].sort_by_key(|(levels, _, _)| std::cmp::Reverse(sum(levels)));
            kept.truncate(MOST_STATES + MOST_STATES / 2);
        }
    }
    kept
}
