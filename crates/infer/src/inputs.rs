//! What `infer` works on.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use approx_cli::inputs::{images, load_weights, weights_file};
use approx_data::{
    ImageNet, ImageSet, ImageSource, Normalization, OnCorrupt, Preprocess, Split, cifar10, cifar100, demo,
    fashion_mnist, image_folder, mnist,
};
use approx_eval::Job;
use approx_eval::report::WeightsIdentity;
use approx_models::{ActivationPolicy, Backbone, Graph, ModelError, Network, Weights};
use candle_core::Device;
use cnn_onnx::{Model, OnnxError, Options};

use crate::args::{MachineArgs, PictureArgs, SourceArgs};

/// Below this height, networks are for small pictures, of which nothing is cropped.
const SMALL: usize = 65;

/// Data sets that a command can be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSet {
    Cifar10,
    Cifar100,
    Mnist,
    FashionMnist,
    ImageNet,
    /// The user's own.
    Images,
    /// The embedded ones.
    Demo,
}

/// Where the networks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Networks {
    /// From the zoo.
    Backbones,
    /// From files that the command line names.
    Onnx,
}

/// A network that was chosen.
#[derive(Debug, Clone)]
pub enum Choice {
    /// One of the zoo, whose weights are elsewhere.
    Backbone(Backbone),
    /// One from a file, with its weights.
    Onnx(OnnxNetwork),
}

/// A network from an ONNX file.
#[derive(Debug, Clone)]
pub struct OnnxNetwork {
    name: String,
    path: PathBuf,
    model: Model,
}

impl Choice {
    /// Its name in results: that of the backbone, or of the file without its extension.
    pub fn name(&self) -> &str {
        match self {
            Self::Backbone(backbone) => backbone.name(),
            Self::Onnx(network) => &network.name,
        }
    }

    /// The network for the images.
    fn graph(&self) -> Result<Graph> {
        match self {
            Self::Backbone(backbone) => Ok(backbone.graph()?),
            Self::Onnx(network) => Ok(network.model.graph.clone()),
        }
    }
}

impl OnnxNetwork {
    /// Reads a file. `image_size` is for one in which height and width are free.
    pub fn open(path: &Path, image_size: Option<usize>) -> Result<Self> {
        let options = Options { image_size: image_size.map(|size| [size; 2]) };
        let model = match Model::open_with(path, &options) {
            // It names the file itself; for one beside the model, both are named.
            Err(OnnxError::Io { path: file, source }) if file == path => {
                return Err(OnnxError::Io { path: file, source }.into());
            }
            model => model.with_context(|| path.display().to_string())?,
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, path: path.to_owned(), model })
    }

    /// The network.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The weights of the file, which are read when a network is built.
    fn weights(&self, device: &Device) -> Weights {
        let params = self.model.params.clone();
        let shape = |name: &str| (name.to_owned(), params.shape(name).unwrap_or_default().to_vec());
        let shapes = params.names().map(shape).collect();
        let origin = self.path.display().to_string();
        Weights::from_reader(device.clone(), origin, shapes, move |name| Ok(params.read(name)?))
    }

    /// Whether the network is for these images.
    ///
    /// # Errors
    /// If it takes images of another shape, or tells other classes apart than those of the images.
    fn check(&self, images: &dyn ImageSource, classes: Option<NonZeroUsize>) -> Result<()> {
        let (name, input) = (&self.name, self.model.graph.input_shape());
        let shape = images.shape();
        if *input.dims() != shape {
            bail!("{name} takes images of {input}, and these are of {shape:?}");
        }
        let (output, needed) =
            (self.model.graph.output_shape(), classes.map_or(images.classes(), NonZeroUsize::get));
        if *output.dims() != [needed] {
            bail!(
                "{name} gives {output} numbers for an image, and the images are of {} classes; --classes N says that it \
                 tells more classes apart than there are images of",
                images.classes()
            );
        }
        Ok(())
    }
}

impl DataSet {
    /// Its name on the command line, in file names and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::ImageNet => "imagenet",
            Self::Images => "images",
            Self::Demo => "demo",
        }
    }

    /// The data sets whose networks are used on it.
    fn families(self) -> &'static [&'static str] {
        match self {
            Self::Cifar10 | Self::Cifar100 | Self::Demo => &["cifar10"],
            Self::Mnist => &["mnist"],
            Self::FashionMnist => &["fashion-mnist"],
            Self::ImageNet => &["imagenet"],
            Self::Images => &["cifar10", "imagenet"],
        }
    }
}

/// The data set that was asked for, and how it is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    pub dataset: DataSet,
    pub networks: Networks,
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
    pub choice: Choice,
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

    /// The network called `name`, or in the file of this name.
    pub fn network(&self, name: &str) -> Result<Choice> {
        match self.networks {
            Networks::Backbones => Ok(Choice::Backbone(self.backbone(name)?)),
            Networks::Onnx => {
                if let Some(path) = &self.sources.params {
                    bail!("--params {}: the weights of {name} are in the file itself", path.display());
                }
                let image_size = self.pictures.and_then(|pictures| pictures.image_size);
                Ok(Choice::Onnx(OnnxNetwork::open(Path::new(name), image_size)?))
            }
        }
    }

    /// All networks there are.
    ///
    /// # Errors
    /// If they are in files, which have to be named.
    pub fn all(&self) -> Result<Vec<Choice>> {
        match self.networks {
            Networks::Backbones => Ok(self.backbones().into_iter().map(Choice::Backbone).collect()),
            Networks::Onnx => bail!("name the ONNX files: there is no list of them"),
        }
    }

    /// The backbone called `name`. One that several data sets have a network of is called `cifar10/vgg11bn` or
    /// `imagenet/vgg11bn`.
    fn backbone(&self, name: &str) -> Result<Backbone> {
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
    pub fn open(&self, networks: &[Choice]) -> Result<Inputs> {
        let device = self.machine.device.open()?;
        let family = self.family(networks)?;
        // What is not for anybody to fetch comes first.
        let (images, paths) = match self.dataset {
            DataSet::Cifar10 | DataSet::Cifar100 | DataSet::Mnist | DataSet::FashionMnist => {
                let paths = self.weights(networks)?;
                (self.images(networks, family)?, paths)
            }
            DataSet::ImageNet | DataSet::Images | DataSet::Demo => {
                (self.images(networks, family)?, self.weights(networks)?)
            }
        };
        let classes = self.classes(&*images)?;
        let mut trained = Vec::with_capacity(networks.len());
        for (choice, path) in networks.iter().zip(paths) {
            let choice = match choice {
                Choice::Backbone(backbone) => {
                    let [_, height, width] = images.shape();
                    self.check_image_size(backbone, height)?;
                    let backbone = classes.map_or(*backbone, |classes| backbone.with_classes(classes));
                    Choice::Backbone(backbone.with_image_size([height, width]))
                }
                Choice::Onnx(network) => {
                    network.check(&*images, self.sources.classes)?;
                    Choice::Onnx(network.clone())
                }
            };
            trained.push(Trained { choice, path });
        }
        Ok(Inputs {
            dataset: self.dataset.name(),
            normalization: self.normalization(family, images.shape()[0])?,
            networks: trained,
            images,
            batch_size: self.machine.batch_size(),
            device,
        })
    }

    /// A network's graph and weights, with where these are from, for a command that needs no images.
    ///
    /// # Errors
    /// As [`open`](Self::open); and for pictures of one's own without --classes.
    pub fn without_images(&self, choice: &Choice) -> Result<(Graph, Weights, String)> {
        let path = self.weights(std::slice::from_ref(choice))?.remove(0);
        let classes = match (self.sources.classes, self.dataset) {
            (Some(classes), _) => Some(classes),
            (None, DataSet::Cifar100) => NonZeroUsize::new(cifar100::CLASSES),
            (None, DataSet::Images) if matches!(choice, Choice::Backbone(_)) => {
                bail!("--classes N is missing: how many classes the network tells apart")
            }
            (None, _) => None,
        };
        let choice = match choice {
            Choice::Onnx(_) => choice.clone(),
            Choice::Backbone(backbone) => {
                let backbone = classes.map_or(*backbone, |classes| backbone.with_classes(classes));
                let size = self.pictures.and_then(|pictures| pictures.image_size);
                Choice::Backbone(size.map_or(backbone, |size| backbone.with_image_size([size; 2])))
            }
        };
        let (graph, weights) = Trained { choice, path: path.clone() }.parts(&Device::Cpu)?;
        Ok((graph, weights, path.display().to_string()))
    }

    /// The data set whose networks these are.
    fn family(&self, networks: &[Choice]) -> Result<&'static str> {
        let family = |choice: &Choice| match choice {
            Choice::Backbone(backbone) => backbone.dataset(),
            Choice::Onnx(_) if self.dataset == DataSet::Images => "imagenet",
            Choice::Onnx(_) => self.dataset.families()[0],
        };
        let first = networks.first().map_or(self.dataset.families()[0], family);
        if let Some(other) = networks.iter().find(|choice| family(choice) != first) {
            bail!(
                "{} is one of {first}'s networks and {} one of {}'s, which take other images: give them one by one",
                networks[0].name(),
                other.name(),
                family(other)
            );
        }
        Ok(first)
    }

    fn images(&self, networks: &[Choice], family: &str) -> Result<Box<dyn ImageSource>> {
        let SourceArgs { dataset_path, from, .. } = self.sources;
        let (folder, from, split) = (dataset_path.as_deref(), from.as_ref(), self.split);
        let limit = self.machine.limit.map(NonZeroUsize::get);
        let load: fn(&Path, Split) -> approx_data::Result<ImageSet> = match self.dataset {
            DataSet::Cifar10 => |folder, split| cifar10::load(folder, split),
            DataSet::Cifar100 => |folder, split| cifar100::load(folder, split),
            DataSet::Mnist => |folder, split| mnist::load(folder, split),
            DataSet::FashionMnist => |folder, split| fashion_mnist::load(folder, split),
            DataSet::Demo => {
                let images = demo::images().truncated(limit.unwrap_or(usize::MAX));
                return Ok(Box::new(images));
            }
            DataSet::ImageNet => {
                let (preprocess, on_corrupt) = self.preprocess(networks, family)?;
                let open = |folder: &_| ImageNet::open(folder, split, preprocess, on_corrupt, limit);
                let part = if split == Split::Train { "train" } else { "validation" };
                return Ok(Box::new(images(folder, "imagenet", part, from, open)?));
            }
            DataSet::Images => {
                let Some(folder) = folder else {
                    bail!("--dataset-path DIR is missing: it names the folder with your pictures");
                };
                let (preprocess, on_corrupt) = self.preprocess(networks, family)?;
                return Ok(Box::new(image_folder::open(folder, split, preprocess, on_corrupt, limit)?));
            }
        };
        let images = images(folder, self.dataset.name(), split.name(), from, |folder| load(folder, split))?;
        Ok(Box::new(images.truncated(limit.unwrap_or(usize::MAX))))
    }

    fn preprocess(&self, networks: &[Choice], family: &str) -> Result<(Preprocess, OnCorrupt)> {
        let pictures = self.pictures.expect("a data set of pictures has them");
        let of_file = networks.iter().find_map(|choice| match choice {
            Choice::Onnx(network) => network.model.graph.input_shape().image(),
            Choice::Backbone(_) => None,
        });
        let (size, resize) = match family {
            // The size is the network's. Small pictures have the size of the images.
            _ if let Some([_, height, width]) = of_file => {
                if height != width {
                    bail!(
                        "{} takes images of {height}×{width} pixels; pictures become squares",
                        networks[0].name()
                    );
                }
                let margin = if height < SMALL { 1.0 } else { 256.0 / 224.0 };
                (height, (height as f64 * margin).round() as usize)
            }
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

    fn normalization(&self, family: &str, channels: usize) -> Result<Normalization> {
        if let (Some(mean), Some(std)) = (&self.sources.mean, &self.sources.std) {
            let (mean, std) = (mean.of_each(channels), std.of_each(channels));
            return Ok(Normalization::new(mean.context("--mean")?, std.context("--std")?));
        }
        Ok(match self.dataset {
            DataSet::Cifar100 => Normalization::CIFAR100,
            DataSet::Mnist => Normalization::MNIST,
            DataSet::FashionMnist => Normalization::FASHION_MNIST,
            _ if family == "cifar10" => Normalization::CIFAR10,
            _ => Normalization::IMAGENET,
        })
    }

    /// How many classes the networks are for, if not the number of the data set that they come from.
    fn classes(&self, images: &dyn ImageSource) -> Result<Option<NonZeroUsize>> {
        let classes = match (self.sources.classes, self.dataset) {
            (Some(classes), _) => Some(classes),
            (None, DataSet::Cifar100 | DataSet::Images) => NonZeroUsize::new(images.classes()),
            (None, _) => None,
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

    fn weights(&self, networks: &[Choice]) -> Result<Vec<PathBuf>> {
        let SourceArgs { params, params_name, from, .. } = self.sources;
        let weights = |choice: &Choice| {
            let backbone = match choice {
                Choice::Onnx(network) => return Ok(network.path.clone()),
                Choice::Backbone(backbone) => backbone,
            };
            let path = match params {
                Some(path) => path.clone(),
                None => weights_file(self.dataset.name(), backbone, params_name, from.as_ref(), "--params")?,
            };
            // A file that is no good is found out now; its tensors are read later.
            Weights::load(&path, &Device::Cpu)?;
            Ok(path)
        };
        networks.iter().map(weights).collect()
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

impl Trained {
    /// The network and its weights.
    fn parts(&self, device: &Device) -> Result<(Graph, Weights)> {
        let weights = match &self.choice {
            Choice::Backbone(_) => Weights::load(&self.path, device)?,
            Choice::Onnx(network) => network.weights(device),
        };
        Ok((self.choice.graph()?, weights))
    }
}

impl Inputs {
    /// A network and its weights, in the memory of the host.
    pub fn parts(&self, trained: &Trained) -> Result<(Graph, Weights)> {
        trained.parts(&Device::Cpu)
    }

    /// How to evaluate on the images.
    pub fn job(&self) -> Job<'_> {
        Job {
            images: &*self.images,
            normalization: self.normalization.clone(),
            batch_size: self.batch_size,
            device: self.device.clone(),
        }
    }

    /// A network with its weights and exact activations.
    pub fn load(&self, trained: &Trained) -> Result<(Network, WeightsIdentity)> {
        let (weights, file) = match &trained.choice {
            Choice::Backbone(_) => load_weights(&trained.path, &self.device)?,
            Choice::Onnx(network) => (network.weights(&self.device), WeightsIdentity::of(&network.path)?),
        };
        // The network has its own copy of the weights.
        match Network::build(trained.choice.graph()?, &weights, &ActivationPolicy::exact()) {
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
