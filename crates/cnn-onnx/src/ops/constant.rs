//! Constants, shapes, and conversions of numbers.

use crate::import::call::{Call, Outcome, invalid, unsupported};
use crate::import::constant::{Constant, Data, Int};
use crate::import::{Importer, Value};
use crate::tensor::DType;

pub(crate) fn constant(importer: &mut Importer, call: &Call) -> Outcome {
    let constant = if let Some(tensor) = call.tensor("value")? {
        Constant::stored(importer.origin.tensor(tensor)?)
    } else if let Some(ints) = call.ints("value_ints")? {
        Constant::from_ints(vec![ints.len()], ints.iter().map(|int| Int::Known(*int)).collect())
    } else if let Some(floats) = call.floats("value_floats")? {
        Constant::from_floats(vec![floats.len()], floats.iter().map(|x| f64::from(*x)).collect())
    } else if call.has("value_int") {
        Constant::from_ints(Vec::new(), vec![Int::Known(call.int("value_int", 0)?)])
    } else if call.has("value_float") {
        Constant::from_floats(Vec::new(), vec![call.float("value_float", 0.0)?])
    } else {
        return unsupported("is neither a tensor nor numbers");
    };
    importer.constant(constant)
}

pub(crate) fn of_shape(importer: &mut Importer, call: &Call) -> Outcome {
    let dims = call.required(0)?.clone();
    let dims = importer.known_ints(&dims)?;
    let dims: Vec<usize> = dims.into_iter().map(|dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();
    let elements = cnn_graph::shape::elements(&dims);
    let Some(elements) = elements else { return invalid(format!("the shape {dims:?} is not possible")) };
    importer.spend(elements)?;
    let value = match call.tensor("value")? {
        Some(tensor) => Constant::stored(importer.origin.tensor(tensor)?),
        None => Constant::from_floats(Vec::new(), vec![0.0]),
    };
    if value.elements() != 1 {
        return invalid("its value is not one number");
    }
    let constant = match value.is_int() {
        true => Constant::from_ints(dims, vec![value.ints()?[0]; elements]),
        false => Constant::from_floats(dims, vec![value.floats()?[0]; elements]),
    };
    importer.constant(constant)
}

pub(crate) fn shape(importer: &mut Importer, call: &Call) -> Outcome {
    let known = |dims: &[usize]| dims.iter().map(|dim| Int::Known(*dim as i64)).collect::<Vec<_>>();
    let dims = match call.input(0) {
        Value::Constant(constant) => known(&constant.dims),
        _ => {
            let mut dims = known(importer.shape(call.data(0)?).dims());
            dims.insert(0, Int::Batch);
            dims
        }
    };
    let rank = dims.len() as i64;
    let index =
        |index: i64| (if index < 0 { index.saturating_add(rank) } else { index }).clamp(0, rank) as usize;
    let (start, end) = (index(call.int("start", 0)?), index(call.int("end", rank)?));
    let part = dims.get(start..end).unwrap_or_default().to_vec();
    importer.constant(Constant::from_ints(vec![part.len()], part))
}

pub(crate) fn cast(importer: &mut Importer, call: &Call) -> Outcome {
    let to = i32::try_from(call.int("to", 0)?).ok().and_then(DType::find);
    let Some(to) = to else { return unsupported("converts to a type that is not read") };
    match call.input(0) {
        // Everything is computed in one precision.
        Value::Data(x) if to.is_float() => Ok(vec![Value::Data(*x)]),
        Value::Data(_) => unsupported("rounds what is computed from the image to whole numbers"),
        Value::Constant(constant) if constant.is_int() != to.is_float() => {
            importer.same(&Value::Constant(constant.clone()))
        }
        Value::Constant(constant) => {
            let constant = constant.clone();
            let data = if to.is_float() {
                Data::Floats(importer.floats(&constant)?)
            } else {
                Data::Ints(importer.floats(&constant)?.into_iter().map(|x| Int::Known(x as i64)).collect())
            };
            importer.constant(Constant { dims: constant.dims.clone(), data })
        }
        _ => invalid("has no input"),
    }
}
