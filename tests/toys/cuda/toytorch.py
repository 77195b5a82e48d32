"""A toy torch: a virtual environment's folders with real libraries that export real symbols."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

C10 = """
#include <vector>
template class std::vector<int>;  // real torch libraries carry copies of std templates, too
namespace c10 { int device_count() { return 1; } int stream_of(int) { return 0; } }
"""
TORCH = """
namespace at { float *data_of(int) { return 0; } }
extern "C" int aoti_torch_get_dim(int) { return 1; }
"""
TORCH_CUDA = "namespace at { namespace cuda { int sm_count() { return 170; } } }"
CUDART = 'extern "C" int cudaGetDevice(int *) { return 0; }'


def build_library(
    out: Path,
    source: str,
    *,
    needs: Sequence[Path] = (),
    soname: str = "",
    versions: str = "",
    flags: Sequence[str] = (),
) -> Path:
    """Compile C++ into a shared library that needs others; `versions` is a version script."""
    out.parent.mkdir(parents=True, exist_ok=True)
    code, script = out.parent / f"{out.name}.cpp", out.parent / f"{out.name}.map"
    code.write_text(source)
    argv = ["g++", "-shared", "-fPIC", "-o", str(out), str(code), "-Wl,--no-as-needed", *flags]
    argv += [str(library) for library in needs] + [f"-Wl,-soname,{soname or out.name}"]
    if versions:
        script.write_text(versions)
        argv.append(f"-Wl,--version-script={script}")
    subprocess.run(argv, check=True)
    code.unlink()
    script.unlink(missing_ok=True)
    return out


def make_torch(
    environment: Path,
    *,
    version: str = "2.11.0+cu130",
    sources: Mapping[str, str] | None = None,
) -> Path:
    """A virtual environment that holds the toy torch; `sources` replaces a library's code."""
    code = {
        "libc10.so": C10,
        "libtorch_cpu.so": TORCH,
        "libtorch_cuda.so": TORCH_CUDA,
        **(sources or {}),
    }
    packages = environment / "lib" / "python3.12" / "site-packages"
    lib = packages / "torch" / "lib"
    cudart = build_library(
        packages / "nvidia" / "cu13" / "lib" / "libcudart.so.13",
        CUDART,
        versions="libcudart.so.13 { *; };",
    )
    c10 = build_library(lib / "libc10.so", code["libc10.so"])
    cpu = build_library(lib / "libtorch_cpu.so", code["libtorch_cpu.so"], needs=[c10])
    build_library(lib / "libtorch_cuda.so", code["libtorch_cuda.so"], needs=[cpu, cudart])
    build_library(lib / "libtorch_global_deps.so", "", needs=[cudart])
    (packages / "torch" / "version.py").write_text(f"__version__ = '{version}'\ncuda = '13.0'\n")
    info = packages / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "RECORD").write_text(f"torch/version.py,{version},\n")
    (environment / "bin").mkdir()
    (environment / "bin" / "python").symlink_to(sys.executable)
    return environment
