//! `infer`: evaluates a network exactly and with approximated activations, side by side.
//!
//! | module | what |
//! |---|---|
//! | `args` | the command line |
//! | `inputs` | weights, data and device |
//! | `polynomials` | the published ones, or those of a file |
//! | `run` | the evaluation of one network |
//! | `demo` | the table over alpha |
//! | `calibrate` | a bound for each activation |
//! | `tune` | a precision for each activation |
//! | `plan` | an encrypted run, planned and simulated |
//! | `sweep` | several networks and precisions, resumable |
//! | `report` | a sweep as a page and pictures |
//! | `graph`, `drawing` | a network as a table, a picture or an ONNX file |
//! | `display` | results as text |
//! | `progress` | bars on a terminal, lines elsewhere |

#![forbid(unsafe_code)]

mod args;
mod calibrate;
mod check;
mod demo;
mod display;
mod drawing;
mod graph;
mod inputs;
mod plan;
mod polynomials;
mod progress;
mod report;
mod run;
mod sweep;
mod tune;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use approx_cli::program;
use approx_eval::{EvalError, with_batches_that_fit};

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    program::run(cli.verbose, || execute(&cli).map(|()| ExitCode::SUCCESS))
}

fn execute(cli: &Cli) -> anyhow::Result<()> {
    let Some(machine) = cli.command.machine() else { return evaluate(cli) };
    program::use_machine(machine.threads, machine.simd)?;
    let (batch_size, retry) = (machine.batch_inf.get(), !machine.no_retry);
    with_batches_that_fit(
        batch_size,
        |error: &anyhow::Error| error.downcast_ref::<EvalError>().filter(|_| retry),
        |error, smaller| eprintln!("note: {error}\nnote: from the beginning, {smaller} images at a time"),
        |batch_size| {
            machine.smaller_batch.set(NonZeroUsize::new(batch_size));
            evaluate(cli)
        },
    )
}

fn evaluate(cli: &Cli) -> anyhow::Result<()> {
    let observer = progress::PassProgress::new(cli.verbose > 0);
    match &cli.command {
        Command::Evaluate(on) => run::evaluate(on, &observer),
        Command::Demo(args) => demo::demo(args, &observer),
        Command::Calibrate(on) => calibrate::calibrate(on, &observer),
        Command::Sweep(on) => sweep::sweep(on, &observer),
        Command::Tune(on) => tune::tune(on, &observer),
        Command::Plan(on) => plan::plan(on),
        Command::Graph(args) => graph::graph(args),
    }
}
