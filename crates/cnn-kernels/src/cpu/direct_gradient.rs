//! The gradient of a convolution's weights, by the steps of [`direct`](super::direct).
//!
//! Layout. Output rows are taken in portions that stay in the cache. In a portion, tasks first copy the input that some
//! rows need into zero-padded channels-last buffers; then each task adds, for one panel of outputs and one kernel row,
//! the outer products of every pixel's window and its gradients to `[panel][kernel row][tap · channel][BLOCK]`, the
//! layout of the packed weights. The order of every sum is that of the pixels, whatever the number of threads.

use std::borrow::Cow;
use std::cell::RefCell;

use candle_core::Layout;
use pulp::Simd;
use rayon::prelude::*;

use super::build;
use super::conv::{
    BLOCK, Convolution, Geometry, InOuterTiles, OUTER_MARGIN, OuterTiled, PORTION_BYTES, TASK_PIXELS,
    add_outer_products, add_tile,
};
use super::direct::{Buffers, for_each_weight, pad, row};
use crate::simd::SimdLevel;

thread_local! {
    /// Kept from call to call, so that nothing is allocated in the steady state.
    static PARTS: RefCell<Vec<Buffers>> = RefCell::default();
}

/// The gradient of the weights, `[outputs, inputs, kernel height, kernel width]`. `gradients` are those of the result,
/// `[N, H', W', outputs]`.
pub(super) fn weight_gradient(
    convolution: &Convolution,
    input: &[f32],
    layout: &Layout,
    gradients: &[f32],
) -> Vec<f32> {
    let geometry = &convolution.geometry;
    let Geometry { outputs, kernel, stride, padding, .. } = *geometry;
    let panels = outputs.div_ceil(BLOCK);
    let (out_height, out_width) = convolution.output;
    let gradients = whole_panels(gradients, outputs);
    let all = convolution.shape[0] * out_height;
    let rows_per_part = TASK_PIXELS.div_ceil(out_width);
    let padded_row = (convolution.shape[3] + 2 * padding.1) * geometry.inputs;
    let sums_len = panels * kernel.0 * row(geometry) * BLOCK;
    let part_len = (rows_per_part * stride + kernel.0) * padded_row + rows_per_part * out_width * outputs;
    // Sums are read and written once a portion: it is not to be smaller than they are.
    let portion = (PORTION_BYTES / size_of::<f32>()).max(sums_len).div_ceil(part_len);

    let mut sums = vec![0.0; sums_len];
    let mut parts = PARTS.take();
    parts.resize_with(parts.len().max(portion.min(all.div_ceil(rows_per_part))), Buffers::default);
    for start in (0..all).step_by(portion * rows_per_part) {
        let starts = (start..all).step_by(rows_per_part).take(portion);
        let used = starts.len();
        parts[..used].par_iter_mut().zip(starts.collect::<Vec<_>>()).for_each(|(part, start)| {
            pad(convolution, input, layout, start..(start + rows_per_part).min(all), part);
            part.input.resize(part.input.len() + OUTER_MARGIN, 0.0);
        });
        let parts = &parts[..used];
        let width = panels * BLOCK;
        let gradients = &gradients[start * out_width * width..];
        sums.par_chunks_mut(row(geometry) * BLOCK).enumerate().for_each(|(i, sums)| {
            let (panel, first) = (i / kernel.0, i % kernel.0 * padded_row);
            SimdLevel::current().run(InOuterTiles(Multiply { parts, gradients, width, panel, first, sums }));
        });
    }
    PARTS.set(parts);
    unpack(geometry, &sums)
}

/// Rows of `outputs` numbers, with zeros up to whole panels.
fn whole_panels(gradients: &[f32], outputs: usize) -> Cow<'_, [f32]> {
    if outputs.is_multiple_of(BLOCK) {
        return Cow::Borrowed(gradients);
    }
    let width = outputs.next_multiple_of(BLOCK);
    let mut padded = vec![0.0; gradients.len() / outputs * width];
    for (padded, row) in padded.chunks_exact_mut(width).zip(gradients.chunks_exact(outputs)) {
        padded[..outputs].copy_from_slice(row);
    }
    Cow::Owned(padded)
}

/// Adds the products of some parts, of one panel and one kernel row, to `sums`: `[tap · channel][BLOCK]`.
struct Multiply<'a> {
    parts: &'a [Buffers],
    /// `[pixel][width]`, from the first pixel of the first part on.
    gradients: &'a [f32],
    width: usize,
    panel: usize,
    /// Where the kernel row begins in a window.
    first: usize,
    sums: &'a mut [f32],
}

impl OuterTiled for Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize>(self, simd: S) {
        let Self { parts, gradients, width, panel, first, sums } = self;
        for (i, sums) in sums.chunks_mut(P * BLOCK).enumerate() {
            let tap = first + i * P;
            let mut tile = [[simd.splat_f32s(0.0); R]; P];
            let mut gradients = gradients;
            for part in parts {
                let (own, rest) = gradients.split_at(part.offsets.len() * width);
                gradients = rest;
                let pairs = own.chunks_exact(width).zip(&part.offsets);
                let pairs =
                    pairs.map(|(right, offset)| (&part.input[offset + tap..], &right[panel * BLOCK..]));
                tile = add_outer_products::<S, R, P>(simd, pairs, tile);
            }
            add_tile(simd, &tile, sums);
        }
    }
}

/// From `[panel][kernel row][tap · channel][BLOCK]` to `[outputs, inputs, kernel height, kernel width]`.
fn unpack(geometry: &Geometry, sums: &[f32]) -> Vec<f32> {
    let Geometry { inputs, outputs, kernel, .. } = *geometry;
    let numbers = inputs * kernel.0 * kernel.1;
    let (kernels, _) = build(outputs * numbers, BLOCK * numbers, |start, kernels| {
        let panel = start / (BLOCK * numbers);
        let sums = &sums[panel * numbers * BLOCK..][..numbers * BLOCK];
        for_each_weight(geometry, panel, |w, place| kernels[w - start] = sums[place]);
    });
    kernels
}
