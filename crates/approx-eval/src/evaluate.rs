//! Running a network over a data set.

use std::ops::Range;
use std::time::Instant;

use approx_data::{ImageSet, Normalization};
use approx_models::{Network, SiteKind};
use approx_ops::RangeStats;
use candle_core::Device;

use crate::error::{EvalError, RangeError, Result};

/// What to evaluate on, and how.
pub struct Job<'a> {
    /// The images with their labels.
    pub images: &'a ImageSet,
    /// From 8-bit to what the network takes.
    pub normalization: Normalization,
    /// Images at a time.
    pub batch_size: usize,
    /// Where the network is.
    pub device: Device,
}

/// Is told how an evaluation goes; `()` does not listen.
pub trait Observer {
    /// A pass over `images` images begins.
    fn pass_started(&self, _name: &str, _images: usize) {}
    /// So many more images are done.
    fn advanced(&self, _images: usize) {}
    /// The pass is over.
    fn pass_finished(&self) {}
    /// A value was out of range, and the bound is now this.
    fn widened(&self, _error: &RangeError, _bound: f64) {}
}

impl Observer for () {}

/// The logits of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    values: Vec<f32>,
    classes: usize,
}

impl Logits {
    /// Logits from their values, `[N, classes]` in row-major order.
    ///
    /// # Panics
    /// If `classes` is 0 or the length is no multiple of it.
    pub fn new(values: Vec<f32>, classes: usize) -> Self {
        assert!(classes > 0 && values.len().is_multiple_of(classes), "logits are [N, classes]");
        Self { values, classes }
    }

    /// All values, `[N, classes]` in row-major order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// How many classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of each image: the first of its largest logits; `None` where one is not finite.
    pub fn predictions(&self) -> impl ExactSizeIterator<Item = Option<usize>> {
        self.values.chunks(self.classes).map(|logits| {
            logits.iter().all(|l| l.is_finite()).then(|| {
                let first_largest = |best, i| if logits[i] > logits[best] { i } else { best };
                (1..logits.len()).fold(0, first_largest)
            })
        })
    }
}

/// The largest input of a site over a whole pass.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SiteRange {
    /// The site's name.
    pub name: String,
    /// Which function.
    pub kind: SiteKind,
    /// The largest |x|.
    pub max_abs: f32,
}

/// One evaluation of all images.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Of each image.
    pub logits: Logits,
    /// Of each site, in the network's order.
    pub sites: Vec<SiteRange>,
    /// How long the images took.
    pub seconds: f64,
}

impl Pass {
    /// The site with the largest input among those of `kind`; `None` if there are none.
    pub fn largest(&self, kind: SiteKind) -> Option<&SiteRange> {
        self.sites.iter().filter(|site| site.kind == kind).max_by(|a, b| a.max_abs.total_cmp(&b.max_abs))
    }

    /// Puts the batches' results together.
    pub(crate) fn of(batches: Vec<Batch>, network: &Network) -> Self {
        let classes = batches.first().map_or(1, |batch| batch.classes);
        let mut values = Vec::new();
        let mut ranges = vec![RangeStats::default(); network.sites().len()];
        let mut seconds = 0.0;
        for batch in batches {
            values.extend(batch.logits);
            for (total, range) in ranges.iter_mut().zip(batch.ranges) {
                *total = total.merge(range);
            }
            seconds += batch.seconds;
        }
        let site = |(site, range): (&approx_models::Site, RangeStats)| SiteRange {
            name: site.name().to_owned(),
            kind: site.kind(),
            max_abs: range.max_abs,
        };
        let sites = network.sites().iter().zip(ranges).map(site).collect();
        Self { logits: Logits::new(values, classes), sites, seconds }
    }
}

/// The exact network's logits, and the range of each site: where the search for B starts.
///
/// # Errors
/// [`EvalError::NotFinite`] if the network overflows; the model's or candle's own.
pub fn exact_pass(job: &Job, network: &Network, observer: &dyn Observer) -> Result<Pass> {
    let batches = job.batches()?;
    observer.pass_started("exact", job.images.len());
    let mut results = Vec::with_capacity(batches.len());
    for images in batches {
        let batch = job.run(network, images.clone())?;
        if let Some((site, range)) = first_out_of_range(network, &batch) {
            return Err(EvalError::NotFinite { site: site.to_owned(), value: range.max_abs, images });
        }
        if let Some(&value) = batch.logits.iter().find(|logit| !logit.is_finite()) {
            return Err(EvalError::NotFinite { site: "logits".to_owned(), value, images });
        }
        observer.advanced(images.len());
        results.push(batch);
    }
    observer.pass_finished();
    Ok(Pass::of(results, network))
}

/// What came out of one batch.
pub(crate) struct Batch {
    pub(crate) logits: Vec<f32>,
    pub(crate) classes: usize,
    /// Of each site.
    pub(crate) ranges: Vec<RangeStats>,
    pub(crate) seconds: f64,
}

/// The first site that saw a value out of its range. Those after it may have seen the consequences.
pub(crate) fn first_out_of_range<'n>(network: &'n Network, batch: &Batch) -> Option<(&'n str, RangeStats)> {
    let mut sites = network.sites().iter().zip(&batch.ranges);
    sites.find(|(_, range)| range.out_of_range > 0).map(|(site, range)| (site.name(), *range))
}

impl Job<'_> {
    pub(crate) fn batches(&self) -> Result<Vec<Range<usize>>> {
        if self.images.is_empty() {
            return Err(EvalError::NoImages);
        }
        Ok(self.images.batches(self.batch_size).collect())
    }

    pub(crate) fn run(&self, network: &Network, images: Range<usize>) -> Result<Batch> {
        let start = Instant::now();
        let input = self.images.batch(images, &self.normalization, &self.device)?;
        let output = network.forward(&input)?;
        let (_, classes) = output.dims2()?;
        let logits = output.flatten_all()?.to_vec1()?;
        let ranges = network.sites().iter().map(approx_models::Site::take_range).collect();
        Ok(Batch { logits, classes, ranges, seconds: start.elapsed().as_secs_f64() })
    }
}
