"""Writes files whole or not at all, and hashes them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit

TEMPORARY: Final = ".blackwheel-"
"""How the names of half-written files begin; a shelf removes what a killed run left."""

LONGEST: Final = 255 - len(".receipt.json")
"""Bytes of a file name; Linux takes 255, and what lies beside a wheel has a longer name."""


def component(name: str, *, where: str = "", code: Exit = Exit.INDEX) -> str:
    """Return a name that others wrote if it is one component of a path; raise `unsafe-name`.

    Every name of a network, a file or an archive goes through here before it becomes a path.
    """
    named = name.isprintable() and name not in ("", ".", "..") and not set(name) & set("/\\")
    if named and len(name.encode("utf-8", "replace")) <= LONGEST:
        return name
    raise BlackwheelError(
        "unsafe-name",
        f"{name[:200]!r} is no name of one file: nothing was written",
        where=where,
        fix="ask who runs the index, or who wrote the file: such a name is a mistake or an attack",
        code=code,
    )


def rewrite_file(path: Path, data: bytes) -> None:
    """Replace a file that is there, and keep who may read and write it."""
    replace_file(path, data, mode=stat.S_IMODE(path.stat().st_mode))


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write beside `path` and rename: a reader, or a power cut, finds the old or the new bytes.

    The new file gets a name when it is whole, so that whoever is killed before leaves none behind.
    """
    handle, name = _nameless(path.parent)
    try:
        with os.fdopen(handle, "wb") as sink:
            sink.write(data)
            sink.flush()
            os.fchmod(sink.fileno(), mode)
            os.fsync(sink.fileno())
            if not name:
                name = str(path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}"))
                # Only with a folder's descriptor Python calls linkat(2), which follows that link.
                os.link(f"/proc/self/fd/{sink.fileno()}", name, src_dir_fd=sink.fileno())
        Path(name).replace(path)
    except BaseException:
        if name:
            Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _nameless(folder: Path) -> tuple[int, str]:
    """Open a new file without a name; with one where the file system, or no /proc, wants that."""
    if Path("/proc/self/fd").is_dir():
        with contextlib.suppress(OSError):
            return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600), ""
    return tempfile.mkstemp(prefix=TEMPORARY, dir=folder)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that everybody may enter, whatever the umask is."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def bounded(path: Path, most: int) -> bytes:
    """Return the bytes of a file that others may have written; raise ValueError for over `most`.

    A pipe, a device or a folder of that name is refused, too.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as source:
        seen = os.fstat(source.fileno())
        if not stat.S_ISREG(seen.st_mode):
            raise ValueError("it is no regular file")
        data = source.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data


def below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, links among them."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
