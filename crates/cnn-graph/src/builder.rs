//! Building a graph, node by node.

use std::collections::HashSet;
use std::fmt::Display;

use crate::error::{GraphError, Result};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::{
    Activation, AdaptiveAvgPool, Add, Affine, BatchNorm, Concat, Conv, Dropout, Flatten, GlobalAvgPool,
    Input, Linear, MaxPool, Mul, Op, Pool,
};
use crate::shape::Shape;

/// Builds a [`Graph`]. Each method adds a node, infers its shape and gives its value.
///
/// Names are relative to the current [`scope`](Self::scope), as in a PyTorch module. The first thing that is wrong is kept
/// and given by [`finish`](Self::finish), so that a definition reads like a forward pass.
///
/// ```
/// use cnn_graph::GraphBuilder;
/// use cnn_graph::ops::{Conv, Pool};
///
/// let mut b = GraphBuilder::new([1, 28, 28]);
/// let x = b.input();
/// let x = b.conv("conv1", x, Conv::same(6, 5)); // [6, 28, 28]
/// let x = b.relu("relu1", x);
/// let x = b.max_pool("pool1", x, Pool::square(2, 2)); // [6, 14, 14]
/// let x = b.flatten(x);
/// let x = b.linear("fc", x, 10);
/// let graph = b.finish(x)?;
/// assert_eq!(graph.output_shape().dims(), [10]);
/// assert_eq!(graph.params()[1].shape, [10, 6 * 14 * 14]);
/// # Ok::<(), cnn_graph::GraphError>(())
/// ```
#[derive(Debug)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    names: HashSet<String>,
    ignored: Vec<String>,
    scope: String,
    error: Option<GraphError>,
}

impl GraphBuilder {
    /// A graph whose input has this shape for one image.
    pub fn new(input: impl Into<Shape>) -> Self {
        const NAME: &str = "input";
        let input =
            Node { name: NAME.to_owned(), op: Op::Input(Input), inputs: Vec::new(), shape: input.into() };
        Self {
            nodes: vec![input],
            names: HashSet::from([NAME.to_owned()]),
            ignored: Vec::new(),
            scope: String::new(),
            error: None,
        }
    }

    /// The input.
    pub fn input(&self) -> ValueId {
        ValueId::new(0)
    }

    /// The shape of a value.
    pub fn shape(&self, value: ValueId) -> &Shape {
        &self.nodes[value.index()].shape
    }

    /// The first error so far.
    pub fn error(&self) -> Option<&GraphError> {
        self.error.as_ref()
    }

    /// Calls `define` for the part of the network called `name`: names in it begin with `name.`.
    pub fn scope<T>(&mut self, name: impl Display, define: impl FnOnce(&mut Self) -> T) -> T {
        let inner = self.full_name(name);
        let outer = std::mem::replace(&mut self.scope, inner);
        let result = define(self);
        self.scope = outer;
        result
    }

    /// Says that weight files may hold a part called `name` here that this network does not use, such as a head that is
    /// for training only.
    pub fn ignore(&mut self, name: impl Display) {
        let prefix = self.full_name(name) + ".";
        self.ignored.push(prefix);
    }

    /// Adds any node.
    pub fn node(&mut self, name: impl Display, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let name = self.full_name(name);
        if !self.names.insert(name.clone()) {
            self.error.get_or_insert(GraphError::DuplicateName { name: name.clone() });
        }
        self.push(name, op.into(), inputs)
    }

    /// Adds a node that has no name in the network's definition: it is called `kind`, and with a number behind it where
    /// that is taken.
    pub fn unnamed(&mut self, kind: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let first = self.full_name(kind);
        let mut name = first.clone();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{first}{number}");
        }
        self.push(name, op.into(), inputs)
    }

    fn push(&mut self, name: String, op: Op, inputs: &[ValueId]) -> ValueId {
        if self.error.is_some() {
            return self.input();
        }
        let shapes: Vec<&Shape> = inputs.iter().map(|input| self.shape(*input)).collect();
        match op.shape(&shapes) {
            Ok(shape) => {
                self.nodes.push(Node { name, op, inputs: inputs.to_vec(), shape });
                ValueId::new(self.nodes.len() - 1)
            }
            Err(reason) => {
                self.error = Some(GraphError::Node { node: name, op: op.name(), reason });
                self.input()
            }
        }
    }

    /// Ends the graph at its output.
    ///
    /// # Errors
    /// The first [`GraphError`] of all nodes.
    pub fn finish(self, output: ValueId) -> Result<Graph> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(Graph { nodes: self.nodes, output, ignored: self.ignored }),
        }
    }

    fn full_name(&self, name: impl Display) -> String {
        if self.scope.is_empty() { name.to_string() } else { format!("{}.{name}", self.scope) }
    }
}

/// One method for each common operation.
impl GraphBuilder {
    /// A convolution.
    pub fn conv(&mut self, name: impl Display, x: ValueId, conv: Conv) -> ValueId {
        self.node(name, conv, &[x])
    }

    /// A convolution and the batch norm behind it, with `eps` added to the variance.
    pub fn conv_bn(
        &mut self,
        conv_name: impl Display,
        norm_name: impl Display,
        x: ValueId,
        conv: Conv,
        eps: f64,
    ) -> ValueId {
        let x = self.conv(conv_name, x, conv);
        self.node(norm_name, BatchNorm { eps }, &[x])
    }

    /// A linear layer with bias.
    pub fn linear(&mut self, name: impl Display, x: ValueId, outputs: usize) -> ValueId {
        self.node(name, Linear { outputs, bias: true }, &[x])
    }

    /// A ReLU: a site.
    pub fn relu(&mut self, name: impl Display, x: ValueId) -> ValueId {
        self.activation(name, x, Activation::Relu)
    }

    /// Any activation: a site.
    pub fn activation(&mut self, name: impl Display, x: ValueId, activation: Activation) -> ValueId {
        self.node(name, activation, &[x])
    }

    /// A max-pooling: a site.
    pub fn max_pool(&mut self, name: impl Display, x: ValueId, window: Pool) -> ValueId {
        self.node(name, MaxPool(window), &[x])
    }

    /// The mean of each channel, as an image of one pixel.
    pub fn global_avg_pool(&mut self, x: ValueId) -> ValueId {
        self.unnamed("avgpool", GlobalAvgPool, &[x])
    }

    /// The means of `size × size` parts of an image.
    pub fn adaptive_avg_pool(&mut self, x: ValueId, size: [usize; 2]) -> ValueId {
        self.unnamed("avgpool", AdaptiveAvgPool { size }, &[x])
    }

    /// A sum of two values.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.unnamed("add", Add, &[a, b])
    }

    /// A product of two values.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.unnamed("mul", Mul, &[a, b])
    }

    /// Joins channels.
    pub fn concat(&mut self, parts: &[ValueId]) -> ValueId {
        self.unnamed("concat", Concat { axis: 0 }, parts)
    }

    /// One row of features.
    pub fn flatten(&mut self, x: ValueId) -> ValueId {
        self.unnamed("flatten", Flatten, &[x])
    }

    /// `scale[c] · x + shift[c]` for each channel `c`.
    pub fn affine(&mut self, name: impl Display, x: ValueId, scale: Vec<f64>, shift: Vec<f64>) -> ValueId {
        self.node(name, Affine { scale, shift }, &[x])
    }

    /// Dropout, which leaves out a share `rate` of its inputs while the network is trained.
    pub fn dropout(&mut self, name: impl Display, x: ValueId, rate: f64) -> ValueId {
        self.node(name, Dropout { rate }, &[x])
    }
}
