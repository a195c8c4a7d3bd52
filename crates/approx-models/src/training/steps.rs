//! A graph's layers for training, and the way forward through them.

use std::collections::HashMap;

use approx_ops::{Activation, RangePenalty, RangeRecorder};
use candle_core::{Tensor, Var};
use cnn_graph::ops::Op;
use cnn_graph::passes::{FusedConv, Step};
use cnn_graph::{Graph, Node, ParamSpec, ValueId};
use cnn_kernels::{BatchNorm, BatchStatistics};
use rand::Rng;

use super::conv::{Running, SavedConv, TrainedConv, TrainedNorm};
use crate::error::Result;
use crate::exec::conv::geometry;
use crate::exec::linear::Linear;
use crate::exec::norm::Norm;
use crate::exec::site::SiteFunctions;
use crate::exec::{forward, shape, take};
use crate::init::stream;
use crate::params::ParamReader;

/// The layers of a graph whose parameters can be changed.
pub(super) struct Trainable {
    pub(super) layers: HashMap<ValueId, Layer>,
    parameters: Vec<(String, Var)>,
    /// For each value, whether it depends on a parameter, so that its gradient is wanted.
    pub(super) wanted: Vec<bool>,
}

/// What a node's parameters became.
pub(super) enum Layer {
    Conv(TrainedConv),
    Linear(Linear),
    /// A batch norm that follows no convolution.
    Norm(TrainedNorm),
    /// Constants, which are not trained.
    Affine(Norm),
}

/// What one step is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) dropout_seed: Option<u64>,
    /// Weight of the range penalty of a single value.
    pub(super) penalty_weight: f32,
}

impl Options {
    /// The penalty at a site with this range, if there is one.
    pub(super) fn penalty(self, range: Option<(f32, f32)>) -> Option<RangePenalty> {
        let (center, bound) = range.filter(|_| self.penalty_weight > 0.0)?;
        Some(RangePenalty { center, bound, weight: self.penalty_weight })
    }
}

/// What was computed on the way forward.
pub(super) struct Pass {
    pub(super) values: Vec<Option<Tensor>>,
    /// By the value of their convolution.
    pub(super) convs: HashMap<ValueId, SavedConv>,
    /// Of each batch norm that follows no convolution.
    pub(super) statistics: HashMap<ValueId, BatchStatistics>,
    /// What dropout multiplied by.
    pub(super) factors: HashMap<ValueId, Tensor>,
    pub(super) options: Options,
}

impl Pass {
    pub(super) fn output(&self, graph: &Graph) -> &Tensor {
        take(&self.values, graph.output())
    }
}

impl Trainable {
    pub(super) fn read(graph: &Graph, steps: &[Step], reader: &mut ParamReader) -> Result<Self> {
        let mut parameters = Vec::new();
        let mut layers = HashMap::new();
        for step in steps {
            match step {
                Step::Conv(fused) => {
                    layers.insert(fused.conv, Layer::Conv(read_conv(graph, fused, reader, &mut parameters)?));
                }
                Step::Single(value) => {
                    let node = graph.node(*value);
                    let layer = match &node.op {
                        Op::Linear(_) => {
                            let params = graph.params_of(node);
                            let weight = parameter(&params[0], reader, &mut parameters)?;
                            let bias = params.get(1).map(|bias| parameter(bias, reader, &mut parameters));
                            Layer::Linear(Linear { weight, bias: bias.transpose()? })
                        }
                        Op::Affine(affine) => Layer::Affine(Norm::of(affine, &node.shape, reader.device())?),
                        Op::BatchNorm(_) => Layer::Norm(read_norm(graph, node, reader, &mut parameters)?),
                        _ => continue,
                    };
                    layers.insert(*value, layer);
                }
                Step::Subsample(_) => {}
            }
        }
        let mut wanted: Vec<bool> = Vec::with_capacity(graph.nodes().len());
        for node in graph.nodes() {
            let has_params = !graph.params_of(node).is_empty();
            wanted.push(has_params || node.inputs.iter().any(|input| wanted[input.index()]));
        }
        Ok(Self { layers, parameters, wanted })
    }

    pub(super) fn parameters(&self) -> &[(String, Var)] {
        &self.parameters
    }

    /// Running means and variances by the name of their batch norm.
    pub(super) fn running(&self) -> impl Iterator<Item = (&str, &Running)> {
        let norms = self.layers.values().filter_map(|layer| match layer {
            Layer::Conv(conv) => conv.norm.as_ref(),
            Layer::Norm(norm) => Some(norm),
            Layer::Linear(_) | Layer::Affine(_) => None,
        });
        norms.map(|norm| (norm.name.as_str(), &norm.running))
    }

    /// The way forward through a batch. All values are kept.
    pub(super) fn forward(
        &mut self,
        graph: &Graph,
        steps: &[Step],
        functions: &SiteFunctions,
        images: &Tensor,
        options: Options,
    ) -> Result<Pass> {
        let mut pass = Pass {
            values: vec![None; graph.nodes().len()],
            convs: HashMap::new(),
            statistics: HashMap::new(),
            factors: HashMap::new(),
            options,
        };
        pass.values[graph.input().index()] = Some(images.clone());
        for step in steps {
            let ys = match step {
                Step::Conv(fused) => {
                    let Some(Layer::Conv(conv)) = self.layers.get_mut(&fused.conv) else {
                        unreachable!("every convolution was read")
                    };
                    let xs = take(&pass.values, graph.node(fused.conv).inputs[0]);
                    let addend = fused.addend().map(|addend| take(&pass.values, addend));
                    let none = RangeRecorder::default();
                    let (activation, recorder) = match fused.activation {
                        None => (&Activation::IDENTITY, &none),
                        Some(site) => {
                            let site = functions.of_activation(site);
                            (site.plain()?, &site.recorder)
                        }
                    };
                    let (ys, saved) = conv.forward(xs, addend, activation, recorder)?;
                    pass.convs.insert(fused.conv, saved);
                    ys
                }
                Step::Subsample(fused) => {
                    let xs = take(&pass.values, graph.node(fused.first).inputs[0]);
                    shape::subsample(xs, graph.node(fused.pad).shape.dims()[0])?
                }
                Step::Single(value) => self.single(graph.node(*value), *value, functions, &mut pass)?,
            };
            pass.values[step.output().index()] = Some(ys);
        }
        Ok(pass)
    }

    fn single(
        &mut self,
        node: &Node,
        value: ValueId,
        functions: &SiteFunctions,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let inputs: Vec<&Tensor> = node.inputs.iter().map(|input| take(&pass.values, *input)).collect();
        match (&node.op, self.layers.get_mut(&value)) {
            (_, Some(Layer::Linear(linear))) => Ok(linear.detached().forward(inputs[0])?),
            (_, Some(Layer::Norm(norm))) => {
                let (ys, statistics) = norm.forward(inputs[0])?;
                pass.statistics.insert(value, statistics);
                Ok(ys)
            }
            (_, Some(Layer::Affine(affine))) => affine.forward(inputs[0]),
            (Op::Dropout(dropout), _) => {
                let seed = pass.options.dropout_seed.filter(|_| dropout.rate > 0.0);
                let Some(seed) = seed else { return Ok(inputs[0].clone()) };
                let factors = dropout_factors(seed, &node.name, dropout.rate, inputs[0])?;
                let ys = (inputs[0] * &factors)?;
                pass.factors.insert(value, factors);
                Ok(ys)
            }
            _ => forward(node, value, &inputs, functions),
        }
    }
}

/// A tensor that training changes.
fn parameter(
    spec: &ParamSpec,
    reader: &mut ParamReader,
    parameters: &mut Vec<(String, Var)>,
) -> Result<Tensor> {
    let var = Var::from_tensor(&reader.tensor(spec)?)?;
    parameters.push((spec.name.clone(), var.clone()));
    Ok(var.into_inner())
}

fn read_conv(
    graph: &Graph,
    fused: &FusedConv,
    reader: &mut ParamReader,
    parameters: &mut Vec<(String, Var)>,
) -> Result<TrainedConv> {
    let node = graph.node(fused.conv);
    let Op::Conv(spec) = &node.op else { unreachable!("a fused convolution begins with one") };
    let params = graph.params_of(node);
    let geometry = geometry(spec, &params[0].shape);
    let weight = parameter(&params[0], reader, parameters)?;
    let bias = params.get(1).map(|bias| parameter(bias, reader, parameters)).transpose()?;
    let norm = fused.norm.map(|norm| read_norm(graph, graph.node(norm), reader, parameters)).transpose()?;
    Ok(TrainedConv { weight, bias, norm, geometry })
}

fn read_norm(
    graph: &Graph,
    node: &Node,
    reader: &mut ParamReader,
    parameters: &mut Vec<(String, Var)>,
) -> Result<TrainedNorm> {
    let Op::BatchNorm(spec) = node.op else { unreachable!("it was matched as one") };
    let params = graph.params_of(node);
    let (weight, bias) =
        (parameter(&params[0], reader, parameters)?, parameter(&params[1], reader, parameters)?);
    let running = Running::new(reader.values(&params[2])?, reader.values(&params[3])?);
    Ok(TrainedNorm { name: node.name.clone(), norm: BatchNorm { weight, bias, eps: spec.eps }, running })
}

/// 0 for a share `rate` of the inputs, and for the others what keeps their mean.
fn dropout_factors(seed: u64, name: &str, rate: f64, xs: &Tensor) -> Result<Tensor> {
    // Each layer has a stream of its own, so that no order of calls matters.
    let mut rng = stream(seed, name);
    let kept = (1.0 / (1.0 - rate)) as f32;
    let factors = (0..xs.elem_count()).map(|_| if rng.random_bool(rate) { 0.0 } else { kept });
    Ok(Tensor::from_iter(factors, xs.device())?.reshape(xs.shape())?)
}
