//! The evaluation of one network.

use anyhow::{Result, bail};
use approx_data::{ImageSet, Normalization};
use approx_eval::output::{check_writable, write_atomically, write_logits};
use approx_eval::report::{Subject, WeightsFile};
use approx_eval::{
    ApproximatePass, Bounds, Comparison, EvalError, Job, Observer, Pass, Report, Search, approximate_pass,
    exact_pass,
};
use approx_models::{ActivationPolicy, Backbone, SiteKind, Weights};
use minimax_coeffs::Alpha;

use crate::args::{Cifar10Args, CommonArgs, Method};
use crate::{display, inputs};

/// A network and what to evaluate it on.
pub struct Subjects<'a> {
    pub dataset: &'static str,
    pub backbone: &'static Backbone,
    pub weights: Weights,
    pub weights_file: WeightsFile,
    pub images: &'a ImageSet,
    pub args: &'a CommonArgs,
}

/// What the approximate network came to.
pub struct Outcome {
    pub report: Report,
    pub approx: ApproximatePass,
}

/// `infer cifar10`.
pub fn cifar10(args: &Cifar10Args, observer: &dyn Observer) -> Result<()> {
    let backbone = Backbone::find("cifar10", args.backbone_option.as_ref().unwrap_or(&args.backbone))?;
    check_outputs(&args.common)?;
    let device = inputs::device(&args.common)?;
    let (weights, weights_file) = inputs::cifar10_weights(args, backbone.name(), &device)?;
    let images = limit(inputs::cifar10_images(args)?, &args.common);
    let subjects =
        Subjects { dataset: "cifar10", backbone, weights, weights_file, images: &images, args: &args.common };
    let search = Search { start: Bounds { relu: args.b_relu, max_pool: args.b_max }, step: args.b_search };

    display::print(&display::subject(&subjects))?;
    let exact = subjects.exact(observer)?;
    let outcome = subjects.approximate(&exact, args.alpha, search, observer)?;
    display::print(&display::report(&outcome.report))?;
    subjects.write(&exact, &outcome)
}

/// The images that `--limit` leaves.
pub fn limit(images: ImageSet, args: &CommonArgs) -> ImageSet {
    match args.limit {
        Some(limit) => images.truncated(limit.get()),
        None => images,
    }
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

impl Subjects<'_> {
    /// The network as it was trained.
    pub fn exact(&self, observer: &dyn Observer) -> Result<Pass> {
        let network = self.backbone.build(&self.weights, &ActivationPolicy::exact())?;
        Ok(exact_pass(&self.job(), &network, observer)?)
    }

    /// The network with other activations, compared with the exact one.
    pub fn approximate(
        &self,
        exact: &Pass,
        alpha: Alpha,
        search: Search,
        observer: &dyn Observer,
    ) -> Result<Outcome> {
        let method = self.args.approx_method;
        let policy = |bounds: Bounds| match method {
            Method::Proposed => ActivationPolicy::minimax(alpha, bounds.relu, bounds.max_pool),
            Method::Square => ActivationPolicy::square(),
            Method::ReluAq => ActivationPolicy::relu_aq(),
        };
        let approx = approximate_pass(&self.job(), exact, search, observer, |bounds| {
            self.backbone.build(&self.weights, &policy(bounds))
        });
        let approx = match approx {
            Err(EvalError::Range(error)) => {
                let option = if error.kind == SiteKind::Relu { "--b-relu" } else { "--b-max" };
                bail!("{error}; give a larger {option}, or let --b-search 5 find one")
            }
            approx => approx?,
        };
        let comparison = Comparison::new(&exact.logits, &approx.pass.logits, self.images.labels());
        let subject = Subject {
            dataset: self.dataset.to_owned(),
            backbone: self.backbone.name().to_owned(),
            method: method.name(),
            alpha: (method == Method::Proposed).then_some(alpha),
            weights: self.weights_file.clone(),
            batch_size: self.args.batch_inf.get(),
            threads: rayon::current_num_threads(),
        };
        Ok(Outcome { report: Report::new(subject, exact, &approx, &comparison), approx })
    }

    /// Writes the files that were asked for.
    pub fn write(&self, exact: &Pass, outcome: &Outcome) -> Result<()> {
        if let Some(path) = &self.args.report {
            write_atomically(path, (outcome.report.to_json() + "\n").as_bytes())?;
            display::print(&format!("report       {}\n", path.display()))?;
        }
        if let Some(path) = &self.args.logits {
            write_logits(path, &exact.logits, &outcome.approx.pass.logits, self.images.labels())?;
            display::print(&format!("logits       {}\n", path.display()))?;
        }
        Ok(())
    }

    fn job(&self) -> Job<'_> {
        Job {
            images: self.images,
            normalization: Normalization::CIFAR10,
            batch_size: self.args.batch_inf.get(),
            device: self.weights.device().clone(),
        }
    }
}
