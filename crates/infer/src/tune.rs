//! `infer tune`: a precision for each activation.

use anyhow::{Result, bail};
use approx_cli::program::print;
use approx_eval::calibrate::sketched_pass;
use approx_eval::output::{check_writable, write_atomically};
use approx_eval::tune::{Goal, Minimise, to_csv, tune as tuned};
use approx_eval::{Observer, PolicyFile};
use minimax_coeffs::Alpha;

use crate::args::{Minimised, OnDataSet, TuneArgs};
use crate::display;

/// Tunes a network and writes its policy.
pub fn tune(on: &OnDataSet<TuneArgs>, observer: &dyn Observer) -> Result<()> {
    let (args, selection) = (on.args(), on.selection());
    let backbone = selection.backbone(&args.backbone)?;
    args.machine.refuse_coefficients()?;
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
        alphas: args.alpha.0.iter().map(|&bits| Alpha::new(bits)).collect::<Result<_, _>>()?,
        headroom: args.headroom,
        sensitivity_images: args.sensitivity_images.get(),
    };
    let inputs = selection.open(&[backbone])?;
    let (mut network, weights_file) = inputs.load(&inputs.networks[0])?;
    let (name, dataset) = (backbone.name(), inputs.dataset);
    print(&format!("{name} on {dataset}: {} images, {}\n", inputs.images.len(), weights_file.file))?;
    let job = inputs.job();
    let (exact, sketches) = sketched_pass(&job, &mut network, observer)?;
    let found = tuned(&job, &exact, &mut network, &goal, observer)?;
    print(&display::tuned(&found, &network))?;
    let file = PolicyFile::new(
        (dataset, name),
        weights_file,
        args.headroom,
        (&exact, &sketches),
        (found.policy, &found.pass),
        &network,
    )
    .with_split(selection.split);
    file.write(&args.output)?;
    print(&format!("written      {}\n", args.output.display()))?;
    if let Some(path) = &args.front {
        let sites: Vec<_> = network.sites().iter().map(|site| site.name().to_owned()).collect();
        write_atomically(path, to_csv(&found.points, &sites).as_bytes())?;
        print(&format!("front        {}\n", path.display()))?;
    }
    Ok(())
}
