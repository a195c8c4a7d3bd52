//! `cargo xtask`: tasks of this repository that cargo itself has no command for.
//!
//! `cargo xtask fetch-params` fetches trained weights, `cargo xtask fetch-data` a data set. What they fetch
//! and from where is in the manifest of the crate approx-fetch. Notes and progress go to standard error, the
//! list of files to standard output.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use approx_fetch::terminal::TerminalProgress;
use approx_fetch::{Artifact, FetchError, Fetcher, Mirror, Outcome, Progress, Source};
use clap::{Args, Parser, Subcommand};

/// The artifacts with weights are named after their data set.
const PARAMS: &str = "-params";

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
        #[command(flatten)]
        options: Options,
    },
    /// Fetch a data set into datasets/
    FetchData {
        /// The data set
        #[arg(value_name = "DATA_SET", default_value = "cifar10")]
        data_set: String,
        /// The test images, the training images, or both
        #[arg(value_name = "test|train|all", default_value = ALL)]
        part: String,
        /// Where from: the Hugging Face hub, the University of Toronto, or the first of them that delivers
        #[arg(long, value_name = "auto|hub|toronto", default_value = AUTO)]
        source: String,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Args)]
struct Options {
    /// Take the files from this directory or web server instead, under the names that they have at the source,
    /// such as cifar10.zip; a directory may hold an archive's files unpacked
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
        Command::FetchParams { data_set, backbone, options } => {
            let fetcher = options.fetcher()?;
            let artifact = artifact(&fetcher, &data_set, PARAMS)?;
            fetch(&fetcher, &options, artifact, &backbone)?;
            let example = if backbone == ALL { artifact.keys()[0] } else { &backbone };
            println!("next: cargo run -p infer -- {data_set} {example}");
        }
        Command::FetchData { data_set, part, source, options } => {
            let fetcher = options.fetcher()?.with_source((source != AUTO).then_some(source.as_str()));
            let artifact = artifact(&fetcher, &data_set, "")?;
            fetch(&fetcher, &options, artifact, &part)?;
            println!("next: cargo run -p infer -- {data_set} resnet20");
        }
    }
    Ok(())
}

impl Options {
    fn fetcher(&self) -> Result<Fetcher> {
        let root = match &self.root {
            Some(root) => root.clone(),
            None => default_root()?,
        };
        Ok(Fetcher::new(root).with_mirror(self.from.clone()).with_force(self.force))
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

fn fetch(fetcher: &Fetcher, options: &Options, artifact: &Artifact, part: &str) -> Result<()> {
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
            Ok(())
        }
        Err(error) => {
            let by_hand = options.from.is_none() && is_remote(&error);
            let error = anyhow::Error::new(error);
            match by_hand.then(|| instructions(artifact)) {
                Some(instructions) => bail!("{error:#}\n\n{instructions}"),
                None => Err(error),
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

/// What to do where only another machine or a browser can download.
fn instructions(artifact: &Artifact) -> String {
    let mut text = String::from("To go on without this connection, download by other means\n");
    for source in &artifact.sources {
        match source {
            Source::Archive(source) => text += &format!("  {}\n    as {}\n", source.url, source.file),
            Source::Hub(_) | Source::Files(_) => {}
        }
    }
    text + "and repeat the command with --from and the directory that holds it."
}
