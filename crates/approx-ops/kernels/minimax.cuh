// The arithmetic of the CUDA kernels, and what one thread of each does.
//
// All of it is `__host__ __device__`: host.cpp compiles it with the host's C++ compiler, and the tests of this crate
// run it there, thread by thread, against the golden values and the CPU ops. It is the CPU's arithmetic, operation by
// operation (src/cpu/composite.rs, map.rs, pool.rs), for compositions that the CPU evaluates in the nested form: where the
// processor has fused multiply-adds the results are the same, bit by bit. The CPU's adapted form saves multiplications
// at the price of additions, which cost as much here (docs/adr/0040). Kernels are compiled without contraction (--fmad=false): what is fused is written so.
//
// The structs are those of src/kernels.rs, field by field. They are passed by value as the last parameter of each
// kernel, and so lie in constant memory, where all threads of a warp read the same coefficient at once.

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define APPROX_FN __host__ __device__ __forceinline__
#define APPROX_UNROLL _Pragma("unroll")
#define APPROX_NO_UNROLL _Pragma("unroll 1")
#else
#define APPROX_FN inline
#define APPROX_UNROLL
#define APPROX_NO_UNROLL
#endif

namespace approx {

// ---- Scalars ----------------------------------------------------------------------------------------------------

APPROX_FN float fused(float a, float b, float c) { return fmaf(a, b, c); }
APPROX_FN double fused(double a, double b, double c) { return fma(a, b, c); }

APPROX_FN uint32_t bits_of(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(x);
#else
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
#endif
}

APPROX_FN float float_of(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
#endif
}

/// Division by a number that all threads share: `n / divisor` for `n < 2^31`, by a multiplication.
struct Divisor {
  uint32_t divisor;
  /// ⌈2^(31 + ⌈log2 divisor⌉) / divisor⌉; not used for a divisor of 1.
  uint32_t factor;
  /// ⌈log2 divisor⌉ − 1.
  uint32_t shift;
};

APPROX_FN uint32_t quotient(uint32_t n, Divisor d) {
#ifdef __CUDA_ARCH__
  const uint32_t high = __umulhi(n, d.factor);
#else
  const uint32_t high = static_cast<uint32_t>((static_cast<uint64_t>(n) * d.factor) >> 32);
#endif
  return d.divisor == 1 ? n : high >> d.shift;
}

// ---- Ranges -----------------------------------------------------------------------------------------------------

/// What a thread, or a site, saw. Without the sign bit, float32 and its bits have the same order, and NaN is above
/// infinity: so NaN is never lost, and `max_bits > bits_of(bound)` says that something is out of range.
struct Range {
  uint32_t max_bits;
  uint32_t unused;
  uint64_t out_of_range;
};

/// In place of a slot where the range is not asked for.
constexpr uint32_t NO_SLOT = 0xffffffffu;

template <int N>
APPROX_FN void measure(Range& range, const float (&x)[N], float center, uint32_t bound_bits) {
  uint32_t largest = 0;
  APPROX_UNROLL
  for (int i = 0; i < N; i++) {
    const uint32_t bits = bits_of(x[i] - center) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  range.max_bits = largest > range.max_bits ? largest : range.max_bits;
  if (largest > bound_bits) {  // rare
    APPROX_UNROLL
    for (int i = 0; i < N; i++) range.out_of_range += (bits_of(x[i] - center) & 0x7fffffffu) > bound_bits;
  }
}

// ---- The composition --------------------------------------------------------------------------------------------

/// Coefficients of `even` and of `odd` at most: degree 63.
constexpr int MAX_TERMS = 16;
/// Components at most: so many of float64 fit into the 4 KiB of a kernel's parameters.
constexpr int MAX_COMPONENTS = 12;

/// `p(x) = x (even(u) + t odd(u))` with `t = x² scale − 1`, `u = 2t² − 1` (docs/adr/0001). `even` has as many
/// coefficients as `odd`, or one more.
template <typename T>
struct Component {
  T scale;
  uint32_t evens, odds;
  T even[MAX_TERMS], odd[MAX_TERMS];
};

/// `s(x)`, component by component. T is the type that it is evaluated in.
template <typename T>
struct Composite {
  uint32_t count;
  uint32_t unused;
  Component<T> components[MAX_COMPONENTS];
};

/// Both polynomials in `u`, of known lengths: the coefficients are operands straight from constant memory.
template <int EVENS, int ODDS, typename T, int N>
APPROX_FN void horner_pair(const Component<T>& p, const T (&u)[N], T (&even)[N], T (&odd)[N]) {
  APPROX_UNROLL
  for (int i = 0; i < N; i++) {
    even[i] = p.even[ODDS - 1];
    odd[i] = p.odd[ODDS - 1];
    if (EVENS > ODDS) even[i] = fused(p.even[EVENS - 1], u[i], even[i]);
  }
  APPROX_UNROLL
  for (int k = ODDS - 2; k >= 0; k--) {
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      even[i] = fused(even[i], u[i], p.even[k]);
      odd[i] = fused(odd[i], u[i], p.odd[k]);
    }
  }
}

/// The same for any lengths.
template <typename T, int N>
APPROX_FN void horner_pair_of_any_length(const Component<T>& p, const T (&u)[N], T (&even)[N], T (&odd)[N]) {
  APPROX_UNROLL
  for (int i = 0; i < N; i++) {
    even[i] = p.even[p.odds - 1];
    odd[i] = p.odd[p.odds - 1];
    if (p.evens > p.odds) even[i] = fused(p.even[p.evens - 1], u[i], even[i]);
  }
  APPROX_NO_UNROLL
  for (int k = static_cast<int>(p.odds) - 2; k >= 0; k--) {
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      even[i] = fused(even[i], u[i], p.even[k]);
      odd[i] = fused(odd[i], u[i], p.odd[k]);
    }
  }
}

/// One component. Degrees up to 31, which all published tables keep to, have code of their own; all threads take the
/// same branch.
template <typename T, int N>
APPROX_FN void apply_component(const Component<T>& p, T (&x)[N]) {
  T t[N], u[N], even[N], odd[N];
  APPROX_UNROLL
  for (int i = 0; i < N; i++) {
    t[i] = fused(x[i] * x[i], p.scale, T(-1));
    u[i] = fused(t[i] + t[i], t[i], T(-1));
  }
  switch (p.evens + p.odds) {
    case 2: horner_pair<1, 1>(p, u, even, odd); break;
    case 3: horner_pair<2, 1>(p, u, even, odd); break;
    case 4: horner_pair<2, 2>(p, u, even, odd); break;
    case 5: horner_pair<3, 2>(p, u, even, odd); break;
    case 6: horner_pair<3, 3>(p, u, even, odd); break;
    case 7: horner_pair<4, 3>(p, u, even, odd); break;
    case 8: horner_pair<4, 4>(p, u, even, odd); break;
    case 9: horner_pair<5, 4>(p, u, even, odd); break;
    case 10: horner_pair<5, 5>(p, u, even, odd); break;
    case 11: horner_pair<6, 5>(p, u, even, odd); break;
    case 12: horner_pair<6, 6>(p, u, even, odd); break;
    case 13: horner_pair<7, 6>(p, u, even, odd); break;
    case 14: horner_pair<7, 7>(p, u, even, odd); break;
    case 15: horner_pair<8, 7>(p, u, even, odd); break;
    case 16: horner_pair<8, 8>(p, u, even, odd); break;
    default: horner_pair_of_any_length(p, u, even, odd);
  }
  APPROX_UNROLL
  for (int i = 0; i < N; i++) x[i] = x[i] * fused(t[i], odd[i], even[i]);
}

/// Components whose place in constant memory is known when the kernel is compiled.
constexpr int UNROLLED_COMPONENTS = 3;

/// `x ↦ s(x)`.
template <typename T, int N>
APPROX_FN void sign(const Composite<T>& s, T (&x)[N]) {
  APPROX_UNROLL
  for (int k = 0; k < UNROLLED_COMPONENTS; k++) {
    if (k < static_cast<int>(s.count)) apply_component(s.components[k], x);
  }
  APPROX_NO_UNROLL
  for (int k = UNROLLED_COMPONENTS; k < static_cast<int>(s.count); k++) apply_component(s.components[k], x);
}

template <typename T>
APPROX_FN void horner_with_derivative(const T* c, int count, T u, T& value, T& derivative) {
  value = c[count - 1];
  derivative = T(0);
  APPROX_NO_UNROLL
  for (int k = count - 2; k >= 0; k--) {
    derivative = fused(derivative, u, value);
    value = fused(value, u, c[k]);
  }
}

/// `s(x)`, and `s'(x)`.
template <typename T>
APPROX_FN void sign_with_derivative(const Composite<T>& s, T x, float& sign, float& slope) {
  T d = T(1);
  APPROX_NO_UNROLL
  for (uint32_t k = 0; k < s.count; k++) {
    const Component<T>& p = s.components[k];
    const T t = fused(x * x, p.scale, T(-1));
    const T u = fused(t + t, t, T(-1));
    T even, d_even, odd, d_odd;
    horner_with_derivative(p.even, static_cast<int>(p.evens), u, even, d_even);
    horner_with_derivative(p.odd, static_cast<int>(p.odds), u, odd, d_odd);
    // p = x g(t), g = even(u) + t odd(u), u' = 4t, t' = 2 scale x.
    const T g = fused(t, odd, even);
    const T dg = fused(T(4) * t, fused(t, d_odd, d_even), odd);
    const T dt = T(2) * p.scale * x;
    d = d * fused(x * dt, dg, g);
    x = x * g;
  }
  sign = static_cast<float>(x);
  slope = static_cast<float>(d);
}

APPROX_FN bool is_within(float z) { return fabsf(z) <= 1.0f; }

// ---- Functions of one variable ----------------------------------------------------------------------------------

/// ReLUs of a piecewise linear function at most.
constexpr int MAX_KINKS = 2;
/// Terms of a smooth function's polynomial in the square at most: degree 255.
constexpr int MAX_SQUARE_TERMS = 128;
/// Coefficients of each part of a fitted polynomial: degree 63.
constexpr int PART_TERMS = 8;

/// A ReLU of a piecewise linear function, which begins at `at`.
struct Kink {
  float weight, at, inverse_bound;
};

/// What a function has besides a composition (functions.cuh).
struct FunctionParams {
  /// Which exact function, by itself or outside of the bound, and its parameters.
  uint32_t exact;
  float parameters[2];
  uint32_t is_odd, times_x;
  float slope, offset;
  uint32_t kinks;
  Kink kink[MAX_KINKS];
  uint32_t terms;
  float coefficients[MAX_SQUARE_TERMS];
  /// Of a fitted polynomial: how many pairs, and the lengths of their parts, each in PART_TERMS of the coefficients.
  uint32_t pairs;
  uint32_t lengths[8];
};

/// How the numbers of an activation are arranged, and which function it is. `T` is the type of the composition.
template <typename T>
struct ActivationParams {
  /// Numbers in all; below 2^31.
  uint32_t count;
  /// Groups of four that are read and written at once: `count / 4`, or 0 where the data are not aligned to 16 bytes.
  uint32_t vectors;
  /// Which slot the range goes to, or NO_SLOT.
  uint32_t slot;
  uint32_t channels_are_used;
  /// Numbers of a channel that lie side by side: `H · W` in `[N, C, H, W]`, 1 in `[N, H, W, C]`.
  Divisor inner;
  Divisor channels;
  /// The function is meant for [center − bound, center + bound].
  float center, bound;
  float inverse_bound;
  uint32_t exact_outside;
  FunctionParams function;
  Composite<T> sign;
};

/// `x / B`, in the type of the composition.
APPROX_FN float quotient_of(const ActivationParams<float>& p, float x) { return x * p.inverse_bound; }
APPROX_FN double quotient_of(const ActivationParams<double>& p, float x) {
  return static_cast<double>(x) * (1.0 / static_cast<double>(p.bound));
}

/// `x`.
struct Identity {
  template <typename T>
  APPROX_FN explicit Identity(const ActivationParams<T>&) {}
  template <int N>
  APPROX_FN void eval(float (&)[N]) const {}
  APPROX_FN float derivative(float) const { return 1.0f; }
};

/// `max(x, 0)`; NaN stays. The derivative at 0 is 0.
struct Relu {
  template <typename T>
  APPROX_FN explicit Relu(const ActivationParams<T>&) {}
  static APPROX_FN float value(float x) { return x < 0.0f ? 0.0f : x; }
  static APPROX_FN float slope(float x) { return x > 0.0f ? 1.0f : 0.0f; }
  template <int N>
  APPROX_FN void eval(float (&x)[N]) const {
    APPROX_UNROLL
    for (int i = 0; i < N; i++) x[i] = value(x[i]);
  }
  APPROX_FN float derivative(float x) const { return slope(x); }
};

/// `x²`.
struct Square {
  template <typename T>
  APPROX_FN explicit Square(const ActivationParams<T>&) {}
  template <int N>
  APPROX_FN void eval(float (&x)[N]) const {
    APPROX_UNROLL
    for (int i = 0; i < N; i++) x[i] = x[i] * x[i];
  }
  APPROX_FN float derivative(float x) const { return x + x; }
};

/// `x²/8 + x/2 + 1/4`.
struct ReluAq {
  template <typename T>
  APPROX_FN explicit ReluAq(const ActivationParams<T>&) {}
  template <int N>
  APPROX_FN void eval(float (&x)[N]) const {
    APPROX_UNROLL
    for (int i = 0; i < N; i++) x[i] = fused(fused(0.125f, x[i], 0.5f), x[i], 0.25f);
  }
  APPROX_FN float derivative(float x) const { return fused(0.25f, x, 0.5f); }
};

/// `x (1 + s(x/B)) / 2`; outside `[-B, B]` `max(x, 0)` if `exact_outside`, else meaningless.
template <typename T>
struct Minimax {
  const ActivationParams<T>& params;
  APPROX_FN explicit Minimax(const ActivationParams<T>& params) : params(params) {}
  template <int N>
  APPROX_FN void eval(float (&x)[N]) const {
    T s[N];
    APPROX_UNROLL
    for (int i = 0; i < N; i++) s[i] = quotient_of(params, x[i]);
    sign(params.sign, s);
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      const float y = x[i] * fused(0.5f, static_cast<float>(s[i]), 0.5f);
      const bool exact = params.exact_outside != 0 && !is_within(x[i] * params.inverse_bound);
      x[i] = exact ? Relu::value(x[i]) : y;
    }
  }
  APPROX_FN float derivative(float x) const {
    const float z = x * params.inverse_bound;
    if (params.exact_outside != 0 && !is_within(z)) return Relu::slope(x);
    float s, slope;
    sign_with_derivative(params.sign, quotient_of(params, x), s, slope);
    return fused(z, 0.5f * slope, fused(0.5f, s, 0.5f));
  }
};

}  // namespace approx

#include "functions.cuh"

namespace approx {

/// What is done to each number besides the function; null where it is not.
struct Affine {
  const float* scale;
  const float* bias;
  const float* addend;
};

APPROX_FN void load4(float (&x)[4], const float* from) {
#ifdef __CUDA_ARCH__
  const float4 v = *reinterpret_cast<const float4*>(from);
  x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
#else
  memcpy(x, from, sizeof x);
#endif
}

APPROX_FN void store4(float* to, const float (&x)[4]) {
#ifdef __CUDA_ARCH__
  *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
#else
  memcpy(to, x, sizeof x);
#endif
}

template <typename T>
APPROX_FN uint32_t channel_of(const ActivationParams<T>& p, uint32_t index) {
  const uint32_t plane = quotient(index, p.inner);
  return plane - quotient(plane, p.channels) * p.channels.divisor;
}

APPROX_FN float affine(float x, const Affine& a, uint32_t channel) {
  if (a.scale != nullptr) return fused(x, a.scale[channel], a.bias != nullptr ? a.bias[channel] : 0.0f);
  return a.bias != nullptr ? x + a.bias[channel] : x;
}

/// What thread `first` of `step` threads does of `y = f(x · scale[c] + bias[c] + addend)`: `y` may be `x`.
template <typename F, typename T>
APPROX_FN void activate(const ActivationParams<T>& p, const float* x, float* y, const Affine& a, uint32_t first,
                        uint32_t step, Range& range) {
  const F f(p);
  const uint32_t bound_bits = bits_of(p.bound);
  for (uint32_t v = first; v < p.vectors; v += step) {
    const size_t index = static_cast<size_t>(v) * 4;
    float values[4];
    load4(values, x + index);
    if (p.channels_are_used != 0) {
      if (p.inner.divisor % 4 == 0) {  // all four are of one channel
        const uint32_t channel = channel_of(p, v * 4);
        APPROX_UNROLL
        for (int i = 0; i < 4; i++) values[i] = affine(values[i], a, channel);
      } else {
        APPROX_UNROLL
        for (int i = 0; i < 4; i++) values[i] = affine(values[i], a, channel_of(p, v * 4 + i));
      }
    }
    if (a.addend != nullptr) {
      float others[4];
      load4(others, a.addend + index);
      APPROX_UNROLL
      for (int i = 0; i < 4; i++) values[i] = values[i] + others[i];
    }
    measure(range, values, p.center, bound_bits);
    f.eval(values);
    store4(y + index, values);
  }
  for (uint32_t i = p.vectors * 4 + first; i < p.count; i += step) {
    float value[1] = {x[i]};
    if (p.channels_are_used != 0) value[0] = affine(value[0], a, channel_of(p, i));
    if (a.addend != nullptr) value[0] = value[0] + a.addend[i];
    measure(range, value, p.center, bound_bits);
    f.eval(value);
    y[i] = value[0];
  }
}

/// What thread `first` of `step` threads does of `dx = dy f'(x)`.
template <typename F, typename T>
APPROX_FN void gradient(const ActivationParams<T>& p, const float* x, const float* dy, float* dx, uint32_t first,
                        uint32_t step) {
  const F f(p);
  for (uint32_t i = first; i < p.count; i += step) dx[i] = dy[i] * f.derivative(x[i]);
}

/// All functions: the end of their kernels' names, the function, and the type of its composition.
#define APPROX_FUNCTIONS(X)               \
  X(identity, Identity, float)            \
  X(relu, Relu, float)                    \
  X(square, Square, float)                \
  X(relu_aq, ReluAq, float)               \
  X(minimax, Minimax<float>, float)       \
  X(minimax_f64, Minimax<double>, double) \
  X(exact, Exact, float)                  \
  X(piecewise, Piecewise, float)          \
  X(smooth, Smooth, float)                \
  X(fitted, Fitted, float)

// ---- Max-pooling ------------------------------------------------------------------------------------------------

/// Max-pooling of contiguous planes, `[planes, height, width]` to `[planes, out_height, out_width]`.
template <typename T>
struct PoolParams {
  uint32_t planes, height, width;
  uint32_t stride, padding;
  /// Which slot the range goes to, or NO_SLOT.
  uint32_t slot;
  Divisor out_height, out_width;
  /// Of the input: height and width again, to divide by, and the stride.
  Divisor in_height, in_width, by_stride;
  uint32_t kernel;
  float bound;
  uint32_t exact_outside;
  /// What a difference is multiplied by before the sign is taken.
  T c;
  Composite<T> sign;
};

/// The larger of two; NaN if either is. Padding never wins.
struct ExactMax {
  template <typename T>
  APPROX_FN explicit ExactMax(const PoolParams<T>&) {}
  APPROX_FN float padding() const { return -INFINITY; }
  template <int N>
  APPROX_FN void eval(float (&a)[N], const float (&b)[N]) const {
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      const float larger = b[i] > a[i] ? b[i] : a[i];
      a[i] = b[i] == b[i] ? larger : b[i];
    }
  }
  /// The maximum, and its derivative in `a`; the one in `b` is 1 minus that.
  APPROX_FN float eval_with_derivative(float& a, float b) const {
    float player[1] = {a};
    const float in_a = b > a ? 0.0f : 1.0f;
    eval(player, {b});
    a = player[0];
    return in_a;
  }
};

/// `(a + b + (a − b) s(c (a − b))) / 2`. Padding counts as 0.
template <typename T>
struct MinimaxMax {
  const PoolParams<T>& params;
  APPROX_FN explicit MinimaxMax(const PoolParams<T>& params) : params(params) {}
  APPROX_FN float padding() const { return 0.0f; }
  APPROX_FN float combine(float a, float b, float s) const {
    const float difference = a - b;
    const float max = fused(difference, 0.5f * s, (a + b) * 0.5f);
    const bool exact = params.exact_outside != 0 && !is_within(difference * static_cast<float>(params.c));
    return exact ? (b > a ? b : a) : max;
  }
  template <int N>
  APPROX_FN void eval(float (&a)[N], const float (&b)[N]) const {
    T s[N];
    APPROX_UNROLL
    for (int i = 0; i < N; i++) s[i] = static_cast<T>(a[i] - b[i]) * params.c;
    sign(params.sign, s);
    APPROX_UNROLL
    for (int i = 0; i < N; i++) a[i] = combine(a[i], b[i], static_cast<float>(s[i]));
  }
  APPROX_FN float eval_with_derivative(float& a, float b) const {
    const float d = (a - b) * static_cast<float>(params.c);
    float s, slope;
    sign_with_derivative(params.sign, static_cast<T>(a - b) * params.c, s, slope);
    const bool exact = params.exact_outside != 0 && !is_within(d);
    const float in_a = exact ? (b > a ? 0.0f : 1.0f) : 0.5f + fused(d, 0.5f * slope, 0.5f * s);
    a = combine(a, b, s);
    return in_a;
  }
};

/// Where an output's window is.
struct Window {
  uint32_t plane, out_y, out_x;
  /// Of the first tap; negative in the padding.
  int32_t top, left;
};

template <typename T>
APPROX_FN Window window_of(const PoolParams<T>& p, uint32_t output) {
  const uint32_t row = quotient(output, p.out_width);
  Window w;
  w.out_x = output - row * p.out_width.divisor;
  w.plane = quotient(row, p.out_height);
  w.out_y = row - w.plane * p.out_height.divisor;
  w.top = static_cast<int32_t>(w.out_y * p.stride) - static_cast<int32_t>(p.padding);
  w.left = static_cast<int32_t>(w.out_x * p.stride) - static_cast<int32_t>(p.padding);
  return w;
}

template <int K, typename T>
APPROX_FN void load_taps(const PoolParams<T>& p, const Window& w, const float* x, float padding, float (&taps)[K * K]) {
  const float* plane = x + static_cast<size_t>(w.plane) * p.height * p.width;
  APPROX_UNROLL
  for (int k = 0; k < K * K; k++) {
    const int32_t row = w.top + k / K, column = w.left + k % K;
    const bool inside = row >= 0 && row < static_cast<int32_t>(p.height) && column >= 0 &&
                        column < static_cast<int32_t>(p.width);
    taps[k] = inside ? plane[static_cast<size_t>(row) * p.width + column] : padding;
  }
}

/// Plays the tournament in row-major order; the winner ends up in `taps[0]`.
template <typename M>
APPROX_FN void play(const M& max, float (&taps)[4]) {
  float a[2] = {taps[0], taps[2]};
  const float b[2] = {taps[1], taps[3]};
  max.eval(a, b);
  float winner[1] = {a[0]};
  const float other[1] = {a[1]};
  max.eval(winner, other);
  taps[0] = winner[0];
}

template <typename M>
APPROX_FN void play(const M& max, float (&taps)[9]) {
  float a[4] = {taps[0], taps[2], taps[4], taps[6]};
  const float b[4] = {taps[1], taps[3], taps[5], taps[7]};
  max.eval(a, b);
  float c[2] = {a[0], a[2]};
  const float d[2] = {a[1], a[3]};
  max.eval(c, d);
  float winner[1] = {c[0]};
  // The last two rounds, with one copy of the code.
  APPROX_NO_UNROLL
  for (int round = 0; round < 2; round++) {
    const float other[1] = {round == 0 ? c[1] : taps[8]};
    max.eval(winner, other);
  }
  taps[0] = winner[0];
}

/// Rounds of the tournament of K² taps.
template <int K>
struct Rounds;
template <>
struct Rounds<2> {
  static constexpr int COUNT = 3;
  static APPROX_FN int first(int round) { return 2 * (round == 1); }
  static APPROX_FN int second(int round) { return round == 0 ? 1 : round == 1 ? 3 : 2; }
};
template <>
struct Rounds<3> {
  static constexpr int COUNT = 8;
  static APPROX_FN int first(int round) { return round < 4 ? 2 * round : round == 5 ? 4 : 0; }
  static APPROX_FN int second(int round) {
    return round < 4 ? 2 * round + 1 : round == 4 ? 2 : round == 5 ? 6 : round == 6 ? 4 : 8;
  }
};

/// Measures the input pixels that belong to an output: each pixel belongs to one, whether a window covers it or not.
template <typename T>
APPROX_FN void measure_own(const PoolParams<T>& p, const Window& w, const float* x, Range& range) {
  const uint32_t bound_bits = bits_of(p.bound);
  const float* plane = x + static_cast<size_t>(w.plane) * p.height * p.width;
  const uint32_t top = w.out_y * p.stride, left = w.out_x * p.stride;
  const uint32_t bottom = w.out_y + 1 == p.out_height.divisor || top + p.stride > p.height ? p.height : top + p.stride;
  const uint32_t right = w.out_x + 1 == p.out_width.divisor || left + p.stride > p.width ? p.width : left + p.stride;
  for (uint32_t row = top; row < bottom; row++) {
    for (uint32_t column = left; column < right; column++) {
      const float value[1] = {plane[static_cast<size_t>(row) * p.width + column]};
      measure(range, value, 0.0f, bound_bits);
    }
  }
}

template <typename T>
APPROX_FN uint32_t outputs_of(const PoolParams<T>& p) {
  return p.planes * p.out_height.divisor * p.out_width.divisor;
}

/// What thread `first` of `step` threads does of the pooling.
template <typename M, int K, typename T>
APPROX_FN void max_pool(const PoolParams<T>& p, const float* x, float* y, uint32_t first, uint32_t step, Range& range) {
  const M max(p);
  const uint32_t outputs = outputs_of(p);
  for (uint32_t output = first; output < outputs; output += step) {
    const Window w = window_of(p, output);
    measure_own(p, w, x, range);
    float taps[K * K];
    load_taps<K>(p, w, x, max.padding(), taps);
    play(max, taps);
    y[output] = taps[0];
  }
}

/// What thread `first` of `step` threads does of the way back, up to the windows: the gradient of tap `k` of `output`
/// becomes `tap_gradients[k · outputs + output]`.
template <typename M, int K, typename T>
APPROX_FN void max_pool_tap_gradients(const PoolParams<T>& p, const float* x, const float* dy, float* tap_gradients,
                                      uint32_t first, uint32_t step) {
  const M max(p);
  const uint32_t outputs = outputs_of(p);
  for (uint32_t output = first; output < outputs; output += step) {
    float taps[K * K], in_first[Rounds<K>::COUNT];
    load_taps<K>(p, window_of(p, output), x, max.padding(), taps);
    APPROX_UNROLL
    for (int round = 0; round < Rounds<K>::COUNT; round++) {
      const int a = Rounds<K>::first(round), b = Rounds<K>::second(round);
      in_first[round] = max.eval_with_derivative(taps[a], taps[b]);
    }
    taps[0] = dy[output];
    APPROX_UNROLL
    for (int round = Rounds<K>::COUNT - 1; round >= 0; round--) {
      const int a = Rounds<K>::first(round), b = Rounds<K>::second(round);
      taps[b] = taps[a] * (1.0f - in_first[round]);
      taps[a] = taps[a] * in_first[round];
    }
    APPROX_UNROLL
    for (int k = 0; k < K * K; k++) tap_gradients[static_cast<size_t>(k) * outputs + output] = taps[k];
  }
}

/// What thread `first` of `step` threads does of the rest: each input pixel adds up what the taps that lie on it got,
/// always in the same order.
template <typename T>
APPROX_FN void max_pool_gather(const PoolParams<T>& p, const float* tap_gradients, float* dx, uint32_t first,
                               uint32_t step) {
  const uint32_t outputs = outputs_of(p), inputs = p.planes * p.height * p.width;
  for (uint32_t input = first; input < inputs; input += step) {
    const uint32_t row = quotient(input, p.in_width);
    const uint32_t column = input - row * p.in_width.divisor;
    const uint32_t plane = quotient(row, p.in_height);
    const uint32_t y = row - plane * p.in_height.divisor;
    float sum = 0.0f;
    for (uint32_t k_y = 0; k_y < p.kernel; k_y++) {
      // The window begins at out_y · stride − padding; k_y rows below is y.
      const uint32_t below = y + p.padding;
      if (below < k_y) continue;
      const uint32_t out_y = quotient(below - k_y, p.by_stride);
      if (out_y * p.stride != below - k_y || out_y >= p.out_height.divisor) continue;
      for (uint32_t k_x = 0; k_x < p.kernel; k_x++) {
        const uint32_t right = column + p.padding;
        if (right < k_x) continue;
        const uint32_t out_x = quotient(right - k_x, p.by_stride);
        if (out_x * p.stride != right - k_x || out_x >= p.out_width.divisor) continue;
        const uint32_t output = (plane * p.out_height.divisor + out_y) * p.out_width.divisor + out_x;
        sum = sum + tap_gradients[static_cast<size_t>(k_y * p.kernel + k_x) * outputs + output];
      }
    }
    dx[input] = sum;
  }
}

/// All maxima, as above.
#define APPROX_MAXIMA(X)                  \
  X(exact, ExactMax, float)               \
  X(minimax, MinimaxMax<float>, float)    \
  X(minimax_f64, MinimaxMax<double>, double)

}  // namespace approx
