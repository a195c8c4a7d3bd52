//! Weights by name.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, safetensors};
use cnn_graph::shape::elements;
use torch_checkpoint::CheckpointError;

use file::WeightsFile;

mod file;
mod rename;

/// Named tensors to build a network from.
pub struct Weights {
    source: Source,
    device: Device,
    origin: String,
}

/// Gives a tensor's values from its name and shape.
type Generator = dyn Fn(&str, &[usize]) -> Vec<f32> + Send + Sync;
/// Gives a tensor's values from its name, or says why not.
type Reader = dyn Fn(&str) -> Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>> + Send + Sync;

enum Source {
    Tensors(HashMap<String, Tensor>),
    /// With the name in the file and the shape of each tensor by the name that models request.
    File(WeightsFile, HashMap<String, (String, Vec<usize>)>),
    Generator(Box<Generator>),
    /// With the shape of each tensor.
    Reader(Box<Reader>, HashMap<String, Vec<usize>>),
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
    #[error("{}: not a readable safetensors file (truncated or of another kind?): {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// A PyTorch file that cannot be read.
    #[error(transparent)]
    Checkpoint(Box<CheckpointError>),
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
    /// A tensor of another source cannot be read.
    #[error("{origin}: `{tensor}`: {source}")]
    Read {
        /// Where the weights are from.
        origin: String,
        /// The tensor's name.
        tensor: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// candle could not move or convert a tensor.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<CheckpointError> for WeightsError {
    fn from(error: CheckpointError) -> Self {
        Self::Checkpoint(Box::new(error))
    }
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
    /// Opens a PyTorch state_dict (`.pt`, `.pth`, of any version since 0.1.10) or `.safetensors`. Tensors are read
    /// when a network is built, one at a time. Numbers of other float types become float32; names lose the prefix
    /// `module.` that `torch.nn.DataParallel` adds, and those of timm's VGG become torchvision's.
    ///
    /// # Errors
    /// [`WeightsError`], with the file and what is wrong with it.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let file = WeightsFile::open(path)?;
        let mut names = HashMap::new();
        for (stored, shape) in file.tensors() {
            let (name, shape) = rename::rename(&stored, &shape);
            names.insert(name, (stored, shape));
        }
        if names.is_empty() {
            return Err(WeightsError::Empty(path.to_owned()));
        }
        let source = Source::File(file, names);
        Ok(Self { source, device: device.clone(), origin: path.display().to_string() })
    }

    /// Reads the contents of a `.safetensors` file. `origin` names them in errors.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn from_safetensors(bytes: &[u8], device: &Device, origin: &str) -> Result<Self, WeightsError> {
        let tensors = safetensors::load_buffer(bytes, &Device::Cpu)
            .map_err(|error| malformed(Path::new(origin), &error))?;
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
            let (name, shape) = rename::rename(&name, tensor.dims());
            if elements(&shape).is_none() {
                let reason = format!("`{name}` of shape {shape:?} would have too many numbers");
                return Err(WeightsError::Malformed { path: origin.into(), reason });
            }
            if !tensor.dtype().is_float() {
                // Counters, such as `num_batches_tracked`.
                checked.insert(name, tensor);
                continue;
            }
            let tensor = tensor.to_dtype(DType::F32)?.reshape(shape)?;
            check_finite(&origin, &name, &tensor.flatten_all()?.to_vec1()?)?;
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

    /// Weights that a function reads by name, one at a time when a network is built: for files of other formats. `shapes`
    /// are those of all tensors by name; `origin` names the source in errors.
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// use approx_models::Weights;
    /// use candle_core::Device;
    ///
    /// let shapes = HashMap::from([("fc.weight".to_owned(), vec![2, 3])]);
    /// let weights = Weights::from_reader(Device::Cpu, "some.onnx", shapes, |_name| Ok(vec![0.5; 6]));
    /// assert_eq!(weights.origin(), "some.onnx");
    /// ```
    pub fn from_reader(
        device: Device,
        origin: impl Into<String>,
        shapes: HashMap<String, Vec<usize>>,
        read: impl Fn(&str) -> Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        Self { source: Source::Reader(Box::new(read), shapes), device, origin: origin.into() }
    }

    /// The same on another device.
    ///
    /// # Errors
    /// candle's, where its memory ends.
    pub fn to_device(self, device: &Device) -> Result<Self, WeightsError> {
        let source = match self.source {
            Source::Tensors(tensors) => {
                let moved = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(device)?));
                Source::Tensors(tensors.into_iter().map(moved).collect::<Result<_, WeightsError>>()?)
            }
            source => source,
        };
        Ok(Self { source, device: device.clone(), ..self })
    }

    /// The numbers of the tensor `name` of shape `shape`, in row-major order.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] if there is no such tensor; those of reading it.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let mut mismatch = Mismatch::default();
        match self.get(name, shape)? {
            Ok(tensor) => return Ok(tensor.flatten_all()?.to_vec1()?),
            Err(None) => mismatch.missing.push(name.to_owned()),
            Err(Some(found)) => mismatch.misshapen.push((name.to_owned(), shape.to_vec(), found)),
        }
        Err(WeightsError::Mismatch { origin: self.origin.clone(), mismatch })
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
    ) -> Result<Result<Tensor, Option<Vec<usize>>>, WeightsError> {
        match &self.source {
            Source::Generator(generate) => {
                Ok(Ok(Tensor::from_vec(generate(name, shape), shape, &self.device)?))
            }
            Source::Tensors(tensors) => Ok(match tensors.get(name) {
                Some(tensor) if tensor.dims() == shape => Ok(tensor.clone()),
                Some(tensor) => Err(Some(tensor.dims().to_vec())),
                None => Err(None),
            }),
            Source::File(file, names) => match names.get(name) {
                Some((stored, found)) if found == shape => {
                    let values = file.read(stored)?;
                    check_finite(&self.origin, name, &values)?;
                    Ok(Ok(Tensor::from_vec(values, shape, &self.device)?))
                }
                Some((_, found)) => Ok(Err(Some(found.clone()))),
                None => Ok(Err(None)),
            },
            Source::Reader(read, shapes) => match shapes.get(name) {
                Some(found) if found == shape => {
                    let values = read(name).map_err(|source| WeightsError::Read {
                        origin: self.origin.clone(),
                        tensor: name.to_owned(),
                        source,
                    })?;
                    check_finite(&self.origin, name, &values)?;
                    Ok(Ok(Tensor::from_vec(values, shape, &self.device)?))
                }
                Some(found) => Ok(Err(Some(found.clone()))),
                None => Ok(Err(None)),
            },
        }
    }

    /// The names that there are; none for a generator, which has every name.
    pub(crate) fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.source {
            Source::Tensors(tensors) => Box::new(tensors.keys().map(String::as_str)),
            Source::File(_, names) => Box::new(names.keys().map(String::as_str)),
            Source::Reader(_, shapes) => Box::new(shapes.keys().map(String::as_str)),
            Source::Generator(_) => Box::new(std::iter::empty()),
        }
    }
}

fn check_finite(origin: &str, tensor: &str, values: &[f32]) -> Result<(), WeightsError> {
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((index, &value)) => {
            let (origin, tensor) = (origin.to_owned(), tensor.to_owned());
            Err(WeightsError::NotFinite { origin, tensor, index, value })
        }
    }
}

fn malformed(path: &Path, error: &candle_core::Error) -> WeightsError {
    // The first line: the rest may be a backtrace.
    let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
    WeightsError::Malformed { path: path.to_owned(), reason }
}
