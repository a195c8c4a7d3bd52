//! Networks made by hand, whose inputs to each site are known: widening amid a data set, overflow, observers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use approx_data::{ImageSet, ImageSource, Normalization, RawBatch, Skipped};
use approx_eval::report::{Subject, WeightsIdentity};
use approx_eval::{
    ApproximatePass, BoundSearch, Bounds, Comparison, EvalError, Job, Observer, Pass, RangeError, Report,
    approximate_pass, exact_pass,
};
use approx_models::ops::{Linear, Pool, Reshape};
use approx_models::{ActivationPolicy, GraphBuilder, Network, Outside, RunOptions, SiteKind, Weights};
use candle_core::{DType, Device, Tensor, Var};
use minimax_coeffs::Alpha;
use serde_json::json;

/// Without noise, and without values out of range.
const OPTIONS: RunOptions = RunOptions { noise: None, outside: Outside::Undefined };

/// A network for images of 2×2 pixels: each channel is multiplied by its gain and max-pooled to one value; of the three
/// values, multiplied once more, ReLU; of these a logit for each of two classes.
///
/// The multiplications are linear layers, so that they can be changed while the network exists.
struct Tiny {
    /// Before the pooling, [12, 12], and before ReLU, [3, 3].
    gains: [Var; 2],
}

impl Tiny {
    fn new(gains: [f32; 3], between: f32) -> Self {
        let zeros = |size: usize| Var::zeros((size, size), DType::F32, &Device::Cpu).unwrap();
        let tiny = Self { gains: [zeros(12), zeros(3)] };
        tiny.set(gains, between);
        tiny
    }

    /// Changes the gains of every network of this.
    fn set(&self, gains: [f32; 3], between: f32) {
        let pixels: Vec<f32> = gains.iter().flat_map(|gain| [*gain; 4]).collect();
        for (gain, factors) in self.gains.iter().zip([&pixels[..], &[between; 3]]) {
            let size = factors.len();
            let mut diagonal = vec![0.0; size * size];
            for (i, factor) in factors.iter().enumerate() {
                diagonal[i * (size + 1)] = *factor;
            }
            gain.set(&tensor(&diagonal, &[size, size])).unwrap();
        }
    }

    /// The exact network.
    fn network(&self) -> Network {
        let mut b = GraphBuilder::new([3, 2, 2]);
        let linear = |outputs| Linear { outputs, bias: false };
        let x = b.input();
        let x = b.flatten(x);
        let x = b.node("gain", linear(12), &[x]);
        let x = b.node("image", Reshape { dims: vec![3, 2, 2] }, &[x]);
        let x = b.max_pool("pool", x, Pool::square(2, 2));
        let x = b.flatten(x);
        let x = b.node("between", linear(3), &[x]);
        let x = b.relu("relu", x);
        let x = b.linear("head", x, 2);
        let [gain, between] = self.gains.each_ref().map(|var| var.as_tensor().clone());
        let tensors = HashMap::from([
            ("gain.weight".to_owned(), gain),
            ("between.weight".to_owned(), between),
            ("head.weight".to_owned(), tensor(&[1.0, 0.5, 0.25, -0.5, 1.0, 0.125], &[2, 3])),
            ("head.bias".to_owned(), tensor(&[0.125, -0.125], &[2])),
        ]);
        let weights = Weights::from_tensors(tensors, &Device::Cpu, "by hand".to_owned()).unwrap();
        Network::build(b.finish(x).unwrap(), &weights, &ActivationPolicy::exact()).unwrap()
    }
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

/// The exact network with these gains before the pooling and before ReLU.
fn tiny(gains: [f32; 3], between: f32) -> Network {
    Tiny::new(gains, between).network()
}

/// The approximation with alpha 14.
fn minimax(bounds: Bounds) -> ActivationPolicy {
    ActivationPolicy::minimax(Alpha::MAX, bounds.relu, bounds.max_pool)
}

/// Images of one colour each.
fn images(colours: &[[u8; 3]]) -> ImageSet {
    let pixels = colours.iter().flatten().flat_map(|&value| [value; 4]).collect();
    let labels = (0..colours.len()).map(|i| (i % 2) as u16).collect();
    ImageSet::new(pixels, labels, [3, 2, 2], 2)
}

/// Pixels are numbers from 0 to 255 for the network.
fn job(images: &ImageSet, batch_size: usize) -> Job<'_> {
    let normalization = Normalization::new(vec![0.0; 3], vec![1.0 / 255.0; 3]);
    Job { images, normalization, batch_size, device: Device::Cpu }
}

/// Seven images; the largest value is 11.
const SEVEN: [[u8; 3]; 7] = [[4, 0, 0], [1, 2, 3], [6, 0, 1], [0, 5, 0], [2, 11, 0], [3, 3, 3], [5, 1, 0]];

/// The exact network whose gains are all 1.
fn exact(images: &ImageSet) -> Pass {
    exact_pass(&job(images, 2), &tiny([1.0; 3], 1.0), &()).unwrap()
}

fn search(relu: f64, max_pool: f64, step: f64) -> BoundSearch {
    BoundSearch { start: Bounds { relu, max_pool }, step }
}

/// Writes down all that it is told.
#[derive(Default)]
struct Diary(RefCell<Vec<Entry>>);

#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Started(String, usize),
    Advanced(usize),
    Finished,
    Widened(RangeError, f64),
}

impl Observer for Diary {
    fn pass_started(&self, name: &str, images: usize) {
        self.0.borrow_mut().push(Entry::Started(name.to_owned(), images));
    }

    fn advanced(&self, images: usize) {
        self.0.borrow_mut().push(Entry::Advanced(images));
    }

    fn pass_finished(&self) {
        self.0.borrow_mut().push(Entry::Finished);
    }

    fn widened(&self, error: &RangeError, bound: f64) {
        self.0.borrow_mut().push(Entry::Widened(error.clone(), bound));
    }
}

impl Diary {
    /// The passes: their name, the images that were announced, and those that advanced.
    fn passes(&self) -> Vec<(String, usize, usize)> {
        let mut passes = Vec::new();
        let mut open = false;
        for entry in &*self.0.borrow() {
            match entry {
                Entry::Started(name, images) => {
                    assert!(!open, "a pass begins in another");
                    open = true;
                    passes.push((name.clone(), *images, 0));
                }
                Entry::Advanced(images) => {
                    assert!(open, "progress outside a pass");
                    passes.last_mut().unwrap().2 += images;
                }
                Entry::Finished => open = false,
                Entry::Widened(..) => assert!(open, "widened outside a pass"),
            }
        }
        assert!(!open, "a pass has no end");
        passes
    }

    /// What widened the range: site, bound, first image of the batch, new bound.
    fn widened(&self) -> Vec<(String, f64, usize, f64)> {
        let widened = |entry: &Entry| match entry {
            Entry::Widened(e, bound) => Some((e.site.clone(), e.bound, e.images.start, *bound)),
            _ => None,
        };
        self.0.borrow().iter().filter_map(widened).collect()
    }
}

/// What `approximate_pass` builds: the gains for some bounds, others than the exact network's, so that values go
/// beyond those that the search starts with.
type Gains = fn(Bounds) -> ([f32; 3], f32);

/// Site, old bound, first image of the batch, new bound.
type Widened = (&'static str, f64, usize, f64);

/// A network, its search, and what must happen.
struct Case {
    name: &'static str,
    gains: Gains,
    /// The first bounds of ReLU and max-pooling, and the step.
    search: (f64, f64, f64),
    /// The last bounds.
    found: (f64, f64),
    /// The images of each pass.
    passes: &'static [usize],
    widened: &'static [Widened],
}

const CASES: [Case; 5] = [
    Case {
        name: "the exact network's range is enough",
        gains: |_| ([1.0; 3], 1.0),
        search: (5.0, 5.0, 5.0),
        found: (15.0, 15.0),
        passes: &[7],
        widened: &[],
    },
    Case {
        name: "both are widened in the third batch",
        gains: |_| ([2.0; 3], 1.0),
        search: (5.0, 5.0, 5.0),
        found: (25.0, 25.0),
        passes: &[7, 4],
        widened: &[("pool", 15.0, 4, 25.0), ("relu", 15.0, 4, 25.0)],
    },
    Case {
        name: "ReLU alone is widened, in the second batch and in the third",
        gains: |_| ([1.0; 3], 3.0),
        search: (7.0, 40.0, 7.0),
        found: (35.0, 40.0),
        passes: &[7, 4],
        widened: &[("relu", 14.0, 2, 21.0), ("relu", 21.0, 4, 35.0)],
    },
    Case {
        name: "max-pooling alone is widened, in the first batch and in the second",
        gains: |_| ([5.0, 2.0, 1.0], 0.25),
        search: (100.0, 2.0, 5.0),
        found: (100.0, 32.0),
        passes: &[7, 2],
        widened: &[("pool", 12.0, 0, 22.0), ("pool", 22.0, 2, 32.0)],
    },
    Case {
        name: "the second pass widens once more",
        gains: |bounds| ([if bounds.relu > 20.0 { 7.2 } else { 1.0 }, 2.0, 1.0], 1.0),
        search: (5.0, 5.0, 5.0),
        found: (45.0, 45.0),
        passes: &[7, 6, 3],
        widened: &[
            ("pool", 15.0, 4, 25.0),
            ("relu", 15.0, 4, 25.0),
            ("pool", 25.0, 6, 40.0),
            ("relu", 25.0, 6, 40.0),
            ("pool", 40.0, 2, 45.0),
            ("relu", 40.0, 2, 45.0),
        ],
    },
];

impl Case {
    fn run(
        &self,
        alpha: Alpha,
        batch_size: usize,
        search: BoundSearch,
        observer: &dyn Observer,
    ) -> approx_eval::Result<ApproximatePass> {
        let images = images(&SEVEN);
        let tiny = Tiny::new([0.0; 3], 0.0);
        let (job, mut network) = (job(&images, batch_size), tiny.network());
        approximate_pass(&job, &exact(&images), &mut network, search, &OPTIONS, observer, |bounds| {
            let (gains, between) = (self.gains)(bounds);
            tiny.set(gains, between);
            ActivationPolicy::minimax(alpha, bounds.relu, bounds.max_pool)
        })
    }

    fn search(&self) -> BoundSearch {
        let (relu, max_pool, step) = self.search;
        search(relu, max_pool, step)
    }
}

#[test]
fn batches_that_ran_with_a_smaller_bound_run_again() {
    for case in &CASES {
        let (name, diary) = (case.name, Diary::default());
        let found = case.run(Alpha::MAX, 2, case.search(), &diary).unwrap();
        let expected: Vec<_> = case.passes.iter().map(|&n| ("approximate".to_owned(), n, n)).collect();
        assert_eq!(diary.passes(), expected, "{name}");
        assert_eq!(found.passes, case.passes.len(), "{name}");
        let widened = diary.widened();
        let widened: Vec<_> =
            widened.iter().map(|(s, old, image, new)| (s.as_str(), *old, *image, *new)).collect();
        assert_eq!(widened, case.widened, "{name}");
        assert_eq!((found.bounds.relu, found.bounds.max_pool), case.found, "{name}");
        assert!(found.search_seconds >= found.pass.seconds, "{name}");
    }
}

#[test]
fn every_result_is_that_of_the_final_bound() {
    let bits = |pass: &Pass| -> Vec<u32> { pass.logits.values().iter().map(|v| v.to_bits()).collect() };
    for case in &CASES {
        for alpha in [14, 8, 4] {
            for batch_size in [1, 2, 3, 7, 100] {
                let (name, alpha) = (case.name, Alpha::new(alpha).unwrap());
                let found = case.run(alpha, batch_size, case.search(), &()).unwrap();
                let fixed = BoundSearch { start: found.bounds, step: 0.0 };
                let fixed = case.run(alpha, batch_size, fixed, &()).unwrap();
                let context = format!("{name}, alpha {alpha}, batches of {batch_size}");
                assert_eq!((fixed.passes, fixed.bounds), (1, found.bounds), "{context}");
                assert_eq!(bits(&found.pass), bits(&fixed.pass), "{context}");
                assert_eq!(found.pass.sites, fixed.pass.sites, "{context}");
            }
        }
    }
}

#[test]
fn without_a_step_the_first_value_out_of_range_is_an_error() {
    let relu_error = |max_abs, images| RangeError {
        center: 0.0,
        site: "relu".to_owned(),
        kind: SiteKind::Relu,
        max_abs,
        bound: 10.0,
        out_of_range: 1,
        images,
    };
    let pool_error = |max_abs, out_of_range, images| RangeError {
        site: "pool".to_owned(),
        kind: SiteKind::MaxPool,
        out_of_range,
        ..relu_error(max_abs, images)
    };
    let triple: Gains = |_| ([1.0; 3], 3.0);
    for (gains, (relu, max_pool), expected, text) in [
        (CASES[0].gains, (50.0, 10.0), pool_error(11.0, 4, 4..6), "(4 values out of range in images 4 to 5)"),
        (CASES[0].gains, (10.0, 50.0), relu_error(11.0, 4..6), "(1 value out of range in images 4 to 5)"),
        (CASES[1].gains, (10.0, 10.0), pool_error(12.0, 4, 2..4), "pool: |x| reached 12, the bound is 10 ("),
        (triple, (10.0, 50.0), relu_error(12.0, 0..2), "relu: |x| reached 12, the bound is 10 ("),
    ] {
        let diary = Diary::default();
        let case = Case { gains, ..CASES[0] };
        let error = case.run(Alpha::MAX, 2, search(relu, max_pool, 0.0), &diary).unwrap_err();
        let EvalError::Range(range) = &error else { panic!("{error}") };
        // The pooling before ReLU is an approximation.
        assert!((range.max_abs - expected.max_abs).abs() < 0.01, "{range}");
        assert_eq!(RangeError { max_abs: expected.max_abs, ..range.clone() }, expected);
        assert!(error.to_string().contains(text), "{error}");
        assert!(diary.widened().is_empty());
    }
}

#[test]
fn a_search_without_end_gives_up() {
    let images = images(&[[1, 0, 0]]);
    let tiny = Tiny::new([0.0; 3], 1.0);
    let (job, search, mut network) = (job(&images, 1), search(5.0, 5.0, 5.0), tiny.network());
    let error = approximate_pass(&job, &exact(&images), &mut network, search, &OPTIONS, &(), |bounds| {
        tiny.set([bounds.max_pool as f32 + 1.0; 3], 1.0);
        minimax(bounds)
    })
    .unwrap_err();
    assert!(matches!(&error, EvalError::SearchGaveUp { last, .. } if last.site == "pool"), "{error}");
    assert!(error.to_string().starts_with("the search for B gave up after "), "{error}");
}

#[test]
fn an_overflow_is_an_error_that_names_the_first_site_it_reaches() {
    let images = images(&SEVEN);
    for (gains, between, site, batch) in [
        ([1.0, 1e38, 1.0], 1.0, "pool", 2..4),
        ([1.0, 1.0, 2e38], 1.0, "pool", 0..2),
        ([1.0; 3], 1e38, "relu", 0..2),
        ([0.0, 1.0, 0.0], 4e37, "relu", 4..6),
    ] {
        let network = tiny(gains, between);
        let error = exact_pass(&job(&images, 2), &network, &()).unwrap_err();
        let EvalError::NotFinite { site: named, value, images } = &error else { panic!("{error}") };
        assert_eq!((named.as_str(), *value, images), (site, f32::INFINITY, &batch), "{error}");
        let text = format!("{site}: a value is inf (images {} to {})", batch.start, batch.end - 1);
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}

#[test]
fn an_overflow_of_the_approximate_network_is_no_reason_to_search() {
    let images = images(&SEVEN);
    for (gains, between, expected) in [([1e38, 1.0, 1.0], 1.0, "pool"), ([1.0; 3], 1e38, "relu")] {
        for step in [0.0, 5.0] {
            let (search, diary) = (search(50.0, 50.0, step), Diary::default());
            let (job, mut network) = (job(&images, 2), tiny(gains, between));
            let error =
                approximate_pass(&job, &exact(&images), &mut network, search, &OPTIONS, &diary, minimax)
                    .unwrap_err();
            let EvalError::NotFinite { site, images, .. } = &error else { panic!("{error}") };
            assert_eq!((site.as_str(), images), (expected, &(0..2)), "{error}");
            assert!(diary.widened().is_empty());
        }
    }
}

#[test]
fn an_overflow_of_the_square_is_a_result_and_counts_as_wrong() {
    let images = images(&[[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 2, 0], [0, 0, 3]]);
    let mut network = tiny([1.0; 3], 1e25);
    let exact = exact_pass(&job(&images, 2), &network, &()).unwrap();
    for (method, policy) in [("square", ActivationPolicy::square()), ("relu_aq", ActivationPolicy::relu_aq())]
    {
        let (job, search) = (job(&images, 2), search(5.0, 5.0, 5.0));
        let found =
            approximate_pass(&job, &exact, &mut network, search, &OPTIONS, &(), |_| policy.clone()).unwrap();
        assert_eq!(found.passes, 1, "{method}");
        let comparison = Comparison::new(&exact.logits, &found.pass.logits, images.labels());
        assert_eq!(
            (comparison.non_finite_images, comparison.max_abs_logit_difference),
            (3, None),
            "{method}"
        );
        assert_eq!((comparison.agreement, comparison.approx_accuracy), (0.4, 0.4), "{method}");

        let subject = Subject {
            dataset: "hand-made".to_owned(),
            backbone: "tiny".to_owned(),
            method: method.to_owned(),
            noise: None,
            cost: network.cost(&found.policy).unwrap(),
            weights: WeightsIdentity { file: "none".to_owned(), sha256: String::new() },
            batch_size: 2,
            threads: 1,
            device: "cpu".to_owned(),
        };
        let report = Report::new(subject, &exact, &found, &comparison).to_json();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        for (field, expected) in [
            ("/method", json!(method)),
            ("/alpha", json!(null)),
            ("/b_relu", json!(null)),
            ("/images", json!(5)),
            ("/approx/accuracy", json!(0.4)),
            ("/approx/non_finite_images", json!(3)),
            ("/approx/max_abs_logit_difference", json!(null)),
            ("/sites/0/name", json!("pool")),
            ("/sites/0/kind", json!("max_pool")),
            ("/sites/1/name", json!("relu")),
        ] {
            assert_eq!(report.pointer(field), Some(&expected), "{method}: {field}");
        }
    }
}

#[test]
fn progress_adds_up_to_the_images_of_each_pass() {
    for batch_size in [1, 2, 3, 7, 100] {
        let (images, diary) = (images(&SEVEN), Diary::default());
        let network = tiny([1.0; 3], 1.0);
        exact_pass(&job(&images, batch_size), &network, &diary).unwrap();
        assert_eq!(diary.passes(), [("exact".to_owned(), 7, 7)]);
        for case in &CASES {
            let diary = Diary::default();
            let found = case.run(Alpha::MAX, batch_size, case.search(), &diary).unwrap();
            let passes = diary.passes();
            assert_eq!(passes.len(), found.passes, "{}", case.name);
            for (name, announced, advanced) in passes {
                assert_eq!((name.as_str(), advanced), ("approximate", announced), "{}", case.name);
            }
        }
    }
}

#[test]
fn no_images_are_an_error() {
    let (none, some) = (images(&[]), images(&SEVEN));
    let mut network = tiny([1.0; 3], 1.0);
    let exactly = exact_pass(&job(&none, 2), &network, &()).err();
    let search = search(5.0, 5.0, 5.0);
    let approximately =
        approximate_pass(&job(&none, 2), &exact(&some), &mut network, search, &OPTIONS, &(), minimax).err();
    for error in [exactly, approximately] {
        assert!(matches!(error, Some(EvalError::NoImages)), "{error:?}");
    }
}

/// Images of which some cannot be decoded.
struct Damaged {
    images: ImageSet,
    skipped: &'static [usize],
}

impl ImageSource for Damaged {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn classes(&self) -> usize {
        2
    }

    fn shape(&self) -> [usize; 3] {
        [3, 2, 2]
    }

    fn load(&self, range: Range<usize>) -> approx_data::Result<RawBatch> {
        let mut batch = RawBatch::default();
        for index in range {
            if self.skipped.contains(&index) {
                let skipped = Skipped { name: format!("{index}.png"), reason: "cut short".to_owned() };
                batch.skipped.push(skipped);
            } else {
                batch.pixels.extend(self.images.image(index));
                batch.labels.push(self.images.labels()[index]);
            }
        }
        Ok(batch)
    }
}

#[test]
fn skipped_images_are_in_no_result_but_the_list() {
    // The third batch is wholly skipped.
    let damaged = Damaged { images: images(&SEVEN), skipped: &[1, 4, 5] };
    let job = |images| Job { images, ..job(&damaged.images, 2) };
    let mut network = tiny([1.0; 3], 1.0);
    let whole = exact(&damaged.images);
    let exact = exact_pass(&job(&damaged), &network, &()).unwrap();
    assert_eq!(exact.labels, [0, 0, 1, 0]);
    let kept = [0, 2, 3, 6].map(|i| [whole.logits.values()[2 * i], whole.logits.values()[2 * i + 1]]);
    assert_eq!(exact.logits.values(), kept.as_flattened());

    let found =
        approximate_pass(&job(&damaged), &exact, &mut network, search(5.0, 5.0, 5.0), &OPTIONS, &(), minimax)
            .unwrap();
    for pass in [&exact, &found.pass] {
        let names: Vec<_> = pass.skipped.iter().map(|skipped| skipped.name.as_str()).collect();
        assert_eq!(names, ["1.png", "4.png", "5.png"]);
        assert_eq!(pass.logits.predictions().len(), pass.labels.len());
    }

    let damaged = Damaged { images: images(&SEVEN[..2]), skipped: &[0, 1] };
    let error = exact_pass(&job(&damaged), &network, &()).unwrap_err().to_string();
    assert_eq!(error, "none of the 2 images could be decoded; the first is 0.png: cut short");
}
