//! What `infer` works on.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use approx_cli::inputs::{images, load_weights, weights_file};
use approx_data::cifar10::{self, Split};
use approx_data::{ImageNet, ImageSet, OnCorrupt, Preprocess};
use approx_eval::report::WeightsFile;
use approx_models::{Backbone, Weights};
use candle_core::Device;

use crate::args::{MachineArgs, PictureArgs, SourceArgs};

/// The weights of a network, fetched if they are missing and known.
pub fn weights(args: &SourceArgs, backbone: &Backbone, device: &Device) -> Result<(Weights, WeightsFile)> {
    load_weights(&weights_path(args, backbone)?, device)
}

/// Where they are, once they are there.
pub fn weights_path(args: &SourceArgs, backbone: &Backbone) -> Result<PathBuf> {
    match &args.params {
        Some(path) => Ok(path.clone()),
        None => weights_file(backbone, &args.params_name, args.from.as_ref(), "--params"),
    }
}

/// CIFAR-10's test images, fetched if they should be in the default folder and are not.
pub fn cifar10_images(args: &SourceArgs, machine: &MachineArgs) -> Result<ImageSet> {
    let limit = machine.limit.map_or(usize::MAX, NonZeroUsize::get);
    let load = |folder: &_| cifar10::load(folder, Split::Test);
    let images = images(args.dataset_path.as_deref(), "cifar10", "test", args.from.as_ref(), load)?;
    Ok(images.truncated(limit))
}

/// ImageNet's validation images, fetched if they should be in the default folder and are not.
pub fn imagenet_images(args: &SourceArgs, pictures: &PictureArgs, machine: &MachineArgs) -> Result<ImageNet> {
    // torchvision's 256 for 224, and 342 for Inception-v3's 299.
    let in_proportion = || (pictures.image_size as f64 * 256.0 / 224.0).round() as usize;
    let preprocess = Preprocess::new(pictures.resize.unwrap_or_else(in_proportion), pictures.image_size)?;
    let on_corrupt = if pictures.skip_corrupt { OnCorrupt::Skip } else { OnCorrupt::Fail };
    let limit = machine.limit.map(NonZeroUsize::get);
    images(args.dataset_path.as_deref(), "imagenet", "validation", args.from.as_ref(), |folder| {
        ImageNet::open(folder, preprocess, on_corrupt, limit)
    })
}
