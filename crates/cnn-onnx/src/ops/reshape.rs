//! Other dimensions for the same numbers.

use cnn_graph::ops::{Flatten, Reshape};

use crate::export::{Attribute, Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, onnx_axis, unsupported};
use crate::import::constant::{Constant, Int};
use crate::import::{Batch, Importer, Value};

/// Says what an image's value is shaped like then.
fn to(importer: &mut Importer, x: usize, dims: Vec<usize>) -> Outcome {
    let shape = importer.shape(x);
    if shape.dims() == dims {
        return Ok(vec![Value::Data(x)]);
    }
    let reshaped = match dims[..] {
        [features] if features == shape.elements() => importer.push(Flatten, &[x])?,
        _ => importer.push(Reshape { dims }, &[x])?,
    };
    Ok(vec![Value::Data(reshaped)])
}

/// A constant with other dimensions.
fn constant_to(importer: &mut Importer, constant: &Constant, dims: Vec<usize>) -> Outcome {
    if cnn_graph::shape::elements(&dims) != Some(constant.elements()) {
        return invalid(format!("{:?} cannot become {dims:?}", constant.dims));
    }
    importer.constant(Constant { dims, ..constant.clone() })
}

pub(crate) fn identity(importer: &mut Importer, call: &Call) -> Outcome {
    match call.input(0) {
        Value::Missing => invalid("has no input"),
        value => importer.same(value),
    }
}

pub(crate) fn flatten(importer: &mut Importer, call: &Call) -> Outcome {
    let x = call.data(0)?;
    let dims = importer.shape(x).dims().to_vec();
    // The axis may be one behind the last.
    let axis = call.int("axis", 1)?;
    let axis = if axis < 0 { axis.saturating_add(dims.len() as i64 + 1) } else { axis };
    if axis != 1 {
        return unsupported(format!("flattens at axis {axis}; only 1 keeps the images of a batch apart"));
    }
    let elements = importer.shape(x).elements();
    to(importer, x, vec![elements])
}

pub(crate) fn reshape(importer: &mut Importer, call: &Call) -> Outcome {
    let target = call.required(1)?.clone();
    let target = importer.ints(&target)?;
    let allow_zero = call.int("allowzero", 0)? != 0;
    if let Value::Constant(constant) = call.input(0) {
        let from: Vec<Int> = constant.dims.iter().map(|dim| Int::Known(*dim as i64)).collect();
        let dims = resolve(&target, &from, constant.elements(), allow_zero)?;
        return constant_to(importer, &constant.clone(), dims);
    }
    let x = call.data(0)?;
    let shape = importer.shape(x);
    let elements = shape.elements();
    let mut from = vec![Int::Batch];
    from.extend(shape.dims().iter().map(|dim| Int::Known(*dim as i64)));
    let Some((first, rest)) = target.split_first() else {
        return unsupported("makes a single number of a batch");
    };
    let known_rest = || {
        let known = rest.iter().zip(1..).map(|(int, i)| zero_copied(*int, i, &from, allow_zero));
        known.map(|int| int?.known()).collect::<Outcome<Vec<i64>>>()
    };
    // What the first dimension is in terms of the batch: it must be the batch itself.
    let is_batch = match first {
        Int::Batch => true,
        Int::Known(0) => !allow_zero,
        Int::Known(-1) => {
            known_rest()?.iter().try_fold(1i64, |product, dim| product.checked_mul(*dim))
                == Some(elements as i64)
        }
        Int::Known(value) => importer.batch == Batch::Fixed(*value),
    };
    if !is_batch {
        return unsupported(format!(
            "makes [N, {}] of a batch; a network treats each image by itself",
            rest.iter().map(|int| format!("{int:?}")).collect::<Vec<_>>().join(", ")
        ));
    }
    let dims = resolve(rest, &from[1..], elements, allow_zero)?;
    to(importer, x, dims)
}

/// A dimension; 0 means that of the input.
fn zero_copied(int: Int, index: usize, from: &[Int], allow_zero: bool) -> Outcome<Int> {
    match int {
        Int::Known(0) if !allow_zero => match from.get(index) {
            Some(int) => Ok(*int),
            None => invalid(format!("there is no dimension {index} to keep")),
        },
        int => Ok(int),
    }
}

/// The dimensions that a target stands for, in which -1 is what is left.
fn resolve(target: &[Int], from: &[Int], elements: usize, allow_zero: bool) -> Outcome<Vec<usize>> {
    let mut dims = Vec::with_capacity(target.len());
    let mut open = None;
    for (index, int) in target.iter().enumerate() {
        match zero_copied(*int, index, from, allow_zero)?.known()? {
            -1 if open.is_none() => {
                open = Some(index);
                dims.push(1);
            }
            dim => match usize::try_from(dim) {
                Ok(dim) => dims.push(dim),
                Err(_) => return invalid(format!("a dimension of {dim}")),
            },
        }
    }
    if let Some(open) = open {
        match cnn_graph::shape::elements(&dims) {
            Some(known) if known > 0 && elements.is_multiple_of(known) => dims[open] = elements / known,
            _ => return invalid(format!("{elements} numbers do not fall into {dims:?}")),
        }
    }
    Ok(dims)
}

pub(crate) fn squeeze(importer: &mut Importer, call: &Call) -> Outcome {
    let axes = importer.axes(call, 1)?;
    let (constant, mut dims) = dims(importer, call)?;
    let axes = match axes {
        Some(axes) => {
            axes.into_iter().map(|axis| onnx_axis(axis, dims.len())).collect::<Outcome<Vec<_>>>()?
        }
        None if constant => (0..dims.len()).filter(|dim| dims[*dim] == Int::Known(1)).collect(),
        // Which of an image's dimensions are 1 is known, but whether the batch is, is not.
        None => (1..dims.len()).filter(|dim| dims[*dim] == Int::Known(1)).collect(),
    };
    if let Some(axis) = axes.iter().find(|axis| dims[**axis] != Int::Known(1)) {
        return unsupported(format!("leaves out axis {axis}, which is not 1"));
    }
    let mut index = 0;
    dims.retain(|_| {
        index += 1;
        !axes.contains(&(index - 1))
    });
    with_dims(importer, call, dims)
}

pub(crate) fn unsqueeze(importer: &mut Importer, call: &Call) -> Outcome {
    let Some(axes) = importer.axes(call, 1)? else { return invalid("has no axes") };
    let (_, mut dims) = dims(importer, call)?;
    let rank = dims.len() + axes.len();
    let mut axes = axes.into_iter().map(|axis| onnx_axis(axis, rank)).collect::<Outcome<Vec<_>>>()?;
    axes.sort_unstable();
    for axis in axes {
        if axis > dims.len() {
            return invalid(format!("axis {axis} is named twice"));
        }
        dims.insert(axis, Int::Known(1));
    }
    with_dims(importer, call, dims)
}

/// Whether the input is constant, and its dimensions with the batch.
fn dims(importer: &Importer, call: &Call) -> Outcome<(bool, Vec<Int>)> {
    let known = |dims: &[usize]| dims.iter().map(|dim| Int::Known(*dim as i64)).collect::<Vec<_>>();
    match call.input(0) {
        Value::Constant(constant) => Ok((true, known(&constant.dims))),
        _ => {
            let mut dims = known(importer.shape(call.data(0)?).dims());
            dims.insert(0, Int::Batch);
            Ok((false, dims))
        }
    }
}

/// The input with these dimensions, of which the first must stay the batch.
fn with_dims(importer: &mut Importer, call: &Call, dims: Vec<Int>) -> Outcome {
    let known = |dims: &[Int]| {
        dims.iter()
            .map(|dim| Ok(usize::try_from(dim.known()?).unwrap_or(usize::MAX)))
            .collect::<Outcome<Vec<_>>>()
    };
    match call.input(0) {
        Value::Constant(constant) => constant_to(importer, &constant.clone(), known(&dims)?),
        _ if dims.first() != Some(&Int::Batch) => {
            unsupported("puts something before the images of a batch; a network treats each image by itself")
        }
        _ => to(importer, call.data(0)?, known(&dims[1..])?),
    }
}

pub(crate) fn export_flatten(exporter: &mut Exporter, place: &Place) {
    exporter.node("Flatten", place, &[], vec![Attribute::int("axis", 1)]);
}

pub(crate) fn export_reshape(exporter: &mut Exporter, op: &Reshape, place: &Place) {
    // 0 is the batch.
    let dims: Vec<usize> = std::iter::once(0).chain(op.dims.iter().copied()).collect();
    let dims = exporter.ints(place, "dims", &dims);
    exporter.node("Reshape", place, &[dims], Vec::new());
}
