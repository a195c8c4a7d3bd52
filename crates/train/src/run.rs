//! The training loop.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow, bail};
use approx_data::random::stream;
use approx_data::{Epoch, ImageSet, ImageSource, prefetch};
use approx_models::{ActivationPolicy, Backbone, Network, Sgd, StepOptions, TrainableNetwork, Weights};
use candle_core::Device;
use rand::RngCore;

use crate::checkpoint::{Checkpoint, Header, Position, Tensors, write_tensors};
use crate::evaluate::evaluate;
use crate::files::Files;
use crate::history::{self, EpochRecord, Means};
use crate::plot;
use crate::progress::Progress;
use crate::recipe::Recipe;

/// A run: what is trained, with what, and where it is written.
pub struct Training<'a> {
    backbone: &'static Backbone,
    header: Header,
    network: TrainableNetwork,
    sgd: Sgd,
    /// Where the checkpoint is.
    saved: Option<Position>,
    images: &'a Images,
    files: &'a Files,
    stop: &'a AtomicBool,
    progress: &'a Progress,
    device: Device,
}

/// What a network is trained with and tested on.
pub struct Images {
    pub train: ImageSet,
    pub test: ImageSet,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Finished,
    /// It was to stop, and can go on.
    Stopped,
}

impl<'a> Training<'a> {
    /// A run that begins or goes on where `header` says, with these weights and velocities, on the weights' device.
    pub fn new(
        backbone: &'static Backbone,
        header: Header,
        weights: &Weights,
        velocity: Tensors,
        images: &'a Images,
        files: &'a Files,
        (stop, progress): (&'a AtomicBool, &'a Progress),
    ) -> Result<Self> {
        let recipe = &header.recipe;
        let graph = backbone.graph()?;
        let network = TrainableNetwork::build(graph, weights, &recipe.policy(), &Recipe::OPTIONS)?;
        let mut sgd = Sgd::new(recipe.momentum, recipe.weight_decay, recipe.nesterov);
        sgd.set_velocity(velocity);
        let device = weights.device().clone();
        Ok(Self { backbone, header, network, sgd, saved: None, images, files, stop, progress, device })
    }

    /// Trains until the last epoch is done, or until it is to stop. Whenever the process ends, what the checkpoint
    /// holds leads to the same files.
    pub fn run(mut self) -> Result<Ending> {
        self.save()?;
        let Header { recipe, position, .. } = &self.header;
        if recipe.init.is_some()
            && *position == Position::default()
            && let Some(test) = self.measure(&self.state()?)?
        {
            self.progress.before(&test, recipe)?;
        }
        while self.header.position.epoch < self.header.recipe.epochs {
            self.train_epoch()?;
            let record = if self.stopped() { None } else { self.test_epoch()? };
            let Some(record) = record else {
                self.save()?;
                self.progress.stopped(&self.header);
                return Ok(Ending::Stopped);
            };
            self.progress.epoch_finished(&record, &self.header)?;
        }
        Ok(Ending::Finished)
    }

    /// The batches of the epoch that are left, or until it is to stop.
    fn train_epoch(&mut self) -> Result<()> {
        let last_good = self.last_good();
        let Header { recipe, position, .. } = &mut self.header;
        let epoch = Epoch::new(&self.images.train, position.epoch, recipe.epoch_options());
        let batches = epoch.batches(recipe.batch_size);
        let rest = &batches[position.batch..];
        self.progress.epoch_started(position, recipe.epochs, epoch.len());
        let normalization = recipe.dataset.normalization();
        prefetch(&epoch, rest, &normalization, &self.device, |_, batch| {
            let input = batch.images.ok_or_else(|| anyhow!("a batch without images"))?;
            let lr = recipe.learning_rate(position.epoch, position.batch, batches.len());
            let dropout = || stream(recipe.seed, "dropout", position.epoch, position.batch).next_u64();
            let options = StepOptions {
                dropout_seed: recipe.dropout.then(dropout),
                range_penalty: recipe.range_penalty as f32,
            };
            let (report, gradients) = self.network.gradients(&input, &batch.labels, options)?;
            let loss = report.loss + report.penalty;
            if !loss.is_finite() {
                let (epoch, batch) = (position.epoch + 1, position.batch + 1);
                bail!(
                    "epoch {epoch}, batch {batch}: the loss is {loss} at a learning rate of {lr:?}; {last_good}"
                );
            }
            self.sgd.step(&mut self.network, &gradients, lr)?;
            position.sums.add(&report, batch.labels.len());
            position.batch += 1;
            self.progress.step(batch.labels.len(), &position.sums, lr);
            Ok(match self.stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })
    }

    /// Tests the network and writes everything; `None` if it is to stop before.
    fn test_epoch(&mut self) -> Result<Option<EpochRecord>> {
        let state = self.state()?;
        let Some(test) = self.measure(&state)? else { return Ok(None) };
        let Header { recipe, position, history, .. } = &mut self.header;
        let batches = self.images.train.len().div_ceil(recipe.batch_size);
        let record = EpochRecord {
            epoch: position.epoch + 1,
            lr: recipe.learning_rate(position.epoch, batches - 1, batches),
            train: position.sums.means(),
            penalty: position.sums.penalty / position.sums.images as f64,
            test,
        };
        history.push(record);
        *position = Position { epoch: position.epoch + 1, ..Position::default() };

        let note = serde_json::json!({ "recipe": recipe, "result": record }).to_string();
        let write = |path: &Path| {
            let metadata = HashMap::from([("training".to_owned(), note.clone())]);
            write_tensors(path, state.iter().map(|(name, tensor)| (name.clone(), tensor)), metadata)
        };
        if history::best(history) == Some(&record) {
            write(&self.files.best())?;
        }
        write(&self.files.last())?;
        atomic_file::write(&self.files.history(), history::to_csv(history).as_bytes())?;
        let title = format!("{} on {}", recipe.backbone, recipe.dataset.title());
        atomic_file::write(&self.files.plot(), plot::svg(&title, history)?.as_bytes())?;
        // Last: until it is written, the run goes on from the one before and writes the same files again.
        self.save()?;
        Ok(Some(record))
    }

    /// What a network of these weights does on the test images; `None` if it is to stop before.
    fn measure(&self, state: &Tensors) -> Result<Option<Means>> {
        let tensors = state.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        let weights = Weights::from_tensors(tensors, &self.device, "the weights in training".to_owned())?;
        let mut network = Network::build(self.backbone.graph()?, &weights, &ActivationPolicy::exact())?;
        network.set_policy(&self.header.recipe.policy(), &Recipe::OPTIONS)?;
        let normalization = self.header.recipe.dataset.normalization();
        let data = (&self.images.test, &normalization);
        let test = evaluate(&network, data, &self.device, self.stop, self.progress);
        test.map_err(|error| anyhow!("{error}; {}", self.last_good()))
    }

    /// Writes the checkpoint.
    fn save(&mut self) -> Result<()> {
        let (weights, velocity) = (self.state()?, self.sgd.velocity()?);
        Checkpoint { header: self.header.clone(), weights, velocity }.write(&self.files.checkpoint())?;
        self.saved = Some(self.header.position);
        Ok(())
    }

    /// All weights; fails if one is not finite, so that no such file is ever written.
    fn state(&self) -> Result<Tensors> {
        let state = self.network.state()?;
        for (name, tensor) in &state {
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let Position { epoch, batch, .. } = self.header.position;
                let last_good = self.last_good();
                bail!(
                    "epoch {}, after batch {batch}: `{name}` has the value {value}; {last_good}",
                    epoch + 1
                );
            }
        }
        Ok(state)
    }

    /// For the message of a run that fails.
    fn last_good(&self) -> String {
        let saved = match self.saved {
            None => return "nothing has been saved".to_owned(),
            Some(Position { epoch: 0, batch: 0, .. }) => "of the beginning".to_owned(),
            Some(Position { epoch, batch: 0, .. }) => format!("after epoch {epoch}"),
            Some(Position { epoch, batch, .. }) => format!("in epoch {} after batch {batch}", epoch + 1),
        };
        let path = self.files.checkpoint();
        format!("the last good checkpoint, {saved}, is {}; try a smaller --lr", path.display())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
