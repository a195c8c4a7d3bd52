//! A network computed in float64 by plain loops: the truth that executors are held against.
//!
//! Each operation is written as its definition says, without any of the shortcuts of a fast implementation. One image is
//! computed at a time.
//!
//! ```
//! use cnn_graph::GraphBuilder;
//! use cnn_graph::reference::Reference;
//!
//! let mut b = GraphBuilder::new([2]);
//! let x = b.input();
//! let x = b.linear("fc", x, 1);
//! let x = b.relu("relu", x);
//! let graph = b.finish(x)?;
//!
//! let read = |spec: &cnn_graph::ParamSpec| match spec.name.as_str() {
//!     "fc.weight" => vec![2.0, -1.0],
//!     _ => vec![0.5],
//! };
//! let reference = Reference::new(&graph, read);
//! assert_eq!(reference.run(&[3.0, 1.0]), [5.5]);
//! assert_eq!(reference.run(&[0.0, 1.0]), [0.0]);
//! # Ok::<(), cnn_graph::GraphError>(())
//! ```

mod conv;
mod layout;
mod pointwise;
mod pool;

use crate::graph::{Graph, Node, ParamSpec, ValueId};
use crate::ops::Op;
use crate::shape::Shape;

pub use pointwise::{activation, erf};

/// A graph with its parameters, to be computed in float64.
#[derive(Debug)]
pub struct Reference<'g> {
    graph: &'g Graph,
    /// The parameters of each node, in the order of [`Op::params`].
    params: Vec<Vec<Vec<f32>>>,
}

impl<'g> Reference<'g> {
    /// Takes the parameters that `read` gives for each of [`Graph::params`], in row-major order.
    ///
    /// # Panics
    /// If a parameter has another number of values than its shape says.
    pub fn new(graph: &'g Graph, mut read: impl FnMut(&ParamSpec) -> Vec<f32>) -> Self {
        let mut checked = |spec: ParamSpec| {
            let values = read(&spec);
            let elements: usize = spec.shape.iter().product();
            assert_eq!(values.len(), elements, "{} has the shape {:?}", spec.name, spec.shape);
            values
        };
        let params = graph
            .nodes()
            .iter()
            .map(|node| graph.params_of(node).into_iter().map(&mut checked).collect())
            .collect();
        Self { graph, params }
    }

    /// The output for one image, both in row-major order.
    ///
    /// # Panics
    /// If the image has another number of values than the graph's input.
    pub fn run(&self, image: &[f64]) -> Vec<f64> {
        self.run_with(image, |_, _| {})
    }

    /// As [`run`](Self::run); calls `visit` with each value as soon as it is there, the input first. `visit` may change the
    /// value, for example to what an approximation of the node gives.
    ///
    /// # Panics
    /// If the image has another number of values than the graph's input.
    pub fn run_with(&self, image: &[f64], mut visit: impl FnMut(ValueId, &mut [f64])) -> Vec<f64> {
        assert_eq!(
            image.len(),
            self.graph.input_shape().elements(),
            "the image does not fit the graph's input"
        );
        let mut uses = self.graph.uses();
        let mut values: Vec<Vec<f64>> = Vec::with_capacity(self.graph.nodes().len());
        for (value, node) in self.graph.values() {
            let mut result = match node.op {
                Op::Input(_) => image.to_vec(),
                _ => self.compute(value, node, &values),
            };
            debug_assert_eq!(result.len(), node.shape.elements(), "{}", node.name);
            visit(value, &mut result);
            values.push(result);
            for input in &node.inputs {
                uses[input.index()] -= 1;
                if uses[input.index()] == 0 {
                    values[input.index()] = Vec::new();
                }
            }
        }
        values.swap_remove(self.graph.output().index())
    }

    fn compute(&self, value: ValueId, node: &Node, values: &[Vec<f64>]) -> Vec<f64> {
        let params = &self.params[value.index()];
        let x: &[f64] = node.inputs.first().map_or(&[], |input| &values[input.index()]);
        let second = || values[node.inputs[1].index()].as_slice();
        let shape = &self.graph.node(node.inputs[0]).shape;
        match &node.op {
            Op::Input(_) => x.to_vec(),
            Op::Conv(op) => conv::conv(op, x, image(shape), image(&node.shape), params),
            Op::Linear(op) => conv::linear(op, x, params),
            Op::BatchNorm(op) => pointwise::batch_norm(op, x, params),
            Op::Activation(op) => x.iter().map(|&x| activation(*op, x)).collect(),
            Op::MaxPool(op) => pool::max_pool(&op.0, x, image(shape), image(&node.shape)),
            Op::AvgPool(op) => pool::avg_pool(op, x, image(shape), image(&node.shape)),
            Op::AdaptiveAvgPool(op) => pool::adaptive_avg_pool(op, x, image(shape)),
            Op::GlobalAvgPool(_) => pool::global_avg_pool(x, image(shape)),
            Op::Add(_) => x.iter().zip(second()).map(|(a, b)| a + b).collect(),
            Op::Mul(_) => pointwise::mul(x, second()),
            Op::Affine(op) => pointwise::affine(op, x, shape),
            Op::Concat(op) => {
                let parts: Vec<(&[f64], &Shape)> = node
                    .inputs
                    .iter()
                    .map(|input| (values[input.index()].as_slice(), &self.graph.node(*input).shape))
                    .collect();
                layout::concat(op, &parts)
            }
            Op::Pad(op) => layout::pad(op, x, shape, &node.shape),
            Op::Slice(op) => layout::slice(op, x, shape, &node.shape),
            Op::Transpose(op) => layout::transpose(op, x, shape, &node.shape),
            Op::Flatten(_) | Op::Reshape(_) | Op::Dropout(_) => x.to_vec(),
        }
    }
}

/// Channels, height and width of a shape that shape inference has found to be an image.
fn image(shape: &Shape) -> [usize; 3] {
    shape.image().expect("the graph's shapes were inferred")
}
