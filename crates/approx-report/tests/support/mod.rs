//! Sweeps that were never run.

#![allow(dead_code)] // Each test binary uses its own part.

use approx_eval::SiteRange;
use approx_eval::calibrate::SiteSummary;
use approx_eval::report::WeightsIdentity;
use approx_eval::sweep::Row;
use approx_models::{ActivationPolicy, Backbone, Composition, Network, SiteKind, Weights};
use approx_ops::Sketch;
use approx_report::{Machine, NetworkData, SignError, SweepData};
use candle_core::Device;
use minimax_coeffs::{Alpha, CompositeSign};

/// A text that is markup if nobody prevents it.
pub const MARKUP: &str = "<img src=x> & \"it's\"";

/// Alpha 4 to 14 of several networks; those after the first have noise.
pub fn data(networks: &[(&str, &str)]) -> SweepData {
    let network = |(index, &(dataset, name)): (usize, &(&str, &str))| network(dataset, name, index);
    SweepData {
        command: format!("infer sweep cifar10 '{MARKUP}'"),
        machine: Machine {
            cpu: "A processor".to_owned(),
            system: "linux".to_owned(),
            threads: 2,
            simd: "avx2".to_owned(),
            version: "0.1.0".to_owned(),
            time: "2026-11-24 17:30 UTC".to_owned(),
        },
        networks: networks.iter().enumerate().map(network).collect(),
        signs: Alpha::all().map(|alpha| SignError::of(&Composition::published(alpha))).collect(),
    }
}

fn network(dataset: &str, name: &str, index: usize) -> NetworkData {
    let backbone = Backbone::find(dataset, name).unwrap();
    let weights = Weights::generate(Device::Cpu, |_name, shape| vec![0.01; shape.iter().product()]);
    let network = Network::build(backbone.graph().unwrap(), &weights, &ActivationPolicy::exact()).unwrap();
    let max_pool = network.sites().iter().any(|site| site.kind() == SiteKind::MaxPool);
    let rows: Vec<Row> = Alpha::all().map(|alpha| row(backbone, alpha, index, max_pool)).collect();
    let noisy = rows.iter().filter(|row| index > 0 && row.alpha >= 10).flat_map(|row| {
        [10.0, 15.0, 20.5, 25.0].map(|bits| {
            let kept = 1.0 - (4.0 - bits / 3.0f64).exp2().min(0.8);
            let accuracy = row.accuracy.map(|accuracy| accuracy * kept);
            let excursions = if bits < 12.0 { 1234 } else { 0 };
            Row { accuracy, noise_bits: Some(bits), excursions, ..row.clone() }
        })
    });
    NetworkData {
        backbone: name.to_owned(),
        dataset: dataset.to_owned(),
        weights: WeightsIdentity {
            file: format!("weights/{MARKUP}.safetensors"),
            sha256: "c0ffee".repeat(10),
        },
        policy: (index == 1).then(|| format!("{MARKUP}.json")),
        noisy: noisy.collect(),
        sites: sites(&network),
        bounds_of: Some(14),
        rows,
    }
}

fn row(backbone: &Backbone, alpha: Alpha, index: usize, max_pool: bool) -> Row {
    let (sign, bits) = (CompositeSign::published(alpha), f64::from(alpha.bits()));
    let exact = 0.9213 - 0.0371 * index as f64;
    let lost = (5.0 + index as f64 - bits).exp2().min(0.88) + 0.0007 * (bits * 1.7).sin();
    let unusable = (bits == 4.0).then(|| format!("{MARKUP}: |x| reached 61.3, the bound is 50"));
    let result = |value: f64| unusable.is_none().then_some(value);
    Row {
        backbone: backbone.name().to_owned(),
        alpha: alpha.bits(),
        noise_bits: None,
        degrees: sign.degrees(),
        relu_depth: sign.relu_cost().depth,
        relu_multiplications: sign.relu_cost().non_scalar_multiplications,
        network_depth: Some(19 * sign.relu_cost().depth),
        network_multiplications: 1019 * sign.relu_cost().non_scalar_multiplications,
        b_relu: result(35.0),
        b_max: result(20.123_456_7).filter(|_| max_pool),
        exact_accuracy: result(exact),
        accuracy: result(exact * (1.0 - lost)),
        relative_difference: result(-lost),
        agreement: result(1.0 - lost.max(0.0)),
        max_abs_logit_difference: (bits > 5.0 && unusable.is_none()).then(|| (10.0 - bits).exp2() as f32),
        images: 10_000,
        exact_images_per_second: result(1234.56),
        images_per_second: result(876.54),
        excursions: 0,
        unusable,
    }
}

fn sites(network: &Network) -> Vec<SiteSummary> {
    let site = |(index, site): (usize, &approx_models::Site)| {
        let spread = 2.0 + (index as f32 * 0.7).sin() + 12.0 * index as f32 / network.sites().len() as f32;
        let value = |i: i32| {
            let u = (i as f32 / 500.0).clamp(-0.999, 0.999);
            0.4 + spread * ((1.0 + u) / (1.0 - u)).ln() / 8.0
        };
        let sketch = Sketch::of(&(-500..=500).map(value).collect::<Vec<f32>>());
        let max_abs = sketch.max().unwrap().max(-sketch.min().unwrap());
        let range = SiteRange { name: site.name().to_owned(), kind: site.kind(), max_abs };
        SiteSummary::new(&range, &sketch, if site.kind() == SiteKind::Relu { 35.0 } else { 20.123_456_7 }, [])
    };
    network.sites().iter().enumerate().map(site).collect()
}
