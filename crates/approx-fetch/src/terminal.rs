//! [`Progress`] for people: bars on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::Progress;

/// How often a transfer is worth a line where lines stay.
const INTERVAL: Duration = Duration::from_secs(10);

const BAR: &str = "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
const SPINNER: &str = "{msg} {spinner} {decimal_bytes} {decimal_bytes_per_sec}";

/// Shows transfers and notes on standard error, or wherever [`lines`](Self::lines) says.
///
/// ```
/// use approx_fetch::{Progress, terminal::TerminalProgress};
///
/// let mut lines = Vec::new();
/// let mut progress = TerminalProgress::lines(&mut lines);
/// progress.start("cifar10.zip", Some(2_000_000), 0);
/// progress.advance(2_000_000);
/// progress.finish();
/// drop(progress);
/// assert_eq!(lines, b"cifar10.zip: 2.00 MB\n");
/// ```
pub struct TerminalProgress<'a>(Mode<'a>);

enum Mode<'a> {
    Bars(Option<ProgressBar>),
    Lines { out: Box<dyn Write + Send + 'a>, transfer: Option<Transfer> },
}

struct Transfer {
    file: String,
    total: Option<u64>,
    done: u64,
    last_line: Instant,
}

impl TerminalProgress<'static> {
    /// On standard error: bars if it is a terminal, otherwise lines.
    pub fn new() -> Self {
        match std::io::stderr().is_terminal() {
            true => Self(Mode::Bars(None)),
            false => Self::lines(std::io::stderr()),
        }
    }
}

impl Default for TerminalProgress<'static> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> TerminalProgress<'a> {
    /// Plain lines to `out`. Failures to write are ignored.
    pub fn lines(out: impl Write + Send + 'a) -> Self {
        Self(Mode::Lines { out: Box::new(out), transfer: None })
    }
}

impl Progress for TerminalProgress<'_> {
    fn start(&mut self, file: &str, total: Option<u64>, already: u64) {
        match &mut self.0 {
            Mode::Bars(bar) => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
                let template = if total.is_some() { BAR } else { SPINNER };
                let style = ProgressStyle::with_template(template).expect("the templates are constants");
                let new = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden())
                    .with_style(style.progress_chars("=> "))
                    .with_message(file.to_owned())
                    .with_position(already);
                // What was there before counts neither for the speed nor for the remaining time.
                new.tick();
                new.reset_eta();
                new.set_draw_target(ProgressDrawTarget::stderr());
                *bar = Some(new);
            }
            Mode::Lines { transfer, .. } => {
                let file = file.to_owned();
                *transfer = Some(Transfer { file, total, done: already, last_line: Instant::now() });
            }
        }
    }

    fn advance(&mut self, bytes: u64) {
        match &mut self.0 {
            Mode::Bars(Some(bar)) => bar.inc(bytes),
            Mode::Lines { out, transfer: Some(transfer) } => {
                transfer.done += bytes;
                if transfer.last_line.elapsed() >= INTERVAL {
                    transfer.last_line = Instant::now();
                    let done = DecimalBytes(transfer.done);
                    let _ = match transfer.total {
                        Some(total) => writeln!(out, "{}: {done} of {}", transfer.file, DecimalBytes(total)),
                        None => writeln!(out, "{}: {done} so far", transfer.file),
                    };
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        match &mut self.0 {
            Mode::Bars(bar) => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                    eprintln!("{}: {}", bar.message(), DecimalBytes(bar.position()));
                }
            }
            Mode::Lines { out, transfer } => {
                if let Some(transfer) = transfer.take() {
                    let _ = writeln!(out, "{}: {}", transfer.file, DecimalBytes(transfer.done));
                }
            }
        }
    }

    fn note(&mut self, message: &str) {
        match &mut self.0 {
            Mode::Bars(Some(bar)) => bar.suspend(|| eprintln!("{message}")),
            Mode::Bars(None) => eprintln!("{message}"),
            Mode::Lines { out, .. } => {
                let _ = writeln!(out, "{message}");
            }
        }
    }
}

impl Drop for TerminalProgress<'_> {
    fn drop(&mut self) {
        if let Mode::Bars(Some(bar)) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
