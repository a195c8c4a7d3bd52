//! The way back through a graph's steps.

use std::collections::BTreeMap;

use approx_ops::Activation;
use candle_core::{Tensor, Var};
use cnn_graph::ops::Op;
use cnn_graph::passes::{FusedConv, Step};
use cnn_graph::{Graph, ValueId};

use super::steps::{Layer, Pass, Trainable};
use crate::error::Result;
use crate::exec::site::{SiteFunctions, add_penalty};
use crate::exec::{pooling, shape, take};

/// Gradients that are known so far.
struct Known<'a> {
    /// Of each value that depends on a parameter.
    values: Vec<Option<Tensor>>,
    wanted: &'a [bool],
    /// Of each parameter by name.
    parameters: BTreeMap<String, Tensor>,
    penalty: f64,
}

impl Known<'_> {
    fn wants(&self, value: ValueId) -> bool {
        self.wanted[value.index()]
    }

    /// Adds what flows back to `value`. The only gradient is moved, not added.
    fn add(&mut self, value: ValueId, gradient: Tensor) -> Result<()> {
        if self.wants(value) {
            let slot = &mut self.values[value.index()];
            *slot = Some(match slot.take() {
                None => gradient,
                Some(other) => cnn_kernels::add(&other, &gradient)?,
            });
        }
        Ok(())
    }
}

impl Trainable {
    /// The gradient of each parameter, and the range penalty, from the gradient of the output.
    pub(super) fn backward(
        &self,
        graph: &Graph,
        steps: &[Step],
        functions: &SiteFunctions,
        mut pass: Pass,
        gradient: Tensor,
    ) -> Result<(BTreeMap<String, Tensor>, f64)> {
        let mut known = Known {
            values: vec![None; graph.nodes().len()],
            wanted: &self.wanted,
            parameters: BTreeMap::new(),
            penalty: 0.0,
        };
        known.add(graph.output(), gradient)?;
        for step in steps.iter().rev() {
            let output = step.output();
            // Nothing before a step needs what comes out of it.
            pass.values[output.index()] = None;
            let Some(gradient) = known.values[output.index()].take() else { continue };
            match step {
                Step::Conv(fused) => {
                    self.back_conv(graph, fused, functions, &mut pass, gradient, &mut known)?;
                }
                Step::Subsample(fused) => {
                    let input = graph.node(fused.first).inputs[0];
                    let dims = take(&pass.values, input).dims();
                    known.add(input, shape::subsample_gradient(&gradient, dims)?)?;
                }
                Step::Single(value) => {
                    self.back_single(graph, *value, functions, &pass, gradient, &mut known)?;
                }
            }
        }
        Ok((known.parameters, known.penalty))
    }

    fn back_conv(
        &self,
        graph: &Graph,
        fused: &FusedConv,
        functions: &SiteFunctions,
        pass: &mut Pass,
        gradient: Tensor,
        known: &mut Known,
    ) -> Result<()> {
        let Some(Layer::Conv(conv)) = self.layers.get(&fused.conv) else {
            unreachable!("every convolution was read")
        };
        let node = graph.node(fused.conv);
        let input = node.inputs[0];
        let activation = match fused.activation {
            None => &Activation::IDENTITY,
            Some(site) => functions.of_activation(site).plain()?,
        };
        let saved = pass.convs.remove(&fused.conv).expect("the way forward saved it");
        let (xs, addend) =
            (take(&pass.values, input), fused.addend().map(|addend| take(&pass.values, addend)));
        let penalty = pass.options.penalty(activation.range());
        let wants_xs = known.wants(input);
        let back = conv.backward(saved, (xs, addend), wants_xs, activation, &gradient, penalty)?;
        known.penalty += back.penalty;
        known.parameters.insert(format!("{}.weight", node.name), back.weight);
        if let Some(bias) = back.bias {
            known.parameters.insert(format!("{}.bias", node.name), bias);
        }
        if let (Some([weight, bias]), Some(norm)) = (back.norm, &conv.norm) {
            known.parameters.insert(format!("{}.weight", norm.name), weight);
            known.parameters.insert(format!("{}.bias", norm.name), bias);
        }
        if let Some(xs) = back.xs {
            known.add(input, xs)?;
        }
        if let (Some(addend), Some(gradient)) = (fused.addend(), back.addend) {
            known.add(addend, gradient)?;
        }
        Ok(())
    }

    fn back_single(
        &self,
        graph: &Graph,
        value: ValueId,
        functions: &SiteFunctions,
        pass: &Pass,
        gradient: Tensor,
        known: &mut Known,
    ) -> Result<()> {
        let node = graph.node(value);
        let inputs: Vec<&Tensor> = node.inputs.iter().map(|input| take(&pass.values, *input)).collect();
        let first = node.inputs[0];
        match &node.op {
            Op::Linear(_) => {
                let Some(Layer::Linear(linear)) = self.layers.get(&value) else {
                    unreachable!("every linear layer was read")
                };
                let back = linear.gradients(inputs[0], &gradient)?;
                known.parameters.insert(format!("{}.weight", node.name), back.weight);
                if linear.bias.is_some() {
                    known.parameters.insert(format!("{}.bias", node.name), back.bias);
                }
                known.add(first, back.xs)
            }
            Op::BatchNorm(_) => {
                let Some(Layer::Norm(norm)) = self.layers.get(&value) else {
                    unreachable!("every batch norm was read")
                };
                let (xs, [weight, bias]) = norm.backward(&pass.statistics[&value], inputs[0], &gradient)?;
                known.parameters.insert(format!("{}.weight", node.name), weight);
                known.parameters.insert(format!("{}.bias", node.name), bias);
                known.add(first, xs)
            }
            Op::Affine(_) => {
                let Some(Layer::Affine(affine)) = self.layers.get(&value) else {
                    unreachable!("every affine map was read")
                };
                known.add(first, affine.gradient(&gradient)?)
            }
            Op::Activation(_) => {
                let activation = functions.of_activation(value).plain()?;
                let back = activation.gradient(inputs[0], &gradient)?;
                let penalty = pass.options.penalty(activation.range());
                let (back, penalty) = add_penalty(penalty, inputs[0], back)?;
                known.penalty += penalty;
                known.add(first, back)
            }
            Op::MaxPool(_) if node.op.is_site() => {
                let site = functions.of_max_pool(value);
                let back = site.gradient(inputs[0], &gradient)?;
                let penalty = pass.options.penalty(site.range());
                let (back, penalty) = add_penalty(penalty, inputs[0], back)?;
                known.penalty += penalty;
                known.add(first, back)
            }
            Op::AvgPool(pool) => {
                let (_, _, height, width) = inputs[0].dims4()?;
                known.add(first, pooling::average_gradient(&gradient, *pool, [height, width])?)
            }
            Op::GlobalAvgPool(_) => {
                let (_, _, height, width) = inputs[0].dims4()?;
                known.add(first, pooling::global_average_gradient(&gradient, height, width)?)
            }
            Op::Add(_) => {
                known.add(first, gradient.clone())?;
                known.add(node.inputs[1], gradient)
            }
            Op::Concat(concat) => {
                let lengths: Vec<usize> = inputs.iter().map(|part| part.dims()[concat.axis + 1]).collect();
                let parts = shape::concat_gradients(&gradient, concat.axis, &lengths)?;
                for (input, part) in node.inputs.iter().zip(parts) {
                    known.add(*input, part)?;
                }
                Ok(())
            }
            Op::Pad(pad) => known.add(first, shape::pad_gradient(&gradient, &pad.zeros, inputs[0].dims())?),
            Op::Slice(slice) => known.add(first, shape::slice_gradient(&gradient, *slice, inputs[0].dims())?),
            Op::Transpose(transpose) => {
                known.add(first, shape::transpose_gradient(&gradient, &transpose.order)?)
            }
            Op::Flatten(_) | Op::Reshape(_) => {
                known.add(first, gradient.contiguous()?.reshape(inputs[0].shape())?)
            }
            Op::Dropout(_) => known.add(
                first,
                match pass.factors.get(&value) {
                    Some(factors) => (gradient * factors)?,
                    None => gradient,
                },
            ),
            // What is rare and small: candle computes it once more and differentiates that.
            Op::Mul(_) | Op::AdaptiveAvgPool(_) | Op::MaxPool(_) => {
                let copies = inputs.iter().map(|input| Var::from_tensor(&input.detach()));
                let copies: Vec<Var> = copies.collect::<candle_core::Result<_>>()?;
                let tensors: Vec<&Tensor> = copies.iter().map(Var::as_tensor).collect();
                let ys = crate::exec::forward(node, value, &tensors, functions)?;
                let gradients = (ys * gradient)?.sum_all()?.backward()?;
                for (input, copy) in node.inputs.iter().zip(&copies) {
                    if let Some(gradient) = gradients.get(copy) {
                        known.add(*input, gradient.clone())?;
                    }
                }
                Ok(())
            }
            Op::Input(_) | Op::Conv(_) => unreachable!("{} is no single step", node.name),
        }
    }
}
