"""Copies an environment and spoils its vllm: spoil.py arch|torch ENVIRONMENT COPY.

`arch`: the kernels of its libraries say that they are for 12.0. `torch`: it says that it was built
for another torch. Both only in the copy.
"""

# ruff: noqa: T201  a script for the terminal

import re
import shutil
import struct
import sys
from pathlib import Path

from thin import Bytes

from blackwheel.audit import fatbin

ARCH_AT = 28
"""Place of the compute capability in an entry's header."""


def arch(library: Path) -> int:
    """Let each cubin of a library be for 12.0; return how many."""
    data = bytearray(library.read_bytes())
    blob, position, changed = Bytes(data), 0, 0
    while (position := data.find(fatbin.MAGIC, position)) >= 0:
        found = fatbin.fat_binary(blob, position)
        if isinstance(found, str):
            position += len(fatbin.MAGIC)
            continue
        for one in found.entries:
            struct.pack_into("<I", data, one.offset + ARCH_AT, 120)
            changed += 1
        position = found.end
    if changed:
        library.write_bytes(data)
    return changed


if __name__ == "__main__":
    what, old, new = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(old, new, symlinks=True)
    for script in (new / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            text = script.read_bytes()
            if text.startswith(b"#!"):
                script.write_bytes(text.replace(str(old).encode(), str(new).encode()))
    vllm = next(new.glob("lib/python3*/site-packages/vllm"))
    if what == "arch":
        print(sum(arch(one) for one in vllm.rglob("*.so")), "cubins say 12.0 now")
    else:
        told = vllm / "_built_for.py"
        told.write_text(re.sub(r"2\.11\.0", "2.10.0", told.read_text("utf-8")), "utf-8")
        print(told.read_text("utf-8"))
