//! The command line. The reference's spellings of its options work too (`--B_relu`, `--approx_method`, …).

use std::num::NonZeroUsize;
use std::path::PathBuf;

use approx_cli::device::DeviceArgs;
use approx_cli::options::{Simd, bound};
use approx_fetch::Mirror;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use minimax_coeffs::Alpha;

/// Evaluate a network exactly and with its ReLUs and max-poolings replaced by what homomorphic encryption can
/// compute, and compare the two.
#[derive(Debug, Parser)]
#[command(version, infer_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// Log what is done (-vv: in detail) instead of showing progress bars
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

impl Cli {
    /// The program's arguments; exits if they are wrong.
    pub fn from_arguments() -> Self {
        let matches = Self::whole().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The command with the defaults of each data set.
    fn whole() -> clap::Command {
        let imagenet = |defaults: &'static [(&'static str, &'static str)]| {
            move |command: clap::Command| {
                defaults.iter().fold(command, |command, &(name, value)| {
                    command.mut_arg(name, |argument| argument.default_value(value))
                })
            }
        };
        Self::command()
            .mut_subcommand("imagenet", imagenet(&IMAGENET_DEFAULTS))
            .mut_subcommand("sweep", |sweep| {
                sweep.mut_subcommand("imagenet", imagenet(&IMAGENET_SWEEP_DEFAULTS))
            })
            .mut_subcommand("calibrate", |calibrate| {
                calibrate.mut_subcommand("imagenet", imagenet(&IMAGENET_CALIBRATE_DEFAULTS))
            })
    }
}

/// Where they differ from CIFAR-10's.
const IMAGENET_DEFAULTS: [(&str, &str); 6] = [
    ("backbone", "resnet152"),
    ("b_relu", "100"),
    ("b_max", "10"),
    ("b_search", "10"),
    ("params_name", "torchvision"),
    ("batch_inf", "16"),
];

/// The same of `sweep`.
const IMAGENET_SWEEP_DEFAULTS: [(&str, &str); 3] =
    [("backbones", "resnet152"), ("params_name", "torchvision"), ("batch_inf", "16")];

/// The same of `calibrate`.
const IMAGENET_CALIBRATE_DEFAULTS: [(&str, &str); 3] =
    [("backbone", "resnet152"), ("params_name", "torchvision"), ("batch_inf", "16")];

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Evaluate a CIFAR-10 network; fetches its weights and the data set if they are missing
    Cifar10(NetworkArgs),
    /// Evaluate an ImageNet network; fetches its weights if they are missing
    #[command(name = "imagenet")]
    ImageNet(ImageNetArgs),
    /// Evaluate an embedded network on 1,000 embedded images over alpha 8 to 14; needs no download
    Demo(DemoArgs),
    /// Evaluate networks at several precisions and put the results in a table; goes on where it was stopped
    #[command(subcommand)]
    Sweep(SweepCommand),
    /// Measure what each activation sees, and write a policy with a bound for each
    #[command(subcommand)]
    Calibrate(CalibrateCommand),
}

impl Command {
    pub fn machine(&mut self) -> &mut MachineArgs {
        match self {
            Self::Cifar10(args) => &mut args.common.machine,
            Self::ImageNet(args) => &mut args.network.common.machine,
            Self::Demo(args) => &mut args.common.machine,
            Self::Sweep(command) => command.machine(),
            Self::Calibrate(command) => command.machine(),
        }
    }
}

/// A network that is trained for a data set. The defaults are CIFAR-10's.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Which network: --list names them
    #[arg(value_name = "BACKBONE", default_value = "resnet20")]
    pub backbone: String,

    #[arg(long = "backbone", value_name = "BACKBONE", hide = true, conflicts_with = "backbone")]
    pub backbone_option: Option<String>,

    /// Name the networks and exit
    #[arg(long)]
    pub list: bool,

    /// Precision of the approximation in bits: 4 to 14, or what --coefficients offers
    #[arg(long, default_value_t = Alpha::MAX.bits(), value_parser = bits, allow_negative_numbers = true)]
    pub alpha: u8,

    /// Bound of ReLU's approximation range [-B, B]
    #[arg(long, alias = "B_relu", value_name = "B", default_value_t = 50.0, value_parser = bound, allow_negative_numbers = true)]
    pub b_relu: f64,

    /// Bound of max-pooling's approximation range
    #[arg(long, alias = "B_max", value_name = "B", default_value_t = 50.0, value_parser = bound, allow_negative_numbers = true)]
    pub b_max: f64,

    /// By how much a bound grows when a value leaves the range; 0 to fail instead
    #[arg(long, alias = "B_search", value_name = "STEP", default_value_t = 5.0, value_parser = step, allow_negative_numbers = true)]
    pub b_search: f64,

    /// Bounds and precision of each activation from this file, which `infer calibrate` writes
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["alpha", "b_relu", "b_max", "b_search", "coefficients", "approx_method"])]
    pub policy: Option<PathBuf>,

    #[command(flatten)]
    pub sources: SourceArgs,

    #[arg(long, hide = true, value_parser = ["inf"])]
    pub mode: Option<String>,

    #[command(flatten)]
    pub common: CommonArgs,
}

impl NetworkArgs {
    pub fn backbone(&self) -> &str {
        self.backbone_option.as_ref().unwrap_or(&self.backbone)
    }
}

/// Where images and weights are.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Folder of the data set [default: datasets/ and its name, fetched if missing]
    #[arg(long, alias = "dataset_path", value_name = "DIR")]
    pub dataset_path: Option<PathBuf>,

    /// Which weights in the folder weights/ and the data set's name: BACKBONE_NAME.safetensors, .pt or .pth
    #[arg(long, alias = "params_name", value_name = "NAME", default_value = "ours")]
    pub params_name: String,

    /// Weights from this file (.safetensors, or .pt or .pth as PyTorch writes it)
    #[arg(long, value_name = "FILE", conflicts_with = "params_name")]
    pub params: Option<PathBuf>,

    /// Fetch what is missing from this mirror only
    #[arg(long, value_name = "DIR_OR_URL")]
    pub from: Option<Mirror>,
}

/// Networks at several precisions. The defaults are CIFAR-10's.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Which networks, separated by commas or spaces
    #[arg(value_name = "BACKBONE", value_delimiter = ',', default_value = "resnet20")]
    pub backbones: Vec<String>,

    #[arg(
        long = "backbone",
        value_name = "BACKBONE,…",
        value_delimiter = ',',
        hide = true,
        conflicts_with = "backbones"
    )]
    pub backbone_option: Vec<String>,

    /// All networks of the data set
    #[arg(long, conflicts_with_all = ["backbones", "backbone_option"])]
    pub all: bool,

    /// Precisions in bits, such as 4..14 (both included) or 7,9,12..14 [default: all that there are]
    #[arg(long, value_name = "FIRST..LAST", value_parser = alphas, allow_hyphen_values = true)]
    pub alpha: Option<Alphas>,

    /// Smallest bound of ReLU's approximation range to consider
    #[arg(long, alias = "B_relu", value_name = "B", default_value_t = 5.0, value_parser = bound, allow_negative_numbers = true)]
    pub b_relu: f64,

    /// The same of max-pooling's
    #[arg(long, alias = "B_max", value_name = "B", default_value_t = 5.0, value_parser = bound, allow_negative_numbers = true)]
    pub b_max: f64,

    /// By how much a bound grows when a value leaves the range; 0 to take the bounds as they are
    #[arg(long, alias = "B_search", value_name = "STEP", default_value_t = 5.0, value_parser = step, allow_negative_numbers = true)]
    pub b_search: f64,

    /// Bounds of each activation from this file, which `infer calibrate` writes; none is searched
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["b_relu", "b_max", "b_search"])]
    pub policy: Option<PathBuf>,

    #[command(flatten)]
    pub sources: SourceArgs,

    /// Folder for the table (sweep.csv, sweep.json) and for what is finished (cells/), which is not computed again
    #[arg(long, value_name = "DIR", default_value = "sweep")]
    pub output: PathBuf,

    #[command(flatten)]
    pub machine: MachineArgs,
}

impl SweepArgs {
    pub fn names(&self) -> &[String] {
        if self.backbone_option.is_empty() { &self.backbones } else { &self.backbone_option }
    }
}

#[derive(Debug, Args)]
pub struct ImageNetSweepArgs {
    #[command(flatten)]
    pub sweep: SweepArgs,

    #[command(flatten)]
    pub pictures: PictureArgs,
}

#[derive(Debug, Subcommand)]
pub enum SweepCommand {
    /// CIFAR-10 networks; fetches weights and the data set if they are missing
    Cifar10(SweepArgs),
    /// ImageNet networks; fetches weights if they are missing
    #[command(name = "imagenet")]
    ImageNet(ImageNetSweepArgs),
}

impl SweepCommand {
    fn machine(&mut self) -> &mut MachineArgs {
        match self {
            Self::Cifar10(args) => &mut args.machine,
            Self::ImageNet(args) => &mut args.sweep.machine,
        }
    }
}

/// A network whose activations get a bound each. The defaults are CIFAR-10's.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Which network
    #[arg(value_name = "BACKBONE", default_value = "resnet20")]
    pub backbone: String,

    /// Precision of the approximation in bits, 4 to 14
    #[arg(long, default_value_t = Alpha::MAX, allow_negative_numbers = true)]
    pub alpha: Alpha,

    /// What the largest |x| of an activation is multiplied by to give its bound
    #[arg(long, value_name = "FACTOR", default_value_t = 1.1, value_parser = headroom, allow_negative_numbers = true)]
    pub headroom: f64,

    /// Write the policy here
    #[arg(long, value_name = "FILE.json")]
    pub output: PathBuf,

    #[command(flatten)]
    pub sources: SourceArgs,

    #[command(flatten)]
    pub machine: MachineArgs,
}

#[derive(Debug, Args)]
pub struct ImageNetCalibrateArgs {
    #[command(flatten)]
    pub calibrate: CalibrateArgs,

    #[command(flatten)]
    pub pictures: PictureArgs,
}

#[derive(Debug, Subcommand)]
pub enum CalibrateCommand {
    /// A CIFAR-10 network; fetches its weights and the data set if they are missing
    Cifar10(CalibrateArgs),
    /// An ImageNet network; fetches its weights if they are missing
    #[command(name = "imagenet")]
    ImageNet(ImageNetCalibrateArgs),
}

impl CalibrateCommand {
    fn machine(&mut self) -> &mut MachineArgs {
        match self {
            Self::Cifar10(args) => &mut args.machine,
            Self::ImageNet(args) => &mut args.calibrate.machine,
        }
    }
}

#[derive(Debug, Args)]
pub struct ImageNetArgs {
    #[command(flatten)]
    pub network: NetworkArgs,

    #[command(flatten)]
    pub pictures: PictureArgs,
}

/// How pictures become images.
#[derive(Debug, Args)]
pub struct PictureArgs {
    /// Pixels of the square that is cropped from the middle (Inception-v3 was trained with 299)
    #[arg(long, alias = "image_size", value_name = "PIXELS", default_value_t = 224)]
    pub image_size: usize,

    /// Pixels of the shorter side before cropping [default: 256, and in proportion for another image size]
    #[arg(long, value_name = "PIXELS")]
    pub resize: Option<usize>,

    /// Leave out images that cannot be decoded, instead of failing
    #[arg(long)]
    pub skip_corrupt: bool,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The embedded network
    #[arg(value_name = "BACKBONE", default_value = "resnet20", value_parser = ["resnet20"])]
    pub backbone: String,

    /// Only this precision, and in full
    #[arg(long, value_parser = bits, allow_negative_numbers = true)]
    pub alpha: Option<u8>,

    /// Smallest bound of ReLU's approximation range to consider
    #[arg(long, alias = "B_relu", value_name = "B", default_value_t = 5.0, value_parser = bound, allow_negative_numbers = true)]
    pub b_relu: f64,

    /// By how much the bound grows when a value leaves the range; 0 to fail instead
    #[arg(long, alias = "B_search", value_name = "STEP", default_value_t = 5.0, value_parser = step, allow_negative_numbers = true)]
    pub b_search: f64,

    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Debug, Args)]
pub struct CommonArgs {
    /// What replaces the activations
    #[arg(long, alias = "approx_method", value_name = "METHOD", default_value = "proposed")]
    pub approx_method: Method,

    #[command(flatten)]
    pub machine: MachineArgs,

    /// Write all results as JSON
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,

    /// Write the logits of both networks and the labels
    #[arg(long, value_name = "FILE.safetensors")]
    pub logits: Option<PathBuf>,
}

/// With what, on how many images, and on which machine.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// Polynomials from this file instead of the published ones (`cargo xtask coefficients` writes some)
    #[arg(long, value_name = "FILE.json")]
    pub coefficients: Option<PathBuf>,

    /// Images at a time
    #[arg(long, alias = "batch_inf", value_name = "N", default_value = "128")]
    pub batch_inf: NonZeroUsize,

    /// Only the first N images
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,

    /// CPU threads [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    #[command(flatten)]
    pub device: DeviceArgs,

    /// Fail where memory does not hold a batch, in place of trying half of it
    #[arg(long)]
    pub no_retry: bool,

    /// Vector instructions of the activations [default: the best there are]
    #[arg(long, value_name = "LEVEL")]
    pub simd: Option<Simd>,
}

/// What replaces the activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Method {
    /// Compositions of minimax polynomials (Lee et al., arXiv 2105.10879)
    Proposed,
    /// x² for ReLU, with the exact max-pooling
    Square,
    /// x²/8 + x/2 + 1/4 for ReLU, with the exact max-pooling
    ReluAq,
}

impl Method {
    pub fn name(self) -> String {
        self.to_possible_value().expect("no method is hidden").get_name().to_owned()
    }
}

fn bits(text: &str) -> Result<u8, String> {
    text.trim().parse().or_else(|_| text.parse::<Alpha>().map(Alpha::bits)).map_err(|e| e.to_string())
}

/// Precisions in bits, ascending and each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alphas(pub Vec<u8>);

fn alphas(text: &str) -> Result<Alphas, String> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let Some((first, last)) = part.split_once("..") else {
            all.push(bits(part)?);
            continue;
        };
        let (first, last) = (bits(first)?, bits(last.strip_prefix('=').unwrap_or(last))?);
        if first > last {
            return Err(format!("{first}..{last} is empty: the first is larger than the last"));
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Ok(Alphas(all))
}

fn headroom(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=1e6).contains(&factor) => Ok(factor),
        Ok(factor) => Err(format!("the headroom must be from 1 to 1e6, not {factor:?}")),
        Err(_) => Err("not a number".to_owned()),
    }
}

fn step(text: &str) -> Result<f64, String> {
    /// Smaller steps would never arrive.
    const SMALLEST: f64 = 1e-6;
    match text.parse::<f64>() {
        Ok(step) if step == 0.0 || (step >= SMALLEST && step.is_finite()) => Ok(step),
        Ok(step) => Err(format!("the step must be 0 or at least {SMALLEST:?}, and finite, not {step:?}")),
        Err(_) => Err("not a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::whole().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_data_set() {
        let parse = |arguments: &[&str]| Cli::from_arg_matches(&Cli::whole().get_matches_from(arguments));
        for (dataset, backbone, numbers, params_name, batch) in [
            ("cifar10", "resnet20", [50.0, 50.0, 5.0], "ours", 128),
            ("imagenet", "resnet152", [100.0, 10.0, 10.0], "torchvision", 16),
        ] {
            let cli = parse(&["infer", dataset]).unwrap();
            let args = match &cli.command {
                Command::Cifar10(args) => args,
                Command::ImageNet(args) => &args.network,
                _ => unreachable!(),
            };
            assert_eq!((args.backbone(), args.sources.params_name.as_str()), (backbone, params_name));
            assert_eq!([args.b_relu, args.b_max, args.b_search], numbers);
            assert_eq!(args.common.machine.batch_inf.get(), batch);
        }
    }

    #[test]
    fn precisions_are_ranges_and_lists() {
        for (text, expected) in [
            ("4..14", (4..=14).collect()),
            ("4..=6", vec![4, 5, 6]),
            ("7", vec![7]),
            ("12..14,7,9,13", vec![7, 9, 12, 13, 14]),
            // Which of them there are, the tables know.
            ("3..5", vec![3, 4, 5]),
        ] {
            assert_eq!(alphas(text), Ok(Alphas(expected)), "{text}");
        }
        for (text, expected) in [
            ("9..4", "9..4 is empty: the first is larger than the last"),
            ("", "whole numbers from 4 to 14"),
            ("7,", "whole numbers from 4 to 14"),
            ("4..", "whole numbers from 4 to 14"),
            ("a..b", "alpha is `a`"),
            ("-4..5", "alpha is `-4`"),
            ("4..300", "whole numbers from 4 to 14"),
        ] {
            let error = alphas(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
