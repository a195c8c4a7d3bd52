//! What a run writes, and where.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use approx_cli::inputs::EXTENSIONS;
use atomic_file::check_writable;

/// The files of one run, which all begin with `FOLDER/BACKBONE_NAME`.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
    stem: String,
}

impl Files {
    pub fn new(folder: &Path, backbone: &str, name: &str) -> Self {
        Self { folder: folder.to_owned(), stem: format!("{backbone}_{name}") }
    }

    /// The weights after the last epoch.
    pub fn last(&self) -> PathBuf {
        self.path(".safetensors")
    }

    /// The weights of the epoch with the best test accuracy.
    pub fn best(&self) -> PathBuf {
        self.path("-best.safetensors")
    }

    /// What it takes to go on.
    pub fn checkpoint(&self) -> PathBuf {
        self.path(".checkpoint.safetensors")
    }

    pub fn history(&self) -> PathBuf {
        self.path(".history.csv")
    }

    pub fn plot(&self) -> PathBuf {
        self.path(".svg")
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}{ending}", self.stem))
    }

    /// Makes the folder, and fails if nothing can be written there.
    pub fn prepare(&self) -> Result<()> {
        std::fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        Ok(check_writable(&self.checkpoint())?)
    }

    /// Fails if there is a file that a new run would replace, or that `infer` would no longer find beside it.
    pub fn check_new(&self) -> Result<()> {
        let weights = EXTENSIONS.map(|extension| self.path(&format!(".{extension}")));
        let others = [self.best(), self.checkpoint(), self.history(), self.plot()];
        if let Some(path) = weights.iter().chain(&others).find(|path| path.exists()) {
            bail!(
                "{} exists: --resume goes on with an earlier run, --force begins anew and replaces its files, \
                 another --params-name keeps them",
                path.display()
            );
        }
        Ok(())
    }
}
