//! `infer calibrate`: a bound for each activation.

use anyhow::{Result, bail};
use approx_cli::program::print;
use approx_eval::calibrate::{calibrated_pass, sketched_pass};
use approx_eval::candidates::Candidate;
use approx_eval::{Observer, PolicyFile};
use approx_models::{Site, SiteKind};
use atomic_file::check_writable;

use crate::args::{CalibrateArgs, CalibratedFamily, OnDataSet};
use crate::check::check;
use crate::display;
use crate::polynomials::PolynomialSource;

/// Calibrates a network and writes its policy.
pub fn calibrate(on: &OnDataSet<CalibrateArgs>, observer: &dyn Observer) -> Result<()> {
    let (args, selection) = (on.args(), on.selection());
    let choice = selection.network(&args.backbone)?;
    if let (CalibratedFamily::Composite, Some(degree)) = (args.family, args.degree) {
        bail!("--degree {degree} is for fitted polynomials: give --family fitted, too");
    }
    let composition = PolynomialSource::open(args.machine.coefficients.as_deref())?.get(args.alpha)?;
    check_writable(&args.output)?;
    let inputs = selection.open(std::slice::from_ref(&choice))?;
    let (mut network, weights) = inputs.load(&inputs.networks[0])?;
    let (name, dataset) = (choice.name(), inputs.dataset);
    print(&format!("{name} on {dataset}: {} images, {}\n", inputs.images.len(), weights.file))?;
    let job = inputs.job();
    let (exact, sketches) = sketched_pass(&job, &mut network, observer)?;
    let composition = Candidate::Composition(composition);
    let fitted = args.degree.filter(|_| args.family == CalibratedFamily::Fitted);
    let fitted = fitted.map(|degree| Candidate::Fitted { degree });
    let candidate = |site: &Site| match site.kind() {
        SiteKind::Relu => fitted.as_ref().unwrap_or(&composition),
        SiteKind::MaxPool => &composition,
    };
    let candidates: Vec<&Candidate> = network.sites().iter().map(candidate).collect();
    let seen = (&exact, &sketches[..]);
    let approx = calibrated_pass(&job, seen, &mut network, &candidates, args.headroom, observer)?;
    let mut file = PolicyFile::of_passes(
        (dataset, name),
        weights,
        args.headroom,
        (&exact, &sketches),
        &approx,
        &network,
    )
    .with_split(selection.split);
    print(&display::policy(&file, args.alpha))?;
    check(&selection, &choice, &mut network, &mut file, observer)?;
    file.write(&args.output)?;
    print(&format!("written      {}\n", args.output.display()))?;
    Ok(())
}
