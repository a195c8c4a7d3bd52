//! The evaluation of one network.

use std::sync::Arc;

use anyhow::{Result, bail};
use approx_cli::program::print;
use approx_eval::calibrate::evaluate_policy;
use approx_eval::output::write_logits;
use approx_eval::report::{Subject, WeightsIdentity};
use approx_eval::{
    ApproximatePass, BoundSearch, Bounds, Comparison, EvalError, Job, Observer, Pass, PolicyFile, Report,
    approximate_pass, exact_pass,
};
use approx_models::{ActivationPolicy, Composition, Network, RunOptions, SiteKind};
use atomic_file::check_writable;

use crate::args::{CommonArgs, Method, NetworkArgs, OnDataSet};
use crate::display;
use crate::inputs::Networks;
use crate::polynomials::PolynomialSource;

/// A network and what to evaluate it on.
pub struct Subjects<'a> {
    pub dataset: &'static str,
    /// The network's name.
    pub name: String,
    pub network: Network,
    pub weights: WeightsIdentity,
    pub job: Job<'a>,
    pub args: &'a CommonArgs,
}

/// What the approximate network came to.
pub struct Evaluation {
    pub report: Report,
    pub approx: ApproximatePass,
}

/// `infer cifar10` and the other data sets.
pub fn evaluate(on: &OnDataSet<NetworkArgs>, observer: &dyn Observer) -> Result<()> {
    let (args, selection) = (on.args(), on.selection());
    if args.list {
        if selection.networks == Networks::Onnx {
            bail!("--list names backbones; a network from a file is named by its file");
        }
        let backbones = selection.backbones();
        let names = backbones.iter().map(|backbone| selection.name_of(backbone) + "\n");
        print(&names.collect::<String>())?;
        return Ok(());
    }
    let choice = selection.network(args.backbone())?;
    check_outputs(&args.common)?;
    let composition = PolynomialSource::open(args.common.machine.coefficients.as_deref())?.get(args.alpha)?;
    let policy = args.policy.as_ref().map(|path| PolicyFile::read(path, choice.name())).transpose()?;
    let inputs = selection.open(std::slice::from_ref(&choice))?;
    let (network, weights) = inputs.load(&inputs.networks[0])?;
    let mut subjects = Subjects {
        dataset: inputs.dataset,
        name: choice.name().to_owned(),
        network,
        weights,
        job: inputs.job(),
        args: &args.common,
    };
    let search =
        BoundSearch { start: Bounds { relu: args.b_relu, max_pool: args.b_max }, step: args.b_search };
    print(&display::subject(&subjects))?;
    let exact = subjects.exact(observer)?;
    let evaluation = match &policy {
        Some(file) => subjects.approximate_by(&exact, file, observer)?,
        None => subjects.approximate(&exact, &composition, search, observer)?,
    };
    print(&display::report(&evaluation.report))?;
    subjects.write(&exact, &evaluation)
}

/// Fails now rather than after the work if an output cannot be written, or the noise not be simulated.
pub fn check_outputs(args: &CommonArgs) -> Result<()> {
    args.noise()?;
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
    pub fn exact(&mut self, observer: &dyn Observer) -> Result<Pass> {
        self.network.set_policy(&ActivationPolicy::exact(), &RunOptions::default())?;
        self.job.warm_up(&self.network)?;
        Ok(exact_pass(&self.job, &self.network, observer)?)
    }

    /// The network with other activations, compared with the exact one.
    pub fn approximate(
        &mut self,
        exact: &Pass,
        composition: &Arc<Composition>,
        search: BoundSearch,
        observer: &dyn Observer,
    ) -> Result<Evaluation> {
        let (method, options) = (self.args.approx_method, RunOptions::with_noise(self.args.noise()?));
        let policy = |bounds: Bounds| match method {
            Method::Proposed => ActivationPolicy::composite(composition, bounds.relu, bounds.max_pool),
            Method::Square => ActivationPolicy::square(),
            Method::ReluAq => ActivationPolicy::relu_aq(),
        };
        let approx =
            approximate_pass(&self.job, exact, &mut self.network, search, &options, observer, policy);
        let approx = match approx {
            Err(EvalError::Range(error)) => {
                let option = if error.kind == SiteKind::Relu { "--b-relu" } else { "--b-max" };
                bail!("{error}; give a larger {option}, or let --b-search 5 find one")
            }
            approx => approx?,
        };
        self.evaluation(exact, approx, method.name())
    }

    /// The network with a policy's activations, compared with the exact one.
    pub fn approximate_by(
        &mut self,
        exact: &Pass,
        file: &PolicyFile,
        observer: &dyn Observer,
    ) -> Result<Evaluation> {
        if file.weights.sha256 != self.weights.sha256 {
            eprintln!("note: the policy was made with other weights, {}", file.weights.file);
        }
        let options = RunOptions::with_noise(self.args.noise()?);
        let approx = evaluate_policy(&self.job, exact, &mut self.network, &file.policy, &options, observer);
        let approx = match approx {
            Err(EvalError::Range(error)) => {
                bail!("{error}; calibrate on more images or with a larger --headroom")
            }
            approx => approx?,
        };
        self.evaluation(exact, approx, "policy".to_owned())
    }

    fn evaluation(&self, exact: &Pass, approx: ApproximatePass, method: String) -> Result<Evaluation> {
        let comparison = Comparison::new(&exact.logits, &approx.pass.logits, &exact.labels);
        let subject = Subject {
            dataset: self.dataset.to_owned(),
            backbone: self.name.clone(),
            method,
            noise: self.args.noise()?,
            cost: self.network.cost(&approx.policy)?,
            weights: self.weights.clone(),
            batch_size: self.job.batch_size,
            threads: rayon::current_num_threads(),
            device: approx_eval::device_name(&self.job.device),
        };
        Ok(Evaluation { report: Report::new(subject, exact, &approx, &comparison), approx })
    }

    /// Writes the files that were asked for.
    pub fn write(&self, exact: &Pass, evaluation: &Evaluation) -> Result<()> {
        if let Some(path) = &self.args.report {
            atomic_file::write(path, (evaluation.report.to_json() + "\n").as_bytes())?;
            print(&format!("report       {}\n", path.display()))?;
        }
        if let Some(path) = &self.args.logits {
            write_logits(path, &exact.logits, &evaluation.approx.pass.logits, &exact.labels)?;
            print(&format!("logits       {}\n", path.display()))?;
        }
        Ok(())
    }
}
