//! The optimiser.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, InplaceOp3, Layout, Tensor, Var};
use rayon::prelude::*;

use crate::error::Result;
use crate::training::{Gradients, TrainableNetwork, copy_to_cpu};

/// Stochastic gradient descent with momentum, as PyTorch's `torch.optim.SGD`: with `d = g + weight_decay · p`,
/// `v ← momentum · v + d` (at first `v = d`), and `p ← p − lr · (d + momentum · v)` with Nesterov's momentum,
/// `p ← p − lr · v` without.
#[derive(Debug)]
pub struct Sgd {
    /// Share of the velocity that is kept.
    pub momentum: f64,
    /// Multiple of the parameters that is added to the gradients.
    pub weight_decay: f64,
    /// Whether the step looks ahead.
    pub nesterov: bool,
    velocity: BTreeMap<String, Tensor>,
}

impl Sgd {
    /// Without velocity yet.
    pub fn new(momentum: f64, weight_decay: f64, nesterov: bool) -> Self {
        Self { momentum, weight_decay, nesterov, velocity: BTreeMap::new() }
    }

    /// One step on all parameters of `network`.
    ///
    /// # Errors
    /// candle's, such as velocities of other shapes.
    pub fn step(&mut self, network: &mut TrainableNetwork, gradients: &Gradients, lr: f64) -> Result<()> {
        for (name, parameter) in network.parameters() {
            let Some(gradient) = gradients.get(name) else { continue };
            let velocity = match self.velocity.entry(name.clone()) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(parameter.zeros_like()?),
            };
            // After `set_velocity` it may be elsewhere.
            *velocity = velocity.to_device(parameter.device())?;
            if velocity.shape() != parameter.shape() || gradient.shape() != parameter.shape() {
                let (lhs, rhs) = (parameter.shape().clone(), velocity.shape().clone());
                return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "sgd" }.into());
            }
            let gradient = gradient.contiguous()?;
            if !parameter.device().is_cpu() {
                let rule = (self.momentum, self.weight_decay, self.nesterov);
                step_by_tensors(rule, parameter, &gradient, velocity, lr)?;
                continue;
            }
            let (decay, momentum) = (self.weight_decay as f32, self.momentum as f32);
            velocity.inplace_op3(&gradient, parameter, &Accelerate { decay, momentum })?;
            let ahead = self.nesterov.then_some(momentum);
            parameter.inplace_op3(&gradient, velocity, &Move { decay, ahead, lr: lr as f32 })?;
        }
        Ok(())
    }

    /// Copies of the velocity of each parameter, on the CPU; none before the first step.
    ///
    /// # Errors
    /// candle's, where memory ends.
    pub fn velocity(&self) -> Result<BTreeMap<String, Tensor>> {
        self.velocity.iter().map(|(name, velocity)| Ok((name.clone(), copy_to_cpu(velocity)?))).collect()
    }

    /// Goes on with these velocities.
    pub fn set_velocity(&mut self, velocity: BTreeMap<String, Tensor>) {
        self.velocity = velocity;
    }
}

/// A step by candle's ops, on any device.
fn step_by_tensors(
    (momentum, decay, nesterov): (f64, f64, bool),
    parameter: &Var,
    gradient: &Tensor,
    velocity: &mut Tensor,
    lr: f64,
) -> Result<()> {
    let d = (gradient + parameter.affine(decay, 0.0)?)?.detach();
    *velocity = (velocity.affine(momentum, 0.0)? + &d)?.detach();
    let direction = match nesterov {
        true => (d + velocity.affine(momentum, 0.0)?)?,
        false => velocity.clone(),
    };
    parameter.set(&(parameter.as_tensor() - direction.affine(lr, 0.0)?)?.detach())?;
    Ok(())
}

/// `v ← momentum · v + g + decay · p`.
struct Accelerate {
    decay: f32,
    momentum: f32,
}

impl InplaceOp3 for Accelerate {
    fn name(&self) -> &'static str {
        "sgd_accelerate"
    }

    fn cpu_fwd(
        &self,
        velocity: &mut CpuStorage,
        _: &Layout,
        gradient: &CpuStorage,
        _: &Layout,
        parameter: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<()> {
        for_each(velocity, gradient, parameter, |v, g, p| *v = self.momentum * *v + (g + self.decay * p))
    }
}

/// `p ← p − lr · (g + decay · p + ahead · v)`, or `p ← p − lr · v`.
struct Move {
    decay: f32,
    ahead: Option<f32>,
    lr: f32,
}

impl InplaceOp3 for Move {
    fn name(&self) -> &'static str {
        "sgd_move"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        _: &Layout,
        gradient: &CpuStorage,
        _: &Layout,
        velocity: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<()> {
        match self.ahead {
            None => for_each(parameter, gradient, velocity, |p, _, v| *p -= self.lr * v),
            Some(momentum) => for_each(parameter, gradient, velocity, |p, g, v| {
                *p -= self.lr * (g + self.decay * *p + momentum * v);
            }),
        }
    }
}

/// All three are whole tensors of the same shape.
fn for_each(
    target: &mut CpuStorage,
    first: &CpuStorage,
    second: &CpuStorage,
    f: impl Fn(&mut f32, f32, f32) + Sync,
) -> candle_core::Result<()> {
    let (CpuStorage::F32(target), CpuStorage::F32(first), CpuStorage::F32(second)) = (target, first, second)
    else {
        candle_core::bail!("expected float32 storage");
    };
    let others = first.par_iter().zip(second);
    target.par_iter_mut().with_min_len(1 << 14).zip(others).for_each(|(t, (&a, &b))| f(t, a, b));
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn candles_ops_step_as_ours_do() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let random = || Tensor::randn(0f32, 1.0, 50, &Device::Cpu);
        for nesterov in [false, true] {
            let (momentum, decay, lr) = (0.9, 5e-3, 0.1);
            let (start, mut velocity) = (random()?, random()?);
            let (ours, candles) = (Var::from_tensor(&start)?, Var::from_tensor(&start)?);
            let own = velocity.copy()?;
            for _ in 0..3 {
                let gradient = random()?;
                step_by_tensors((momentum, decay, nesterov), &candles, &gradient, &mut velocity, lr)?;
                let (decay, momentum) = (decay as f32, momentum as f32);
                own.inplace_op3(&gradient, &ours, &Accelerate { decay, momentum })?;
                let ahead = nesterov.then_some(momentum);
                ours.inplace_op3(&gradient, &own, &Move { decay, ahead, lr: lr as f32 })?;
            }
            for (a, b) in [(candles.as_tensor(), ours.as_tensor()), (&velocity, &own)] {
                for (a, b) in a.to_vec1::<f32>()?.iter().zip(b.to_vec1::<f32>()?) {
                    assert!((a - b).abs() < 1e-5, "{a}, not {b}");
                }
            }
        }
        Ok(())
    }
}
