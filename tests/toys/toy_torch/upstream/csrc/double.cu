__global__ void doubling(float *values, long count) {
  long index = blockIdx.x * (long)blockDim.x + threadIdx.x;
  if (index < count) values[index] *= 2;
}

extern "C" int toy_double(float *values, long count, void *stream) {
  if (count) doubling<<<(count + 255) / 256, 256, 0, (cudaStream_t)stream>>>(values, count);
  return cudaGetLastError();
}
