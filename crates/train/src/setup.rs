//! From the command line to a run: everything that can be refused before work begins.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use approx_cli::inputs::{EXTENSIONS, images, load_weights, weights_file};
use approx_data::{ImageSet, Split};
use approx_eval::PolicyFile;
use approx_models::{Backbone, Weights, initial_weights};
use candle_core::Device;

use crate::args::Cli;
use crate::checkpoint::{Checkpoint, Fingerprint, Fingerprints, Header, Tensors};
use crate::files::Files;
use crate::recipe::{Preset, Recipe};
use crate::run::Images;

/// All that a run needs.
pub struct Setup {
    pub backbone: &'static Backbone,
    pub files: Files,
    pub images: Images,
    pub header: Header,
    pub weights: Weights,
    pub velocity: Tensors,
}

/// Checks and loads everything.
pub fn prepare(args: &Cli) -> Result<Setup> {
    let backbone = Backbone::find(args.dataset.name(), args.backbone())?;
    let files = Files::new(&args.output(), backbone.name(), name(args)?);
    let earlier = match args.resume {
        true => Some(
            Checkpoint::read(&files.checkpoint()).context("there is nothing that --resume can go on with")?,
        ),
        false => None,
    };
    if earlier.is_none() && !args.force {
        files.check_new()?;
    }
    let recipe = recipe(args, backbone, earlier.as_ref())?;
    files.prepare()?;

    let dataset_path = match (&args.data.dataset_path, &earlier) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(earlier)) => earlier.header.dataset_path.clone(),
        (None, None) => None,
    };
    // Before the data, which takes longer to fetch and to read.
    let initial = match earlier {
        None => Some(initial(args, &recipe, backbone)?),
        Some(_) => None,
    };
    let images = Images {
        train: load(args, dataset_path.as_deref(), Split::Train, recipe.limit)?,
        test: load(args, dataset_path.as_deref(), Split::Test, recipe.limit_test)?,
    };
    let data = Fingerprints { train: Fingerprint::of(&images.train), test: Fingerprint::of(&images.test) };
    let threads = rayon::current_num_threads();
    let Some(Checkpoint { mut header, weights, velocity }) = earlier else {
        let header = Header::new(recipe, data, dataset_path, threads);
        let weights = initial.context("weights to begin with")?;
        return Ok(Setup { backbone, files, images, header, weights, velocity: Tensors::new() });
    };
    for (name, old, new) in
        [("training", &header.data.train, &data.train), ("test", &header.data.test, &data.test)]
    {
        if old != new {
            bail!("the {name} images are others than the checkpoint's: {new}, not {old}");
        }
    }
    if header.threads != threads {
        eprintln!(
            "note: {threads} threads, not the {} of the run before: the last digits may come out differently",
            header.threads
        );
    }
    (header.recipe, header.dataset_path, header.threads) = (recipe, dataset_path, threads);
    let origin = files.checkpoint().display().to_string();
    let weights = Weights::from_tensors(weights.into_iter().collect(), &Device::Cpu, origin)?;
    Ok(Setup { backbone, files, images, header, weights, velocity })
}

/// The name of the weights, if it is one.
fn name(args: &Cli) -> Result<&str> {
    let name = args.params_name.as_str();
    if name == "ours" {
        bail!("--params-name ours: these are the authors' weights; choose another name");
    }
    if name.is_empty() || name.contains(['/', '\\']) {
        bail!("--params-name `{name}`: it is to be a part of a file's name; --output names the folder");
    }
    Ok(name)
}

/// What the flags say, on top of the earlier run's recipe if there is one.
fn recipe(args: &Cli, backbone: &Backbone, earlier: Option<&Checkpoint>) -> Result<Recipe> {
    let policy = args.tuning.policy.as_ref().map(|path| PolicyFile::read(path, backbone.name()));
    let policy = policy.transpose()?.map(|file| file.policy);
    let with_policy = |base: &Recipe| {
        let recipe = args.recipe(base);
        Recipe { policy: policy.or_else(|| recipe.policy.clone()), ..recipe }
    };
    let Some(Checkpoint { header, .. }) = earlier else {
        return checked(with_policy(&Preset::Reference.recipe(args.dataset, backbone.name())));
    };
    let recipe = with_policy(&header.recipe);
    let differences = recipe.differences(&header.recipe);
    if !differences.is_empty() {
        bail!("--resume goes on with the checkpoint's recipe, but {}", differences.join(", "));
    }
    let done = header.position.epoch + usize::from(header.position.batch > 0);
    if recipe.epochs < done {
        bail!("--epochs {}: the checkpoint is in epoch {done} already", recipe.epochs);
    }
    checked(recipe)
}

fn checked(recipe: Recipe) -> Result<Recipe> {
    if recipe.range_penalty > 0.0 && recipe.approx.is_none() && recipe.policy.is_none() {
        bail!("--range-penalty {}: there is no range without --approx or --policy", recipe.range_penalty);
    }
    Ok(recipe)
}

/// The weights to begin with.
fn initial(args: &Cli, recipe: &Recipe, backbone: &Backbone) -> Result<Weights> {
    let Some(init) = &recipe.init else { return Ok(initial_weights(backbone, recipe.seed)?) };
    let path = match is_file(init) {
        true => PathBuf::from(init),
        false => weights_file(backbone.dataset(), backbone, init, args.data.from.as_ref(), "--init")?,
    };
    Ok(load_weights(&path, &Device::Cpu)?.0)
}

/// Whether it is the name of a file, and not one of weights.
fn is_file(init: &str) -> bool {
    let extension = Path::new(init).extension().and_then(|extension| extension.to_str());
    init.contains(['/', '\\']) || extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// A part of the data set, fetched if it should be in the default folder and is not.
fn load(args: &Cli, folder: Option<&Path>, split: Split, limit: Option<usize>) -> Result<ImageSet> {
    let part = if split == Split::Train { "train" } else { "test" };
    let load = |folder: &Path| args.dataset.load(folder, split);
    let images = images(folder, args.dataset.name(), part, args.data.from.as_ref(), load)?;
    if images.is_empty() {
        bail!("the data set has no {part} images");
    }
    Ok(images.truncated(limit.unwrap_or(usize::MAX)))
}
