#include "launch.cuh"

__global__ void offset(float *values) { values[threadIdx.x] += 1.0f; }

extern "C" int toy_offset(float *values, int count) { return launch(offset, values, count); }
