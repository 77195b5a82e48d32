"""Makes small wheels, right ones and wrong ones: `from wheelwright import make_wheel`."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elfwright import cubin, elf, entry, fat_binary

from blackwheel.audit.audit import Expected, inspect
from blackwheel.core.archs import parse
from blackwheel.stacks.records import Contract

LABEL = "cu130torch2.11.0.sm120a.1"
NAME = f"toy-1.0+{LABEL}-cp312-cp312-linux_x86_64.whl"
TORCH = "torch===2.11.0"
INFO = f"toy-1.0+{LABEL}.dist-info"
SO = "toy/_C.cpython-312-x86_64-linux-gnu.so"
ARCHS = (parse("12.0a"),)
TOY = Expected(
    name="toy",
    version="1.0",
    label=LABEL,
    python="cp312",
    modules=("toy",),
    torch=TORCH,
    archs=ARCHS,
    contracts=(Contract(library="toy/_C*.so"),),
    runtime=("einops",),
    glibc="2.28",
)
"""What the toy's stack says of its wheel."""
BARE = replace(TOY, contracts=(Contract(library="*", kernels=0, optional=True),))
"""The same stack, content with a wheel that holds no library."""


def native(*kernels: str, arch: int = 120, suffix: str = "a") -> bytes:
    """A library whose kernels are what the toy's stack asks for; nothing compiles it."""
    code = entry(
        cubin(*(kernels or ("scale",)), arch=arch, suffix=suffix), arch=arch, suffix=suffix
    )
    return elf(exports=["PyInit__C"], rodata=fat_binary(code), section=".nv_fatbin")


def record_row(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    shown = '"' + path.replace('"', '""') + '"' if any(c in path for c in ',"\n\r') else path
    return f"{shown},sha256={digest},{len(data)}\n"


def make_wheel(
    folder: Path,
    files: Mapping[str, bytes | Path] | None = None,
    *,
    name: str = NAME,
    metadata_version: str = "",
    requires: Sequence[str] = (TORCH, "einops"),
    tag: str = "",
    wheel_version: str = "1.0",
    unlisted: Sequence[tuple[str | zipfile.ZipInfo, bytes]] = (),
    record: Callable[[str], str] = lambda text: text,
    compression: int = zipfile.ZIP_DEFLATED,
    info: str = "",
) -> Path:
    """A right wheel, plus `unlisted` entries at the end, with RECORD as `record` changes it."""
    distribution, version, *tags = name.removesuffix(".whl").split("-")
    info = info or f"{distribution}-{version}.dist-info"
    lines = ["Metadata-Version: 2.4", f"Name: {distribution}"]
    lines += [f"Version: {metadata_version or version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    held: dict[str, bytes] = {"toy/__init__.py": b"NAME = 'toy'\n"}
    for path, data in (files or {}).items():
        held[path] = data.read_bytes() if isinstance(data, Path) else data
    held[f"{info}/METADATA"] = ("\n".join(lines) + "\n").encode()
    wheel_file = (
        f"Wheel-Version: {wheel_version}\nRoot-Is-Purelib: false\nTag: {tag or '-'.join(tags)}\n"
    )
    held[f"{info}/WHEEL"] = wheel_file.encode()
    text = "".join(record_row(path, data) for path, data in held.items()) + f"{info}/RECORD,,\n"
    held[f"{info}/RECORD"] = record(text).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", compression) as archive:
        for entry, data in [*held.items(), *unlisted]:
            archive.writestr(entry, data)
    return folder / name


@dataclass(frozen=True)
class Verdicts:
    """Names of what an audit finds in a wheel of the toy's stack, and in one of nobody's."""

    own: frozenset[str]
    """Fatal ones alone."""
    fatal: frozenset[str]
    noted: frozenset[str]


def verdicts(wheel: Path, expected: Expected = TOY) -> Verdicts:
    """Audit a wheel both ways."""
    own = inspect(wheel, archs=ARCHS, expected=expected)
    foreign = inspect(wheel, archs=ARCHS)
    return Verdicts(
        own=frozenset(one.name for one in own.fatal),
        fatal=frozenset(one.name for one in foreign.fatal),
        noted=frozenset(one.name for one in foreign.findings if not one.fatal),
    )


def require(wheel: Path, name: str, foreign: str, *, expected: Expected = TOY) -> None:
    """Require that the stack's wheel is refused for this, and what becomes of a foreign one.

    `foreign` is `fatal`, `note`, or empty where it is nobody else's affair.
    """
    seen = verdicts(wheel, expected)
    assert name in seen.own, f"own: {set(seen.own)}"
    assert (name in seen.fatal) == (foreign == "fatal"), f"fatal: {set(seen.fatal)}"
    assert (name in seen.noted) == (foreign == "note"), f"noted: {set(seen.noted)}"


def held_files(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel in their order."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def rewritten(wheel: Path, path: str, change: Callable[[str], str]) -> Path:
    """A copy of a wheel of which one text is another, and RECORD is right again."""
    held = held_files(wheel)
    held[path] = change(held[path].decode()).encode()
    record = next(name for name in held if name.endswith("/RECORD"))
    rows = [record_row(name, data) for name, data in held.items() if name != record]
    held[record] = ("".join(rows) + f"{record},,\n").encode()
    copy = wheel.parent / "rewritten" / wheel.name
    copy.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in held.items():
            archive.writestr(name, data)
    return copy
