// A specialisation alone, as in flash-attention's objects: where there is no ordinary function, nvcc
// makes its internal names of the source's modification time and a process number.
#include <cuda/std/tuple>

#include "launch.cuh"

template <int N>
__global__ void offset(float *values) {
  values[threadIdx.x] += N;
}

template <>
int add<1>(float *values, int count) {
  return launch(offset<1>, values, count);
}
