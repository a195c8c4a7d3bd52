//! A graph without the nodes that its output does not depend on.

use crate::graph::{Graph, Node, ValueId};

/// The same network without the nodes that its output does not depend on. The input stays.
pub fn prune(graph: &Graph) -> Graph {
    let mut needed = vec![false; graph.nodes().len()];
    needed[graph.input().index()] = true;
    needed[graph.output().index()] = true;
    for (value, node) in graph.values().rev() {
        if needed[value.index()] {
            for input in &node.inputs {
                needed[input.index()] = true;
            }
        }
    }
    let mut renumbered = vec![graph.input(); graph.nodes().len()];
    let mut nodes: Vec<Node> = Vec::new();
    for (value, node) in graph.values().filter(|(value, _)| needed[value.index()]) {
        renumbered[value.index()] = ValueId::new(nodes.len());
        let inputs = node.inputs.iter().map(|input| renumbered[input.index()]).collect();
        nodes.push(Node { inputs, ..node.clone() });
    }
    Graph { nodes, output: renumbered[graph.output().index()], ignored: graph.ignored.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GraphBuilder;

    #[test]
    fn only_what_the_output_needs_stays() {
        let mut b = GraphBuilder::new([4]);
        let x = b.input();
        b.linear("unused", x, 3);
        let y = b.linear("fc", x, 2);
        b.relu("also_unused", y);
        let graph = prune(&b.finish(y).unwrap());
        let names: Vec<&str> = graph.nodes().iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["input", "fc"]);
        assert_eq!(graph.output().index(), 1);
        assert_eq!(prune(&graph), graph);
    }
}
