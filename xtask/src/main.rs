//! `cargo xtask`: tasks of this repository that cargo itself has no command for.
//!
//! `cargo xtask fetch-params` fetches trained weights, `cargo xtask fetch-data` a data set. What they fetch
//! and from where is in the manifest of the crate approx-fetch. Notes and progress go to standard error, the
//! list of files to standard output. `cargo xtask coefficients` generates tables of minimax polynomials.

#![forbid(unsafe_code)]

mod coefficients;
mod plot;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use approx_fetch::terminal::TerminalProgress;
use approx_fetch::{Artifact, Entry, FetchError, Fetcher, HubOptions, Mirror, Outcome, Progress, Source};
use clap::{Args, Parser, Subcommand};

/// The artifacts with weights are named after their data set.
const PARAMS: &str = "-params";

/// Data sets with backbones that nobody offers weights for.
const TRAINED: [&str; 2] = ["mnist", "fashion-mnist"];

/// Every part of an artifact.
const ALL: &str = "all";

/// Every source of an artifact, one after the other.
const AUTO: &str = "auto";

/// Tasks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch trained weights into weights/
    FetchParams {
        /// The data set that the networks were trained on
        #[arg(value_name = "DATA_SET", default_value = "cifar10")]
        data_set: String,
        /// One network, or all of them
        #[arg(value_name = "BACKBONE|all", default_value = ALL)]
        backbone: String,
        /// Where from, for imagenet: torchvision, timm's copies of its weights on the Hugging Face Hub (as
        /// BACKBONE_timm.safetensors; there is no googlenet), or the first of them that delivers
        #[arg(long, value_name = "auto|torchvision|hub", default_value = AUTO)]
        source: String,
        #[command(flatten)]
        options: Options,
    },
    /// Fetch a data set into datasets/
    ///
    /// ImageNet is only for those who have accepted its terms: `fetch-data imagenet` needs an access token of the
    /// Hugging Face Hub, in HF_TOKEN or in the file that `hf auth login` writes, and says how to get one. Files of
    /// the Hub are kept in its cache too (HF_HOME), which takes no more space where both are on one file system.
    FetchData {
        /// The data set
        #[arg(value_name = "DATA_SET", default_value = "cifar10")]
        data_set: String,
        /// A part of it, or all of them: test and train of cifar10, cifar100, mnist and fashion-mnist, validation of
        /// imagenet
        #[arg(value_name = "PART|all", default_value = ALL)]
        part: String,
        /// Where from: the Hugging Face Hub, for cifar10 and cifar100 also the University of Toronto, or the first of
        /// them that delivers; mnist is at ossci only, and fashion-mnist at zalando
        #[arg(long, value_name = "auto|hub|toronto|…", default_value = AUTO)]
        source: String,
        #[command(flatten)]
        options: Options,
    },
    /// Generate compositions of minimax polynomials, with proven bounds of their errors
    Coefficients(coefficients::Arguments),
}

#[derive(Args)]
struct Options {
    /// Take the files from this directory or web server instead, under the names that they have at the source:
    /// cifar10.zip, resnet50-19c8e357.pth, on the Hub their path in the repository, for timm's weights after its
    /// name (timm/resnet50.tv_in1k/model.safetensors). In a directory, weights may also have the names that they
    /// get here (resnet20_ours.pt, resnet50_timm.safetensors)
    #[arg(long, value_name = "DIR_OR_URL")]
    from: Option<Mirror>,
    /// Fetch files that are already there as well, and overwrite them
    #[arg(long)]
    force: bool,
    /// Fetch into weights/ and datasets/ of this directory; this repository's own if not given
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::FetchParams { data_set, backbone, source, options } => {
            let fetcher = options.fetcher(&source)?;
            let artifact = artifact(&fetcher, &data_set, PARAMS)?;
            let outcome = fetch(&fetcher, &options, artifact, &backbone)?;
            let example = if backbone == ALL { artifact.keys()[0] } else { &backbone };
            let name = params_name(artifact, &outcome.source, example);
            let usual = params_name(artifact, artifact.sources[0].name(), example);
            let option = name.filter(|_| name != usual).map(|name| format!(" --params-name {name}"));
            println!("next: cargo run -p infer -- {data_set} {example}{}", option.unwrap_or_default());
        }
        Command::FetchData { data_set, part, source, options } => {
            let fetcher = options.fetcher(&source)?;
            let images = artifact(&fetcher, &data_set, "")?;
            fetch(&fetcher, &options, images, &part)?;
            match artifact(&fetcher, &data_set, PARAMS) {
                _ if TRAINED.contains(&&*data_set) => {
                    println!(
                        "next: cargo run -p train -- --dataset {data_set} --params-name mine --preset fast"
                    );
                }
                Ok(params) => println!("next: cargo run -p infer -- {data_set} {}", params.keys()[0]),
                // Nobody offers weights for it.
                Err(_) => println!("next: cargo run -p infer -- {data_set} BACKBONE --params FILE"),
            }
        }
        Command::Coefficients(arguments) => arguments.run()?,
    }
    Ok(())
}

impl Options {
    fn fetcher(&self, source: &str) -> Result<Fetcher> {
        let root = match &self.root {
            Some(root) => root.clone(),
            None => default_root()?,
        };
        let source = (source != AUTO).then_some(source);
        Ok(Fetcher::new(root).with_mirror(self.from.clone()).with_force(self.force).with_source(source))
    }
}

/// The repository that this was built in, or the current directory where that is gone.
fn default_root() -> Result<PathBuf> {
    match Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|root| root.is_dir()) {
        Some(root) => Ok(root.to_path_buf()),
        None => std::env::current_dir().context("there is no current directory; name one with --root"),
    }
}

/// The artifact of a data set: its weights with the suffix `-params`, its images without.
fn artifact<'a>(fetcher: &'a Fetcher, data_set: &str, suffix: &str) -> Result<&'a Artifact> {
    let all = fetcher.manifest().artifacts();
    let of = |artifact: &'a Artifact| match suffix {
        "" => (!artifact.name.ends_with(PARAMS)).then_some(artifact.name.as_str()),
        suffix => artifact.name.strip_suffix(suffix),
    };
    if let Some(artifact) = all.iter().find(|artifact| of(artifact) == Some(data_set)) {
        return Ok(artifact);
    }
    let known: Vec<_> = all.iter().filter_map(of).collect();
    let known = known.join(", ");
    if all.iter().any(|artifact| of(artifact).is_some() && artifact.keys().contains(&data_set)) {
        bail!("name the data set first ({known}), then '{data_set}'");
    }
    bail!("there is no data set '{data_set}'; known are: {known}");
}

/// What `infer` calls the weights of a source: NAME in BACKBONE_NAME.safetensors.
fn params_name<'a>(artifact: &'a Artifact, source: &str, backbone: &str) -> Option<&'a str> {
    let source = artifact.sources.iter().find(|other| other.name() == source)?;
    let entry = source.entries().iter().find(|entry| entry.is_called(backbone))?;
    Path::new(&entry.path).file_stem()?.to_str()?.strip_prefix(entry.key.as_deref()?)?.strip_prefix('_')
}

fn fetch(fetcher: &Fetcher, options: &Options, artifact: &Artifact, part: &str) -> Result<Outcome> {
    let part = (part != ALL).then_some([part]);
    let only = part.as_ref().map(|part| part.as_slice());
    let mut progress = TerminalProgress::new();
    if options.force || !fetcher.missing(&artifact.name, only)?.is_empty() {
        progress.note(&format!("{}; see {}", artifact.title, artifact.homepage));
        progress.note(&format!("licence: {}", artifact.licence));
    }
    let result = fetcher.fetch(&artifact.name, only, &mut progress);
    drop(progress);
    match result {
        Ok(outcome) => {
            report(&outcome);
            Ok(outcome)
        }
        Err(error) => {
            let advice = match &error {
                _ if options.from.is_some() => None,
                error if is_refusal(error) => Some(without_access(artifact, error)),
                error if is_remote(error) => {
                    let there = |source: &Source, entry: &Entry| {
                        let place = fetcher.root().join(source.destination()).join(&entry.path);
                        !options.force && place.is_file()
                    };
                    Some(instructions(&fetcher.sources(&artifact.name, only)?, there))
                }
                _ => None,
            };
            match advice {
                Some(advice) => bail!("{error}\n\n{advice}"),
                None => Err(error.into()),
            }
        }
    }
}

fn report(outcome: &Outcome) {
    for path in &outcome.kept {
        println!("there already: {}", shown(path));
    }
    for path in &outcome.fetched {
        println!("fetched: {}", shown(path));
    }
}

/// `path`, from the current directory if it is below that.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path).display().to_string()
}

/// Whether another machine or a browser may get what this one did not.
fn is_remote(error: &FetchError) -> bool {
    match error {
        FetchError::Status { .. }
        | FetchError::Network { .. }
        | FetchError::WebPage { .. }
        | FetchError::Hub { .. } => true,
        FetchError::AllSources { failures, .. } => failures.iter().any(|(_, error)| is_remote(error)),
        _ => false,
    }
}

/// Whether the hub wants to know who asks.
fn is_refusal(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::TokenMissing { .. } | FetchError::TokenRefused { .. } | FetchError::AccessDenied { .. }
    )
}

/// How to go on where data may not be passed on to everybody.
fn without_access(artifact: &Artifact, error: &FetchError) -> String {
    let Artifact { name, homepage, layouts, .. } = artifact;
    let mut text = match error {
        FetchError::TokenMissing { .. } => format!("Then\n  HF_TOKEN=... cargo xtask fetch-data {name}\n"),
        _ => String::new(),
    };
    if !layouts.is_empty() {
        text += &format!(
            "A copy of your own will do as well, from {homepage} for instance, where one has to register:\n  \
             cargo run -p infer -- {name} BACKBONE --dataset-path DIR\nDIR holds one of\n"
        );
        layouts.iter().for_each(|layout| text += &format!("  - {layout}\n"));
    }
    text.trim_end().to_owned()
}

/// What to do where only another machine or a browser can download; `there` are the files that it need not.
fn instructions(sources: &[(&Source, Vec<&Entry>)], there: impl Fn(&Source, &Entry) -> bool) -> String {
    let hub = HubOptions::default();
    let listed = sources.iter().map(|(source, entries)| {
        let missing = entries.iter().filter(|entry| !there(source, entry));
        let files: Vec<(String, &str)> = match source {
            Source::Archive(source) => vec![(source.url.clone(), &source.file)],
            Source::Hub(source) => {
                missing.map(|entry| (hub.url(source, entry), entry.mirror_names()[0])).collect()
            }
            Source::Files(_) => missing
                .map(|entry| (entry.url.clone().unwrap_or_default(), entry.mirror_names()[0]))
                .collect(),
        };
        let lines = files.iter().map(|(url, name)| match url.rsplit('/').next() == Some(name) {
            true => format!("  {url}\n"),
            false => format!("  {url}\n    as {name}\n"),
        });
        lines.collect::<String>()
    });
    let listed = listed.collect::<Vec<_>>().join("or\n");
    format!(
        "To go on without this connection, download by other means\n{listed}and repeat the command with --from \
         and the directory that holds it."
    )
}
