//! `infer sweep`: networks at several precisions, resumable.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use approx_cli::inputs::load_weights;
use approx_cli::program::print;
use approx_data::{ImageSource, Normalization};
use approx_eval::cells::{Cells, fingerprint};
use approx_eval::output::{check_folder, check_writable, write_atomically};
use approx_eval::sweep::{Point, Row, Sweep, to_csv};
use approx_eval::{Bounds, Job, Observer, PolicyFile, Search};
use approx_models::{ActivationPolicy, Backbone, Composition};
use candle_core::Device;

use crate::args::{ImageNetSweepArgs, SweepArgs};
use crate::compositions::Compositions;
use crate::run::note_image_size;
use crate::{display, inputs};

/// The table's files.
const TABLE: [&str; 2] = ["sweep.csv", "sweep.json"];

/// What the arguments choose.
struct Plan {
    backbones: Vec<&'static Backbone>,
    compositions: Vec<Composition>,
    policy: Option<ActivationPolicy>,
    device: Device,
}

/// `infer sweep cifar10`.
pub fn cifar10(args: &SweepArgs, observer: &dyn Observer) -> Result<()> {
    let plan = Plan::new("cifar10", args)?;
    let paths = plan.weights(args)?;
    let images = inputs::cifar10_images(&args.sources, &args.machine)?;
    plan.run(args, &paths, &images, Normalization::CIFAR10, observer)
}

/// `infer sweep imagenet`.
pub fn imagenet(args: &ImageNetSweepArgs, observer: &dyn Observer) -> Result<()> {
    let ImageNetSweepArgs { sweep: args, pictures } = args;
    let plan = Plan::new("imagenet", args)?;
    // Unlike the weights, the images are not for anybody to fetch.
    let images = inputs::imagenet_images(&args.sources, pictures, &args.machine)?;
    let paths = plan.weights(args)?;
    plan.backbones.iter().for_each(|backbone| note_image_size(backbone, pictures));
    plan.run(args, &paths, &images, Normalization::IMAGENET, observer)
}

impl Plan {
    fn new(dataset: &str, args: &SweepArgs) -> Result<Self> {
        let mut backbones = Vec::new();
        match args.all {
            true => backbones.extend(Backbone::all(dataset)),
            false => {
                for name in args.names() {
                    let backbone = Backbone::find(dataset, name)?;
                    if !backbones.contains(&backbone) {
                        backbones.push(backbone);
                    }
                }
            }
        }
        if let (Some(path), 2..) = (&args.sources.params, backbones.len()) {
            bail!("--params {} is for one network, not for {}", path.display(), backbones.len());
        }
        let compositions = compositions(args)?;
        let device = args.machine.device.open()?;
        check_folder(&args.output)?;
        let policy = match (&args.policy, &backbones[..]) {
            (None, _) => None,
            (Some(path), [backbone]) => Some(PolicyFile::read(path, backbone.name())?.policy),
            (Some(path), all) => {
                bail!("--policy {} is for one network, not for {}", path.display(), all.len())
            }
        };
        Ok(Self { backbones, compositions, policy, device })
    }

    /// Where each network's weights are: fetched before the work begins.
    fn weights(&self, args: &SweepArgs) -> Result<Vec<PathBuf>> {
        self.backbones.iter().map(|backbone| inputs::weights_path(&args.sources, backbone)).collect()
    }

    fn run(
        &self,
        args: &SweepArgs,
        paths: &[PathBuf],
        images: &dyn ImageSource,
        normalization: Normalization,
        observer: &dyn Observer,
    ) -> Result<()> {
        let data_sha256 = fingerprint(images)?;
        let cells = Cells::open(&args.output.join("cells"))?;
        TABLE.iter().try_for_each(|name| check_writable(&args.output.join(name)))?;
        let mut rows = Vec::new();
        for (backbone, path) in self.backbones.iter().zip(paths) {
            let (weights, file) = load_weights(path, &self.device)?;
            let network = backbone.build(&weights, &ActivationPolicy::exact())?;
            // The network has its own copy.
            drop(weights);
            let mut sweep = Sweep {
                dataset: backbone.dataset().to_owned(),
                backbone: backbone.name().to_owned(),
                sequential: backbone.is_sequential(),
                weights: file,
                network,
                job: Job {
                    images,
                    normalization,
                    batch_size: args.machine.batch_inf.get(),
                    device: self.device.clone(),
                },
                data_sha256: data_sha256.clone(),
                search: Search {
                    start: Bounds { relu: args.b_relu, max_pool: args.b_max },
                    step: args.b_search,
                },
                policy: self.policy.clone(),
                threads: rayon::current_num_threads(),
            };
            rows.extend(self.one(&mut sweep, &cells, observer)?);
            write_table(&args.output, &rows)?;
        }
        print(display::sweep_footer())?;
        print(&format!("written      {}\n", args.output.join(TABLE.join(", ")).display()))?;
        Ok(())
    }

    /// One network's rows, each printed as soon as it and those above it are there.
    fn one(&self, sweep: &mut Sweep, cells: &Cells, observer: &dyn Observer) -> Result<Vec<Row>> {
        let (name, dataset, images) = (&sweep.backbone, &sweep.dataset, sweep.job.images.len());
        print(&format!("{name} on {dataset}: {images} images, {}\n", sweep.weights.file))?;
        let mut arrived: Vec<Option<Point>> = vec![None; self.compositions.len()];
        let mut printed = 0;
        let points = sweep.run(cells, &self.compositions, observer, |index, point| {
            arrived[index] = Some(point.clone());
            while let Some(Some(point)) = arrived.get(printed) {
                if printed == 0 {
                    print(display::sweep_header())?;
                }
                print(&display::sweep_row(point))?;
                printed += 1;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(points.into_iter().map(|point| point.row).collect())
    }
}

/// The precisions that were asked for, or all.
fn compositions(args: &SweepArgs) -> Result<Vec<Composition>> {
    let compositions = Compositions::open(args.machine.coefficients.as_deref())?;
    if let Some(alphas) = &args.alpha {
        return alphas.0.iter().map(|&alpha| compositions.get(alpha)).collect();
    }
    let (suited, others): (Vec<u8>, Vec<u8>) =
        compositions.alphas().into_iter().partition(|&alpha| compositions.suits_float32(alpha));
    for alpha in others {
        eprintln!("note: alpha {alpha} needs more than float32 and is left out");
    }
    suited.into_iter().map(|alpha| compositions.get(alpha)).collect()
}

fn write_table(folder: &Path, rows: &[Row]) -> Result<()> {
    let json = serde_json::to_string_pretty(rows)?;
    for (name, text) in TABLE.iter().zip([to_csv(rows), json + "\n"]) {
        write_atomically(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}
