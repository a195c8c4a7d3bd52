//! Computes an ONNX file in float64 by plain loops, for comparison with other programs.
//!
//! ```text
//! cargo run -p cnn-onnx --example evaluate -- MODEL.onnx INPUT OUTPUT [AGAIN.onnx]
//! ```
//!
//! INPUT holds images as float32 numbers, one after the other, and nothing else; the logits go to OUTPUT as float64
//! numbers. With AGAIN.onnx, the network is written as an ONNX file again. What was read is printed, a line a site.

use std::error::Error;
use std::fs::{self, File};
use std::io::BufWriter;
use std::process::ExitCode;

use cnn_graph::reference::Reference;
use cnn_onnx::Model;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, input, output, again @ ..] = &args[..] else {
        return Err("usage: evaluate MODEL.onnx INPUT OUTPUT [AGAIN.onnx]".into());
    };
    let model = Model::open(model)?;
    for (_, node) in model.graph.sites() {
        println!("{} {} {}", node.name, node.op.name(), node.shape);
    }
    if let [again] = again {
        let read = |param: &cnn_graph::ParamSpec| Ok(model.params.read(&param.name)?);
        cnn_onnx::write(&model.graph, read, BufWriter::new(File::create(again)?))?;
    }

    let mut failed = None;
    let reference = Reference::new(&model.graph, |param| match model.params.read(&param.name) {
        Ok(values) => values,
        Err(error) => {
            failed = Some(error);
            vec![0.0; param.shape.iter().product()]
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    let input = fs::read(input)?;
    let numbers: Vec<f64> = input
        .chunks_exact(4)
        .map(|bytes| f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
        .collect();
    let mut logits = Vec::new();
    for image in numbers.chunks_exact(model.graph.input_shape().elements()) {
        logits.extend(reference.run(image).into_iter().flat_map(f64::to_le_bytes));
    }
    fs::write(output, logits)?;
    Ok(())
}
