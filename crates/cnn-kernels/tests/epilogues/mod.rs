//! A function of one variable with a penalty, as an epilogue: plain loops over numbers, for tests.

use std::sync::Mutex;

use candle_core::Tensor;
use cnn_kernels::{Epilogue, RangeStats, Result};

/// Inputs beyond it have a penalty: `weight · (|x| − FREE)²`.
pub const FREE: f32 = 1.5;

pub struct Elementwise {
    pub name: &'static str,
    pub f: fn(f32) -> f32,
    pub derivative: fn(f32) -> f32,
    pub penalty_weight: f32,
    seen: Mutex<RangeStats>,
}

impl Elementwise {
    /// What was recorded since the last call.
    pub fn take(&self) -> RangeStats {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    pub fn penalty(&self, x: f64) -> f64 {
        f64::from(self.penalty_weight) * (x.abs() - f64::from(FREE)).max(0.0).powi(2)
    }
}

/// `x`, ReLU, and `x²/4 − x` with a penalty.
pub fn all() -> [Elementwise; 3] {
    let new = |name, f, derivative, penalty_weight| Elementwise {
        name,
        f,
        derivative,
        penalty_weight,
        seen: Mutex::default(),
    };
    [
        new("identity", |x| x, |_| 1.0, 0.0),
        new("relu", |x| x.max(0.0), |x| if x > 0.0 { 1.0 } else { 0.0 }, 0.0),
        new("quadratic", |x| x * x / 4.0 - x, |x| x / 2.0 - 1.0, 0.3),
    ]
}

impl Epilogue for Elementwise {
    fn apply_in_place(&self, values: &mut [f32]) -> RangeStats {
        let range = RangeStats::of(values, f32::MAX);
        values.iter_mut().for_each(|x| *x = (self.f)(*x));
        range
    }

    fn gradient_in_place(&self, inputs: &[f32], gradients: &mut [f32]) -> f64 {
        let mut penalty = 0.0;
        for (&x, gradient) in inputs.iter().zip(gradients) {
            let excess = (x.abs() - FREE).max(0.0);
            *gradient = *gradient * (self.derivative)(x) + self.penalty_weight * 2.0 * excess * x.signum();
            penalty += self.penalty(f64::from(x));
        }
        penalty
    }

    fn record(&self, range: RangeStats) {
        let mut seen = self.seen.lock().unwrap();
        *seen = seen.merge(range);
    }

    fn apply_affine(&self, xs: &Tensor, affine: &Tensor, addend: Option<&Tensor>) -> Result<()> {
        let mut values = mapped(xs, affine, addend)?;
        self.record(self.apply_in_place(&mut values));
        xs.slice_set(&Tensor::from_vec(values, xs.shape(), xs.device())?, 0, 0)?;
        Ok(())
    }

    fn affine_gradient(
        &self,
        xs: &Tensor,
        affine: &Tensor,
        addend: Option<&Tensor>,
        gradients: &Tensor,
    ) -> Result<(Tensor, f64)> {
        let mut values = gradients.flatten_all()?.to_vec1()?;
        let penalty = self.gradient_in_place(&mapped(xs, affine, addend)?, &mut values);
        Ok((Tensor::from_vec(values, xs.shape(), xs.device())?, penalty))
    }
}

/// `x · scale[c] + bias[c] + addend`.
fn mapped(xs: &Tensor, affine: &Tensor, addend: Option<&Tensor>) -> Result<Vec<f32>> {
    let channels = xs.dim(1)?;
    let of_channels = |row: usize| affine.get(row)?.reshape((1, channels, 1, 1));
    let mut ys = match affine.rank() {
        1 => xs.broadcast_add(&affine.reshape((1, channels, 1, 1))?)?,
        _ => xs.broadcast_mul(&of_channels(0)?)?.broadcast_add(&of_channels(1)?)?,
    };
    if let Some(addend) = addend {
        ys = (ys + addend)?;
    }
    Ok(ys.flatten_all()?.to_vec1()?)
}
