#pragma once
#include <cuda_runtime.h>

#include "toy.h"

static int launch(void (*kernel)(float *), float *values, int count) {
  float *device = nullptr;
  cudaError_t error = cudaMalloc(&device, count * sizeof(float));
  if (error != cudaSuccess) return error;
  cudaMemcpy(device, values, count * sizeof(float), cudaMemcpyHostToDevice);
  kernel<<<1, count>>>(device);
  error = cudaMemcpy(values, device, count * sizeof(float), cudaMemcpyDeviceToHost);
  cudaFree(device);
  return error;
}

template <int N>
int add(float *values, int count);
