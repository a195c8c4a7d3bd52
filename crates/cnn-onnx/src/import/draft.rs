//! A graph while it is made: nodes have no names yet, and some of them no graph could have.

use std::rc::Rc;

use cnn_graph::Shape;
use cnn_graph::ops::{Input, Op};

use crate::error::UnsupportedNode;
use crate::import::names::Hint;
use crate::params::Values;

/// What a draft's node computes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DraftOp {
    /// An operation of a graph.
    Graph(Op),
    /// The error function, which is a part of GELU.
    Erf,
}

/// A node.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub op: DraftOp,
    /// Indices of nodes before it.
    pub inputs: Vec<usize>,
    pub shape: Shape,
    /// The parameters by the end of their names.
    pub params: Vec<(&'static str, Values)>,
    /// Where it came from.
    pub hint: Rc<Hint>,
    /// Whether it is what the file's node is about, not something that helps it.
    pub main: bool,
}

impl Draft {
    /// The operation, if a graph can have it.
    pub fn graph_op(&self) -> Option<&Op> {
        match &self.op {
            DraftOp::Graph(op) => Some(op),
            DraftOp::Erf => None,
        }
    }

    /// What is wrong with it, if no graph can have it.
    pub fn unsupported(&self) -> Option<UnsupportedNode> {
        (self.op == DraftOp::Erf).then(|| UnsupportedNode {
            node: self.hint.label(),
            operator: "Erf".to_owned(),
            reason: "can be read only as a part of GELU, x (1 + erf(x / √2)) / 2".to_owned(),
        })
    }
}

/// The nodes in topological order; the first one is the input.
#[derive(Debug)]
pub(crate) struct Drafts {
    pub nodes: Vec<Draft>,
    pub output: usize,
}

impl Drafts {
    pub fn new(input: Shape) -> Self {
        let input = Draft {
            op: DraftOp::Graph(Op::Input(Input)),
            inputs: Vec::new(),
            shape: input,
            params: Vec::new(),
            hint: Rc::default(),
            main: true,
        };
        Self { nodes: vec![input], output: 0 }
    }

    /// How many nodes take each value; the output counts as one more.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            uses[*input] += 1;
        }
        uses[self.output] += 1;
        uses
    }

    /// Leaves out the nodes that the output does not depend on, except for the input.
    pub fn prune(&mut self) {
        let mut needed = vec![false; self.nodes.len()];
        needed[0] = true;
        needed[self.output] = true;
        for index in (0..self.nodes.len()).rev() {
            if needed[index] {
                for input in &self.nodes[index].inputs {
                    needed[*input] = true;
                }
            }
        }
        let mut renumbered = vec![0; self.nodes.len()];
        let mut count = 0;
        for (index, needed) in needed.iter().enumerate() {
            renumbered[index] = count;
            count += usize::from(*needed);
        }
        let mut needed = needed.into_iter();
        self.nodes.retain(|_| needed.next() == Some(true));
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
            *input = renumbered[*input];
        }
        self.output = renumbered[self.output];
    }
}
