//! Another order of dimensions.

use cnn_graph::ops::Transpose;

use crate::export::{Attribute, Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, unsupported};
use crate::import::constant::{Constant, Data};
use crate::import::{Importer, Value};

pub(crate) fn import(importer: &mut Importer, call: &Call) -> Outcome {
    let order = call.ints("perm")?;
    if let Value::Constant(constant) = call.input(0) {
        // A weight that is stored the other way round.
        return match (&constant.data, &constant.dims[..], order) {
            (Data::Stored(tensor), [rows, columns], None | Some([1, 0])) => importer.constant(Constant {
                dims: vec![*columns, *rows],
                data: Data::Transposed(tensor.clone()),
                name: constant.name.clone(),
            }),
            _ => unsupported("transposes a constant that is no matrix"),
        };
    }
    let x = call.data(0)?;
    let rank = importer.shape(x).rank() + 1;
    let order = match order {
        Some(order) => order.to_vec(),
        None => (0..rank as i64).rev().collect(),
    };
    if order.len() != rank {
        return invalid(format!("{order:?} is no order of {rank} dimensions"));
    }
    if order[0] != 0 {
        return unsupported("moves the images of a batch; a network treats each image by itself");
    }
    let order = order[1..].iter().map(|dim| usize::try_from(dim - 1).unwrap_or(usize::MAX)).collect();
    Ok(vec![Value::Data(importer.push(Transpose { order }, &[x])?)])
}

pub(crate) fn export(exporter: &mut Exporter, op: &Transpose, place: &Place) {
    let order: Vec<usize> = std::iter::once(0).chain(op.order.iter().map(|dim| dim + 1)).collect();
    exporter.node("Transpose", place, &[], vec![Attribute::ints("perm", &order)]);
}
