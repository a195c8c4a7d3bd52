//! `infer`: evaluates a network exactly and with approximated activations, side by side.
//!
//! | module | what |
//! |---|---|
//! | `args` | the command line |
//! | `compositions` | the polynomials: published, or from a file |
//! | `inputs` | finds weights and data, and fetches what is missing |
//! | `run` | the evaluation of one network |
//! | `demo` | the table over alpha |
//! | `display` | results as text |
//! | `progress` | bars on a terminal, lines elsewhere |

mod args;
mod compositions;
mod demo;
mod display;
mod inputs;
mod progress;
mod run;

use std::io::{self, IsTerminal, stderr};
use std::process::ExitCode;

use anyhow::Context;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    let level = match cli.verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .without_time()
        .init();
    match execute(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever reads the output has seen enough, as in `infer demo | head`.
            let closed = |e: &(dyn std::error::Error + 'static)| {
                e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            };
            if !error.chain().any(closed) {
                eprintln!("error: {}", message(&error));
            }
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, but those that it names itself.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = text + separator + &cause;
        }
    }
    text
}

fn execute(cli: &Cli) -> anyhow::Result<()> {
    let common = cli.command.common();
    if let Some(threads) = common.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
        pool.build_global().context("starting the threads")?;
    }
    if let Some(level) = common.simd {
        approx_ops::SimdLevel::force(level.into())?;
    }
    let observer = progress::PassProgress::new(cli.verbose > 0);
    match &cli.command {
        Command::Cifar10(args) => run::cifar10(args, &observer),
        Command::ImageNet(args) => run::imagenet(args, &observer),
        Command::Demo(args) => demo::demo(args, &observer),
    }
}
