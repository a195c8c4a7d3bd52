//! The graph: nodes in topological order.

use std::collections::HashMap;

use crate::ops::Op;
use crate::shape::Shape;

/// A value of a graph, which is the output of the node with this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(usize);

impl ValueId {
    pub(crate) fn new(index: usize) -> Self {
        Self(index)
    }

    /// The index of the node whose output this is.
    pub fn index(self) -> usize {
        self.0
    }
}

/// One operation of a network. It has one output.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The name, which is unique in the graph. The node's parameters are called `NAME.weight`, `NAME.bias`, ….
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// From what.
    pub inputs: Vec<ValueId>,
    /// The shape of the output for one image.
    pub shape: Shape,
}

/// A tensor that a network has: its name and its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// The name that weight files have for it.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A network as data: nodes in an order in which each comes after those whose outputs it takes. The first node is the
/// input.
///
/// [`GraphBuilder`](crate::GraphBuilder) makes graphs and infers their shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) output: ValueId,
    /// Prefixes of tensors that weight files may have and the network does not use.
    pub(crate) ignored: Vec<String>,
}

impl Graph {
    /// All nodes, in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All values with the nodes that give them, in topological order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = (ValueId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (ValueId(index), node))
    }

    /// The node that gives `value`.
    pub fn node(&self, value: ValueId) -> &Node {
        &self.nodes[value.0]
    }

    /// The value of the node called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.nodes.iter().position(|node| node.name == name).map(ValueId)
    }

    /// The input.
    pub fn input(&self) -> ValueId {
        ValueId(0)
    }

    /// What the network computes.
    pub fn output(&self) -> ValueId {
        self.output
    }

    /// The shape of an input image.
    pub fn input_shape(&self) -> &Shape {
        &self.nodes[0].shape
    }

    /// The shape of the output for one image: `[classes]` for a classifier.
    pub fn output_shape(&self) -> &Shape {
        &self.node(self.output).shape
    }

    /// The shapes of a node's inputs.
    pub fn input_shapes<'g>(&'g self, node: &'g Node) -> impl Iterator<Item = &'g Shape> {
        node.inputs.iter().map(|input| &self.node(*input).shape)
    }

    /// The parameters of a node, in the order of [`Op::params`].
    pub fn params_of(&self, node: &Node) -> Vec<ParamSpec> {
        let shapes: Vec<&Shape> = self.input_shapes(node).collect();
        let named = |(suffix, shape)| ParamSpec { name: format!("{}.{suffix}", node.name), shape };
        node.op.params(&shapes).into_iter().map(named).collect()
    }

    /// All parameters, in the order of the nodes.
    pub fn params(&self) -> Vec<ParamSpec> {
        self.nodes.iter().flat_map(|node| self.params_of(node)).collect()
    }

    /// How many numbers all parameters have.
    pub fn parameters(&self) -> usize {
        self.params().iter().map(|param| param.shape.iter().product::<usize>()).sum()
    }

    /// The nodes whose function a policy chooses: activations and max-poolings.
    pub fn sites(&self) -> impl DoubleEndedIterator<Item = (ValueId, &Node)> {
        self.values().filter(|(_, node)| node.op.is_site())
    }

    /// Whether weight files may have a tensor called `name` that the network does not use, such as one of a head that is
    /// for training only.
    pub fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|prefix| name.starts_with(prefix))
    }

    /// The last linear layer before the output, whose outputs are the classes; `None` if the network ends otherwise.
    pub fn head(&self) -> Option<&Node> {
        let mut node = self.node(self.output);
        loop {
            match (&node.op, &node.inputs[..]) {
                (Op::Linear(_), _) => return Some(node),
                (Op::Dropout(_) | Op::Flatten(_) | Op::Affine(_), [input]) => node = self.node(*input),
                _ => return None,
            }
        }
    }

    /// For each value, how many nodes take it; the output counts as one more.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            uses[input.0] += 1;
        }
        uses[self.output.0] += 1;
        uses
    }

    /// The values by the name of their node.
    pub fn by_name(&self) -> HashMap<&str, ValueId> {
        self.values().map(|(value, node)| (node.name.as_str(), value)).collect()
    }
}
