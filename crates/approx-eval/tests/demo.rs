//! The search for B on the embedded demo with its trained ResNet-20.

use std::path::Path;

use approx_data::{ImageSet, Normalization, demo};
use approx_eval::{
    ApproximatePass, BoundSearch, Bounds, Comparison, EvalError, Job, Pass, approximate_pass, exact_pass,
};
use approx_models::{ActivationPolicy, Backbone, Network, RunOptions, SiteKind, Weights};
use candle_core::Device;
use minimax_coeffs::Alpha;

/// The demo's first images, with everything to evaluate them.
struct Demo {
    images: ImageSet,
    weights: Weights,
    exact: Pass,
}

impl Demo {
    fn new(images: usize) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../weights/demo/resnet20.safetensors");
        let weights = Weights::load(file, &Device::Cpu).unwrap();
        let images = demo::images().truncated(images);
        let network =
            Network::build(resnet20().graph().unwrap(), &weights, &ActivationPolicy::exact()).unwrap();
        let exact = exact_pass(&job(&images), &network, &()).unwrap();
        Self { images, weights, exact }
    }

    fn search(&self, alpha: u8, start: f64, step: f64) -> Result<ApproximatePass, EvalError> {
        let search = BoundSearch { start: Bounds { relu: start, max_pool: start }, step };
        let alpha = Alpha::new(alpha).unwrap();
        let mut network =
            Network::build(resnet20().graph().unwrap(), &self.weights, &ActivationPolicy::exact()).unwrap();
        approximate_pass(
            &job(&self.images),
            &self.exact,
            &mut network,
            search,
            &RunOptions::default(),
            &(),
            |bounds| ActivationPolicy::minimax(alpha, bounds.relu, bounds.max_pool),
        )
    }
}

fn resnet20() -> &'static Backbone {
    Backbone::find("cifar10", "resnet20").unwrap()
}

fn job(images: &ImageSet) -> Job<'_> {
    Job { images, normalization: Normalization::CIFAR10, batch_size: 64, device: Device::Cpu }
}

#[test]
fn the_search_ends_after_at_most_three_passes_on_the_grid_and_a_run_with_its_bound_is_the_same() {
    let demo = Demo::new(256);
    let largest = f64::from(demo.exact.largest(SiteKind::Relu).unwrap().max_abs);
    for alpha in [14, 10, 8, 7, 6] {
        let found = demo.search(alpha, 5.0, 5.0).unwrap();
        let bound = found.bounds.relu;
        assert!((1..=3).contains(&found.passes), "alpha {alpha}: {} passes", found.passes);
        assert!(bound >= largest && bound % 5.0 == 0.0, "alpha {alpha}: {bound} for {largest}");
        // This network has no max-pooling.
        assert_eq!(found.bounds.max_pool, 5.0, "alpha {alpha}");
        assert!(found.pass.sites.iter().all(|site| f64::from(site.max_abs) <= bound), "alpha {alpha}");
        assert!(found.search_seconds >= found.pass.seconds, "alpha {alpha}");

        let fixed = demo.search(alpha, bound, 0.0).unwrap();
        assert_eq!((fixed.passes, fixed.bounds.relu), (1, bound), "alpha {alpha}");
        let bits = |found: &ApproximatePass| -> Vec<u32> {
            found.pass.logits.values().iter().map(|value| value.to_bits()).collect()
        };
        assert_eq!(bits(&fixed), bits(&found), "alpha {alpha}");
        assert_eq!(fixed.pass.sites, found.pass.sites, "alpha {alpha}");
    }
}

#[test]
fn a_bound_that_is_too_small_is_an_error_without_a_step() {
    let demo = Demo::new(128);
    for (alpha, start) in [(14, 5.0), (14, 0.25), (8, 10.0), (6, 15.0)] {
        let error = demo.search(alpha, start, 0.0).unwrap_err();
        let EvalError::Range(range) = &error else { panic!("alpha {alpha}, B {start}: {error}") };
        assert!(demo.exact.sites.iter().any(|site| site.name == range.site), "{error}");
        assert_eq!((range.kind, range.bound), (SiteKind::Relu, start), "{error}");
        assert!(f64::from(range.max_abs) > start && range.out_of_range > 0, "{error}");
        // The first batch of 64 or the second.
        assert!([0..64, 64..128].contains(&range.images), "{error}");
        let expected = format!("{}: |x| reached {}, the bound is {start} (", range.site, range.max_abs);
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn more_precision_brings_the_logits_closer_to_the_exact_ones() {
    let demo = Demo::new(128);
    let difference = |alpha| {
        let found = demo.search(alpha, 20.0, 5.0).unwrap();
        let comparison = Comparison::new(&demo.exact.logits, &found.pass.logits, demo.images.labels());
        f64::from(comparison.max_abs_logit_difference.unwrap())
    };
    let differences = [8, 10, 12, 14].map(difference);
    assert!(differences.is_sorted_by(|coarse, fine| *coarse > 2.0 * fine), "{differences:?}");
}
