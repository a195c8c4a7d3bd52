//! The ops as plain float64 loops, written as the paper defines them: slow, and the truth for tests.

use minimax_coeffs::{Alpha, CompositeSign};

use crate::max_pool::PoolSpec;

/// Max-pooling of one `height × width` image by the tournament of `max_alpha`, padded with zeros
/// (arXiv 2105.10879, section IV): each value `x` becomes `c·x + 1/2` with `c = (1 − 4·2^-alpha) / (2B)` for a
/// 2×2 window and `(1 − 6·2^-alpha) / (2B)` for 3×3, and the winner `r` becomes `(r − 1/2) / c`.
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
/// maxima are each off by up to `epsilon`.
pub(crate) fn scale(epsilon: f64, bound: f64, spec: &PoolSpec) -> f64 {
    let room = if spec.kernel() == 2 { 4.0 } else { 6.0 };
    (1.0 - room * epsilon) / (2.0 * bound)
}

/// Pairs off 4 or 9 values in row-major order.
pub(crate) fn tournament(x: &[f64], max: &mut impl FnMut(f64, f64) -> f64) -> f64 {
    match x {
        [a, b, c, d] => {
            let (first, second) = (max(*a, *b), max(*c, *d));
            max(first, second)
        }
        [first @ .., last] if first.len() == 8 => {
            let (left, right) = (tournament(&first[..4], max), tournament(&first[4..], max));
            let best = max(left, right);
            max(best, *last)
        }
        _ => panic!("windows have 4 or 9 values, not {}", x.len()),
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
    let at = |y: usize, x: usize| {
        let (y, x) = (y.checked_sub(spec.padding()), x.checked_sub(spec.padding()));
        match (y, x) {
            (Some(y), Some(x)) if y < height && x < width => image[y * width + x],
            _ => padding_value,
        }
    };
    let mut result = Vec::with_capacity(out_height * out_width);
    for out_y in 0..out_height {
        for out_x in 0..out_width {
            let window: Vec<f64> = (0..spec.kernel() * spec.kernel())
                .map(|k| {
                    at(out_y * spec.stride() + k / spec.kernel(), out_x * spec.stride() + k % spec.kernel())
                })
                .collect();
            result.push(reduce(&window));
        }
    }
    result
}
