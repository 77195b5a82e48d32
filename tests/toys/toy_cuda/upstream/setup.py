"""Upstream's build of a toy: kernels with nvcc, bindings with g++, through ninja, as large ones."""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
GENCODE = {
    "9.0": "-gencode=arch=compute_90,code=sm_90",
    "12.0": "-gencode=arch=compute_120,code=sm_120",
}


def gencode():
    """A token that is not in the list is ignored, as upstreams do."""
    wanted = os.environ.get("TOY_CUDA_ARCHS", "9.0;12.0").split(";")
    return [GENCODE[arch] for arch in wanted if arch in GENCODE]


class BuildWithNinja(build_ext):
    def build_extension(self, extension):
        folder = Path(self.build_temp).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        cuda = Path(os.environ["CUDA_HOME"])
        nvcc = os.environ.get("PYTORCH_NVCC", str(cuda / "bin" / "nvcc"))
        cxx = os.environ.get("CXX", "g++")
        headers = os.environ["TOY_CUDA_HEADERS"]
        include = [f"-I{headers}/include", f"-I{cuda / 'include'}"]
        steps = shlex.split(os.environ.get("TOY_CUDA_NVCC_FLAGS", ""))
        lines = [
            "ninja_required_version = 1.3",
            f"nvcc = {nvcc} {' '.join([*include, *gencode(), *steps])} -Xcompiler -fPIC -O2",
            f"cxx = {cxx} {' '.join(include)} -I{sysconfig.get_path('include')} -fPIC -O2",
            "rule cuda",
            "  command = $nvcc -MD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "rule host",
            "  command = $cxx -MMD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
        ]
        objects = []
        for source in extension.sources:
            objects.append(folder / f"{Path(source).stem}.o")
            rule = "cuda" if source.endswith(".cu") else "host"
            lines.append(f"build {objects[-1]}: {rule} {HERE / source}")
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")
        jobs = os.environ.get("MAX_JOBS", "1")
        subprocess.run(["ninja", "-v", "-j", jobs], cwd=folder, check=True)
        target = Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        libraries = [f"-L{cuda / 'lib64'}", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
        link = [cxx, "-shared", "-o", str(target), *map(str, objects), *libraries]
        subprocess.run(link, check=True)


setup(
    name="toy-cuda",
    version="1.0+" + os.environ["TOY_CUDA_LABEL"],
    packages=["toy_cuda"],
    install_requires=[os.environ["TOY_CUDA_TORCH"]],
    ext_modules=[
        Extension("toy_cuda._kernels", ["csrc/bindings.c", "csrc/offset.cu", "csrc/scale.cu"])
    ],
    cmdclass={"build_ext": BuildWithNinja},
)
