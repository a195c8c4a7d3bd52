//! The longest path from input to output.

use crate::graph::{Graph, Node};

/// The largest sum of `weight` over the nodes of a path from the input to the output. With the levels of each site's
/// polynomials as weights, it is the multiplicative depth that a network's activations take, side branches included.
///
/// ```
/// use cnn_graph::ops::Op;
/// use cnn_graph::passes::longest_path;
/// use cnn_graph::zoo::Backbone;
///
/// let graph = Backbone::find("cifar10", "resnet20")?.graph()?;
/// let relus = longest_path(&graph, |node| u32::from(matches!(node.op, Op::Activation(_))));
/// assert_eq!(relus, 19);
/// # Ok::<(), cnn_graph::GraphError>(())
/// ```
pub fn longest_path(graph: &Graph, weight: impl Fn(&Node) -> u32) -> u32 {
    let mut longest: Vec<u32> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let before = node.inputs.iter().map(|input| longest[input.index()]).max().unwrap_or(0);
        longest.push(before + weight(node));
    }
    longest[graph.output().index()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::zoo::Backbone;

    fn sites(dataset: &str, name: &str) -> u32 {
        let graph = Backbone::find(dataset, name).unwrap().graph().unwrap();
        longest_path(&graph, |node| u32::from(node.op.is_site()))
    }

    #[test]
    fn of_branches_the_longest_counts() {
        // Stem 3 ReLUs and 2 poolings, 9 modules with 2 ReLUs each (their pooling branch has 2 sites as well), and the 2
        // poolings between stages.
        assert_eq!(sites("imagenet", "googlenet"), 3 + 2 + 9 * 2 + 2);
        // Stem 5 ReLUs and 2 poolings; 3 A modules of 3, B of 3, 4 C modules of 5, D of 4, 2 E modules of 3.
        assert_eq!(sites("imagenet", "inception_v3"), 5 + 2 + 3 * 3 + 3 + 4 * 5 + 4 + 2 * 3);
        assert_eq!(sites("imagenet", "resnet50"), 1 + 1 + 16 * 3);
        assert_eq!(sites("cifar10", "vgg16bn"), 13 + 5 + 2);
        assert_eq!(sites("mnist", "lenet5"), 2 + 2 + 2);
    }

    #[test]
    fn nodes_beside_the_path_to_the_output_do_not_count() {
        let mut b = crate::GraphBuilder::new([4]);
        let x = b.input();
        let y = b.relu("relu", x);
        b.relu("unused", y);
        let graph = b.finish(y).unwrap();
        assert_eq!(longest_path(&graph, |node| u32::from(matches!(node.op, Op::Activation(_)))), 1);
    }
}
