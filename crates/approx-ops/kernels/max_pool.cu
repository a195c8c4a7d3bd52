// Max-pooling, forward and backward. src/cuda/max_pool.rs launches it.

#include "range.cuh"

using namespace approx;

// Grid: one dimension, at most 8 blocks a multiprocessor; block: 256 threads; a thread takes every so manieth output.
// Layout: contiguous planes, [planes, height, width] and [planes, out_height, out_width]. Neighbouring threads have
// neighbouring windows, whose pixels they find in the cache.

// The pooled planes, and the range of all input pixels: each is measured by the one output that it belongs to.
#define MAX_POOL(name, M, K, T)                                                                                     \
  extern "C" __global__ void __launch_bounds__(BLOCK) max_pool_##name(                                              \
      const float* x, float* y, Range* slots, const __grid_constant__ PoolParams<T> params) {                       \
    Range range = {0, 0, 0};                                                                                        \
    max_pool<M, K>(params, x, y, thread_index(), thread_count(), range);                                            \
    if (params.slot != NO_SLOT) record(range, slots + params.slot);                                                 \
  }

// The gradient of each tap of each window: [K², outputs].
#define TAP_GRADIENTS(name, M, K, T)                                                                                \
  extern "C" __global__ void __launch_bounds__(BLOCK) max_pool_tap_gradients_##name(                                \
      const float* x, const float* dy, float* taps, const __grid_constant__ PoolParams<T> params) {                 \
    max_pool_tap_gradients<M, K>(params, x, dy, taps, thread_index(), thread_count());                              \
  }

#define MAXIMUM(name, M, T)            \
  MAX_POOL(name##_2, M, 2, T)          \
  MAX_POOL(name##_3, M, 3, T)          \
  TAP_GRADIENTS(name##_2, M, 2, T)     \
  TAP_GRADIENTS(name##_3, M, 3, T)

APPROX_MAXIMA(MAXIMUM)

// The input's gradient from those of the taps: a thread takes every so manieth input pixel and asks the up to K² windows
// that it can be in, so that nothing is added in an order that chance decides.
extern "C" __global__ void __launch_bounds__(BLOCK)
    max_pool_gather(const float* taps, float* dx, const __grid_constant__ PoolParams<float> params) {
  approx::max_pool_gather(params, taps, dx, thread_index(), thread_count());
}
