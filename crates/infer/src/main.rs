//! `infer`: evaluates a network exactly and with approximated activations, side by side.
//!
//! | module | what |
//! |---|---|
//! | `args` | the command line |
//! | `compositions` | the polynomials: published, or from a file |
//! | `inputs` | weights, data and device |
//! | `run` | the evaluation of one network |
//! | `demo` | the table over alpha |
//! | `calibrate` | a bound for each activation |
//! | `sweep` | several networks and precisions, resumable |
//! | `display` | results as text |
//! | `progress` | bars on a terminal, lines elsewhere |

mod args;
mod calibrate;
mod compositions;
mod demo;
mod display;
mod inputs;
mod progress;
mod run;
mod sweep;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::Context;
use approx_cli::program;
use approx_eval::{EvalError, with_batches_that_fit};

use crate::args::{CalibrateCommand, Cli, Command, SweepCommand};

fn main() -> ExitCode {
    let mut cli = Cli::from_arguments();
    program::run(cli.verbose, || execute(&mut cli).map(|()| ExitCode::SUCCESS))
}

fn execute(cli: &mut Cli) -> anyhow::Result<()> {
    let machine = cli.command.machine();
    program::use_machine(machine.threads, machine.simd)?;
    let (batch_size, retry) = (machine.batch_inf.get(), !machine.no_retry);
    with_batches_that_fit(
        batch_size,
        |error: &anyhow::Error| error.downcast_ref::<EvalError>().filter(|_| retry),
        |error, smaller| eprintln!("note: {error}\nnote: from the beginning, {smaller} images at a time"),
        |batch_size| {
            cli.command.machine().batch_inf =
                NonZeroUsize::new(batch_size).context("a batch of no images")?;
            evaluate(cli)
        },
    )
}

fn evaluate(cli: &Cli) -> anyhow::Result<()> {
    let observer = progress::PassProgress::new(cli.verbose > 0);
    match &cli.command {
        Command::Cifar10(args) => run::cifar10(args, &observer),
        Command::ImageNet(args) => run::imagenet(args, &observer),
        Command::Demo(args) => demo::demo(args, &observer),
        Command::Calibrate(CalibrateCommand::Cifar10(args)) => calibrate::cifar10(args, &observer),
        Command::Calibrate(CalibrateCommand::ImageNet(args)) => calibrate::imagenet(args, &observer),
        Command::Sweep(SweepCommand::Cifar10(args)) => sweep::cifar10(args, &observer),
        Command::Sweep(SweepCommand::ImageNet(args)) => sweep::imagenet(args, &observer),
    }
}
