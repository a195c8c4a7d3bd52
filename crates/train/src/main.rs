//! `train`: trains a network from the beginning, or on through the approximation of its activations.
//!
//! | module | what |
//! |---|---|
//! | `args` | the command line |
//! | `dataset` | what networks are trained for |
//! | `recipe` | every number that decides what comes out; the learning rate |
//! | `setup` | checks and loads what a run needs |
//! | `run` | the loop |
//! | `evaluate` | loss and accuracy on the test images |
//! | `checkpoint` | what it takes to go on |
//! | `files` | what is written where |
//! | `history`, `plot` | epochs as a table and as a picture |
//! | `progress` | bars on a terminal, a line an epoch |

#![forbid(unsafe_code)]

mod args;
mod checkpoint;
mod dataset;
mod evaluate;
mod files;
mod history;
mod plot;
mod progress;
mod recipe;
mod run;
mod setup;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use approx_cli::program;
use clap::Parser;

use crate::args::Cli;
use crate::progress::Progress;
use crate::run::{Ending, Training};
use crate::setup::Setup;

/// What a shell gives for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    program::run(cli.verbose, || execute(&cli))
}

fn execute(cli: &Cli) -> Result<ExitCode> {
    program::use_machine(cli.threads, cli.simd)?;
    let device = cli.device.open()?;
    let Setup { backbone, files, images, header, weights, velocity } = setup::prepare(cli)?;
    let progress = Progress::new(cli.verbose > 0);
    let stop = stop_on_ctrl_c()?;
    progress.started(&header, &files)?;
    let weights = weights.to_device(&device)?;
    let training = Training::new(backbone, header, &weights, velocity, &images, &files, (&stop, &progress))?;
    drop(weights);
    match training.run()? {
        Ending::Finished => Ok(ExitCode::SUCCESS),
        Ending::Stopped => {
            eprintln!("the same command with --resume, and without --force, goes on");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Becomes true with Ctrl-C or a signal to terminate; the second time, the program ends.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("\nstopping after this batch; Ctrl-C once more stops at once, without saving");
    })
    .context("listening for Ctrl-C")?;
    Ok(stop)
}
