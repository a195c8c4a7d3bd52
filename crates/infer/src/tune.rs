//! `infer tune`: a precision for each activation.

use anyhow::{Result, bail};
use approx_cli::program::print;
use approx_eval::calibrate::sketched_pass;
use approx_eval::tune::{Goal, Minimise, to_csv, tune as tuned};
use approx_eval::{Observer, PolicyFile};
use atomic_file::check_writable;

use crate::args::{Minimised, OnDataSet, TuneArgs};
use crate::display;
use crate::polynomials::PolynomialSource;

/// Tunes a network and writes its policy.
pub fn tune(on: &OnDataSet<TuneArgs>, observer: &dyn Observer) -> Result<()> {
    let (args, selection) = (on.args(), on.selection());
    let choice = selection.network(&args.backbone)?;
    let compositions = PolynomialSource::open(args.machine.coefficients.as_deref())?;
    let compositions = compositions.choose(args.alpha.as_ref())?;
    for path in [Some(&args.output), args.front.as_ref()].into_iter().flatten() {
        check_writable(path)?;
    }
    if args.front.as_ref() == Some(&args.output) {
        bail!("--output and --front both name {}", args.output.display());
    }
    let goal = Goal {
        minimise: match args.minimise {
            Minimised::Depth => Minimise::Depth,
            Minimised::Mults => Minimise::Multiplications,
        },
        max_drop: args.max_drop,
        compositions,
        headroom: args.headroom,
        sensitivity_images: args.sensitivity_images.get(),
    };
    let inputs = selection.open(std::slice::from_ref(&choice))?;
    let (mut network, weights) = inputs.load(&inputs.networks[0])?;
    let (name, dataset) = (choice.name(), inputs.dataset);
    print(&format!("{name} on {dataset}: {} images, {}\n", inputs.images.len(), weights.file))?;
    let job = inputs.job();
    let (exact, sketches) = sketched_pass(&job, &mut network, observer)?;
    let found = tuned(&job, &exact, &mut network, &goal, observer)?;
    print(&display::tuned(&found, &network))?;
    let file = PolicyFile::of_passes(
        (dataset, name),
        weights,
        args.headroom,
        (&exact, &sketches),
        &found.pass,
        &network,
    )
    .with_split(selection.split);
    file.write(&args.output)?;
    print(&format!("written      {}\n", args.output.display()))?;
    if let Some(path) = &args.front {
        let sites: Vec<_> = network.sites().iter().map(|site| site.name().to_owned()).collect();
        atomic_file::write(path, to_csv(&found.points, &sites).as_bytes())?;
        print(&format!("front        {}\n", path.display()))?;
    }
    Ok(())
}
