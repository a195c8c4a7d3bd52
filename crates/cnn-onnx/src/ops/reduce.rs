//! Means over dimensions: only the one over a whole image can be read.

use cnn_graph::ops::{Flatten, GlobalAvgPool};

use crate::import::call::{Call, Outcome, onnx_axis, unsupported};
use crate::import::{Importer, Value};

pub(crate) fn mean(importer: &mut Importer, call: &Call) -> Outcome {
    let x = call.data(0)?;
    let keep = call.int("keepdims", 1)? != 0;
    let Some(axes) = importer.axes(call, 1)?.filter(|axes| !axes.is_empty()) else {
        return unsupported("is over all dimensions; only a mean over height and width can be read");
    };
    let rank = importer.shape(x).rank() + 1;
    let mut axes = axes.into_iter().map(|axis| onnx_axis(axis, rank)).collect::<Outcome<Vec<_>>>()?;
    axes.sort_unstable();
    if rank != 4 || axes != [2, 3] {
        let shape = importer.shape(x);
        return unsupported(format!(
            "is over dimensions {axes:?} of [N, {}; only one over height and width of an image can be read",
            shape.to_string().trim_start_matches('[')
        ));
    }
    let mut mean = importer.push(GlobalAvgPool, &[x])?;
    if !keep {
        mean = importer.push_aside(Flatten, &[mean])?;
    }
    Ok(vec![Value::Data(mean)])
}
