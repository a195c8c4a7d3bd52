//! 3×3 convolution with stride 1 by Winograd's minimal filtering F(4×4, 3×3) (Lavin and Gray, arXiv 1509.09308,
//! section 4): a quarter of the multiplications of the direct form.
//!
//! An output tile of 4×4 pixels is `Aᵀ [Σ over channels (G g Gᵀ) ⊙ (Bᵀ d B)] A`, where `d` are the 6×6 input pixels
//! that it depends on and `g` is the kernel. For each of the 36 places of a transformed tile, the sum over channels
//! is a matrix product of tiles × channels and channels × outputs.
//!
//! Layout. Input and output are channels-last. A task takes some rows of tiles, and so some whole rows of the
//! output, and goes through three steps, whose results stay in its core's cache:
//!
//! 1. `tiles`: `[36][tile][channel]`, the transformed input, zero beyond the image;
//! 2. `sums`: `[36][tile][output, rounded up to a panel]`, by the inner loop of the direct convolution;
//! 3. the result, transformed back, with bias.
//!
//! Weights are transformed in float64 and packed once: `[36][panel][channel][BLOCK]`.

use std::array::from_fn;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use candle_core::Layout;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::conv::{BLOCK, Convolution, InTiles, TASK_PIXELS, Tiled, multiply_add};
use super::{dense, zeroed};
use crate::geometry::ConvGeometry;
use crate::range::RangeStats;
use crate::simd::SimdLevel;

/// Height and width of an output tile.
pub(super) const TILE: usize = 4;
/// Height and width of the input that a tile depends on.
pub(super) const WINDOW: usize = TILE + 2;
/// Numbers in a transformed tile.
pub(super) const PLACES: usize = WINDOW * WINDOW;

/// `G`: from a kernel's row of 3 to 6 numbers, for the interpolation points 0, 1, −1, 2, −2 and ∞.
pub(super) const KERNEL: [[f64; 3]; WINDOW] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Whether this form is for a convolution: with fewer channels, the transforms cost more than they save.
pub(super) fn suits(geometry: &ConvGeometry) -> bool {
    let ConvGeometry { inputs, outputs, kernel, stride, dilation, groups, .. } = *geometry;
    let is_plain = kernel == [3, 3] && stride == [1, 1] && dilation == [1, 1] && groups == 1;
    is_plain && inputs >= BLOCK && outputs >= BLOCK
}

/// `weight`: `[outputs, inputs, 3, 3]`, contiguous.
pub(super) fn pack(geometry: &ConvGeometry, weight: &[f32]) -> Vec<f32> {
    let ConvGeometry { inputs, outputs, .. } = *geometry;
    let panels = outputs.div_ceil(BLOCK);
    // The kernels of a panel's outputs side by side, so that they are transformed together.
    let mut kernels = vec![[[0.0; BLOCK]; 9]; panels * inputs];
    let of_panels = weight.par_chunks(BLOCK * inputs * 9);
    kernels.par_chunks_mut(inputs).zip(of_panels).for_each(|(kernels, weight)| {
        for (lane, weight) in weight.chunks_exact(inputs * 9).enumerate() {
            for (lanes, kernel) in kernels.iter_mut().zip(weight.as_chunks::<9>().0) {
                for (lanes, &w) in lanes.iter_mut().zip(kernel) {
                    lanes[lane] = w;
                }
            }
        }
    });
    let mut packed = vec![0.0; PLACES * panels * inputs * BLOCK];
    packed.par_chunks_mut(inputs * BLOCK).enumerate().for_each(|(i, packed)| {
        let (place, panel) = (i / panels, i % panels);
        let (row, column) = (KERNEL[place / WINDOW], KERNEL[place % WINDOW]);
        let factors = from_fn(|k| row[k / 3] * column[k % 3]);
        let kernels = &kernels[panel * inputs..(panel + 1) * inputs];
        SimdLevel::current().run(TransformKernels { factors, kernels, packed });
    });
    packed
}

/// One place of the transformed kernels of a panel: `[input][BLOCK]`.
struct TransformKernels<'a> {
    factors: [f64; 9],
    kernels: &'a [[[f32; BLOCK]; 9]],
    packed: &'a mut [f32],
}

impl WithSimd for TransformKernels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Plain loops: inlined here, they are compiled for these vector instructions.
        for (packed, kernel) in self.packed.as_chunks_mut::<BLOCK>().0.iter_mut().zip(self.kernels) {
            let mut sums = [0.0; BLOCK];
            for (weights, factor) in kernel.iter().zip(self.factors) {
                for (sum, &w) in sums.iter_mut().zip(weights) {
                    *sum += f64::from(w) * factor;
                }
            }
            for (packed, sum) in packed.iter_mut().zip(sums) {
                *packed = sum as f32;
            }
        }
    }
}

/// Computes the whole result; gives the range of the epilogue's inputs.
pub(super) fn run(
    convolution: &Convolution,
    input: &[f32],
    layout: &Layout,
    result: &mut [MaybeUninit<f32>],
) -> RangeStats {
    let channels_last = layout.permute(&[0, 2, 3, 1]).expect("the input has four dimensions");
    let input = &*dense(input, &channels_last);
    let tasks = tasks(convolution, result);
    tasks
        .into_par_iter()
        .map(|Share { rows, first, result }| {
            let result = zeroed(result);
            BUFFERS.with_borrow_mut(|buffers| {
                let result = &mut *result;
                let task = Task { convolution, input, rows, result, buffers };
                SimdLevel::current().run(InTiles(task));
            });
            convolution.finish(first, result)
        })
        .reduce(RangeStats::default, RangeStats::merge)
}

/// Rows and columns of tiles of an image.
pub(super) fn tile_grid([out_height, out_width]: [usize; 2]) -> (usize, usize) {
    (out_height.div_ceil(TILE), out_width.div_ceil(TILE))
}

/// What a task is to compute.
struct Share<'r> {
    /// Rows of tiles, counted over all images.
    rows: Range<usize>,
    /// Which number of the whole result is the first of `result`.
    first: usize,
    /// The rows of the output that these tiles are.
    result: &'r mut [MaybeUninit<f32>],
}

/// Cuts the result into the shares of tasks.
fn tasks<'r>(convolution: &Convolution, result: &'r mut [MaybeUninit<f32>]) -> Vec<Share<'r>> {
    let [images, ..] = convolution.shape;
    let [out_height, out_width] = convolution.output;
    let (grid_height, grid_width) = tile_grid(convolution.output);
    let row = out_width * convolution.geometry.outputs;
    let all = images * grid_height;
    // A tile is a row of the matrix product, as a pixel is in the direct form. Every thread needs a task.
    let fair = all.div_ceil(rayon::current_num_threads());
    let rows_per_task = TASK_PIXELS.div_ceil(grid_width).min(fair);
    let mut rest = result;
    let mut tasks = Vec::with_capacity(all.div_ceil(rows_per_task));
    for start in (0..all).step_by(rows_per_task) {
        let rows = start..(start + rows_per_task).min(all);
        let output_row = |tiles: usize| tiles / grid_height * out_height + tiles % grid_height * TILE;
        let (head, tail) = rest.split_at_mut((output_row(rows.end) - output_row(rows.start)) * row);
        tasks.push(Share { first: output_row(rows.start) * row, rows, result: head });
        rest = tail;
    }
    tasks
}

/// What a task keeps from step to step.
#[derive(Default)]
struct Buffers {
    tiles: Vec<f32>,
    sums: Vec<f32>,
}

thread_local! {
    /// Kept from task to task, so that nothing is allocated in the steady state.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Computes some rows of tiles.
struct Task<'a, 'b> {
    convolution: &'a Convolution<'a>,
    /// `[N, H, W, C]`, contiguous.
    input: &'a [f32],
    rows: Range<usize>,
    /// The rows of the output that these tiles are.
    result: &'b mut [f32],
    buffers: &'b mut Buffers,
}

impl Tiled for Task<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize>(mut self, simd: S) {
        let ConvGeometry { inputs, outputs, .. } = self.convolution.geometry;
        // Whole register tiles: what the last one has too many of is computed and not looked at.
        let count = (self.rows.len() * tile_grid(self.convolution.output).1).next_multiple_of(P);
        let width = outputs.next_multiple_of(BLOCK);
        let mut buffers = std::mem::take(self.buffers);
        let tiles = at_least(&mut buffers.tiles, PLACES * count * inputs);
        let sums = at_least(&mut buffers.sums, PLACES * count * width);
        transform_input(simd, self.convolution, self.input, self.rows.clone(), count, tiles);
        multiply::<S, R, P>(simd, self.convolution.weights, tiles, sums, inputs, width);
        self.transform_output(simd, count, sums);
        *self.buffers = buffers;
    }
}

impl Task<'_, '_> {
    #[inline(always)]
    fn transform_output<S: Simd>(&mut self, simd: S, count: usize, sums: &[f32]) {
        let Convolution { geometry: ConvGeometry { outputs, .. }, bias, output, .. } = *self.convolution;
        let [out_height, out_width] = output;
        let (grid_height, grid_width) = tile_grid(output);
        let stride = outputs.next_multiple_of(BLOCK);
        let mut places = sums.chunks_exact(count * stride);
        let places: [&[f32]; PLACES] = from_fn(|_| places.next().expect("there are sums of each place"));
        let output_row = |tiles: usize| tiles / grid_height * out_height + tiles % grid_height * TILE;
        let first_row = output_row(self.rows.start);
        let mut tile = 0;
        for row in self.rows.clone() {
            let rows = TILE.min(out_height - row % grid_height * TILE);
            let start = (output_row(row) - first_row) * out_width * outputs;
            let result = &mut self.result[start..start + rows * out_width * outputs];
            for column in 0..grid_width {
                let columns = TILE.min(out_width - column * TILE);
                let of_tile = OutputTile { places: &places, start: tile * stride, bias, columns, outputs };
                let (pixel, line) = (column * TILE * outputs, out_width * outputs);
                let whole = in_whole_vectors::<S>(outputs);
                for channel in (0..whole).step_by(S::F32_LANES) {
                    of_tile.transform(simd, channel, S::F32_LANES, result, pixel, line);
                }
                if whole < outputs {
                    of_tile.transform(simd, whole, outputs - whole, result, pixel, line);
                }
                tile += 1;
            }
        }
    }
}

/// A tile of sums, to be transformed back.
struct OutputTile<'a> {
    places: &'a [&'a [f32]; PLACES],
    /// Which number of each place is the first of the tile.
    start: usize,
    bias: &'a [f32],
    /// Pixels of a row that there are.
    columns: usize,
    outputs: usize,
}

impl OutputTile<'_> {
    /// Some channels of the tile, with bias, into `result`, whole rows of `line` numbers, from `corner` on.
    #[inline(always)]
    fn transform<S: Simd>(
        &self,
        simd: S,
        channel: usize,
        lanes: usize,
        result: &mut [f32],
        corner: usize,
        line: usize,
    ) {
        let zero = simd.splat_f32s(0.0);
        let bias = load_one(simd, &self.bias[channel..channel + lanes]);
        let start = self.start + channel;
        // Columns of the transformed tile, each transformed back.
        let mut tile = [[zero; TILE]; WINDOW];
        for (x, column) in tile.iter_mut().enumerate() {
            let mut values = [zero; WINDOW];
            for (y, value) in values.iter_mut().enumerate() {
                // Panels are whole vectors.
                *value = load_one(simd, &self.places[y * WINDOW + x][start..start + S::F32_LANES]);
            }
            *column = output_transform(simd, values);
        }
        for (y, line) in result.chunks_exact_mut(line).enumerate() {
            let mut row = [zero; WINDOW];
            for (value, column) in row.iter_mut().zip(&tile) {
                *value = column[y];
            }
            let mut start = corner + channel;
            for pixel in output_transform(simd, row).iter().take(self.columns) {
                store_one(simd, &mut line[start..start + lanes], simd.add_f32s(*pixel, bias));
                start += self.outputs;
            }
        }
    }
}

/// How many of so many channels whole vectors have.
fn in_whole_vectors<S: Simd>(channels: usize) -> usize {
    channels - channels % S::F32_LANES
}

/// `Bᵀ d B` of the windows of some rows of tiles, of `input`: `[N, H, W, C]`, into `tiles`: `[36][count][C]`.
#[inline(always)]
pub(super) fn transform_input<S: Simd>(
    simd: S,
    convolution: &Convolution,
    input: &[f32],
    rows: Range<usize>,
    count: usize,
    tiles: &mut [f32],
) {
    let [_, channels, height, width] = convolution.shape;
    let (grid, padding) = (tile_grid(convolution.output), convolution.geometry.padding);
    let padding = (padding.top, padding.left);
    let images = Images { values: input, height, width, channels, padding };
    images.transform::<S, OfInput, WINDOW>(simd, grid, rows, count, channels, tiles);
}

/// What is done to the rows of a patch of `N`×`N` pixels, and then to the columns.
pub(super) trait Transform<const N: usize> {
    fn apply<S: Simd>(simd: S, pixels: [S::f32s; N]) -> [S::f32s; WINDOW];
}

/// `Bᵀ d`.
struct OfInput;

impl Transform<WINDOW> for OfInput {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, d: [S::f32s; WINDOW]) -> [S::f32s; WINDOW] {
        let [two, four, five] = [simd.splat_f32s(2.0), simd.splat_f32s(4.0), simd.splat_f32s(-5.0)];
        let minus_four = simd.splat_f32s(-4.0);
        let minus_two = simd.splat_f32s(-2.0);
        let even = simd.mul_add_e_f32s(minus_four, d[2], d[4]);
        let odd = simd.mul_add_e_f32s(minus_four, d[1], d[3]);
        let far_even = simd.sub_f32s(d[4], d[2]);
        let far_odd = simd.sub_f32s(d[3], d[1]);
        [
            simd.mul_add_e_f32s(four, d[0], simd.mul_add_e_f32s(five, d[2], d[4])),
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            simd.mul_add_e_f32s(two, far_odd, far_even),
            simd.mul_add_e_f32s(minus_two, far_odd, far_even),
            simd.mul_add_e_f32s(four, d[1], simd.mul_add_e_f32s(five, d[3], d[5])),
        ]
    }
}

/// `[N, H, W, C]`, zero in the padding around each image.
pub(super) struct Images<'a> {
    pub(super) values: &'a [f32],
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    /// Rows above and columns to the left.
    pub(super) padding: (usize, usize),
}

/// Where no line has a number, and so many behind neither.
const OUTSIDE: usize = usize::MAX / 2;

impl Images<'_> {
    /// The transformed patches of some rows of tiles, of a grid on each image, into `tiles`: `[36][count][stride]`.
    #[inline(always)]
    pub(super) fn transform<S: Simd, T: Transform<N>, const N: usize>(
        &self,
        simd: S,
        (grid_height, grid_width): (usize, usize),
        rows: Range<usize>,
        count: usize,
        stride: usize,
        tiles: &mut [f32],
    ) {
        let Self { values, height, width, channels, padding } = *self;
        let mut places = tiles.chunks_exact_mut(count * stride);
        let mut places: [&mut [f32]; PLACES] = from_fn(|_| places.next().expect("each place has tiles"));
        let mut tile = 0;
        for row in rows {
            let (image, top) = (row / grid_height * height, row % grid_height * TILE);
            let mut lines: [&[f32]; N] = [&[]; N];
            for (y, line) in lines.iter_mut().enumerate() {
                let y = (top + y).wrapping_sub(padding.0);
                if y < height {
                    *line = &values[(image + y) * width * channels..][..width * channels];
                }
            }
            for column in 0..grid_width {
                let mut starts = [OUTSIDE; N];
                for (x, start) in starts.iter_mut().enumerate() {
                    let x = (column * TILE + x).wrapping_sub(padding.1);
                    if x < width {
                        *start = x * channels;
                    }
                }
                let patch = Patch { lines: &lines, starts: &starts };
                let (whole, first) = (in_whole_vectors::<S>(channels), tile * stride);
                for channel in (0..whole).step_by(S::F32_LANES) {
                    let lanes = (S::F32_LANES, S::F32_LANES);
                    patch.transform::<S, T>(simd, channel, lanes, &mut places, first);
                }
                if whole < channels {
                    let lanes = (channels - whole, S::F32_LANES.min(stride - whole));
                    patch.transform::<S, T>(simd, whole, lanes, &mut places, first);
                }
                tile += 1;
            }
        }
    }
}

/// Pixels: where they begin in which lines.
struct Patch<'a, const N: usize> {
    lines: &'a [&'a [f32]; N],
    starts: &'a [usize; N],
}

impl<const N: usize> Patch<'_, N> {
    /// Some channels of the transformed patch into `places`, `tile` numbers behind their beginning. So many lanes are read,
    /// and so many written.
    #[inline(always)]
    fn transform<S: Simd, T: Transform<N>>(
        &self,
        simd: S,
        channel: usize,
        (read, written): (usize, usize),
        places: &mut [&mut [f32]; PLACES],
        tile: usize,
    ) {
        let zero = simd.splat_f32s(0.0);
        // Rows, each transformed.
        let mut half = [[zero; WINDOW]; N];
        for (row, line) in half.iter_mut().zip(self.lines) {
            let mut pixels = [zero; N];
            for (pixel, start) in pixels.iter_mut().zip(self.starts) {
                if let Some(values) = line.get(start + channel..).and_then(|rest| rest.get(..read)) {
                    *pixel = load_one(simd, values);
                }
            }
            *row = T::apply(simd, pixels);
        }
        let start = tile + channel;
        for x in 0..WINDOW {
            let mut column = [zero; N];
            for (value, row) in column.iter_mut().zip(&half) {
                *value = row[x];
            }
            for (y, value) in T::apply(simd, column).iter().enumerate() {
                store_one(simd, &mut places[y * WINDOW + x][start..start + written], *value);
            }
        }
    }
}

/// So many numbers, whatever they are.
pub(super) fn at_least(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// `sums[place] = tiles[place] · weights[place]` for each of the places. `width` is that of a row of `sums`.
#[inline(always)]
fn multiply<S: Simd, const R: usize, const P: usize>(
    simd: S,
    weights: &[f32],
    tiles: &[f32],
    sums: &mut [f32],
    inputs: usize,
    width: usize,
) {
    let panel_len = inputs * BLOCK;
    let places = tiles.chunks_exact(tiles.len() / PLACES).zip(sums.chunks_exact_mut(sums.len() / PLACES));
    let weights = weights.chunks_exact(width / BLOCK * panel_len);
    for ((tiles, sums), weights) in places.zip(weights) {
        for (panel, weights) in weights.chunks_exact(panel_len).enumerate() {
            let weights = S::as_simd_f32s(weights).0.as_chunks::<R>().0;
            let blocks = tiles.chunks_exact(P * inputs).zip(sums.chunks_exact_mut(P * width));
            for (tiles, sums) in blocks {
                let mut rows: [&[f32]; P] = [&[]; P];
                for (row, tile) in rows.iter_mut().zip(tiles.chunks_exact(inputs)) {
                    *row = tile;
                }
                let zeros = [[simd.splat_f32s(0.0); R]; P];
                let products = multiply_add(simd, rows, weights, zeros);
                for (row, product) in sums.chunks_exact_mut(width).zip(&products) {
                    let place = &mut row[panel * BLOCK..(panel + 1) * BLOCK];
                    S::as_mut_simd_f32s(place).0.copy_from_slice(product);
                }
            }
        }
    }
}

/// `Aᵀ m`.
#[inline(always)]
fn output_transform<S: Simd>(simd: S, m: [S::f32s; WINDOW]) -> [S::f32s; TILE] {
    let [two, four, eight] = [simd.splat_f32s(2.0), simd.splat_f32s(4.0), simd.splat_f32s(8.0)];
    let (near_even, near_odd) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (far_even, far_odd) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(near_even, far_even)),
        simd.mul_add_e_f32s(two, far_odd, near_odd),
        simd.mul_add_e_f32s(four, far_even, near_even),
        simd.add_f32s(m[5], simd.mul_add_e_f32s(eight, far_odd, near_odd)),
    ]
}

/// A vector; zeros where `values` ends.
#[inline(always)]
fn load_one<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    match S::as_simd_f32s(values) {
        ([vector], _) => *vector,
        _ => simd.partial_load_f32s(values),
    }
}

#[inline(always)]
fn store_one<S: Simd>(simd: S, values: &mut [f32], vector: S::f32s) {
    match S::as_mut_simd_f32s(values) {
        ([place], _) => *place = vector,
        (_, values) => simd.partial_store_f32s(values, vector),
    }
}
