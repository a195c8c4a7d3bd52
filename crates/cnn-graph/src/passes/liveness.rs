//! After which step a value is not needed any more.

use crate::graph::{Graph, ValueId};
use crate::passes::fuse::Step;

/// For each step, the values that no later step takes: their memory is free after it. The output is never in it.
pub fn last_uses(graph: &Graph, steps: &[Step]) -> Vec<Vec<ValueId>> {
    let mut last = vec![None; graph.nodes().len()];
    for (index, step) in steps.iter().enumerate() {
        // A value that nothing takes is free at once.
        last[step.output().index()] = Some(index);
        for input in step.inputs(graph) {
            last[input.index()] = Some(index);
        }
    }
    last[graph.output().index()] = None;
    let mut freed = vec![Vec::new(); steps.len()];
    for (value, _) in graph.values() {
        if let Some(index) = last[value.index()] {
            freed[index].push(value);
        }
    }
    freed
}

/// The most numbers that are in memory at the same time for one image, while the steps run in order.
pub fn peak_elements(graph: &Graph, steps: &[Step]) -> usize {
    let size = |value: ValueId| graph.node(value).shape.elements();
    let mut live = size(graph.input());
    let mut peak = live;
    for (step, freed) in steps.iter().zip(last_uses(graph, steps)) {
        live += size(step.output());
        peak = peak.max(live);
        live -= freed.into_iter().map(size).sum::<usize>();
    }
    peak
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::GraphBuilder;
    use crate::ops::Conv;
    use crate::passes::fuse;

    #[test]
    fn a_shortcut_lives_until_its_sum() {
        let mut b = GraphBuilder::new([2, 4, 4]);
        let x = b.input();
        let shortcut = b.conv("conv1", x, Conv::same(2, 3));
        let x = b.conv("conv2", shortcut, Conv::same(2, 3));
        let x = b.conv("conv3", x, Conv::same(2, 3));
        let x = b.add(x, shortcut);
        let graph = b.finish(x).unwrap();
        let steps = fuse(&graph, &BTreeSet::new());
        let freed: Vec<Vec<&str>> = last_uses(&graph, &steps)
            .into_iter()
            .map(|values| values.into_iter().map(|value| graph.node(value).name.as_str()).collect())
            .collect();
        assert_eq!(freed, [vec!["input"], vec![], vec!["conv1", "conv2"]]);
        assert_eq!(peak_elements(&graph, &steps), 3 * 2 * 4 * 4);
    }
}
