//! Zeros around.

use cnn_graph::ops::{Pad, Slice};

use crate::export::{Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, onnx_axis, unsupported};
use crate::import::{Importer, Value};

pub(crate) fn import(importer: &mut Importer, call: &Call) -> Outcome {
    let mut x = call.data(0)?;
    let mode = call.word("mode", "constant")?;
    if mode != "constant" {
        return unsupported(format!("pads by `{mode}`; only zeros can be read"));
    }
    if let Some(value) = call.constant(2)?.cloned() {
        let value = importer.scalar(&value)?;
        if value != 0.0 {
            return unsupported(format!("pads with {value}; only zeros can be read"));
        }
    }
    let rank = importer.shape(x).rank() + 1;
    let pads = call.required(1)?.clone();
    let pads = importer.known_ints(&pads)?;
    let axes = match call.constant(3)?.cloned() {
        Some(axes) => {
            let axes = importer.known_ints(&axes)?;
            axes.into_iter().map(|axis| onnx_axis(axis, rank)).collect::<Outcome<Vec<_>>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return invalid(format!("{} pads are not two for each of {} dimensions", pads.len(), axes.len()));
    }
    let mut around = vec![[0i64; 2]; rank];
    for (i, axis) in axes.iter().enumerate() {
        around[*axis] = [pads[i], pads[axes.len() + i]];
    }
    if around[0] != [0, 0] {
        return unsupported("adds images to the batch; a network treats each image by itself");
    }
    // A negative padding cuts off.
    for (axis, [before, after]) in around[1..].iter().enumerate() {
        let cut =
            [before, after].map(|pad| usize::try_from(pad.min(&0).unsigned_abs()).unwrap_or(usize::MAX));
        if cut != [0, 0] {
            let size = importer.shape(x).dims()[axis];
            let slice = Slice { axis, start: cut[0], end: size.saturating_sub(cut[1]), step: 1 };
            x = importer.push_aside(slice, &[x])?;
        }
    }
    let zeros: Vec<[usize; 2]> = around[1..]
        .iter()
        .map(|pads| pads.map(|pad| usize::try_from(pad.max(0)).unwrap_or(usize::MAX)))
        .collect();
    if zeros.iter().any(|zeros| *zeros != [0, 0]) {
        x = importer.push(Pad { zeros }, &[x])?;
    }
    Ok(vec![Value::Data(x)])
}

pub(crate) fn export(exporter: &mut Exporter, op: &Pad, place: &Place) {
    let side = |side: usize| std::iter::once(0).chain(op.zeros.iter().map(move |zeros| zeros[side]));
    let pads: Vec<usize> = side(0).chain(side(1)).collect();
    let pads = exporter.ints(place, "pads", &pads);
    exporter.node("Pad", place, &[pads], Vec::new());
}
