//! From `main` to an exit code.

use std::io::{self, IsTerminal, Write, stderr};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::options::Simd;

/// Logs to standard error (in as much detail as `verbose` says), executes, and prints an error.
pub fn run(verbose: u8, execute: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    let level = match verbose {
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
    match execute() {
        Ok(code) => code,
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

/// How many threads and which vector instructions are used; `None` for all there are.
///
/// # Errors
/// Threads that cannot be started, instructions that the processor has not.
pub fn use_machine(threads: Option<NonZeroUsize>, simd: Option<Simd>) -> Result<()> {
    if let Some(threads) = threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
        pool.build_global().context("starting the threads")?;
    }
    if let Some(level) = simd {
        cnn_kernels::SimdLevel::force(level.into())?;
    }
    Ok(())
}

/// Writes results to standard output.
///
/// # Errors
/// The system's, such as that nobody reads on.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
