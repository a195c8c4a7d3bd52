//! Direct convolution: a matrix product whose left matrix is never built.
//!
//! Layout. A task takes some output rows of an image, or some whole small images, and copies the input rows they need
//! into a zero-padded channels-last buffer; whatever the strides of the input, this is where they end. There, the taps
//! of a kernel row are neighbours: `kernel_width · channels` consecutive numbers, for any output pixel at some offset; with
//! dilation or groups, those of a single tap are ([`runs`]). Weights are `[group][panel][kernel row][tap · channel][BLOCK]`,
//! where panels and channels are a group's. The taps are taken in stretches of at most [`STRETCH`], so
//! that a stretch of a panel stays in the first-level cache while all pixels of the task go by.

use std::array::from_fn;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use candle_core::Layout;
use pulp::Simd;
use rayon::prelude::*;

use super::conv::{BLOCK, Convolution, InTiles, TASK_PIXELS, Tiled, multiply_add};
use super::zeroed;
use crate::geometry::ConvGeometry;
use crate::range::RangeStats;
use crate::simd::SimdLevel;

/// Taps · channels in a stretch: 24 KiB of weights.
const STRETCH: usize = 384;
/// Bytes of padded input that a task should have at most, so that they stay in the second-level cache.
const TASK_BYTES: usize = 192 << 10;

/// Taps · channels of a kernel row, of one group.
pub(super) fn row(geometry: &ConvGeometry) -> usize {
    geometry.kernel[1] * geometry.group_inputs()
}

/// Panels of a group's outputs.
pub(super) fn panels(geometry: &ConvGeometry) -> usize {
    geometry.group_outputs().div_ceil(BLOCK)
}

/// `weight`: of [`ConvGeometry::weight_shape`], contiguous.
pub(super) fn pack(geometry: &ConvGeometry, weight: &[f32]) -> Vec<f32> {
    let panel_len = geometry.kernel[0] * row(geometry) * BLOCK;
    let mut packed = vec![0.0; geometry.groups * panels(geometry) * panel_len];
    packed.par_chunks_mut(panel_len.max(1)).enumerate().for_each(|(panel, packed)| {
        for_each_weight(geometry, panel, |w, place| packed[place] = weight[w]);
    });
    packed
}

/// Output channels of a panel, of which there are as many for each group.
pub(super) fn channels_of(geometry: &ConvGeometry, panel: usize) -> Range<usize> {
    let (outputs, panels) = (geometry.group_outputs(), panels(geometry));
    let (group, panel) = (panel / panels, panel % panels);
    let first = group * outputs;
    first + panel * BLOCK..first + ((panel + 1) * BLOCK).min(outputs)
}

/// Calls `f` for each number of a panel's weights with where it is in all of them, and where in the packed panel.
#[inline]
pub(super) fn for_each_weight(geometry: &ConvGeometry, panel: usize, mut f: impl FnMut(usize, usize)) {
    let ([height, width], inputs) = (geometry.kernel, geometry.group_inputs());
    let channels = channels_of(geometry, panel);
    let mut w = channels.start * inputs * height * width;
    for lane in 0..channels.len() {
        for input in 0..inputs {
            for y in 0..height {
                for x in 0..width {
                    f(w, ((y * width + x) * inputs + input) * BLOCK + lane);
                    w += 1;
                }
            }
        }
    }
}

/// Taps · channels that lie side by side in a padded image: so many, and where each such run begins in the window of a
/// group, in the order of the packed weights.
pub(super) fn runs(convolution: &Convolution, group: usize) -> (usize, Vec<usize>) {
    let geometry = &convolution.geometry;
    let ConvGeometry { inputs, kernel: [rows, columns], dilation, groups, .. } = *geometry;
    let channels = geometry.group_inputs();
    let padded_row = padded_row(convolution);
    let starts = |columns: usize| {
        let place = move |y: usize, x: usize| y * dilation[0] * padded_row + x * dilation[1] * inputs;
        (0..rows).flat_map(move |y| (0..columns).map(move |x| place(y, x) + group * channels)).collect()
    };
    match groups == 1 && (dilation[1] == 1 || columns == 1) {
        true => (columns * channels, starts(1)),
        false => (channels, starts(columns)),
    }
}

/// Numbers of a row of a padded image.
pub(super) fn padded_row(convolution: &Convolution) -> usize {
    let ConvGeometry { inputs, padding, .. } = convolution.geometry;
    (padding.left + convolution.shape[3] + padding.right) * inputs
}

/// Computes the whole result; gives the range of the epilogue's inputs.
pub(super) fn run(
    convolution: &Convolution,
    input: &[f32],
    layout: &Layout,
    result: &mut [MaybeUninit<f32>],
) -> RangeStats {
    run_tasks(convolution, input, layout, result, |buffers, result| {
        SimdLevel::current().run(InTiles(Task { convolution, buffers, result }));
    })
}

/// Computes the whole result with tasks that find what they need in the buffers and leave their share in zeros.
pub(super) fn run_tasks(
    convolution: &Convolution,
    input: &[f32],
    layout: &Layout,
    result: &mut [MaybeUninit<f32>],
    compute: impl Fn(&mut Buffers, &mut [f32]) + Sync,
) -> RangeStats {
    let [out_height, out_width] = convolution.output;
    let row = out_width * convolution.geometry.outputs;
    let (images_per_task, rows_per_task) = task_size(convolution);
    let group = images_per_task * out_height;
    let task = |first: usize, result: &mut [MaybeUninit<f32>]| {
        let result = zeroed(result);
        let rows = first..first + result.len() / row;
        BUFFERS.with_borrow_mut(|buffers| {
            pad(convolution, input, layout, rows.clone(), buffers);
            compute(buffers, &mut *result);
        });
        convolution.finish(first * row, result)
    };
    let groups = result.par_chunks_mut(group * row).enumerate();
    groups
        .map(|(i, result)| {
            let tasks = result.par_chunks_mut(rows_per_task * row).enumerate();
            tasks
                .map(|(j, result)| task(i * group + j * rows_per_task, result))
                .reduce(RangeStats::default, RangeStats::merge)
        })
        .reduce(RangeStats::default, RangeStats::merge)
}

/// A task is some whole images and all their rows if images are small, else some rows of one.
fn task_size(convolution: &Convolution) -> (usize, usize) {
    let [images, _, height, _] = convolution.shape;
    let [out_height, out_width] = convolution.output;
    let ConvGeometry { stride: [stride, _], padding, .. } = convolution.geometry;
    let bytes_per_row = padded_row(convolution).max(1) * size_of::<f32>();
    let image_bytes = (padding.top + height + padding.bottom).max(1) * bytes_per_row;
    let threads = rayon::current_num_threads();
    let enough = TASK_PIXELS.div_ceil(out_height * out_width);
    if (image_bytes <= TASK_BYTES || enough > 1) && images >= threads {
        let whole = (TASK_BYTES / image_bytes).max(enough).min(images.div_ceil(threads));
        return (whole, whole * out_height);
    }
    let rows = (TASK_BYTES / bytes_per_row).saturating_sub(convolution.geometry.span()[0]) / stride + 1;
    let rows = rows.max(TASK_PIXELS.div_ceil(out_width));
    // Few images are split so that every thread has something to do.
    let split = out_height.div_ceil((2 * threads).div_ceil(images));
    (1, rows.min(split).min(out_height))
}

/// The input that output rows `rows` need, zero-padded and channels-last, and where each output pixel's
/// window begins in it.
pub(super) fn pad(
    convolution: &Convolution,
    input: &[f32],
    layout: &Layout,
    rows: Range<usize>,
    buffers: &mut Buffers,
) {
    let [_, channels, height, width] = convolution.shape;
    let [out_height, out_width] = convolution.output;
    let ConvGeometry { stride, padding, .. } = convolution.geometry;
    let (padded_row, span) = (padded_row(convolution), convolution.geometry.span()[0]);
    let strides: [usize; 4] = from_fn(|i| layout.stride()[i]);
    buffers.input.clear();
    buffers.offsets.clear();
    let mut row = rows.start;
    while row < rows.end {
        let (image, first) = (row / out_height, row % out_height);
        let count = (out_height - first).min(rows.end - row);
        let base = buffers.input.len();
        for y in 0..count {
            let start = base + y * stride[0] * padded_row;
            buffers.offsets.extend((0..out_width).map(|x| start + x * stride[1] * channels));
        }
        for y in 0..(count - 1) * stride[0] + span {
            let y = (first * stride[0] + y).checked_sub(padding.top).filter(|y| *y < height);
            let Some(y) = y else {
                buffers.input.resize(buffers.input.len() + padded_row, 0.0);
                continue;
            };
            buffers.input.resize(buffers.input.len() + padding.left * channels, 0.0);
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
            buffers.input.resize(buffers.input.len() + padding.right * channels, 0.0);
        }
        row += count;
    }
}

/// A task's padded input, and where each output pixel's window begins in it.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) input: Vec<f32>,
    pub(super) offsets: Vec<usize>,
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

impl Tiled for Task<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const P: usize>(self, simd: S) {
        let Convolution { geometry, weights, bias, .. } = *self.convolution;
        let outputs = geometry.outputs;
        let taps = geometry.kernel[0] * row(&geometry);
        let panels = panels(&geometry);
        let mut stretches = Vec::new();
        for panel in 0..geometry.groups * panels {
            if panel % panels == 0 {
                stretches = self::stretches(self.convolution, panel / panels);
            }
            let channels = channels_of(&geometry, panel);
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

/// The runs of a group's window, cut and joined to stretches of at most [`STRETCH`] taps.
fn stretches(convolution: &Convolution, group: usize) -> Vec<Vec<Segment>> {
    let mut stretches: Vec<Vec<Segment>> = Vec::new();
    let mut room = 0;
    let (length, starts) = runs(convolution, group);
    for offset in starts {
        let mut start = 0;
        while start < length {
            if room == 0 {
                stretches.push(Vec::new());
                room = STRETCH;
            }
            let len = room.min(length - start);
            let segment = Segment { offset: offset + start, len };
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

/// `R` vectors; zeros where `values` ends.
#[inline(always)]
pub(super) fn load<S: Simd, const R: usize>(simd: S, values: &[f32]) -> [S::f32s; R] {
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
pub(super) fn store<S: Simd, const R: usize>(simd: S, values: &mut [f32], vectors: [S::f32s; R]) {
    if let ([place], _) = S::as_mut_simd_f32s(values).0.as_chunks_mut::<R>() {
        *place = vectors;
        return;
    }
    for (values, vector) in values.chunks_mut(S::F32_LANES).zip(vectors) {
        simd.partial_store_f32s(values, vector);
    }
}
