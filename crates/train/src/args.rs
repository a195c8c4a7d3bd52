//! The command line. The reference's spellings of its options work too (`--params_name`, `--dataset_path`).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use approx_cli::device::DeviceArgs;
use approx_cli::options::{Simd, bound};
use approx_fetch::Mirror;
use clap::{Args, Parser};
use minimax_coeffs::Alpha;

use crate::dataset::DataSet;
use crate::recipe::{Approximation, Preset, Recipe, Schedule};

/// Train a network, from the beginning or on through the approximation of its activations.
///
/// The defaults are Lee et al.'s recipe for CIFAR-10. `infer DATASET BACKBONE --params-name NAME` evaluates what comes
/// out, and with NAME-best the epoch with the best test accuracy.
#[derive(Debug, Parser)]
#[command(version, after_help = FILES)]
pub struct Cli {
    /// What to train it for
    #[arg(long, value_name = "DATASET", default_value = "cifar10")]
    pub dataset: DataSet,

    /// Which network. For cifar10: resnet20, 32, 44, 56, 110, vgg11bn, 13bn, 16bn or 19bn [default: resnet20]; for mnist
    /// and fashion-mnist: lenet5
    #[arg(long, value_name = "BACKBONE")]
    backbone: Option<String>,

    /// What to call the weights, and not `ours`, which are the authors'
    #[arg(long, alias = "params_name", value_name = "NAME")]
    pub params_name: String,

    /// Go on with an earlier run, by its own recipe. Flags that contradict it are refused; but with a schedule of
    /// steps, --epochs may be another
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,

    /// Replace the files of an earlier run
    #[arg(long)]
    pub force: bool,

    #[command(flatten, next_help_heading = "Recipe")]
    pub recipe: RecipeArgs,

    #[command(flatten, next_help_heading = "Fine-tuning")]
    pub tuning: TuningArgs,

    #[command(flatten, next_help_heading = "Data")]
    pub data: DataArgs,

    /// Folder for all that is written [default: weights/DATASET]
    #[arg(long, value_name = "DIR", help_heading = "Machine and files")]
    output: Option<PathBuf>,

    /// CPU threads [default: all]. Results are the same, bit by bit, for the same number
    #[arg(long, value_name = "N", help_heading = "Machine and files")]
    pub threads: Option<NonZeroUsize>,

    #[command(flatten, next_help_heading = "Machine and files")]
    pub device: DeviceArgs,

    /// Vector instructions [default: the best there are]
    #[arg(long, value_name = "LEVEL", help_heading = "Machine and files")]
    pub simd: Option<Simd>,

    /// Log what is done (-vv: in detail) instead of showing progress bars
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Machine and files")]
    pub verbose: u8,
}

const FILES: &str = "\
Files, all beginning with DIR/BACKBONE_NAME and all written whole or not at all:
  .safetensors               the weights after the last epoch
  -best.safetensors          those of the epoch with the best test accuracy
  .history.csv, .svg         loss and accuracy of each epoch as a table and as a picture
  .checkpoint.safetensors    what --resume goes on from: after each epoch, and after Ctrl-C";

#[derive(Debug, Args)]
pub struct RecipeArgs {
    /// Where the defaults below come from [default: reference]
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<Preset>,

    /// How often to go through the images [reference: 200, fast: 8]
    #[arg(long, value_name = "N")]
    pub epochs: Option<NonZeroUsize>,

    /// Images at a time [both: 128]
    #[arg(long, alias = "batch_size", value_name = "N")]
    pub batch_size: Option<NonZeroUsize>,

    /// How the learning rate changes [reference: steps, fast: one-cycle]
    #[arg(long, value_name = "SCHEDULE")]
    pub schedule: Option<Schedule>,

    /// Learning rate: the first one of steps, the largest one of one-cycle; 0.03 in fast for mnist and fashion-mnist
    /// [reference: 0.001, fast: 0.1]
    #[arg(long, value_name = "RATE", value_parser = positive, allow_negative_numbers = true)]
    pub lr: Option<f64>,

    /// Steps: epochs after which the learning rate is multiplied by --gamma [both: 100,150]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub milestones: Option<Vec<usize>>,

    /// Steps: what it is multiplied by [both: 0.1]
    #[arg(long, value_name = "FACTOR", value_parser = positive, allow_negative_numbers = true)]
    pub gamma: Option<f64>,

    /// One-cycle: the share of all steps in which the learning rate rises [both: 0.2]
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true)]
    pub warm_up: Option<f64>,

    /// Share of the velocity that each step keeps [both: 0.9]
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true)]
    pub momentum: Option<f64>,

    /// Plain momentum, not Nesterov's
    #[arg(long)]
    pub no_nesterov: bool,

    /// Multiple of the weights that is added to their gradients [reference: 0.005, fast: 0.0005]
    #[arg(long, alias = "weight_decay", value_name = "FACTOR", value_parser = not_negative, allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,

    /// Keep the images in the file's order, as the authors' code does
    #[arg(long)]
    pub no_shuffle: bool,

    /// Black pixels around an image before a window is cut out of it at random; 0 for none [both: 4; for mnist and
    /// fashion-mnist: 2]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(0..=Recipe::MOST_PADDING as i64))]
    pub crop_padding: Option<u16>,

    /// Do not mirror every other image; those of mnist never are
    #[arg(long)]
    pub no_flip: bool,

    /// Images as they are: --crop-padding 0 --no-flip
    #[arg(long, conflicts_with = "crop_padding")]
    pub no_augment: bool,

    /// Keep all units of VGG's linear layers, instead of half of them, chosen anew in each step
    #[arg(long)]
    pub no_dropout: bool,

    /// Decides all that is random: weights, order, windows, mirror images, dropout [both: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
pub struct TuningArgs {
    /// Begin with these weights instead of random ones: BACKBONE_NAME in weights/DATASET (`ours` of cifar10 are fetched),
    /// or a file
    #[arg(long, value_name = "NAME|FILE")]
    pub init: Option<String>,

    /// Train through the approximation, and test with it, as alpha=7,b-relu=20,b-max=20 (bounds of 50 if left out). A
    /// value out of range, beyond -B or B, goes through the exact function and is counted
    #[arg(long, value_name = "alpha=BITS,…", value_parser = approximation)]
    pub approx: Option<Approximation>,

    /// As --approx, with bounds and precision of each activation from this file, which `infer calibrate` writes
    #[arg(long, value_name = "FILE.json", conflicts_with = "approx")]
    pub policy: Option<PathBuf>,

    /// Weight of a penalty on |x| near B and beyond, with --approx or --policy: of the mean over images of the sum over all
    /// inputs of max(|x|/B - 0.9, 0)² [default: 0]
    #[arg(long, value_name = "WEIGHT", value_parser = not_negative, allow_negative_numbers = true)]
    pub range_penalty: Option<f64>,
}

#[derive(Debug, Args)]
pub struct DataArgs {
    /// Folder of the data set [default: datasets/DATASET, fetched if missing]
    #[arg(long, alias = "dataset_path", value_name = "DIR")]
    pub dataset_path: Option<PathBuf>,

    /// Only the first N images for training
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,

    /// Only the first N images for the test
    #[arg(long, value_name = "N")]
    pub limit_test: Option<NonZeroUsize>,

    /// Fetch what is missing from this mirror only
    #[arg(long, value_name = "DIR_OR_URL")]
    pub from: Option<Mirror>,
}

impl Cli {
    /// The network's name.
    pub fn backbone(&self) -> &str {
        self.backbone.as_deref().unwrap_or(self.dataset.backbone())
    }

    /// The folder for all that is written.
    pub fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| Path::new("weights").join(self.dataset.name()))
    }

    /// `base` with the preset and all else that was given.
    pub fn recipe(&self, base: &Recipe) -> Recipe {
        let RecipeArgs { preset, .. } = &self.recipe;
        let mut recipe = base.clone();
        if let Some(preset) = preset {
            recipe = Recipe {
                seed: base.seed,
                limit: base.limit,
                limit_test: base.limit_test,
                init: base.init.clone(),
                approx: base.approx,
                policy: base.policy.clone(),
                range_penalty: base.range_penalty,
                ..preset.recipe(base.dataset, &base.backbone)
            };
        }
        recipe.dataset = self.dataset;
        let RecipeArgs { epochs, batch_size, schedule, lr, milestones, gamma, warm_up, .. } = &self.recipe;
        set(&mut recipe.epochs, epochs.map(NonZeroUsize::get));
        set(&mut recipe.batch_size, batch_size.map(NonZeroUsize::get));
        set(&mut recipe.schedule, *schedule);
        set(&mut recipe.lr, *lr);
        set(&mut recipe.milestones, milestones.clone());
        set(&mut recipe.gamma, *gamma);
        set(&mut recipe.warm_up, *warm_up);
        let RecipeArgs { momentum, weight_decay, crop_padding, seed, .. } = &self.recipe;
        set(&mut recipe.momentum, *momentum);
        set(&mut recipe.weight_decay, *weight_decay);
        set(&mut recipe.crop_padding, crop_padding.map(usize::from));
        set(&mut recipe.seed, *seed);
        let RecipeArgs { no_nesterov, no_shuffle, no_flip, no_augment, no_dropout, .. } = self.recipe;
        recipe.nesterov &= !no_nesterov;
        recipe.shuffle &= !no_shuffle;
        recipe.dropout &= !no_dropout;
        recipe.flip &= !(no_flip || no_augment);
        set(&mut recipe.crop_padding, no_augment.then_some(0));
        set(&mut recipe.limit, self.data.limit.map(|limit| Some(limit.get())));
        set(&mut recipe.limit_test, self.data.limit_test.map(|limit| Some(limit.get())));
        set(&mut recipe.init, self.tuning.init.clone().map(Some));
        set(&mut recipe.approx, self.tuning.approx.map(Some));
        set(&mut recipe.range_penalty, self.tuning.range_penalty);
        recipe
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

fn number(text: &str, what: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && fits(value) => Ok(value),
        Ok(value) => Err(format!("it must be {what}, not {value:?}")),
        Err(_) => Err("not a number".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, "positive and finite", |value| value > 0.0)
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "0 or positive, and finite", |value| value >= 0.0)
}

fn share(text: &str) -> Result<f64, String> {
    number(text, "at least 0 and less than 1", |value| (0.0..1.0).contains(&value))
}

fn approximation(text: &str) -> Result<Approximation, String> {
    let (mut alpha, mut b_relu, mut b_max) = (None, None, None);
    let twice = |name: &str| format!("{name} is given twice");
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not NAME=VALUE"))?;
        let error = |error: String| format!("{name}: {error}");
        let old = match name.replace('_', "-").to_lowercase().as_str() {
            "alpha" => alpha.replace(value.parse::<Alpha>().map_err(|e| error(e.to_string()))?).is_some(),
            "b-relu" => b_relu.replace(bound(value).map_err(error)?).is_some(),
            "b-max" => b_max.replace(bound(value).map_err(error)?).is_some(),
            _ => return Err(format!("`{name}` is none of alpha, b-relu and b-max")),
        };
        if old {
            return Err(twice(name));
        }
    }
    // The bounds are `infer cifar10`'s.
    let (b_relu, b_max) = (b_relu.unwrap_or(50.0), b_max.unwrap_or(50.0));
    Ok(Approximation { alpha: alpha.ok_or("alpha is missing")?, b_relu, b_max })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn recipe(arguments: &[&str], base: &Recipe) -> Recipe {
        Cli::parse_from([&["train", "--params-name", "mine"], arguments].concat()).recipe(base)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_the_defaults_of_both_presets() {
        let help = Cli::command().render_help().to_string();
        let (reference, fast) =
            (Preset::Reference.recipe(DataSet::Cifar10, ""), Preset::Fast.recipe(DataSet::Cifar10, ""));
        for default in [
            format!("[reference: {}, fast: {}]", reference.epochs, fast.epochs),
            format!("[reference: {}, fast: {}]", reference.lr, fast.lr),
            format!("[reference: {}, fast: {}]", reference.weight_decay, fast.weight_decay),
            "[reference: steps, fast: one-cycle]".to_owned(),
        ] {
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words(&help).contains(&default), "{default}: {help}");
        }
    }

    #[test]
    fn flags_override_the_preset_and_the_preset_the_base() {
        let base = Preset::Reference.recipe(DataSet::Cifar10, "resnet20");
        assert_eq!(recipe(&[], &base), base);
        assert_eq!(recipe(&["--preset", "fast"], &base), Preset::Fast.recipe(DataSet::Cifar10, "resnet20"));
        assert!(!recipe(&["--no-dropout"], &base).dropout);
        let found = recipe(&["--preset", "fast", "--lr", "0.3", "--no-augment", "--limit", "7"], &base);
        let fast = Preset::Fast.recipe(DataSet::Cifar10, "resnet20");
        assert_eq!(found, Recipe { lr: 0.3, crop_padding: 0, flip: false, limit: Some(7), ..fast });
        let old = Recipe { seed: 5, limit: Some(9), ..base.clone() };
        assert_eq!(recipe(&["--preset", "reference"], &old), old);
        assert_eq!(
            recipe(&["--no-nesterov", "--no-shuffle"], &old),
            Recipe { nesterov: false, shuffle: false, ..old }
        );
    }

    #[test]
    fn the_data_set_decides_network_folder_and_augmentation() {
        for (dataset, backbone, output, crop_padding, flip) in [
            ("cifar10", "resnet20", "weights/cifar10", 4, true),
            ("mnist", "lenet5", "weights/mnist", 2, false),
            ("fashion-mnist", "lenet5", "weights/fashion-mnist", 2, true),
        ] {
            let cli = Cli::parse_from(["train", "--params-name", "mine", "--dataset", dataset]);
            assert_eq!((cli.backbone(), cli.output()), (backbone, PathBuf::from(output)));
            for preset in [Preset::Reference, Preset::Fast] {
                let recipe = cli.recipe(&preset.recipe(cli.dataset, cli.backbone()));
                assert_eq!((recipe.crop_padding, recipe.flip), (crop_padding, flip), "{dataset}");
            }
        }
    }

    #[test]
    fn approximations_are_read_part_by_part() {
        let alpha = |bits: &str| bits.parse::<Alpha>().unwrap();
        assert_eq!(
            approximation("alpha=7,b-relu=20,B_max=2.5"),
            Ok(Approximation { alpha: alpha("7"), b_relu: 20.0, b_max: 2.5 })
        );
        assert_eq!(
            approximation("alpha=14"),
            Ok(Approximation { alpha: alpha("14"), b_relu: 50.0, b_max: 50.0 })
        );
        for (text, expected) in [
            ("", "`` is not NAME=VALUE"),
            ("b-relu=20", "alpha is missing"),
            ("alpha=15", "alpha: "),
            ("alpha=7,b-relu=-1", "b-relu: "),
            ("alpha=7,alpha=8", "alpha is given twice"),
            ("alpha=7,beta=8", "`beta` is none of alpha, b-relu and b-max"),
        ] {
            let error = approximation(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
