//! Networks made by hand, whose inputs to each site are known: widening amid a data set, overflow, observers.

use std::cell::RefCell;
use std::collections::HashMap;

use approx_data::{ImageSet, Normalization};
use approx_eval::report::{Subject, WeightsFile};
use approx_eval::{
    ApproximatePass, Bounds, Comparison, EvalError, Job, Observer, Pass, RangeError, Report, Search,
    approximate_pass, exact_pass,
};
use approx_models::{ActivationPolicy, Forward, Network, Result as ModelResult, SiteKind, Weights, layers};
use approx_ops::PoolSpec;
use candle_core::{Device, Tensor};
use minimax_coeffs::Alpha;

/// Images of 2×2 pixels: each channel is multiplied by its gain and max-pooled to one value; of the three
/// values ReLU, of these a logit for each of two classes.
struct Tiny {
    gains: Tensor,
    pool: layers::MaxPool,
    relu: layers::Relu,
    head: layers::Linear,
}

impl Forward for Tiny {
    fn forward(&self, images: &Tensor) -> ModelResult<Tensor> {
        let xs = self.pool.forward(&images.broadcast_mul(&self.gains)?)?;
        self.head.forward(&self.relu.forward(&xs.flatten_from(1)?)?)
    }
}

/// The network with these gains.
fn tiny(gains: [f32; 3], head: f32, policy: &ActivationPolicy) -> ModelResult<Network> {
    let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    let tensors = HashMap::from([
        ("gains".to_owned(), tensor(&gains, &[1, 3, 1, 1])),
        ("head.weight".to_owned(), tensor(&[head, 0.5, 0.25, -0.5, head, 0.125], &[2, 3])),
        ("head.bias".to_owned(), tensor(&[0.125, -0.125], &[2])),
    ]);
    let weights = Weights::from_tensors(tensors, &Device::Cpu, "by hand".to_owned())?;
    Network::build(&weights, policy, |b| {
        Ok(Tiny {
            gains: b.tensor("gains", &[1, 3, 1, 1])?,
            pool: b.max_pool("pool", PoolSpec::new(2, 2, 0)?)?,
            relu: b.relu("relu")?,
            head: b.linear("head", 3, 2)?,
        })
    })
}

fn minimax(alpha: Alpha, bounds: Bounds) -> ActivationPolicy {
    ActivationPolicy::minimax(alpha, bounds.relu, bounds.max_pool)
}

/// Images of one colour each.
fn images(colours: &[[u8; 3]]) -> ImageSet {
    let pixels = colours.iter().flatten().flat_map(|&value| [value; 4]).collect();
    let labels = (0..colours.len()).map(|i| (i % 2) as u8).collect();
    ImageSet::new(pixels, labels, (2, 2), 2)
}

/// Two images at a time, whose pixels are numbers from 0 to 255.
fn job(images: &ImageSet) -> Job<'_> {
    let normalization = Normalization { mean: [0.0; 3], std: [1.0 / 255.0; 3] };
    Job { images, normalization, batch_size: 2, device: Device::Cpu }
}

fn exact(images: &ImageSet, gains: [f32; 3]) -> Pass {
    exact_pass(&job(images), &tiny(gains, 1.0, &ActivationPolicy::exact()).unwrap(), &()).unwrap()
}

fn search(start: f64, step: f64) -> Search {
    Search { start: Bounds { relu: start, max_pool: start }, step }
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

fn assert_same(found: &ApproximatePass, fixed: &ApproximatePass, case: &str) {
    let bits = |pass: &Pass| -> Vec<u32> { pass.logits.values().iter().map(|v| v.to_bits()).collect() };
    assert_eq!(bits(&found.pass), bits(&fixed.pass), "{case}");
    assert_eq!((&found.pass.sites, found.bounds), (&fixed.pass.sites, fixed.bounds), "{case}");
}

/// The gains of the approximate network for some bounds: others than the exact network's, so that its values
/// go beyond those that the search starts with.
type Gains = fn(Bounds) -> [f32; 3];

#[test]
fn after_widening_amid_the_data_every_result_is_that_of_the_final_bound() {
    // Seven images in four batches; the exact network's largest value is 11.
    let seven: [[u8; 3]; 7] = [[4, 0, 0], [1, 2, 3], [6, 0, 1], [0, 5, 0], [2, 11, 0], [3, 3, 3], [5, 1, 0]];
    let constant: Gains = |_| [1.0; 3];
    let doubled: Gains = |_| [2.0; 3];
    // With larger bounds the first batch grows, so that the second pass widens the range once more.
    let growing: Gains = |bounds| [if bounds.relu > 20.0 { 8.0 } else { 1.0 }, 2.0, 1.0];
    // (case, gains, final bound, images of each pass, what widened the range where).
    let cases = [
        ("no widening", constant, 15.0, &[7][..], &[][..]),
        ("in the third batch", doubled, 25.0, &[7, 4], &[("pool", 15.0, 4, 25.0), ("relu", 15.0, 4, 25.0)]),
        (
            "again in the second pass",
            growing,
            50.0,
            // The last batch of the first pass has a 5, which becomes 40; the first pass over the second
            // batch has a 6, which becomes 48.
            &[7, 6],
            &[
                ("pool", 15.0, 4, 25.0),
                ("relu", 15.0, 4, 25.0),
                ("pool", 25.0, 4, 35.0),
                ("relu", 25.0, 4, 35.0),
            ],
        ),
    ];
    let _ = cases;
    let images = images(&seven);
    let exact = exact(&images, [1.0; 3]);
    for alpha in [14, 8] {
        let alpha = Alpha::new(alpha).unwrap();
        for (case, gains, ..) in cases {
            let diary = Diary::default();
            let build = |bounds| tiny(gains(bounds), 1.0, &minimax(alpha, bounds));
            let found = approximate_pass(&job(&images), &exact, search(5.0, 5.0), &diary, build).unwrap();
            eprintln!(
                "{case} alpha {alpha}: {:?} {:?} {:?} {:?}",
                found.bounds,
                found.passes,
                diary.passes(),
                diary.widened()
            );
            let fixed_search = Search { start: found.bounds, step: 0.0 };
            let fixed = approximate_pass(&job(&images), &exact, fixed_search, &(), build).unwrap();
            assert_same(&found, &fixed, case);
        }
    }
}
