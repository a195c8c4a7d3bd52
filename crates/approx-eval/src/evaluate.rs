//! Running a network over a data set.

use std::ops::{ControlFlow, Range};
use std::time::Instant;

use approx_data::batches::{Batch, prefetch};
use approx_data::{ImageSource, Normalization, Skipped};
use approx_models::{Network, SiteKind};
use approx_ops::{Excursions, RangeRecorder, RangeStats};
use candle_core::{DType, Device, DeviceLocation, Tensor};

use crate::error::{EvalError, RangeError, Result};
use crate::memory;

/// What to evaluate on, and how.
pub struct Job<'a> {
    /// The images with their labels.
    pub images: &'a dyn ImageSource,
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
    /// What is needed is being computed by another process, and is waited for.
    fn waiting(&self, _cell: &str) {}
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
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SiteRange {
    /// The site's name.
    pub name: String,
    /// Which function.
    pub kind: SiteKind,
    /// The largest |x|.
    pub max_abs: f32,
}

/// Under noise, outputs of a component at a site that left the next one's domain.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SiteExcursions {
    /// The site's name.
    pub site: String,
    /// Which component's output, 1-based.
    pub component: usize,
    /// How many values.
    pub count: u64,
    /// The largest of them in absolute value.
    pub largest: f64,
    /// What it should not exceed.
    pub domain: f64,
}

/// One evaluation of all images.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Of each image.
    pub logits: Logits,
    /// The class of each image.
    pub labels: Vec<u16>,
    /// Images that could not be decoded. They are in neither of the above.
    pub skipped: Vec<Skipped>,
    /// Of each site, in the network's order.
    pub sites: Vec<SiteRange>,
    /// Under noise, what left the domain of a component, in the network's order; else none.
    pub excursions: Vec<SiteExcursions>,
    /// How long the images took, with waiting for them to be decoded.
    pub seconds: f64,
    /// The largest resident memory of the process during the pass, in bytes, where the system tells.
    pub peak_memory: Option<u64>,
}

impl Pass {
    /// The site with the largest input among those of `kind`; `None` if there are none.
    pub fn largest(&self, kind: SiteKind) -> Option<&SiteRange> {
        self.sites.iter().filter(|site| site.kind == kind).max_by(|a, b| a.max_abs.total_cmp(&b.max_abs))
    }

    /// Puts the batches' results together.
    pub(crate) fn of(results: Vec<BatchResult>, network: &Network) -> Result<Self> {
        let classes = results.iter().map(|result| result.classes).max().unwrap_or(0);
        let mut ranges = vec![RangeStats::default(); network.sites().len()];
        let recorders: Vec<RangeRecorder> =
            network.sites().iter().map(|_| RangeRecorder::default()).collect();
        let (mut values, mut labels, mut skipped, mut seconds) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
        for result in results {
            values.extend(result.logits);
            labels.extend(result.labels);
            skipped.extend(result.skipped);
            for (total, range) in ranges.iter_mut().zip(result.ranges) {
                *total = total.merge(range);
            }
            seconds += result.seconds;
            for (index, excursions) in result.excursions {
                recorders[index].record_excursions(excursions);
            }
        }
        if labels.is_empty() {
            return Err(EvalError::AllSkipped { skipped });
        }
        let site = |(site, range): (&approx_models::Site, RangeStats)| SiteRange {
            name: site.name().to_owned(),
            kind: site.kind(),
            max_abs: range.max_abs,
        };
        let sites: Vec<SiteRange> = network.sites().iter().zip(ranges).map(site).collect();
        let excursions = sites.iter().zip(&recorders).flat_map(|(site, recorder)| {
            recorder.take_excursions().into_iter().map(|e| SiteExcursions {
                site: site.name.clone(),
                component: e.component,
                count: e.count,
                largest: e.largest,
                domain: e.domain,
            })
        });
        let excursions = excursions.collect();
        Ok(Self {
            logits: Logits::new(values, classes),
            labels,
            skipped,
            sites,
            excursions,
            seconds,
            peak_memory: memory::peak(),
        })
    }
}

/// The exact network's logits, and the range of each site: where the search for B starts.
///
/// # Errors
/// [`EvalError::NotFinite`] if the network overflows; [`EvalError::OutOfMemory`]; the data's, the model's or
/// candle's own.
pub fn exact_pass(job: &Job, network: &Network, observer: &dyn Observer) -> Result<Pass> {
    let ranges = job.ranges()?;
    memory::reset_peak();
    observer.pass_started("exact", job.images.len());
    let mut results = Vec::with_capacity(ranges.len());
    job.for_each(&ranges, |images, batch, start| {
        let result = job.run(network, batch, start)?;
        if let Some((site, range)) = first_out_of_range(network, &result) {
            return Err(EvalError::NotFinite { site: site.to_owned(), value: range.max_abs, images });
        }
        if let Some(&value) = result.logits.iter().find(|logit| !logit.is_finite()) {
            return Err(EvalError::NotFinite { site: "logits".to_owned(), value, images });
        }
        observer.advanced(images.len());
        results.push(result);
        Ok(())
    })?;
    observer.pass_finished();
    Pass::of(results, network)
}

/// Calls `run` with `batch_size`, and as long as that ends with [`EvalError::OutOfMemory`], from the beginning with half
/// of it, which `smaller` is told. `find` looks for this crate's error in that of `run`.
///
/// # Errors
/// Those of `run`: out of memory only if a single image is too much.
pub fn with_batches_that_fit<T, E: std::fmt::Display>(
    mut batch_size: usize,
    find: impl Fn(&E) -> Option<&EvalError>,
    mut smaller: impl FnMut(&E, usize),
    mut run: impl FnMut(usize) -> Result<T, E>,
) -> Result<T, E> {
    loop {
        match run(batch_size) {
            Err(error) if batch_size > 1 && matches!(find(&error), Some(EvalError::OutOfMemory { .. })) => {
                batch_size /= 2;
                smaller(&error, batch_size);
            }
            result => return result,
        }
    }
}

/// A device by name, for messages and to tell results apart: `cpu`, or as `cuda:0, NVIDIA H100 PCIe`.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}{}", cuda_model(device)),
    }
}

#[cfg(feature = "cuda")]
fn cuda_model(device: &Device) -> String {
    let name = |device: &candle_core::CudaDevice| device.cuda_stream().context().name().ok();
    device.as_cuda_device().ok().and_then(name).map_or_else(String::new, |name| format!(", {name}"))
}

#[cfg(not(feature = "cuda"))]
fn cuda_model(_: &Device) -> &'static str {
    ""
}

/// What came out of one batch.
pub(crate) struct BatchResult {
    pub(crate) logits: Vec<f32>,
    /// Logits of an image; 0 if all were skipped.
    pub(crate) classes: usize,
    pub(crate) labels: Vec<u16>,
    pub(crate) skipped: Vec<Skipped>,
    /// Of each site.
    pub(crate) ranges: Vec<RangeStats>,
    /// Of those sites that had some, by index.
    pub(crate) excursions: Vec<(usize, Vec<Excursions>)>,
    pub(crate) seconds: f64,
}

/// The first site that saw a value out of its range. Those after it may have seen the consequences.
pub(crate) fn first_out_of_range<'n>(
    network: &'n Network,
    result: &BatchResult,
) -> Option<(&'n str, RangeStats)> {
    let mut sites = network.sites().iter().zip(&result.ranges);
    sites.find(|(_, range)| range.out_of_range > 0).map(|(site, range)| (site.name(), *range))
}

impl Job<'_> {
    /// The images of each batch.
    pub(crate) fn ranges(&self) -> Result<Vec<Range<usize>>> {
        if self.images.is_empty() {
            return Err(EvalError::NoImages);
        }
        Ok(self.images.batches(self.batch_size))
    }

    /// Calls `consume` with each range, its batch, and since when that was waited for.
    pub(crate) fn for_each(
        &self,
        ranges: &[Range<usize>],
        mut consume: impl FnMut(Range<usize>, &Batch, Instant) -> Result<()>,
    ) -> Result<()> {
        let mut start = Instant::now();
        let done = prefetch(self.images, ranges, &self.normalization, &self.device, |index, batch| {
            consume(ranges[index].clone(), &batch, start)?;
            start = Instant::now();
            Ok(ControlFlow::Continue(()))
        });
        done.map_err(|error: EvalError| error.of_batch(self.batch_size))
    }

    /// The logits of all images, whatever leaves a range.
    pub(crate) fn logits(&self, network: &Network, observer: &dyn Observer) -> Result<Logits> {
        let (mut values, mut classes) = (Vec::new(), 1);
        self.for_each(&self.ranges()?, |images, batch, start| {
            let result = self.run(network, batch, start)?;
            classes = classes.max(result.classes);
            values.extend(result.logits);
            observer.advanced(images.len());
            Ok(())
        })?;
        Ok(Logits::new(values, classes))
    }

    /// On a GPU, sends a batch of zeros through the network, so that what a process loads and chooses once is not in the
    /// time of the first pass; on the CPU, there is nothing of the kind.
    ///
    /// # Errors
    /// As [`exact_pass`].
    pub fn warm_up(&self, network: &Network) -> Result<()> {
        if self.device.is_cpu() {
            return Ok(());
        }
        let count = self.ranges()?[0].len();
        let [channels, height, width] = self.images.shape();
        let images = Tensor::zeros((count, channels, height, width), DType::F32, &self.device)?;
        let batch = Batch { images: Some(images), labels: Vec::new(), skipped: Vec::new() };
        self.run(network, &batch, Instant::now()).map(drop)
    }

    pub(crate) fn run(&self, network: &Network, batch: &Batch, start: Instant) -> Result<BatchResult> {
        self.run_by(|images| network.forward(images), network, batch, start)
    }

    /// The same, with the logits of `forward`.
    fn run_by(
        &self,
        forward: impl FnOnce(&Tensor) -> approx_models::Result<Tensor>,
        network: &Network,
        batch: &Batch,
        start: Instant,
    ) -> Result<BatchResult> {
        let (logits, classes) = match &batch.images {
            None => (Vec::new(), 0),
            Some(images) => forward(images)
                .and_then(|output| Ok((output.flatten_all()?.to_vec1()?, output.dims2()?.1)))
                .map_err(|error| {
                    // What this batch showed is nothing to the one that is tried next.
                    for site in network.sites() {
                        site.take_range();
                    }
                    EvalError::of_model(error, self.batch_size)
                })?,
        };
        Ok(BatchResult {
            logits,
            classes,
            labels: batch.labels.clone(),
            skipped: batch.skipped.clone(),
            ranges: network.sites().iter().map(approx_models::Site::take_range).collect(),
            excursions: {
                let all = network.sites().iter().map(approx_models::Site::take_excursions).enumerate();
                all.filter(|(_, excursions)| !excursions.is_empty()).collect()
            },
            seconds: start.elapsed().as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use approx_data::demo;
    use approx_models::{ActivationPolicy, GraphBuilder, Weights};
    use candle_core::Error;

    use super::*;

    /// A network of one ReLU, which sees the images as they are.
    fn network() -> Network {
        let mut b = GraphBuilder::new([3, 32, 32]);
        let x = b.input();
        let x = b.relu("relu", x);
        let x = b.global_avg_pool(x);
        let x = b.flatten(x);
        let weights = Weights::generate(Device::Cpu, |_, _| unreachable!("it has no weights"));
        Network::build(b.finish(x).unwrap(), &weights, &ActivationPolicy::exact()).unwrap()
    }

    /// Runs 7 images in batches of `batch_size`. The device is full, as a GPU says it in the middle of a pass, if a batch
    /// has more than `fits`.
    fn pass(network: &Network, batch_size: usize, fits: usize, text: &str) -> Result<Pass> {
        let images = demo::images().truncated(7);
        let job =
            Job { images: &images, normalization: Normalization::CIFAR10, batch_size, device: Device::Cpu };
        let ranges = job.ranges()?;
        let mut results = Vec::new();
        job.for_each(&ranges, |range, batch, start| {
            let forward = |images: &Tensor| {
                let logits = network.forward(images)?;
                if range.len() > fits { Err(Error::Msg(text.to_owned()).into()) } else { Ok(logits) }
            };
            results.push(job.run_by(forward, network, batch, start)?);
            Ok(())
        })?;
        Pass::of(results, network)
    }

    const FULL: [&str; 2] =
        ["DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")", "CUDNN_STATUS_ALLOC_FAILED"];

    #[test]
    fn a_batch_that_the_device_cannot_hold_is_an_error_that_names_a_smaller_one() {
        for text in FULL {
            for (batch_size, advice) in
                [(7, "does not hold a batch of 7 images; try 3: "), (1, "of 1 images: ")]
            {
                let error = pass(&network(), batch_size, 0, text).unwrap_err();
                assert!(matches!(error, EvalError::OutOfMemory { .. }), "{error}");
                assert!(error.to_string().contains(advice), "{error}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_tried_again_from_the_beginning_with_half_of_the_batch() {
        let network = network();
        let whole = pass(&network, 1, 1, "").unwrap();
        // Tries a batch of 7, where as many images as `fits` do.
        let tries = |fits: usize| {
            let mut tried = Vec::new();
            let pass = with_batches_that_fit(
                7,
                |error: &EvalError| Some(error),
                |error, size| tried.push((error.to_string(), size)),
                |size| {
                    let pass = pass(&network, size, fits, FULL[0]);
                    // Nothing is left of a pass that failed.
                    assert!(network.sites().iter().all(|site| site.take_range() == RangeStats::default()));
                    pass
                },
            );
            (pass, tried)
        };
        let (pass, tried) = tries(2);
        assert_eq!(tried.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [3, 1]);
        assert!(tried[0].0.contains("does not hold a batch of 7 images; try 3"), "{}", tried[0].0);
        let pass = pass.unwrap();
        assert_eq!((pass.labels, pass.logits, pass.sites), (whole.labels, whole.logits, whole.sites));
        let (pass, tried) = tries(0);
        assert!(matches!(pass, Err(EvalError::OutOfMemory { batch_size: 1, .. })), "{:?}", pass.err());
        assert_eq!(tried.len(), 2);
    }
}
