//! `infer sweep`: networks at several precisions, resumable.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use approx_cli::program::print;
use approx_eval::cells::{Cells, fingerprint};
use approx_eval::sweep::{Point, Row, Setting, Sweep, to_csv};
use approx_eval::{BoundSearch, Bounds, Observer, PolicyFile};
use approx_models::{ActivationPolicy, Composition};
use approx_ops::Noise;
use atomic_file::{check_folder, check_writable};

use crate::args::{OnDataSet, SweepArgs};
use crate::display;
use crate::inputs::{Choice, Inputs, Selection};
use crate::polynomials::PolynomialSource;
use crate::report::Report;

/// The table's files.
const TABLE: [&str; 2] = ["sweep.csv", "sweep.json"];

/// Sweeps over the networks and precisions that the arguments choose.
pub fn sweep(on: &OnDataSet<SweepArgs>, observer: &dyn Observer) -> Result<()> {
    let (args, selection) = (on.args(), on.selection());
    let plan = Plan::new(args, &selection)?;
    plan.run(args, &selection.open(&plan.networks)?, observer)
}

/// What the arguments choose.
struct Plan {
    networks: Vec<Choice>,
    settings: Vec<Setting>,
    /// Of each network, if there are some.
    policies: Vec<Option<ActivationPolicy>>,
}

impl Plan {
    fn new(args: &SweepArgs, selection: &Selection) -> Result<Self> {
        let networks = match args.all {
            true => selection.all()?,
            false => {
                let mut networks: Vec<Choice> = Vec::new();
                for name in args.names() {
                    let choice = selection.network(name)?;
                    if networks.iter().all(|known| known.name() != choice.name()) {
                        networks.push(choice);
                    }
                }
                networks
            }
        };
        if let (Some(path), 2..) = (&args.sources.params, networks.len()) {
            bail!("--params {} is for one network, not for {}", path.display(), networks.len());
        }
        let settings = settings(args)?;
        check_folder(&args.output)?;
        args.html.iter().try_for_each(|path| check_writable(path))?;
        args.plots.iter().try_for_each(|path| check_folder(path))?;
        if let (Some(html), Some(plots)) = (&args.html, &args.plots)
            && html == plots
        {
            bail!("--html and --plots both name {}", html.display());
        }
        let policy = |choice: &Choice| {
            let Some(path) = &args.policy else { return Ok(None) };
            let file = match path.is_dir() {
                true => path.join(format!("{}.json", choice.name())),
                false => path.clone(),
            };
            Ok(Some(PolicyFile::read(&file, choice.name())?.policy))
        };
        if let (Some(path), 2..) = (args.policy.as_ref().filter(|path| !path.is_dir()), networks.len()) {
            bail!(
                "--policy {} is for one network, not for {}; name a folder with a BACKBONE.json for each",
                path.display(),
                networks.len()
            );
        }
        let policies = networks.iter().map(policy).collect::<Result<_>>()?;
        Ok(Self { networks, settings, policies })
    }

    fn run(&self, args: &SweepArgs, inputs: &Inputs, observer: &dyn Observer) -> Result<()> {
        let data_sha256 = fingerprint(&*inputs.images)?;
        let cells = Cells::open(&args.output.join("cells"))?;
        TABLE.iter().try_for_each(|name| check_writable(&args.output.join(name)))?;
        let mut rows = Vec::new();
        let mut report = Report::new(args, &self.settings);
        for (trained, policy) in inputs.networks.iter().zip(&self.policies) {
            let (network, weights) = inputs.load(trained)?;
            let mut sweep = Sweep {
                dataset: inputs.dataset.to_owned(),
                backbone: trained.choice.name().to_owned(),
                weights,
                network,
                job: inputs.job(),
                data_sha256: data_sha256.clone(),
                search: BoundSearch {
                    start: Bounds { relu: args.b_relu, max_pool: args.b_max },
                    step: args.b_search,
                },
                policy: policy.clone(),
                threads: rayon::current_num_threads(),
            };
            let of_network = self.one(&mut sweep, &cells, observer)?;
            rows.extend(of_network.iter().cloned());
            write_table(&args.output, &rows)?;
            if let Some(report) = &mut report {
                report.add(&mut sweep, &cells, of_network, observer)?;
                report.write()?;
            }
        }
        print(display::sweep_footer())?;
        print(&format!("written      {}\n", args.output.join(TABLE.join(", ")).display()))?;
        for path in [&args.html, &args.plots].into_iter().flatten() {
            print(&format!("written      {}\n", path.display()))?;
        }
        Ok(())
    }

    /// One network's rows, each printed as soon as it and those above it are there.
    fn one(&self, sweep: &mut Sweep, cells: &Cells, observer: &dyn Observer) -> Result<Vec<Row>> {
        let (name, dataset, images) = (&sweep.backbone, &sweep.dataset, sweep.job.images.len());
        print(&format!("{name} on {dataset}: {images} images, {}\n", sweep.weights.file))?;
        let mut arrived: Vec<Option<Point>> = vec![None; self.settings.len()];
        let mut printed = 0;
        let noisy = self.settings.iter().any(|setting| setting.noise.is_some());
        let points = sweep.run(cells, &self.settings, observer, |index, point| {
            arrived[index] = Some(point.clone());
            while let Some(Some(point)) = arrived.get(printed) {
                if printed == 0 {
                    print(&display::sweep_header(noisy))?;
                }
                print(&display::sweep_row(point, noisy))?;
                printed += 1;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(points.into_iter().map(|point| point.row).collect())
    }
}

/// Each precision without noise, and then with each level of noise that was asked for.
fn settings(args: &SweepArgs) -> Result<Vec<Setting>> {
    let noises: Vec<Option<Noise>> =
        [None].into_iter().chain(args.noise.all().into_iter().map(Some)).collect();
    let polynomials = PolynomialSource::open(args.machine.coefficients.as_deref())?;
    let compositions = polynomials.choose(args.alpha.as_ref())?;
    let of = |composition: Arc<Composition>| {
        noises.iter().map(move |&noise| Setting { composition: composition.clone(), noise })
    };
    Ok(compositions.into_iter().flat_map(of).collect())
}

fn write_table(folder: &Path, rows: &[Row]) -> Result<()> {
    let json = serde_json::to_string_pretty(rows)?;
    for (name, text) in TABLE.iter().zip([to_csv(rows), json + "\n"]) {
        atomic_file::write(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}
