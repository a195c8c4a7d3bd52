//! `infer demo`: what the precision costs and what it brings, without a download.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};
use approx_cli::program::print;
use approx_data::{Normalization, demo};
use approx_eval::output::sha256;
use approx_eval::report::WeightsIdentity;
use approx_eval::{BoundSearch, Bounds, Job, Observer, Report};
use approx_models::{ActivationPolicy, Backbone, Network, Weights};
use minimax_coeffs::Alpha;

use crate::args::{DemoArgs, Method};
use crate::display;
use crate::polynomials::PolynomialSource;
use crate::run::{Subjects, check_outputs};

/// Where the embedded weights lie in the repository.
const WEIGHTS_NAME: &str = "weights/demo/resnet20.safetensors";
/// The least precise row of the table: below, this network's values leave every range.
const FIRST_ALPHA: u8 = 8;

pub fn demo(args: &DemoArgs, observer: &dyn Observer) -> Result<()> {
    check_outputs(&args.common)?;
    let table = args.alpha.is_none() && args.common.approx_method == Method::Proposed;
    if table && args.common.logits.is_some() {
        bail!("--logits takes one precision: choose it with --alpha");
    }
    let polynomials = PolynomialSource::open(args.common.machine.coefficients.as_deref())?;
    let composition = polynomials.get(args.alpha.unwrap_or(Alpha::MAX.bits()));
    let composition = if table { None } else { Some(composition?) };
    let device = args.common.machine.device.open()?;
    let images = demo::images().truncated(args.common.machine.limit.map_or(usize::MAX, NonZeroUsize::get));
    let backbone = *Backbone::find("cifar10", &args.backbone)?;
    let weights = Weights::from_safetensors(demo::RESNET20, &device, WEIGHTS_NAME)?;
    let mut subjects = Subjects {
        dataset: "demo",
        name: backbone.name().to_owned(),
        network: Network::build(backbone.graph()?, &weights, &ActivationPolicy::exact())?,
        weights: WeightsIdentity { file: WEIGHTS_NAME.to_owned(), sha256: sha256(demo::RESNET20) },
        job: Job {
            images: &images,
            normalization: Normalization::CIFAR10,
            batch_size: args.common.machine.batch_size(),
            device,
        },
        args: &args.common,
    };
    let search =
        BoundSearch { start: Bounds { relu: args.b_relu, max_pool: args.b_relu }, step: args.b_search };
    print(&display::subject(&subjects))?;
    let Some(composition) = composition else {
        return print_table(&mut subjects, &polynomials, search, observer);
    };
    let exact = subjects.exact(observer)?;
    let evaluation = subjects.approximate(&exact, &composition, search, observer)?;
    print(&display::report(&evaluation.report))?;
    subjects.write(&exact, &evaluation)
}

fn print_table(
    subjects: &mut Subjects,
    polynomials: &PolynomialSource,
    search: BoundSearch,
    observer: &dyn Observer,
) -> Result<()> {
    let exact = subjects.exact(observer)?;
    let mut reports: Vec<Report> = Vec::new();
    for alpha in polynomials.alphas().into_iter().filter(|alpha| *alpha >= FIRST_ALPHA) {
        if !polynomials.suits_float32(alpha) {
            eprintln!("note: alpha {alpha} needs more than float32 and is left out");
            continue;
        }
        let report = subjects.approximate(&exact, &polynomials.get(alpha)?, search, observer)?.report;
        if reports.is_empty() {
            print(&display::table_header(&report))?;
        }
        print(&display::table_row(&report))?;
        reports.push(report);
    }
    print(display::table_footer())?;
    if let Some(path) = &subjects.args.report {
        let reports: Vec<String> = reports.iter().map(Report::to_json).collect();
        atomic_file::write(path, format!("[\n{}\n]\n", reports.join(",\n")).as_bytes())?;
        print(&format!("report       {}\n", path.display()))?;
    }
    Ok(())
}
