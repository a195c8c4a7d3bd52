//! Linear layers: `Gemm`, and `MatMul` with a bias behind it.

use cnn_graph::ops::Linear;

use crate::export::{Attribute, Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, unsupported};
use crate::import::constant::{Constant, Data};
use crate::import::{Importer, Value};
use crate::params::Values;

/// Why a product of computed matrices cannot be read.
pub(crate) const COMPUTED: &str =
    "multiplies two matrices that are both computed, as attention does; only a constant weight can be read";

/// Whether a node multiplies two matrices of which none is constant.
pub(crate) fn two_computed(call: &Call) -> bool {
    let constant = |index| matches!(call.input(index), Value::Constant(_));
    matches!(call.node.op_type.as_str(), "MatMul" | "Gemm") && !constant(0) && !constant(1)
}

pub(crate) fn mat_mul(importer: &mut Importer, call: &Call) -> Outcome {
    layer(importer, call, false, 1.0, None)
}

pub(crate) fn gemm(importer: &mut Importer, call: &Call) -> Outcome {
    if call.int("transA", 0)? != 0 {
        return unsupported("transposes the images of a batch; a network treats each image by itself");
    }
    let transposed = call.int("transB", 0)? != 0;
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    let bias = call.constant(2)?.filter(|_| beta != 0.0).map(|bias| (bias, beta));
    layer(importer, call, transposed, alpha, bias)
}

/// `factor · x W + bias`; `W` is `[outputs, inputs]` if it is transposed.
fn layer(
    importer: &mut Importer,
    call: &Call,
    transposed: bool,
    factor: f64,
    bias: Option<(&std::rc::Rc<Constant>, f64)>,
) -> Outcome {
    if two_computed(call) {
        return unsupported(COMPUTED);
    }
    let x = call.data(0)?;
    let weight = call.required(1)?;
    let [features] = *importer.shape(x).dims() else {
        let shape = importer.shape(x);
        return unsupported(format!(
            "multiplies matrices of {shape} for one image; only rows of features [F] can be read"
        ));
    };
    let [first, second] = weight.dims[..] else {
        return unsupported(format!("has a weight of {:?}; only matrices can be read", weight.dims));
    };
    let (inputs, outputs) = if transposed { (second, first) } else { (first, second) };
    if inputs != features {
        return invalid(format!("{features} features do not fit a weight of {:?}", weight.dims));
    }
    // A graph's weight is [outputs, inputs], which a transposed one is as it stands in the file.
    let (tensor, stored_transposed) = match &weight.data {
        Data::Transposed(tensor) => (tensor.clone(), transposed),
        _ => (weight.tensor()?, !transposed),
    };
    let mut params = vec![("weight", Values::Stored { tensor, transposed: stored_transposed, factor })];
    if let Some((bias, factor)) = bias {
        params.push(("bias", importer.vector(bias, outputs, factor)?));
    }
    let op = Linear { outputs, bias: bias.is_some() };
    let linear = importer.push_with(op, &[x], params)?;
    Ok(vec![Value::Data(linear)])
}

pub(crate) fn export(exporter: &mut Exporter, place: &Place) {
    exporter.node_with_params("Gemm", place, vec![Attribute::int("transB", 1)]);
}
