//! What an op saw: the largest `|x|`, and how many values were out of range.
//!
//! Ops only measure. Who owns the network knows the name of the place, and who runs it decides whether to fail
//! or to widen the range. Raising an error from inside an op would lose its type in candle and make a GPU wait
//! at each layer.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use candle_core::Tensor;
#[cfg(feature = "cuda")]
use candle_core::cuda_backend::CudaDevice;
use cnn_kernels::RangeStats;

#[cfg(feature = "cuda")]
use crate::cuda::slots::Slot;
use crate::noise::Excursions;
use crate::sketch::Sketch;

/// Collects the [`RangeStats`] of one place in a network. Clones share what they collect.
///
/// Kernels on a GPU write to a slot there, which nothing waits for until [`take`](Self::take) is called: of any recorder,
/// for the slots of a device are read together.
#[derive(Debug, Clone, Default)]
pub struct RangeRecorder(Arc<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    stats: Mutex<RangeStats>,
    sketch: RwLock<Option<Mutex<Sketch>>>,
    excursions: Mutex<Vec<Excursions>>,
    /// On a GPU, once one was used.
    #[cfg(feature = "cuda")]
    slot: Mutex<Option<Slot>>,
}

impl RangeRecorder {
    /// Adds `stats`.
    pub fn record(&self, stats: RangeStats) {
        let mut total = self.0.stats.lock().unwrap_or_else(PoisonError::into_inner);
        *total = total.merge(stats);
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
        *self.0.sketch.write().unwrap_or_else(PoisonError::into_inner) = Some(Mutex::default());
    }

    /// Whether inputs are to be sketched. Ops do not do so themselves: who calls them has the inputs.
    pub fn is_sketching(&self) -> bool {
        self.0.sketch.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Adds inputs to the sketch, if one was started.
    ///
    /// # Errors
    /// candle's, for a tensor that is not float32.
    pub fn sketch(&self, xs: &Tensor) -> candle_core::Result<()> {
        if let Some(sketch) = &*self.0.sketch.read().unwrap_or_else(PoisonError::into_inner) {
            let part = Sketch::of(&xs.flatten_all()?.to_vec1()?);
            sketch.lock().unwrap_or_else(PoisonError::into_inner).merge(&part);
        }
        Ok(())
    }

    /// The sketch, which ends; `None` if none was started.
    pub fn take_sketch(&self) -> Option<Sketch> {
        let sketch = self.0.sketch.write().unwrap_or_else(PoisonError::into_inner).take();
        sketch.map(|sketch| sketch.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was recorded since the last call, and forgets it. Where a GPU fails to tell, that is no number and out of
    /// range; whatever is done with that GPU next gives its error.
    pub fn take(&self) -> RangeStats {
        #[cfg(feature = "cuda")]
        if let Some(slot) = &*self.0.slot.lock().unwrap_or_else(PoisonError::into_inner) {
            self.record(slot.take().unwrap_or(RangeStats { max_abs: f32::NAN, out_of_range: 1 }));
        }
        std::mem::take(&mut *self.0.stats.lock().unwrap_or_else(PoisonError::into_inner))
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

/// A penalty on inputs near and outside the bound: `weight · (|x| / B − 0.9)²` where that is positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RangePenalty {
    /// `B`.
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
            let excess = x.abs() / self.bound - Self::FREE;
            if excess > 0.0 {
                sum += f64::from(excess * excess);
                *gradient += self.weight * 2.0 * excess * x.signum() / self.bound;
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
        let excess = values.abs()?.affine(1.0 / bound, -f64::from(Self::FREE))?.relu()?;
        let sum: f32 = excess.sqr()?.sum_all()?.to_scalar()?;
        let own = (excess * values.sign()?)?.affine(2.0 * weight / bound, 0.0)?;
        Ok(((gradients + own)?, weight * f64::from(sum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_of_tensors_are_those_of_numbers() {
        let penalty = RangePenalty { bound: 2.0, weight: 0.25 };
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
}
