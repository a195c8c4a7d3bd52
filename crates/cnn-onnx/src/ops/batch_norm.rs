//! Batch norm with known mean and variance.

use cnn_graph::ops::BatchNorm;

use crate::export::{Attribute, Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, unsupported};
use crate::import::{Importer, Value};

pub(crate) fn import(importer: &mut Importer, call: &Call) -> Outcome {
    if call.int("training_mode", 0)? != 0 {
        return unsupported(
            "takes mean and variance of the batch; export the network in evaluation mode, `model.eval()`",
        );
    }
    let x = call.data(0)?;
    let eps = call.float("epsilon", 1e-5)?;
    let Some(channels) = importer.shape(x).channels() else {
        return invalid("takes a value with channels, not a single number");
    };
    let mut params = Vec::new();
    for (index, name) in (1..).zip(["weight", "bias", "running_mean", "running_var"]) {
        let constant = call.required(index)?.clone();
        params.push((name, importer.vector(&constant, channels, 1.0)?));
    }
    let norm = importer.push_with(BatchNorm { eps }, &[x], params)?;
    Ok(vec![Value::Data(norm)])
}

pub(crate) fn export(exporter: &mut Exporter, op: &BatchNorm, place: &Place) {
    exporter.node_with_params("BatchNormalization", place, vec![Attribute::float("epsilon", op.eps)]);
}
