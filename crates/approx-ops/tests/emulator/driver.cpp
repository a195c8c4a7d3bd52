// A CUDA driver with one device, which is this machine's processor, and which knows the kernels of this crate and no
// others. With it, the launches themselves are tested where there is no GPU: which kernel, with what arguments in which
// order, on which numbers, and what the threads of a block do together. run.sh builds it and runs tests with it.
//
// The kernels are the .cu files, compiled for the host. A block's threads are fibers that take turns where they wait for
// each other; blocks run one after the other, and a launch is over when it returns. Memory has guards at both ends.
// What the tests do not need is not there.

#include <ucontext.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

// ---- What nvcc has built in -------------------------------------------------------------------------------------

struct Index {
  uint32_t x;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __grid_constant__
#define __shared__ static

static void __syncthreads();
template <typename T>
static T __shfl_down_sync(uint32_t mask, T value, uint32_t distance);

static uint32_t atomicMax(uint32_t* to, uint32_t value) { return *to = value > *to ? value : *to; }
static unsigned long long atomicAdd(unsigned long long* to, unsigned long long value) { return *to += value; }

#include "activation.cu"
#include "conv.cu"
#include "max_pool.cu"

// ---- A block's threads ------------------------------------------------------------------------------------------

static void fail(const std::string& what) {
  fprintf(stderr, "emulated CUDA: %s\n", what.c_str());
  abort();
}

namespace {

/// Lets those that come first wait for the others.
struct Barrier {
  uint32_t arrived = 0, generation = 0;
};

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(64 << 10);
  bool done;
};

std::vector<Fiber> fibers;
std::vector<Barrier> warps;
Barrier block;
std::vector<uint64_t> exchanged;
ucontext_t scheduler;
std::function<void()> body;

void yield() {
  Fiber& self = fibers[threadIdx.x];
  swapcontext(&self.context, &scheduler);
}

void wait(Barrier& barrier, uint32_t all) {
  const uint32_t generation = barrier.generation;
  if (++barrier.arrived == all) {
    barrier.arrived = 0;
    barrier.generation++;
  }
  while (barrier.generation == generation) yield();
}

void fiber_main() {
  body();
  fibers[threadIdx.x].done = true;
  swapcontext(&fibers[threadIdx.x].context, &scheduler);
}

void run_block(uint32_t threads) {
  fibers.resize(threads);
  warps.assign((threads + 31) / 32, {});
  block = {};
  exchanged.assign(threads, 0);
  for (Fiber& fiber : fibers) {
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
  for (uint32_t left = threads, rounds = 0; left > 0; rounds++) {
    if (rounds > 1000) fail("the threads of a block wait for each other for ever");
    for (uint32_t i = 0; i < threads; i++) {
      // In another order each time.
      const uint32_t t = rounds % 2 == 0 ? threads - 1 - i : i;
      if (fibers[t].done) continue;
      threadIdx = {t};
      swapcontext(&scheduler, &fibers[t].context);
      left -= fibers[t].done;
    }
  }
}

}  // namespace

static void __syncthreads() { wait(block, blockDim.x); }

template <typename T>
static T __shfl_down_sync(uint32_t mask, T value, uint32_t distance) {
  if (mask != 0xffffffffu) fail("only whole warps exchange values here");
  const uint32_t thread = threadIdx.x, lane = thread % 32;
  exchanged[thread] = value;
  wait(warps[thread / 32], 32);
  const T result = static_cast<T>(exchanged[lane + distance < 32 ? thread + distance : thread]);
  wait(warps[thread / 32], 32);
  return result;
}

// ---- Kernels ----------------------------------------------------------------------------------------------------

using Parameters = void**;

template <typename... A, size_t... I>
static void call(void (*kernel)(A...), Parameters p, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_const_t<A>*>(p[I])...);
}

template <typename... A>
static std::function<void(Parameters)> unpacked(void (*kernel)(A...)) {
  return [kernel](Parameters p) { call(kernel, p, std::index_sequence_for<A...>()); };
}

static const std::map<std::string, std::function<void(Parameters)>>& kernels() {
  static const std::map<std::string, std::function<void(Parameters)>> all = {
#define FUNCTION_ENTRIES(name, F, T)                          \
  {"activate_" #name, unpacked(activate_##name)},             \
  {"gradient_" #name, unpacked(gradient_##name)},
      APPROX_FUNCTIONS(FUNCTION_ENTRIES)
#define MAXIMUM_ENTRIES(name, M, T)                                                   \
  {"max_pool_" #name "_2", unpacked(max_pool_##name##_2)},                            \
  {"max_pool_" #name "_3", unpacked(max_pool_##name##_3)},                            \
  {"max_pool_tap_gradients_" #name "_2", unpacked(max_pool_tap_gradients_##name##_2)}, \
  {"max_pool_tap_gradients_" #name "_3", unpacked(max_pool_tap_gradients_##name##_3)},
      APPROX_MAXIMA(MAXIMUM_ENTRIES)
      {"max_pool_gather", unpacked(::max_pool_gather)},
#define CONV_ENTRIES(name)                                    \
  {"conv3x3_" #name "_8x2", unpacked(conv3x3_##name##_8x2)},  \
  {"conv3x3_" #name "_8x4", unpacked(conv3x3_##name##_8x4)},  \
  {"conv3x3_" #name "_4x8", unpacked(conv3x3_##name##_4x8)},
      CONV_ENTRIES(identity) CONV_ENTRIES(relu) CONV_ENTRIES(minimax) CONV_ENTRIES(fitted)
  };
  return all;
}

// ---- Memory -----------------------------------------------------------------------------------------------------

constexpr size_t GUARD = 256;
constexpr unsigned char GUARDED = 0xa5, UNWRITTEN = 0xff;  // NaN, if it is read
static std::map<uint64_t, size_t> sizes;
static std::mutex lock;

static int allocate(uint64_t* address, size_t size) {
  if (size == 0) return 1;  // as the real one
  char* memory = static_cast<char*>(aligned_alloc(GUARD, (size + 2 * GUARD + GUARD - 1) / GUARD * GUARD));
  memset(memory, GUARDED, GUARD);
  memset(memory + GUARD, UNWRITTEN, size);
  memset(memory + GUARD + size, GUARDED, GUARD);
  *address = reinterpret_cast<uint64_t>(memory + GUARD);
  std::lock_guard<std::mutex> guard(lock);
  sizes[*address] = size;
  return 0;
}

static int release(uint64_t address) {
  std::lock_guard<std::mutex> guard(lock);
  const auto found = sizes.find(address);
  if (found == sizes.end()) fail("memory is freed that was not allocated");
  const unsigned char* memory = reinterpret_cast<unsigned char*>(address);
  for (size_t i = 1; i <= GUARD; i++) {
    if (memory[-static_cast<ptrdiff_t>(i)] != GUARDED) fail("something was written before the beginning of memory");
    if (memory[found->second + i - 1] != GUARDED) fail("something was written behind the end of memory");
  }
  sizes.erase(found);
  free(const_cast<unsigned char*>(memory - GUARD));
  return 0;
}

// ---- The driver's interface -------------------------------------------------------------------------------------

struct Module {
  std::string ptx;
};

struct Function {
  std::string name;
};

static char current;  // any address

extern "C" {

int cuInit(unsigned) { return 0; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int id) { return *device = 0, id == 0 ? 0 : 101; }
int cuDeviceGetName(char* name, int size, int) { return snprintf(name, size, "emulated on the CPU"), 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 16: *value = 2; break;   // multiprocessors: few, so that threads have several pieces of work
    case 115: *value = 1; break;  // memory pools
    case 75: *value = 7; break;
    case 76: *value = 5; break;
    default: *value = 0;
  }
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &current, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxGetCurrent(void** context) { return *context = &current, 0; }
int cuCtxSetCurrent(void*) { return 0; }
int cuCtxDestroy_v2(void*) { return 0; }
int cuCtxSynchronize() { return 0; }
int cuStreamSynchronize(void*) { return 0; }
int cuStreamDestroy_v2(void*) { return 0; }
int cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
int cuStreamIsCapturing(void*, int* status) { return *status = 0, 0; }
int cuEventCreate(void** event, unsigned) { return *event = &current, 0; }
int cuEventRecord(void*, void*) { return 0; }
int cuEventDestroy_v2(void*) { return 0; }
int cuGetErrorString(int error, const char** text) { return *text = error == 0 ? "no error" : "emulated error", 0; }

int cuMemAlloc_v2(uint64_t* address, size_t size) { return allocate(address, size); }
int cuMemAllocAsync(uint64_t* address, size_t size, void*) { return allocate(address, size); }
int cuMemFree_v2(uint64_t address) { return release(address); }
int cuMemFreeAsync(uint64_t address, void*) { return release(address); }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, void*) {
  return memcpy(reinterpret_cast<void*>(to), from, size), 0;
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, void*) {
  return memcpy(to, reinterpret_cast<void*>(from), size), 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void*) {
  return memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size), 0;
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void*) {
  return memset(reinterpret_cast<void*>(to), value, size), 0;
}

// What is linked and not used.
int cuModuleLoad(Module**, const char*) { return 801; }
int cuMemcpyPeerAsync(uint64_t, void*, uint64_t, void*, size_t, void*) { return 801; }

int cuModuleLoadData(Module** module, const void* ptx) {
  *module = new Module{static_cast<const char*>(ptx)};
  return 0;
}
int cuModuleUnload(Module* module) { return delete module, 0; }
int cuModuleGetFunction(Function** function, Module* module, const char* name) {
  if (module->ptx.find(std::string(".entry ") + name + "(") == std::string::npos) return 500;  // not found
  *function = new Function{name};
  return 0;
}

int cuLaunchKernel(Function* function, unsigned blocks, unsigned blocks_y, unsigned blocks_z, unsigned threads,
                   unsigned threads_y, unsigned threads_z, unsigned shared, void*, void** parameters, void** extra) {
  const auto found = kernels().find(function->name);
  if (found == kernels().end()) {
    fprintf(stderr, "emulated CUDA: there is no kernel %s\n", function->name.c_str());
    return 801;
  }
  if (blocks == 0 || threads == 0 || threads > 1024 || extra != nullptr) return 1;
  if (blocks_y * blocks_z * threads_y * threads_z != 1 || shared != 0) return 1;
  static std::mutex running;
  std::lock_guard<std::mutex> guard(running);
  gridDim = {blocks};
  blockDim = {threads};
  body = [&] { found->second(parameters); };
  for (uint32_t b = 0; b < blocks; b++) {
    blockIdx = {b};
    run_block(threads);
  }
  return 0;
}

}  // extern "C"
