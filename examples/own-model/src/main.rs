//! A network of one's own: which precision and which ranges does it need?
//!
//! `cargo run -p own-model` defines a small CNN, loads weights that PyTorch wrote, evaluates it exactly and at all
//! published precisions on the demo's 1,000 images, and writes the table. README.md tells where the weights are from.
//! The first argument names a folder for results, which are kept there: a second run computes nothing.

use std::error::Error;
use std::path::PathBuf;

use approx_data::{Normalization, demo};
use approx_eval::cells::Cells;
use approx_eval::report::WeightsIdentity;
use approx_eval::sweep::{Row, Setting, to_csv};
use approx_eval::{EvalError, Job, Sweep};
use approx_models::{ActivationPolicy, Composition, Network, Weights};
use candle_core::Device;
use cnn_graph::ops::{BatchNorm, Conv, Pool};
use cnn_graph::{Graph, GraphBuilder, GraphError};
use minimax_coeffs::Alpha;

const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/small_cnn.safetensors");

/// Three convolutions with batch norm and ReLU, two max-poolings, the mean of each channel, a linear layer. Layers have the
/// names that their weights have in PyTorch's state_dict; activations, which can be replaced later, may have any.
fn small_cnn() -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new([3, 32, 32]);
    let mut x = b.input();
    for (stage, outputs) in [(1, 16), (2, 32), (3, 64)] {
        // A 3×3 convolution, padded, with the batch norm behind it.
        let conv = Conv::same(outputs, 3);
        x = b.conv_bn(format!("conv{stage}"), format!("bn{stage}"), x, conv, BatchNorm::DEFAULT_EPS);
        x = b.relu(format!("relu{stage}"), x);
        if stage < 3 {
            x = b.max_pool(format!("pool{stage}"), x, Pool::square(2, 2)); // [16, 16, 16], [32, 8, 8]
        }
    }
    let x = b.global_avg_pool(x);
    let x = b.flatten(x); // [64]
    let x = b.linear("fc", x, demo::CLASSES.len()); // [10]
    b.finish(x)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "sweep/own-model".to_owned()));
    let weights = Weights::load(WEIGHTS, &Device::Cpu)?;
    let network = Network::build(small_cnn()?, &weights, &ActivationPolicy::exact())?;
    let (images, normalization) = (demo::images(), Normalization::CIFAR10);
    let job = Job { images: &images, normalization, batch_size: 100, device: Device::Cpu };
    let mut sweep = Sweep::new(("demo", "small-cnn"), network, WeightsIdentity::of(WEIGHTS)?, job)?;

    let cells = Cells::open(&folder.join("cells"))?;
    let settings: Vec<Setting> = Alpha::all().map(|alpha| Composition::published(alpha).into()).collect();
    println!("alpha  depth  B_relu  B_max    exact  accuracy  agreement");
    let points = sweep.run(&cells, &settings, &(), |_index, point| {
        println!("{}", line(&point.row));
        Ok::<_, EvalError>(())
    })?;
    let rows: Vec<Row> = points.into_iter().map(|point| point.row).collect();
    atomic_file::write(&folder.join("sweep.csv"), to_csv(&rows).as_bytes())?;
    Ok(())
}

/// A precision's results, or why there are none.
fn line(row: &Row) -> String {
    let (Some(relu), Some(max)) = (row.b_relu, row.b_max) else {
        return format!("{:5}  {}", row.alpha, row.unusable.as_deref().unwrap_or_default());
    };
    let percent = |share: Option<f64>| 100.0 * share.unwrap_or(f64::NAN);
    let (exact, approx, same) = (percent(row.exact_accuracy), percent(row.accuracy), percent(row.agreement));
    let depth = row.network_depth.unwrap_or_default();
    format!("{:5}  {depth:5}  {relu:6}  {max:5}  {exact:5.2} %  {approx:6.2} %  {same:7.2} %", row.alpha)
}
