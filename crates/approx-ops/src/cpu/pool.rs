//! Max-pooling as a tournament, of images that are channels-last.
//!
//! Layout: each input row is copied once, with its padding, into a buffer for each column phase: those of columns
//! 0, stride, 2 stride, …, of 1, 1 + stride, … and so on. Then tap k of all windows of an output row is one contiguous
//! stretch of one of these buffers, whatever the stride, and a round of the tournament is arithmetic on two stretches.
//! Rows are kept from one output row to the next, and, in windows of 2×2 and 3×3, so are the rounds between two taps of the
//! same row.

use std::cell::RefCell;
use std::ops::Range;

use cnn_kernels::cpu::{InBlocks, build, in_blocks, is_within_one, last_block, select, store_last_block};
use cnn_kernels::{Padding, PoolSpec, RangeStats, SimdLevel};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::composite::Composite;

/// Outputs a task computes, about: enough rows that the first ones, which nothing was kept from, do not weigh.
const OUTPUTS_PER_TASK: usize = 1 << 16;

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
                    max[i] = select(simd, simd.greater_than_f32s(b[i], a[i]), b[i], a[i]);
                    // NaN differs from itself.
                    max[i] = select(simd, simd.equal_f32s(b[i], b[i]), max[i], b[i]);
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
                        let exact = select(simd, simd.greater_than_f32s(b[i], a[i]), b[i], a[i]);
                        let is_within =
                            is_within_one(simd, simd.mul_f32s(difference, simd.splat_f32s(*c as f32)));
                        max[i] = select(simd, is_within, max[i], exact);
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
        let exact = select(simd, simd.greater_than_f32s(b, a), simd.splat_f32s(0.0), one);
        let in_a = match self {
            Self::Exact => exact,
            Self::Minimax { sign, c, exact_outside } => {
                let d = simd.mul_f32s(simd.sub_f32s(a, b), simd.splat_f32s(*c as f32));
                let (half_s, half_slope) = sign.eval_with_derivative(simd, simd.sub_f32s(a, b), *c);
                let approximate =
                    simd.add_f32s(simd.splat_f32s(0.5), simd.mul_add_e_f32s(d, half_slope, half_s));
                match *exact_outside {
                    true => select(simd, is_within_one(simd, d), approximate, exact),
                    false => approximate,
                }
            }
        };
        (in_a, simd.sub_f32s(one, in_a))
    }
}

/// Who plays whom, in order; the first of each pair takes the winner's place, and tap 0 wins in the end.
fn rounds(taps: usize) -> Vec<(usize, usize)> {
    let steps = (0..usize::BITS).map(|bit| 1 << bit).take_while(|&step| step < taps);
    let round = |step: usize| (0..taps - step).step_by(2 * step).map(move |first| (first, first + step));
    steps.flat_map(round).collect()
}

/// Numbers of all taps, and of the players of all rounds, that the way back of a large window keeps at a time: 64 MiB.
const KEPT: usize = 16 << 20;

thread_local! {
    /// Kept from task to task, so that nothing is allocated in the steady state.
    static ROWS: RefCell<Rows> = RefCell::default();
}

/// The input rows of a window, and what belongs to them.
#[derive(Default)]
struct Rows {
    /// Row `y` is in place `y % kernel`.
    rows: Vec<Row>,
    winners: Vec<Vec<f32>>,
}

impl Rows {
    /// Room for the rows and the winners of a window; nothing is kept from before.
    fn reset(&mut self, spec: &PoolSpec) {
        self.rows.resize_with(self.rows.len().max(spec.kernel()[0]), Row::default);
        self.rows.iter_mut().for_each(|row| row.place = None);
        let winners = 3.max(2 * spec.signs().0 as usize);
        self.winners.resize_with(self.winners.len().max(winners), Vec::new);
    }
}

/// An input row.
#[derive(Default)]
struct Row {
    /// Image and row, counted from the first row of padding; `None` if it is from an earlier task.
    place: Option<(usize, usize)>,
    /// For each phase, the columns of that phase, those of the padding too.
    columns: Vec<Vec<f32>>,
    /// The winners between the first two taps.
    left: Vec<f32>,
    has_left: bool,
}

/// A batch of images, `[N, H, W, C]`, contiguous, and how it is pooled.
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
    /// The pooled images, `[N, *output, C]`, and the range of the whole input.
    pub(crate) fn forward(&self, values: &[f32]) -> (Vec<f32>, RangeStats) {
        let [images, channels, height, width] = self.shape;
        let (out_height, out_width) = self.output;
        let row = out_width * channels;
        if images * row == 0 {
            return (Vec::new(), RangeStats::default());
        }
        let fair = (images * out_height).div_ceil(rayon::current_num_threads());
        let rows_per_task = OUTPUTS_PER_TASK.div_ceil(row).min(fair);
        let (outputs, ranges) = build(images * out_height * row, rows_per_task * row, |start, outputs| {
            ROWS.with_borrow_mut(|rows| {
                rows.reset(&self.spec);
                let mut range = RangeStats::default();
                for (i, outputs) in outputs.chunks_exact_mut(row).enumerate() {
                    let (image, out_y) = ((start / row + i) / out_height, (start / row + i) % out_height);
                    let own = self.own_rows(out_y);
                    let place = |y: usize| (image * height + y) * width * channels;
                    range =
                        range.merge(RangeStats::of(&values[place(own.start)..place(own.end)], self.bound));
                    self.play(values, (image, out_y), rows, outputs);
                }
                range
            })
        });
        (outputs, ranges.into_iter().fold(RangeStats::default(), RangeStats::merge))
    }

    /// Plays the tournaments of one output row, in the order of [`rounds`].
    fn play(
        &self,
        values: &[f32],
        (image, out_y): (usize, usize),
        Rows { rows, winners }: &mut Rows,
        outputs: &mut [f32],
    ) {
        self.load(values, (image, out_y), rows);
        match self.spec.kernel() {
            [2, 2] => self.play_small::<2>(out_y, rows, winners, outputs),
            [3, 3] => self.play_small::<3>(out_y, rows, winners, outputs),
            [rows_of_window, columns] => {
                let row = |tap_y: usize| &rows[(out_y * self.spec.stride()[0] + tap_y) % rows_of_window];
                let taps: Vec<&[f32]> = (0..rows_of_window * columns)
                    .map(|k| self.tap(row(k / columns), k % columns, outputs.len()))
                    .collect();
                self.play_taps(&taps, winners, outputs);
            }
        }
    }

    /// Plays the tournaments of some taps: as many as the largest power of two below their number among themselves, the
    /// others among themselves, and then the two that are left.
    fn play_taps(&self, taps: &[&[f32]], winners: &mut [Vec<f32>], outputs: &mut [f32]) {
        match taps {
            [tap] => outputs.copy_from_slice(tap),
            [a, b] => self.round(a, b, outputs),
            _ => {
                let (first, others) = taps.split_at(taps.len().next_power_of_two() / 2);
                let ([own, other], winners) = winners.split_first_chunk_mut().expect("two for each round");
                self.play_taps(first, winners, resized(own, outputs.len()));
                self.play_taps(others, winners, resized(other, outputs.len()));
                self.round(own, other, outputs);
            }
        }
    }

    /// The same for a window of 2×2 or 3×3, where rounds are kept for the next row and column.
    fn play_small<const KERNEL: usize>(
        &self,
        out_y: usize,
        rows: &mut [Row],
        winners: &mut [Vec<f32>],
        outputs: &mut [f32],
    ) {
        let len = outputs.len();
        let [step_y, step_x] = self.spec.stride();
        let is_shared = step_x == 1 && KERNEL == 3;
        let place = |tap_y: usize| (out_y * step_y + tap_y) % KERNEL;
        for tap_y in 0..KERNEL {
            let row = &mut rows[place(tap_y)];
            // In the middle row of three the last two taps play: with stride 1, the first two of the next column.
            if !row.has_left && (tap_y != 1 || KERNEL == 2 || is_shared) {
                let len = if is_shared { len + self.shape[1] } else { len };
                let mut left = std::mem::take(&mut row.left);
                self.round(self.tap(row, 0, len), self.tap(row, 1, len), resized(&mut left, len));
                (row.left, row.has_left) = (left, true);
            }
        }
        let row = |tap_y: usize| &rows[place(tap_y)];
        if KERNEL == 2 {
            self.round(&row(0).left, &row(1).left, outputs);
            return;
        }
        let winners = winners.first_chunk_mut::<3>().expect("there are three at least");
        let [first, second, third] = winners.each_mut().map(|winners| resized(winners, len));
        self.round(self.tap(row(0), 2, len), self.tap(row(1), 0, len), first);
        self.round(&row(0).left[..len], first, second);
        match is_shared {
            true => self.round(&row(1).left[self.shape[1]..], &row(2).left[..len], first),
            false => {
                self.round(self.tap(row(1), 1, len), self.tap(row(1), 2, len), third);
                self.round(third, &row(2).left, first);
            }
        }
        self.round(second, first, third);
        self.round(third, self.tap(row(2), 2, len), outputs);
    }

    /// Copies the input rows of the windows of an output row, as far as they are not there.
    fn load(&self, values: &[f32], (image, out_y): (usize, usize), rows: &mut [Row]) {
        let (kernel, first) = (self.spec.kernel()[0], out_y * self.spec.stride()[0]);
        for y in first..first + kernel {
            let row = &mut rows[y % kernel];
            if row.place != Some((image, y)) {
                self.copy_row(values, (image, y), row);
            }
        }
    }

    /// The larger ones of `a` and `b`.
    fn round(&self, a: &[f32], b: &[f32], winners: &mut [f32]) {
        SimdLevel::current().run(Round { max: self.max, a, b, winners });
    }

    /// The first `len` numbers of tap column `tap_x` of the windows in this row.
    fn tap<'r>(&self, row: &'r Row, tap_x: usize, len: usize) -> &'r [f32] {
        let stride = self.spec.stride()[1];
        &row.columns[tap_x % stride][tap_x / stride * self.shape[1]..][..len]
    }

    /// Copies row `y` of an image, where row 0 is the first one of the padding.
    fn copy_row(&self, values: &[f32], (image, y): (usize, usize), row: &mut Row) {
        let [_, channels, height, width] = self.shape;
        let ([_, stride], [_, kernel]) = (self.spec.stride(), self.spec.kernel());
        let Padding { top, left, .. } = self.spec.padding();
        (row.place, row.has_left) = (Some((image, y)), false);
        row.columns.resize(stride.min(kernel), Vec::new());
        let input = y.checked_sub(top).filter(|y| *y < height).map(|y| {
            let start = (image * height + y) * width * channels;
            &values[start..start + width * channels]
        });
        for (phase, buffer) in row.columns.iter_mut().enumerate() {
            // As many as the windows reach.
            let columns = self.output.1 + (kernel - 1 - phase) / stride;
            buffer.clear();
            for column in 0..columns {
                let x = (column * stride + phase).checked_sub(left).filter(|x| *x < width);
                match x.and_then(|x| input?.get(x * channels..(x + 1) * channels)) {
                    Some(pixel) => buffer.extend_from_slice(pixel),
                    None => buffer.resize(buffer.len() + channels, self.max.padding_value()),
                }
            }
        }
    }

    /// Fills `taps[k]` with tap `k` of each window in some output rows of an image.
    fn gather(
        &self,
        values: &[f32],
        image: usize,
        out_rows: Range<usize>,
        rows: &mut Rows,
        taps: &mut Vec<Vec<f32>>,
    ) {
        let [kernel_rows, kernel_columns] = self.spec.kernel();
        taps.resize(self.spec.values(), Vec::new());
        taps.iter_mut().for_each(Vec::clear);
        for out_y in out_rows {
            self.load(values, (image, out_y), &mut rows.rows);
            for (k, tap) in taps.iter_mut().enumerate() {
                let row = &rows.rows[(out_y * self.spec.stride()[0] + k / kernel_columns) % kernel_rows];
                tap.extend_from_slice(self.tap(row, k % kernel_columns, self.output.1 * self.shape[1]));
            }
        }
    }

    /// The gradient of the input, `[N, H, W, C]`, from that of the output.
    pub(crate) fn backward(&self, values: &[f32], output_gradients: &[f32]) -> Vec<f32> {
        let [images, channels, height, width] = self.shape;
        let (out_height, out_width) = self.output;
        let (input, output) = (height * width * channels, out_height * out_width * channels);
        let mut gradients = vec![0.0; images * input];
        if gradients.is_empty() {
            return gradients;
        }
        let row = out_width * channels;
        // All rows at once for the small windows, fewer where there are many taps.
        let rows_at_once = match self.spec.values() {
            0..=9 => out_height,
            values => (KEPT / (3 * values * row)).clamp(1, out_height),
        };
        gradients.par_chunks_mut(input).zip(output_gradients.par_chunks(output)).enumerate().for_each_init(
            || (Rows::default(), Vec::new(), Vec::new()),
            |(rows, taps, saved), (image, (gradients, output_gradients))| {
                rows.reset(&self.spec);
                for start in (0..out_height).step_by(rows_at_once) {
                    let out_rows = start..(start + rows_at_once).min(out_height);
                    self.gather(values, image, out_rows.clone(), rows, taps);
                    let level = SimdLevel::current();
                    level.run(Tournament { max: self.max, taps: taps.as_mut_slice(), saved });
                    taps[0].copy_from_slice(&output_gradients[out_rows.start * row..out_rows.end * row]);
                    level.run(TournamentGradient { max: self.max, taps: taps.as_mut_slice(), saved });
                    self.scatter(taps, out_rows, gradients);
                }
            },
        );
        gradients
    }

    /// The input rows that are measured with output row `out_y`: each is with one.
    fn own_rows(&self, out_y: usize) -> Range<usize> {
        let height = self.shape[2];
        let stride = self.spec.stride()[0];
        let first = (out_y * stride).min(height);
        let end = if out_y + 1 == self.output.0 { height } else { (first + stride).min(height) };
        first..end
    }

    /// Adds the gradients of the taps of the windows in some output rows to those of one image.
    fn scatter(&self, taps: &[Vec<f32>], out_rows: Range<usize>, gradients: &mut [f32]) {
        let [_, channels, _, width] = self.shape;
        let out_width = self.output.1;
        let ([_, kernel], [_, stride]) = (self.spec.kernel(), self.spec.stride());
        for (k, tap) in taps.iter().enumerate() {
            let valid = self.valid_columns(k % kernel);
            for (i, out_y) in out_rows.clone().enumerate() {
                let Some(y) = self.input_row(out_y, k / kernel) else { continue };
                for out_x in valid.clone() {
                    let x = out_x * stride + k % kernel - self.spec.padding().left;
                    let from = &tap[(i * out_width + out_x) * channels..][..channels];
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
        let y = (out_y * self.spec.stride()[0] + tap_y).checked_sub(self.spec.padding().top)?;
        (y < self.shape[2]).then_some(y)
    }

    /// The output columns whose tap column `tap_x` is in the image.
    fn valid_columns(&self, tap_x: usize) -> Range<usize> {
        let (padding, stride) = (self.spec.padding().left, self.spec.stride()[1]);
        let out_width = self.output.1;
        let first = padding.saturating_sub(tap_x).div_ceil(stride).min(out_width);
        // out_x · stride + tap_x − padding < width
        let end = (self.shape[3] + padding).saturating_sub(tap_x).div_ceil(stride).min(out_width);
        first..end.max(first)
    }
}

/// `len` numbers to write over.
fn resized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

/// A round of many tournaments.
struct Round<'a> {
    max: Max<'a>,
    a: &'a [f32],
    b: &'a [f32],
    winners: &'a mut [f32],
}

impl WithSimd for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        in_blocks(simd, self);
    }
}

impl InBlocks for Round<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Round { max, a, b, winners } = self;
        let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
        let (winners, winners_tail) = S::as_mut_simd_f32s(winners);
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<N>(), b.as_chunks::<N>());
        let (winners, rest) = winners.as_chunks_mut::<N>();
        for ((winners, a), b) in winners.iter_mut().zip(a).zip(b) {
            *winners = max.eval(simd, *a, *b);
        }
        if !rest.is_empty() || !winners_tail.is_empty() {
            let (a, b) = (last_block(simd, a_rest, a_tail), last_block(simd, b_rest, b_tail));
            store_last_block(simd, max.eval::<S, N>(simd, a, b), rest, winners_tail);
        }
    }
}

/// Plays the tournament; the winners end up in `taps[0]`, and each round's players in `saved`.
struct Tournament<'a, 'b> {
    max: Max<'a>,
    taps: &'b mut [Vec<f32>],
    saved: &'b mut Vec<[Vec<f32>; 2]>,
}

impl WithSimd for Tournament<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rounds = rounds(self.taps.len());
        self.saved.resize(rounds.len(), Default::default());
        for (&(first, second), [a, b]) in rounds.iter().zip(self.saved) {
            a.clone_from(&self.taps[first]);
            b.clone_from(&self.taps[second]);
            in_blocks(simd, Round { max: self.max, a, b, winners: &mut self.taps[first] });
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
