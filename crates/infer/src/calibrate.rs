//! `infer calibrate`: a bound for each activation.

use anyhow::{Result, bail};
use approx_cli::program::print;
use approx_data::{ImageSource, Normalization};
use approx_eval::calibrate::{calibrated_pass, sketched_pass};
use approx_eval::output::check_writable;
use approx_eval::{Job, Observer, PolicyFile};
use approx_models::{ActivationPolicy, Backbone};
use candle_core::Device;

use crate::args::{CalibrateArgs, ImageNetCalibrateArgs};
use crate::run::note_image_size;
use crate::{display, inputs};

/// `infer calibrate cifar10`.
pub fn cifar10(args: &CalibrateArgs, observer: &dyn Observer) -> Result<()> {
    let (backbone, device) = prepare("cifar10", args)?;
    let path = inputs::weights_path(&args.sources, backbone)?;
    let images = inputs::cifar10_images(&args.sources, &args.machine)?;
    calibrate(args, backbone, &device, &path, &images, Normalization::CIFAR10, observer)
}

/// `infer calibrate imagenet`.
pub fn imagenet(args: &ImageNetCalibrateArgs, observer: &dyn Observer) -> Result<()> {
    let ImageNetCalibrateArgs { calibrate: args, pictures } = args;
    let (backbone, device) = prepare("imagenet", args)?;
    // Unlike the weights, the images are not for anybody to fetch.
    let images = inputs::imagenet_images(&args.sources, pictures, &args.machine)?;
    let path = inputs::weights_path(&args.sources, backbone)?;
    note_image_size(backbone, pictures);
    calibrate(args, backbone, &device, &path, &images, Normalization::IMAGENET, observer)
}

fn prepare(dataset: &str, args: &CalibrateArgs) -> Result<(&'static Backbone, Device)> {
    let backbone = Backbone::find(dataset, &args.backbone)?;
    if let Some(path) = &args.machine.coefficients {
        bail!("--coefficients {}: a policy file names published polynomials only", path.display());
    }
    check_writable(&args.output)?;
    Ok((backbone, args.machine.device.open()?))
}

fn calibrate(
    args: &CalibrateArgs,
    backbone: &'static Backbone,
    device: &Device,
    weights: &std::path::Path,
    images: &dyn ImageSource,
    normalization: Normalization,
    observer: &dyn Observer,
) -> Result<()> {
    let (weights, weights_file) = approx_cli::inputs::load_weights(weights, device)?;
    let mut network = backbone.build(&weights, &ActivationPolicy::exact())?;
    // The network has its own copy.
    drop(weights);
    let (name, dataset) = (backbone.name(), backbone.dataset());
    print(&format!("{name} on {dataset}: {} images, {}\n", images.len(), weights_file.file))?;
    let job = Job { images, normalization, batch_size: args.machine.batch_inf.get(), device: device.clone() };
    let (exact, sketches) = sketched_pass(&job, &mut network, observer)?;
    let (policy, approx) = calibrated_pass(&job, &exact, &mut network, args.alpha, args.headroom, observer)?;
    let file = PolicyFile::new(
        (dataset, name),
        weights_file,
        args.headroom,
        (&exact, &sketches),
        (policy, &approx),
        &network,
    );
    print(&display::policy(&file, args.alpha))?;
    file.write(&args.output)?;
    print(&format!("written      {}\n", args.output.display()))?;
    Ok(())
}
