//! `infer tune`: a precision for each activation.

use std::sync::Arc;

use anyhow::{Result, bail};
use approx_cli::program::print;
use approx_eval::calibrate::sketched_pass;
use approx_eval::candidates::Candidate;
use approx_eval::tune::{Goal, Minimise, to_csv, tune as tuned};
use approx_eval::{Observer, PolicyFile};
use approx_models::Composition;
use atomic_file::check_writable;

use crate::args::{Family, Minimised, OnDataSet, TuneArgs};
use crate::check::check;
use crate::display;
use crate::polynomials::PolynomialSource;

/// Tunes a network and writes its policy.
pub fn tune(on: &OnDataSet<TuneArgs>, observer: &dyn Observer) -> Result<()> {
    let (args, selection) = (on.args(), on.selection());
    let choice = selection.network(&args.backbone)?;
    let compositions = PolynomialSource::open(args.machine.coefficients.as_deref())?;
    let compositions = compositions.choose(args.alpha.as_ref())?;
    let minimise = match args.minimise {
        Minimised::Depth => Minimise::Depth,
        Minimised::Mults => Minimise::Multiplications,
    };
    for path in [Some(&args.output), args.front.as_ref()].into_iter().flatten() {
        check_writable(path)?;
    }
    if args.front.as_ref() == Some(&args.output) {
        bail!("--output and --front both name {}", args.output.display());
    }
    let goal = Goal {
        minimise,
        max_drop: args.max_drop,
        activations: candidates(args.family, &compositions, minimise),
        max_pools: compositions.into_iter().map(Candidate::Composition).collect(),
        headroom: args.headroom,
        sensitivity_images: args.sensitivity_images.get(),
    };
    let inputs = selection.open(std::slice::from_ref(&choice))?;
    let (mut network, weights) = inputs.load(&inputs.networks[0])?;
    let (name, dataset) = (choice.name(), inputs.dataset);
    print(&format!("{name} on {dataset}: {} images, {}\n", inputs.images.len(), weights.file))?;
    let job = inputs.job();
    let (exact, sketches) = sketched_pass(&job, &mut network, observer)?;
    let found = tuned(&job, (&exact, &sketches), &mut network, &goal, observer)?;
    print(&display::tuned(&found, &network))?;
    let mut file = PolicyFile::of_passes(
        (dataset, name),
        weights,
        args.headroom,
        (&exact, &sketches),
        &found.pass,
        &network,
    )
    .with_split(selection.split);
    check(&selection, &choice, &mut network, &mut file, observer)?;
    file.write(&args.output)?;
    print(&format!("written      {}\n", args.output.display()))?;
    if let Some(path) = &args.front {
        let sites: Vec<_> = network.sites().iter().map(|site| site.name().to_owned()).collect();
        atomic_file::write(path, to_csv(&found.points, &sites).as_bytes())?;
        print(&format!("front        {}\n", path.display()))?;
    }
    Ok(())
}

/// Degrees of fitted polynomials to choose from: the highest for so many levels, or where products count, all that differ
/// enough.
fn degrees(minimise: Minimise) -> &'static [usize] {
    match minimise {
        Minimise::Depth => &[3, 7, 15, 31, 63],
        Minimise::Multiplications => &[3, 5, 7, 9, 11, 15, 19, 23, 27, 31, 39, 47, 55, 63],
    }
}

/// What to choose from for an activation.
fn candidates(family: Family, compositions: &[Arc<Composition>], minimise: Minimise) -> Vec<Candidate> {
    let of_compositions = compositions.iter().cloned().map(Candidate::Composition);
    let fitted = degrees(minimise).iter().map(|&degree| Candidate::Fitted { degree });
    match family {
        Family::Composite => of_compositions.collect(),
        Family::Fitted => fitted.collect(),
        Family::All => of_compositions.chain(fitted).collect(),
    }
}
