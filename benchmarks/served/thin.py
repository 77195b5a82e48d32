"""Blanks the device code in a wheel that a 9.0 card never loads, so that the wheel packs to a part
of its size: thin.py WHEEL OUT [PTX-OF], with blackwheel's environment active and cuobjdump on PATH.

Every file keeps its size and every fat binary its headers. Of each fat binary, native code of 9.0
is kept; where there is none, its PTX of 9.0 or older. PTX-OF is a pattern: PTX of source files that
do not match it is blanked too, and a kernel of theirs cannot run.
"""

# ruff: noqa: T201  a script for the terminal

import base64
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from blackwheel.audit import fatbin

MAJOR = 9
NAMED = re.compile(rb"_INTERNAL_[0-9a-f]+_\d+_(\w+?)_[0-9a-f]{8}_\d")
LEFT_OUT = re.compile(r"/include/|/vllm-rs$|_C\.cpython-3(10|11|13|14)-")
"""Headers for compiling at run time, another front end, other Pythons: not asked for here."""


class Bytes:
    """A file's bytes, as the reader of fat binaries asks for them."""

    def __init__(self, data: bytearray) -> None:
        self.data, self.size = data, len(data)

    def at(self, offset: int, size: int) -> bytes:
        """Return bytes of the file."""
        return bytes(self.data[offset : offset + size])


def sources(library: bytes, kept: str) -> list[str]:
    """Name the source file of each PTX, in the library's order."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "lib.so").write_bytes(library)
        subprocess.run(
            ["cuobjdump", "-xptx", "all", "lib.so"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        files = sorted(Path(folder).glob("*.ptx"), key=lambda one: int(one.name.split(".")[1]))
        names = [NAMED.search(one.read_bytes()) for one in files]
    found = [name[1].decode() if name else "" for name in names]
    print(f"  PTX of {len(found)} sources, {sum(bool(re.search(kept, one)) for one in found)} kept")
    return found


def thinned(data: bytearray, kept: str) -> bytearray:
    """Blank what that card does not load."""
    blob, position, blank, ptx = Bytes(data), 0, 0, 0
    named: list[str] | None = None
    original = bytes(data)
    while (position := data.find(fatbin.MAGIC, position)) >= 0:
        found = fatbin.fat_binary(blob, position)
        if isinstance(found, str):
            position += len(fatbin.MAGIC)
            continue
        native = [one for one in found.entries if one.kind == "elf" and one.arch.major == MAJOR]
        for one in found.entries:
            wanted = one in native
            if one.kind == "ptx":
                if not native and one.arch.major <= MAJOR:
                    wanted = True
                    if kept:
                        named = named or sources(original, kept)
                        wanted = bool(re.search(kept, named[ptx]))
                ptx += 1
            if not wanted:
                data[one.offset + one.header : one.end] = bytes(one.size)
                blank += one.size
        position = found.end
    print(f"  {blank} bytes blanked of {len(data)}")
    return data


def main(wheel: Path, out: Path, kept: str) -> None:
    """Write the thin wheel, nothing in it compressed."""
    record = []
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            if LEFT_OUT.search(info.filename) or info.filename.endswith("/RECORD"):
                continue
            data = bytearray(old.read(info))
            if info.filename.endswith(".so"):
                print(info.filename)
                data = thinned(data, kept if "_fa2_" in info.filename else "")
            new.writestr(info, data, zipfile.ZIP_STORED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f'"{info.filename}",sha256={digest},{len(data)}')
        folder = next(n for n in old.namelist() if n.endswith(".dist-info/METADATA")).split("/")[0]
        new.writestr(f"{folder}/RECORD", "\n".join([*record, f"{folder}/RECORD,,"]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
