//! The evaluation of one network.

use anyhow::{Result, bail};
use approx_cli::program::print;
use approx_data::{ImageSource, Normalization, Preprocess};
use approx_eval::calibrate::evaluate_policy;
use approx_eval::output::{check_writable, write_atomically, write_logits};
use approx_eval::report::{Subject, WeightsFile};
use approx_eval::{
    ApproximatePass, Bounds, Comparison, EvalError, Job, Observer, Pass, PolicyFile, Report, Search,
    approximate_pass, device_name, exact_pass,
};
use approx_models::{ActivationPolicy, Backbone, Composition, Network, SiteKind, Weights};
use candle_core::Device;

use crate::args::{CommonArgs, ImageNetArgs, Method, NetworkArgs, PictureArgs};
use crate::compositions::Compositions;
use crate::{display, inputs};

/// A network and what to evaluate it on.
pub struct Subjects<'a> {
    pub dataset: &'static str,
    pub backbone: &'static Backbone,
    pub network: Network,
    pub weights_file: WeightsFile,
    pub images: &'a dyn ImageSource,
    pub normalization: Normalization,
    pub device: Device,
    pub args: &'a CommonArgs,
}

/// What the approximate network came to.
pub struct Outcome {
    pub report: Report,
    pub approx: ApproximatePass,
}

/// `infer cifar10`.
pub fn cifar10(args: &NetworkArgs, observer: &dyn Observer) -> Result<()> {
    let Some(chosen) = prepare("cifar10", args)? else { return Ok(()) };
    let weights = inputs::weights(&args.sources, chosen.backbone, &chosen.device)?;
    let images = inputs::cifar10_images(&args.sources, &args.common.machine)?;
    evaluate(args, &chosen, weights, &images, Normalization::CIFAR10, observer)
}

/// `infer imagenet`.
pub fn imagenet(args: &ImageNetArgs, observer: &dyn Observer) -> Result<()> {
    let Some(chosen) = prepare("imagenet", &args.network)? else { return Ok(()) };
    // Unlike the weights, the images are not for anybody to fetch.
    let images =
        inputs::imagenet_images(&args.network.sources, &args.pictures, &args.network.common.machine)?;
    let weights = inputs::weights(&args.network.sources, chosen.backbone, &chosen.device)?;
    note_image_size(chosen.backbone, &args.pictures);
    evaluate(&args.network, &chosen, weights, &images, Normalization::IMAGENET, observer)
}

/// Says so if a network was trained with images of another size.
pub fn note_image_size(backbone: &Backbone, pictures: &PictureArgs) {
    if backbone.name() == "inception_v3" && pictures.image_size == Preprocess::IMAGENET.size() {
        eprintln!(
            "note: {} was trained with images of 299 pixels; 224 are the paper's. --image-size 299 gives its own",
            backbone.name()
        );
    }
}

/// What is to be evaluated, with what, and where.
struct Chosen {
    backbone: &'static Backbone,
    composition: Composition,
    /// What is evaluated instead of one composition.
    policy: Option<PolicyFile>,
    device: Device,
}

/// What the arguments choose, if a network is to be evaluated.
fn prepare(dataset: &str, args: &NetworkArgs) -> Result<Option<Chosen>> {
    if args.list {
        let names = Backbone::all(dataset).iter().map(Backbone::name);
        print(&names.map(|name| format!("{name}\n")).collect::<String>())?;
        return Ok(None);
    }
    let backbone = Backbone::find(dataset, args.backbone())?;
    check_outputs(&args.common)?;
    let composition = Compositions::open(args.common.machine.coefficients.as_deref())?.get(args.alpha)?;
    let policy = args.policy.as_ref().map(|path| PolicyFile::read(path, backbone.name())).transpose()?;
    Ok(Some(Chosen { backbone, composition, policy, device: args.common.machine.device.open()? }))
}

fn evaluate(
    args: &NetworkArgs,
    chosen: &Chosen,
    (weights, weights_file): (Weights, WeightsFile),
    images: &dyn ImageSource,
    normalization: Normalization,
    observer: &dyn Observer,
) -> Result<()> {
    let backbone = chosen.backbone;
    let mut subjects = Subjects {
        dataset: backbone.dataset(),
        backbone,
        network: backbone.build(&weights, &ActivationPolicy::exact())?,
        weights_file,
        images,
        normalization,
        device: weights.device().clone(),
        args: &args.common,
    };
    // The network has its own copy.
    drop(weights);
    let search = Search { start: Bounds { relu: args.b_relu, max_pool: args.b_max }, step: args.b_search };
    print(&display::subject(&subjects))?;
    let exact = subjects.exact(observer)?;
    let outcome = match &chosen.policy {
        Some(file) => subjects.approximate_by(&exact, file, observer)?,
        None => subjects.approximate(&exact, chosen.composition, search, observer)?,
    };
    print(&display::report(&outcome.report))?;
    subjects.write(&exact, &outcome)
}

/// Fails now rather than after the work if an output cannot be written.
pub fn check_outputs(args: &CommonArgs) -> Result<()> {
    for path in [&args.report, &args.logits].into_iter().flatten() {
        check_writable(path)?;
    }
    if let (Some(report), Some(logits)) = (&args.report, &args.logits)
        && report == logits
    {
        bail!("--report and --logits both name {}", report.display());
    }
    Ok(())
}

impl<'a> Subjects<'a> {
    /// The network as it was trained.
    pub fn exact(&mut self, observer: &dyn Observer) -> Result<Pass> {
        self.network.set_policy(&ActivationPolicy::exact())?;
        Ok(exact_pass(&self.job(), &self.network, observer)?)
    }

    /// The network with other activations, compared with the exact one.
    pub fn approximate(
        &mut self,
        exact: &Pass,
        composition: Composition,
        search: Search,
        observer: &dyn Observer,
    ) -> Result<Outcome> {
        let method = self.args.approx_method;
        let policy = |bounds: Bounds| match method {
            Method::Proposed => ActivationPolicy::composite(composition, bounds.relu, bounds.max_pool),
            Method::Square => ActivationPolicy::square(),
            Method::ReluAq => ActivationPolicy::relu_aq(),
        };
        let job = self.job();
        let approx = approximate_pass(&job, exact, &mut self.network, search, observer, policy);
        let approx = match approx {
            Err(EvalError::Range(error)) => {
                let option = if error.kind == SiteKind::Relu { "--b-relu" } else { "--b-max" };
                bail!("{error}; give a larger {option}, or let --b-search 5 find one")
            }
            approx => approx?,
        };
        Ok(self.outcome(exact, approx, method.name(), (method == Method::Proposed).then_some(composition)))
    }

    /// The network with a policy's activations, compared with the exact one.
    pub fn approximate_by(
        &mut self,
        exact: &Pass,
        file: &PolicyFile,
        observer: &dyn Observer,
    ) -> Result<Outcome> {
        if file.weights.sha256 != self.weights_file.sha256 {
            eprintln!("note: the policy was made with other weights, {}", file.weights.file);
        }
        let approx = evaluate_policy(&self.job(), exact, &mut self.network, &file.policy, observer);
        let approx = match approx {
            Err(EvalError::Range(error)) => {
                bail!("{error}; calibrate on more images or with a larger --headroom")
            }
            approx => approx?,
        };
        Ok(self.outcome(exact, approx, "policy".to_owned(), file.alpha().map(Composition::from)))
    }

    fn outcome(
        &self,
        exact: &Pass,
        approx: ApproximatePass,
        method: String,
        composition: Option<Composition>,
    ) -> Outcome {
        let comparison = Comparison::new(&exact.logits, &approx.pass.logits, &exact.labels);
        let subject = Subject {
            dataset: self.dataset.to_owned(),
            backbone: self.backbone.name().to_owned(),
            method,
            composition,
            weights: self.weights_file.clone(),
            batch_size: self.args.machine.batch_inf.get(),
            threads: rayon::current_num_threads(),
            device: device_name(&self.device),
        };
        Outcome { report: Report::new(subject, exact, &approx, &comparison), approx }
    }

    /// Writes the files that were asked for.
    pub fn write(&self, exact: &Pass, outcome: &Outcome) -> Result<()> {
        if let Some(path) = &self.args.report {
            write_atomically(path, (outcome.report.to_json() + "\n").as_bytes())?;
            print(&format!("report       {}\n", path.display()))?;
        }
        if let Some(path) = &self.args.logits {
            write_logits(path, &exact.logits, &outcome.approx.pass.logits, &exact.labels)?;
            print(&format!("logits       {}\n", path.display()))?;
        }
        Ok(())
    }

    fn job(&self) -> Job<'a> {
        Job {
            images: self.images,
            normalization: self.normalization,
            batch_size: self.args.machine.batch_inf.get(),
            device: self.device.clone(),
        }
    }
}
