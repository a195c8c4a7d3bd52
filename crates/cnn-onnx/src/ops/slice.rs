//! Parts of a value: `Slice`, `Split`, and `Gather` with constant indices.

use cnn_graph::ops::{Reshape, Slice};

use crate::export::{Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, onnx_axis, unsupported};
use crate::import::constant::{Constant, Int};
use crate::import::{Importer, Value};

pub(crate) fn slice(importer: &mut Importer, call: &Call) -> Outcome {
    let starts = call.required(1)?.clone();
    let ends = call.required(2)?.clone();
    let (starts, ends) = (importer.known_ints(&starts)?, importer.known_ints(&ends)?);
    let axes = match call.constant(3)?.cloned() {
        Some(axes) => importer.known_ints(&axes)?,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match call.constant(4)?.cloned() {
        Some(steps) => importer.known_ints(&steps)?,
        None => vec![1; starts.len()],
    };
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return invalid("has starts, ends, axes and steps of different lengths");
    }
    if let Value::Constant(constant) = call.input(0) {
        let constant = constant.clone();
        let mut ranges: Vec<(i64, i64)> = constant.dims.iter().map(|_| (0, 1)).collect();
        let mut dims = constant.dims.clone();
        for i in 0..starts.len() {
            let axis = onnx_axis(axes[i], dims.len())?;
            let (start, count) = range(starts[i], ends[i], steps[i], constant.dims[axis])?;
            (ranges[axis], dims[axis]) = ((start, steps[i]), count);
        }
        return importer
            .taken(&constant, dims, |axis, i| (ranges[axis].0 + i as i64 * ranges[axis].1) as usize);
    }
    let mut x = call.data(0)?;
    let rank = importer.shape(x).rank() + 1;
    let mut parts = Vec::new();
    for i in 0..starts.len() {
        let axis = onnx_axis(axes[i], rank)?;
        if axis == 0 {
            if starts[i] == 0 && ends[i] >= i64::from(i32::MAX) && steps[i] == 1 {
                continue;
            }
            return unsupported("takes some images of a batch; a network treats each image by itself");
        }
        let size = importer.shape(x).dims()[axis - 1];
        let (start, end, step) = bounds(starts[i], ends[i], steps[i], size)?;
        if (start, end, step) != (0, size, 1) {
            parts.push(Slice { axis: axis - 1, start, end, step });
        }
    }
    parts.sort_by_key(|part| part.axis);
    let count = parts.len();
    for (i, part) in parts.into_iter().enumerate() {
        x = if i + 1 == count { importer.push(part, &[x])? } else { importer.push_aside(part, &[x])? };
    }
    Ok(vec![Value::Data(x)])
}

/// Start, end and step of a part of `size` indices; negative ones count from the end, and larger ones are cut.
fn bounds(start: i64, end: i64, step: i64, size: usize) -> Outcome<(usize, usize, usize)> {
    let Some(step) = usize::try_from(step).ok().filter(|step| *step > 0) else {
        return unsupported(format!("has a step of {step}; only forward ones can be read"));
    };
    let index = |index: i64| {
        let size = size as i64;
        (if index < 0 { index.saturating_add(size) } else { index }).clamp(0, size) as usize
    };
    Ok((index(start), index(end), step))
}

/// The first index and how many indices a part of a constant has; a negative step goes backwards.
fn range(start: i64, end: i64, step: i64, size: usize) -> Outcome<(i64, usize)> {
    let size = size as i64;
    let from_front = |index: i64| if index < 0 { index.saturating_add(size) } else { index };
    let (start, end) = (from_front(start), from_front(end));
    let (start, length) = match step {
        0 => return invalid("has a step of 0"),
        1.. => (start.clamp(0, size), end.clamp(0, size) - start.clamp(0, size)),
        _ => (start.clamp(-1, size - 1), start.clamp(-1, size - 1) - end.clamp(-1, size - 1)),
    };
    let count = u64::try_from(length).map_or(0, |length| length.div_ceil(step.unsigned_abs()));
    Ok((start, count as usize))
}

/// Some numbers of a row.
fn row(importer: &mut Importer, constant: &Constant, indices: impl Iterator<Item = usize>) -> Outcome {
    let part = if constant.is_int() {
        let ints = importer.ints(constant)?;
        let part: Vec<Int> = indices.map(|i| ints[i]).collect();
        Constant::from_ints(vec![part.len()], part)
    } else {
        let floats = importer.floats(constant)?;
        let part: Vec<f64> = indices.map(|i| floats[i]).collect();
        Constant::from_floats(vec![part.len()], part)
    };
    importer.constant(part)
}

pub(crate) fn split(importer: &mut Importer, call: &Call) -> Outcome {
    let x = call.data(0)?;
    let axis = importer.axis(x, call.int("axis", 0)?)?;
    let size = importer.shape(x).dims()[axis];
    let outputs = call.node.output.len();
    let lengths: Vec<usize> = match call.constant(1)?.cloned() {
        Some(lengths) => {
            let lengths = importer.known_ints(&lengths)?;
            lengths.into_iter().map(|length| usize::try_from(length).unwrap_or(usize::MAX)).collect()
        }
        None => {
            let count = call.int("num_outputs", outputs as i64)?;
            if count != outputs as i64 {
                return invalid(format!("has {outputs} outputs, not {count}"));
            }
            // Equal parts; the last one may be smaller.
            let length = size.div_ceil(outputs.max(1));
            let part = |i: usize| size.saturating_sub(i.saturating_mul(length)).min(length);
            (0..outputs).map(part).collect()
        }
    };
    let sum = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
    if sum != Some(size) || lengths.len() != outputs {
        return invalid(format!("{size} indices are not split into {outputs} parts of {lengths:?}"));
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(outputs);
    for length in lengths {
        let part = Slice { axis, start, end: start + length, step: 1 };
        parts.push(Value::Data(importer.push(part, &[x])?));
        start += length;
    }
    Ok(parts)
}

/// Takes indices that are as far from each other as the first two.
pub(crate) fn gather(importer: &mut Importer, call: &Call) -> Outcome {
    let indices = call.required(1)?.clone();
    let scalar = indices.dims.is_empty();
    if indices.dims.len() > 1 {
        return unsupported(format!("has indices of {:?}; only a number or a row can be read", indices.dims));
    }
    let axis = call.int("axis", 0)?;
    let constant = if let Value::Constant(constant) = call.input(0) { Some(constant.clone()) } else { None };
    let (size, place) = match &constant {
        Some(constant) => {
            let axis = onnx_axis(axis, constant.dims.len())?;
            if constant.dims.len() != 1 {
                return unsupported("takes a part of a constant that is no row of numbers");
            }
            (constant.dims[0], axis)
        }
        None => {
            let x = call.data(0)?;
            let axis = importer.axis(x, axis)?;
            (importer.shape(x).dims()[axis], axis)
        }
    };
    let mut positions = Vec::new();
    for index in importer.known_ints(&indices)? {
        match onnx_axis(index, size) {
            Ok(position) => positions.push(position),
            Err(_) => return invalid(format!("there is no index {index} of {size}")),
        }
    }
    if let Some(constant) = constant {
        let mut part = row(importer, &constant, positions.into_iter())?;
        if let (true, [Value::Constant(row)]) = (scalar, &part[..]) {
            part = importer.constant(Constant { dims: Vec::new(), ..Constant::clone(row) })?;
        }
        return Ok(part);
    }
    let x = call.data(0)?;
    let step = match positions[..] {
        [first, second, ..] if second > first => second - first,
        [_] => 1,
        _ => return unsupported("takes indices in an order that no slice has"),
    };
    if positions.windows(2).any(|pair| pair[0].checked_add(step) != Some(pair[1])) {
        return unsupported("takes indices in an order that no slice has");
    }
    let (start, end) = (positions[0], positions[positions.len() - 1] + 1);
    let slice = Slice { axis: place, start, end, step };
    let mut taken = importer.push(slice, &[x])?;
    if scalar {
        let mut dims = importer.shape(taken).dims().to_vec();
        dims.remove(place);
        taken = importer.push_aside(Reshape { dims }, &[taken])?;
    }
    Ok(vec![Value::Data(taken)])
}

pub(crate) fn export(exporter: &mut Exporter, op: &Slice, place: &Place) {
    let settings = [("start", op.start), ("end", op.end), ("axis", op.axis + 1), ("step", op.step)];
    let inputs = settings.map(|(name, value)| exporter.ints(place, name, &[value]));
    exporter.node("Slice", place, &inputs, Vec::new());
}
