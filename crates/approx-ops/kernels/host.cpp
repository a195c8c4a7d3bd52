// Runs the kernels' threads on the host, one after the other, for the tests (src/kernels/host.rs): what they compute, and
// which numbers they read and write. Only the launch, and how a block puts together what its threads saw, need a GPU.
//
// Requests come in on standard input, all of the host's byte order: a name, blocks and threads, the params, and arrays of
// float32. Answers go to standard output: arrays of float32, and a range. A string or array begins with its length in 64
// bits.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "minimax.cuh"

using namespace approx;

static void read_bytes(void* to, size_t size) {
  if (size != 0 && fread(to, 1, size, stdin) != size) exit(2);
}

template <typename T>
static T read_number() {
  T value;
  read_bytes(&value, sizeof value);
  return value;
}

template <typename T>
static std::vector<T> read_array() {
  std::vector<T> values(read_number<uint64_t>());
  read_bytes(values.data(), values.size() * sizeof(T));
  return values;
}

static void write(const std::vector<float>& values) {
  const uint64_t size = values.size();
  fwrite(&size, sizeof size, 1, stdout);
  fwrite(values.data(), sizeof(float), values.size(), stdout);
}

static const float* or_null(const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); }

struct Request {
  std::string name;
  uint32_t threads;
  std::vector<char> params;
  std::vector<std::vector<float>> arrays;
  Range range;

  template <typename P>
  P as() const {
    P p;
    if (params.size() != sizeof p) {
      fprintf(stderr, "%s: params of %zu bytes, expected %zu\n", name.c_str(), params.size(), sizeof p);
      exit(3);
    }
    memcpy(&p, params.data(), sizeof p);
    return p;
  }

  /// What nobody writes stays NaN.
  static std::vector<float> unwritten(size_t size) { return std::vector<float>(size, NAN); }

  template <typename F, typename T>
  void run_activate() {
    const auto p = as<ActivationParams<T>>();
    const Affine affine = {or_null(arrays[1]), or_null(arrays[2]), or_null(arrays[3])};
    std::vector<float> y = unwritten(p.count), in_place = arrays[0];
    Range twice = {0, 0, 0};
    for (uint32_t t = 0; t < threads; t++) {
      activate<F>(p, arrays[0].data(), y.data(), affine, t, threads, range);
      activate<F>(p, in_place.data(), in_place.data(), affine, t, threads, twice);
    }
    write(y);
    write(in_place);
  }

  template <typename F, typename T>
  void run_gradient() {
    const auto p = as<ActivationParams<T>>();
    std::vector<float> dx = unwritten(p.count);
    for (uint32_t t = 0; t < threads; t++) gradient<F>(p, arrays[0].data(), arrays[1].data(), dx.data(), t, threads);
    write(dx);
  }

  template <typename M, int K, typename T>
  void run_max_pool() {
    const auto p = as<PoolParams<T>>();
    std::vector<float> y = unwritten(outputs_of(p));
    for (uint32_t t = 0; t < threads; t++) max_pool<M, K>(p, arrays[0].data(), y.data(), t, threads, range);
    write(y);
  }

  template <typename M, int K, typename T>
  void run_tap_gradients() {
    const auto p = as<PoolParams<T>>();
    std::vector<float> taps = unwritten(static_cast<size_t>(K) * K * outputs_of(p));
    for (uint32_t t = 0; t < threads; t++) {
      max_pool_tap_gradients<M, K>(p, arrays[0].data(), arrays[1].data(), taps.data(), t, threads);
    }
    write(taps);
  }

  void run_gather() {
    const auto p = as<PoolParams<float>>();
    std::vector<float> dx = unwritten(static_cast<size_t>(p.planes) * p.height * p.width);
    for (uint32_t t = 0; t < threads; t++) max_pool_gather(p, arrays[0].data(), dx.data(), t, threads);
    write(dx);
  }

  bool run() {
#define FUNCTION(suffix, F, T)                                       \
  if (name == "activate_" #suffix) return run_activate<F, T>(), true; \
  if (name == "gradient_" #suffix) return run_gradient<F, T>(), true;
    APPROX_FUNCTIONS(FUNCTION)
#define MAXIMUM(suffix, M, T)                                                                        \
  if (name == "max_pool_" #suffix "_2") return run_max_pool<M, 2, T>(), true;                        \
  if (name == "max_pool_" #suffix "_3") return run_max_pool<M, 3, T>(), true;                        \
  if (name == "max_pool_tap_gradients_" #suffix "_2") return run_tap_gradients<M, 2, T>(), true;     \
  if (name == "max_pool_tap_gradients_" #suffix "_3") return run_tap_gradients<M, 3, T>(), true;
    APPROX_MAXIMA(MAXIMUM)
    if (name == "max_pool_gather") return run_gather(), true;
    return false;
  }
};

int main() {
  uint64_t length;
  while (fread(&length, sizeof length, 1, stdin) == 1) {
    Request request = {};
    request.name.resize(length);
    read_bytes(&request.name[0], length);
    const uint32_t blocks = read_number<uint32_t>();
    request.threads = blocks * read_number<uint32_t>();
    request.params = read_array<char>();
    request.arrays.resize(read_number<uint64_t>());
    for (auto& array : request.arrays) array = read_array<float>();
    if (!request.run()) {
      fprintf(stderr, "there is no kernel %s\n", request.name.c_str());
      return 4;
    }
    fwrite(&request.range, sizeof request.range, 1, stdout);
    fflush(stdout);
  }
  return 0;
}
