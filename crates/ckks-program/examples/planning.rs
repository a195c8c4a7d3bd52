//! The tables of `docs/planning.md`: what programs consist of, and what they take by the profiles that are given.
//!
//! `cargo run -p ckks-program --example planning -- PROFILE.toml …`

use std::time::Instant;

use ckks_program::{Plan, PlanOptions, Profile};
use cnn_graph::Graph;
use cnn_graph::ops::Op;
use cnn_graph::policy::{ActivationPolicy, Fitted, SitePolicy};
use cnn_graph::zoo::Backbone;
use minimax_coeffs::fitted::{Density, FLOOR, Fit};
use minimax_coeffs::{ActivationFunction, Alpha};

type Failure = Box<dyn std::error::Error>;

/// What stands at the activations.
#[derive(Clone, Copy)]
enum Polynomials {
    Alpha(u8),
    Degree(usize),
}

impl Polynomials {
    fn name(self) -> String {
        match self {
            Self::Alpha(alpha) => format!("alpha {alpha}"),
            Self::Degree(degree) => format!("fitted, degree {degree}"),
        }
    }

    /// Counts depend on degrees alone, so that any bounds and coefficients do.
    fn policy(self, graph: &Graph) -> Result<ActivationPolicy, Failure> {
        let policy = |alpha| Ok::<_, Failure>(ActivationPolicy::minimax(Alpha::new(alpha)?, 40.0, 10.0));
        let degree = match self {
            Self::Alpha(alpha) => return policy(alpha),
            Self::Degree(degree) => degree,
        };
        let density = Density::new((-20..=20).map(|i| (f64::from(i), 1.0)))?;
        let fit = Fit::new(ActivationFunction::Relu, &density, [-20.0, 21.0], FLOOR)?;
        let fitted = Fitted::new(fit.polynomial(degree)?, &density);
        let mut policy = policy(9)?;
        for (_, node) in graph.sites().filter(|(_, node)| matches!(node.op, Op::Activation(_))) {
            policy = policy.with_site(&*node.name, SitePolicy::Fitted(fitted.clone()));
        }
        Ok(policy)
    }
}

fn plan(graph: &Graph, polynomials: Polynomials, options: &PlanOptions) -> Result<Plan, Failure> {
    let weights = |spec: &cnn_graph::ParamSpec| vec![0.01; spec.shape.iter().product()];
    Ok(Plan::new(graph, weights, &polynomials.policy(graph)?, options)?)
}

fn main() -> Result<(), Failure> {
    let read = |path: String| -> Result<Profile, Failure> {
        Ok(Profile::from_toml(&std::fs::read_to_string(path)?)?)
    };
    let profiles: Vec<Profile> = std::env::args().skip(1).map(read).collect::<Result<_, _>>()?;
    let graph = |dataset: &str, name: &str| Backbone::find(dataset, name)?.graph();

    println!("| layer of ResNet-20 | diagonals | rotations |");
    println!("|---|---|---|");
    let resnet20 = graph("cifar10", "resnet20")?;
    let report = plan(&resnet20, Polynomials::Alpha(13), &PlanOptions::new(32_768))?.report()?;
    for layer in report.layers.iter().filter(|layer| layer.rotations > 0) {
        println!("| {} | {} | {} |", layer.name, layer.diagonals, layer.rotations);
    }
    println!("| sum | {} | {} |", report.totals.diagonals, report.totals.rotations);

    println!("\n| network | images | ciphertexts | rotations | keys | diagonals | planned in, s |");
    println!("|---|---|---|---|---|---|---|");
    for (dataset, name) in [
        ("mnist", "lenet5"),
        ("cifar10", "resnet20"),
        ("cifar10", "resnet32"),
        ("cifar10", "resnet56"),
        ("cifar10", "resnet110"),
        ("cifar10", "vgg16bn"),
        ("imagenet", "resnet18"),
        ("imagenet", "resnet50"),
        ("imagenet", "googlenet"),
    ] {
        let graph = graph(dataset, name)?;
        let start = Instant::now();
        let report = plan(&graph, Polynomials::Alpha(13), &PlanOptions::new(32_768))?.report()?;
        let (seconds, totals) = (start.elapsed().as_secs_f64(), report.totals);
        let most = report.layers.iter().map(|layer| layer.ciphertexts).max().unwrap_or(0);
        println!(
            "| {dataset} {name} | {} | {most} | {} | {} | {} | {seconds:.1} |",
            totals.images, totals.rotations, totals.keys, totals.diagonals
        );
    }

    println!(
        "\n| engine | network | polynomials | bootstraps | rotations | minutes | minutes an image | keys, GB | peak, GB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for profile in &profiles {
        for name in ["resnet20", "resnet32", "resnet56", "resnet110"] {
            let graph = graph("cifar10", name)?;
            for polynomials in [
                Polynomials::Alpha(14),
                Polynomials::Alpha(13),
                Polynomials::Alpha(9),
                Polynomials::Degree(15),
                Polynomials::Degree(7),
            ] {
                let totals =
                    plan(&graph, polynomials, &PlanOptions::for_engine(profile.clone()))?.report()?.totals;
                let Some(engine) = totals.engine else { continue };
                println!(
                    "| {} | {name} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
                    engine.engine,
                    polynomials.name(),
                    totals.bootstraps,
                    totals.rotations,
                    engine.latency_seconds / 60.0,
                    engine.seconds_per_image / 60.0,
                    engine.key_bytes / 1e9,
                    engine.peak_bytes / 1e9
                );
            }
        }
    }

    println!("\n| engine | keys of at most, GB | different rotations | keys, GB | minutes |");
    println!("|---|---|---|---|---|");
    for profile in &profiles {
        let other = profile.bytes.other_keys;
        for rotations in [None, Some(8e9), Some(5e9)] {
            let key_bytes = rotations.map(|bytes| bytes + other);
            let options = PlanOptions { key_bytes, ..PlanOptions::for_engine(profile.clone()) };
            let totals = plan(&resnet20, Polynomials::Degree(15), &options)?.report()?.totals;
            let Some(engine) = totals.engine else { continue };
            println!(
                "| {} | {} | {} | {:.1} | {:.1} |",
                engine.engine,
                key_bytes.map_or_else(|| "any".to_owned(), |bytes| format!("{:.0}", bytes / 1e9)),
                totals.keys,
                engine.key_bytes / 1e9,
                engine.latency_seconds / 60.0
            );
        }
    }
    Ok(())
}
