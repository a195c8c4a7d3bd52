//! The ops as plain float64 loops, written as the paper defines them: slow, and the truth for tests.

use cnn_kernels::PoolSpec;
use minimax_coeffs::{Alpha, CompositeSign};

/// Max-pooling of one `height × width` image by the tournament of `max_alpha`, padded with zeros
/// (arXiv 2105.10879, section IV): each value `x` becomes `c·x + 1/2` with `c = (1 − 4·2^-alpha) / (2B)` for a
/// 2×2 window, `(1 − 6·2^-alpha) / (2B)` for 3×3 and `(1 − 2r·2^-alpha) / (2B)` for others of `r` rounds, and the winner `y`
/// becomes `(y − 1/2) / c`.
///
/// # Panics
/// If `image` does not have `height · width` values, or holds no window.
pub fn max_pool(
    alpha: Alpha,
    bound: f64,
    spec: &PoolSpec,
    image: &[f64],
    height: usize,
    width: usize,
) -> Vec<f64> {
    let sign = CompositeSign::published(alpha);
    let c = scale(alpha.epsilon(), bound, spec);
    pool(spec, image, height, width, 0.0, |window| {
        let scaled: Vec<f64> = window.iter().map(|x| c * x + 0.5).collect();
        (tournament(&scaled, &mut |a, b| sign.max(a, b)) - 0.5) / c
    })
}

/// Exact max-pooling of one image; padding never wins.
///
/// # Panics
/// As [`max_pool`].
pub fn exact_max_pool(spec: &PoolSpec, image: &[f64], height: usize, width: usize) -> Vec<f64> {
    pool(spec, image, height, width, f64::NEG_INFINITY, |window| {
        window.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    })
}

/// The factor `c` that brings `[-bound, bound]` into `[0, 1]` with room for the errors of the tournament, whose
/// maxima are each off by up to `epsilon` ([`MinimaxMaxPool`](crate::MinimaxMaxPool) says why).
pub(crate) fn scale(epsilon: f64, bound: f64, spec: &PoolSpec) -> f64 {
    let rounds = match spec.kernel() {
        [3, 3] => 3,
        _ => spec.signs().0,
    };
    (1.0 - 2.0 * f64::from(rounds) * epsilon) / (2.0 * bound)
}

/// Round after round, neighbours play each other, and an odd last one goes on: the first `2^k` values play among
/// themselves until one of them is left, where `2^k` is the largest power of two below their number, and so do the others.
pub(crate) fn tournament(x: &[f64], max: &mut impl FnMut(f64, f64) -> f64) -> f64 {
    match x {
        [x] => *x,
        _ => {
            let (first, others) = x.split_at(x.len().next_power_of_two() / 2);
            let (first, other) = (tournament(first, max), tournament(others, max));
            max(first, other)
        }
    }
}

/// The windows of an image, each reduced to a number.
pub(crate) fn pool(
    spec: &PoolSpec,
    image: &[f64],
    height: usize,
    width: usize,
    padding_value: f64,
    mut reduce: impl FnMut(&[f64]) -> f64,
) -> Vec<f64> {
    assert_eq!(image.len(), height * width);
    let (out_height, out_width) = spec.output_size(height, width).expect("a window fits");
    let ([rows, columns], [step_y, step_x], padding) = (spec.kernel(), spec.stride(), spec.padding());
    let at = |y: usize, x: usize| {
        let (y, x) = (y.checked_sub(padding.top), x.checked_sub(padding.left));
        match (y, x) {
            (Some(y), Some(x)) if y < height && x < width => image[y * width + x],
            _ => padding_value,
        }
    };
    let mut result = Vec::with_capacity(out_height * out_width);
    for out_y in 0..out_height {
        for out_x in 0..out_width {
            let window: Vec<f64> = (0..rows * columns)
                .map(|k| at(out_y * step_y + k / columns, out_x * step_x + k % columns))
                .collect();
            result.push(reduce(&window));
        }
    }
    result
}
