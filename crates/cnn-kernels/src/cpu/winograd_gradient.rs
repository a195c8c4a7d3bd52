//! The gradient of the weights of a 3×3 convolution with stride 1, by the transposed steps of [`winograd`].
//!
//! The forward pass is `Aᵀ [Σ (G g Gᵀ) ⊙ (Bᵀ d B)] A` for each tile, so the gradient of a kernel `g` is
//! `Gᵀ [Σ over tiles (Bᵀ d B) ⊙ (A e Aᵀ)] G`, where `e` are the 4×4 gradients of an output tile. For each of the 36
//! places, the sum over tiles is a matrix product of channels × tiles and tiles × outputs.
//!
//! Layout. Tiles are taken in portions that stay in the cache. In a portion, tasks first transform some rows of tiles
//! each ([`Part`]); then each task adds, for one place and one panel of outputs, the products of all these tiles to
//! `[36][panel][channel][BLOCK]`, the layout of the packed weights. The order of every sum is that of the tiles,
//! whatever the number of threads.

use std::array::from_fn;
use std::cell::RefCell;
use std::ops::Range;

use candle_core::Layout;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::conv::{
    BLOCK, Convolution, InOuterTiles, OUTER_MARGIN, OuterTiled, PORTION_BYTES, TASK_PIXELS,
    add_outer_products, add_tile,
};
use super::winograd::{
    Images, KERNEL, PLACES, TILE, Transform, WINDOW, at_least, tile_grid, transform_input,
};
use super::{build, dense};
use crate::geometry::ConvGeometry;
use crate::simd::SimdLevel;

/// Transformed rows of tiles.
#[derive(Default)]
struct Part {
    count: usize,
    /// `[36][count][channel]`, and a margin.
    inputs: Vec<f32>,
    /// `[36][count][output, rounded up to a panel]`.
    gradients: Vec<f32>,
}

thread_local! {
    /// Kept from call to call, so that nothing is allocated in the steady state.
    static PARTS: RefCell<Vec<Part>> = RefCell::default();
}

/// The gradient of the weights, `[outputs, inputs, 3, 3]`. `gradients` are those of the result, `[N, H', W', outputs]`.
pub(super) fn weight_gradient(
    convolution: &Convolution,
    input: &[f32],
    layout: &Layout,
    gradients: &[f32],
) -> Vec<f32> {
    let channels_last = layout.permute(&[0, 2, 3, 1]).expect("the input has four dimensions");
    let input = &*dense(input, &channels_last);
    let ConvGeometry { inputs, outputs, .. } = convolution.geometry;
    let panels = outputs.div_ceil(BLOCK);
    let (grid_height, grid_width) = tile_grid(convolution.output);
    let all = convolution.shape[0] * grid_height;
    let rows_per_part = TASK_PIXELS.div_ceil(grid_width);
    let sums_len = PLACES * panels * inputs * BLOCK;
    let part_len = PLACES * rows_per_part * grid_width * (inputs + panels * BLOCK);
    // Sums are read and written once a portion: it is not to be smaller than they are.
    let portion = (PORTION_BYTES / size_of::<f32>()).max(sums_len).div_ceil(part_len);

    let mut sums = vec![0.0; sums_len];
    let mut parts = PARTS.take();
    parts.resize_with(parts.len().max(portion.min(all.div_ceil(rows_per_part))), Part::default);
    for start in (0..all).step_by(portion * rows_per_part) {
        let starts = (start..all).step_by(rows_per_part).take(portion);
        let used = starts.len();
        parts[..used].par_iter_mut().zip(starts.collect::<Vec<_>>()).for_each(|(part, start)| {
            let rows = start..(start + rows_per_part).min(all);
            SimdLevel::current().run(TransformPart { convolution, input, gradients, rows, part });
        });
        let parts = &parts[..used];
        sums.par_chunks_mut(inputs * BLOCK).enumerate().for_each(|(i, sums)| {
            let task = Multiply { parts, place: i / panels, panel: i % panels, inputs, panels, sums };
            SimdLevel::current().run(InOuterTiles(task));
        });
    }
    PARTS.set(parts);
    unpack(&convolution.geometry, &sums)
}

/// Fills a part.
struct TransformPart<'a> {
    convolution: &'a Convolution<'a>,
    input: &'a [f32],
    gradients: &'a [f32],
    rows: Range<usize>,
    part: &'a mut Part,
}

impl WithSimd for TransformPart<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { convolution, input, gradients, rows, part } = self;
        let ConvGeometry { inputs, outputs, .. } = convolution.geometry;
        let width = outputs.next_multiple_of(BLOCK);
        part.count = rows.len() * tile_grid(convolution.output).1;
        let tiles = at_least(&mut part.inputs, PLACES * part.count * inputs + OUTER_MARGIN);
        transform_input(simd, convolution, input, rows.clone(), part.count, tiles);
        let tiles = at_least(&mut part.gradients, PLACES * part.count * width);
        transform_gradients(simd, convolution, gradients, rows, part.count, tiles);
    }
}

/// `A e Aᵀ` of the tiles of some rows of tiles, of `gradients`: `[N, H', W', outputs]`, into `tiles`:
/// `[36][count][outputs, rounded up to a panel]`.
#[inline(always)]
fn transform_gradients<S: Simd>(
    simd: S,
    convolution: &Convolution,
    gradients: &[f32],
    rows: Range<usize>,
    count: usize,
    tiles: &mut [f32],
) {
    let channels = convolution.geometry.outputs;
    let [height, width] = convolution.output;
    let images = Images { values: gradients, height, width, channels, padding: (0, 0) };
    let (grid, stride) = (tile_grid(convolution.output), channels.next_multiple_of(BLOCK));
    images.transform::<S, OfGradient, TILE>(simd, grid, rows, count, stride, tiles);
}

/// `A e`.
struct OfGradient;

impl Transform<TILE> for OfGradient {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, e: [S::f32s; TILE]) -> [S::f32s; WINDOW] {
        let [two, four] = [simd.splat_f32s(2.0), simd.splat_f32s(4.0)];
        let (near_even, near_odd) = (simd.add_f32s(e[0], e[2]), simd.add_f32s(e[1], e[3]));
        let far_even = simd.mul_add_e_f32s(four, e[2], e[0]);
        let far_odd = simd.mul_f32s(two, simd.mul_add_e_f32s(four, e[3], e[1]));
        [
            e[0],
            simd.add_f32s(near_even, near_odd),
            simd.sub_f32s(near_even, near_odd),
            simd.add_f32s(far_even, far_odd),
            simd.sub_f32s(far_even, far_odd),
            e[3],
        ]
    }
}

/// Adds the products of some parts, of one place and one panel, to `sums`: `[channel][BLOCK]`.
struct Multiply<'a> {
    parts: &'a [Part],
    place: usize,
    panel: usize,
    inputs: usize,
    panels: usize,
    sums: &'a mut [f32],
}

impl OuterTiled for Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize>(self, simd: S) {
        let Self { parts, place, panel, inputs, panels, sums } = self;
        let width = panels * BLOCK;
        for (i, sums) in sums.chunks_mut(P * BLOCK).enumerate() {
            let channel = i * P;
            let mut tile = [[simd.splat_f32s(0.0); R]; P];
            for part in parts {
                let left = &part.inputs[place * part.count * inputs..];
                let right = &part.gradients[place * part.count * width..][..part.count * width];
                let pairs = right.chunks_exact(width).enumerate();
                let pairs = pairs.map(|(k, right)| (&left[k * inputs + channel..], &right[panel * BLOCK..]));
                tile = add_outer_products::<S, R, P>(simd, pairs, tile);
            }
            add_tile(simd, &tile, sums);
        }
    }
}

/// `Gᵀ s G` for each kernel, `[outputs, inputs, 3, 3]`.
fn unpack(geometry: &ConvGeometry, sums: &[f32]) -> Vec<f32> {
    let ConvGeometry { inputs, outputs, .. } = *geometry;
    let panels = outputs.div_ceil(BLOCK);
    let factors =
        from_fn(|place| from_fn(|k| (KERNEL[place / WINDOW][k / 3] * KERNEL[place % WINDOW][k % 3]) as f32));
    let (kernels, _) = build(outputs * inputs * 9, BLOCK * inputs * 9, |start, kernels| {
        let panel = start / (BLOCK * inputs * 9);
        let task = Unpack { factors: &factors, sums, inputs, panel, panels, kernels };
        SimdLevel::current().run(task);
    });
    kernels
}

/// The kernels of one panel of outputs.
struct Unpack<'a> {
    factors: &'a [[f32; 9]; PLACES],
    sums: &'a [f32],
    inputs: usize,
    panel: usize,
    panels: usize,
    kernels: &'a mut [f32],
}

impl WithSimd for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Plain loops: inlined here, they are compiled for these vector instructions.
        let Self { factors, sums, inputs, panel, panels, kernels } = self;
        for input in 0..inputs {
            let mut lanes = [[0.0; BLOCK]; 9];
            for (place, factors) in factors.iter().enumerate() {
                let start = ((place * panels + panel) * inputs + input) * BLOCK;
                let sums: &[f32; BLOCK] = sums[start..].first_chunk().expect("sums are whole panels");
                for (lanes, factor) in lanes.iter_mut().zip(factors) {
                    for (lane, sum) in lanes.iter_mut().zip(sums) {
                        *lane += sum * factor;
                    }
                }
            }
            for (lane, kernels) in kernels.chunks_exact_mut(inputs * 9).enumerate() {
                for (kernel, lanes) in kernels[input * 9..][..9].iter_mut().zip(&lanes) {
                    *kernel = lanes[lane];
                }
            }
        }
    }
}
