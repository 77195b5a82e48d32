#include "launch.cuh"

// Steps make this object take as long as the large ones': unrolled, they are work for cicc.
#ifndef STEPS
#define STEPS 0
#endif

#define FACTOR 2.0f

__global__ void scale(float *values) {
  float value = values[threadIdx.x];
#pragma unroll
  for (int step = 0; step < STEPS; ++step) value = sinf(value) * value + step;
  values[threadIdx.x] = value * FACTOR;
}

extern "C" int toy_scale(float *values, int count) { return launch(scale, values, count); }

template <>
int add<1>(float *values, int count);

extern "C" int toy_offset(float *values, int count) { return add<1>(values, count); }
