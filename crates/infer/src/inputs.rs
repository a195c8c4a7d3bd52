//! What `infer` works on.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use approx_cli::inputs::{images, load_weights, weights_file};
use approx_data::{
    ImageNet, ImageSet, ImageSource, Normalization, OnCorrupt, Preprocess, Split, cifar10, cifar100,
    image_folder,
};
use approx_eval::Job;
use approx_eval::report::WeightsIdentity;
use approx_models::{ActivationPolicy, Backbone, ModelError, Network, Weights};
use candle_core::Device;

use crate::args::{MachineArgs, PictureArgs, SourceArgs};

/// Data sets that a command can be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSet {
    Cifar10,
    Cifar100,
    ImageNet,
    /// The user's own.
    Images,
}

impl DataSet {
    /// Its name on the command line, in file names and in results.
    fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::ImageNet => "imagenet",
            Self::Images => "images",
        }
    }

    /// The data sets whose networks are used on it.
    fn families(self) -> &'static [&'static str] {
        match self {
            Self::Cifar10 | Self::Cifar100 => &["cifar10"],
            Self::ImageNet => &["imagenet"],
            Self::Images => &["cifar10", "imagenet"],
        }
    }
}

/// The data set that was asked for, and how it is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    pub dataset: DataSet,
    pub split: Split,
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
    pub backbone: Backbone,
    path: PathBuf,
}

impl Selection<'_> {
    /// All networks for the data set.
    pub fn backbones(&self) -> Vec<Backbone> {
        self.dataset.families().iter().flat_map(|family| Backbone::all(family)).copied().collect()
    }

    /// What [`backbone`](Self::backbone) calls a network.
    pub fn name_of(&self, backbone: &Backbone) -> String {
        let name = backbone.name();
        match self.backbones().iter().filter(|other| other.name() == name).count() {
            1 => name.to_owned(),
            _ => format!("{}/{name}", backbone.dataset()),
        }
    }

    /// The network called `name`. One that several data sets have a network of is called `cifar10/vgg11bn` or
    /// `imagenet/vgg11bn`.
    pub fn backbone(&self, name: &str) -> Result<Backbone> {
        if let [family] = self.dataset.families() {
            return Ok(*Backbone::find(family, name)?);
        }
        let all = self.backbones();
        let called = |backbone: &&Backbone| name == self.name_of(backbone) || name == backbone.name();
        match all.iter().filter(called).collect::<Vec<_>>()[..] {
            [one] => Ok(*one),
            [] => {
                let known: Vec<String> = all.iter().map(|backbone| self.name_of(backbone)).collect();
                bail!("unknown backbone `{name}`; known: {}", known.join(", "))
            }
            ref several => {
                let names: Vec<String> = several.iter().map(|backbone| self.name_of(backbone)).collect();
                bail!("there is more than one `{name}`: write {}", names.join(" or "))
            }
        }
    }

    /// Finds images and weights, and fetches what is missing and known. Which images, which weights and which
    /// normalisation it is to be is decided here for all commands.
    pub fn open(&self, backbones: &[Backbone]) -> Result<Inputs> {
        let device = self.machine.device.open()?;
        let family = self.family(backbones)?;
        // What is not for anybody to fetch comes first.
        let (images, paths) = match self.dataset {
            DataSet::Cifar10 | DataSet::Cifar100 => {
                let paths = self.weights(backbones)?;
                (self.images(family)?, paths)
            }
            DataSet::ImageNet | DataSet::Images => (self.images(family)?, self.weights(backbones)?),
        };
        for backbone in backbones {
            self.check_image_size(backbone, images.size().0)?;
        }
        let classes = self.classes(&*images)?;
        let trained = |(backbone, path): (&Backbone, PathBuf)| {
            let backbone = classes.map_or(*backbone, |classes| backbone.with_classes(classes));
            let (height, width) = images.size();
            Trained { backbone: backbone.with_image_size([height, width]), path }
        };
        Ok(Inputs {
            dataset: self.dataset.name(),
            normalization: self.normalization(family),
            networks: backbones.iter().zip(paths).map(trained).collect(),
            images,
            batch_size: self.machine.batch_size(),
            device,
        })
    }

    /// The data set whose networks these are.
    fn family(&self, backbones: &[Backbone]) -> Result<&'static str> {
        let family = |backbone: &Backbone| backbone.dataset();
        let first = backbones.first().map_or(self.dataset.families()[0], family);
        if let Some(other) = backbones.iter().find(|backbone| backbone.dataset() != first) {
            bail!(
                "{} is one of {first}'s networks and {} one of {}'s, which take other images: give them one by one",
                backbones[0].name(),
                other.name(),
                other.dataset()
            );
        }
        Ok(first)
    }

    fn images(&self, family: &str) -> Result<Box<dyn ImageSource>> {
        let SourceArgs { dataset_path, from, .. } = self.sources;
        let (folder, from, split) = (dataset_path.as_deref(), from.as_ref(), self.split);
        let limit = self.machine.limit.map(NonZeroUsize::get);
        let load: fn(&Path, Split) -> approx_data::Result<ImageSet> = match self.dataset {
            DataSet::Cifar10 => |folder, split| cifar10::load(folder, split),
            DataSet::Cifar100 => |folder, split| cifar100::load(folder, split),
            DataSet::ImageNet => {
                let (preprocess, on_corrupt) = self.preprocess(family)?;
                let open = |folder: &_| ImageNet::open(folder, split, preprocess, on_corrupt, limit);
                let part = if split == Split::Train { "train" } else { "validation" };
                return Ok(Box::new(images(folder, "imagenet", part, from, open)?));
            }
            DataSet::Images => {
                let Some(folder) = folder else {
                    bail!("--dataset-path DIR is missing: it names the folder with your pictures");
                };
                let (preprocess, on_corrupt) = self.preprocess(family)?;
                return Ok(Box::new(image_folder::open(folder, split, preprocess, on_corrupt, limit)?));
            }
        };
        let images = images(folder, self.dataset.name(), split.name(), from, |folder| load(folder, split))?;
        Ok(Box::new(images.truncated(limit.unwrap_or(usize::MAX))))
    }

    fn preprocess(&self, family: &str) -> Result<(Preprocess, OnCorrupt)> {
        let pictures = self.pictures.expect("a data set of pictures has them");
        let (size, resize) = match family {
            // Its pictures have the size of the images.
            "cifar10" => {
                let size = pictures.image_size.unwrap_or(cifar10::SIZE);
                (size, size)
            }
            // torchvision's 256 for 224, and 342 for Inception-v3's 299.
            _ => {
                let size = pictures.image_size.unwrap_or(Preprocess::IMAGENET.size());
                (size, (size as f64 * 256.0 / 224.0).round() as usize)
            }
        };
        let preprocess = Preprocess::new(pictures.resize.unwrap_or(resize), size)?;
        Ok((preprocess, if pictures.skip_corrupt { OnCorrupt::Skip } else { OnCorrupt::Fail }))
    }

    fn normalization(&self, family: &str) -> Normalization {
        match (self.sources.mean, self.sources.std, self.dataset) {
            (Some(mean), Some(std), _) => Normalization { mean: mean.0, std: std.0 },
            (_, _, DataSet::Cifar100) => Normalization::CIFAR100,
            _ if family == "cifar10" => Normalization::CIFAR10,
            _ => Normalization::IMAGENET,
        }
    }

    /// How many classes the networks are for, if not the number of the data set that they come from.
    fn classes(&self, images: &dyn ImageSource) -> Result<Option<NonZeroUsize>> {
        let classes = match (self.sources.classes, self.dataset) {
            (None, DataSet::Cifar10 | DataSet::ImageNet) => None,
            (None, DataSet::Cifar100 | DataSet::Images) => NonZeroUsize::new(images.classes()),
            (classes, _) => classes,
        };
        if let Some(classes) = classes.filter(|classes| classes.get() < images.classes()) {
            let hint = match self.dataset {
                DataSet::ImageNet => "; `infer images` numbers class folders by their order",
                _ => "",
            };
            bail!("--classes {classes}: the images are of {} classes{hint}", images.classes());
        }
        Ok(classes)
    }

    fn weights(&self, backbones: &[Backbone]) -> Result<Vec<PathBuf>> {
        let SourceArgs { params, params_name, from, .. } = self.sources;
        let weights = |backbone: &Backbone| {
            let path = match params {
                Some(path) => path.clone(),
                None => weights_file(self.dataset.name(), backbone, params_name, from.as_ref(), "--params")?,
            };
            // A file that is no good is found out now; its tensors are read later.
            Weights::load(&path, &Device::Cpu)?;
            Ok(path)
        };
        backbones.iter().map(weights).collect()
    }

    /// Fails if images are too small for a network, and says so if it was trained with another size.
    fn check_image_size(&self, backbone: &Backbone, size: usize) -> Result<()> {
        let (name, smallest) = (backbone.name(), backbone.smallest_image());
        if size < smallest {
            bail!("{name} takes images of at least {smallest}×{smallest} pixels, not {size}×{size}");
        }
        if name == "inception_v3" && self.dataset == DataSet::ImageNet && size == Preprocess::IMAGENET.size()
        {
            eprintln!(
                "note: {name} was trained with images of 299 pixels; 224 are the paper's. --image-size 299 gives its own"
            );
        }
        Ok(())
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
    pub fn load(&self, trained: &Trained) -> Result<(Network, WeightsIdentity)> {
        let (weights, file) = load_weights(&trained.path, &self.device)?;
        // The network has its own copy of the weights.
        match Network::build(trained.backbone.graph()?, &weights, &ActivationPolicy::exact()) {
            Err(error @ ModelError::Classes { found, .. }) if found >= self.images.classes() => {
                bail!("{error}; give --classes {found}")
            }
            Err(error @ ModelError::Classes { .. }) => {
                bail!("{error}; the images are of {}", self.images.classes())
            }
            network => Ok((network?, file)),
        }
    }
}
