// 3×3 convolutions with stride 1 and padding 1, of few channels, and the function behind them. src/cuda/conv.rs launches
// them.

#include "range.cuh"

using namespace approx;

namespace approx {

/// Input channels that are in shared memory at once.
constexpr int CHUNK = 8;
/// Weights of a channel.
constexpr int TAPS = 9;
/// Pixels of a row that a thread computes: 16 bytes.
constexpr int PIXELS = 4;
constexpr int WARPS = BLOCK / WARP;
/// Numbers of an input channel that a block has in shared memory, for each warp's pixels.
constexpr int STAGED = 240;

/// What is convolved, and with which function behind it. A tile, whose pixels a block computes, is some rows of one
/// image, or several whole images.
struct ConvParams {
  uint32_t images, inputs, outputs, height, width;
  /// Rows of a tile, and those of them that are of one image.
  uint32_t rows, part;
  /// Tiles; a block for each, and for each of the groups of output channels.
  Divisor by_tiles;
  Divisor by_height, by_part;
  /// Groups of four pixels in a row.
  Divisor by_quads;
  /// Rows in shared memory, of a channel and of one image: one more on both sides.
  Divisor by_staged_rows, by_staged_part;
  /// Numbers from a row in shared memory to the next: a zero, the row, a zero, and two that nobody looks at.
  uint32_t pitch;
  ActivationParams<float> activation;
};

/// Copies the rows that a tile needs of some channels. Rows beyond the image are zeros.
__device__ __forceinline__ void stage_input(const ConvParams& p, const float* x, uint32_t first_row, uint32_t first,
                                            float* staged) {
  const uint32_t quads = p.by_quads.divisor, rows = p.by_staged_rows.divisor;
  for (uint32_t i = threadIdx.x; i < CHUNK * rows * quads; i += BLOCK) {
    const uint32_t line = quotient(i, p.by_quads), quad = i - line * quads;
    const uint32_t channel = quotient(line, p.by_staged_rows), row = line - channel * rows;
    const uint32_t part = quotient(row, p.by_staged_part);
    // Of all images' rows.
    const uint32_t begin = first_row + part * p.part, image = quotient(begin, p.by_height);
    const int32_t y = static_cast<int32_t>(begin - image * p.height + row - part * p.by_staged_part.divisor) - 1;
    float values[PIXELS] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (first + channel < p.inputs && image < p.images && y >= 0 && y < static_cast<int32_t>(p.height)) {
      const size_t plane = static_cast<size_t>(image) * p.inputs + first + channel;
      load4(values, x + (plane * p.height + y) * p.width + quad * PIXELS);
    }
    float* to = staged + line * p.pitch + quad * PIXELS + 1;
    for (int i = 0; i < PIXELS; i++) to[i] = values[i];
  }
}

/// `y = f(x ∗ weight + bias[c] + addend)`, of which a block computes a tile and CHANNELS · GROUPS output channels, a warp
/// CHANNELS of them and 128 pixels, and a thread four pixels of these.
template <typename F, int CHANNELS, int GROUPS>
__device__ __forceinline__ void convolve(const float* x, const float* weight, const float* bias, const float* addend,
                                         float* y, Range* slots, const ConvParams& p) {
  constexpr int OUTPUTS = CHANNELS * GROUPS;
  constexpr int PIXEL_WARPS = WARPS / GROUPS;
  alignas(16) __shared__ float staged[CHUNK * STAGED * PIXEL_WARPS];
  alignas(16) __shared__ float weights[CHUNK * TAPS * OUTPUTS];

  const uint32_t group_of_block = quotient(blockIdx.x, p.by_tiles);
  const uint32_t first_row = (blockIdx.x - group_of_block * p.by_tiles.divisor) * p.rows;
  const uint32_t warp = threadIdx.x / WARP, group = warp % GROUPS;
  const uint32_t channels_before = group_of_block * OUTPUTS;
  const uint32_t quad_of_tile = warp / GROUPS * WARP + threadIdx.x % WARP;
  const uint32_t row = quotient(quad_of_tile, p.by_quads), quad = quad_of_tile - row * p.by_quads.divisor;
  const uint32_t staged_row = row + 2 * quotient(row, p.by_part);

  for (uint32_t i = threadIdx.x; i < CHUNK * STAGED * PIXEL_WARPS; i += BLOCK) staged[i] = 0.0f;
  float sums[CHANNELS][PIXELS];
  APPROX_UNROLL
  for (int c = 0; c < CHANNELS; c++) {
    APPROX_UNROLL
    for (int i = 0; i < PIXELS; i++) sums[c][i] = 0.0f;
  }
  for (uint32_t first = 0; first < p.inputs; first += CHUNK) {
    const uint32_t count = p.inputs - first < CHUNK ? p.inputs - first : CHUNK;
    __syncthreads();
    stage_input(p, x, first_row, first, staged);
    for (uint32_t i = threadIdx.x; i < count * TAPS * (OUTPUTS / 4); i += BLOCK) {
      const uint32_t tap = i / (OUTPUTS / 4), at = i % (OUTPUTS / 4) * 4;
      float values[4];
      load4(values, weight + static_cast<size_t>(first * TAPS + tap) * p.outputs + channels_before + at);
      store4(weights + tap * OUTPUTS + at, values);
    }
    __syncthreads();
    const float* rows = staged + staged_row * p.pitch + quad * PIXELS;
    const float* taps = weights + group * CHANNELS;
    APPROX_NO_UNROLL
    for (uint32_t channel = 0; channel < count; channel++) {
      APPROX_UNROLL
      for (int k_y = 0; k_y < 3; k_y++) {
        float left[4], right[4];
        load4(left, rows + k_y * p.pitch);
        load4(right, rows + k_y * p.pitch + 4);
        const float line[8] = {left[0], left[1], left[2], left[3], right[0], right[1], right[2], right[3]};
        APPROX_UNROLL
        for (int k_x = 0; k_x < 3; k_x++) {
          APPROX_UNROLL
          for (int c = 0; c < CHANNELS; c += 4) {
            float of_channels[4];
            load4(of_channels, taps + (k_y * 3 + k_x) * OUTPUTS + c);
            APPROX_UNROLL
            for (int j = 0; j < 4; j++) {
              APPROX_UNROLL
              for (int i = 0; i < PIXELS; i++) {
                sums[c + j][i] = fused(line[i + k_x], of_channels[j], sums[c + j][i]);
              }
            }
          }
        }
      }
      rows += p.by_staged_rows.divisor * p.pitch;
      taps += TAPS * OUTPUTS;
    }
  }

  const F f(p.activation);
  const uint32_t bound_bits = bits_of(p.activation.bound);
  const uint32_t image = quotient(first_row + row, p.by_height), y_of_image = first_row + row - image * p.height;
  Range range = {0, 0, 0};
  if (image < p.images) {
    // One copy of the code for all channels: each in turn comes to the first place.
    APPROX_NO_UNROLL
    for (int c = 0; c < CHANNELS; c++) {
      const uint32_t channel = channels_before + group * CHANNELS + c;
      const size_t plane = static_cast<size_t>(image) * p.outputs + channel;
      const size_t index = (plane * p.height + y_of_image) * p.width + quad * PIXELS;
      float values[PIXELS], others[PIXELS] = {0.0f, 0.0f, 0.0f, 0.0f};
      if (addend != nullptr) load4(others, addend + index);
      APPROX_UNROLL
      for (int i = 0; i < PIXELS; i++) values[i] = sums[0][i] + bias[channel] + others[i];
      measure(range, values, p.activation.center, bound_bits);
      f.eval(values);
      store4(y + index, values);
      APPROX_UNROLL
      for (int d = 1; d < CHANNELS; d++) {
        APPROX_UNROLL
        for (int i = 0; i < PIXELS; i++) sums[d - 1][i] = sums[d][i];
      }
    }
  }
  if (p.activation.slot != NO_SLOT) record(range, slots + p.activation.slot);
}

}  // namespace approx

// Grid: one dimension, a block for each tile and group of output channels; block: 256 threads.
// Layout: x [images, inputs, height, width], weight [inputs, 9, outputs], addend and y [images, outputs, height, width],
// all aligned to 16 bytes; addend may be null. The width is a multiple of 4.
#define CONV(name, F, CHANNELS, GROUPS)                                                                             \
  extern "C" __global__ void __launch_bounds__(BLOCK) conv3x3_##name##_##CHANNELS##x##GROUPS(                       \
      const float* x, const float* weight, const float* bias, const float* addend, float* y, Range* slots,          \
      const __grid_constant__ ConvParams params) {                                                                  \
    convolve<F, CHANNELS, GROUPS>(x, weight, bias, addend, y, slots, params);                                       \
  }

#define SHAPES(name, F)  \
  CONV(name, F, 8, 2)    \
  CONV(name, F, 8, 4)    \
  CONV(name, F, 4, 8)

SHAPES(identity, Identity)
SHAPES(relu, Relu)
SHAPES(minimax, Minimax<float>)
SHAPES(fitted, Fitted)
