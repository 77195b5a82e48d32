// Small kernels with one fault each, called by address: no bindings, no torch headers.
__global__ void twice(float *data, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) data[i] = 2.0f * i;
}
__global__ void spin(float *data) {
  while (*(volatile float *)data != -1.0f) { }
}
__global__ void outside(float *data) { data[1ull << 44] = 1.0f; }

static int ended(void) {
  cudaError_t error = cudaGetLastError();
  return error ? (int)error : (int)cudaDeviceSynchronize();
}
extern "C" const char *words(int error) { return cudaGetErrorString((cudaError_t)error); }
extern "C" int right(float *data, int count) {
  twice<<<(count + 255) / 256, 256>>>(data, count);
  return ended();
}
extern "C" int unwritten(float *data, int count) {  // the last block is not launched
  twice<<<(count - 1) / 256, 256>>>(data, count);
  return ended();
}
extern "C" int hang(float *data, int count) { spin<<<1, 1>>>(data); return ended(); }
extern "C" int illegal(float *data, int count) { outside<<<1, 1>>>(data); return ended(); }
extern "C" int segfault(float *data, int count) { *(volatile int *)10 = 1; return 0; }
