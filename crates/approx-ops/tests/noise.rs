//! The simulated noise of CKKS.

use approx_ops::{Noise, NoisyMaxPool, NoisyRelu, PoolSpec, RangeRecorder, reference};
use candle_core::{Device, Tensor};
use minimax_coeffs::noise::rescaling_sigma;
use minimax_coeffs::{Alpha, CompositeSign};
use serde::Deserialize;

const SILENT: Noise = Noise { sigma: 0.0, seed: 0 };

fn published(alpha: u8) -> &'static CompositeSign {
    CompositeSign::published(Alpha::new(alpha).unwrap())
}

fn relu(sign: &CompositeSign, bound: f64, noise: Noise, xs: &[f32]) -> Vec<f32> {
    let xs = Tensor::new(xs, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let relu = NoisyRelu::new(sign, bound, noise, "site").unwrap();
    relu.forward(&xs, &RangeRecorder::default()).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Evenly over [-bound, bound].
fn grid(count: usize, bound: f32) -> Vec<f32> {
    (0..count).map(|i| bound * (2.0 * i as f32 / (count - 1) as f32 - 1.0)).collect()
}

#[test]
fn without_noise_it_is_the_float64_composite() {
    let xs = grid(10_001, 20.0);
    for alpha in Alpha::all() {
        let sign = CompositeSign::published(alpha);
        for (x, y) in xs.iter().zip(relu(sign, 20.0, SILENT, &xs)) {
            let expected = sign.relu(f64::from(*x), 20.0);
            // Rounded to float32; the plain Horner of the truth errs by 2e-8 B at alpha 14.
            assert!((f64::from(y) - expected).abs() < 1e-6 * 20.0, "alpha {alpha} at {x}: {y}, {expected}");
        }
    }
    let (spec, bound, size) = (PoolSpec::new(3, 2, 1).unwrap(), 5.0, 9);
    let image: Vec<f32> = (0..size * size).map(|i| 4.9 * (1.7 * i as f32).sin()).collect();
    let alpha = Alpha::new(10).unwrap();
    let pool = NoisyMaxPool::new(published(10), alpha.epsilon(), bound, spec, SILENT, "pool").unwrap();
    let xs = Tensor::from_slice(&image, (1, 1, size, size), &Device::Cpu).unwrap();
    let ys: Vec<f32> =
        pool.forward(&xs, &RangeRecorder::default()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let image: Vec<f64> = image.iter().map(|x| f64::from(*x)).collect();
    let expected = reference::max_pool(alpha, bound, &spec, &image, size, size);
    assert_eq!(ys.len(), expected.len());
    for (y, expected) in ys.iter().zip(expected) {
        assert!((f64::from(*y) - expected).abs() < 1e-5, "{y}, {expected}");
    }
}

#[derive(Deserialize)]
struct Measured {
    relu: Vec<MeasuredRelu>,
}

#[derive(Deserialize)]
struct MeasuredRelu {
    alpha: u8,
    rescaling_spreads: Vec<f64>,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    from: f64,
    to: f64,
    spread: f64,
}

/// A ReLU on [-1, 1] of real ciphertexts, with the noise of a rescaling that was measured on the same engine
/// (benchmarks/encrypted_noise.py): the spread of its difference to float64 is what the simulation says, within 30 %, in
/// each part of the range. The engine's own order of operations is not modelled.
#[test]
fn the_spread_is_that_of_real_ciphertexts() {
    const COUNT: usize = 20_000;
    let measured: Measured = serde_json::from_str(include_str!("golden/encrypted_noise.json")).unwrap();
    // float32 results near 1 hide what is far below 2^-24: so more noise, and the result in proportion.
    const LOUDER: f64 = 30.0;
    for MeasuredRelu { alpha, rescaling_spreads: spreads, parts } in &measured.relu {
        let squares: f64 = spreads.iter().map(|s| s * s).sum();
        let sigma = (squares / spreads.len() as f64).sqrt();
        // The engine's ring is of 2^16 and its secret uniformly ternary; its scale is a power of two.
        let scale_bits = (rescaling_sigma(1 << 16, 0.0, 2.0 / 3.0 * 65_536.0) / sigma).log2();
        println!("alpha {alpha}: a rescaling adds {sigma:.3e}, a scale of 2^{scale_bits:.3}");
        assert!((scale_bits - scale_bits.round()).abs() < 0.02, "{scale_bits}");
        let loud = Noise { sigma: LOUDER * sigma, seed: 3 };
        let sign = published(*alpha);
        for Part { from, to, spread } in parts {
            let xs: Vec<f32> = (0..COUNT)
                .map(|i| {
                    let x = (from + (to - from) * (i as f64 + 0.5) / COUNT as f64) as f32;
                    if i % 2 == 0 { x } else { -x }
                })
                .collect();
            let (quiet, ys) = (relu(sign, 1.0, SILENT, &xs), relu(sign, 1.0, loud, &xs));
            let squares: f64 = quiet.iter().zip(&ys).map(|(q, y)| f64::from(y - q).powi(2)).sum();
            let simulated = (squares / COUNT as f64).sqrt() / LOUDER;
            println!("alpha {alpha}, |x| {from} to {to}: simulated {simulated:.2e}, measured {spread:.2e}");
            let ratio = simulated / spread;
            assert!(
                (1.0 / 1.3..1.3).contains(&ratio),
                "alpha {alpha}, |x| {from} to {to}: {simulated} and {spread}"
            );
        }
    }
}

#[test]
fn noise_depends_on_seed_site_and_image_and_on_nothing_else() {
    let images: Vec<f32> = grid(4 * 50, 1.0);
    let xs = Tensor::from_slice(&images, (4, 2, 5, 5), &Device::Cpu).unwrap();
    let noise = Noise::of_bits(10.0, 1);
    let run = |xs: &Tensor, noise: Noise, site: &str| -> Vec<Vec<f32>> {
        let relu = NoisyRelu::new(published(9), 2.0, noise, site).unwrap();
        relu.forward(xs, &RangeRecorder::default()).unwrap().flatten_from(1).unwrap().to_vec2().unwrap()
    };
    let together = run(&xs, noise, "a");
    for (image, expected) in together.iter().enumerate() {
        assert_eq!(&run(&xs.narrow(0, image, 1).unwrap(), noise, "a")[0], expected);
    }
    assert_ne!(run(&xs, noise, "b"), together);
    assert_ne!(run(&xs, Noise::of_bits(10.0, 2), "a"), together);
    let two = Tensor::cat(&[&xs, &xs], 0).unwrap();
    assert_eq!(run(&two, noise, "a")[4..], together[..]);
}

#[test]
fn what_leaves_a_domain_is_counted() {
    let xs = Tensor::from_vec(grid(20_000, 1.0), (1, 20_000), &Device::Cpu).unwrap();
    let excursions = |sign: &CompositeSign, bits: f64| {
        let recorder = RangeRecorder::default();
        let relu = NoisyRelu::new(sign, 1.0, Noise::of_bits(bits, 0), "site").unwrap();
        relu.forward(&xs, &recorder).unwrap();
        recorder.take_excursions()
    };
    let published = published(14);
    // A thousandth of the margin of 2^-22 stays within it.
    assert_eq!(excursions(published, 32.0), []);
    let left = excursions(published, 16.0);
    assert_eq!(left.iter().map(|e| e.component).collect::<Vec<_>>(), [1, 2]);
    for e in &left {
        assert!(e.count > 0 && e.largest > e.domain, "{e:?}");
        let radius = published.input_radii()[e.component];
        assert!((e.domain - (radius + 2f64.powi(-22))).abs() < 1e-12, "{e:?}");
    }
    // With that much of a margin the same noise does not leave.
    let roomy = published.clone().with_margin(1e-2);
    assert_eq!(excursions(&roomy, 16.0), []);
}

#[test]
fn ranges_are_recorded_as_without_noise() {
    let recorder = RangeRecorder::default();
    let xs = Tensor::new(&[[0.5f32, -3.0], [1.0, f32::NAN]], &Device::Cpu).unwrap();
    NoisyRelu::new(published(7), 2.0, Noise::of_bits(20.0, 0), "site")
        .unwrap()
        .forward(&xs, &recorder)
        .unwrap();
    let seen = recorder.take();
    assert!(seen.max_abs.is_nan());
    assert_eq!(seen.out_of_range, 2);
}
