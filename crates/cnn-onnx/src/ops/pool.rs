//! Poolings. Max-poolings are sites.

use cnn_graph::ops::{AdaptiveAvgPool, AvgPool, GlobalAvgPool, MaxPool, Padding, Pool};

use crate::export::{Attribute, Exporter, Place};
use crate::import::call::{Call, Outcome, invalid, unsupported};
use crate::import::{Importer, Value};

pub(crate) fn max(importer: &mut Importer, call: &Call) -> Outcome {
    let (x, window) = window(importer, call)?;
    Ok(vec![Value::Data(importer.push(MaxPool(window), &[x])?)])
}

pub(crate) fn average(importer: &mut Importer, call: &Call) -> Outcome {
    let (x, window) = window(importer, call)?;
    let count_padding = call.int("count_include_pad", 0)? != 0;
    let [_, height, width] = importer.image(x)?;
    let plain = window.padding == Padding::ZERO;
    let pooled = match window.kernel {
        [1, 1] if plain && window.stride == [1, 1] => x,
        kernel if plain && kernel == [height, width] => importer.push(GlobalAvgPool, &[x])?,
        _ => importer.push(AvgPool { window, count_padding }, &[x])?,
    };
    Ok(vec![Value::Data(pooled)])
}

pub(crate) fn global_average(importer: &mut Importer, call: &Call) -> Outcome {
    let x = call.data(0)?;
    importer.image(x)?;
    Ok(vec![Value::Data(importer.push(GlobalAvgPool, &[x])?)])
}

pub(crate) fn global_max(importer: &mut Importer, call: &Call) -> Outcome {
    let x = call.data(0)?;
    let [_, height, width] = importer.image(x)?;
    let window = Pool { kernel: [height, width], ..Pool::square(1, 1) };
    Ok(vec![Value::Data(importer.push(MaxPool(window), &[x])?)])
}

fn window(importer: &mut Importer, call: &Call) -> Outcome<(usize, Pool)> {
    let x = call.data(0)?;
    let [_, height, width] = importer.image(x)?;
    if !call.has("kernel_shape") {
        return invalid("has no kernel_shape");
    }
    let kernel = call.pair("kernel_shape", [1, 1])?;
    let stride = call.pair("strides", [1, 1])?;
    if call.pair("dilations", [1, 1])? != [1, 1] {
        return unsupported("has a dilation; only windows without one can be read");
    }
    let padding = call.padding([height, width], kernel, stride, [1, 1])?;
    let ceil_mode = call.int("ceil_mode", 0)? != 0;
    Ok((x, Pool { kernel, stride, padding, ceil_mode }))
}

fn attributes(window: &Pool) -> Vec<Attribute> {
    let Padding { top, bottom, left, right } = window.padding;
    vec![
        Attribute::ints("kernel_shape", &window.kernel),
        Attribute::ints("strides", &window.stride),
        Attribute::ints("pads", &[top, left, bottom, right]),
        Attribute::int("ceil_mode", usize::from(window.ceil_mode)),
    ]
}

pub(crate) fn export_max(exporter: &mut Exporter, op: &MaxPool, place: &Place) {
    exporter.node("MaxPool", place, &[], attributes(&op.0));
}

pub(crate) fn export_average(exporter: &mut Exporter, op: &AvgPool, place: &Place) {
    let mut attributes = attributes(&op.window);
    attributes.push(Attribute::int("count_include_pad", usize::from(op.count_padding)));
    exporter.node("AveragePool", place, &[], attributes);
}

pub(crate) fn export_global(exporter: &mut Exporter, place: &Place) {
    exporter.node("GlobalAveragePool", place, &[], Vec::new());
}

/// ONNX has no such pooling: it is one over the whole image, one with equal windows, or two products with constant
/// matrices.
pub(crate) fn export_adaptive(exporter: &mut Exporter, op: &AdaptiveAvgPool, place: &Place) {
    let [height, width] = [1, 2].map(|dim| place.input_shape.dims()[dim]);
    let [rows, columns] = op.size;
    if op.size == [1, 1] {
        export_global(exporter, place);
    } else if height % rows == 0 && width % columns == 0 {
        let kernel = [height / rows, width / columns];
        let window = Pool { kernel, stride: kernel, ..Pool::square(1, 1) };
        export_average(exporter, &AvgPool { window, count_padding: false }, place);
    } else {
        // A row of the matrix for each part: 1 / length where the part is.
        let matrix = |parts: usize, size: usize| {
            let mut matrix = vec![0.0; parts * size];
            for (i, row) in matrix.chunks_mut(size).enumerate() {
                let part = i * size / parts..((i + 1) * size).div_ceil(parts);
                let share = 1.0 / part.len() as f64;
                row[part].fill(share);
            }
            matrix
        };
        let transposed: Vec<f64> = {
            let matrix = matrix(columns, width);
            (0..width * columns).map(|i| matrix[i % columns * width + i / columns]).collect()
        };
        let left = exporter.floats(place, "rows", vec![rows, height], &matrix(rows, height));
        let right = exporter.floats(place, "columns", vec![width, columns], &transposed);
        let inputs = [left, place.inputs[0].clone()];
        let part = exporter.aside("MatMul", place, "rows_mean", &inputs, Vec::new());
        exporter.node_from("MatMul", place, &[part, right], Vec::new());
    }
}
