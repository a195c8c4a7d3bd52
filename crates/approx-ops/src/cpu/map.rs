//! Functions of one variable, applied to every element.

use cnn_kernels::cpu::{
    CHUNK, InBlocks, build, in_blocks, is_within_one, last_block, select, store_last_block,
};
use cnn_kernels::{RangeStats, SimdLevel};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::composite::Composite;

/// Where a function is meant for: `[center − bound, center + bound]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub(crate) center: f32,
    pub(crate) bound: f32,
}

impl Range {
    pub(crate) const ALL: Range = Range::within(f32::MAX);

    /// `[-bound, bound]`.
    pub(crate) const fn within(bound: f32) -> Self {
        Self { center: 0.0, bound }
    }
}

/// A function of one variable with its derivative.
pub(crate) trait Map: Sync {
    /// The values of a few vectors at once.
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N];

    /// The derivative.
    fn derivative<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s;
}

/// `x`.
pub(crate) struct Identity;

/// `max(x, 0)`. Its derivative at 0 is 0, as in PyTorch.
pub(crate) struct Relu;

/// `x²`.
pub(crate) struct Square;

/// `x²/8 + x/2 + 1/4`.
pub(crate) struct ReluAq;

/// `x (1 + s(x/B)) / 2`.
pub(crate) struct MinimaxRelu<'a> {
    sign: &'a Composite,
    inverse_bound: f64,
    /// What `x` is multiplied by for the composite in float32.
    scale: f32,
}

impl<'a> MinimaxRelu<'a> {
    pub(crate) fn new(sign: &'a Composite, bound: f32) -> Self {
        let inverse_bound = 1.0 / f64::from(bound);
        Self { sign, inverse_bound, scale: sign.scale(inverse_bound) }
    }
}

/// As [`MinimaxRelu`] for `|x| ≤ B`, and `max(x, 0)` for all others.
pub(crate) struct MinimaxReluWithin<'a>(pub(crate) MinimaxRelu<'a>);

impl Map for Identity {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, _: S, x: [S::f32s; N]) -> [S::f32s; N] {
        x
    }

    #[inline(always)]
    fn derivative<S: Simd>(&self, simd: S, _: S::f32s) -> S::f32s {
        simd.splat_f32s(1.0)
    }
}

impl Map for Relu {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let zero = simd.splat_f32s(0.0);
        let mut y = x;
        for y in &mut y {
            // The maximum of vector units is the second operand where there is NaN, but the one without vectors loses it.
            // With vectors, a selection in place becomes a masked store, which AVX2 takes 20 cycles for.
            *y = match S::F32_LANES {
                1 => select(simd, simd.less_than_f32s(*y, zero), zero, *y),
                _ => simd.max_f32s(zero, *y),
            };
        }
        y
    }

    #[inline(always)]
    fn derivative<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        select(simd, simd.greater_than_f32s(x, zero), simd.splat_f32s(1.0), zero)
    }
}

impl Map for Square {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let mut y = x;
        for y in &mut y {
            *y = simd.mul_f32s(*y, *y);
        }
        y
    }

    #[inline(always)]
    fn derivative<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        simd.add_f32s(x, x)
    }
}

impl Map for ReluAq {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let (eighth, half, quarter) = (simd.splat_f32s(0.125), simd.splat_f32s(0.5), simd.splat_f32s(0.25));
        let mut y = x;
        for y in &mut y {
            *y = simd.mul_add_e_f32s(simd.mul_add_e_f32s(eighth, *y, half), *y, quarter);
        }
        y
    }

    #[inline(always)]
    fn derivative<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(simd.splat_f32s(0.25), x, simd.splat_f32s(0.5))
    }
}

impl Map for MinimaxRelu<'_> {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let half = simd.splat_f32s(0.5);
        let mut y = self.sign.eval(simd, x, self.scale, self.inverse_bound);
        for i in 0..N {
            y[i] = simd.mul_f32s(x[i], simd.add_f32s(y[i], half));
        }
        y
    }

    #[inline(always)]
    fn derivative<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let z = simd.mul_f32s(x, simd.splat_f32s(self.inverse_bound as f32));
        let (half_s, half_slope) = self.sign.eval_with_derivative(simd, x, self.inverse_bound);
        simd.mul_add_e_f32s(z, half_slope, simd.add_f32s(half_s, simd.splat_f32s(0.5)))
    }
}

impl Map for MinimaxReluWithin<'_> {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let exact = Relu.eval(simd, x);
        let mut y = self.0.eval(simd, x);
        for i in 0..N {
            y[i] = select(simd, self.is_within(simd, x[i]), y[i], exact[i]);
        }
        y
    }

    #[inline(always)]
    fn derivative<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let (exact, approximate) = (Relu.derivative(simd, x), self.0.derivative(simd, x));
        select(simd, self.is_within(simd, x), approximate, exact)
    }
}

impl MinimaxReluWithin<'_> {
    #[inline(always)]
    fn is_within<S: Simd>(&self, simd: S, x: S::f32s) -> S::m32s {
        let z = simd.mul_f32s(x, simd.splat_f32s(self.0.inverse_bound as f32));
        is_within_one(simd, z)
    }
}

/// The function of each of `inputs`, and the range of the inputs.
pub(crate) fn forward(map: &impl Map, inputs: &[f32], range: Range) -> (Vec<f32>, RangeStats) {
    let (outputs, ranges) = build(inputs.len(), CHUNK, |start, output| {
        output.copy_from_slice(&inputs[start..start + output.len()]);
        in_place(map, output, range)
    });
    (outputs, ranges.into_iter().fold(RangeStats::default(), RangeStats::merge))
}

/// As [`forward`], in place.
pub(crate) fn forward_in_place(map: &impl Map, values: &mut [f32], range: Range) -> RangeStats {
    values
        .par_chunks_mut(CHUNK)
        .map(|values| in_place(map, values, range))
        .reduce(RangeStats::default, RangeStats::merge)
}

/// As [`forward_in_place`], on this thread, for as many values as a cache holds: they are measured and mapped
/// while they are there.
pub(crate) fn in_place(map: &impl Map, values: &mut [f32], range: Range) -> RangeStats {
    let seen = RangeStats::around(values, range.center, range.bound);
    SimdLevel::current().run(InPlace { map, values });
    seen
}

/// As [`backward`], on this thread.
pub(crate) fn gradient_in_place(map: &impl Map, inputs: &[f32], gradients: &mut [f32]) {
    SimdLevel::current().run(Gradient { map, inputs, gradients });
}

/// Multiplies each of `gradients` by the derivative at the input.
pub(crate) fn backward(map: &impl Map, inputs: &[f32], gradients: &mut [f32]) {
    (gradients.par_chunks_mut(CHUNK).zip(inputs.par_chunks(CHUNK))).for_each(|(gradients, inputs)| {
        gradient_in_place(map, inputs, gradients);
    });
}

struct InPlace<'a, M> {
    map: &'a M,
    values: &'a mut [f32],
}

impl<M: Map> WithSimd for InPlace<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        in_blocks(simd, self);
    }
}

impl<M: Map> InBlocks for InPlace<'_, M> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let (vectors, tail) = S::as_mut_simd_f32s(self.values);
        let (blocks, rest) = vectors.as_chunks_mut::<N>();
        for block in blocks {
            *block = self.map.eval(simd, *block);
        }
        if !rest.is_empty() || !tail.is_empty() {
            let last = self.map.eval::<S, N>(simd, last_block(simd, rest, tail));
            store_last_block(simd, last, rest, tail);
        }
    }
}

struct Gradient<'a, M> {
    map: &'a M,
    inputs: &'a [f32],
    gradients: &'a mut [f32],
}

impl<M: Map> WithSimd for Gradient<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (inputs, inputs_tail) = S::as_simd_f32s(self.inputs);
        let (gradients, gradients_tail) = S::as_mut_simd_f32s(self.gradients);
        for (gradient, &x) in gradients.iter_mut().zip(inputs) {
            *gradient = simd.mul_f32s(*gradient, self.map.derivative(simd, x));
        }
        let derivative = self.map.derivative(simd, simd.partial_load_f32s(inputs_tail));
        let gradient = simd.partial_load_f32s(gradients_tail);
        simd.partial_store_f32s(gradients_tail, simd.mul_f32s(gradient, derivative));
    }
}
