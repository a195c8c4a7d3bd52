// Activation functions besides ReLU: exact ones, sums of approximate ReLUs, polynomials of smooth ones, and fitted ones. minimax.cuh
// includes this between its parts.
//
// The arithmetic is the CPU's, operation by operation (src/cpu/exact.rs, piecewise.rs, smooth.rs, fitted.rs), but for tanh and for
// GELU's error function and exponential, which are each platform's own.

#pragma once

namespace approx {

/// `min(max(x, low), high)`; NaN stays.
APPROX_FN float clip(float x, float low, float high) {
  const float y = x < low ? low : x;
  return y > high ? high : y;
}

/// `exp(−|x|)`; 0 for `|x| > 87`.
APPROX_FN float decay(float x) {
  const float magic = 12582912.0f;
  const float y = -fabsf(x);
  const float shifted = fused(y, 1.44269504f, magic);
  const float n = shifted - magic;
  const float r = fused(n, 2.1219444e-4f, fused(n, -0.6933594f, y));
  float sum = 1.0f / 5040.0f;
  sum = fused(sum, r, 1.0f / 720.0f);
  sum = fused(sum, r, 1.0f / 120.0f);
  sum = fused(sum, r, 1.0f / 24.0f);
  sum = fused(sum, r, 1.0f / 6.0f);
  sum = fused(sum, r, 0.5f);
  sum = fused(sum, r, 1.0f);
  sum = fused(sum, r, 1.0f);
  // The exponent's bits are the lowest ones of n + 127.
  const float power = float_of((bits_of(shifted) + 127u) << 23);
  return y < -87.0f ? 0.0f : sum * power;
}

/// `1 / (1 + exp(−x))`, and its derivative.
APPROX_FN float sigmoid(float x, float& slope) {
  const float e = decay(x);
  const float s = 1.0f / (1.0f + e);
  const float small = e * s;
  slope = small * s;
  return x < 0.0f ? small : s;
}

/// `√(2/π)`, twice.
constexpr float TWICE_SQRT_2_OVER_PI = 1.5957691f;
/// The coefficient of `x³` in GELU's approximation.
constexpr float CUBIC = 0.044715f;

/// What GELU's approximation takes the sigmoid of.
APPROX_FN float inner(float x) { return (TWICE_SQRT_2_OVER_PI * x) * (CUBIC * (x * x) + 1.0f); }

/// The distribution function of the normal distribution.
APPROX_FN float normal(float x) { return 0.5f * erfcf(-x * 0.70710678f); }

/// The exact functions, in the order of src/kernels.rs.
enum ExactFunction : uint32_t {
  LEAKY_RELU,
  CLIP,
  HARD_SIGMOID,
  HARD_SWISH,
  SIGMOID,
  TANH,
  SILU,
  GELU,
  GELU_TANH,
};

APPROX_FN float exact_value(const FunctionParams& p, float x) {
  const float a = p.parameters[0], b = p.parameters[1];
  float slope;
  switch (p.exact) {
    case LEAKY_RELU: return x > 0.0f ? x : a * x;
    case CLIP: return clip(x, a, b);
    case HARD_SIGMOID: return clip(fused(x, a, b), 0.0f, 1.0f);
    case HARD_SWISH: return x * clip(fused(x, 1.0f / 6.0f, 0.5f), 0.0f, 1.0f);
    case SIGMOID: return sigmoid(x, slope);
    case TANH: return tanhf(x);
    case SILU: return x * sigmoid(x, slope);
    case GELU: return x * normal(x);
    default: return x * sigmoid(inner(x), slope);
  }
}

/// `slope` where `low < x < high`, else 0.
APPROX_FN float between(float x, float low, float high, float slope) { return low < x && x < high ? slope : 0.0f; }

APPROX_FN float exact_slope(const FunctionParams& p, float x) {
  const float a = p.parameters[0], b = p.parameters[1];
  float slope;
  switch (p.exact) {
    case LEAKY_RELU: return x > 0.0f ? 1.0f : a;
    case CLIP: return between(x, a, b, 1.0f);
    case HARD_SIGMOID: return between(fused(x, a, b), 0.0f, 1.0f, a);
    case HARD_SWISH: {
      const float right = x < 3.0f ? 0.0f : 1.0f;
      return fused(between(x, -3.0f, 3.0f, 1.0f), fused(x, 1.0f / 3.0f, 0.5f), right);
    }
    case SIGMOID: sigmoid(x, slope); return slope;
    case TANH: sigmoid(x + x, slope); return 4.0f * slope;
    case SILU: {
      const float y = clip(x, -100.0f, 100.0f);
      const float value = sigmoid(y, slope);
      return fused(y, slope, value);
    }
    case GELU: return normal(x) + x * (0.3989423f * expf(-0.5f * x * x));
    default: {
      const float y = clip(x, -100.0f, 100.0f);
      const float value = sigmoid(inner(y), slope);
      const float d_inner = TWICE_SQRT_2_OVER_PI * ((3.0f * CUBIC) * (y * y) + 1.0f);
      return fused(y * d_inner, slope, value);
    }
  }
}

/// One of the exact functions; all threads take the same branch.
struct Exact {
  const FunctionParams& p;
  APPROX_FN explicit Exact(const ActivationParams<float>& params) : p(params.function) {}
  template <int N>
  APPROX_FN void eval(float (&x)[N]) const {
    APPROX_UNROLL
    for (int i = 0; i < N; i++) x[i] = exact_value(p, x[i]);
  }
  APPROX_FN float derivative(float x) const { return exact_slope(p, x); }
};

/// Whether the exact function stands for an approximation at `x`.
APPROX_FN bool is_exact_at(const ActivationParams<float>& params, float x) {
  return params.exact_outside != 0 && !is_within(x * params.inverse_bound);
}

/// `slope · x + offset + Σ weight · (x − at) (1 + s((x − at) / B')) / 2`, or `x` times that.
struct Piecewise {
  const ActivationParams<float>& params;
  APPROX_FN explicit Piecewise(const ActivationParams<float>& params) : params(params) {}
  template <int N>
  APPROX_FN void eval(float (&x)[N]) const {
    const FunctionParams& p = params.function;
    float y[N];
    APPROX_UNROLL
    for (int i = 0; i < N; i++) y[i] = fused(x[i], p.slope, p.offset);
    APPROX_NO_UNROLL
    for (uint32_t k = 0; k < p.kinks; k++) {
      const Kink& kink = p.kink[k];
      float s[N];
      APPROX_UNROLL
      for (int i = 0; i < N; i++) s[i] = (x[i] - kink.at) * kink.inverse_bound;
      sign(params.sign, s);
      APPROX_UNROLL
      for (int i = 0; i < N; i++) y[i] = fused(kink.weight * (x[i] - kink.at), fused(0.5f, s[i], 0.5f), y[i]);
    }
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      const float value = p.times_x != 0 ? x[i] * y[i] : y[i];
      x[i] = is_exact_at(params, x[i]) ? exact_value(p, x[i]) : value;
    }
  }
  APPROX_FN float derivative(float x) const {
    const FunctionParams& p = params.function;
    if (is_exact_at(params, x)) return exact_slope(p, x);
    float value = fused(x, p.slope, p.offset), slope = p.slope;
    APPROX_NO_UNROLL
    for (uint32_t k = 0; k < p.kinks; k++) {
      const Kink& kink = p.kink[k];
      const float d = x - kink.at;
      const float z = d * kink.inverse_bound;
      float s, s_slope;
      sign_with_derivative(params.sign, z, s, s_slope);
      const float part = fused(0.5f, s, 0.5f);
      slope = fused(kink.weight, fused(z, 0.5f * s_slope, part), slope);
      value = fused(kink.weight * d, part, value);
    }
    return p.times_x != 0 ? fused(x, slope, value) : slope;
  }
};

/// The polynomial of a smooth function, by Clenshaw's recurrence in `t = 2 (x/B)² − 1`.
struct Smooth {
  const ActivationParams<float>& params;
  APPROX_FN explicit Smooth(const ActivationParams<float>& params) : params(params) {}
  template <int N>
  APPROX_FN void eval(float (&x)[N]) const {
    const FunctionParams& p = params.function;
    float t[N], b1[N], b2[N];
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      const float z = x[i] * params.inverse_bound;
      t[i] = fused(z + z, z, -1.0f);
      b1[i] = b2[i] = 0.0f;
    }
    APPROX_NO_UNROLL
    for (uint32_t k = p.terms - 1; k > 0; k--) {
      const float c = p.coefficients[k];
      APPROX_UNROLL
      for (int i = 0; i < N; i++) {
        const float next = fused(t[i] + t[i], b1[i], c - b2[i]);
        b2[i] = b1[i];
        b1[i] = next;
      }
    }
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      const float g = fused(t[i], b1[i], p.coefficients[0] - b2[i]);
      const float value =
          p.is_odd != 0 ? fused(x[i] * params.inverse_bound, g, p.offset) : fused(x[i], p.slope, g);
      x[i] = is_exact_at(params, x[i]) ? exact_value(p, x[i]) : value;
    }
  }
  APPROX_FN float derivative(float x) const {
    const FunctionParams& p = params.function;
    if (is_exact_at(params, x)) return exact_slope(p, x);
    const float z = x * params.inverse_bound;
    const float t = fused(z + z, z, -1.0f);
    float b1 = 0.0f, b2 = 0.0f, d1 = 0.0f, d2 = 0.0f;
    APPROX_NO_UNROLL
    for (uint32_t k = p.terms - 1; k > 0; k--) {
      const float d = fused(t + t, d1, (b1 + b1) - d2);
      d2 = d1;
      d1 = d;
      const float b = fused(t + t, b1, p.coefficients[k] - b2);
      b2 = b1;
      b1 = b;
    }
    // In t, and dt/dz = 4z.
    const float dg = fused(t, d1, b1 - d2) * (4.0f * z);
    if (p.is_odd == 0) return fused(dg, params.inverse_bound, p.slope);
    const float g = fused(t, b1, p.coefficients[0] - b2);
    return fused(z, dg, g) * params.inverse_bound;
  }
};

/// A value and its derivative.
struct Slope {
  float value, slope;
};

/// A polynomial that is fitted to an activation's inputs, with `z = (x − center) / bound`, `t = T_2(z)`, `u = T_4(z)` and
/// `v = T_8(z)`. Two pairs: `h_0 + z h_1`, each `h` is `a(u) + t b(u)`. Four pairs: `h_0 + t h_1 + z (h_2 + t h_3)`, each
/// `h` is `a(v) + u b(v)`. Of each pair, b has as many coefficients as a, or one less; both may have none.
struct Fitted {
  const ActivationParams<float>& params;
  APPROX_FN explicit Fitted(const ActivationParams<float>& params) : params(params) {}
  APPROX_FN float to_unit(float x) const { return (x - params.center) * params.inverse_bound; }
  static APPROX_FN float second_chebyshev(float z) { return fused(z + z, z, -1.0f); }
  /// `a + x b` and its derivative.
  static APPROX_FN Slope sum(Slope a, Slope b, Slope x) {
    return {fused(x.value, b.value, a.value), fused(x.value, b.slope, fused(x.slope, b.value, a.slope))};
  }
  /// Part `k`, and its derivative.
  APPROX_FN Slope part(uint32_t k, Slope v) const {
    const FunctionParams& p = params.function;
    const float* c = p.coefficients + k * PART_TERMS;
    const uint32_t terms = p.lengths[k];
    if (terms == 0) return {0.0f, 0.0f};
    float value = c[terms - 1], slope = 0.0f;
    APPROX_NO_UNROLL
    for (uint32_t i = terms - 1; i-- > 0;) {
      slope = fused(slope, v.value, value);
      value = fused(value, v.value, c[i]);
    }
    return {value, slope * v.slope};
  }
  APPROX_FN Slope pair(uint32_t k, Slope u, Slope v) const { return sum(part(2 * k, v), part(2 * k + 1, v), u); }
  /// Pair `k` of several numbers.
  template <int N>
  APPROX_FN void pair(uint32_t k, const float (&u)[N], const float (&v)[N], float (&h)[N]) const {
    const FunctionParams& p = params.function;
    const float *first = p.coefficients + 2 * k * PART_TERMS, *second = first + PART_TERMS;
    const uint32_t both = p.lengths[2 * k + 1];
    float b[N];
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      h[i] = p.lengths[2 * k] > both ? first[both] : 0.0f;
      b[i] = 0.0f;
    }
    APPROX_NO_UNROLL
    for (uint32_t j = both; j-- > 0;) {
      APPROX_UNROLL
      for (int i = 0; i < N; i++) {
        h[i] = fused(h[i], v[i], first[j]);
        b[i] = fused(b[i], v[i], second[j]);
      }
    }
    APPROX_UNROLL
    for (int i = 0; i < N; i++) h[i] = fused(u[i], b[i], h[i]);
  }
  template <int N>
  APPROX_FN void eval(float (&x)[N]) const {
    float z[N], t[N], u[N], odd[N], even[N];
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      z[i] = to_unit(x[i]);
      t[i] = second_chebyshev(z[i]);
      u[i] = second_chebyshev(t[i]);
    }
    if (params.function.pairs == 2) {
      pair(0, t, u, even);
      pair(1, t, u, odd);
    } else {
      float v[N], h[N];
      APPROX_UNROLL
      for (int i = 0; i < N; i++) v[i] = second_chebyshev(u[i]);
      pair(0, u, v, even);
      pair(1, u, v, h);
      APPROX_UNROLL
      for (int i = 0; i < N; i++) even[i] = fused(t[i], h[i], even[i]);
      pair(2, u, v, odd);
      pair(3, u, v, h);
      APPROX_UNROLL
      for (int i = 0; i < N; i++) odd[i] = fused(t[i], h[i], odd[i]);
    }
    APPROX_UNROLL
    for (int i = 0; i < N; i++) {
      const float value = fused(z[i], odd[i], even[i]);
      x[i] = params.exact_outside != 0 && !is_within(z[i]) ? exact_value(params.function, x[i]) : value;
    }
  }
  APPROX_FN float derivative(float x) const {
    const Slope z = {to_unit(x), 1.0f};
    if (params.exact_outside != 0 && !is_within(z.value)) return exact_slope(params.function, x);
    // t' = 4z, u' = 4t t' and v' = 4u u'.
    const Slope t = {second_chebyshev(z.value), 4.0f * z.value};
    const Slope u = {second_chebyshev(t.value), (4.0f * t.value) * t.slope};
    Slope even, odd;
    if (params.function.pairs == 2) {
      even = pair(0, t, u);
      odd = pair(1, t, u);
    } else {
      const Slope v = {second_chebyshev(u.value), (4.0f * u.value) * u.slope};
      even = sum(pair(0, u, v), pair(1, u, v), t);
      odd = sum(pair(2, u, v), pair(3, u, v), t);
    }
    return sum(even, odd, z).slope * params.inverse_bound;
  }
};

}  // namespace approx
