//! The CPU kernels: generic over the vector instructions (crate `pulp`), chunked over rayon's threads; and, public, what
//! they have in common with kernels that other crates write in the same way.

pub(crate) mod batch_norm;
pub(crate) mod conv;
mod depthwise;
mod direct;
mod direct_gradient;
mod winograd;
mod winograd_gradient;

use std::borrow::Cow;
use std::mem::MaybeUninit;

use candle_core::{CpuStorage, Layout, NdIter, Storage, Tensor};
use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use crate::simd::SimdLevel;

/// Elements a task works on: 64 KiB, which stay in the core's own cache between being copied and mapped.
pub const CHUNK: usize = 1 << 14;

/// Vectors in flight at once: enough independent chains to hide the latency of a multiply-add, few enough for
/// AVX2's 16 registers.
const UNROLL: usize = 4;

/// A loop over blocks of `N` vectors, which are in flight together.
pub trait InBlocks {
    /// Runs it.
    fn run<S: Simd, const N: usize>(self, simd: S);
}

/// Runs a loop that waits for one multiply-add after the other in as large blocks as there are registers for: with 16 of
/// them a few more than fit, which costs less than waiting. Without vectors, a block is what the compiler makes some of.
#[inline(always)]
pub fn in_blocks<S: Simd>(simd: S, op: impl InBlocks) {
    match S::F32_LANES {
        1 => op.run::<S, 16>(simd),
        _ => op.run::<S, 6>(simd),
    }
}

/// `if_true` in the lanes of `mask`, else `if_false`. pulp's function for float32 is not always inlined, and its calls
/// took most of exact max-pooling's time with AVX2.
#[inline(always)]
pub fn select<S: Simd>(simd: S, mask: S::m32s, if_true: S::f32s, if_false: S::f32s) -> S::f32s {
    let (if_true, if_false) = (simd.transmute_u32s_f32s(if_true), simd.transmute_u32s_f32s(if_false));
    simd.transmute_f32s_u32s(simd.select_u32s(mask, if_true, if_false))
}

/// The bits of `|x|`. Without the sign bit, float32 and its bits have the same order, and NaN is above infinity.
#[inline(always)]
fn abs_bits<S: Simd>(simd: S, x: S::f32s) -> S::u32s {
    simd.and_u32s(simd.transmute_u32s_f32s(x), simd.splat_u32s(0x7fff_ffff))
}

/// Whether `|x| ≤ 1`.
#[inline(always)]
pub fn is_within_one<S: Simd>(simd: S, x: S::f32s) -> S::m32s {
    simd.less_than_or_equal_f32s(simd.transmute_f32s_u32s(abs_bits(simd, x)), simd.splat_f32s(1.0))
}

/// What is left behind the last whole block, filled up: one block costs less than a few vectors one by one, each of which
/// waits for itself.
#[inline(always)]
pub fn last_block<S: Simd, const N: usize>(simd: S, rest: &[S::f32s], tail: &[f32]) -> [S::f32s; N] {
    let mut block = [simd.splat_f32s(0.0); N];
    block[..rest.len()].copy_from_slice(rest);
    block[rest.len()] = simd.partial_load_f32s(tail);
    block
}

/// Writes the block to where [`last_block`] took it from.
#[inline(always)]
pub fn store_last_block<S: Simd, const N: usize>(
    simd: S,
    block: [S::f32s; N],
    rest: &mut [S::f32s],
    tail: &mut [f32],
) {
    rest.copy_from_slice(&block[..rest.len()]);
    simd.partial_store_f32s(tail, block[rest.len()]);
}

/// Float32 storage as a slice.
///
/// # Errors
/// candle's, for another type.
pub fn as_f32(storage: &CpuStorage) -> candle_core::Result<&[f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(values),
        _ => candle_core::bail!("expected float32 storage"),
    }
}

/// `len` numbers that `fill` makes piece by piece, on all threads, and what it gives for each piece, in order. It gets
/// the index of the first number, and zeros to write over: zeroed by the thread that writes them, so that they are in
/// its cache.
pub fn build<T: Send>(
    len: usize,
    piece: usize,
    fill: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let mut values = Vec::with_capacity(len);
    let pieces = values.spare_capacity_mut()[..len].par_chunks_mut(piece.max(1)).enumerate();
    let results = pieces.map(|(i, values)| fill(i * piece, zeroed(values))).collect();
    // SAFETY: the pieces are all of the first `len` numbers, and each was zeroed.
    unsafe { values.set_len(len) };
    (values, results)
}

/// Memory that is not initialised, as zeros.
pub(crate) fn zeroed(values: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    values.fill(MaybeUninit::new(0.0));
    // SAFETY: each number was just written.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [f32]) }
}

/// Calls `f` with the numbers of a contiguous float32 tensor on the CPU.
///
/// # Errors
/// candle's, for any other tensor, and those of `f`.
pub fn with_f32<T, E: From<candle_core::Error>>(
    tensor: &Tensor,
    f: impl FnOnce(&[f32]) -> Result<T, E>,
) -> Result<T, E> {
    let (storage, layout) = tensor.storage_and_layout();
    let numbers = || -> candle_core::Result<&[f32]> {
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(values), Some((start, end))) => Ok(&as_f32(values)?[start..end]),
            _ => candle_core::bail!("expected a contiguous tensor on the CPU"),
        }
    };
    f(numbers()?)
}

/// The elements of a tensor in order: where they lie if they lie so, else a copy.
pub fn dense<'v>(values: &'v [f32], layout: &Layout) -> Cow<'v, [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Cow::Borrowed(&values[start..end]),
        None => Cow::Owned(contiguous(values, layout)),
    }
}

/// A copy of the elements of a tensor in order, whatever its strides.
pub fn contiguous(values: &[f32], layout: &Layout) -> Vec<f32> {
    if let Some((start, end)) = layout.contiguous_offsets() {
        return values[start..end].to_vec();
    }
    let slices = NdIter::new([layout]);
    let (length, [stride]) = (slices.inner_size, slices.inner_strides);
    let mut elements = Vec::with_capacity(layout.shape().elem_count());
    for [start] in slices {
        elements.extend((0..length).map(|i| values[start + i * stride]));
    }
    elements
}

/// The largest `|x − center|`; NaN if there is one: it is the largest of `abs_bits`.
pub fn max_distance(values: &[f32], center: f32) -> f32 {
    f32::from_bits(SimdLevel::current().run(MaxDistanceBits { values, center }))
}

struct MaxDistanceBits<'a> {
    values: &'a [f32],
    center: f32,
}

impl WithSimd for MaxDistanceBits<'_> {
    type Output = u32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u32 {
        let (vectors, tail) = S::as_simd_f32s(self.values);
        let center = simd.splat_f32s(self.center);
        // Several running maxima, so that one comparison does not wait for the other.
        let mut max = [simd.splat_u32s(0); UNROLL];
        let (blocks, rest) = vectors.as_chunks::<UNROLL>();
        for block in blocks {
            for (max, &x) in max.iter_mut().zip(block) {
                let x = abs_bits(simd, simd.sub_f32s(x, center));
                *max = simd.select_u32s(simd.greater_than_u32s(x, *max), x, *max);
            }
        }
        for &x in rest {
            let x = abs_bits(simd, simd.sub_f32s(x, center));
            max[0] = simd.select_u32s(simd.greater_than_u32s(x, max[0]), x, max[0]);
        }
        let lanes: &[u32] = bytemuck::cast_slice(&max);
        let tail = tail.iter().map(|x| (x - self.center).abs().to_bits());
        lanes.iter().copied().chain(tail).fold(0, u32::max)
    }
}
