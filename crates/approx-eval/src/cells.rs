//! Results that are kept in files, each under the hash of all that it depends on.
//!
//! A cell is one file, written whole or not at all, so a process that is killed loses what it was computing and nothing
//! else. Whoever computes a cell holds its lock, which the system takes back from a process that ends in any way; others
//! find it taken, do something else, and look again. Where the file system has no locks, a cell may be computed twice,
//! and the same is written twice.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use approx_data::{ImageSource, Skipped};
use approx_ops::Sketch;
use atomic_file::WriteError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{EvalError, Result};
use crate::evaluate::{Logits, Pass, SiteRange};
use crate::output::{hex, sha256};
use crate::report::SkippedImage;

/// What a cell depends on. A cell with another key is another cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// The version of this program.
    pub version: String,
    /// `cifar10`, `imagenet`, …
    pub dataset: String,
    /// Of the images and labels ([`fingerprint`]).
    pub data_sha256: String,
    /// How many images.
    pub images: usize,
    /// What is subtracted from each channel.
    pub mean: Vec<f32>,
    /// What each channel is divided by.
    pub std: Vec<f32>,
    /// `resnet20`, …
    pub backbone: String,
    /// Of the file with the weights.
    pub weights_sha256: String,
    /// Images at a time.
    pub batch_size: usize,
    /// CPU threads.
    pub threads: usize,
    /// Vector instructions.
    pub simd: String,
    /// Where it ran, if not on the CPU ([`device_name`](crate::device_name)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What stands for the activations; `None` for the exact network.
    pub approx: Option<ApproxKey>,
}

/// What an approximate network's cell depends on besides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApproxKey {
    /// Precision in bits.
    pub alpha: u8,
    /// The digest of the polynomials ([`CompositeSign::digest`](minimax_coeffs::CompositeSign::digest)).
    pub composition: String,
    /// The smallest bound of ReLU to consider.
    pub b_relu: f64,
    /// The same of max-pooling.
    pub b_max: f64,
    /// By how much a bound grows.
    pub step: f64,
    /// Of the policy with bounds by site, if there is one.
    pub policy_sha256: Option<String>,
    /// Simulated noise, if there is some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseKey>,
}

/// What simulated noise depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseKey {
    /// Its standard deviation.
    pub sigma: f64,
    /// Of the random numbers.
    pub seed: u64,
}

impl Key {
    /// The file's name without the extension: for a reader, and made unique by a hash.
    fn stem(&self) -> String {
        let json = serde_json::to_vec(self).expect("a key has string keys only");
        let what = self.approx.as_ref().map_or("exact".to_owned(), |approx| format!("alpha{}", approx.alpha));
        format!("{}-{what}-{}", self.backbone, &sha256(&json)[..16])
    }

    /// For messages: `resnet20, alpha 7`.
    pub fn title(&self) -> String {
        match &self.approx {
            Some(approx) => {
                let noise = approx.noise.as_ref().map(|noise| -noise.sigma.log2());
                let noise = noise.map_or_else(String::new, |bits| format!(", noise 2^-{bits}"));
                format!("{}, alpha {}{noise}", self.backbone, approx.alpha)
            }
            None => format!("{}, exact", self.backbone),
        }
    }
}

/// The SHA-256 of what a source says it is, in hexadecimal.
///
/// # Errors
/// Those of [`ImageSource::identify`].
pub fn fingerprint(images: &dyn ImageSource) -> Result<String> {
    let mut hash = Sha256::new();
    images.identify(&mut |bytes| hash.update(bytes))?;
    Ok(hex(&hash.finalize()))
}

/// A folder of cells.
#[derive(Debug)]
pub struct Cells {
    folder: PathBuf,
}

/// Keeps other processes from computing a cell until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// `None` where the file system has no locks.
    _file: Option<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever waits for the removed file gets its lock, looks for the cell first, and finds it.
        let _ = fs::remove_file(&self.path);
    }
}

#[derive(Serialize, Deserialize)]
struct Kept<T> {
    key: Key,
    value: T,
}

/// What is in an exact cell besides the tensors.
#[derive(Serialize, Deserialize)]
struct ExactValue {
    sites: Vec<SiteRange>,
    skipped: Vec<SkippedImage>,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

/// A sketch by its buckets; the extremes are `None` if it is empty.
#[derive(Serialize, Deserialize)]
struct KeptSketch {
    min: Option<f32>,
    max: Option<f32>,
    negative: Vec<(u32, u64)>,
    others: Vec<(u32, u64)>,
}

impl Cells {
    /// The cells in `folder`, which is created.
    ///
    /// # Errors
    /// [`EvalError::Write`] if it cannot be created, or nothing can be written there.
    pub fn open(folder: &Path) -> Result<Self> {
        let error = |source| WriteError { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(error)?;
        tempfile::tempfile_in(folder).map_err(error)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// What is kept under `key`, if anything.
    ///
    /// # Errors
    /// [`EvalError::Read`]; [`EvalError::Cell`] for a file that is not such a cell.
    pub fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        let path = self.path(key, "json");
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let kept: Kept<T> = serde_json::from_slice(&bytes).map_err(|e| damaged(&path, &e.to_string()))?;
        check_key(&path, &kept.key, key)?;
        Ok(Some(kept.value))
    }

    /// Keeps `value` under `key`, as a JSON object of both.
    ///
    /// # Errors
    /// [`EvalError::Write`].
    pub fn put<T: Serialize>(&self, key: &Key, value: &T) -> Result<()> {
        let kept = Kept { key: key.clone(), value };
        let json = serde_json::to_string_pretty(&kept).expect("a cell has string keys only");
        Ok(atomic_file::write(&self.path(key, "json"), (json + "\n").as_bytes())?)
    }

    /// The sketches of an exact network's sites that are kept under `key`, if there are some.
    ///
    /// # Errors
    /// As [`Cells::get`].
    pub fn get_sketches(&self, key: &Key) -> Result<Option<Vec<Sketch>>> {
        let Some(kept) = self.get::<Vec<KeptSketch>>(key)? else { return Ok(None) };
        let sketches = kept.into_iter().map(|kept| {
            let (min, max) = (kept.min.unwrap_or(f32::NAN), kept.max.unwrap_or(f32::NAN));
            Sketch::from_buckets(&[kept.negative, kept.others], min, max)
        });
        let sketches: Option<Vec<Sketch>> = sketches.collect();
        sketches
            .ok_or_else(|| damaged(&self.path(key, "json"), "its buckets are not those of a sketch"))
            .map(Some)
    }

    /// Keeps the sketches of an exact network's sites under `key`, as JSON beside the exact pass.
    ///
    /// # Errors
    /// [`EvalError::Write`].
    pub fn put_sketches(&self, key: &Key, sketches: &[Sketch]) -> Result<()> {
        let kept = |sketch: &Sketch| {
            let [negative, others] = sketch.buckets();
            KeptSketch { min: sketch.min(), max: sketch.max(), negative, others }
        };
        let value: Vec<KeptSketch> = sketches.iter().map(kept).collect();
        let kept = Kept { key: key.clone(), value };
        // Indented, each number would take a line.
        let json = serde_json::to_string(&kept).expect("a cell has string keys only");
        Ok(atomic_file::write(&self.path(key, "json"), (json + "\n").as_bytes())?)
    }

    /// The exact pass that is kept under `key`, if there is one.
    ///
    /// # Errors
    /// As [`Cells::get`].
    pub fn get_exact(&self, key: &Key) -> Result<Option<Pass>> {
        let path = self.path(key, "safetensors");
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let (kept, logits, labels) = parse_exact(&bytes).map_err(|reason| damaged(&path, &reason))?;
        check_key(&path, &kept.key, key)?;
        let ExactValue { sites, skipped, seconds, peak_memory_bytes } = kept.value;
        let skipped = skipped.into_iter().map(|image| Skipped { name: image.name, reason: image.reason });
        let skipped = skipped.collect();
        let excursions = Vec::new();
        Ok(Some(Pass { logits, labels, skipped, sites, excursions, seconds, peak_memory: peak_memory_bytes }))
    }

    /// Keeps an exact pass under `key`: `logits` (`[N, classes]`, float32) and `labels` (`[N]`, 16 bits) as
    /// safetensors, all else as JSON in their header, under `cell`.
    ///
    /// # Errors
    /// [`EvalError::Write`].
    pub fn put_exact(&self, key: &Key, pass: &Pass) -> Result<()> {
        let skipped =
            |image: &Skipped| SkippedImage { name: image.name.clone(), reason: image.reason.clone() };
        let value = ExactValue {
            sites: pass.sites.clone(),
            skipped: pass.skipped.iter().map(skipped).collect(),
            seconds: pass.seconds,
            peak_memory_bytes: pass.peak_memory,
        };
        let json = serde_json::to_string(&Kept { key: key.clone(), value }).expect("string keys only");
        let logits: Vec<u8> = pass.logits.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        let labels: Vec<u8> = pass.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        let (images, classes) = (pass.labels.len(), pass.logits.classes());
        let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).expect("the sizes fit");
        let tensors = [
            ("logits", view(Dtype::F32, vec![images, classes], &logits)),
            ("labels", view(Dtype::U16, vec![images], &labels)),
        ];
        let header = HashMap::from([("cell".to_owned(), json)]);
        let bytes = safetensors::serialize(tensors, Some(header)).expect("the tensors fit the header");
        Ok(atomic_file::write(&self.path(key, "safetensors"), &bytes)?)
    }

    /// The right to compute a cell; `None` if another process has it.
    ///
    /// # Errors
    /// [`EvalError::Write`].
    pub fn try_lock(&self, key: &Key) -> Result<Option<Lock>> {
        self.lock_by(key, |file| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        })
    }

    /// The right to compute a cell, once no other process has it.
    ///
    /// # Errors
    /// [`EvalError::Write`].
    pub fn lock(&self, key: &Key) -> Result<Lock> {
        let lock = self.lock_by(key, |file| file.lock().map(|()| true))?;
        Ok(lock.expect("it was waited for"))
    }

    fn lock_by(&self, key: &Key, lock: impl Fn(&File) -> io::Result<bool>) -> Result<Option<Lock>> {
        let path = self.path(key, "lock");
        let error = |source| WriteError { path: path.clone(), source };
        let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(error)?;
        match lock(&file) {
            Ok(true) => Ok(Some(Lock { path, _file: Some(file) })),
            Ok(false) => Ok(None),
            Err(source) if source.kind() == io::ErrorKind::Unsupported => {
                Ok(Some(Lock { path, _file: None }))
            }
            Err(source) => Err(error(source).into()),
        }
    }

    fn path(&self, key: &Key, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", key.stem()))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EvalError::Read { path: path.to_owned(), source }),
    }
}

fn damaged(path: &Path, reason: &str) -> EvalError {
    EvalError::Cell { path: path.to_owned(), reason: reason.to_owned() }
}

fn check_key(path: &Path, found: &Key, expected: &Key) -> Result<()> {
    if found == expected { Ok(()) } else { Err(damaged(path, "it is of another run")) }
}

fn parse_exact(bytes: &[u8]) -> Result<(Kept<ExactValue>, Logits, Vec<u16>), String> {
    let text = |error: safetensors::SafeTensorError| error.to_string();
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(text)?;
    let json = header.metadata().as_ref().and_then(|header| header.get("cell")).ok_or("it has no `cell`")?;
    let kept = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(text)?;
    let (logits, labels) = (file.tensor("logits").map_err(text)?, file.tensor("labels").map_err(text)?);
    let classes = match (logits.shape(), labels.shape()) {
        (&[images, classes], &[count]) if images == count && classes > 0 => classes,
        (logits, labels) => return Err(format!("logits are {logits:?} and labels {labels:?}")),
    };
    if (logits.dtype(), labels.dtype()) != (Dtype::F32, Dtype::U16) {
        return Err(format!("logits are {:?} and labels {:?}", logits.dtype(), labels.dtype()));
    }
    let (values, _) = logits.data().as_chunks::<4>();
    let (labels, _) = labels.data().as_chunks::<2>();
    let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let labels = labels.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
    Ok((kept, Logits::new(values, classes), labels))
}
