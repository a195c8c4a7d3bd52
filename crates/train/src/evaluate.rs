//! How good a network is while it is trained.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use approx_data::{ImageSet, ImageSource, Normalization, prefetch};
use approx_eval::Logits;
use approx_models::Network;
use candle_core::Device;

use crate::history::Means;
use crate::progress::Progress;

/// Images at a time.
const BATCH: usize = 128;

/// Loss and accuracy over all `images`, on the network's device; `None` if it was to stop before the end.
pub fn evaluate(
    network: &Network,
    (images, normalization): (&ImageSet, &Normalization),
    device: &Device,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Option<Means>> {
    let (mut loss, mut correct, mut out_of_range) = (0.0, 0_usize, 0);
    let mut stopped = false;
    progress.test_started(images.len());
    prefetch(images, &images.batches(BATCH), normalization, device, |_, batch| {
        let Some(input) = &batch.images else { return Ok(ControlFlow::Continue(())) };
        let logits = network.forward(input)?;
        let logits = Logits::new(logits.flatten_all()?.to_vec1()?, logits.dim(1)?);
        let rows = logits.values().chunks(logits.classes());
        for ((row, prediction), &label) in rows.zip(logits.predictions()).zip(&batch.labels) {
            let label = usize::from(label);
            if prediction.is_none() {
                bail!("after the epoch, a test image has the logits {row:?}");
            }
            correct += usize::from(prediction == Some(label));
            loss += cross_entropy(row, label);
        }
        out_of_range += network.sites().iter().map(|site| site.take_range().out_of_range).sum::<u64>();
        progress.tested(batch.labels.len());
        stopped = stop.load(Ordering::Relaxed);
        Ok(if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let count = images.len() as f64;
    let means = Means { loss: loss / count, accuracy: correct as f64 / count, out_of_range };
    Ok((!stopped).then_some(means))
}

/// `-ln softmax(logits)[label]`
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    sum.ln() + largest - f64::from(logits[label])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_is_minus_the_logarithm_of_the_probability() {
        assert!((cross_entropy(&[1.0; 10], 3) - 10f64.ln()).abs() < 1e-12);
        // Probabilities 1/4 and 3/4.
        assert!((cross_entropy(&[0.0, 3f32.ln()], 0) - 4f64.ln()).abs() < 1e-6);
        assert!((cross_entropy(&[1000.0, 0.0], 1) - 1000.0).abs() < 1e-9);
    }
}
