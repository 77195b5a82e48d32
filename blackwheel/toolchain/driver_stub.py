"""Compiles a stand-in for the driver's libcuda.so for link time: no registry package ships one.

The real library comes from the NVIDIA driver of the machine that runs the wheel. Can go on the day
that a package of the CUDA toolkit carries `stubs/libcuda.so`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from blackwheel.core.process import capture

HEADERS: Final = ("cuda.h", "cudaProfiler.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h")
"""The headers of the driver interface; the first must exist."""
STUB_ERROR: Final = 34
"""CUDA_ERROR_STUB_LIBRARY: what a call answers if the stub is ever loaded instead of a driver."""

_DECLARED = re.compile(r"\bCUDAAPI\s+(cu[A-Z]\w*)\s*\(")
_RENAMED = re.compile(
    r"^\s*#\s*define\s+cu[A-Z]\w*\s+(?:__CUDA_API_(?P<stream>PTDS|PTSZ)\(\s*)?(?P<name>cu[A-Z]\w*)",
    re.MULTILINE,
)


def driver_functions(header: str) -> frozenset[str]:
    """Return every symbol that code compiled with a driver header may need.

    Those are the declared names, the versioned ones that macros put in their place
    (`cuMemAlloc` is `cuMemAlloc_v2`), and of stream functions the per-thread forms (`_ptds`,
    `_ptsz`).
    """
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", header, flags=re.DOTALL).replace("\\\n", " ")
    names = set(_DECLARED.findall(text))
    for found in _RENAMED.finditer(text):
        names.add(found["name"])
        if found["stream"]:
            names.add(f"{found['name']}_{found['stream'].lower()}")
    return frozenset(names)


def stub_source(names: frozenset[str]) -> str:
    """Return C code that defines every name, in a fixed order."""
    return "".join(f"int {name}(void) {{ return {STUB_ERROR}; }}\n" for name in sorted(names))


def build_stub(
    include: Path, out: Path, *, compiler: Path, environment: Mapping[str, str]
) -> frozenset[str]:
    """Compile the stub for the headers in `include` to `out`; return the names it defines.

    One compiler gives the same bytes wherever and whenever it runs.
    """
    present = [
        include / name for name in HEADERS if name == HEADERS[0] or (include / name).exists()
    ]
    names = frozenset[str]().union(
        *(driver_functions(path.read_text(encoding="utf-8")) for path in present)
    )
    source = out.with_suffix(".c")
    source.write_text(stub_source(names), encoding="utf-8")
    argv = [str(compiler), "-x", "c", "-shared", "-fPIC", "-O1", "-nostdlib", "-fno-ident", "-s"]
    argv += ["-Wl,-soname,libcuda.so.1", "-Wl,--build-id=none", "-o", out.name, source.name]
    capture(argv, environment=environment, cwd=out.parent)
    source.unlink()
    return names
