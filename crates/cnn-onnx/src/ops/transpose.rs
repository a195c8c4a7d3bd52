//! Another order of dimensions.

use cnn_graph::ops::Transpose;

use crate::export::{Attribute, Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, unsupported};
use crate::import::constant::{Constant, Data};
use crate::import::{Importer, Value};

pub(crate) fn import(importer: &mut Importer, call: &Call) -> Outcome {
    let order = call.ints("perm")?;
    if let Value::Constant(constant) = call.input(0) {
        let constant = constant.clone();
        return match (&constant.data, &constant.dims[..], order) {
            // A weight that is stored the other way round stays in the file.
            (Data::Stored(tensor), [rows, columns], None | Some([1, 0])) if tensor.dtype.is_float() => {
                importer.constant(Constant {
                    dims: vec![*columns, *rows],
                    data: Data::Transposed(tensor.clone()),
                })
            }
            (_, [rows, columns], None | Some([1, 0])) => {
                let (rows, columns) = (*rows, *columns);
                importer.transposed(&constant, rows, columns)
            }
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

impl Importer<'_> {
    /// A constant matrix with its dimensions the other way round.
    fn transposed(&mut self, constant: &Constant, rows: usize, columns: usize) -> Outcome {
        self.spend(rows * columns)?;
        let source = |i: usize| i % rows * columns + i / rows;
        let data = if constant.is_int() {
            let ints = self.ints(constant)?;
            Data::Ints((0..rows * columns).map(|i| ints[source(i)]).collect())
        } else {
            let floats = self.floats(constant)?;
            Data::Floats((0..rows * columns).map(|i| floats[source(i)]).collect())
        };
        self.constant(Constant { dims: vec![columns, rows], data })
    }
}

pub(crate) fn export(exporter: &mut Exporter, op: &Transpose, place: &Place) {
    let order: Vec<usize> = std::iter::once(0).chain(op.order.iter().map(|dim| dim + 1)).collect();
    exporter.node("Transpose", place, &[], vec![Attribute::ints("perm", &order)]);
}
