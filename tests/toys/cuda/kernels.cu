// Two kernels, one of them a template, and the function that a host program calls.
static __device__ int tripled(int value) { return value * 3; }
template <int N> __global__ void scale(float *data) { data[threadIdx.x] *= N; }
__global__ void add(float *data) { data[threadIdx.x] += tripled(threadIdx.x); }
extern "C" void launch(float *data) {
    scale<2><<<1, 32>>>(data);
    add<<<1, 32>>>(data);
}
