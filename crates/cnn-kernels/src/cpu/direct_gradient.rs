//! The gradient of a convolution's weights, by the steps of [`direct`](super::direct).
//!
//! Layout. Output rows are taken in portions that stay in the cache. In a portion, tasks first copy the input that some
//! rows need into zero-padded channels-last buffers; then each task adds, for one panel of outputs and one kernel row,
//! the outer products of every pixel's window and its gradients to `[panel][kernel row][tap · channel][BLOCK]`, the
//! layout of the packed weights; with dilation or groups, for one tap. The order of every sum is that of the pixels, whatever the number of threads.

use std::borrow::Cow;
use std::cell::RefCell;

use candle_core::Layout;
use pulp::Simd;
use rayon::prelude::*;

use super::conv::{
    BLOCK, Convolution, InOuterTiles, OUTER_MARGIN, OuterTiled, PORTION_BYTES, TASK_PIXELS,
    add_outer_products, add_tile,
};
use super::direct::{Buffers, channels_of, for_each_weight, pad, padded_row, panels, row, runs};
use crate::geometry::ConvGeometry;
use crate::simd::SimdLevel;

thread_local! {
    /// Kept from call to call, so that nothing is allocated in the steady state.
    static PARTS: RefCell<Vec<Buffers>> = RefCell::default();
}

/// The gradient of the weights, of [`ConvGeometry::weight_shape`]. `gradients` are those of the result,
/// `[N, H', W', outputs]`.
pub(super) fn weight_gradient(
    convolution: &Convolution,
    input: &[f32],
    layout: &Layout,
    gradients: &[f32],
) -> Vec<f32> {
    let geometry = &convolution.geometry;
    let ConvGeometry { groups, stride, .. } = *geometry;
    let panels = groups * panels(geometry);
    let [out_height, out_width] = convolution.output;
    let gradients = whole_panels(geometry, gradients);
    let all = convolution.shape[0] * out_height;
    let rows_per_part = TASK_PIXELS.div_ceil(out_width);
    let sums_len = panels * geometry.kernel[0] * row(geometry) * BLOCK;
    let part_len = (rows_per_part * stride[0] + geometry.span()[0]) * padded_row(convolution)
        + rows_per_part * out_width * geometry.outputs;
    let runs: Vec<_> = (0..groups).map(|group| runs(convolution, group)).collect();
    let (run_len, runs_per_panel) = (runs[0].0, runs[0].1.len());
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
        sums.par_chunks_mut(run_len * BLOCK).enumerate().for_each(|(i, sums)| {
            let panel = i / runs_per_panel;
            let first = runs[panel / (panels / groups)].1[i % runs_per_panel];
            SimdLevel::current().run(InOuterTiles(Multiply { parts, gradients, width, panel, first, sums }));
        });
    }
    PARTS.set(parts);
    unpack(geometry, &sums)
}

/// Rows of the outputs' numbers, with zeros up to whole panels of each group.
fn whole_panels<'g>(geometry: &ConvGeometry, gradients: &'g [f32]) -> Cow<'g, [f32]> {
    let outputs = geometry.outputs;
    if geometry.group_outputs().is_multiple_of(BLOCK) {
        return Cow::Borrowed(gradients);
    }
    let panels = geometry.groups * panels(geometry);
    let mut padded = vec![0.0; gradients.len() / outputs * panels * BLOCK];
    for (padded, row) in padded.chunks_exact_mut(panels * BLOCK).zip(gradients.chunks_exact(outputs)) {
        for (panel, padded) in padded.chunks_exact_mut(BLOCK).enumerate() {
            let channels = channels_of(geometry, panel);
            padded[..channels.len()].copy_from_slice(&row[channels]);
        }
    }
    Cow::Owned(padded)
}

/// Adds the products of some parts, of one panel and one run of taps, to `sums`: `[tap · channel][BLOCK]`.
struct Multiply<'a> {
    parts: &'a [Buffers],
    /// `[pixel][width]`, from the first pixel of the first part on.
    gradients: &'a [f32],
    width: usize,
    panel: usize,
    /// Where the run begins in a window.
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

/// From `[panel][kernel row][tap · channel][BLOCK]` to [`ConvGeometry::weight_shape`].
fn unpack(geometry: &ConvGeometry, sums: &[f32]) -> Vec<f32> {
    let numbers = geometry.kernel[0] * row(geometry);
    let mut kernels = vec![0.0; geometry.outputs * numbers];
    let mut rest = &mut kernels[..];
    let mut pieces = Vec::new();
    for panel in 0..geometry.groups * panels(geometry) {
        let (piece, others) = rest.split_at_mut(channels_of(geometry, panel).len() * numbers);
        pieces.push(piece);
        rest = others;
    }
    pieces.into_par_iter().zip(sums.par_chunks(numbers * BLOCK)).enumerate().for_each(
        |(panel, (piece, sums))| {
            let start = channels_of(geometry, panel).start * numbers;
            for_each_weight(geometry, panel, |w, place| piece[w - start] = sums[place]);
        },
    );
    kernels
}
