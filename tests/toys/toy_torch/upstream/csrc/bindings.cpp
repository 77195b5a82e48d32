#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/utils/pybind.h>  // torch/extension.h takes three times as long

extern "C" int toy_double(float *values, long count, void *stream);

static at::Tensor doubled(const at::Tensor &tensor) {
  TORCH_CHECK(tensor.is_cuda() && tensor.scalar_type() == at::kFloat, "a CUDA float tensor, please");
  at::Tensor result = tensor.contiguous().clone();
  void *stream = c10::cuda::getCurrentCUDAStream().stream();
  int error = toy_double(result.data_ptr<float>(), result.numel(), stream);
  TORCH_CHECK(error == 0, "CUDA error ", error);
  return result;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("doubled", &doubled); }
