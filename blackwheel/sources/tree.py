"""Selects the files of a source, writes them, and computes their git tree id."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit

LINK: Final = 0o120000
FILE: Final = 0o100644
PROGRAM: Final = 0o100755
FOLDER: Final = 0o40000
GITLINK: Final = 0o160000
_FEW: Final = 5

Row = tuple[int, str]
"""Mode as git writes it, and object id."""
Rows = dict[str, Row]
"""The files of a tree, by path."""
ABSENT: Final[Row] = (0, "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file or symlink of a source."""

    path: str
    """Relative, with slashes."""
    mode: int
    """As git writes it: FILE, PROGRAM or LINK."""
    data: bytes
    """Content, or the target of a symlink."""


def is_selected(
    path: str, sparse: Sequence[str], nested: Mapping[str, Sequence[str]] | None = None
) -> bool:
    """Tell whether a pin selects this file: at the top or in its folders; all without folders.

    `nested` maps the folder of each nested source to its own selection, which holds below it.
    """
    for folder, inner in (nested or {}).items():
        if path.startswith(f"{folder}/"):
            return is_selected(path.removeprefix(f"{folder}/"), inner)
    return (
        not sparse
        or "/" not in path
        or any(path.startswith(f"{folder.rstrip('/')}/") for folder in sparse)
    )


def write_entries(entries: Iterable[Entry], root: Path, *, where: str) -> None:
    """Write entries into the new folder `root`; raise `unsafe-path` for one that leaves it.

    Symlinks are written last, so that no file can be written through one. Modes are 644 and 755
    whatever the umask: they end up in wheels.
    """
    links = []
    root.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        parts = PurePosixPath(entry.path).parts
        if not parts or parts[0] == "/" or {"..", ".git"} & {part.lower() for part in parts}:
            raise _unsafe_path(entry, where)
        if entry.mode == LINK:
            links.append(entry)
            continue
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.data)
        path.chmod(0o755 if entry.mode == PROGRAM else 0o644)
    for entry in links:
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.fsdecode(entry.data))
        if not _points_inside(path, root):
            path.unlink()
            raise _unsafe_path(entry, where)


def _points_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links: RuntimeError before Python 3.13
        return False


def _unsafe_path(entry: Entry, where: str) -> BlackwheelError:
    shown = f" -> {os.fsdecode(entry.data)}" if entry.mode == LINK else ""
    return BlackwheelError(
        "unsafe-path",
        f"'{entry.path}{shown}' leaves the source tree",
        where=where,
        fix="select other folders with 'sparse', or pin a source without it",
        code=Exit.SOURCE,
    )


def tree_id(root: Path) -> str:
    """Return the id that git would give the tree of this folder.

    Empty folders do not count, as in git; of a file's mode only the owner's x bit does.
    """
    return listed_tree_id(rows(root))


def rows(root: Path) -> Rows:
    """Hash every file and symlink below a folder."""
    found: Rows = {}
    with os.scandir(root) as scan:
        children = list(scan)
    for child in children:
        if child.is_dir(follow_symlinks=False):
            inner = rows(Path(child.path))
            found |= {f"{child.name}/{path}": one for path, one in inner.items()}
        else:
            found[child.name] = row(Path(child.path))
    return found


def row(path: Path) -> Row:
    """Hash one file or symlink; anything else, or a missing one, has mode 0 and no id."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return LINK, object_id("blob", os.fsencode(path.readlink())).hex()
        if stat.S_ISREG(mode):
            kind = PROGRAM if mode & stat.S_IXUSR else FILE
            return kind, object_id("blob", path.read_bytes()).hex()
    except (FileNotFoundError, NotADirectoryError):
        pass
    return ABSENT


def differing(found: Rows, wanted: Rows) -> list[str]:
    """Return the paths of files that are others than they should be, missing, or too many."""
    return sorted(
        path for path in {*found, *wanted} if found.get(path, ABSENT) != wanted.get(path, ABSENT)
    )


def few(paths: Sequence[str]) -> str:
    """Return the first of these paths for a message, and how many more there are."""
    more = f" and {len(paths) - _FEW} more" if len(paths) > _FEW else ""
    return ", ".join(paths[:_FEW]) + more


def listed_tree_id(files: Rows) -> str:
    """Return the id of the tree that holds these files."""
    folders: dict[str, Rows] = {"": {}}
    for path, one in files.items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = one
        while folder:  # every folder above, also one that holds folders alone
            folder = folder.rpartition("/")[0]
            folders.setdefault(folder, {})
    for folder in sorted(filter(None, folders), key=lambda each: -each.count("/")):
        above, _, name = folder.rpartition("/")
        folders[above][name] = (FOLDER, _folder_id(folders[folder]))
    return _folder_id(folders[""])


def _folder_id(children: Rows) -> str:
    found = []
    for text, (mode, oid) in children.items():
        name = os.fsencode(text)
        # git sorts a folder as if its name ended with a slash
        key = name + b"/" if mode == FOLDER else name
        found.append((key, f"{mode:o} ".encode() + name + b"\0" + bytes.fromhex(oid)))
    return object_id("tree", b"".join(line for _, line in sorted(found))).hex()


def object_id(kind: str, data: bytes) -> bytes:
    """Return the 20 bytes of a git object id."""
    head = f"{kind} {len(data)}\0".encode()
    return hashlib.sha1(head + data, usedforsecurity=False).digest()
