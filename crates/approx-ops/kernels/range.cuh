// How the threads of a block put together what they saw. Device code only.

#pragma once

#include "minimax.cuh"

namespace approx {

/// Threads of a block, in one dimension. src/cuda/mod.rs launches with as many.
constexpr uint32_t BLOCK = 256;
constexpr uint32_t WARP = 32;

__device__ __forceinline__ Range merge_warp(Range range) {
  for (uint32_t distance = WARP / 2; distance > 0; distance /= 2) {
    const uint32_t max_bits = __shfl_down_sync(0xffffffffu, range.max_bits, distance);
    const uint64_t count = __shfl_down_sync(0xffffffffu, range.out_of_range, distance);
    range.max_bits = max_bits > range.max_bits ? max_bits : range.max_bits;
    range.out_of_range += count;
  }
  return range;
}

/// Adds what a block saw to a slot, with one atomic operation, two if something was out of range. All threads of the
/// block must come here.
__device__ __forceinline__ void record(Range range, Range* slot) {
  __shared__ Range of_warps[BLOCK / WARP];
  const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  range = merge_warp(range);
  if (lane == 0) of_warps[warp] = range;
  __syncthreads();
  if (warp != 0) return;
  range = lane < BLOCK / WARP ? of_warps[lane] : Range{0, 0, 0};
  range = merge_warp(range);
  if (lane != 0) return;
  atomicMax(&slot->max_bits, range.max_bits);
  if (range.out_of_range != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(&slot->out_of_range), range.out_of_range);
  }
}

__device__ __forceinline__ uint32_t thread_index() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ uint32_t thread_count() { return gridDim.x * blockDim.x; }

}  // namespace approx
