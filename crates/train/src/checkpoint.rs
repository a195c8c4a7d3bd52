//! What it takes to go on: one file, a safetensors with a header in its metadata.
//!
//! All that is random follows from the seed, the epoch and the number of the batch or the image in it, so that there
//! is no random state to keep.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use approx_data::ImageSet;
use approx_models::policy::v1;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::history::{EpochRecord, Sums};
use crate::recipe::Recipe;

/// The version of the layout. Version 1, whose policies were of their version 1, is read, too.
const FORMAT: u32 = 2;
/// The header's key in the file's metadata. (With more than one key, their order would be random.)
const HEADER: &str = "approx-cnn training";
const WEIGHTS: &str = "weights/";
const VELOCITY: &str = "velocity/";

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// A run that can go on.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub header: Header,
    pub weights: Tensors,
    /// None before the first step.
    pub velocity: Tensors,
}

/// All but the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    format: u32,
    pub recipe: Recipe,
    pub data: Fingerprints,
    pub dataset_path: Option<PathBuf>,
    /// Results are the same for the same number of threads.
    pub threads: usize,
    pub position: Position,
    pub history: Vec<EpochRecord>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Position {
    /// The epoch in progress, from 0.
    pub epoch: usize,
    /// How many of its batches are done.
    pub batch: usize,
    /// Over these batches.
    pub sums: Sums,
}

/// What the images were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    pub train: Fingerprint,
    pub test: Fingerprint,
}

/// Tells sets of images apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub images: usize,
    /// Of all labels and pixels.
    pub sha256: String,
}

impl Fingerprint {
    pub fn of(images: &ImageSet) -> Self {
        let mut hash = Sha256::new();
        for (index, label) in images.labels().iter().enumerate() {
            hash.update(label.to_le_bytes());
            hash.update(images.image(index));
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { images: images.len(), sha256 }
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} images with SHA-256 {}…", self.images, &self.sha256[..12.min(self.sha256.len())])
    }
}

impl Header {
    /// Of a run that begins.
    pub fn new(recipe: Recipe, data: Fingerprints, dataset_path: Option<PathBuf>, threads: usize) -> Self {
        let (position, history) = (Position::default(), Vec::new());
        Self { format: FORMAT, recipe, data, dataset_path, threads, position, history }
    }

    /// Fails for numbers that no run comes to, such as those of a file that was edited.
    fn check(&self) -> Result<()> {
        let Self { recipe, data, position, .. } = self;
        recipe.check()?;
        let (images, Position { epoch, batch, sums }) = (data.train.images, position);
        let steps = images.div_ceil(recipe.batch_size).checked_mul(recipe.epochs);
        ensure!(steps.is_some(), "{} epochs of {images} images are too many", recipe.epochs);
        ensure!(*epoch <= recipe.epochs, "it is in epoch {epoch} of {}, both from 0", recipe.epochs);
        let done = batch.checked_mul(recipe.batch_size);
        let fits = done.is_some_and(|done| done < images + recipe.batch_size) && sums.images <= images;
        ensure!(fits && sums.correct <= sums.images, "{batch} batches of {images} images are done: {sums:?}");
        ensure!(sums.out_of_range < 1 << 62, "{} values were out of range", sums.out_of_range);
        Ok(())
    }
}

impl Checkpoint {
    /// Replaces the file at `path`.
    ///
    /// # Errors
    /// With the path.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut tensors = Vec::with_capacity(self.weights.len() + self.velocity.len());
        for (prefix, named) in [(WEIGHTS, &self.weights), (VELOCITY, &self.velocity)] {
            tensors.extend(named.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
        }
        let header = HashMap::from([(HEADER.to_owned(), serde_json::to_string(&self.header)?)]);
        write_tensors(path, tensors, header)
    }

    /// Reads what [`write`](Self::write) has written.
    ///
    /// # Errors
    /// With the path: no such file, one that is cut short, or is something else.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let parse = || -> Result<Self> {
            let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
            let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER));
            let header = header.context("it holds tensors, but nothing of a training run")?;
            // The version first: other fields may be others.
            let mut header: serde_json::Value = serde_json::from_str(header)?;
            match header["format"].as_u64() {
                Some(1) => {
                    if let Some(policy) =
                        header.pointer_mut("/recipe/policy").filter(|policy| !policy.is_null())
                    {
                        v1::upgrade(policy)?;
                    }
                    header["format"] = FORMAT.into();
                }
                Some(format) if format == u64::from(FORMAT) => {}
                _ => bail!("it has format {}, but this program reads 1 to {FORMAT}", header["format"]),
            }
            let header: Header = serde_json::from_value(header)?;
            header.check()?;
            let (mut weights, mut velocity) = (Tensors::new(), Tensors::new());
            for (name, tensor) in candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)? {
                match (name.strip_prefix(WEIGHTS), name.strip_prefix(VELOCITY)) {
                    (Some(name), _) => weights.insert(name.to_owned(), tensor),
                    (_, Some(name)) => velocity.insert(name.to_owned(), tensor),
                    _ => bail!("it holds a tensor `{name}`"),
                };
            }
            let fits =
                |(name, v): (&String, &Tensor)| weights.get(name).is_some_and(|w| w.dims() == v.dims());
            if let Some((name, _)) = velocity.iter().find(|(name, v)| !fits((name, v))) {
                bail!("the velocity of `{name}` has no weights of its shape");
            }
            Ok(Self { header, weights, velocity })
        };
        parse().with_context(|| {
            format!("{}: not a readable checkpoint (truncated or of another kind?)", path.display())
        })
    }
}

/// Writes tensors as safetensors, whole or not at all. The same tensors give the same bytes.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let bytes =
        safetensors::serialize(tensors, Some(metadata)).with_context(|| path.display().to_string())?;
    Ok(atomic_file::write(path, &bytes)?)
}
