//! Values joined along a dimension.

use cnn_graph::ops::Concat;

use crate::export::{Attribute, Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, onnx_axis, unsupported};
use crate::import::constant::Constant;
use crate::import::{Importer, Value};

pub(crate) fn import(importer: &mut Importer, call: &Call) -> Outcome {
    if !call.has("axis") {
        return invalid("has no axis");
    }
    let axis = call.int("axis", 0)?;
    if call.inputs.iter().all(|input| matches!(input, Value::Constant(_))) {
        return constants(importer, call, axis);
    }
    let mut parts = Vec::with_capacity(call.inputs.len());
    for input in &call.inputs {
        match input {
            Value::Data(part) => parts.push(*part),
            _ => return unsupported("joins a constant with what is computed from the image"),
        }
    }
    let axis = importer.axis(parts[0], axis)?;
    Ok(vec![Value::Data(importer.push(Concat { axis }, &parts)?)])
}

/// Joins rows of numbers.
fn constants(importer: &mut Importer, call: &Call, axis: i64) -> Outcome {
    let parts: Vec<_> = call
        .inputs
        .iter()
        .filter_map(|input| if let Value::Constant(part) = input { Some(part.clone()) } else { None })
        .collect();
    if parts.is_empty() || parts.iter().any(|part| part.dims.len() != 1) {
        return unsupported("joins constants that are no rows of numbers");
    }
    onnx_axis(axis, 1)?;
    let joined = if parts.iter().all(|part| part.is_int()) {
        let mut ints = Vec::new();
        for part in &parts {
            ints.extend(importer.ints(part)?);
        }
        Constant::from_ints(vec![ints.len()], ints)
    } else {
        let mut floats = Vec::new();
        for part in &parts {
            floats.extend(importer.floats(part)?);
        }
        Constant::from_floats(vec![floats.len()], floats)
    };
    importer.constant(joined)
}

pub(crate) fn export(exporter: &mut Exporter, op: &Concat, place: &Place) {
    exporter.node("Concat", place, &[], vec![Attribute::int("axis", op.axis + 1)]);
}
