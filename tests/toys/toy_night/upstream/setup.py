"""Upstream's build of a toy: one kernel without torch, and bindings that read a header of torch."""

import importlib.util
import os
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
TORCH = Path(importlib.util.find_spec("torch").origin).parent


def gencode():
    wanted = os.environ.get("TOY_NIGHT_ARCHS", "9.0;12.0").split(";")
    return [GENCODE[arch] for arch in wanted if arch in GENCODE]


class BuildWithNinja(build_ext):
    def build_extension(self, extension):
        folder = Path(self.build_temp).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        cuda, cxx = Path(os.environ["CUDA_HOME"]), os.environ.get("CXX", "g++")
        nvcc = os.environ.get("PYTORCH_NVCC", str(cuda / "bin" / "nvcc"))
        python = sysconfig.get_path("include")
        lines = [
            f"nvcc = {nvcc} {' '.join(gencode())} -Xcompiler -fPIC -O2",
            f"cxx = {cxx} -I{TORCH / 'include'} -I{python} -fPIC -O1",
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
        libraries += [f"-L{TORCH / 'lib'}", "-lc10"]
        link = [cxx, "-shared", "-o", str(target), *map(str, objects), *libraries]
        subprocess.run(link, check=True)


setup(
    name="toy-night",
    version="1.0+" + os.environ["TOY_NIGHT_LABEL"],
    packages=["toy_night"],
    install_requires=[os.environ["TOY_NIGHT_TORCH"]],
    ext_modules=[Extension("toy_night._C", ["csrc/bindings.cpp", "csrc/double.cu"])],
    cmdclass={"build_ext": BuildWithNinja},
)
