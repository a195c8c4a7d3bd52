//! What `infer` works on.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Result, bail};
use approx_cli::inputs::{images, load_weights, weights_file};
use approx_data::cifar10::{self, Split};
use approx_data::{ImageNet, ImageSource, Normalization, OnCorrupt, Preprocess};
use approx_eval::Job;
use approx_eval::report::WeightsFile;
use approx_models::{ActivationPolicy, Backbone, Network, Weights};
use candle_core::Device;

use crate::args::{MachineArgs, PictureArgs, SourceArgs};

/// The device that was asked for.
pub fn device(args: &MachineArgs) -> Result<Device> {
    match args.gpu {
        None => Ok(Device::Cpu),
        Some(id) => {
            bail!("--gpu {id}: this program was built without CUDA; leave --gpu out to run on the CPU")
        }
    }
}

/// Data sets that a command can be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSet {
    Cifar10,
    ImageNet,
}

impl DataSet {
    /// Its name on the command line, in file names and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::ImageNet => "imagenet",
        }
    }
}

/// The data set that was asked for, and how it is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    pub dataset: DataSet,
    pub sources: &'a SourceArgs,
    pub pictures: Option<&'a PictureArgs>,
    pub machine: &'a MachineArgs,
}

/// What a command works on: images, and networks for them.
pub struct Inputs {
    pub dataset: &'static str,
    pub images: Box<dyn ImageSource>,
    pub normalization: Normalization,
    pub networks: Vec<Trained>,
    batch_size: usize,
    device: Device,
}

/// A network with its weights.
pub struct Trained {
    pub backbone: &'static Backbone,
    path: PathBuf,
}

impl Selection<'_> {
    /// All networks for the data set.
    pub fn backbones(&self) -> &'static [Backbone] {
        Backbone::all(self.dataset.name())
    }

    /// The network called `name`.
    pub fn backbone(&self, name: &str) -> Result<&'static Backbone> {
        Ok(Backbone::find(self.dataset.name(), name)?)
    }

    /// Finds images and weights, and fetches what is missing and known. Which data set, which weights and which
    /// normalisation it is to be is decided here for all commands.
    pub fn open(&self, backbones: &[&'static Backbone]) -> Result<Inputs> {
        let device = device(self.machine)?;
        // What is not for anybody to fetch comes first.
        let (images, networks) = match self.dataset {
            DataSet::Cifar10 => {
                let networks = self.weights(backbones)?;
                (self.images()?, networks)
            }
            DataSet::ImageNet => (self.images()?, self.weights(backbones)?),
        };
        for backbone in backbones {
            self.note_image_size(backbone, images.size().0);
        }
        let normalization = match self.dataset {
            DataSet::Cifar10 => Normalization::CIFAR10,
            DataSet::ImageNet => Normalization::IMAGENET,
        };
        let (dataset, batch_size) = (self.dataset.name(), self.machine.batch_inf.get());
        Ok(Inputs { dataset, images, normalization, networks, batch_size, device })
    }

    fn images(&self) -> Result<Box<dyn ImageSource>> {
        let SourceArgs { dataset_path, from, .. } = self.sources;
        let (folder, from) = (dataset_path.as_deref(), from.as_ref());
        let limit = self.machine.limit.map(NonZeroUsize::get);
        match self.dataset {
            DataSet::Cifar10 => {
                let load = |folder: &_| cifar10::load(folder, Split::Test);
                let images = images(folder, "cifar10", "test", from, load)?;
                Ok(Box::new(images.truncated(limit.unwrap_or(usize::MAX))))
            }
            DataSet::ImageNet => {
                let (preprocess, on_corrupt) = self.preprocess()?;
                let open = |folder: &_| ImageNet::open(folder, preprocess, on_corrupt, limit);
                Ok(Box::new(images(folder, "imagenet", "validation", from, open)?))
            }
        }
    }

    fn preprocess(&self) -> Result<(Preprocess, OnCorrupt)> {
        let pictures = self.pictures.expect("a data set of pictures has them");
        // torchvision's 256 for 224, and 342 for Inception-v3's 299.
        let in_proportion = || (pictures.image_size as f64 * 256.0 / 224.0).round() as usize;
        let preprocess = Preprocess::new(pictures.resize.unwrap_or_else(in_proportion), pictures.image_size)?;
        Ok((preprocess, if pictures.skip_corrupt { OnCorrupt::Skip } else { OnCorrupt::Fail }))
    }

    fn weights(&self, backbones: &[&'static Backbone]) -> Result<Vec<Trained>> {
        let SourceArgs { params, params_name, from, .. } = self.sources;
        let weights = |&backbone: &&'static Backbone| {
            let path = match params {
                Some(path) => path.clone(),
                None => weights_file(backbone, params_name, from.as_ref(), "--params")?,
            };
            // A file that is no good is found out now; its tensors are read later.
            Weights::load(&path, &Device::Cpu)?;
            Ok(Trained { backbone, path })
        };
        backbones.iter().map(weights).collect()
    }

    /// Says so if a network was trained with images of another size.
    fn note_image_size(&self, backbone: &Backbone, size: usize) {
        if backbone.name() == "inception_v3" && size == Preprocess::IMAGENET.size() {
            eprintln!(
                "note: {} was trained with images of 299 pixels; 224 are the paper's. --image-size 299 gives its own",
                backbone.name()
            );
        }
    }
}

impl Inputs {
    /// How to evaluate on the images.
    pub fn job(&self) -> Job<'_> {
        Job {
            images: &*self.images,
            normalization: self.normalization,
            batch_size: self.batch_size,
            device: self.device.clone(),
        }
    }

    /// A network with its weights and exact activations.
    pub fn load(&self, trained: &Trained) -> Result<(Network, WeightsFile)> {
        let (weights, file) = load_weights(&trained.path, &self.device)?;
        // The network has its own copy of the weights.
        Ok((trained.backbone.build(&weights, &ActivationPolicy::exact())?, file))
    }
}
