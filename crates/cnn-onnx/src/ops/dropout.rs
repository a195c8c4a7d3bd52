//! Dropout, which does nothing unless a network is trained.

use cnn_graph::ops::Dropout;

use crate::export::{Exporter, Place};
use crate::import::call::{Call, Outcome, unsupported};
use crate::import::{Importer, Value};

pub(crate) fn import(importer: &mut Importer, call: &Call) -> Outcome {
    let x = call.data(0)?;
    let rate = match call.constant(1)?.cloned() {
        Some(rate) => importer.scalar(&rate)?,
        None => 0.5,
    };
    if let Some(training) = call.constant(2)?.cloned()
        && importer.scalar(&training)? != 0.0
    {
        return unsupported(
            "leaves out inputs at random; export the network in evaluation mode, `model.eval()`",
        );
    }
    Ok(vec![Value::Data(importer.push(Dropout { rate }, &[x])?)])
}

pub(crate) fn export(exporter: &mut Exporter, op: &Dropout, place: &Place) {
    let rate = exporter.floats(place, "rate", Vec::new(), &[op.rate]);
    exporter.node("Dropout", place, &[rate], Vec::new());
}
