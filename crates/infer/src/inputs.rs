//! Weights and data: found where they should be, or fetched there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use approx_data::cifar10::{self, Split};
use approx_data::{DataError, ImageSet};
use approx_eval::output::sha256_of_file;
use approx_eval::report::WeightsFile;
use approx_fetch::Fetcher;
use approx_fetch::terminal::TerminalProgress;
use approx_models::Weights;
use candle_core::Device;

use crate::args::{Cifar10Args, CommonArgs};

const DATASET: &str = "datasets/cifar10";
const WEIGHTS: &str = "weights/cifar10";

/// The device that was asked for.
pub fn device(args: &CommonArgs) -> Result<Device> {
    match args.gpu {
        None => Ok(Device::Cpu),
        Some(id) => {
            bail!("--gpu {id}: this program was built without CUDA; leave --gpu out to run on the CPU")
        }
    }
}

/// The weights of a CIFAR-10 network, fetched if they are the authors' and missing.
pub fn cifar10_weights(
    args: &Cifar10Args,
    backbone: &str,
    device: &Device,
) -> Result<(Weights, WeightsFile)> {
    let path = match &args.params {
        Some(path) => path.clone(),
        None => match find_weights(backbone, &args.params_name) {
            Some(path) => path,
            None if args.params_name == "ours" => {
                fetch(args, "cifar10-params", backbone)?;
                find_weights(backbone, "ours").context("the weights were fetched, but are not there")?
            }
            None => bail!(
                "there are no weights {WEIGHTS}/{backbone}_{name}.safetensors or .pt; {}",
                others(backbone),
                name = args.params_name,
            ),
        },
    };
    let weights = Weights::load(&path, device)?;
    let sha256 = sha256_of_file(&path).with_context(|| path.display().to_string())?;
    Ok((weights, WeightsFile { file: path.display().to_string(), sha256 }))
}

fn find_weights(backbone: &str, name: &str) -> Option<PathBuf> {
    let candidates = ["safetensors", "pt"].map(|e| Path::new(WEIGHTS).join(format!("{backbone}_{name}.{e}")));
    candidates.into_iter().find(|path| path.exists())
}

/// The names of weights that there are for a backbone.
fn others(backbone: &str) -> String {
    let mut names: Vec<String> = std::fs::read_dir(WEIGHTS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let known = path.extension().is_some_and(|e| e == "pt" || e == "safetensors");
            let name = path.file_stem()?.to_str()?.strip_prefix(&format!("{backbone}_"))?.to_owned();
            known.then_some(name)
        })
        .collect();
    names.sort();
    names.dedup();
    match names.as_slice() {
        [] => format!("there are none for {backbone} in {WEIGHTS}"),
        names => format!("names that are there for {backbone}: {}", names.join(", ")),
    }
}

/// CIFAR-10's test images, fetched if they should be in the default folder and are not.
pub fn cifar10_images(args: &Cifar10Args) -> Result<ImageSet> {
    if let Some(folder) = &args.dataset_path {
        return Ok(cifar10::load(folder, Split::Test)?);
    }
    match cifar10::load(DATASET, Split::Test) {
        Err(DataError::MissingFolder(_) | DataError::NotFound { .. }) => {
            fetch(args, "cifar10", "test")?;
            Ok(cifar10::load(DATASET, Split::Test)?)
        }
        images => Ok(images?),
    }
}

fn fetch(args: &Cifar10Args, artifact: &str, key: &str) -> Result<()> {
    let fetcher = Fetcher::new(".").with_mirror(args.from.clone());
    let description = fetcher.manifest().artifact(artifact)?;
    eprintln!("Missing: {}. Fetching it; licence: {}", description.title, description.licence);
    let fetched = fetcher.fetch(artifact, Some(&[key]), &mut TerminalProgress::new());
    match fetched {
        Ok(_) => Ok(()),
        Err(error) if args.from.is_some() => Err(error.into()),
        Err(error) => Err(error).context(match artifact {
            "cifar10" => "the data set could not be fetched (--dataset-path names a folder that has it, --from a mirror)",
            _ => "the weights could not be fetched (--params names a file, --from a mirror)",
        }),
    }
}
