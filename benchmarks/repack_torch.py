"""Repacks a wheel of the package registry as a nightly, so that a walk has a torch that differs.

    python benchmarks/repack_torch.py torch-2.15.0-cp312-cp312-manylinux_2_28_x86_64.whl OUT \
        --version 2.16.0.dev20261007+cu132 --git 7777777777777777777777777777777777777777 \
        --triton 3.9.0+gitaad2a60d
    python benchmarks/repack_torch.py triton-3.9.0-….whl OUT --version 3.9.0+gitaad2a60d
    python tests/toys/todays_index.py FOLDER       # serves them as the nightly index does

Of torch: version.py, METADATA, RECORD, the name of its folder of metadata, and a line at the end of
some headers, which changes what a compiler reads. Of any other wheel the version alone. All other
members are copied as they lie in the archive, compressed: 540 MB cost a few seconds and no memory.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import BinaryIO

from packaging.utils import parse_wheel_filename
from packaging.version import InvalidVersion, Version

HEADERS = ("torch/include/c10/core/Device.h", "torch/include/ATen/core/TensorBody.h")
"""Read by flash_api.cpp, and by every host object of vLLM's that sees a tensor."""
_LOCAL = struct.Struct("<4s22sHH")
_CHUNK = 1 << 20
_MOST = 8 << 20
"""Bytes of a member that is rewritten: larger ones are no text of a wheel's own."""

Change = Callable[[str], str]


def repacked(
    source: Path,
    folder: Path,
    *,
    version: str,
    git: str = "",
    triton: str = "",
    headers: Sequence[str] = HEADERS,
) -> Path:
    """Write the wheel under another version into a folder; return it."""
    name, old, _, _ = parse_wheel_filename(source.name)
    shown = source.name.split("-")
    target = folder / "-".join([shown[0], str(Version(version)), *shown[2:]])
    info = f"{shown[0]}-{shown[1]}.dist-info"
    changes: dict[str, Change] = {f"{info}/METADATA": lambda text: _metadata(text, version, triton)}
    if name == "torch":
        if not re.fullmatch(r"[0-9a-f]{40}", git):
            raise SystemExit("--git: the 40 digits of a commit are wanted for torch")
        changes["torch/version.py"] = lambda text: _version_py(text, version, git)
        line = f'static_assert(true, "{version}");\n'
        changes |= {one: lambda text: f"{text.rstrip()}\n{line}" for one in headers}
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    try:
        with source.open("rb") as raw, zipfile.ZipFile(raw) as before:
            lacks = sorted({*changes, f"{info}/RECORD"} - set(before.namelist()))
            if lacks:
                raise SystemExit(f"{source.name} lacks {', '.join(lacks)}: is it {name} {old}?")
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as after:
                _copy(
                    raw, before, after, changes, (info, f"{shown[0]}-{Version(version)}.dist-info")
                )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _copy(
    raw: BinaryIO,
    before: zipfile.ZipFile,
    after: zipfile.ZipFile,
    changes: Mapping[str, Change],
    infos: tuple[str, str],
) -> None:
    """Copy member by member; RECORD comes last, with the digests of what changed."""
    digests: dict[str, tuple[str, int]] = {}
    record = f"{infos[0]}/RECORD"
    for member in before.infolist():
        new = _renamed(member.filename, infos)
        if member.filename in changes:
            data = changes[member.filename](_text(before, member)).encode()
            after.writestr(_like(member, new), data)
            digests[new] = (_digest(data), len(data))
        elif member.filename != record:
            _as_it_lies(raw, member, after, new)
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for path, digest, size in csv.reader(io.StringIO(_text(before, before.getinfo(record)))):
        new = _renamed(path, infos)
        told = digests.get(new)
        writer.writerow([new, *told] if told else [new, digest, size])
    after.writestr(_like(before.getinfo(record), _renamed(record, infos)), rows.getvalue())


def _as_it_lies(raw: BinaryIO, member: zipfile.ZipInfo, after: zipfile.ZipFile, name: str) -> None:
    """Copy the compressed bytes of a member, and tell the archive of it."""
    raw.seek(member.header_offset)
    mark, _, named, extra = _LOCAL.unpack(raw.read(_LOCAL.size))
    if mark != b"PK\3\4":
        raise SystemExit(f"{member.filename} does not lie where the archive says")
    raw.seek(named + extra, 1)
    made = _like(member, name)
    made.CRC, made.file_size, made.compress_size = (
        member.CRC,
        member.file_size,
        member.compress_size,
    )
    sink = after.fp
    if sink is None:
        raise SystemExit("the new wheel is closed already")
    sink.seek(after.start_dir)
    made.header_offset = sink.tell()
    sink.write(made.FileHeader())
    left = member.compress_size
    while left:
        data = raw.read(min(left, _CHUNK))
        if not data:
            raise SystemExit(f"{member.filename} ends before its length")
        sink.write(data)
        left -= len(data)
    after.filelist.append(made)
    after.NameToInfo[name] = made
    after.start_dir = sink.tell()


def _like(member: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    """Return the entry of a member under another name, without a record of its length behind it."""
    made = copy(member)
    made.filename = name
    made.flag_bits &= ~0x08
    made.extra = b""
    return made


def _renamed(path: str, infos: tuple[str, str]) -> str:
    old, new = infos
    return f"{new}{path.removeprefix(old)}" if path.startswith(f"{old}/") else path


def _text(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    if member.file_size > _MOST:
        raise SystemExit(f"{member.filename}: {member.file_size:,} bytes are too many for a text")
    return archive.read(member).decode("utf-8")


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"sha256={digest}"


def _once(pattern: str, new: str, text: str, what: str) -> str:
    changed, count = re.subn(pattern, lambda _: new, text, flags=re.MULTILINE)
    if count != 1:
        raise SystemExit(f"{what} stands {count} times in the wheel, and once was expected")
    return changed


def _metadata(text: str, version: str, triton: str) -> str:
    head, gap, rest = text.partition("\n\n")
    head = _once(r"^Version: .*$", f"Version: {version}", head, "Version of METADATA")
    if triton:
        line = f"Requires-Dist: triton=={triton}"
        head = _once(r"^Requires-Dist: triton\b[^;\n]*", line, head, "the requirement of triton")
    return head + gap + rest


def _version_py(text: str, version: str, git: str) -> str:
    text = _once(r"^__version__ = .*$", f"__version__ = {version!r}", text, "__version__")
    return _once(r"^git_version( *:[^=]*)? = .*$", f"git_version = {git!r}", text, "git_version")


def main() -> None:
    """Repack one wheel."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--git", default="", help="the commit of torch that it says")
    parser.add_argument("--triton", default="", help="the triton that torch is to require")
    parser.add_argument("--header", action="append", help="a header that is to differ")
    told = parser.parse_args()
    try:
        Version(told.version)
    except InvalidVersion:
        parser.error(f"--version: '{told.version}' is none")
    made = repacked(
        told.wheel,
        told.folder,
        version=told.version,
        git=told.git,
        triton=told.triton,
        headers=told.header or HEADERS,
    )
    sys.stdout.write(f"{made}\n")


if __name__ == "__main__":
    main()
