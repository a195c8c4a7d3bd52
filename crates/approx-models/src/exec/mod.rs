//! The executor: a graph with its parameters, made ready for a device.
//!
//! [`Executable::compile`] reads the parameters of each node once, folds batch norms and packs weights. A pass then walks
//! the graph's steps and frees each value after its last use. What stands at the sites is not part of it: every policy has
//! the same executable.
//!
//! | file | operations |
//! |---|---|
//! | [`conv`] | convolution, with the batch norm, addend and activation behind it |
//! | [`linear`] | linear layer |
//! | [`norm`] | batch norm that no convolution takes |
//! | [`arithmetic`] | add, mul, affine |
//! | [`pooling`] | averages |
//! | [`shape`] | concat, pad, slice, flatten, reshape, transpose; the shortcut without parameters |
//! | [`site`] | activations and max-poolings |
#![cfg_attr(feature = "cuda", doc = "| [`replay`] | passes on a GPU that are launched as a whole |")]

pub(crate) mod arithmetic;
pub(crate) mod conv;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod pooling;
#[cfg(feature = "cuda")]
pub(crate) mod replay;
pub(crate) mod shape;
pub(crate) mod site;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use approx_ops::{Activation, RangeRecorder};
use candle_core::Tensor;
use cnn_graph::ops::Op;
use cnn_graph::passes::{FusedConv, Step, fuse, last_uses};
use cnn_graph::{Graph, Node, ValueId};

use crate::error::{ModelError, Result};
use crate::params::ParamReader;
use conv::Conv;
use linear::Linear;
use norm::Norm;
use site::SiteFunctions;

/// What a node's parameters became.
#[derive(Debug)]
enum Layer {
    Conv(Conv),
    Linear(Linear),
    Norm(Norm),
    Affine(Norm),
}

/// A graph whose parameters are ready for a device.
#[derive(Debug)]
pub(crate) struct Executable {
    graph: Graph,
    /// By the value of their node; that of a convolution holds its batch norm, too.
    layers: HashMap<ValueId, Layer>,
    schedule: Schedule,
}

/// The steps of a graph, and which values are free after each.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) steps: Vec<Step>,
    freed: Vec<Vec<ValueId>>,
}

impl Schedule {
    /// Steps of which each value in `keep` is the output of one.
    pub(crate) fn new(graph: &Graph, keep: &BTreeSet<ValueId>) -> Self {
        let steps = fuse(graph, keep);
        let freed = last_uses(graph, &steps);
        Self { steps, freed }
    }
}

/// Values that someone looks at, with what is recorded of each.
pub(crate) type Watched = BTreeMap<ValueId, RangeRecorder>;

impl Executable {
    /// Reads the parameters. Those that are missing or of another shape are noted by the reader.
    pub(crate) fn compile(graph: Graph, reader: &mut ParamReader) -> Result<Self> {
        let schedule = Schedule::new(&graph, &BTreeSet::new());
        let mut layers = HashMap::new();
        for step in &schedule.steps {
            match step {
                Step::Conv(fused) => {
                    layers.insert(fused.conv, Layer::Conv(Conv::read(&graph, fused, reader)?));
                }
                Step::Single(value) => {
                    let node = graph.node(*value);
                    let layer = match &node.op {
                        Op::Linear(_) => Layer::Linear(Linear::read(&graph, node, reader)?),
                        Op::BatchNorm(_) => Layer::Norm(Norm::read(&graph, node, reader)?),
                        Op::Affine(affine) => Layer::Affine(Norm::of(affine, &node.shape, reader.device())?),
                        _ => continue,
                    };
                    layers.insert(*value, layer);
                }
                Step::Subsample(_) => {}
            }
        }
        Ok(Self { graph, layers, schedule })
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// From now on, each of `values` is the output of a step.
    pub(crate) fn keep(&mut self, values: &BTreeSet<ValueId>) {
        self.schedule = Schedule::new(&self.graph, values);
    }

    /// # Shapes
    /// `images`: `[N, …]` with the shape of the graph's input; the result `[N, …]` with that of its output.
    pub(crate) fn forward(
        &self,
        images: &Tensor,
        functions: &SiteFunctions,
        watched: &Watched,
    ) -> Result<Tensor> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.graph.nodes().len()];
        let watch = |value: ValueId, xs: &Tensor| match watched.get(&value) {
            Some(recorder) => record(xs, recorder),
            None => Ok(()),
        };
        watch(self.graph.input(), images)?;
        values[self.graph.input().index()] = Some(images.clone());
        for (step, freed) in self.schedule.steps.iter().zip(&self.schedule.freed) {
            let output = step.output();
            let ys = self.run(step, &values, functions)?;
            watch(output, &ys)?;
            values[output.index()] = Some(ys);
            for value in freed {
                values[value.index()] = None;
            }
        }
        Ok(take(&values, self.graph.output()).clone())
    }

    fn run(&self, step: &Step, values: &[Option<Tensor>], functions: &SiteFunctions) -> Result<Tensor> {
        match step {
            Step::Conv(fused) => self.conv(fused, values, functions),
            Step::Subsample(fused) => {
                let xs = take(values, self.graph.node(fused.first).inputs[0]);
                shape::subsample(xs, self.graph.node(fused.pad).shape.dims()[0])
            }
            Step::Single(value) => {
                let node = self.graph.node(*value);
                let inputs: Vec<&Tensor> = node.inputs.iter().map(|input| take(values, *input)).collect();
                match self.layers.get(value) {
                    Some(Layer::Linear(linear)) => linear.forward(inputs[0]),
                    Some(Layer::Norm(norm) | Layer::Affine(norm)) => norm.forward(inputs[0]),
                    Some(Layer::Conv(_)) => unreachable!("a convolution is a step of its own kind"),
                    None => forward(node, *value, &inputs, functions),
                }
            }
        }
    }

    fn conv(
        &self,
        fused: &FusedConv,
        values: &[Option<Tensor>],
        functions: &SiteFunctions,
    ) -> Result<Tensor> {
        let Some(Layer::Conv(conv)) = self.layers.get(&fused.conv) else {
            unreachable!("every convolution was compiled")
        };
        let xs = take(values, self.graph.node(fused.conv).inputs[0]);
        let addend = fused.addend().map(|addend| take(values, addend));
        match fused.activation {
            None => conv.forward(xs, addend, &Activation::IDENTITY, None),
            Some(site) => functions.of_activation(site).behind_conv(conv, xs, addend),
        }
    }
}

/// The value, which was computed before.
pub(crate) fn take(values: &[Option<Tensor>], value: ValueId) -> &Tensor {
    values[value.index()]
        .as_ref()
        .expect("values are computed in topological order and freed after their last use")
}

/// An operation without parameters.
pub(crate) fn forward(
    node: &Node,
    value: ValueId,
    inputs: &[&Tensor],
    functions: &SiteFunctions,
) -> Result<Tensor> {
    match (&node.op, inputs) {
        (Op::Activation(_), [xs]) => functions.of_activation(value).forward(xs),
        (Op::MaxPool(pool), [xs]) => match node.op.is_site() {
            true => functions.of_max_pool(value).forward(xs),
            false => shape::strided(xs, pool.0),
        },
        (Op::AvgPool(pool), [xs]) => pooling::average(xs, *pool),
        (Op::AdaptiveAvgPool(pool), [xs]) => pooling::adaptive_average(xs, pool.size),
        (Op::GlobalAvgPool(_), [xs]) => pooling::global_average(xs),
        (Op::Add(_), [xs, ys]) => arithmetic::add(xs, ys),
        (Op::Mul(_), [xs, ys]) => arithmetic::mul(xs, ys),
        (Op::Concat(concat), parts) => shape::concat(parts, concat.axis),
        (Op::Pad(pad), [xs]) => shape::pad(xs, &pad.zeros),
        (Op::Slice(slice), [xs]) => shape::slice(xs, *slice),
        (Op::Flatten(_), [xs]) => shape::flatten(xs),
        (Op::Reshape(reshape), [xs]) => shape::reshape(xs, &reshape.dims),
        (Op::Transpose(transpose), [xs]) => shape::transpose(xs, &transpose.order),
        (Op::Dropout(_), [xs]) => Ok((*xs).clone()),
        (Op::Input(_) | Op::Conv(_) | Op::BatchNorm(_) | Op::Linear(_) | Op::Affine(_), _) => {
            unreachable!("{} has a layer", node.name)
        }
        _ => unreachable!("shape inference counted the inputs of {}", node.name),
    }
}

/// Records the range of a value, and its distribution if that is asked for.
fn record(xs: &Tensor, recorder: &RangeRecorder) -> Result<()> {
    recorder.sketch(xs)?;
    Activation::IDENTITY.forward(xs, recorder)?;
    Ok(())
}

/// candle's or an op's error, with the name of the node.
pub(crate) fn at(node: &str) -> impl Fn(approx_ops::OpError) -> ModelError {
    move |source| ModelError::Site { site: node.to_owned(), source: Box::new(source) }
}
