//! `infer plan`: what an encrypted run of a network will take.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use approx_cli::program::print;
use approx_data::prefetch;
use approx_eval::PolicyFile;
use approx_models::{ActivationPolicy, Graph, Network, RunOptions, Weights};
use atomic_file::check_writable;
use candle_core::{DType, Device, Tensor};
use ckks_program::report::{EngineTotals, LayerReport, Totals};
use ckks_program::{Noise, Plan, PlanOptions, Profile, Report};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::{OnDataSet, PlanArgs};
use crate::inputs::{Choice, Inputs, Selection};

/// Profiles that need no file.
const PROFILES: [(&str, &str); 3] = [
    ("desilofhe", include_str!("../../../engines/desilofhe.toml")),
    ("desilofhe-cuda", include_str!("../../../engines/desilofhe-cuda.toml")),
    ("lattigo", include_str!("../../../engines/lattigo.toml")),
];
/// The bound of compositions that come from no policy. Costs do not depend on it.
const ANY_BOUND: f64 = 50.0;

/// One plan: what stands at the activations, and for which engine.
#[derive(Serialize)]
struct Planned {
    policy: String,
    engine: Option<String>,
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    simulation: Option<Simulated>,
    #[serde(skip)]
    seconds: f64,
}

/// What the program computes, beside the network.
#[derive(Serialize)]
struct Simulated {
    images: usize,
    /// The largest difference of a logit to the approximate network's in float32, in parts of the largest logit.
    difference: f64,
    /// Images that the program puts in the approximate network's class, and in the exact one's.
    same_class: usize,
    same_class_as_exact: usize,
    /// The same difference with the errors of encryption; `None` without a profile.
    difference_with_errors: Option<f64>,
    /// Sites at which a value left the range of the policy.
    outside: Vec<String>,
}

/// Plans a network and prints what it takes.
pub fn plan(on: &OnDataSet<PlanArgs>) -> Result<()> {
    let (args, selection) = (on.args(), on.selection());
    let choice = selection.network(&args.backbone)?;
    if args.policy.is_empty() && args.alpha.is_none() {
        bail!(
            "--policy FILE.json is missing, which `infer calibrate` and `infer tune` write; or --alpha 9,14, say, for \
             compositions"
        );
    }
    if let Some(path) = &args.report {
        check_writable(path)?;
    }
    let policies = policies(args, choice.name())?;
    let profiles = args.engines()?;
    if args.output.is_some() && policies.len() * profiles.len() > 1 {
        bail!("--output writes one program, but there are {} plans", policies.len() * profiles.len());
    }
    let subject = Subject::open(&selection, &choice, args)?;
    print(&format!("{} on {}, {}\n", choice.name(), selection.dataset.name(), subject.origin))?;
    let mut all: Vec<Planned> = Vec::new();
    for (name, policy) in &policies {
        for profile in &profiles {
            let planned = subject.plan(name, policy, profile.as_ref(), args)?;
            if all.is_empty() {
                print(&table(&planned.report))?;
            }
            print(&summary(&planned))?;
            all.push(planned);
        }
    }
    if all.len() > 1 {
        print(&comparison(&all))?;
    }
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&all)? + "\n";
        atomic_file::write(path, text.as_bytes())?;
        print(&format!("written      {}\n", path.display()))?;
    }
    Ok(())
}

/// What stands at the activations, with a name.
fn policies(args: &PlanArgs, network: &str) -> Result<Vec<(String, ActivationPolicy)>> {
    let of_file = |path: &PathBuf| -> Result<_> {
        let file = PolicyFile::read(path, network)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, file.policy))
    };
    let mut all = args.policy.iter().map(of_file).collect::<Result<Vec<_>>>()?;
    if let Some(alphas) = &args.alpha {
        let source = crate::polynomials::PolynomialSource::open(args.machine.coefficients.as_deref())?;
        for composition in source.choose(Some(alphas))? {
            let policy = ActivationPolicy::composite(&composition, ANY_BOUND, ANY_BOUND);
            all.push((format!("alpha {}", composition.bits()), policy));
        }
    }
    Ok(all)
}

impl PlanArgs {
    /// The profiles that are asked for: by name, or from a file.
    fn engines(&self) -> Result<Vec<Option<Profile>>> {
        if self.engine.is_empty() {
            return Ok(vec![None]);
        }
        let mut profiles = Vec::new();
        for asked in &self.engine {
            let known = PROFILES.iter().filter(|(name, _)| asked == name || asked == "all");
            let known: Vec<&(&str, &str)> = known.collect();
            for (name, text) in &known {
                profiles.push(Some(Profile::from_toml(text).with_context(|| format!("the profile {name}"))?));
            }
            if known.is_empty() {
                profiles.push(Some(read_profile(Path::new(asked))?));
            }
        }
        Ok(profiles)
    }
}

fn read_profile(path: &Path) -> Result<Profile> {
    let names = PROFILES.map(|(name, _)| name).join(", ");
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("{} is neither a profile of an engine ({names}, all) nor a file", path.display())
    })?;
    Profile::from_toml(&text).with_context(|| path.display().to_string())
}

/// A network with its weights, and images if it is to be simulated.
struct Subject {
    graph: Graph,
    weights: Weights,
    origin: String,
    images: Option<(Inputs, Network)>,
}

impl Subject {
    fn open(selection: &Selection, choice: &Choice, args: &PlanArgs) -> Result<Self> {
        if args.simulate.is_none() {
            let (graph, weights, origin) = selection.without_images(choice)?;
            return Ok(Self { graph, weights, origin, images: None });
        }
        let inputs = selection.open(std::slice::from_ref(choice))?;
        let (network, identity) = inputs.load(&inputs.networks[0])?;
        let (graph, weights) = inputs.parts(&inputs.networks[0])?;
        Ok(Self { graph, weights, origin: identity.file, images: Some((inputs, network)) })
    }

    fn plan(
        &self,
        name: &str,
        policy: &ActivationPolicy,
        profile: Option<&Profile>,
        args: &PlanArgs,
    ) -> Result<Planned> {
        let options = match profile {
            Some(profile) => {
                let key_bytes = args.key_memory.map(|bytes| bytes as f64);
                let insecure = args.insecure;
                PlanOptions { insecure, key_bytes, ..PlanOptions::for_engine(profile.clone()) }
            }
            None => PlanOptions::new(args.slots.get()),
        };
        let start = Instant::now();
        let bar = ProgressBar::new(1);
        let mut failed = None;
        let weights = |param: &cnn_graph::ParamSpec| {
            self.weights.values(&param.name, &param.shape).unwrap_or_else(|error| {
                failed.get_or_insert(error);
                Vec::new()
            })
        };
        let planned = Plan::with_progress(&self.graph, weights, policy, &options, |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        if let Some(error) = failed {
            return Err(error.into());
        }
        let planned = planned?;
        let mut report = planned.report()?;
        let seconds = start.elapsed().as_secs_f64();
        if let Some(folder) = &args.output {
            write_program(&planned, folder)?;
        }
        let simulation = match (&self.images, args.simulate) {
            (Some((inputs, network)), Some(count)) => {
                let images = first_images(inputs, count.get())?;
                if let Some(folder) = &args.output {
                    write_images(&images, folder)?;
                }
                Some(simulate(&planned, inputs, &images, network, policy, &mut report)?)
            }
            _ => None,
        };
        let engine = profile.map(|profile| format!("{} {}", profile.engine, profile.engine_version));
        Ok(Planned { policy: name.to_owned(), engine, report, simulation, seconds })
    }
}

/// Writes the program, and the plaintext vectors of each of its linear layers.
fn write_program(plan: &Plan, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    for (number, _) in plan.program().layers.iter().enumerate().filter(|(_, layer)| layer.kind == "linear") {
        let mut bytes = Vec::new();
        plan.write_plaintexts(number, &mut bytes)?;
        atomic_file::write(&folder.join(format!("plaintexts_{number:04}.safetensors")), &bytes)?;
    }
    // Last: a folder with a program has all that it takes.
    atomic_file::write(&folder.join("program.json"), plan.program().to_json()?.as_bytes())?;
    Ok(())
}

/// The first images, normalised: `[N, …]`.
fn first_images(inputs: &Inputs, count: usize) -> Result<Tensor> {
    let count = count.min(inputs.images.len());
    let mut tensor: Option<Tensor> = None;
    let all = 0..count;
    let ranges = std::slice::from_ref(&all);
    prefetch(&*inputs.images, ranges, &inputs.normalization, &Device::Cpu, |_, batch| {
        tensor.clone_from(&batch.images);
        Ok::<_, anyhow::Error>(std::ops::ControlFlow::Continue(()))
    })?;
    tensor.with_context(|| format!("none of the first {count} images can be read"))
}

/// Writes the images beside the program, as safetensors: `images`, `[N, numbers]`, in float64.
fn write_images(images: &Tensor, folder: &Path) -> Result<()> {
    let images = images.flatten_from(1)?.to_dtype(DType::F64)?;
    let path = folder.join("images.safetensors");
    let bytes = safetensors::serialize([("images", &images)], None)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(atomic_file::write(&path, &bytes)?)
}

/// Runs the program slot by slot, and the network, for these images.
fn simulate(
    plan: &Plan,
    inputs: &Inputs,
    tensor: &Tensor,
    exact: &Network,
    policy: &ActivationPolicy,
    report: &mut Report,
) -> Result<Simulated> {
    let logits = |network: &Network| -> Result<Vec<Vec<f32>>> { Ok(network.forward(tensor)?.to_vec2()?) };
    let of_exact = logits(exact)?;
    let mut approximate = inputs.load(&inputs.networks[0])?.0;
    approximate.set_policy(policy, &RunOptions::default())?;
    let of_network = logits(&approximate)?;
    let images: Vec<Vec<f64>> = tensor
        .flatten_from(1)?
        .to_vec2::<f32>()?
        .into_iter()
        .map(|image| image.into_iter().map(f64::from).collect())
        .collect();
    let found = plan.simulate(&images, Noise::None)?;
    let largest = of_network.iter().flatten().fold(0.0, |largest: f64, x| largest.max(f64::from(x.abs())));
    let difference = |outputs: &[Vec<f64>]| {
        let pairs = outputs.iter().flatten().zip(of_network.iter().flatten());
        let differences = pairs.map(|(a, b)| (a - f64::from(*b)).abs());
        // NaN is the largest.
        differences.fold(0.0, |largest, d| if d <= largest { largest } else { d }) / largest
    };
    let classes: Vec<usize> = found.outputs.iter().map(|logits| class(logits)).collect();
    let same = |others: &[Vec<f32>]| {
        let class_of = |logits: &Vec<f32>| class(&logits.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
        classes.iter().zip(others).filter(|(class, other)| **class == class_of(other)).count()
    };
    let mut difference_with_errors = None;
    if plan.profile().is_some() {
        report.add_errors(&plan.errors(&images, 0)?);
        difference_with_errors =
            Some(difference(&plan.simulate(&images, Noise::Measured { seed: 0 })?.outputs));
    }
    let outside = found.ranges.iter().filter(|range| range.outside > 0);
    Ok(Simulated {
        images: images.len(),
        difference: difference(&found.outputs),
        same_class: same(&of_network),
        same_class_as_exact: same(&of_exact),
        difference_with_errors,
        outside: outside.map(|range| range.site.clone()).collect(),
    })
}

/// The place of the largest.
fn class(logits: &[f64]) -> usize {
    let place = |best: usize, (i, x): (usize, &f64)| if *x > logits[best] { i } else { best };
    logits.iter().enumerate().fold(0, place)
}

/// A line for each layer.
fn table(report: &Report) -> String {
    let timed = report.totals.engine.is_some();
    let width = report.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0).max(5);
    let mut text = format!(
        "\n{:width$}  kind         ct  diagonals  rotations  keys  products  levels  bootstraps",
        "layer"
    );
    text += if timed { "      s\n" } else { "\n" };
    for layer in &report.layers {
        let LayerReport { name, kind, ciphertexts, diagonals, rotations, keys, products, .. } = layer;
        let levels = format!("{}→{}", layer.level_before, layer.level_after);
        let count = |n: usize| if n == 0 { String::new() } else { n.to_string() };
        write!(
            text,
            "{name:width$}  {kind:10} {ciphertexts:>4}  {:>9}  {:>9}  {:>4}  {:>8}  {levels:>6}  {:>10}",
            count(*diagonals),
            count(*rotations),
            count(*keys),
            count(*products),
            count(layer.bootstraps)
        )
        .expect("a String takes all");
        if let Some(seconds) = layer.seconds {
            write!(text, "  {seconds:>5.1}").expect("a String takes all");
        }
        text.truncate(text.trim_end().len());
        text += "\n";
    }
    text
}

/// What all of it takes.
fn summary(planned: &Planned) -> String {
    let Totals { bootstraps, rotations, hoisted, keys, diagonals, products, images, .. } =
        planned.report.totals;
    let mut text = "\n".to_owned();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:13}{value}").expect("a String takes all");
    };
    let engine = planned.engine.as_deref().unwrap_or("no engine: levels without end, and no bootstraps");
    line("plan", format!("{}, {engine}; made in {:.1} s", planned.policy, planned.seconds));
    line("images", format!("{images} share the ciphertexts"));
    line("operations", {
        format!(
            "{bootstraps} bootstraps, {rotations} rotations ({hoisted} hoisted), {diagonals} products with plaintexts, \
             {products} of ciphertexts"
        )
    });
    line("keys", format!("{keys} for rotations"));
    if let Some(engine) = &planned.report.totals.engine {
        let EngineTotals { latency_seconds, seconds_per_image, bootstrap_seconds, .. } = *engine;
        line(
            "time",
            format!(
                "{}, of which bootstraps {}; {} an image",
                duration(latency_seconds),
                duration(bootstrap_seconds),
                duration(seconds_per_image)
            ),
        );
        line(
            "memory",
            format!(
                "{}; keys {}, made in {}",
                gibibytes(engine.peak_bytes),
                gibibytes(engine.key_bytes),
                duration(engine.key_seconds)
            ),
        );
        line(
            "traffic",
            format!("{} there, {} back", gibibytes(engine.upload_bytes), gibibytes(engine.download_bytes)),
        );
        line("security", format!("{} bits", engine.security_bits));
    }
    if let Some(simulated) = &planned.simulation {
        let Simulated { images, difference, same_class, same_class_as_exact, .. } = simulated;
        line(
            "simulated",
            format!(
                "{images} images: logits within {difference:.1e} of the approximate network's, the class is the same for \
                 {same_class}, and that of the exact network for {same_class_as_exact}"
            ),
        );
        if let Some(difference) = simulated.difference_with_errors {
            line("errors", format!("with those of encryption, logits are within {difference:.1e}"));
        }
        if !simulated.outside.is_empty() {
            line("warning", format!("values left the range at {}", simulated.outside.join(", ")));
        }
    }
    text
}

/// All plans side by side.
fn comparison(all: &[Planned]) -> String {
    let engine = |planned: &Planned| planned.engine.clone().unwrap_or_else(|| "none".to_owned());
    let longest = |of: &dyn Fn(&Planned) -> usize| all.iter().map(of).max().unwrap_or(0).max(6);
    let width = longest(&|planned| planned.policy.len());
    let engine_width = longest(&|planned| engine(planned).len());
    let mut text = format!(
        "\n{:width$}  {:engine_width$}  bootstraps  rotations  products         time     an image    memory\n",
        "policy", "engine"
    );
    for planned in all {
        let totals = &planned.report.totals;
        let engine = engine(planned);
        write!(
            text,
            "{:width$}  {engine:engine_width$}  {:>10}  {:>9}  {:>8}",
            planned.policy, totals.bootstraps, totals.rotations, totals.products
        )
        .expect("a String takes all");
        if let Some(engine) = &totals.engine {
            let [time, an_image] = [engine.latency_seconds, engine.seconds_per_image].map(duration);
            write!(text, "  {time:>11}  {an_image:>11}  {:>8}", gibibytes(engine.peak_bytes))
                .expect("a String takes all");
        }
        text += "\n";
    }
    text
}

/// Such as `12 min 5 s`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 59.5 => format!("{s:.0} s"),
        s if s < 3570.0 => {
            let whole = s.round() as u64;
            format!("{} min {} s", whole / 60, whole % 60)
        }
        s => {
            let minutes = (s / 60.0).round() as u64;
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
    }
}

fn gibibytes(bytes: f64) -> String {
    match bytes / f64::from(1 << 30) {
        gib if gib < 0.1 => format!("{:.1} MiB", bytes / f64::from(1 << 20)),
        gib => format!("{gib:.1} GiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_as_people_do() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (59.4, "59 s"),
            (59.6, "1 min 0 s"),
            (725.4, "12 min 5 s"),
            (3569.0, "59 min 29 s"),
            (3571.0, "1 h 0 min"),
            (7500.0, "2 h 5 min"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!([0.5e6, 21.4e9].map(gibibytes), ["0.5 MiB", "19.9 GiB"]);
    }

    #[test]
    fn profiles_that_need_no_file_can_be_read() {
        for (name, text) in PROFILES {
            assert_eq!(Profile::from_toml(text).unwrap().engine, name);
        }
    }
}
