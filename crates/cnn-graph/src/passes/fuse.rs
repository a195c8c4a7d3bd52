//! Which nodes run as one step.
//!
//! A convolution takes the batch norm behind it, the value that is added to it and the activation behind that into its
//! own pass over memory, while its sums are in the cache. The shortcut without parameters of CIFAR-10's ResNets, two
//! slices and more channels, is one copy.

use std::collections::BTreeSet;

use crate::graph::{Graph, ValueId};
use crate::ops::{Op, Pad, Slice};

/// What is executed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A convolution with what follows it.
    Conv(FusedConv),
    /// Every second row and column of an image, with zero channels around.
    Subsample(FusedSubsample),
    /// A single node.
    Single(ValueId),
}

/// `activation(norm(conv(x)) + addend)`, as far as the parts are there. Each is named by its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FusedConv {
    /// The convolution.
    pub conv: ValueId,
    /// The batch norm behind it.
    pub norm: Option<ValueId>,
    /// The sum with another value: the value of the sum, and the other value.
    pub sum: Option<(ValueId, ValueId)>,
    /// The activation at the end.
    pub activation: Option<ValueId>,
}

/// Every second row and column, and as many zero channels in front as behind, or one fewer (He et al., arXiv 1512.03385,
/// section 4.2, option A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FusedSubsample {
    /// The first slice.
    pub first: ValueId,
    /// The second slice, in the other direction.
    pub second: ValueId,
    /// The zero channels.
    pub pad: ValueId,
}

impl FusedConv {
    fn new(conv: ValueId) -> Self {
        Self { conv, norm: None, sum: None, activation: None }
    }

    /// The value that is added, if there is one.
    pub fn addend(&self) -> Option<ValueId> {
        self.sum.map(|(_, addend)| addend)
    }

    /// The value that the step gives.
    pub fn output(&self) -> ValueId {
        self.activation.or(self.sum.map(|(sum, _)| sum)).or(self.norm).unwrap_or(self.conv)
    }
}

impl Step {
    /// The value that the step gives.
    pub fn output(&self) -> ValueId {
        match self {
            Self::Conv(conv) => conv.output(),
            Self::Subsample(subsample) => subsample.pad,
            Self::Single(value) => *value,
        }
    }

    /// The values that the step takes.
    pub fn inputs(&self, graph: &Graph) -> Vec<ValueId> {
        match self {
            Self::Conv(conv) => graph.node(conv.conv).inputs.iter().copied().chain(conv.addend()).collect(),
            Self::Subsample(subsample) => graph.node(subsample.first).inputs.clone(),
            Self::Single(value) => graph.node(*value).inputs.clone(),
        }
    }
}

/// The steps of a graph, in an order in which each comes after those whose values it takes. The input is no step.
///
/// A value in `keep` is the output of a step, so that it can be looked at. The output of a convolution with a batch norm
/// behind it never is: the two are one.
pub fn fuse(graph: &Graph, keep: &BTreeSet<ValueId>) -> Vec<Step> {
    let users = users(graph);
    // The only node that takes a value, if the value is not to be kept.
    let only_user = |value: ValueId| match users[value.index()][..] {
        [user] if value != graph.output() && !keep.contains(&value) => Some(user),
        _ => None,
    };

    // Convolutions with their batch norms.
    let mut convs: Vec<FusedConv> = Vec::new();
    for (value, node) in graph.values() {
        if matches!(node.op, Op::Conv(_)) {
            let mut conv = FusedConv::new(value);
            if let [user] = users[value.index()][..]
                && value != graph.output()
                && matches!(graph.node(user).op, Op::BatchNorm(_))
            {
                conv.norm = Some(user);
            }
            convs.push(conv);
        }
    }
    // A sum goes to the later one of the two convolutions that could take it: there, the other value exists already.
    let mut taken: BTreeSet<ValueId> = BTreeSet::new();
    for conv in convs.iter_mut().rev() {
        if let Some(sum) = only_user(conv.output())
            && matches!(graph.node(sum).op, Op::Add(_))
            && !taken.contains(&sum)
        {
            let [a, b] = graph.node(sum).inputs[..] else { continue };
            let other = if a == conv.output() { b } else { a };
            if other != conv.output() {
                taken.insert(sum);
                conv.sum = Some((sum, other));
            }
        }
    }
    for conv in &mut convs {
        conv.activation =
            only_user(conv.output()).filter(|user| matches!(graph.node(*user).op, Op::Activation(_)));
    }

    let subsamples: Vec<FusedSubsample> =
        graph.values().filter_map(|(value, _)| subsample(graph, value, only_user)).collect();

    let of_convs = convs
        .iter()
        .flat_map(|conv| [Some(conv.conv), conv.norm, conv.sum.map(|(sum, _)| sum), conv.activation])
        .flatten();
    let of_subsamples = subsamples.iter().flat_map(|s| [s.first, s.second, s.pad]);
    let inside: BTreeSet<ValueId> = of_convs.chain(of_subsamples).collect();
    let single =
        graph.values().filter(|(value, node)| !inside.contains(value) && !matches!(node.op, Op::Input(_)));
    let mut steps: Vec<Step> = single.map(|(value, _)| Step::Single(value)).collect();
    steps.extend(convs.into_iter().map(Step::Conv));
    steps.extend(subsamples.into_iter().map(Step::Subsample));
    steps.sort_by_key(Step::output);
    steps
}

/// The shortcut that begins with the slice `first`, if one does.
fn subsample(
    graph: &Graph,
    first: ValueId,
    only_user: impl Fn(ValueId) -> Option<ValueId>,
) -> Option<FusedSubsample> {
    let every_second = |value: ValueId| match graph.node(value).op {
        Op::Slice(Slice { axis, start: 0, end, step: 2 }) => {
            let input = graph.node(graph.node(value).inputs[0]).shape.image()?;
            (axis > 0 && input.get(axis) == Some(&end)).then_some(axis)
        }
        _ => None,
    };
    let axis = every_second(first)?;
    let second =
        only_user(first).filter(|second| every_second(*second).is_some_and(|other| other != axis))?;
    let pad = only_user(second)?;
    match &graph.node(pad).op {
        Op::Pad(Pad { zeros }) => match zeros[..] {
            [[before, after], [0, 0], [0, 0]] if before == after || before + 1 == after => {
                Some(FusedSubsample { first, second, pad })
            }
            _ => None,
        },
        _ => None,
    }
}

/// The nodes that take each value.
fn users(graph: &Graph) -> Vec<Vec<ValueId>> {
    let mut users = vec![Vec::new(); graph.nodes().len()];
    for (value, node) in graph.values() {
        for input in &node.inputs {
            users[input.index()].push(value);
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Conv;
    use crate::{Graph, GraphBuilder};

    /// conv1, bn1, relu; conv2, bn2, + relu's output, relu.
    fn block() -> Graph {
        let mut b = GraphBuilder::new([4, 8, 8]);
        let x = b.input();
        let shortcut = b.conv_bn("conv1", "bn1", x, Conv::same(4, 3), 1e-5);
        let shortcut = b.relu("relu1", shortcut);
        let x = b.conv_bn("conv2", "bn2", shortcut, Conv::same(4, 3), 1e-5);
        let x = b.add(shortcut, x);
        let x = b.relu("relu2", x);
        b.finish(x).unwrap()
    }

    fn names(graph: &Graph, steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| graph.node(step.output()).name.clone()).collect()
    }

    #[test]
    fn a_convolution_takes_all_that_follows_it() {
        let graph = block();
        let steps = fuse(&graph, &BTreeSet::new());
        assert_eq!(names(&graph, &steps), ["relu1", "relu2"]);
        let Step::Conv(last) = steps[1] else { panic!("{steps:?}") };
        assert_eq!(graph.node(last.addend().unwrap()).name, "relu1");
        assert_eq!(steps[1].inputs(&graph).len(), 2);
    }

    #[test]
    fn a_value_that_is_kept_ends_a_step() {
        let graph = block();
        let keep = BTreeSet::from([graph.find("add").unwrap(), graph.find("bn2").unwrap()]);
        assert_eq!(names(&graph, &fuse(&graph, &keep)), ["relu1", "bn2", "add", "relu2"]);
    }

    #[test]
    fn a_value_that_two_nodes_take_ends_a_step() {
        let mut b = GraphBuilder::new([4, 8, 8]);
        let x = b.input();
        let conv = b.conv("conv", x, Conv::same(4, 3));
        let relu = b.relu("relu", conv);
        let sum = b.add(conv, relu);
        let graph = b.finish(sum).unwrap();
        assert_eq!(names(&graph, &fuse(&graph, &BTreeSet::new())), ["conv", "relu", "add"]);
    }

    #[test]
    fn a_shortcut_without_parameters_is_one_step() {
        let resnet = crate::zoo::Backbone::find("cifar10", "resnet20").unwrap().graph().unwrap();
        let steps = fuse(&resnet, &BTreeSet::new());
        let shortcuts: Vec<Step> =
            steps.iter().copied().filter(|step| matches!(step, Step::Subsample(_))).collect();
        assert_eq!(names(&resnet, &shortcuts), ["layer2.0.shortcut.pad", "layer3.0.shortcut.pad"]);
        // 19 convolutions, 2 shortcuts, the average, flatten and the linear layer.
        assert_eq!(steps.len(), 19 + 2 + 3);
    }

    #[test]
    fn of_two_convolutions_the_later_one_takes_the_sum() {
        let mut b = GraphBuilder::new([4, 8, 8]);
        let x = b.input();
        let (first, second) = (b.conv("first", x, Conv::same(4, 1)), b.conv("second", x, Conv::same(4, 3)));
        let sum = b.add(second, first);
        let graph = b.finish(sum).unwrap();
        let steps = fuse(&graph, &BTreeSet::new());
        assert_eq!(names(&graph, &steps), ["first", "add"]);
        // Twice the same value is no addend.
        let mut b = GraphBuilder::new([4, 8, 8]);
        let x = b.input();
        let conv = b.conv("conv", x, Conv::same(4, 1));
        let sum = b.add(conv, conv);
        let graph = b.finish(sum).unwrap();
        assert_eq!(names(&graph, &fuse(&graph, &BTreeSet::new())), ["conv", "add"]);
    }
}
