//! Max-pooling as a tournament over gathered windows.
//!
//! Layout: a task takes some rows of the output, of any number of images and channels, and copies tap `k` of
//! each of their windows into the buffer `taps[k]`, so that the tournament is arithmetic on a few long
//! contiguous buffers, whatever the stride and however small the image.

use std::cell::RefCell;
use std::ops::Range;

use candle_core::Layout;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::composite::Composite;
use super::{InBlocks, build, in_blocks};
use crate::max_pool::PoolSpec;
use crate::range::RangeStats;
use crate::simd::SimdLevel;

/// Outputs a task computes, about: 9 buffers of them stay in the core's own cache.
const OUTPUTS_PER_TASK: usize = 2048;

/// Which maximum of two.
#[derive(Clone, Copy)]
pub(crate) enum Max<'a> {
    /// The larger one; NaN if either is.
    Exact,
    /// `(a + b + (a − b) s(c (a − b))) / 2`: the paper's `max_alpha` of `c·a + 1/2` and `c·b + 1/2`, brought
    /// back to the scale of `a` and `b`. The shift by 1/2 cancels.
    Minimax { sign: &'a Composite, c: f64, exact_outside: bool },
}

impl Max<'_> {
    /// What padding counts as.
    fn padding_value(&self) -> f32 {
        match self {
            Self::Exact => f32::NEG_INFINITY,
            Self::Minimax { .. } => 0.0,
        }
    }

    #[inline(always)]
    fn eval<S: Simd, const N: usize>(&self, simd: S, a: [S::f32s; N], b: [S::f32s; N]) -> [S::f32s; N] {
        let mut max = a;
        match self {
            Self::Exact => {
                for i in 0..N {
                    max[i] = simd.select_f32s(simd.greater_than_f32s(b[i], a[i]), b[i], a[i]);
                    // NaN differs from itself.
                    max[i] = simd.select_f32s(simd.equal_f32s(b[i], b[i]), max[i], b[i]);
                }
            }
            Self::Minimax { sign, c, exact_outside } => {
                let half = simd.splat_f32s(0.5);
                let mut differences = a;
                for i in 0..N {
                    differences[i] = simd.sub_f32s(a[i], b[i]);
                }
                let half_s = sign.eval(simd, differences, sign.scale(*c), *c);
                for i in 0..N {
                    let (sum, difference) = (simd.add_f32s(a[i], b[i]), simd.sub_f32s(a[i], b[i]));
                    max[i] = simd.mul_add_e_f32s(difference, half_s[i], simd.mul_f32s(sum, half));
                    if *exact_outside {
                        let exact = simd.select_f32s(simd.greater_than_f32s(b[i], a[i]), b[i], a[i]);
                        let is_within =
                            is_within(simd, simd.mul_f32s(difference, simd.splat_f32s(*c as f32)));
                        max[i] = simd.select_f32s(is_within, max[i], exact);
                    }
                }
            }
        }
        max
    }

    /// The derivatives in `a` and in `b`.
    #[inline(always)]
    fn derivatives<S: Simd>(&self, simd: S, a: S::f32s, b: S::f32s) -> (S::f32s, S::f32s) {
        let one = simd.splat_f32s(1.0);
        let exact = simd.select_f32s(simd.greater_than_f32s(b, a), simd.splat_f32s(0.0), one);
        let in_a = match self {
            Self::Exact => exact,
            Self::Minimax { sign, c, exact_outside } => {
                let d = simd.mul_f32s(simd.sub_f32s(a, b), simd.splat_f32s(*c as f32));
                let (half_s, half_slope) = sign.eval_with_derivative(simd, simd.sub_f32s(a, b), *c);
                let approximate =
                    simd.add_f32s(simd.splat_f32s(0.5), simd.mul_add_e_f32s(d, half_slope, half_s));
                match *exact_outside {
                    true => simd.select_f32s(is_within(simd, d), approximate, exact),
                    false => approximate,
                }
            }
        };
        (in_a, simd.sub_f32s(one, in_a))
    }
}

/// Whether `|d| ≤ 1`.
#[inline(always)]
fn is_within<S: Simd>(simd: S, d: S::f32s) -> S::m32s {
    simd.less_than_or_equal_f32s(simd.abs_f32s(d), simd.splat_f32s(1.0))
}

/// Who plays whom, in order; the first of each pair takes the winner's place, and tap 0 wins in the end.
fn rounds(taps: usize) -> &'static [(usize, usize)] {
    match taps {
        4 => &[(0, 1), (2, 3), (0, 2)],
        9 => &[(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (4, 6), (0, 4), (0, 8)],
        _ => unreachable!("PoolSpec allows windows of 4 or 9 taps, not {taps}"),
    }
}

thread_local! {
    /// Kept from task to task, so that nothing is allocated in the steady state.
    static TAPS: RefCell<Vec<Vec<f32>>> = RefCell::default();
}

/// A batch of images and how it is pooled.
pub(crate) struct Pooling<'a> {
    pub(crate) spec: PoolSpec,
    pub(crate) max: Max<'a>,
    pub(crate) bound: f32,
    /// `[N, C, H, W]`.
    pub(crate) shape: [usize; 4],
    /// Output height and width.
    pub(crate) output: (usize, usize),
}

impl Pooling<'_> {
    fn planes(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// The pooled images, `[N, C, *output]`, and the range of the whole input.
    pub(crate) fn forward(&self, values: &[f32], layout: &Layout) -> (Vec<f32>, RangeStats) {
        let (height, width) = self.output;
        self.play(self.planes() * height, width, |rows, taps| {
            self.gather(values, layout, rows.clone(), taps);
            self.measure(values, layout, rows)
        })
    }

    /// As [`Pooling::forward`] where `values` are `[N, H, W, C]`, contiguous, and so is the result.
    pub(crate) fn forward_channels_last(&self, values: &[f32]) -> (Vec<f32>, RangeStats) {
        let [images, channels, height, width] = self.shape;
        let (out_height, out_width) = self.output;
        self.play(images * out_height, out_width * channels, |rows, taps| {
            self.gather_channels_last(values, rows.clone(), taps);
            let of_row = |row: usize| {
                let (image, own) = (row / out_height * height, self.own_rows(row % out_height));
                let place = |y: usize| (image + y) * width * channels;
                RangeStats::of(&values[place(own.start)..place(own.end)], self.bound)
            };
            rows.map(of_row).fold(RangeStats::default(), RangeStats::merge)
        })
    }

    /// Plays the tournaments of `count` rows of `row` outputs. `fill` gathers the taps of some rows and gives the
    /// range of the input that belongs to them.
    fn play(
        &self,
        count: usize,
        row: usize,
        fill: impl Fn(Range<usize>, &mut Vec<Vec<f32>>) -> RangeStats + Sync,
    ) -> (Vec<f32>, RangeStats) {
        if count * row == 0 {
            return (Vec::new(), RangeStats::default());
        }
        let rows_per_task = OUTPUTS_PER_TASK.div_ceil(row);
        let (outputs, ranges) = build(count * row, rows_per_task * row, |start, outputs| {
            let first = start / row;
            TAPS.with_borrow_mut(|taps| {
                let range = fill(first..first + outputs.len() / row, taps);
                let tournament = Tournament { max: self.max, taps: taps.as_mut_slice(), saved: None };
                SimdLevel::current().run(tournament);
                outputs.copy_from_slice(&taps[0]);
                range
            })
        });
        (outputs, ranges.into_iter().fold(RangeStats::default(), RangeStats::merge))
    }

    /// As [`Pooling::gather`], of `[N, H, W, C]`.
    fn gather_channels_last(&self, values: &[f32], rows: Range<usize>, taps: &mut Vec<Vec<f32>>) {
        let [_, channels, height, width] = self.shape;
        let (out_height, out_width) = self.output;
        let kernel = self.spec.kernel();
        let padding = self.max.padding_value();
        taps.resize(kernel * kernel, Vec::new());
        for (k, tap) in taps.iter_mut().enumerate() {
            tap.clear();
            let valid = self.valid_columns(k % kernel);
            for row in rows.clone() {
                let (image, out_y) = (row / out_height, row % out_height);
                let Some(y) = self.input_row(out_y, k / kernel) else {
                    tap.resize(tap.len() + out_width * channels, padding);
                    continue;
                };
                tap.resize(tap.len() + valid.start * channels, padding);
                for out_x in valid.clone() {
                    let x = out_x * self.spec.stride() + k % kernel - self.spec.padding();
                    let start = ((image * height + y) * width + x) * channels;
                    tap.extend_from_slice(&values[start..start + channels]);
                }
                tap.resize(tap.len() + (out_width - valid.end) * channels, padding);
            }
        }
    }

    /// The gradient of the input, `[N, C, H, W]`, from that of the output.
    pub(crate) fn backward(&self, values: &[f32], layout: &Layout, output_gradients: &[f32]) -> Vec<f32> {
        let [_, _, height, width] = self.shape;
        let (out_height, out_width) = self.output;
        let sizes = [height * width, out_height * out_width];
        self.play_back(output_gradients, self.planes(), sizes, 1, |plane, taps| {
            self.gather(values, layout, plane * out_height..(plane + 1) * out_height, taps);
        })
    }

    /// As [`Pooling::backward`] where all are `[N, H, W, C]`.
    pub(crate) fn backward_channels_last(&self, values: &[f32], output_gradients: &[f32]) -> Vec<f32> {
        let [images, channels, height, width] = self.shape;
        let (out_height, out_width) = self.output;
        let sizes = [height * width * channels, out_height * out_width * channels];
        self.play_back(output_gradients, images, sizes, channels, |image, taps| {
            self.gather_channels_last(values, image * out_height..(image + 1) * out_height, taps);
        })
    }

    /// Plays the tournaments of `count` planes or images backwards. `sizes` are those of a plane or image of the input
    /// and of the output, with `channels` numbers a pixel.
    fn play_back(
        &self,
        output_gradients: &[f32],
        count: usize,
        [input, output]: [usize; 2],
        channels: usize,
        fill: impl Fn(usize, &mut Vec<Vec<f32>>) + Sync,
    ) -> Vec<f32> {
        let mut gradients = vec![0.0; count * input];
        if gradients.is_empty() {
            return gradients;
        }
        gradients.par_chunks_mut(input).zip(output_gradients.par_chunks(output)).enumerate().for_each_init(
            || (Vec::new(), Vec::new()),
            |(taps, saved), (i, (gradients, output_gradients))| {
                fill(i, taps);
                let level = SimdLevel::current();
                level.run(Tournament { max: self.max, taps: taps.as_mut_slice(), saved: Some(&mut *saved) });
                taps[0].copy_from_slice(output_gradients);
                level.run(TournamentGradient { max: self.max, taps: taps.as_mut_slice(), saved });
                self.scatter(taps, gradients, channels);
            },
        );
        gradients
    }

    /// The range of the input rows that belong to these output rows; each input row belongs to one.
    fn measure(&self, values: &[f32], layout: &Layout, rows: Range<usize>) -> RangeStats {
        let [_, channels, _, width] = self.shape;
        let (out_height, _) = self.output;
        let mut buffer = Vec::new();
        let mut range = RangeStats::default();
        for row in rows {
            let (plane, out_y) = (row / out_height, row % out_height);
            for y in self.own_rows(out_y) {
                let start = offset(layout, plane / channels, plane % channels, y);
                let stats = match layout.stride()[3] {
                    1 => RangeStats::of(&values[start..start + width], self.bound),
                    stride => {
                        buffer.clear();
                        buffer.extend((0..width).map(|x| values[start + x * stride]));
                        RangeStats::of(&buffer, self.bound)
                    }
                };
                range = range.merge(stats);
            }
        }
        range
    }

    /// The input rows that are measured with output row `out_y`: each is with one.
    fn own_rows(&self, out_y: usize) -> Range<usize> {
        let height = self.shape[2];
        let first = (out_y * self.spec.stride()).min(height);
        let end = if out_y + 1 == self.output.0 { height } else { (first + self.spec.stride()).min(height) };
        first..end
    }

    /// Fills `taps[k]` with tap `k` of each window of these output rows.
    fn gather(&self, values: &[f32], layout: &Layout, rows: Range<usize>, taps: &mut Vec<Vec<f32>>) {
        let [_, channels, ..] = self.shape;
        let (out_height, out_width) = self.output;
        let kernel = self.spec.kernel();
        let stride = layout.stride()[3];
        let padding = self.max.padding_value();
        taps.resize(kernel * kernel, Vec::new());
        for (k, tap) in taps.iter_mut().enumerate() {
            tap.clear();
            let valid = self.valid_columns(k % kernel);
            for row in rows.clone() {
                let (plane, out_y) = (row / out_height, row % out_height);
                let Some(y) = self.input_row(out_y, k / kernel) else {
                    tap.resize(tap.len() + out_width, padding);
                    continue;
                };
                let start = offset(layout, plane / channels, plane % channels, y);
                tap.resize(tap.len() + valid.start, padding);
                if !valid.is_empty() {
                    let x = valid.start * self.spec.stride() + k % kernel - self.spec.padding();
                    let columns = values[start + x * stride..].iter().step_by(self.spec.stride() * stride);
                    tap.extend(columns.take(valid.len()));
                }
                tap.resize(tap.len() + out_width - valid.end, padding);
            }
        }
    }

    /// Adds the gradients of each window's taps to those of one plane or image, with `channels` numbers a pixel.
    fn scatter(&self, taps: &[Vec<f32>], gradients: &mut [f32], channels: usize) {
        let [.., width] = self.shape;
        let (out_height, out_width) = self.output;
        let kernel = self.spec.kernel();
        for (k, tap) in taps.iter().enumerate() {
            let valid = self.valid_columns(k % kernel);
            for out_y in 0..out_height {
                let Some(y) = self.input_row(out_y, k / kernel) else { continue };
                for out_x in valid.clone() {
                    let x = out_x * self.spec.stride() + k % kernel - self.spec.padding();
                    let from = &tap[(out_y * out_width + out_x) * channels..][..channels];
                    let to = &mut gradients[(y * width + x) * channels..][..channels];
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += from;
                    }
                }
            }
        }
    }

    /// The input row that tap row `tap_y` of the window in output row `out_y` is in, if it is in the image.
    fn input_row(&self, out_y: usize, tap_y: usize) -> Option<usize> {
        let y = (out_y * self.spec.stride() + tap_y).checked_sub(self.spec.padding())?;
        (y < self.shape[2]).then_some(y)
    }

    /// The output columns whose tap column `tap_x` is in the image.
    fn valid_columns(&self, tap_x: usize) -> Range<usize> {
        let (padding, stride) = (self.spec.padding(), self.spec.stride());
        let out_width = self.output.1;
        let first = padding.saturating_sub(tap_x).div_ceil(stride).min(out_width);
        // out_x · stride + tap_x − padding < width
        let end = (self.shape[3] + padding).saturating_sub(tap_x).div_ceil(stride).min(out_width);
        first..end.max(first)
    }
}

/// Where row `y` of an image's channel begins in the storage.
fn offset(layout: &Layout, image: usize, channel: usize, y: usize) -> usize {
    let stride = layout.stride();
    layout.start_offset() + image * stride[0] + channel * stride[1] + y * stride[2]
}

/// Plays the tournament; the winners end up in `taps[0]`. Each round's players are kept in `saved` if given.
struct Tournament<'a, 'b> {
    max: Max<'a>,
    taps: &'b mut [Vec<f32>],
    saved: Option<&'b mut Vec<[Vec<f32>; 2]>>,
}

impl WithSimd for Tournament<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        in_blocks(simd, self);
    }
}

impl InBlocks for Tournament<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(mut self, simd: S) {
        let rounds = rounds(self.taps.len());
        if let Some(saved) = self.saved.as_deref_mut() {
            saved.resize(rounds.len(), Default::default());
        }
        for (round, &(first, second)) in rounds.iter().enumerate() {
            let [a, b] = self.taps.get_disjoint_mut([first, second]).expect("a tap does not play itself");
            if let Some(saved) = self.saved.as_deref_mut() {
                saved[round][0].clone_from(a);
                saved[round][1].clone_from(b);
            }
            let (a, a_tail) = S::as_mut_simd_f32s(a);
            let (b, b_tail) = S::as_simd_f32s(b);
            let (a_blocks, a_rest) = a.as_chunks_mut::<N>();
            let (b_blocks, b_rest) = b.as_chunks::<N>();
            for (a, b) in a_blocks.iter_mut().zip(b_blocks) {
                *a = self.max.eval(simd, *a, *b);
            }
            for (a, b) in a_rest.iter_mut().zip(b_rest) {
                [*a] = self.max.eval(simd, [*a], [*b]);
            }
            let (a, b) = (simd.partial_load_f32s(a_tail), simd.partial_load_f32s(b_tail));
            let [winner] = self.max.eval(simd, [a], [b]);
            simd.partial_store_f32s(a_tail, winner);
        }
    }
}

/// Plays it backwards: `taps[0]` holds the winners' gradients, and each tap gets its own.
struct TournamentGradient<'a, 'b> {
    max: Max<'a>,
    taps: &'b mut [Vec<f32>],
    saved: &'b [[Vec<f32>; 2]],
}

impl WithSimd for TournamentGradient<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (&(first, second), [a, b]) in rounds(self.taps.len()).iter().zip(self.saved).rev() {
            let taps = self.taps.get_disjoint_mut([first, second]).expect("a tap does not play itself");
            let [first, second] = taps;
            let ((first, first_tail), (second, second_tail)) =
                (S::as_mut_simd_f32s(first), S::as_mut_simd_f32s(second));
            let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
            for (((first, second), &a), &b) in first.iter_mut().zip(second).zip(a).zip(b) {
                let (in_a, in_b) = self.max.derivatives(simd, a, b);
                *second = simd.mul_f32s(*first, in_b);
                *first = simd.mul_f32s(*first, in_a);
            }
            let (a, b) = (simd.partial_load_f32s(a_tail), simd.partial_load_f32s(b_tail));
            let (in_a, in_b) = self.max.derivatives(simd, a, b);
            let winner = simd.partial_load_f32s(first_tail);
            simd.partial_store_f32s(second_tail, simd.mul_f32s(winner, in_b));
            simd.partial_store_f32s(first_tail, simd.mul_f32s(winner, in_a));
        }
    }
}
