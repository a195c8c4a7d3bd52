//! A sweep as a page and as pictures.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use approx_eval::Observer;
use approx_eval::cells::Cells;
use approx_eval::sweep::{Row, Setting, Sweep};
use approx_models::Composition;
use approx_report::data::shell_quoted;
use approx_report::{Machine, NetworkData, SignError, SweepData, machine, page};

use crate::args::SweepArgs;

/// What `--html` and `--plots` ask for.
pub struct Report<'a> {
    args: &'a SweepArgs,
    data: SweepData,
}

impl<'a> Report<'a> {
    /// Without a network yet; `None` if nothing was asked for.
    pub fn new(args: &'a SweepArgs, settings: &[Setting]) -> Option<Self> {
        if args.html.is_none() && args.plots.is_none() {
            return None;
        }
        // One composition may be there with several noises.
        let mut compositions: Vec<&Arc<Composition>> =
            settings.iter().map(|setting| &setting.composition).collect();
        compositions.dedup();
        let data = SweepData {
            command: shell_quoted(
                std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()),
            ),
            machine: Machine::current(rayon::current_num_threads(), machine::now()),
            networks: Vec::new(),
            signs: compositions.into_iter().map(|composition| SignError::of(composition)).collect(),
        };
        Some(Self { args, data })
    }

    /// Adds a network with its results.
    pub fn add(
        &mut self,
        sweep: &mut Sweep,
        cells: &Cells,
        rows: Vec<Row>,
        observer: &dyn Observer,
    ) -> Result<()> {
        let (rows, noisy): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.noise_bits.is_none());
        // The most precise network is the nearest to the exact one, whose inputs are shown.
        let most_precise = rows.iter().rev().find(|row| row.unusable.is_none());
        let sites = sweep.sites(cells, most_precise, observer)?;
        self.data.networks.push(NetworkData {
            backbone: sweep.backbone.clone(),
            dataset: sweep.dataset.clone(),
            weights: sweep.weights.clone(),
            policy: self.args.policy.as_ref().map(|path| path.display().to_string()),
            bounds_of: most_precise.map(|row| row.alpha),
            rows,
            noisy,
            sites,
        });
        Ok(())
    }

    /// Writes what was asked for, with the networks so far.
    pub fn write(&self) -> Result<()> {
        if let Some(path) = &self.args.html {
            page::write(&self.data, path)?;
        }
        if let Some(folder) = &self.args.plots {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            page::write_plots(&self.data, folder)?;
        }
        Ok(())
    }
}
