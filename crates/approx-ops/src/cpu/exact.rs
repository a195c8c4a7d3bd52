//! The activation functions of networks, exactly, a few vectors at a time.
//!
//! kernels/functions.cuh has the same arithmetic, operation by operation, but for `tanh` and the error function.

use cnn_kernels::cpu::select;
use minimax_coeffs::ActivationFunction;
use pulp::{Simd, bytemuck};

use super::map::Map;

/// An [`ActivationFunction`] with its parameters in float32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Exact {
    LeakyRelu { slope: f32 },
    Clip { low: f32, high: f32 },
    HardSigmoid { scale: f32, offset: f32 },
    HardSwish,
    Sigmoid,
    Tanh,
    Silu,
    Gelu,
    GeluTanh,
}

/// `√(2/π)`, twice: GELU's approximation is the sigmoid of twice what its `tanh` is of.
const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
/// The coefficient of `x³` in it.
const CUBIC: f32 = 0.044_715;
/// `1 / √(2π)`.
const DENSITY: f32 = 0.398_942_3;

impl Exact {
    pub(crate) fn new(function: ActivationFunction) -> Self {
        match function {
            // A slope of 0 would make NaN of −∞.
            ActivationFunction::Relu => Self::Clip { low: 0.0, high: f32::INFINITY },
            ActivationFunction::LeakyRelu { slope } => Self::LeakyRelu { slope: slope as f32 },
            ActivationFunction::Clip { low, high } => Self::Clip { low: low as f32, high: high as f32 },
            ActivationFunction::HardSigmoid { scale, offset } => {
                Self::HardSigmoid { scale: scale as f32, offset: offset as f32 }
            }
            ActivationFunction::HardSwish => Self::HardSwish,
            ActivationFunction::Sigmoid => Self::Sigmoid,
            ActivationFunction::Tanh => Self::Tanh,
            ActivationFunction::Silu => Self::Silu,
            ActivationFunction::Gelu => Self::Gelu,
            ActivationFunction::GeluTanh => Self::GeluTanh,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Clip { .. } => "clip",
            Self::HardSigmoid { .. } => "hard_sigmoid",
            Self::HardSwish => "hard_swish",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
        }
    }
}

impl Map for Exact {
    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, x: [S::f32s; N]) -> [S::f32s; N] {
        let mut y = x;
        match *self {
            Self::LeakyRelu { slope } => {
                let slope = simd.splat_f32s(slope);
                for y in &mut y {
                    let is_positive = simd.greater_than_f32s(*y, simd.splat_f32s(0.0));
                    *y = select(simd, is_positive, *y, simd.mul_f32s(slope, *y));
                }
            }
            Self::Clip { low, high } => {
                for y in &mut y {
                    *y = clip(simd, *y, low, high);
                }
            }
            Self::HardSigmoid { scale, offset } => {
                for y in &mut y {
                    *y = hard_sigmoid(simd, *y, scale, offset);
                }
            }
            Self::HardSwish => {
                for y in &mut y {
                    *y = simd.mul_f32s(*y, hard_sigmoid(simd, *y, 1.0 / 6.0, 0.5));
                }
            }
            Self::Sigmoid => {
                for y in &mut y {
                    *y = sigmoid(simd, *y).0;
                }
            }
            Self::Silu => {
                for y in &mut y {
                    *y = simd.mul_f32s(*y, sigmoid(simd, *y).0);
                }
            }
            Self::GeluTanh => {
                for y in &mut y {
                    *y = simd.mul_f32s(*y, sigmoid(simd, inner(simd, *y)).0);
                }
            }
            Self::Tanh => one_by_one(bytemuck::cast_slice_mut(&mut y), f32::tanh),
            Self::Gelu => one_by_one(bytemuck::cast_slice_mut(&mut y), |x| x * normal(x)),
        }
        y
    }

    #[inline(always)]
    fn derivative<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let splat = |x| simd.splat_f32s(x);
        let (zero, one) = (splat(0.0), splat(1.0));
        match *self {
            Self::LeakyRelu { slope } => select(simd, simd.greater_than_f32s(x, zero), one, splat(slope)),
            Self::Clip { low, high } => between(simd, x, low, high, one),
            Self::HardSigmoid { scale, offset } => {
                let y = simd.mul_add_e_f32s(x, splat(scale), splat(offset));
                between(simd, y, 0.0, 1.0, splat(scale))
            }
            Self::HardSwish => {
                let right = select(simd, simd.less_than_f32s(x, splat(3.0)), zero, one);
                let slope = simd.mul_add_e_f32s(x, splat(1.0 / 3.0), splat(0.5));
                let inside = between(simd, x, -3.0, 3.0, one);
                simd.mul_add_e_f32s(inside, slope, right)
            }
            Self::Sigmoid => sigmoid(simd, x).1,
            Self::Tanh => {
                let slope = sigmoid(simd, simd.add_f32s(x, x)).1;
                simd.mul_f32s(splat(4.0), slope)
            }
            Self::Silu => {
                let x = clip(simd, x, -100.0, 100.0);
                let (value, slope) = sigmoid(simd, x);
                simd.mul_add_e_f32s(x, slope, value)
            }
            Self::GeluTanh => {
                let x = clip(simd, x, -100.0, 100.0);
                let (value, slope) = sigmoid(simd, inner(simd, x));
                let cubic = simd.mul_f32s(splat(3.0 * CUBIC), simd.mul_f32s(x, x));
                let d_inner = simd.mul_f32s(splat(TWICE_SQRT_2_OVER_PI), simd.add_f32s(cubic, one));
                simd.mul_add_e_f32s(simd.mul_f32s(x, d_inner), slope, value)
            }
            Self::Gelu => {
                let mut y = [x];
                one_by_one(bytemuck::cast_slice_mut(&mut y), |x| {
                    normal(x) + x * (DENSITY * (-0.5 * x * x).exp())
                });
                y[0]
            }
        }
    }
}

/// `f` of each number, without vectors.
#[inline(always)]
fn one_by_one(values: &mut [f32], f: impl Fn(f32) -> f32) {
    for value in values {
        *value = f(*value);
    }
}

/// The distribution function of the normal distribution.
fn normal(x: f32) -> f32 {
    0.5 * libm::erfcf(-x * std::f32::consts::FRAC_1_SQRT_2)
}

/// `min(max(x, low), high)`; NaN stays.
#[inline(always)]
fn clip<S: Simd>(simd: S, x: S::f32s, low: f32, high: f32) -> S::f32s {
    let (low, high) = (simd.splat_f32s(low), simd.splat_f32s(high));
    let x = select(simd, simd.less_than_f32s(x, low), low, x);
    select(simd, simd.greater_than_f32s(x, high), high, x)
}

#[inline(always)]
fn hard_sigmoid<S: Simd>(simd: S, x: S::f32s, scale: f32, offset: f32) -> S::f32s {
    let y = simd.mul_add_e_f32s(x, simd.splat_f32s(scale), simd.splat_f32s(offset));
    clip(simd, y, 0.0, 1.0)
}

/// `slope` where `low < x < high`, else 0.
#[inline(always)]
fn between<S: Simd>(simd: S, x: S::f32s, low: f32, high: f32, slope: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    let slope = select(simd, simd.less_than_f32s(simd.splat_f32s(low), x), slope, zero);
    select(simd, simd.less_than_f32s(x, simd.splat_f32s(high)), slope, zero)
}

/// What GELU's approximation takes the sigmoid of.
#[inline(always)]
fn inner<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let cubic = simd.mul_f32s(simd.splat_f32s(CUBIC), simd.mul_f32s(x, x));
    let factor = simd.add_f32s(cubic, simd.splat_f32s(1.0));
    simd.mul_f32s(simd.mul_f32s(simd.splat_f32s(TWICE_SQRT_2_OVER_PI), x), factor)
}

/// `1 / (1 + exp(−x))` and its derivative.
///
/// # Accuracy
/// Within 4 units of the last place, or 1e-38.
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let e = decay(simd, x);
    let s = simd.div_f32s(one, simd.add_f32s(one, e));
    let small = simd.mul_f32s(e, s);
    (select(simd, simd.less_than_f32s(x, zero), small, s), simd.mul_f32s(small, s))
}

/// `exp(−|x|)`; 0 for `|x| > 87`.
///
/// `−|x| = n ln 2 + r`, and `exp(r)` by its Taylor polynomial of degree 7, which is off by 5e-9 for `|r| ≤ ln(2)/2`.
#[inline(always)]
fn decay<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Adding it rounds to an integer, which is then in the lowest bits.
    const MAGIC: f32 = 12_582_912.0;
    /// ln 2 in two parts; products of the first one with integers are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const TAYLOR: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let splat = |x| simd.splat_f32s(x);
    let y = simd.neg_f32s(simd.abs_f32s(x));
    let shifted = simd.mul_add_e_f32s(y, splat(std::f32::consts::LOG2_E), splat(MAGIC));
    let n = simd.sub_f32s(shifted, splat(MAGIC));
    let r = simd.mul_add_e_f32s(n, splat(-LN_2[0]), y);
    let r = simd.mul_add_e_f32s(n, splat(-LN_2[1]), r);
    let mut sum = splat(1.0 / 5040.0);
    for c in TAYLOR {
        sum = simd.mul_add_e_f32s(sum, r, splat(c));
    }
    // 2^n: the exponent's bits are the lowest ones of n + 127, moved to their place.
    let exponent = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    let power = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23)));
    select(simd, simd.less_than_f32s(y, splat(-87.0)), splat(0.0), simd.mul_f32s(sum, power))
}
