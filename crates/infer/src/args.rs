//! The command line. The reference's spellings of its options work too (`--B_relu`, `--approx_method`, …).

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use approx_cli::device::DeviceArgs;
use approx_cli::options::{Simd, bound};
use approx_data::Split;
use approx_fetch::Mirror;
use approx_ops::Noise;
use clap::builder::Resettable;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use minimax_coeffs::noise::rescaling_sigma;
use minimax_coeffs::{Alpha, FittedPolynomial};

use crate::inputs::{DataSet, Networks, Selection};

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
        let bounds = ["b_relu", "b_max", "b_search"];
        let evaluation = with_defaults(Self::command(), &[&["backbone"][..], &SHARED, &bounds].concat());
        let evaluation = with_file(evaluation, "backbone");
        [("sweep", "backbones"), ("calibrate", "backbone"), ("tune", "backbone")].into_iter().fold(
            evaluation,
            |command, (name, backbone)| {
                command.mut_subcommand(name, |on| {
                    with_file(with_defaults(on, &[&[backbone][..], &SHARED].concat()), backbone)
                })
            },
        )
    }
}

/// The same command, whose subcommand `onnx` takes a file in place of a backbone.
fn with_file(command: clap::Command, argument: &str) -> clap::Command {
    command.mut_subcommand("onnx", |onnx| {
        onnx.mut_arg(argument, |argument| {
            argument
                .value_name("MODEL.onnx")
                .help("The network: a file as torch.onnx.export writes it")
                .default_value(Resettable::Reset)
                .required(true)
        })
        .mut_arg("params_name", |argument| argument.hide(true))
        .mut_arg("params", |argument| argument.hide(true))
    })
}

/// Arguments of every command on a data set.
const SHARED: [&str; 2] = ["params_name", "batch_inf"];

/// LeNet-5, whose weights come from `train`.
const LENET5: &[(&str, &str)] = &[("backbone", "lenet5"), ("backbones", "lenet5"), ("params_name", "mine")];

/// Where a data set's defaults differ from CIFAR-10's.
const DEFAULTS: [(&str, &[(&str, &str)]); 6] = [
    (
        "imagenet",
        &[
            ("backbone", "resnet152"),
            ("backbones", "resnet152"),
            ("b_relu", "100"),
            ("b_max", "10"),
            ("b_search", "10"),
            ("params_name", "torchvision"),
            ("batch_inf", "16"),
        ],
    ),
    ("cifar100", &[("params_name", "mine")]),
    ("mnist", LENET5),
    ("fashion-mnist", LENET5),
    ("images", &[("params_name", "mine"), ("batch_inf", "64")]),
    ("onnx", &[("batch_inf", "64")]),
];

/// The same command, with the data set's own defaults of these `arguments` in each of its subcommands.
fn with_defaults(command: clap::Command, arguments: &[&str]) -> clap::Command {
    DEFAULTS.iter().fold(command, |command, (dataset, defaults)| {
        command.mut_subcommand(dataset, |subcommand| {
            let named = defaults.iter().filter(|(name, _)| arguments.contains(name));
            named.fold(subcommand, |subcommand, &(name, value)| {
                subcommand.mut_arg(name, |argument| argument.default_value(value))
            })
        })
    })
}

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Evaluate(OnDataSet<NetworkArgs>),
    /// Evaluate an embedded network on 1,000 embedded images over alpha 8 to 14; needs no download
    Demo(DemoArgs),
    /// Evaluate networks at several precisions and put the results in a table; goes on where it was stopped
    #[command(subcommand)]
    Sweep(OnDataSet<SweepArgs>),
    /// Measure what each activation sees, and write a policy with a bound for each
    #[command(subcommand)]
    Calibrate(OnDataSet<CalibrateArgs>),
    /// Give each activation as little precision as the accuracy allows, and write the policy
    #[command(subcommand)]
    Tune(OnDataSet<TuneArgs>),
    /// Plan an encrypted run: operations, bootstraps, keys, time and memory of an engine, and what it would compute
    #[command(subcommand)]
    Plan(OnDataSet<PlanArgs>),
    /// Print a network as a table; draw it, or write it as an ONNX file
    Graph(GraphArgs),
}

impl Command {
    /// With what, on how many images, and on which machine; `None` for a command that evaluates nothing.
    pub fn machine(&self) -> Option<&MachineArgs> {
        match self {
            Self::Evaluate(on) => Some(on.args().machine()),
            Self::Demo(args) => Some(&args.common.machine),
            Self::Sweep(on) => Some(on.args().machine()),
            Self::Calibrate(on) => Some(on.args().machine()),
            Self::Tune(on) => Some(on.args().machine()),
            Self::Plan(on) => Some(on.args().machine()),
            Self::Graph(_) => None,
        }
    }
}

/// A network, and what is to be made of it.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// An ONNX file; or a data set (cifar10, mnist, fashion-mnist, imagenet) and one of its backbones
    #[arg(value_name = "MODEL.onnx|DATASET BACKBONE", required = true, num_args = 1..=2)]
    pub network: Vec<String>,

    /// Precision in bits that levels are counted for
    #[arg(long, default_value_t = Alpha::MAX, allow_negative_numbers = true)]
    pub alpha: Alpha,

    /// Bound of the inputs that levels are counted for; ReLU's do not depend on it, those of SiLU, say, do
    #[arg(long, value_name = "B", default_value_t = 50.0)]
    pub bound: f64,

    /// Height and width of the images [default: those that the network is made for]
    #[arg(long, alias = "image_size", value_name = "PIXELS")]
    pub image_size: Option<usize>,

    /// How many classes a backbone tells apart [default: its data set's]
    #[arg(long, value_name = "N", value_parser = classes)]
    pub classes: Option<NonZeroUsize>,

    /// Write the graph in Graphviz's language
    #[arg(long, value_name = "FILE.dot")]
    pub dot: Option<PathBuf>,

    /// Draw the graph
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,

    /// Write the network with its weights as an ONNX file; a backbone's weights come from --params
    #[arg(long, value_name = "FILE.onnx")]
    pub onnx: Option<PathBuf>,

    /// A backbone's weights (.safetensors, or .pt or .pth as PyTorch writes it)
    #[arg(long, value_name = "FILE", requires = "onnx")]
    pub params: Option<PathBuf>,
}

/// A data set, with the arguments of a command on it.
#[derive(Debug, Subcommand)]
pub enum OnDataSet<A: Args> {
    /// Networks for CIFAR-10; weights and images are fetched if they are missing
    Cifar10(A),
    /// Networks for CIFAR-100 with your own weights; images are fetched if they are missing
    Cifar100(A),
    /// LeNet-5 for MNIST with weights of `train`; images are fetched if they are missing
    Mnist(A),
    /// LeNet-5 for Fashion-MNIST with weights of `train`; images are fetched if they are missing
    FashionMnist(A),
    /// Networks for ImageNet; weights are fetched if they are missing
    #[command(name = "imagenet")]
    ImageNet(WithPictures<A>),
    /// Networks for your own pictures in class folders, with your own weights
    Images(WithPictures<A>),
    /// A network from an ONNX file, as PyTorch exports it, with the weights in the file
    Onnx(WithImagesOf<A>),
}

/// A command's arguments, and how pictures become images.
#[derive(Debug, Args)]
pub struct WithPictures<A: Args> {
    #[command(flatten)]
    pub args: A,

    #[command(flatten)]
    pub pictures: PictureArgs,
}

/// A command's arguments for a network from a file, and which images it is for.
#[derive(Debug, Args)]
pub struct WithImagesOf<A: Args> {
    #[command(flatten)]
    pub args: A,

    /// Images to evaluate on: `images` are class folders in --dataset-path, `demo` the 1,000 embedded ones
    #[arg(long, value_name = "DATASET", default_value = "images")]
    pub data: ImagesOf,

    #[command(flatten)]
    pub pictures: PictureArgs,
}

/// Images that a network from a file can be evaluated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImagesOf {
    /// Your own pictures in class folders
    Images,
    /// CIFAR-10
    Cifar10,
    /// CIFAR-100
    Cifar100,
    /// MNIST
    Mnist,
    /// Fashion-MNIST
    FashionMnist,
    /// ImageNet
    #[value(name = "imagenet")]
    ImageNet,
    /// The embedded images, 32×32 pixels in ten classes
    Demo,
}

/// What every command on a data set is told.
pub trait DataArgs: Args {
    fn sources(&self) -> &SourceArgs;
    fn machine(&self) -> &MachineArgs;
    /// Which images are to be read.
    fn split(&self) -> Split {
        Split::Test
    }
}

impl<A: DataArgs> OnDataSet<A> {
    pub fn args(&self) -> &A {
        match self {
            Self::Cifar10(args) | Self::Cifar100(args) | Self::Mnist(args) | Self::FashionMnist(args) => args,
            Self::ImageNet(with) | Self::Images(with) => &with.args,
            Self::Onnx(with) => &with.args,
        }
    }

    /// Which data set, and how it is to be read.
    pub fn selection(&self) -> Selection<'_> {
        let (dataset, pictures) = match self {
            Self::Cifar10(_) => (DataSet::Cifar10, None),
            Self::Cifar100(_) => (DataSet::Cifar100, None),
            Self::Mnist(_) => (DataSet::Mnist, None),
            Self::FashionMnist(_) => (DataSet::FashionMnist, None),
            Self::ImageNet(with) => (DataSet::ImageNet, Some(&with.pictures)),
            Self::Images(with) => (DataSet::Images, Some(&with.pictures)),
            Self::Onnx(with) => (with.data.into(), Some(&with.pictures)),
        };
        let args = self.args();
        Selection {
            dataset,
            networks: if matches!(self, Self::Onnx(_)) { Networks::Onnx } else { Networks::Backbones },
            split: args.split(),
            sources: args.sources(),
            pictures,
            machine: args.machine(),
        }
    }
}

/// Where each command's arguments have what all have; `split` where they choose between training and test images.
macro_rules! data_args {
    ($($args:ty, $machine:ident $(. $field:ident)? $(, $split:ident)?;)*) => {$(
        impl DataArgs for $args {
            fn sources(&self) -> &SourceArgs {
                &self.sources
            }

            fn machine(&self) -> &MachineArgs {
                &self.$machine$(.$field)?
            }
            $(
                fn split(&self) -> Split {
                    self.$split.into()
                }
            )?
        }
    )*};
}

data_args! {
    NetworkArgs, common.machine;
    SweepArgs, machine;
    CalibrateArgs, machine, split;
    TuneArgs, machine, split;
    PlanArgs, machine;
}

impl From<ImagesOf> for DataSet {
    fn from(images: ImagesOf) -> Self {
        match images {
            ImagesOf::Images => Self::Images,
            ImagesOf::Cifar10 => Self::Cifar10,
            ImagesOf::Cifar100 => Self::Cifar100,
            ImagesOf::Mnist => Self::Mnist,
            ImagesOf::FashionMnist => Self::FashionMnist,
            ImagesOf::ImageNet => Self::ImageNet,
            ImagesOf::Demo => Self::Demo,
        }
    }
}

impl From<SplitArg> for Split {
    fn from(split: SplitArg) -> Self {
        match split {
            SplitArg::Test => Self::Test,
            SplitArg::Train => Self::Train,
        }
    }
}

/// Images by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// Test images; ImageNet's validation images
    #[value(alias = "validation", alias = "val")]
    Test,
    /// Training images
    Train,
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

    /// How many classes the network tells apart [default: as many as the images are of]
    #[arg(long, value_name = "N", value_parser = classes)]
    pub classes: Option<NonZeroUsize>,

    /// Mean of each channel on the scale 0 to 1, such as R,G,B, or one number for all [default: the data set's]
    #[arg(long, value_name = "R,G,B", value_parser = mean, requires = "std", allow_negative_numbers = true)]
    pub mean: Option<Channels>,

    /// The same of the standard deviation, by which pixels are divided when the mean is subtracted
    #[arg(long, value_name = "R,G,B", value_parser = standard_deviation, requires = "mean", allow_negative_numbers = true)]
    pub std: Option<Channels>,

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

    /// Bounds of each activation from this file, which `infer calibrate` writes, or from BACKBONE.json in this folder;
    /// none is searched
    #[arg(long, value_name = "FILE.json|DIR", conflicts_with_all = ["b_relu", "b_max", "b_search"])]
    pub policy: Option<PathBuf>,

    #[command(flatten)]
    pub noise: NoiseArgs,

    #[command(flatten)]
    pub sources: SourceArgs,

    /// Folder for the table (sweep.csv, sweep.json) and for what is finished (cells/), which is not computed again
    #[arg(long, value_name = "DIR", default_value = "sweep")]
    pub output: PathBuf,

    /// Write a page that shows all results, with pictures; it needs one look more at each image
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,

    /// Write the page's pictures as SVG files to this folder
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,

    #[command(flatten)]
    pub machine: MachineArgs,
}

impl SweepArgs {
    pub fn names(&self) -> &[String] {
        if self.backbone_option.is_empty() { &self.backbones } else { &self.backbone_option }
    }
}

/// A network whose activations get a bound each. The defaults are CIFAR-10's.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Which network
    #[arg(value_name = "BACKBONE", default_value = "resnet20")]
    pub backbone: String,

    /// What stands for an activation: a composition, or a polynomial fitted to what the activation sees
    #[arg(long, value_name = "FAMILY", default_value = "composite")]
    pub family: CalibratedFamily,

    /// Precision of the compositions in bits: 4 to 14, or what --coefficients offers
    #[arg(long, default_value_t = Alpha::MAX.bits(), value_parser = bits, allow_negative_numbers = true)]
    pub alpha: u8,

    /// Degree of the fitted polynomials, 2 to 63: 3, 7, 15, 31 and 63 are the highest for 2, 3, 4, 5 and 6 levels
    #[arg(long, value_name = "DEGREE", value_parser = degree, required_if_eq("family", "fitted"), allow_negative_numbers = true)]
    pub degree: Option<usize>,

    /// By how much longer than what an activation sees its range is
    #[arg(long, value_name = "FACTOR", default_value_t = 1.1, value_parser = headroom, allow_negative_numbers = true)]
    pub headroom: f64,

    /// Which images to measure on
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    pub split: SplitArg,

    /// Write the policy here
    #[arg(long, value_name = "FILE.json")]
    pub output: PathBuf,

    #[command(flatten)]
    pub sources: SourceArgs,

    #[command(flatten)]
    pub machine: MachineArgs,
}

/// A network that is to be run on ciphertexts. The defaults are CIFAR-10's.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Which network
    #[arg(value_name = "BACKBONE", default_value = "resnet20")]
    pub backbone: String,

    /// What stands at the activations, from `infer calibrate` or `infer tune`; several are compared
    #[arg(long, value_name = "FILE.json", num_args = 1..)]
    pub policy: Vec<PathBuf>,

    /// Compositions of these precisions, such as 9,14, to compare with or in place of policies
    #[arg(long, value_name = "FIRST..LAST", value_parser = alphas, allow_hyphen_values = true)]
    pub alpha: Option<Alphas>,

    /// For this engine: desilofhe, desilofhe-cuda, lattigo, all, or a file with a profile of one; several are compared [default: none, and
    /// so many levels as it takes]
    #[arg(long, value_name = "NAME|FILE.toml", num_args = 1..)]
    pub engine: Vec<String>,

    /// Slots of a ciphertext, half of the ring's dimension, where no engine says it
    #[arg(long, value_name = "N", default_value = "32768", conflicts_with = "engine")]
    pub slots: NonZeroUsize,

    /// Keep the keys within so much memory, such as 20GiB, for more time
    #[arg(long, value_name = "SIZE", value_parser = memory, requires = "engine")]
    pub key_memory: Option<u64>,

    /// Run the program on plain numbers, slot by slot, for the first N images, and compare with the network
    #[arg(long, value_name = "N")]
    pub simulate: Option<NonZeroUsize>,

    /// Take parameters of less than 128 bits of security, too
    #[arg(long)]
    pub insecure: bool,

    /// Write all of it here
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,

    /// Write the program with its plaintext vectors into this folder, for an engine to run: of one policy and one engine
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub sources: SourceArgs,

    #[command(flatten)]
    pub machine: MachineArgs,
}

/// A network whose activations get a precision each. The defaults are CIFAR-10's.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Which network
    #[arg(value_name = "BACKBONE", default_value = "resnet20")]
    pub backbone: String,

    /// By how much the accuracy may be below the exact network's, relative to that
    #[arg(long, value_name = "PERCENT", default_value = "0.5%", value_parser = percent, allow_hyphen_values = true)]
    pub max_drop: f64,

    /// What is to be small: the levels of all activations in sequence, or their non-scalar multiplications
    #[arg(long, value_name = "WHAT", default_value = "depth")]
    pub minimise: Minimised,

    /// What an activation can become: compositions, polynomials fitted to what it sees, or both
    #[arg(long, value_name = "FAMILY", default_value = "all")]
    pub family: Family,

    /// Precisions in bits to choose from, such as 7..14 (both included) or 7,9,12..14 [default: all that there are]
    #[arg(long, value_name = "FIRST..LAST", value_parser = alphas, allow_hyphen_values = true)]
    pub alpha: Option<Alphas>,

    /// By how much longer than what an activation sees its range is
    #[arg(long, value_name = "FACTOR", default_value_t = 1.1, value_parser = headroom, allow_negative_numbers = true)]
    pub headroom: f64,

    /// Which images to measure on
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    pub split: SplitArg,

    /// On how many images to measure what each activation's precision matters
    #[arg(long, value_name = "N", default_value = "256")]
    pub sensitivity_images: NonZeroUsize,

    /// Write the policy here
    #[arg(long, value_name = "FILE.json")]
    pub output: PathBuf,

    /// Write all points that were evaluated, with the Pareto front
    #[arg(long, value_name = "FILE.csv")]
    pub front: Option<PathBuf>,

    #[command(flatten)]
    pub sources: SourceArgs,

    #[command(flatten)]
    pub machine: MachineArgs,
}

/// What activations can become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// Compositions of minimax polynomials
    Composite,
    /// Polynomials fitted to what each activation sees; max-poolings stay compositions
    Fitted,
    /// Whichever is cheaper
    All,
}

/// What all activations become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CalibratedFamily {
    /// Compositions of minimax polynomials
    Composite,
    /// Polynomials fitted to what each activation sees; max-poolings stay compositions
    Fitted,
}

/// What a tuning makes small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Minimised {
    /// Levels of all activations in sequence
    Depth,
    /// Non-scalar multiplications of all activations
    Mults,
}

/// How pictures become images.
#[derive(Debug, Args)]
pub struct PictureArgs {
    /// Pixels of the square that is cropped from the middle (Inception-v3 was trained with 299) [default: 224; 32 for
    /// networks that are CIFAR-10's]
    #[arg(long, alias = "image_size", value_name = "PIXELS")]
    pub image_size: Option<usize>,

    /// Pixels of the shorter side before cropping [default: 256, and in proportion for another image size; the image
    /// size for networks that are CIFAR-10's]
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
    pub noise: NoiseArgs,

    #[command(flatten)]
    pub machine: MachineArgs,

    /// Write all results as JSON
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,

    /// Write the logits of both networks and the labels
    #[arg(long, value_name = "FILE.safetensors")]
    pub logits: Option<PathBuf>,
}

impl CommonArgs {
    /// The noise to simulate.
    pub fn noise(&self) -> anyhow::Result<Option<Noise>> {
        let noise = self.noise.one()?;
        if noise.is_some() && self.approx_method != Method::Proposed {
            anyhow::bail!(
                "noise is simulated for --approx-method {} only: {} has no range that values are held in units of",
                Method::Proposed.name(),
                self.approx_method.name()
            );
        }
        Ok(noise)
    }
}

/// Simulated noise of an encrypted evaluation (CKKS).
#[derive(Debug, Args)]
pub struct NoiseArgs {
    /// Simulate noise: each rescaling adds a Gaussian error with a standard deviation of 2^-BITS (a sweep takes several)
    #[arg(long, value_name = "BITS,…", value_delimiter = ',', value_parser = noise_bits, allow_negative_numbers = true)]
    noise_bits: Vec<f64>,

    /// The same for messages scaled by 2^BITS (a sweep takes several)
    #[arg(long, value_name = "BITS,…", value_delimiter = ',', value_parser = noise_bits, conflicts_with = "noise_bits", allow_negative_numbers = true)]
    scale_bits: Vec<f64>,

    /// With --scale-bits: the degree of the ring
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = ring, requires = "scale_bits")]
    ring: u32,

    /// With --scale-bits: how many coefficients of the secret are not zero [default: 2/3 of the ring's degree]
    #[arg(long, value_name = "H", requires = "scale_bits")]
    secret_weight: Option<u32>,

    /// With another seed comes other noise
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    noise_seed: u64,
}

impl NoiseArgs {
    /// Each level of noise that was asked for.
    pub fn all(&self) -> Vec<Noise> {
        let ring = f64::from(self.ring);
        let weight = self.secret_weight.map_or(2.0 / 3.0 * ring, f64::from);
        let seed = self.noise_seed;
        let of_scale = |bits: &f64| Noise { sigma: rescaling_sigma(self.ring, *bits, weight), seed };
        let of_bits = self.noise_bits.iter().map(|bits| Noise::of_bits(*bits, seed));
        of_bits.chain(self.scale_bits.iter().map(of_scale)).collect()
    }

    /// The only one, or none.
    pub fn one(&self) -> anyhow::Result<Option<Noise>> {
        match self.all()[..] {
            [] => Ok(None),
            [noise] => Ok(Some(noise)),
            [..] => anyhow::bail!("one level of noise at a time; `infer sweep` takes several"),
        }
    }
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

    /// Images at a time, in place of --batch-inf, which did not fit
    #[arg(skip)]
    pub smaller_batch: Cell<Option<NonZeroUsize>>,

    /// Vector instructions of the activations [default: the best there are]
    #[arg(long, value_name = "LEVEL")]
    pub simd: Option<Simd>,
}

impl MachineArgs {
    /// Images at a time.
    pub fn batch_size(&self) -> usize {
        self.smaller_batch.get().unwrap_or(self.batch_inf).get()
    }
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

/// A size in bytes, with a unit or without.
fn memory(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        unit => return Err(format!("`{unit}` is none of B, kB, MB, GB, KiB, MiB, GiB")),
    };
    match digits.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number * (factor as f64) < 1e18 => Ok((number * factor as f64) as u64),
        _ => Err("expected a size such as 20GiB".to_owned()),
    }
}

fn bits(text: &str) -> Result<u8, String> {
    text.trim().parse().or_else(|_| text.parse::<Alpha>().map(Alpha::bits)).map_err(|e| e.to_string())
}

fn degree(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(degree) if (2..=FittedPolynomial::MAX_DEGREE).contains(&degree) => Ok(degree),
        Ok(1) => Err("a polynomial of degree 1 is a line, which a network cannot tell from a linear layer; the degree must be from 2 to 63".to_owned()),
        Ok(degree) => Err(format!("the degree must be from 2 to {}, not {degree}", FittedPolynomial::MAX_DEGREE)),
        Err(_) => Err("not a whole number".to_owned()),
    }
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

fn noise_bits(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(bits) if (1.0..=100.0).contains(&bits) => Ok(bits),
        Ok(bits) => Err(format!("bits must be from 1 to 100, not {bits:?}")),
        Err(_) => Err("not a number".to_owned()),
    }
}

fn ring(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(degree) if degree.is_power_of_two() && (1 << 10..=1 << 20).contains(&degree) => Ok(degree),
        Ok(degree) => {
            Err(format!("the degree of the ring is a power of two from 1024 to 1048576, not {degree}"))
        }
        Err(_) => Err("not a whole number".to_owned()),
    }
}

/// A share of 1, given in percent.
fn percent(text: &str) -> Result<f64, String> {
    let Some(number) = text.strip_suffix('%') else {
        return Err("give it in percent, such as 0.5%".to_owned());
    };
    match number.trim().parse::<f64>() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent / 100.0),
        Ok(percent) => Err(format!("it must be at least 0% and below 100%, not {percent}%")),
        Err(_) => Err("not a number before the %".to_owned()),
    }
}

fn classes(text: &str) -> Result<NonZeroUsize, String> {
    // Labels have 16 bits.
    match text.parse::<NonZeroUsize>() {
        Ok(classes) if classes.get() <= 1 << 16 => Ok(classes),
        _ => Err("the number of classes must be from 1 to 65536".to_owned()),
    }
}

/// A number for each channel, or one for all.
#[derive(Debug, Clone, PartialEq)]
pub struct Channels(Vec<f32>);

impl Channels {
    /// The number of each of so many channels.
    pub fn of_each(&self, channels: usize) -> anyhow::Result<Vec<f32>> {
        match self.0[..] {
            [all] => Ok(vec![all; channels]),
            ref each if each.len() == channels => Ok(each.to_vec()),
            ref each => anyhow::bail!("{} numbers, but the images have {channels} channel(s)", each.len()),
        }
    }
}

fn channels(text: &str) -> Result<Channels, String> {
    let numbers = text.split(',').map(|number| number.trim().parse::<f32>());
    let numbers = numbers.collect::<Result<Vec<_>, _>>().map_err(|_| "not numbers, as 0.5,0.5,0.5")?;
    match numbers.len() {
        1 | 3 => Ok(Channels(numbers)),
        count => Err(format!("{count} numbers, not one or three")),
    }
}

fn mean(text: &str) -> Result<Channels, String> {
    let channels = channels(text)?;
    match channels.0.iter().find(|mean| !(0.0..=1.0).contains(*mean)) {
        None => Ok(channels),
        Some(mean) => Err(format!("a mean must be from 0 to 1, the scale of the pixels, not {mean:?}")),
    }
}

fn standard_deviation(text: &str) -> Result<Channels, String> {
    let channels = channels(text)?;
    match channels.0.iter().find(|std| !(std.is_normal() && **std > 0.0)) {
        None => Ok(channels),
        Some(std) => Err(format!("a standard deviation must be positive and finite, not {std:?}")),
    }
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
            ("cifar100", "resnet20", [50.0, 50.0, 5.0], "mine", 128),
            ("mnist", "lenet5", [50.0, 50.0, 5.0], "mine", 128),
            ("fashion-mnist", "lenet5", [50.0, 50.0, 5.0], "mine", 128),
            ("images", "resnet20", [50.0, 50.0, 5.0], "mine", 64),
        ] {
            let cli = parse(&["infer", dataset]).unwrap();
            let Command::Evaluate(on) = &cli.command else { unreachable!() };
            let args = on.args();
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
