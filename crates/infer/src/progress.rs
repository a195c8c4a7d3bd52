//! How far an evaluation is.

use std::cell::RefCell;
use std::fmt::Write;
use std::io::{IsTerminal, stderr};

use approx_eval::{Observer, RangeError};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A bar for each pass on a terminal, lines elsewhere. Goes to standard error.
pub struct PassProgress {
    logs: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl PassProgress {
    /// With `logs`, lines of the log take the bar's place.
    pub fn new(logs: bool) -> Self {
        Self { logs, bar: RefCell::default() }
    }

    fn line(&self, line: &str) {
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Observer for PassProgress {
    fn pass_started(&self, name: &str, images: usize) {
        if self.logs || !stderr().is_terminal() {
            eprintln!("{name} pass over {images} images");
            return;
        }
        let style = "{msg:11} {wide_bar:.cyan/dim} {pos:>5}/{len}  {speed:>14}  {eta:>4} left";
        let style = ProgressStyle::with_template(style).expect("the template is well formed").with_key(
            "speed",
            |state: &ProgressState, out: &mut dyn Write| {
                // Writing to a bar's own buffer does not fail.
                let _ = write!(out, "{:.0} images/s", state.per_sec());
            },
        );
        let bar = ProgressBar::new(images as u64).with_style(style).with_message(name.to_owned());
        self.bar.replace(Some(bar));
    }

    fn advanced(&self, images: usize) {
        tracing::debug!(images, "batch done");
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(images as u64);
        }
    }

    fn pass_finished(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn waiting(&self, cell: &str) {
        self.line(&format!("waiting for another process that computes {cell}"));
    }

    fn widened(&self, error: &RangeError, bound: f64) {
        if !self.logs {
            self.line(&format!("widened to {bound}: {error}"));
        }
    }
}
