"""The nightly index in its form of November 2026, and a toy torch that is built against and runs.

Seen in pytorch/test-infra at 61a77570, s3_management/manage.py: PEP 503 pages whose addresses are
absolute and on another host, no `#sha256` on nightlies, `data-core-metadata`, the newest 60
versions of a package over all channels, triton above the channels, 403 for whatever is missing.
`python tests/toys/todays_index.py FOLDER` serves the wheels of a folder, `cu134/*.whl` and `*.whl`,
for a walk with real wheels.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from nightly_index import GIT, PLATFORM, WINDOW, File, Index, serving, wheel
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

sys.path.append(str(Path(__file__).parent / "cuda"))

from toytorch import C10, CUDART, TORCH, TORCH_CUDA, build_library

ROOT = "/whl/nightly"
TAG = f"cp3{sys.version_info.minor}"
CHANNEL = "cu130"
TRITON = "3.9.0+gitaad2a60d"
OFTEN = "manylinux_2_27_x86_64.manylinux_2_28_x86_64"
HEADER = "torch/include/c10/toy.h"
STACK = f"""\
description = "torch VERSION of the stand-in"
python = ["3.{sys.version_info.minor}"]
archs = ["12.0a"]
driver = 580
glibc = "2.28"
build = []
projects = {{}}
[torch]
version = "VERSION"
runtime = "VERSION"
cuda = "13.0"
source = "index"
index = "INDEX"
channel = "{CHANNEL}"
[toolchain]
source = "registry"
cuda = "13.0.3"
"""
DECLARED = "#pragma once\nnamespace c10 { int device_count(); }\n"


@dataclass
class Today(Index):
    """Files by path, and the pages that today's index makes of them."""

    missing: int = 403
    files_root: str = ""
    """The host that addresses on the pages name."""

    def add(self, name: str, data: bytes, *, channel: str = CHANNEL, **how: object) -> File:
        how = {"claim": "", "metadata": _metadata(data), **how}
        return super().add(name, data, channel=channel, **how)

    def page(self, path: str) -> bytes | None:
        """The page of one project: of a channel, or at the root of all of them."""
        place, _, project = path.rstrip("/").rpartition("/")
        below = place.removeprefix(ROOT).strip("/")
        own = {
            name: file
            for name, file in self.files.items()
            if canonicalize_name(_parsed(name)[0]) == project and file.listed
        }
        newest = sorted({_public(name) for name in own})[-WINDOW:]
        rows = [
            self._row(name, file)
            for name, file in sorted(own.items())
            if _public(name) in newest and below in ("", name.split("/")[3])
        ]
        if not rows or not place.startswith(ROOT):
            return None
        head = f"<!DOCTYPE html>\n<html>\n  <body>\n    <h1>Links for {escape(project)}</h1>\n"
        foot = "\n  </body>\n</html>\n<!--TIMESTAMP 1764460800-->\n"
        return (head + "\n".join(rows) + foot).encode()

    def _row(self, name: str, file: File) -> str:
        claim = hashlib.sha256(file.data).hexdigest() if file.claim is None else file.claim
        mark = f"#sha256={claim}" if claim else ""
        told = ' data-upload-time="2026-11-28T09:12:41Z"'
        if file.metadata is not None:
            digest = hashlib.sha256(file.metadata).hexdigest()
            keys = ("data-dist-info-metadata", "data-core-metadata")
            told += "".join(f' {key}="sha256={digest}"' for key in keys)
        address = f"{self.files_root}{quote(name)}{mark}"
        return f'    <a href="{address}"{told}>{escape(name.rsplit("/", 1)[1])}</a><br/>'

    def nightly(self, day: int, *, channel: str = CHANNEL, tag: str = TAG, **how: str) -> str:
        """Add one night of October 2026: torch, torchvision, triton at the root; no torchaudio."""
        version = f"2.16.0.dev202610{day:02}+{channel}"
        cuda = f"{channel[2:4]}.{channel[4:]}"
        self.add(
            f"torch-{version}-{tag}-{tag}-{PLATFORM}.whl",
            toy_torch(version, cuda=cuda, **how),
            channel=channel,
        )
        vision = f"0.30.0.dev202610{day:02}+{channel}"
        self.add(
            f"torchvision-{vision}-{tag}-{tag}-{PLATFORM}.whl",
            wheel("torchvision", vision, requires=(f"torch=={version}",)),
            channel=channel,
        )
        self.add(f"triton-{TRITON}-{tag}-{tag}-{OFTEN}.whl", wheel("triton", TRITON), channel="")
        return version


def stack_file(constraints: Path, index: Index, version: str) -> None:
    """Write a stack `mine` whose torch is this build of the index, not locked yet."""
    constraints.mkdir(parents=True)
    text = STACK.replace("INDEX", index.channel("").rstrip("/")).replace("VERSION", version)
    (constraints / "mine.toml").write_text(text, encoding="utf-8")


def _parsed(name: str) -> tuple[str, Version]:
    project, version, _, _ = parse_wheel_filename(name.rsplit("/", 1)[1])
    return str(project), version


def _public(name: str) -> Version:
    """Version without the part behind `+`: all channels of a night count as one."""
    return Version(_parsed(name)[1].public)


def _metadata(data: bytes) -> bytes | None:
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        found = [name for name in made.namelist() if name.endswith(".dist-info/METADATA")]
        return made.read(found[0]) if found else None


@functools.cache
def _libraries() -> dict[str, bytes]:
    """Real libraries that export what a toy links against."""
    with tempfile.TemporaryDirectory() as folder:
        lib = Path(folder)
        cudart = build_library(lib / "libcudart.so.13", CUDART, versions="libcudart.so.13 { *; };")
        c10 = build_library(lib / "libc10.so", C10)
        cpu = build_library(lib / "libtorch_cpu.so", TORCH, needs=[c10])
        made = [c10, cpu, build_library(lib / "libtorch_cuda.so", TORCH_CUDA, needs=[cpu, cudart])]
        made.append(build_library(lib / "libtorch_global_deps.so", ""))
        made.append(cudart)
        return {f"torch/lib/{file.name}": file.read_bytes() for file in made}


def toy_torch(version: str, *, cuda: str = "13.0", git: str = GIT, header: str = DECLARED) -> bytes:
    """A torch of 100 KB that installs, imports, and has a header and libraries to build against."""
    lines = {"__version__": version, "cuda": cuda, "git_version": git}
    files: dict[str, str | bytes] = {
        "torch/__init__.py": (
            "import ctypes\nfrom pathlib import Path\n\nfrom torch import cuda, version\n"
            "from torch.version import __version__\n\n"
            "for name in ('libc10.so', 'libtorch_cpu.so'):\n"
            "    ctypes.CDLL(str(Path(__file__).parent / 'lib' / name), ctypes.RTLD_GLOBAL)\n"
        ),
        "torch/cuda.py": "def is_available():\n    return False\n",
        "torch/version.py": "".join(f"{name} = {value!r}\n" for name, value in lines.items()),
        "torch/share/cmake/Torch/TorchConfig.cmake": (
            'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=1")\n'
        ),
        HEADER: header,
        **_libraries(),
    }
    requires = (f"triton=={TRITON}; platform_system == 'Linux'",)
    return wheel("torch", version, requires=requires, files=files)


@contextlib.contextmanager
def serving_today(index: Today | None = None) -> Iterator[Today]:
    """Serve pages on one host, and files on another."""
    made = index or Today()
    with serving(made):
        port = made.root
        with serving(made):  # the second one answers as another host
            made.files_root = made.root.replace("127.0.0.1", "localhost")
            made.root = port
            yield made


def main(folder: Path) -> None:
    """Serve real wheels until the process is stopped."""
    made = Today()
    for path in sorted(folder.rglob("*.whl")):
        channel = "/".join(path.parent.relative_to(folder).parts)
        made.add(path.name, path.read_bytes(), channel=channel)
    with serving_today(made):
        sys.stdout.write(f"{made.root}{ROOT}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
