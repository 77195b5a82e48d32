// A static kernel: its mangled name is the same in every source file that has one.
static __global__ void hidden(float *data) { data[threadIdx.x] += SUMMAND; }
extern "C" void ENTRY(float *data) { hidden<<<1, 32>>>(data); }
