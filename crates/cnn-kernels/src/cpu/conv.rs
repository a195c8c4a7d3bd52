//! Convolution on the CPU, in one of three forms: [`winograd`] for 3×3 kernels with stride 1, [`depthwise`] where each
//! channel is convolved by itself, else [`direct`].
//!
//! Layout. The result is channels-last, `[N, H', W', outputs]`; a task computes some rows of it, and applies residual
//! and epilogue while they are in its core's cache. Weights are packed in panels of [`BLOCK`] output channels. The
//! first and the last form end in the same inner loop, [`multiply_add`]: `P` pixels × `BLOCK` channels of sums in registers, to which it
//! adds, for each input channel, the broadcast input times a row of the panel.

use candle_core::Layout;
use pulp::{Simd, WithSimd};

use super::{depthwise, direct, direct_gradient, winograd, winograd_gradient};
use crate::epilogue::Epilogue;
use crate::geometry::ConvGeometry;
use crate::range::RangeStats;
use crate::simd::SimdLevel;

/// Output channels in a panel.
pub(super) const BLOCK: usize = 16;
/// Pixels that a task should have at least, so that the weights are not read for a few: a multiple of the pixels
/// of a register tile at every level.
pub(super) const TASK_PIXELS: usize = 84;
/// Bytes that a gradient of weights takes from the batch at a time, so that they stay in the cache.
pub(super) const PORTION_BYTES: usize = 4 << 20;
/// Numbers of the result that are finished at once: a multiple of the blocks of functions at every level
/// ([`in_blocks`](super::in_blocks)).
const PIECE: usize = 2016;

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Direct,
    Depthwise,
    Winograd,
}

/// The form that is faster, unless the output is of few pixels.
pub(crate) fn best_form(geometry: &ConvGeometry) -> Form {
    if winograd::suits(geometry) { Form::Winograd } else { plain_form(geometry) }
}

/// The form that multiplies each weight with each pixel.
pub(crate) fn plain_form(geometry: &ConvGeometry) -> Form {
    if geometry.is_depthwise() { Form::Depthwise } else { Form::Direct }
}

/// Packs `weight`, of [`ConvGeometry::weight_shape`], contiguous.
pub(crate) fn pack(geometry: &ConvGeometry, form: Form, weight: &[f32]) -> Vec<f32> {
    match form {
        Form::Direct => direct::pack(geometry, weight),
        Form::Depthwise => depthwise::pack(geometry, weight),
        Form::Winograd => winograd::pack(geometry, weight),
    }
}

/// A convolution of a batch.
pub(crate) struct Convolution<'a> {
    pub(crate) geometry: ConvGeometry,
    pub(crate) form: Form,
    /// From [`pack`].
    pub(crate) weights: &'a [f32],
    pub(crate) bias: &'a [f32],
    /// Added to the result: `[N, H', W', outputs]`.
    pub(crate) residual: Option<&'a [f32]>,
    /// Applied to each task's result while that is in the cache.
    pub(crate) epilogue: Option<&'a dyn Epilogue>,
    /// `[N, C, H, W]`.
    pub(crate) shape: [usize; 4],
    /// Output height and width.
    pub(crate) output: [usize; 2],
}

impl Convolution<'_> {
    /// The result, `[N, H', W', outputs]`, and the range of the epilogue's inputs. `layout` is that of the
    /// input, of shape `[N, C, H, W]`.
    pub(crate) fn run(&self, input: &[f32], layout: &Layout) -> (Vec<f32>, RangeStats) {
        let [images, ..] = self.shape;
        let [out_height, out_width] = self.output;
        let len = images * out_height * out_width * self.geometry.outputs;
        let mut result = Vec::with_capacity(len);
        let memory = &mut result.spare_capacity_mut()[..len];
        let range = match self.form {
            _ if len == 0 => RangeStats::default(),
            Form::Direct => direct::run(self, input, layout, memory),
            Form::Depthwise => depthwise::run(self, input, layout, memory),
            Form::Winograd => winograd::run(self, input, layout, memory),
        };
        // SAFETY: each task of every form zeroes its share of the result, and the shares are all of it.
        unsafe { result.set_len(len) };
        (result, range)
    }

    /// The gradient of the weights, of [`ConvGeometry::weight_shape`]. `gradients` are those of the
    /// result, `[N, H', W', outputs]`; `layout` is that of the input, of shape `[N, C, H, W]`.
    pub(crate) fn weight_gradient(&self, input: &[f32], layout: &Layout, gradients: &[f32]) -> Vec<f32> {
        match self.form {
            Form::Direct => direct_gradient::weight_gradient(self, input, layout, gradients),
            Form::Depthwise => depthwise::weight_gradient(self, input, layout, gradients),
            Form::Winograd => winograd_gradient::weight_gradient(self, input, layout, gradients),
        }
    }

    /// Adds the residual to a task's result, whose first number is number `first` of all, and applies the
    /// epilogue, piece by piece while a piece is in the first-level cache.
    pub(super) fn finish(&self, first: usize, result: &mut [f32]) -> RangeStats {
        let mut range = RangeStats::default();
        let mut start = first;
        for piece in result.chunks_mut(PIECE) {
            if let Some(residual) = self.residual {
                let residual = &residual[start..start + piece.len()];
                SimdLevel::current().run(Add { values: &mut *piece, addends: residual });
            }
            if let Some(epilogue) = self.epilogue {
                range = range.merge(epilogue.apply_in_place(piece));
            }
            start += piece.len();
        }
        range
    }
}

/// A task whose inner loop is [`multiply_add`] on register tiles of `P` pixels × `R` vectors.
pub(super) trait Tiled {
    fn run<S: Simd, const R: usize, const P: usize>(self, simd: S);
}

/// Runs a task with as many pixels × vectors as fit the registers.
pub(super) struct InTiles<T>(pub(super) T);

impl<T: Tiled> WithSimd for InTiles<T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.0.run::<S, 1, 14>(simd),
            8 => self.0.run::<S, 2, 6>(simd),
            4 => self.0.run::<S, 4, 6>(simd),
            1 => self.0.run::<S, 16, 1>(simd),
            lanes => unreachable!("no register tile for {lanes} lanes"),
        }
    }
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

/// A task whose inner loop is [`add_outer_products`] on register tiles of `P` rows × `R` vectors.
pub(super) trait OuterTiled {
    fn run<S: Simd, const R: usize, const P: usize>(self, simd: S);
}

/// Runs a task with as many rows × vectors as fit the registers.
pub(super) struct InOuterTiles<T>(pub(super) T);

impl<T: OuterTiled> WithSimd for InOuterTiles<T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.0.run::<S, 1, 16>(simd),
            8 => self.0.run::<S, 2, 4>(simd),
            4 => self.0.run::<S, 4, 4>(simd),
            1 => self.0.run::<S, 16, 1>(simd),
            lanes => unreachable!("no register tile for {lanes} lanes"),
        }
    }
}

/// Rows that [`OuterTiled`] may read beyond the last one.
pub(super) const OUTER_MARGIN: usize = 16;

/// Adds to `sums`, for each pair of rows, the outer product of the first `P` numbers of one and the first `BLOCK` numbers
/// of the other.
#[inline(always)]
pub(super) fn add_outer_products<'v, S: Simd, const R: usize, const P: usize>(
    simd: S,
    pairs: impl Iterator<Item = (&'v [f32], &'v [f32])>,
    mut sums: [[S::f32s; R]; P],
) -> [[S::f32s; R]; P] {
    for (left, right) in pairs {
        let left: &[f32; P] = left.first_chunk().expect("there is a margin behind the last row");
        let right = S::as_simd_f32s(&right[..BLOCK]).0;
        for p in 0..P {
            let x = simd.splat_f32s(left[p]);
            for r in 0..R {
                sums[p][r] = simd.mul_add_e_f32s(x, right[r], sums[p][r]);
            }
        }
    }
    sums
}

/// Adds the rows of a register tile to `sums`, `[row][BLOCK]`, as many as there are.
#[inline(always)]
pub(super) fn add_tile<S: Simd, const R: usize, const P: usize>(
    simd: S,
    tile: &[[S::f32s; R]; P],
    sums: &mut [f32],
) {
    for (sums, tile) in S::as_mut_simd_f32s(sums).0.chunks_exact_mut(R).zip(tile) {
        for (sum, &x) in sums.iter_mut().zip(tile) {
            *sum = simd.add_f32s(*sum, x);
        }
    }
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
