//! Weights and data: found where they should be, or fetched there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use approx_data::DataError;
use approx_eval::report::WeightsIdentity;
use approx_fetch::terminal::TerminalProgress;
use approx_fetch::{FetchError, Fetcher, Mirror};
use approx_models::{Backbone, Weights};
use candle_core::Device;

/// Files that hold weights.
pub const EXTENSIONS: [&str; 3] = ["safetensors", "pt", "pth"];

/// How names end that look like those of weights, but are `train`'s checkpoints.
const NO_WEIGHTS: &str = ".checkpoint";

/// Data sets that `train` trains networks for.
pub const TRAINED: [&str; 3] = ["cifar10", "mnist", "fashion-mnist"];

/// Weights that can be fetched: data set, `--params-name`, and the manifest's source.
const FETCHED: [(&str, &str, Option<&str>); 3] = [
    ("cifar10", "ours", None),
    ("imagenet", "torchvision", Some("torchvision")),
    ("imagenet", "timm", Some("hub")),
];

/// The file in weights/`dataset` with a network's weights called `name`, fetched if it is missing and known, from the
/// mirror `from` if there is one. `file_option` takes a file instead.
///
/// # Errors
/// No such weights, with the names that there are; what fetching ends with.
pub fn weights_file(
    dataset: &str,
    backbone: &Backbone,
    name: &str,
    from: Option<&Mirror>,
    file_option: &str,
) -> Result<PathBuf> {
    if let Some(path) = find_weights(dataset, backbone, name) {
        return Ok(path);
    }
    let Some((_, _, source)) = FETCHED.iter().find(|(set, known, _)| *set == dataset && *known == name)
    else {
        let (path, others) = (stem(dataset, backbone, name), others(dataset, backbone));
        let extensions = EXTENSIONS.join(", .");
        let trained = TRAINED.contains(&dataset).then(|| {
            let backbone = backbone.name();
            format!("; `train --dataset {dataset} --backbone {backbone} --params-name {name}` makes them")
        });
        bail!(
            "there are no weights {}.{extensions}; {others}; {file_option} names a file{}",
            path.display(),
            trained.unwrap_or_default()
        );
    };
    fetch(&format!("{dataset}-params"), backbone.name(), *source, from, || {
        format!("the weights could not be fetched ({file_option} names a file, --from a mirror)")
    })?;
    find_weights(dataset, backbone, name).context("the weights were fetched, but are not there")
}

/// The weights in a file, and which file that was.
///
/// # Errors
/// With the file and what is wrong with it.
pub fn load_weights(path: &Path, device: &Device) -> Result<(Weights, WeightsIdentity)> {
    let weights = Weights::load(path, device)?;
    Ok((weights, WeightsIdentity::of(path)?))
}

/// Where weights are, without the extension.
fn stem(dataset: &str, backbone: &Backbone, name: &str) -> PathBuf {
    Path::new("weights").join(dataset).join(format!("{}_{name}", backbone.name()))
}

fn find_weights(dataset: &str, backbone: &Backbone, name: &str) -> Option<PathBuf> {
    let stem = stem(dataset, backbone, name).into_os_string();
    let candidates = EXTENSIONS.map(|extension| {
        let mut path = stem.clone();
        path.push(format!(".{extension}"));
        PathBuf::from(path)
    });
    candidates.into_iter().find(|path| path.exists())
}

/// The names of weights that there are for a backbone.
fn others(dataset: &str, backbone: &Backbone) -> String {
    let (folder, backbone) = (Path::new("weights").join(dataset), backbone.name());
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let known = path.extension().is_some_and(|e| EXTENSIONS.iter().any(|extension| e == *extension));
            let name = path.file_stem()?.to_str()?.strip_prefix(&format!("{backbone}_"))?.to_owned();
            (known && !name.ends_with(NO_WEIGHTS)).then_some(name)
        })
        .collect();
    names.sort();
    names.dedup();
    match names.as_slice() {
        [] => format!("there are none for {backbone} in {}", folder.display()),
        names => format!("names that are there for {backbone}: {}", names.join(", ")),
    }
}

/// The `part` of a data set from `folder`; from the default one if that is `None`, to which it is fetched if need be,
/// from the mirror `from` if there is one.
///
/// # Errors
/// Those of `load`; what fetching ends with.
pub fn images<T>(
    folder: Option<&Path>,
    dataset: &str,
    part: &str,
    from: Option<&Mirror>,
    load: impl Fn(&Path) -> approx_data::Result<T>,
) -> Result<T> {
    if let Some(folder) = folder {
        return Ok(load(folder)?);
    }
    let folder = Path::new("datasets").join(dataset);
    match load(&folder) {
        Err(DataError::MissingFolder(_) | DataError::NotFound { .. } | DataError::NoImageNet { .. }) => {
            fetch(dataset, part, None, from, || {
                "the data set could not be fetched (--dataset-path names a folder that has it, --from a mirror)"
                    .to_owned()
            })?;
            Ok(load(&folder)?)
        }
        images => Ok(images?),
    }
}

fn fetch(
    artifact: &str,
    key: &str,
    source: Option<&str>,
    from: Option<&Mirror>,
    failure: impl FnOnce() -> String,
) -> Result<()> {
    let fetcher = Fetcher::new(".").with_mirror(from.cloned()).with_source(source);
    let description = fetcher.manifest().artifact(artifact)?;
    eprintln!("Missing: {}. Fetching it; licence: {}", description.title, description.licence);
    let fetched = fetcher.fetch(artifact, Some(&[key]), &mut TerminalProgress::new());
    match fetched {
        Ok(_) => Ok(()),
        Err(error) if from.is_some() => Err(error.into()),
        Err(error @ FetchError::TokenMissing { .. }) => {
            let layouts = description.layouts.join("\n  ");
            bail!(
                "{error}\n\nOr let --dataset-path name a folder with images that you have, as one of\n  {layouts}"
            )
        }
        Err(error) => Err(error).with_context(failure),
    }
}
