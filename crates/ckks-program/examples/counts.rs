use ckks_program::{Noise, Plan, PlanOptions, Profile};
use cnn_graph::policy::{ActivationPolicy, Composition};
use cnn_graph::zoo::Backbone;
use minimax_coeffs::Alpha;
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (dataset, name) = (&args[1], &args[2]);
    let graph = Backbone::find(dataset, name).unwrap().graph().unwrap();
    let alpha: u8 = args[3].parse().unwrap();
    let policy = ActivationPolicy::composite(&Composition::published(Alpha::new(alpha).unwrap()), 40.0, 40.0);
    let mut options = PlanOptions::new(args[4].parse().unwrap());
    if let Some(path) = args.get(5) {
        options =
            PlanOptions::for_engine(Profile::from_toml(&std::fs::read_to_string(path).unwrap()).unwrap());
    }
    let start = Instant::now();
    let plan = Plan::new(&graph, |spec| vec![0.01; spec.shape.iter().product()], &policy, &options).unwrap();
    println!("planned in {:?}", start.elapsed());
    let report = plan.report().unwrap();
    for l in &report.layers {
        if l.kind == "linear" || l.kind == "sums" || l.bootstraps > 0 || args.get(6).is_some() {
            println!(
                "{:30} {:12} cts {:3} {:?} diag {:6} rot {:5} ({} hoisted) keys {} prod {} lev {}->{} boot {} {:?}",
                l.name,
                l.kind,
                l.ciphertexts,
                l.layout,
                l.diagonals,
                l.rotations,
                l.hoisted,
                l.keys,
                l.products,
                l.level_before,
                l.level_after,
                l.bootstraps,
                l.seconds
            );
        }
    }
    println!("{:#?} instr {}", report.totals, plan.program().instructions.len());
    let n = args.get(7).map_or(0, |n| n.parse().unwrap());
    if n > 0 {
        let images: Vec<Vec<f64>> =
            (0..n).map(|i| vec![0.001 * i as f64; graph.input_shape().elements()]).collect();
        let start = Instant::now();
        plan.simulate(&images, Noise::None).unwrap();
        println!("simulated {n} in {:?}", start.elapsed());
    }
}
