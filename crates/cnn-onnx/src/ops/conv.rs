//! Convolution.

use cnn_graph::ops::{Conv, Op, Padding};

use crate::export::{Attribute, Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, unsupported};
use crate::import::{Importer, Value};
use crate::params::Values;

pub(crate) fn import(importer: &mut Importer, call: &Call) -> Outcome {
    let x = call.data(0)?;
    let Value::Constant(weight) = call.input(1) else {
        return unsupported("its weight is computed; only one that the file holds can be read");
    };
    let [channels, height, width] = importer.image(x)?;
    let [outputs, group_channels, rows, columns] = weight.dims[..] else {
        return unsupported(format!(
            "has a weight of {:?}; only two-dimensional convolutions can be read",
            weight.dims
        ));
    };
    let kernel = call.pair("kernel_shape", [rows, columns])?;
    let groups = call.int("group", 1)?;
    let groups = usize::try_from(groups).ok().filter(|groups| *groups > 0);
    let Some(groups) = groups else { return invalid("has no groups") };
    if kernel != [rows, columns] || group_channels.checked_mul(groups) != Some(channels) {
        return invalid(format!(
            "a weight of {:?} in {groups} groups does not fit a kernel of {kernel:?} and {channels} channels",
            weight.dims
        ));
    }
    let (stride, dilation) = (call.pair("strides", [1, 1])?, call.pair("dilations", [1, 1])?);
    if rows == 0 || columns == 0 {
        return invalid("has an empty kernel");
    }
    let padding = call.padding([height, width], kernel, stride, dilation)?;
    let mut params = vec![("weight", Values::plain(weight.tensor()?))];
    let bias = call.constant(2)?.cloned();
    if let Some(bias) = &bias {
        params.push(("bias", importer.vector(bias, outputs, 1.0)?));
    }
    let op = Conv { outputs, kernel, stride, dilation, padding, groups, bias: bias.is_some() };
    let conv = importer.push_with(Op::Conv(op), &[x], params)?;
    Ok(vec![Value::Data(conv)])
}

pub(crate) fn export(exporter: &mut Exporter, op: &Conv, place: &Place) {
    let Padding { top, bottom, left, right } = op.padding;
    let attributes = vec![
        Attribute::ints("kernel_shape", &op.kernel),
        Attribute::ints("strides", &op.stride),
        Attribute::ints("dilations", &op.dilation),
        Attribute::ints("pads", &[top, left, bottom, right]),
        Attribute::int("group", op.groups),
    ];
    exporter.node_with_params("Conv", place, attributes);
}
