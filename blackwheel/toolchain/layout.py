"""Lays out a CUDA_HOME from unpacked registry packages, and checks that it is whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.core import recorded, records
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.settled import Digests
from blackwheel.toolchain.driver_stub import build_stub

LAYOUT: Final = 1
"""Raised when `lay_out` makes something else of the same packages."""
NEEDED: Final = (
    *(f"bin/{name}" for name in ("nvcc", "cudafe++", "fatbinary", "nvlink", "ptxas")),
    *("nvvm/bin/cicc", "nvvm/libdevice/libdevice.10.bc"),
    *(f"include/{name}" for name in ("cuda.h", "cuda_runtime.h", "cublas_v2.h", "cublasLt.h")),
    *(f"include/{name}" for name in ("cusparse.h", "cusolverDn.h", "cufft.h", "curand.h")),
    *("include/nvrtc.h", "include/nvml.h", "include/nvtx3/nvToolsExt.h", "include/cccl/thrust"),
    *(f"lib64/lib{name}.so" for name in ("cudart", "cublas", "cublasLt", "cusparse", "cusolver")),
    *(f"lib64/lib{name}.so" for name in ("cufft", "curand", "nvrtc", "nvJitLink")),
    *("lib64/libcudart_static.a", "lib64/libcudadevrt.a", "lib64/stubs/libcuda.so"),
)
"""What torch's cpp_extension and CMake's FindCUDAToolkit look for under CUDA_HOME."""

_TOOLKIT: Final = re.compile(r"nvidia/cu[^/]*/")
_SHARED: Final = re.compile(r"lib/[^/]+\.so[.0-9]*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Marker:
    """Content of `toolchain.json`: the digest of its lock and layout, and its inventory."""

    digest: str
    files: dict[str, str]


def lay_out(home: Path, *, compiler: Path, environment: Mapping[str, str]) -> None:
    """Complete `cuda/` from the installed packages with the links of a toolkit's own installer."""
    cuda = home / "cuda"
    unpacked = sorted((home / "packages" / "nvidia").glob("cu*"))
    if len(unpacked) == 1:
        unpacked[0].replace(cuda)
        library = cuda / "lib"
        for path in sorted(library.glob("lib*.so.*")):
            plain = library / f"{path.name.partition('.so.')[0]}.so"
            if not plain.is_symlink():
                plain.symlink_to(path.name)
        (cuda / "lib64").symlink_to("lib")
        (library / "stubs").mkdir()
        stub = library / "stubs" / "libcuda.so"
        build_stub(cuda / "include", stub, compiler=compiler, environment=environment)
    missing = [name for name in NEEDED if not (cuda / name).exists()]
    if missing:
        raise BlackwheelError(
            "toolchain-incomplete",
            f"the locked packages lack {', '.join(missing)}",
            where=str(home),
            fix="name the missing parts as extras of cuda-toolkit, then: nox -s lock",
            code=Exit.CONFIG,
        )


def faults(home: Path, digest: str, store: Path) -> list[str]:
    """Return the files of a toolchain that differ from the installed ones; none where it is whole.

    Every file must have its size, and those that are executed, included or linked into a wheel the
    sha256 of their wheels' RECORD. Of shared libraries a wheel holds no more than their names.
    """
    marker = records.kept(home / "toolchain.json", Marker)
    if marker is None or marker.digest != digest or not marker.files:
        return ["toolchain.json"]
    known, found = marker.files, inventory(home)
    other = {path for path in {*known, *found} if known.get(path) != found.get(path)}
    digests = Digests(home, store)
    changed = other_than_recorded(home, digests, cuda=home / "cuda")
    digests.keep(whole=True)
    return sorted({*other, *(one.path for one in changed)})


def other_than_recorded(
    home: Path, digests: Digests, *, cuda: Path | None = None
) -> list[recorded.Changed]:
    """Compare the installed packages with RECORD; `cuda` is where `nvidia/cu13` lies by now."""

    def place(path: str) -> Path:
        moved = _TOOLKIT.match(path)
        return cuda / path[moved.end() :] if moved and cuda else home / "packages" / path

    def wanted(path: str) -> bool:
        moved = _TOOLKIT.match(path)
        return not (moved and _SHARED.match(path[moved.end() :]))

    return recorded.changed(home / "packages", digests, place=place, wanted=wanted)


def inventory(home: Path) -> dict[str, str]:
    """Return size or link target of everything in the CUDA_HOME, by path."""
    return {
        str(path.relative_to(home)): f"-> {path.readlink()}"
        if path.is_symlink()
        else str(path.stat().st_size)
        for path in sorted((home / "cuda").rglob("*"))
        if path.is_symlink() or path.is_file()
    }
