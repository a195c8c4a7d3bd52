//! Direct convolution on the CPU: a matrix product whose left matrix is never built.
//!
//! Layout. Inside, images are channels-last: `[height, width, channels]`. A task takes some output rows of an
//! image, or some whole small images, and copies the input rows they need into a zero-padded channels-last
//! buffer; whatever the strides of the input, this is where they end. There, the taps of a kernel row are
//! neighbours: `kernel_width · channels` consecutive numbers, for any output pixel at some offset. Weights are
//! packed in panels of [`BLOCK`] output channels: `[panel][kernel row][tap · channel][BLOCK]`.
//!
//! The inner loop keeps `P` pixels × `BLOCK` channels in registers and adds, for each tap and channel, the
//! broadcast input times a row of the panel. The taps are taken in stretches of at most [`STRETCH`], so that a
//! stretch of a panel stays in the first-level cache while all pixels of the task go by.

use std::array::from_fn;
use std::cell::RefCell;
use std::ops::Range;

use candle_core::Layout;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{contiguous, winograd};
use crate::elementwise::Function;
use crate::range::RangeStats;
use crate::simd::SimdLevel;

/// Output channels in a panel.
pub(crate) const BLOCK: usize = 16;
/// Taps · channels in a stretch: 24 KiB of weights.
const STRETCH: usize = 384;
/// Numbers of the result that are finished at once.
const PIECE: usize = 2048;
/// Pixels that a task should have at least, so that the weights are not read for a few: a multiple of the pixels
/// of a register tile at every level.
const TASK_PIXELS: usize = 84;
/// Bytes of padded input that a task should have at most, so that they stay in the second-level cache.
const TASK_BYTES: usize = 192 << 10;

/// The shapes of a convolution. Heights come before widths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: (usize, usize),
    pub(crate) stride: usize,
    pub(crate) padding: (usize, usize),
}

impl Geometry {
    /// Height and width of the output; `None` if the kernel does not fit.
    pub(crate) fn output_size(&self, height: usize, width: usize) -> Option<(usize, usize)> {
        let size = |input: usize, padding: usize, kernel: usize| {
            Some((input + 2 * padding).checked_sub(kernel)? / self.stride + 1)
        };
        Some((size(height, self.padding.0, self.kernel.0)?, size(width, self.padding.1, self.kernel.1)?))
    }

    /// Taps · channels of a kernel row.
    fn row(&self) -> usize {
        self.kernel.1 * self.inputs
    }

    /// `weight`: `[outputs, inputs, kernel height, kernel width]`, contiguous.
    pub(crate) fn pack(&self, weight: &[f32]) -> Vec<f32> {
        if winograd::suits(self) {
            return winograd::pack(self, weight);
        }
        let (height, width) = self.kernel;
        let panels = self.outputs.div_ceil(BLOCK);
        let mut packed = vec![0.0; panels * height * self.row() * BLOCK];
        for (i, &w) in weight.iter().enumerate() {
            let (rest, x) = (i / width, i % width);
            let (rest, y) = (rest / height, rest % height);
            let (output, input) = (rest / self.inputs, rest % self.inputs);
            let tap = (output / BLOCK * height + y) * self.row() + x * self.inputs + input;
            packed[tap * BLOCK + output % BLOCK] = w;
        }
        packed
    }
}

/// A convolution of a batch.
pub(crate) struct Convolution<'a> {
    pub(crate) geometry: Geometry,
    /// From [`Geometry::pack`].
    pub(crate) weights: &'a [f32],
    pub(crate) bias: &'a [f32],
    /// Added to the result: `[N, H', W', outputs]`.
    pub(crate) residual: Option<&'a [f32]>,
    /// Applied to each task's result while that is in the cache.
    pub(crate) activation: Option<&'a Function>,
    /// `[N, C, H, W]`.
    pub(crate) shape: [usize; 4],
    /// Output height and width.
    pub(crate) output: (usize, usize),
}

impl Convolution<'_> {
    /// The result, `[N, H', W', outputs]`, and the range of the activation's inputs. `layout` is that of the
    /// input, of shape `[N, C, H, W]`.
    pub(crate) fn run(&self, input: &[f32], layout: &Layout) -> (Vec<f32>, RangeStats) {
        let [images, ..] = self.shape;
        let (out_height, out_width) = self.output;
        let row = out_width * self.geometry.outputs;
        let mut result = vec![0.0; images * out_height * row];
        if result.is_empty() {
            return (result, RangeStats::default());
        }
        if winograd::suits(&self.geometry) {
            let range = self.run_winograd(input, layout, &mut result);
            return (result, range);
        }
        let (images_per_task, rows_per_task) = self.task_size();
        let group = images_per_task * out_height;
        let task = |first: usize, result: &mut [f32]| {
            let rows = first..first + result.len() / row;
            BUFFERS.with_borrow_mut(|buffers| {
                self.pad(input, layout, rows.clone(), buffers);
                SimdLevel::current().run(Task { convolution: self, buffers, result: &mut *result });
            });
            self.finish(first * row, result)
        };
        let groups = result.par_chunks_mut(group * row).enumerate();
        let range = groups
            .map(|(i, result)| {
                let tasks = result.par_chunks_mut(rows_per_task * row).enumerate();
                tasks
                    .map(|(j, result)| task(i * group + j * rows_per_task, result))
                    .reduce(RangeStats::default, RangeStats::merge)
            })
            .reduce(RangeStats::default, RangeStats::merge);
        (result, range)
    }

    fn run_winograd(&self, input: &[f32], layout: &Layout, result: &mut [f32]) -> RangeStats {
        let copy;
        let input = match channels_last(input, layout) {
            Some(input) => input,
            None => {
                let layout = layout.permute(&[0, 2, 3, 1]).expect("the input has four dimensions");
                copy = contiguous(input, &layout);
                &copy
            }
        };
        let tasks = winograd::tasks(self, result);
        tasks
            .into_par_iter()
            .map(|winograd::Share { rows, first, result }| {
                winograd::BUFFERS.with_borrow_mut(|buffers| {
                    let result = &mut *result;
                    let task = winograd::Task { convolution: self, input, rows, result, buffers };
                    SimdLevel::current().run(task);
                });
                self.finish(first, result)
            })
            .reduce(RangeStats::default, RangeStats::merge)
    }

    /// Adds the residual to a task's result, whose first number is number `first` of all, and applies the
    /// activation, piece by piece while a piece is in the first-level cache.
    fn finish(&self, first: usize, result: &mut [f32]) -> RangeStats {
        let mut range = RangeStats::default();
        let mut start = first;
        for piece in result.chunks_mut(PIECE) {
            if let Some(residual) = self.residual {
                let residual = &residual[start..start + piece.len()];
                SimdLevel::current().run(Add { values: &mut *piece, addends: residual });
            }
            if let Some(function) = self.activation {
                range = range.merge(function.apply_in_place(piece));
            }
            start += piece.len();
        }
        range
    }

    /// A task is some whole images and all their rows if images are small, else some rows of one.
    fn task_size(&self) -> (usize, usize) {
        let [images, channels, height, width] = self.shape;
        let (out_height, out_width) = self.output;
        let Geometry { kernel, stride, padding, .. } = self.geometry;
        let bytes_per_row = (width + 2 * padding.1) * channels.max(1) * size_of::<f32>();
        let image_bytes = (height + 2 * padding.0) * bytes_per_row;
        let threads = rayon::current_num_threads();
        let enough = TASK_PIXELS.div_ceil(out_height * out_width);
        if (image_bytes <= TASK_BYTES || enough > 1) && images >= threads {
            let whole = (TASK_BYTES / image_bytes).max(enough).min(images.div_ceil(threads));
            return (whole, whole * out_height);
        }
        let rows = (TASK_BYTES / bytes_per_row).saturating_sub(kernel.0) / stride + 1;
        let rows = rows.max(TASK_PIXELS.div_ceil(out_width));
        // Few images are split so that every thread has something to do.
        let split = out_height.div_ceil((2 * threads).div_ceil(images));
        (1, rows.min(split).min(out_height))
    }

    /// The input that output rows `rows` need, zero-padded and channels-last, and where each output pixel's
    /// window begins in it.
    fn pad(&self, input: &[f32], layout: &Layout, rows: Range<usize>, buffers: &mut Buffers) {
        let [_, channels, height, width] = self.shape;
        let (out_height, out_width) = self.output;
        let Geometry { stride, padding, kernel, .. } = self.geometry;
        let padded_row = (width + 2 * padding.1) * channels;
        let strides: [usize; 4] = from_fn(|i| layout.stride()[i]);
        buffers.input.clear();
        buffers.offsets.clear();
        let mut row = rows.start;
        while row < rows.end {
            let (image, first) = (row / out_height, row % out_height);
            let count = (out_height - first).min(rows.end - row);
            let base = buffers.input.len();
            for y in 0..count {
                let start = base + y * stride * padded_row;
                buffers.offsets.extend((0..out_width).map(|x| start + x * stride * channels));
            }
            for y in 0..(count - 1) * stride + kernel.0 {
                let y = (first * stride + y).checked_sub(padding.0).filter(|y| *y < height);
                let Some(y) = y else {
                    buffers.input.resize(buffers.input.len() + padded_row, 0.0);
                    continue;
                };
                buffers.input.resize(buffers.input.len() + padding.1 * channels, 0.0);
                let start = layout.start_offset() + image * strides[0] + y * strides[2];
                if strides[1] == 1 && strides[3] == channels {
                    buffers.input.extend_from_slice(&input[start..start + width * channels]);
                } else {
                    let begin = buffers.input.len();
                    buffers.input.resize(begin + width * channels, 0.0);
                    let target = &mut buffers.input[begin..];
                    for c in 0..channels {
                        let plane = &input[start + c * strides[1]..];
                        for x in 0..width {
                            target[x * channels + c] = plane[x * strides[3]];
                        }
                    }
                }
                buffers.input.resize(buffers.input.len() + padding.1 * channels, 0.0);
            }
            row += count;
        }
    }
}

/// The elements, if they lie in memory as `[N, H, W, C]`.
fn channels_last<'v>(values: &'v [f32], layout: &Layout) -> Option<&'v [f32]> {
    let (start, end) = layout.permute(&[0, 2, 3, 1]).ok()?.contiguous_offsets()?;
    Some(&values[start..end])
}

/// A task's padded input, and where each output pixel's window begins in it.
#[derive(Default)]
struct Buffers {
    input: Vec<f32>,
    offsets: Vec<usize>,
}

thread_local! {
    /// Kept from task to task, so that nothing is allocated in the steady state.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Consecutive taps: where they are in the window, and how many.
#[derive(Clone, Copy)]
struct Segment {
    offset: usize,
    len: usize,
}

struct Task<'a, 'b> {
    convolution: &'a Convolution<'a>,
    buffers: &'b Buffers,
    result: &'b mut [f32],
}

impl WithSimd for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Pixels × vectors that fit the registers.
        match S::F32_LANES {
            16 => self.run::<S, 1, 14>(simd),
            8 => self.run::<S, 2, 6>(simd),
            4 => self.run::<S, 4, 6>(simd),
            1 => self.run::<S, 16, 1>(simd),
            lanes => unreachable!("no register tile for {lanes} lanes"),
        }
    }
}

impl Task<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize>(self, simd: S) {
        let Convolution { geometry, weights, bias, shape, .. } = *self.convolution;
        let outputs = geometry.outputs;
        let padded_row = (shape[3] + 2 * geometry.padding.1) * geometry.inputs;
        let stretches = stretches(&geometry, padded_row);
        let taps = geometry.kernel.0 * geometry.row();
        for panel in 0..outputs.div_ceil(BLOCK) {
            let channels = panel * BLOCK..((panel + 1) * BLOCK).min(outputs);
            let mut weights = &weights[panel * taps * BLOCK..];
            let bias: [S::f32s; R] = load(simd, &bias[channels.clone()]);
            for (i, segments) in stretches.iter().enumerate() {
                let stretch: usize = segments.iter().map(|segment| segment.len).sum();
                for (tile, offsets) in self.buffers.offsets.chunks(P).enumerate() {
                    // The last tile may be short: it computes its last pixel more than once.
                    let mut tile_offsets = [0; P];
                    for (p, offset) in tile_offsets.iter_mut().enumerate() {
                        *offset = offsets[p.min(offsets.len() - 1)];
                    }
                    let pixels = tile * P..(tile * P + P).min(self.buffers.offsets.len());
                    let place =
                        |pixel: usize| pixel * outputs + channels.start..pixel * outputs + channels.end;
                    let mut initial = [bias; P];
                    if i > 0 {
                        for (p, sums) in initial.iter_mut().enumerate() {
                            let pixel = (pixels.start + p).min(pixels.end - 1);
                            *sums = load(simd, &self.result[place(pixel)]);
                        }
                    }
                    let sums =
                        accumulate(simd, &self.buffers.input, tile_offsets, segments, weights, initial);
                    for (pixel, sums) in pixels.zip(sums) {
                        store(simd, &mut self.result[place(pixel)], sums);
                    }
                }
                weights = &weights[stretch * BLOCK..];
            }
        }
    }
}

/// Kernel rows cut and joined to stretches of at most [`STRETCH`] taps.
fn stretches(geometry: &Geometry, padded_row: usize) -> Vec<Vec<Segment>> {
    let mut stretches: Vec<Vec<Segment>> = Vec::new();
    let mut room = 0;
    for y in 0..geometry.kernel.0 {
        let mut start = 0;
        while start < geometry.row() {
            if room == 0 {
                stretches.push(Vec::new());
                room = STRETCH;
            }
            let len = room.min(geometry.row() - start);
            let segment = Segment { offset: y * padded_row + start, len };
            stretches.last_mut().expect("one was pushed").push(segment);
            start += len;
            room -= len;
        }
    }
    stretches
}

/// Adds to `sums`, for `P` pixels × `R` vectors of channels, the products of some taps.
#[inline(always)]
fn accumulate<S: Simd, const R: usize, const P: usize>(
    simd: S,
    input: &[f32],
    offsets: [usize; P],
    segments: &[Segment],
    weights: &[f32],
    mut sums: [[S::f32s; R]; P],
) -> [[S::f32s; R]; P] {
    let mut weights = weights;
    for segment in segments {
        let (panel, rest) = weights.split_at(segment.len * BLOCK);
        weights = rest;
        let mut windows: [&[f32]; P] = [&[]; P];
        for (window, offset) in windows.iter_mut().zip(offsets) {
            *window = &input[offset + segment.offset..][..segment.len];
        }
        sums = multiply_add(simd, windows, S::as_simd_f32s(panel).0.as_chunks::<R>().0, sums);
    }
    sums
}

/// Adds to `sums` the products of `P` rows of numbers and a panel of weights, `R` vectors for each number.
#[inline(always)]
pub(super) fn multiply_add<S: Simd, const R: usize, const P: usize>(
    simd: S,
    rows: [&[f32]; P],
    panel: &[[S::f32s; R]],
    mut sums: [[S::f32s; R]; P],
) -> [[S::f32s; R]; P] {
    let mut rows = rows;
    for row in &mut rows {
        // So that the loop needs no checks.
        *row = &row[..panel.len()];
    }
    for i in 0..panel.len() {
        let weights = panel[i];
        for p in 0..P {
            let x = simd.splat_f32s(rows[p][i]);
            for r in 0..R {
                sums[p][r] = simd.mul_add_e_f32s(x, weights[r], sums[p][r]);
            }
        }
    }
    sums
}

/// Adds one slice to another of the same length.
struct Add<'a> {
    values: &'a mut [f32],
    addends: &'a [f32],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // A plain loop: inlined here, it is compiled for these vector instructions.
        for (value, addend) in self.values.iter_mut().zip(self.addends) {
            *value += addend;
        }
    }
}

/// `R` vectors; zeros where `values` ends.
#[inline(always)]
fn load<S: Simd, const R: usize>(simd: S, values: &[f32]) -> [S::f32s; R] {
    if let ([vectors], _) = S::as_simd_f32s(values).0.as_chunks::<R>() {
        return *vectors;
    }
    let mut vectors = [simd.splat_f32s(0.0); R];
    for (vector, values) in vectors.iter_mut().zip(values.chunks(S::F32_LANES)) {
        *vector = simd.partial_load_f32s(values);
    }
    vectors
}

#[inline(always)]
fn store<S: Simd, const R: usize>(simd: S, values: &mut [f32], vectors: [S::f32s; R]) {
    if let ([place], _) = S::as_mut_simd_f32s(values).0.as_chunks_mut::<R>() {
        *place = vectors;
        return;
    }
    for (values, vector) in values.chunks_mut(S::F32_LANES).zip(vectors) {
        simd.partial_store_f32s(values, vector);
    }
}
