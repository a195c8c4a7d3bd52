//! How far a run is: a bar a epoch on a terminal's standard error, a line an epoch on standard output.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal, stderr};
use std::time::{Duration, Instant};

use approx_cli::program::print;
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoint::{Header, Position};
use crate::files::Files;
use crate::history::{self, EpochRecord, Means, Sums};
use crate::recipe::Recipe;

/// Shows what a run does.
pub struct Progress {
    bars: bool,
    bar: RefCell<Option<ProgressBar>>,
    /// Images that this process has trained with in this epoch, and how long that took.
    speed: Cell<Speed>,
}

#[derive(Clone, Copy)]
struct Speed {
    start: Instant,
    images: usize,
    elapsed: Duration,
}

impl Speed {
    fn new() -> Self {
        Self { start: Instant::now(), images: 0, elapsed: Duration::ZERO }
    }

    /// As text; a dash where nothing was done.
    fn images_per_second(&self) -> String {
        match self.images {
            0 => "-".to_owned(),
            images => format!("{:.1}", images as f64 / self.elapsed.as_secs_f64().max(1e-9)),
        }
    }
}

const TRAIN: &str = "{prefix:9} {wide_bar:.cyan/dim} {pos:>5}/{len}  {msg}  {eta:>4} left";
const TEST: &str = "{prefix:9} {wide_bar:.green/dim} {pos:>5}/{len}  testing  {eta:>4} left";

impl Progress {
    /// With `logs`, lines of the log take the bar's place.
    pub fn new(logs: bool) -> Self {
        let bars = !logs && stderr().is_terminal();
        Self { bars, bar: RefCell::default(), speed: Cell::new(Speed::new()) }
    }

    /// What is to be done, and what the columns of [`epoch_finished`](Self::epoch_finished) are.
    pub fn started(&self, header: &Header, files: &Files) -> io::Result<()> {
        let Header { recipe, data, position, .. } = header;
        let (train, test) = (data.train.images, data.test.images);
        let mut text = format!("{}: {train} training and {test} test images, ", recipe.backbone);
        text += &format!("{}\n", files.last().display());
        if *position != Position::default() {
            let (epoch, images) = (position.epoch + 1, position.sums.images);
            text += &format!("goes on in epoch {epoch} after {images} images\n");
        }
        let columns =
            ["epoch", "lr", "loss", "accuracy", "test loss", "accuracy", "images/s", "outside", "in test"];
        print(&(text + &row(recipe, columns.map(str::to_owned))))
    }

    /// What the weights to begin with do.
    pub fn before(&self, test: &Means, recipe: &Recipe) -> io::Result<()> {
        self.clear();
        let [loss, accuracy] = loss_and_accuracy(test);
        let (epoch, outside) = (format!("0/{}", recipe.epochs), test.out_of_range.to_string());
        let none = String::new;
        print(&row(recipe, [epoch, none(), none(), none(), loss, accuracy + " ", none(), none(), outside]))
    }

    /// An epoch begins, or goes on.
    pub fn epoch_started(&self, position: &Position, epochs: usize, images: usize) {
        self.speed.set(Speed::new());
        let prefix = format!("{}/{epochs}", position.epoch + 1);
        self.start(prefix, TRAIN, images, position.sums.images);
    }

    /// A step with so many images.
    pub fn step(&self, images: usize, sums: &Sums, lr: f64) {
        let Speed { start, images: before, .. } = self.speed.get();
        let speed = Speed { start, images: before + images, elapsed: start.elapsed() };
        self.speed.set(speed);
        let means = sums.means();
        let (loss, accuracy) = (means.loss, 100.0 * means.accuracy);
        tracing::debug!(loss, accuracy, lr, "batch done");
        if let Some(bar) = &*self.bar.borrow() {
            let speed = speed.images_per_second();
            bar.set_message(format!("loss {loss:.3}  {accuracy:.1} %  lr {lr:.1e}  {speed} images/s"));
            bar.inc(images as u64);
        }
    }

    /// The test of an epoch begins.
    pub fn test_started(&self, images: usize) {
        self.start("test".to_owned(), TEST, images, 0);
    }

    /// So many more images are tested.
    pub fn tested(&self, images: usize) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(images as u64);
        }
    }

    /// An epoch is done and saved.
    pub fn epoch_finished(&self, record: &EpochRecord, header: &Header) -> io::Result<()> {
        self.clear();
        let (recipe, EpochRecord { epoch, lr, train, test, .. }) = (&header.recipe, record);
        let best = if history::best(&header.history) == Some(record) { "*" } else { " " };
        let [train_loss, train_accuracy] = loss_and_accuracy(train);
        let [test_loss, test_accuracy] = loss_and_accuracy(test);
        let line = [
            format!("{epoch}/{}", recipe.epochs),
            format!("{lr:.2e}"),
            train_loss,
            train_accuracy,
            test_loss,
            test_accuracy + best,
            self.speed.get().images_per_second(),
            train.out_of_range.to_string(),
            test.out_of_range.to_string(),
        ];
        print(&row(recipe, line))
    }

    /// The run is saved where it was to stop.
    pub fn stopped(&self, header: &Header) {
        self.clear();
        let Header { position, data, .. } = header;
        let (epoch, done, images) = (position.epoch + 1, position.sums.images, data.train.images);
        eprintln!("stopped in epoch {epoch} after {done} of {images} images, and saved");
    }

    /// The bar is in the way of a message.
    pub fn clear(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn start(&self, prefix: String, template: &str, images: usize, done: usize) {
        self.clear();
        if self.bars {
            let style = ProgressStyle::with_template(template).expect("the template is well formed");
            let bar = ProgressBar::new(images as u64).with_style(style).with_prefix(prefix);
            self.bar.replace(Some(bar.with_position(done as u64)));
        }
    }
}

/// A line of the table, of 80 characters at most. The last two columns are for approximations only.
fn row(recipe: &Recipe, columns: [String; 9]) -> String {
    let [epoch, lr, loss, accuracy, test_loss, test_accuracy, speed, outside, in_test] = columns;
    let mut row =
        format!("{epoch:7} {lr:>8} {loss:>7} {accuracy:>8} {test_loss:>9} {test_accuracy:>9} {speed:>8}");
    if recipe.approx.is_some() || recipe.policy.is_some() {
        row += &format!(" {outside:>8} {in_test:>8}");
    }
    row.trim_end().to_owned() + "\n"
}

fn loss_and_accuracy(means: &Means) -> [String; 2] {
    [format!("{:.4}", means.loss), format!("{:.2} %", 100.0 * means.accuracy)]
}

/// An error is not to stand behind a bar.
impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
