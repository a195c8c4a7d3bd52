//! Small things that exporters write apart: constants one after the other, a bias behind a layer, padding before a
//! convolution.

use cnn_graph::ops::{Affine, Op, Padding};

use crate::import::draft::{DraftOp, Drafts};
use crate::params::Values;

/// Joins what belongs together, where nothing else takes the value between.
pub(super) fn tidy(drafts: &mut Drafts, budget: &mut usize) {
    let mut uses = drafts.uses();
    for index in 1..drafts.nodes.len() {
        let [before] = drafts.nodes[index].inputs[..] else { continue };
        if uses[before] != 1 {
            continue;
        }
        let (first, rest) = drafts.nodes.split_at_mut(index);
        let (before_draft, draft) = (&mut first[before], &mut rest[0]);
        let (DraftOp::Graph(inner), DraftOp::Graph(outer)) = (&before_draft.op, &draft.op) else { continue };
        match (inner, outer) {
            (Op::Affine(inner), Op::Affine(outer)) => {
                draft.op = DraftOp::Graph(Op::Affine(joined(inner, outer)));
                draft.inputs = before_draft.inputs.clone();
            }
            (Op::Linear(_) | Op::Conv(_), Op::Affine(affine)) if affine.scale == [1.0] => {
                let (mut op, outputs) = (inner.clone(), before_draft.shape.dims()[0]);
                let bias = match &mut op {
                    Op::Linear(linear) => &mut linear.bias,
                    Op::Conv(conv) => &mut conv.bias,
                    _ => continue,
                };
                // One number for many outputs would be a large bias from a small file.
                let Some(left) = budget.checked_sub(outputs) else { continue };
                if std::mem::replace(bias, true) {
                    continue;
                }
                *budget = left;
                let values = (0..outputs).map(|c| at(&affine.shift, c) as f32).collect();
                draft.params = std::mem::take(&mut before_draft.params);
                draft.params.push(("bias", Values::Computed(values)));
                draft.op = DraftOp::Graph(op);
                draft.inputs = before_draft.inputs.clone();
                draft.hint = before_draft.hint.clone();
                draft.main = before_draft.main;
            }
            (Op::Pad(pad), Op::Conv(conv)) => {
                let [[0, 0], [above, below], [left, right]] = pad.zeros[..] else { continue };
                let mut conv = *conv;
                let Padding { top, bottom, .. } = conv.padding;
                let sums = [
                    top.checked_add(above),
                    bottom.checked_add(below),
                    conv.padding.left.checked_add(left),
                    conv.padding.right.checked_add(right),
                ];
                let [Some(top), Some(bottom), Some(left), Some(right)] = sums else { continue };
                conv.padding = Padding { top, bottom, left, right };
                let op = Op::Conv(conv);
                let shapes = [&first[first[before].inputs[0]].shape];
                if op.shape(&shapes).as_ref() != Ok(&draft.shape) {
                    continue;
                }
                draft.op = DraftOp::Graph(op);
                draft.inputs = first[before].inputs.clone();
            }
            _ => continue,
        }
        // The node before is not needed any more.
        uses[before] = 0;
    }
}

/// The constant of a channel.
fn at(values: &[f64], channel: usize) -> f64 {
    if values.len() == 1 { values[0] } else { values[channel] }
}

/// `outer(inner(x))`.
fn joined(inner: &Affine, outer: &Affine) -> Affine {
    let length = |vectors: &[&Vec<f64>]| vectors.iter().map(|v| v.len()).max().unwrap_or(1);
    let scale = (0..length(&[&inner.scale, &outer.scale]))
        .map(|i| at(&inner.scale, i) * at(&outer.scale, i))
        .collect();
    let shift = (0..length(&[&inner.shift, &outer.scale, &outer.shift]))
        .map(|i| at(&inner.shift, i) * at(&outer.scale, i) + at(&outer.shift, i))
        .collect();
    Affine { scale, shift }
}
