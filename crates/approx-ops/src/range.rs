//! What an op saw: the largest `|x|`, and how many values were out of range.
//!
//! Ops only measure. Who owns the network knows the name of the place, and who runs it decides whether to fail
//! or to widen the range. Raising an error from inside an op would lose its type in candle and make a GPU wait
//! at each layer.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
#[cfg(feature = "cuda")]
use candle_core::cuda_backend::CudaDevice;
use cnn_kernels::RangeStats;

#[cfg(feature = "cuda")]
use crate::cuda::slots::Slot;
use crate::noise::Excursions;
use crate::sketch::Sketch;

/// Collects the [`RangeStats`] of one place in a network. Clones share what they collect. On the CPU, threads that record at
/// the same time do not wait for each other.
///
/// Kernels on a GPU write to a slot there, which nothing waits for until [`take`](Self::take) is called: of any recorder,
/// for the slots of a device are read together.
#[derive(Debug, Clone, Default)]
pub struct RangeRecorder(Arc<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    /// The bits of the largest `|x|`. Numbers without a sign are ordered as their bits are, and NaN comes last.
    max_abs: AtomicU32,
    out_of_range: AtomicU64,
    /// Whether there is a sketch, so that passes without one need no lock.
    sketching: AtomicBool,
    sketch: Mutex<Option<Sketch>>,
    excursions: Mutex<Vec<Excursions>>,
    /// On a GPU, once one was used.
    #[cfg(feature = "cuda")]
    slot: Mutex<Option<Slot>>,
}

impl RangeRecorder {
    /// Adds `stats`.
    pub fn record(&self, stats: RangeStats) {
        self.0.max_abs.fetch_max(stats.max_abs.abs().to_bits(), Ordering::Relaxed);
        self.0.out_of_range.fetch_add(stats.out_of_range, Ordering::Relaxed);
    }

    /// Adds outputs of components that left the next one's domain.
    pub fn record_excursions(&self, excursions: Vec<Excursions>) {
        let mut all = self.0.excursions.lock().unwrap_or_else(PoisonError::into_inner);
        for new in excursions {
            match all.iter_mut().find(|known| known.component == new.component) {
                Some(known) => {
                    known.count += new.count;
                    known.largest = known.largest.max(new.largest);
                }
                None => all.push(new),
            }
        }
    }

    /// By component, what was recorded of them since the last call, and forgets it.
    pub fn take_excursions(&self) -> Vec<Excursions> {
        let mut all = std::mem::take(&mut *self.0.excursions.lock().unwrap_or_else(PoisonError::into_inner));
        all.sort_by_key(|excursions| excursions.component);
        all
    }

    /// From now on, [`sketch`](Self::sketch) adds to a new sketch.
    pub fn start_sketch(&self) {
        *self.0.sketch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Sketch::default());
        self.0.sketching.store(true, Ordering::Release);
    }

    /// Whether inputs are to be sketched. Ops do not do so themselves: who calls them has the inputs.
    pub fn is_sketching(&self) -> bool {
        self.0.sketching.load(Ordering::Acquire)
    }

    /// Adds inputs to the sketch, if one was started.
    ///
    /// # Errors
    /// candle's, for a tensor that is not float32.
    pub fn sketch(&self, xs: &Tensor) -> candle_core::Result<()> {
        if self.is_sketching() {
            let part = Sketch::of(&xs.flatten_all()?.to_vec1()?);
            if let Some(sketch) = &mut *self.0.sketch.lock().unwrap_or_else(PoisonError::into_inner) {
                sketch.merge(&part);
            }
        }
        Ok(())
    }

    /// The sketch, which ends; `None` if none was started.
    pub fn take_sketch(&self) -> Option<Sketch> {
        self.0.sketching.store(false, Ordering::Release);
        self.0.sketch.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What was recorded since the last call, and forgets it. Where a GPU fails to tell, that is no number and out of
    /// range; whatever is done with that GPU next gives its error.
    pub fn take(&self) -> RangeStats {
        #[cfg(feature = "cuda")]
        if let Some(slot) = &*self.0.slot.lock().unwrap_or_else(PoisonError::into_inner) {
            self.record(slot.take().unwrap_or(RangeStats { max_abs: f32::NAN, out_of_range: 1 }));
        }
        RangeStats {
            max_abs: f32::from_bits(self.0.max_abs.swap(0, Ordering::Relaxed)),
            out_of_range: self.0.out_of_range.swap(0, Ordering::Relaxed),
        }
    }

    /// Calls `launch` with the address of the device's slots and the index of this recorder's.
    #[cfg(feature = "cuda")]
    pub(crate) fn write_on<T>(
        &self,
        device: &CudaDevice,
        launch: impl FnOnce(u64, u32) -> candle_core::Result<T>,
    ) -> candle_core::Result<T> {
        let mut slot = self.0.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(elsewhere) = slot.take_if(|slot| !slot.is_on(device)) {
            self.record(elsewhere.take()?);
        }
        let slot = match &mut *slot {
            Some(slot) => slot,
            empty => empty.insert(Slot::new(device)?),
        };
        slot.write(launch)
    }
}

/// A penalty on inputs near and outside the ends of a range: `weight · (|x − center| / B − 0.9)²` where that is positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RangePenalty {
    /// The middle of the range; 0 for most.
    pub center: f32,
    /// Half of its length, `B`.
    pub bound: f32,
    /// What the squares are multiplied by.
    pub weight: f32,
}

impl RangePenalty {
    /// Share of the bound that is free.
    pub const FREE: f32 = 0.9;

    /// Adds the penalty's gradient at `values` to `gradients`, and gives the penalty.
    pub fn add_gradient(&self, values: &[f32], gradients: &mut [f32]) -> f64 {
        let mut sum = 0.0;
        for (gradient, x) in gradients.iter_mut().zip(values) {
            let distance = x - self.center;
            let excess = distance.abs() / self.bound - Self::FREE;
            if excess > 0.0 {
                sum += f64::from(excess * excess);
                *gradient += self.weight * 2.0 * excess * distance.signum() / self.bound;
            }
        }
        f64::from(self.weight) * sum
    }

    /// The same with tensors, on their device.
    ///
    /// # Shapes
    /// `values` and `gradients` have the same, and so has the new gradient.
    ///
    /// # Errors
    /// candle's, for other shapes.
    pub fn add_gradient_to(&self, values: &Tensor, gradients: &Tensor) -> candle_core::Result<(Tensor, f64)> {
        let (bound, weight) = (f64::from(self.bound), f64::from(self.weight));
        let distances = values.affine(1.0, -f64::from(self.center))?;
        let excess = distances.abs()?.affine(1.0 / bound, -f64::from(Self::FREE))?.relu()?;
        let sum: f32 = excess.sqr()?.sum_all()?.to_scalar()?;
        let own = (excess * distances.sign()?)?.affine(2.0 * weight / bound, 0.0)?;
        Ok(((gradients + own)?, weight * f64::from(sum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_of_tensors_are_those_of_numbers() {
        let penalty = RangePenalty { center: 0.5, bound: 2.0, weight: 0.25 };
        let (values, mut gradients) = ([0.5, -1.9, 1.79, 7.0, -30.0], [1.0, 2.0, 3.0, 4.0, 5.0]);
        let tensor = |values: &[f32]| Tensor::new(values, &candle_core::Device::Cpu).unwrap();
        let (actual, sum) = penalty.add_gradient_to(&tensor(&values), &tensor(&gradients)).unwrap();
        let expected = penalty.add_gradient(&values, &mut gradients);
        assert!((sum - expected).abs() < 1e-5 * expected, "{sum}, not {expected}");
        for (a, e) in actual.to_vec1::<f32>().unwrap().iter().zip(gradients) {
            assert!((a - e).abs() < 1e-5, "{a}, not {e}");
        }
    }

    #[test]
    fn recorder_adds_up_and_forgets() {
        let recorder = RangeRecorder::default();
        let clone = recorder.clone();
        clone.record(RangeStats { max_abs: 2.0, out_of_range: 1 });
        recorder.record(RangeStats { max_abs: 1.0, out_of_range: 3 });
        assert_eq!(recorder.take(), RangeStats { max_abs: 2.0, out_of_range: 4 });
        assert_eq!(clone.take(), RangeStats::default());
    }

    #[test]
    fn no_number_is_larger_than_all() {
        for max_abs in [[f32::NAN, 1.0, f32::INFINITY], [f32::INFINITY, -f32::NAN, 1.0]] {
            let recorder = RangeRecorder::default();
            for max_abs in max_abs {
                recorder.record(RangeStats { max_abs, out_of_range: 1 });
            }
            let range = recorder.take();
            assert!(range.max_abs.is_nan() && range.out_of_range == 3, "{range:?}");
        }
        let recorder = RangeRecorder::default();
        for max_abs in [3.0, f32::INFINITY] {
            recorder.record(RangeStats { max_abs, out_of_range: 0 });
        }
        assert_eq!(recorder.take().max_abs, f32::INFINITY);
    }

    #[test]
    fn threads_lose_nothing() {
        let recorder = RangeRecorder::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let recorder = recorder.clone();
                scope.spawn(move || {
                    for i in 0..1000 {
                        let max_abs = (1000 * thread + i) as f32;
                        recorder.record(RangeStats { max_abs, out_of_range: 1 });
                    }
                });
            }
        });
        assert_eq!(recorder.take(), RangeStats { max_abs: 3999.0, out_of_range: 4000 });
    }
}
