//! Functions of one variable: sites.
//!
//! Those that are no activation of a graph are made of ReLU: PReLU with a slope for each channel, and clips with one bound.

use cnn_graph::ops::{Activation, Add, Affine, Op};

use crate::export::{Attribute, Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, unsupported};
use crate::import::draft::DraftOp;
use crate::import::{Importer, Value};

fn site(importer: &mut Importer, call: &Call, activation: Activation) -> Outcome {
    let x = call.data(0)?;
    Ok(vec![Value::Data(importer.push(activation, &[x])?)])
}

pub(crate) fn relu(importer: &mut Importer, call: &Call) -> Outcome {
    site(importer, call, Activation::Relu)
}

pub(crate) fn sigmoid(importer: &mut Importer, call: &Call) -> Outcome {
    site(importer, call, Activation::Sigmoid)
}

pub(crate) fn tanh(importer: &mut Importer, call: &Call) -> Outcome {
    site(importer, call, Activation::Tanh)
}

pub(crate) fn hard_swish(importer: &mut Importer, call: &Call) -> Outcome {
    site(importer, call, Activation::HardSwish)
}

pub(crate) fn leaky_relu(importer: &mut Importer, call: &Call) -> Outcome {
    let slope = call.float("alpha", 0.01)?;
    site(importer, call, Activation::LeakyRelu { slope })
}

pub(crate) fn hard_sigmoid(importer: &mut Importer, call: &Call) -> Outcome {
    let (scale, offset) = (call.float("alpha", 0.2)?, call.float("beta", 0.5)?);
    site(importer, call, Activation::HardSigmoid { scale, offset })
}

pub(crate) fn gelu(importer: &mut Importer, call: &Call) -> Outcome {
    let activation = match call.word("approximate", "none")? {
        "none" => Activation::Gelu,
        "tanh" => Activation::GeluTanh,
        other => return invalid(format!("approximate `{other}`")),
    };
    site(importer, call, activation)
}

/// `x · sigmoid(α x)`, which is `silu(α x) / α`.
pub(crate) fn swish(importer: &mut Importer, call: &Call) -> Outcome {
    let alpha = call.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return site(importer, call, Activation::Silu);
    }
    if alpha == 0.0 || !alpha.is_finite() || !alpha.recip().is_finite() {
        return unsupported(format!("alpha is {alpha}"));
    }
    let x = call.data(0)?;
    let x = importer.push_aside(times(alpha), &[x])?;
    let x = importer.push(Activation::Silu, &[x])?;
    Ok(vec![Value::Data(importer.push_aside(times(alpha.recip()), &[x])?)])
}

/// The error function, for [`patterns`](crate::import).
pub(crate) fn erf(importer: &mut Importer, call: &Call) -> Outcome {
    let x = call.data(0)?;
    Ok(vec![Value::Data(importer.push_draft(DraftOp::Erf, &[x], Vec::new(), true)?)])
}

/// `slope · x + (1 − slope) · relu(x)` with a slope for each channel, or a leaky ReLU with one for all.
pub(crate) fn prelu(importer: &mut Importer, call: &Call) -> Outcome {
    let x = call.data(0)?;
    let slope = call.required(1)?.clone();
    let slopes = importer.per_channel(&slope, x)?;
    if let [slope] = slopes[..] {
        return site(importer, call, Activation::LeakyRelu { slope });
    }
    importer.spend(2 * slopes.len())?;
    let rest = slopes.iter().map(|slope| 1.0 - slope).collect();
    let relu = importer.push(Activation::Relu, &[x])?;
    let relu = importer.push_aside(Affine { scale: rest, shift: vec![0.0] }, &[relu])?;
    let x = importer.push_aside(Affine { scale: slopes, shift: vec![0.0] }, &[x])?;
    Ok(vec![Value::Data(importer.push_aside(Add, &[x, relu])?)])
}

pub(crate) fn clip(importer: &mut Importer, call: &Call) -> Outcome {
    let mut bound = |index: usize, none: f64| match call.constant(index)?.cloned() {
        Some(bound) => importer.scalar(&bound),
        None => Ok(none),
    };
    let (low, high) = (bound(1, f64::NEG_INFINITY)?, bound(2, f64::INFINITY)?);
    clipped(importer, call.data(0)?, low, high)
}

pub(crate) fn max(importer: &mut Importer, call: &Call) -> Outcome {
    let (x, bound) = bounded(importer, call)?;
    clipped(importer, x, bound, f64::INFINITY)
}

pub(crate) fn min(importer: &mut Importer, call: &Call) -> Outcome {
    let (x, bound) = bounded(importer, call)?;
    clipped(importer, x, f64::NEG_INFINITY, bound)
}

/// A value and a constant, in either order.
fn bounded(importer: &mut Importer, call: &Call) -> Outcome<(usize, f64)> {
    match &call.inputs[..] {
        [Value::Data(x), Value::Constant(bound)] | [Value::Constant(bound), Value::Data(x)] => {
            Ok((*x, importer.scalar(bound)?))
        }
        _ => unsupported("compares other things than a value with one constant"),
    }
}

fn clipped(importer: &mut Importer, x: usize, low: f64, high: f64) -> Outcome {
    if low.is_nan() || high.is_nan() || low > high {
        return invalid(format!("a clip to [{low}, {high}]"));
    }
    // Exporters write the largest float32 for no bound.
    let largest = f64::from(f32::MAX);
    let clipped = match (low > -largest, high < largest) {
        (false, false) => x,
        (true, true) => importer.push(Activation::Clip { low, high }, &[x])?,
        (true, false) if low == 0.0 => importer.push(Activation::Relu, &[x])?,
        // relu(x − low) + low
        (true, false) => {
            let x = importer.push_aside(Affine { scale: vec![1.0], shift: vec![-low] }, &[x])?;
            let x = importer.push(Activation::Relu, &[x])?;
            importer.push_aside(Affine { scale: vec![1.0], shift: vec![low] }, &[x])?
        }
        // high − relu(high − x)
        (false, true) => {
            let x = importer.push_aside(Affine { scale: vec![-1.0], shift: vec![high] }, &[x])?;
            let x = importer.push(Activation::Relu, &[x])?;
            importer.push_aside(Affine { scale: vec![-1.0], shift: vec![high] }, &[x])?
        }
    };
    Ok(vec![Value::Data(clipped)])
}

fn times(factor: f64) -> Op {
    Op::Affine(Affine { scale: vec![factor], shift: vec![0.0] })
}

pub(crate) fn export(exporter: &mut Exporter, op: Activation, place: &Place) {
    let (operator, attributes) = match op {
        Activation::Relu => ("Relu", Vec::new()),
        Activation::LeakyRelu { slope } => ("LeakyRelu", vec![Attribute::float("alpha", slope)]),
        Activation::Clip { low, high } => {
            let low = exporter.floats(place, "low", Vec::new(), &[low]);
            let high = exporter.floats(place, "high", Vec::new(), &[high]);
            exporter.node("Clip", place, &[low, high], Vec::new());
            return;
        }
        Activation::HardSigmoid { scale, offset } => {
            ("HardSigmoid", vec![Attribute::float("alpha", scale), Attribute::float("beta", offset)])
        }
        Activation::HardSwish => ("HardSwish", Vec::new()),
        Activation::Sigmoid => ("Sigmoid", Vec::new()),
        Activation::Tanh => ("Tanh", Vec::new()),
        Activation::Silu => {
            let sigmoid = exporter.aside("Sigmoid", place, "sigmoid", &place.inputs, Vec::new());
            exporter.node("Mul", place, &[sigmoid], Vec::new());
            return;
        }
        Activation::Gelu | Activation::GeluTanh => {
            exporter.needs_opset(20);
            let kind = if op == Activation::Gelu { "none" } else { "tanh" };
            ("Gelu", vec![Attribute::word("approximate", kind)])
        }
    };
    exporter.node(operator, place, &[], attributes);
}
