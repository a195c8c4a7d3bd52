// Functions of one variable, forward and backward. src/cuda/activation.rs launches them.

#include "range.cuh"

using namespace approx;

// y = f(x · scale[c] + bias[c] + addend), and the range of what goes into f.
//
// Grid: one dimension, at most 8 blocks a multiprocessor; block: 256 threads. A thread takes every so manieth group of
// four numbers (16 bytes), so that neighbours read neighbouring groups, and then every so manieth of the up to three
// that are left. Layout: all tensors dense in the same order, which the params describe; scale and bias have a number
// for each channel. scale, bias and addend may be null; y may be x.
#define ACTIVATE(name, F, T)                                                                                        \
  extern "C" __global__ void __launch_bounds__(BLOCK)                                                               \
      activate_##name(const float* x, float* y, const float* scale, const float* bias, const float* addend,         \
                      Range* slots, const __grid_constant__ ActivationParams<T> params) {                           \
    Range range = {0, 0, 0};                                                                                        \
    activate<F>(params, x, y, Affine{scale, bias, addend}, thread_index(), thread_count(), range);                  \
    if (params.slot != NO_SLOT) record(range, slots + params.slot);                                                 \
  }

// dx = dy f'(x). Grid, block and layout as above, a number at a time.
#define GRADIENT(name, F, T)                                                                                        \
  extern "C" __global__ void __launch_bounds__(BLOCK)                                                               \
      gradient_##name(const float* x, const float* dy, float* dx,                                                   \
                      const __grid_constant__ ActivationParams<T> params) {                                         \
    gradient<F>(params, x, dy, dx, thread_index(), thread_count());                                                 \
  }

#define FUNCTION(name, F, T) \
  ACTIVATE(name, F, T)       \
  GRADIENT(name, F, T)

APPROX_FUNCTIONS(FUNCTION)
