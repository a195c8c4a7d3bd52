//! Placements of bootstraps on small random graphs, against all that there are.

use ckks_program::Error;
use ckks_program::levels::{Decision, LevelBudget, LevelNode, place};
use proptest::prelude::*;

/// The least time over all decisions for the nodes from `at` on; `levels` has those of the values before.
fn brute_force(nodes: &[LevelNode], budget: LevelBudget, at: usize, levels: &mut Vec<u32>) -> f64 {
    let Some(node) = nodes.get(at) else { return 0.0 };
    let highest = node.inputs.iter().map(|input| levels[*input]).min().unwrap_or(budget.fresh);
    let mut best = f64::INFINITY;
    for works_at in node.depth..=highest {
        let result = works_at - node.depth;
        let mut ways = vec![(result, 0.0)];
        if let Some(seconds) = node.bootstrap
            && result >= budget.least
        {
            ways.push((budget.refreshed, seconds));
        }
        for (level, seconds) in ways {
            levels.push(level);
            let rest = brute_force(nodes, budget, at + 1, levels);
            levels.pop();
            best = best.min(node.seconds[works_at as usize] + seconds + rest);
        }
    }
    best
}

/// The time of a placement, if it keeps to the rules.
fn seconds(nodes: &[LevelNode], budget: LevelBudget, decisions: &[Decision]) -> Option<f64> {
    let (mut levels, mut sum) = (Vec::new(), 0.0);
    for (node, decision) in nodes.iter().zip(decisions) {
        let highest = node.inputs.iter().map(|input| levels[*input]).min().unwrap_or(budget.fresh);
        let result = decision.works_at.checked_sub(node.depth)?;
        if decision.works_at > highest || decision.bootstrapped && result < budget.least {
            return None;
        }
        sum += node.seconds[decision.works_at as usize];
        sum += if decision.bootstrapped { node.bootstrap? } else { 0.0 };
        levels.push(if decision.bootstrapped { budget.refreshed } else { result });
    }
    (decisions.len() == nodes.len()).then_some(sum)
}

fn budget() -> impl Strategy<Value = LevelBudget> {
    (2u32..5, 2u32..5, 0u32..2).prop_map(|(fresh, refreshed, least)| LevelBudget {
        fresh,
        refreshed,
        least: least.min(refreshed - 1),
        range: 1.0,
    })
}

/// What a node is made of.
type Drawn = ([usize; 2], bool, u32, u32, u32, u32);

/// Nodes with one or two inputs among those before, whose costs rise with the level.
fn nodes() -> impl Strategy<Value = Vec<LevelNode>> {
    let node = (any::<[usize; 2]>(), any::<bool>(), 0u32..3, 0u32..9, 0u32..30, 0u32..4);
    prop::collection::vec(node, 2..7).prop_map(|drawn| {
        let one = |(i, drawn): (usize, Drawn)| {
            let ([a, b], joins, depth, slope, bootstrap, forbidden) = drawn;
            let inputs = match (i, joins) {
                (0, _) => Vec::new(),
                (_, false) => vec![a % i],
                (_, true) => vec![i - 1, b % i],
            };
            LevelNode {
                name: format!("node{i}"),
                inputs,
                depth: if i == 0 { 0 } else { depth },
                seconds: (0..5).map(|level| f64::from(slope * level)).collect(),
                bootstrap: (forbidden > 0).then(|| f64::from(bootstrap)),
                bound: 1.0,
            }
        };
        drawn.into_iter().enumerate().map(one).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_placement_is_the_best_of_all(nodes in nodes(), budget in budget()) {
        let best = brute_force(&nodes, budget, 0, &mut Vec::new());
        match place(&nodes, budget) {
            Ok(placement) => {
                prop_assert!((placement.seconds - best).abs() < 1e-9, "{} instead of {}", placement.seconds, best);
                prop_assert_eq!(seconds(&nodes, budget, &placement.decisions), Some(placement.seconds));
            }
            Err(Error::Depth { needs, has, .. }) => prop_assert!(needs > has && best.is_infinite()),
            Err(error) => prop_assert!(best.is_infinite(), "{}", error),
        }
    }
}
