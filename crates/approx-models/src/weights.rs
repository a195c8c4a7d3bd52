//! Weights by name.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, pickle, safetensors};

/// Named tensors to build a network from.
pub struct Weights {
    source: Source,
    device: Device,
    origin: String,
}

/// Gives a tensor's values from its name and shape.
type Generator = dyn Fn(&str, &[usize]) -> Vec<f32> + Send + Sync;

enum Source {
    Tensors(HashMap<String, Tensor>),
    Generator(Box<Generator>),
}

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Neither `.pt`, `.pth` nor `.safetensors`.
    #[error("{}: weights are read from .pt, .pth or .safetensors files", .0.display())]
    UnknownFormat(PathBuf),
    /// The file cannot be opened.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not what its name says, or is cut short.
    #[error("{}: not a readable {format} file (truncated or of another kind?): {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// The file holds no tensors.
    #[error("{}: holds no tensors; a PyTorch state_dict is expected, as saved by torch.save(model.state_dict(), …)", .0.display())]
    Empty(PathBuf),
    /// A value that no network can be run with.
    #[error("{origin}: `{tensor}` has the value {value} at index {index}")]
    NotFinite {
        /// Where the weights are from.
        origin: String,
        /// The tensor's name.
        tensor: String,
        /// The index in row-major order.
        index: usize,
        /// NaN or infinity.
        value: f32,
    },
    /// The weights are another network's.
    #[error("{origin}: the weights do not fit this network: {mismatch}")]
    Mismatch {
        /// Where the weights are from.
        origin: String,
        /// What is missing, unused or of another shape.
        mismatch: Mismatch,
    },
    /// candle could not move or convert a tensor.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// How weights and a network differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mismatch {
    /// Tensors that the network needs and the weights lack, in the order of the network.
    pub missing: Vec<String>,
    /// Tensors that the weights have and the network does not use, sorted.
    pub unused: Vec<String>,
    /// Tensors with another shape: name, shape needed, shape found.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names of a kind that are printed.
        const SHOWN: usize = 3;
        let mut separator = "";
        let mut part = |what: &str, names: Vec<String>| -> fmt::Result {
            if names.is_empty() {
                return Ok(());
            }
            let dots = if names.len() > SHOWN { ", …" } else { "" };
            let tensors = if names.len() == 1 { "tensor is" } else { "tensors are" };
            let shown = names[..names.len().min(SHOWN)].join(", ");
            write!(f, "{separator}{} {tensors} {what}: {shown}{dots}", names.len())?;
            separator = "; ";
            Ok(())
        };
        part("missing", self.missing.clone())?;
        part("unused", self.unused.clone())?;
        let shapes = self.misshapen.iter();
        part(
            "of another shape",
            shapes.map(|(n, need, found)| format!("{n} is {found:?}, not {need:?}")).collect(),
        )
    }
}

impl Weights {
    /// Reads a PyTorch state_dict (`.pt`, `.pth` as zip files) or `.safetensors`. Numbers of other float types
    /// become float32; names lose the prefix `module.` that `torch.nn.DataParallel` adds.
    ///
    /// # Errors
    /// [`WeightsError`], with the file and what is wrong with it; NaN and infinities are refused.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        let io = |source| WeightsError::Io { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(io)?.is_dir() {
            return Err(io(std::io::ErrorKind::IsADirectory.into()));
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let (format, tensors) = match extension {
            "safetensors" => ("safetensors", safetensors::load(path, &Device::Cpu)),
            "pt" | "pth" => ("PyTorch (zip)", read_pytorch(path)),
            _ => return Err(WeightsError::UnknownFormat(path.to_owned())),
        };
        let tensors = tensors.map_err(|error| malformed(path, format, &error))?;
        if tensors.is_empty() {
            return Err(WeightsError::Empty(path.to_owned()));
        }
        Self::from_tensors(tensors, device, origin)
    }

    /// Reads the contents of a `.safetensors` file. `origin` names them in errors.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn from_safetensors(bytes: &[u8], device: &Device, origin: &str) -> Result<Self, WeightsError> {
        let tensors = safetensors::load_buffer(bytes, &Device::Cpu)
            .map_err(|error| malformed(Path::new(origin), "safetensors", &error))?;
        Self::from_tensors(tensors, device, origin.to_owned())
    }

    /// Weights that are already in memory. `origin` names them in errors.
    ///
    /// # Errors
    /// [`WeightsError::NotFinite`], or candle's where a tensor cannot be moved to the device.
    pub fn from_tensors(
        tensors: HashMap<String, Tensor>,
        device: &Device,
        origin: String,
    ) -> Result<Self, WeightsError> {
        let mut checked = HashMap::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let name = name.strip_prefix("module.").map_or(name.clone(), str::to_owned);
            if !tensor.dtype().is_float() {
                // Counters, such as `num_batches_tracked`.
                checked.insert(name, tensor);
                continue;
            }
            let tensor = tensor.to_dtype(DType::F32)?;
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            if let Some((index, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
                return Err(WeightsError::NotFinite { origin, tensor: name, index, value });
            }
            checked.insert(name, tensor.to_device(device)?);
        }
        Ok(Self { source: Source::Tensors(checked), device: device.clone(), origin })
    }

    /// Weights that a function gives from each tensor's name and shape, in row-major order: initial weights
    /// for training, or test data.
    pub fn generate(
        device: Device,
        generator: impl Fn(&str, &[usize]) -> Vec<f32> + Send + Sync + 'static,
    ) -> Self {
        Self {
            source: Source::Generator(Box::new(generator)),
            device,
            origin: "generated weights".to_owned(),
        }
    }

    /// The device that the tensors are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Where the weights are from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The tensor `name` of shape `shape`; the inner error is what was found instead.
    pub(crate) fn get(
        &self,
        name: &str,
        shape: &[usize],
    ) -> candle_core::Result<Result<Tensor, Option<Vec<usize>>>> {
        match &self.source {
            Source::Generator(generate) => {
                Ok(Ok(Tensor::from_vec(generate(name, shape), shape, &self.device)?))
            }
            Source::Tensors(tensors) => Ok(match tensors.get(name) {
                Some(tensor) if tensor.dims() == shape => Ok(tensor.clone()),
                Some(tensor) => Err(Some(tensor.dims().to_vec())),
                None => Err(None),
            }),
        }
    }

    /// The names that there are; none for a generator, which has every name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let tensors = match &self.source {
            Source::Tensors(tensors) => Some(tensors),
            Source::Generator(_) => None,
        };
        tensors.into_iter().flat_map(|tensors| tensors.keys().map(String::as_str))
    }
}

fn malformed(path: &Path, format: &'static str, error: &candle_core::Error) -> WeightsError {
    // The first line: the rest may be a backtrace.
    let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
    WeightsError::Malformed { path: path.to_owned(), format, reason }
}

/// A state_dict, or one under the key `state_dict` of a checkpoint.
fn read_pytorch(path: &Path) -> candle_core::Result<HashMap<String, Tensor>> {
    let infos = pickle::read_pth_tensor_info(path, false, None)?;
    let key = if infos.is_empty() { Some("state_dict") } else { None };
    let file = match pickle::PthTensors::new(path, key) {
        Err(_) if key.is_some() => return Ok(HashMap::new()),
        file => file?,
    };
    let mut tensors = HashMap::new();
    for (name, info) in file.tensor_infos() {
        // candle 0.11 skips as many bytes as it should skip elements.
        if info.layout.start_offset() != 0 {
            candle_core::bail!(
                "`{name}` is a view into another tensor; save a copy of it (`tensor.clone()`)"
            );
        }
        if let Some(tensor) = file.get(name)? {
            tensors.insert(name.clone(), tensor);
        }
    }
    Ok(tensors)
}
