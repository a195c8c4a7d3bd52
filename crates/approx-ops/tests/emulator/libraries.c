/* Of cuBLAS and cuRAND what candle calls when it opens a device. Everything else fails: CUBLAS_STATUS_NOT_SUPPORTED. */
#include <stddef.h>

static char handle;
int cublasCreate_v2(void **to) { return *to = &handle, 0; }
int cublasDestroy_v2(void *h) { return 0; }
int cublasSetStream_v2(void *h, void *stream) { return 0; }
int cublasGemmStridedBatchedEx() { return 15; }
int cublasDgemmStridedBatched() { return 15; }

int curandCreateGenerator(void **to, int kind) { return *to = &handle, 0; }
int curandDestroyGenerator(void *g) { return 0; }
int curandSetStream(void *g, void *stream) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void *g, unsigned long long seed) { return 0; }
int curandGenerateUniform() { return 204; }
int curandGenerateUniformDouble() { return 204; }
int curandGenerateNormal() { return 204; }
int curandGenerateNormalDouble() { return 204; }
