//! Depthwise convolution: each channel is convolved by itself.
//!
//! Layout. Input and result are channels-last, so that neighbouring channels fill a vector; a task copies the input rows it
//! needs into a zero-padded buffer, as in [`direct`](super::direct). A register tile is `P` pixels × [`BLOCK`] channels:
//! for each tap, a row of the panel is multiplied with the pixels under it. Weights are `[panel][tap][BLOCK]`.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use candle_core::Layout;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::conv::{BLOCK, Convolution, InTiles, PORTION_BYTES, TASK_PIXELS, Tiled};
use super::direct::{Buffers, load, pad, padded_row, run_tasks, store};
use crate::geometry::ConvGeometry;
use crate::range::RangeStats;
use crate::simd::SimdLevel;

/// `weight`: `[channels, 1, kernel height, kernel width]`, contiguous.
pub(super) fn pack(geometry: &ConvGeometry, weight: &[f32]) -> Vec<f32> {
    let taps = geometry.kernel[0] * geometry.kernel[1];
    let mut packed = vec![0.0; geometry.outputs.div_ceil(BLOCK) * taps * BLOCK];
    for (channel, kernel) in weight.chunks_exact(taps).enumerate() {
        let (panel, lane) = (channel / BLOCK, channel % BLOCK);
        for (tap, &w) in kernel.iter().enumerate() {
            packed[(panel * taps + tap) * BLOCK + lane] = w;
        }
    }
    packed
}

/// Where each tap is in a window.
fn taps(convolution: &Convolution) -> Vec<usize> {
    let ConvGeometry { inputs, kernel: [rows, columns], dilation, .. } = convolution.geometry;
    let padded_row = padded_row(convolution);
    let place = |y: usize, x: usize| y * dilation[0] * padded_row + x * dilation[1] * inputs;
    (0..rows).flat_map(|y| (0..columns).map(move |x| place(y, x))).collect()
}

/// Computes the whole result; gives the range of the epilogue's inputs.
pub(super) fn run(
    convolution: &Convolution,
    input: &[f32],
    layout: &Layout,
    result: &mut [MaybeUninit<f32>],
) -> RangeStats {
    let taps = taps(convolution);
    run_tasks(convolution, input, layout, result, |buffers, result| {
        // Whole vectors are read behind the last channel, too.
        buffers.input.resize(buffers.input.len() + BLOCK, 0.0);
        SimdLevel::current().run(InTiles(Task { convolution, taps: &taps, buffers, result }));
    })
}

struct Task<'a, 'b> {
    convolution: &'a Convolution<'a>,
    taps: &'a [usize],
    buffers: &'b Buffers,
    result: &'b mut [f32],
}

impl Tiled for Task<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize>(self, simd: S) {
        let Self { convolution: &Convolution { geometry, weights, bias, .. }, taps, buffers, result } = self;
        let channels = geometry.outputs;
        for (panel, weights) in weights.chunks_exact(taps.len() * BLOCK).enumerate() {
            let own = panel * BLOCK..((panel + 1) * BLOCK).min(channels);
            let weights = S::as_simd_f32s(weights).0.as_chunks::<R>().0;
            let bias: [S::f32s; R] = load(simd, &bias[own.clone()]);
            for (tile, offsets) in buffers.offsets.chunks(P).enumerate() {
                let mut windows: [&[f32]; P] = [&[]; P];
                for (p, window) in windows.iter_mut().enumerate() {
                    // The last tile may be short: it computes its last pixel more than once.
                    *window = &buffers.input[offsets[p.min(offsets.len() - 1)] + own.start..];
                }
                let mut sums = [bias; P];
                for (weights, &tap) in weights.iter().zip(taps) {
                    for p in 0..P {
                        let pixel = S::as_simd_f32s(&windows[p][tap..tap + BLOCK]).0;
                        for r in 0..R {
                            sums[p][r] = simd.mul_add_e_f32s(pixel[r], weights[r], sums[p][r]);
                        }
                    }
                }
                for (p, sums) in sums.into_iter().take(offsets.len()).enumerate() {
                    let pixel = (tile * P + p) * channels;
                    store(simd, &mut result[pixel + own.start..pixel + own.end], sums);
                }
            }
        }
    }
}

thread_local! {
    /// Kept from call to call, so that nothing is allocated in the steady state.
    static PARTS: RefCell<Vec<Buffers>> = RefCell::default();
}

/// The gradient of the weights, `[channels, 1, kernel height, kernel width]`, in portions as
/// [`direct_gradient`](super::direct_gradient). `gradients` are those of the result, `[N, H', W', channels]`. The order of
/// every sum is that of the pixels, whatever the number of threads.
pub(super) fn weight_gradient(
    convolution: &Convolution,
    input: &[f32],
    layout: &Layout,
    gradients: &[f32],
) -> Vec<f32> {
    let geometry = &convolution.geometry;
    let (channels, taps) = (geometry.outputs, taps(convolution));
    let [out_height, out_width] = convolution.output;
    let all = convolution.shape[0] * out_height;
    let rows_per_part = TASK_PIXELS.div_ceil(out_width);
    let part_len = (rows_per_part * geometry.stride[0] + geometry.span()[0]) * padded_row(convolution);
    let portion = (PORTION_BYTES / size_of::<f32>()).div_ceil(part_len);
    let mut sums = vec![0.0; channels.div_ceil(BLOCK) * taps.len() * BLOCK];
    let mut parts = PARTS.take();
    parts.resize_with(parts.len().max(portion.min(all.div_ceil(rows_per_part))), Buffers::default);
    for start in (0..all).step_by(portion * rows_per_part) {
        let starts: Vec<usize> = (start..all).step_by(rows_per_part).take(portion).collect();
        let parts = &mut parts[..starts.len()];
        parts.par_iter_mut().zip(starts).for_each(|(part, start)| {
            pad(convolution, input, layout, start..(start + rows_per_part).min(all), part);
            part.input.resize(part.input.len() + BLOCK, 0.0);
        });
        let (parts, gradients) = (&*parts, &gradients[start * out_width * channels..]);
        sums.par_chunks_mut(taps.len() * BLOCK).enumerate().for_each(|(panel, sums)| {
            let first = panel * BLOCK;
            let task = Products { parts, gradients, taps: &taps, first, channels, sums };
            SimdLevel::current().run(task);
        });
    }
    PARTS.set(parts);
    let place = |i: usize| {
        let (channel, tap) = (i / taps.len(), i % taps.len());
        sums[(channel / BLOCK * taps.len() + tap) * BLOCK + channel % BLOCK]
    };
    (0..channels * taps.len()).map(place).collect()
}

/// Adds the products of all pixels of some parts, of the channels of one panel, to `sums`: `[tap][BLOCK]`.
struct Products<'a> {
    parts: &'a [Buffers],
    gradients: &'a [f32],
    taps: &'a [usize],
    first: usize,
    channels: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Plain loops: inlined here, they are compiled for these vector instructions.
        let Self { parts, gradients, taps, first, channels, sums } = self;
        let own = BLOCK.min(channels - first);
        let mut rows = gradients.chunks_exact(channels);
        let mut gradient = [0.0; BLOCK];
        for part in parts {
            for (offset, row) in part.offsets.iter().zip(&mut rows) {
                gradient[..own].copy_from_slice(&row[first..first + own]);
                for (sums, tap) in sums.as_chunks_mut::<BLOCK>().0.iter_mut().zip(taps) {
                    let pixel: &[f32; BLOCK] = part.input[offset + tap + first..]
                        .first_chunk()
                        .expect("there is a margin behind the last pixel");
                    for ((sum, x), g) in sums.iter_mut().zip(pixel).zip(&gradient) {
                        *sum += x * g;
                    }
                }
            }
        }
    }
}
