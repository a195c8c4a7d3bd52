//! Weights and data: found where they should be, or fetched there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use approx_data::cifar10::{self, Split};
use approx_data::{DataError, ImageNet, ImageSet, OnCorrupt, Preprocess};
use approx_eval::output::sha256_of_file;
use approx_eval::report::WeightsFile;
use approx_fetch::terminal::TerminalProgress;
use approx_fetch::{FetchError, Fetcher};
use approx_models::{Backbone, Weights};
use candle_core::Device;

use crate::args::{CommonArgs, ImageNetArgs, NetworkArgs};

/// Files that hold weights.
const EXTENSIONS: [&str; 3] = ["safetensors", "pt", "pth"];

/// Weights that can be fetched: data set, `--params-name`, and the manifest's source.
const FETCHED: [(&str, &str, Option<&str>); 3] = [
    ("cifar10", "ours", None),
    ("imagenet", "torchvision", Some("torchvision")),
    ("imagenet", "timm", Some("hub")),
];

/// The device that was asked for.
pub fn device(args: &CommonArgs) -> Result<Device> {
    match args.gpu {
        None => Ok(Device::Cpu),
        Some(id) => {
            bail!("--gpu {id}: this program was built without CUDA; leave --gpu out to run on the CPU")
        }
    }
}

/// The weights of a network, fetched if they are missing and known.
pub fn weights(args: &NetworkArgs, backbone: &Backbone, device: &Device) -> Result<(Weights, WeightsFile)> {
    let name = &args.params_name;
    let path = match &args.params {
        Some(path) => path.clone(),
        None => match find_weights(backbone, name) {
            Some(path) => path,
            None => {
                let known =
                    FETCHED.iter().find(|(set, known, _)| *set == backbone.dataset() && known == name);
                let Some((_, _, source)) = known else {
                    let path = stem(backbone, name);
                    let others = others(backbone);
                    bail!("there are no weights {}.{}; {others}", path.display(), EXTENSIONS.join(", ."));
                };
                fetch(args, &format!("{}-params", backbone.dataset()), backbone.name(), *source)?;
                find_weights(backbone, name).context("the weights were fetched, but are not there")?
            }
        },
    };
    let weights = Weights::load(&path, device)?;
    let sha256 = sha256_of_file(&path).with_context(|| path.display().to_string())?;
    Ok((weights, WeightsFile { file: path.display().to_string(), sha256 }))
}

/// Where weights are, without the extension.
fn stem(backbone: &Backbone, name: &str) -> PathBuf {
    Path::new("weights").join(backbone.dataset()).join(format!("{}_{name}", backbone.name()))
}

fn find_weights(backbone: &Backbone, name: &str) -> Option<PathBuf> {
    let stem = stem(backbone, name).into_os_string();
    let candidates = EXTENSIONS.map(|extension| {
        let mut path = stem.clone();
        path.push(format!(".{extension}"));
        PathBuf::from(path)
    });
    candidates.into_iter().find(|path| path.exists())
}

/// The names of weights that there are for a backbone.
fn others(backbone: &Backbone) -> String {
    let (folder, backbone) = (Path::new("weights").join(backbone.dataset()), backbone.name());
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let known = path.extension().is_some_and(|e| EXTENSIONS.iter().any(|extension| e == *extension));
            let name = path.file_stem()?.to_str()?.strip_prefix(&format!("{backbone}_"))?.to_owned();
            known.then_some(name)
        })
        .collect();
    names.sort();
    names.dedup();
    match names.as_slice() {
        [] => format!("there are none for {backbone} in {}", folder.display()),
        names => format!("names that are there for {backbone}: {}", names.join(", ")),
    }
}

/// CIFAR-10's test images, fetched if they should be in the default folder and are not.
pub fn cifar10_images(args: &NetworkArgs) -> Result<ImageSet> {
    let limit = args.common.limit.map_or(usize::MAX, std::num::NonZeroUsize::get);
    let images = images(args, "cifar10", "test", |folder| cifar10::load(folder, Split::Test))?;
    Ok(images.truncated(limit))
}

/// ImageNet's validation images, fetched if they should be in the default folder and are not.
pub fn imagenet_images(args: &ImageNetArgs) -> Result<ImageNet> {
    // torchvision's 256 for 224, and 342 for Inception-v3's 299.
    let in_proportion = || (args.image_size as f64 * 256.0 / 224.0).round() as usize;
    let preprocess = Preprocess::new(args.resize.unwrap_or_else(in_proportion), args.image_size)?;
    let on_corrupt = if args.skip_corrupt { OnCorrupt::Skip } else { OnCorrupt::Fail };
    let limit = args.network.common.limit.map(std::num::NonZeroUsize::get);
    images(&args.network, "imagenet", "validation", |folder| {
        ImageNet::open(folder, preprocess, on_corrupt, limit)
    })
}

/// A data set from the folder that was named; from the default one if not, to which it is fetched if need be.
fn images<T>(
    args: &NetworkArgs,
    dataset: &str,
    part: &str,
    load: impl Fn(&Path) -> approx_data::Result<T>,
) -> Result<T> {
    if let Some(folder) = &args.dataset_path {
        return Ok(load(folder)?);
    }
    let folder = Path::new("datasets").join(dataset);
    match load(&folder) {
        Err(DataError::MissingFolder(_) | DataError::NotFound { .. } | DataError::NoImageNet { .. }) => {
            fetch(args, dataset, part, None)?;
            Ok(load(&folder)?)
        }
        images => Ok(images?),
    }
}

fn fetch(args: &NetworkArgs, artifact: &str, key: &str, source: Option<&str>) -> Result<()> {
    let fetcher = Fetcher::new(".").with_mirror(args.from.clone()).with_source(source);
    let description = fetcher.manifest().artifact(artifact)?;
    eprintln!("Missing: {}. Fetching it; licence: {}", description.title, description.licence);
    let fetched = fetcher.fetch(artifact, Some(&[key]), &mut TerminalProgress::new());
    match fetched {
        Ok(_) => Ok(()),
        Err(error) if args.from.is_some() => Err(error.into()),
        Err(error @ FetchError::TokenMissing { .. }) => {
            let layouts = description.layouts.join("\n  ");
            bail!("{error}\n\nOr let --dataset-path name a folder with images that you have, as one of\n  {layouts}")
        }
        Err(error) => Err(error).context(match artifact.strip_suffix("-params") {
            None => "the data set could not be fetched (--dataset-path names a folder that has it, --from a mirror)",
            Some(_) => "the weights could not be fetched (--params names a file, --from a mirror)",
        }),
    }
}
