"""Upstream's build of a toy: an extension of torch, as upstreams write one."""

import os

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

GENCODE = {
    "9.0": ["-gencode", "arch=compute_90,code=sm_90"],
    "12.0": ["-gencode", "arch=compute_120,code=sm_120"],
}

flags = ["-O2"]
for arch in os.environ.get("TOY_TORCH_ARCHS", "9.0;12.0").split(";"):
    flags += GENCODE.get(arch, [])

setup(
    name="toy-torch",
    version="1.0+" + os.environ["TOY_TORCH_LABEL"],
    packages=["toy_torch"],
    install_requires=[os.environ["TOY_TORCH_REQUIREMENT"]],
    ext_modules=[
        CUDAExtension(
            "toy_torch._C",
            # Headers of torch cost nvcc a minute: they stay out of the .cu file.
            ["csrc/bindings.cpp", "csrc/double.cu"],
            extra_compile_args={"cxx": ["-O0"], "nvcc": flags},
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)
