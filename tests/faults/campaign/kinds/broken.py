"""Breaks each file of shelf and store in turn, in every way in which files break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from ..case import Case
from ..worlds import same

OTHER = b'{"meta": {"api-version": "1.0"}, "name": "toy", "files": [{"url": 7}], "x": [null, NaN]}'


def _cut(path: Path, dice: Random) -> None:
    data = path.read_bytes()
    _write(path, data[: dice.randrange(len(data))] if data else b"{")


def _flip(path: Path, dice: Random) -> None:
    data = bytearray(path.read_bytes() or b"\0")
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    _write(path, bytes(data))


def _write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def _away(path: Path, make: Callable[[], object]) -> None:
    path.unlink()
    make()


WAYS: dict[str, Callable[[Path, Random], object]] = {
    "empty": lambda path, _: _write(path, b""),
    "cut": _cut,
    "other JSON": lambda path, _: _write(path, OTHER),
    "deep JSON": lambda path, _: _write(path, b"[" * 200_000),
    "a bit flipped": _flip,
    "no text": lambda path, dice: _write(path, dice.randbytes(300)),
    "removed": lambda path, _: path.unlink(),
    "a folder": lambda path, _: _away(path, path.mkdir),
    "a link to nothing": lambda path, _: _away(path, lambda: path.symlink_to("nothing")),
    "a link to itself": lambda path, _: _away(path, lambda: path.symlink_to(path.name)),
    "a link to another file": lambda path, _: _away(path, lambda: path.symlink_to("/etc/passwd")),
}


def broken(path: Path, case: Case) -> None:
    """Break one file in one way."""
    way = case.dice.choice(sorted(WAYS))
    case.note(f"{path.relative_to(case.world.base)}: {way}")
    WAYS[way](path, case.dice)


def files_of(folder: Path, *, without: tuple[str, ...] = ()) -> list[Path]:
    """Return the files below a folder, in a fixed order; no link is followed."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not any(w in str(path) for w in without)
    )


PROVED = (".whl", ".metadata", ".receipt.json", "simple/toy/index", "simple/other/index")
"""What `verify` must notice the loss of, whatever the damage."""


def shelf_files(case: Case) -> None:
    """Damage on the shelf is noticed, published by nobody, and mended by no guess."""
    world = case.begin("shelf")
    files = files_of(world.wheels, without=(".lock", "README"))
    path = files[case.number % len(files)]
    content = path.read_bytes()
    broken(path, case)
    whole = path.is_file() and not path.is_symlink() and path.read_bytes() == content
    commands = [
        ("verify", "toy"),
        ("publish", "--stack", "toy", "--to", str(world.published), "--yes"),
    ]
    commands += [
        ("status",),
        ("build-wheels", "--stack", "toy"),
        ("prune", "--stack", "toy", "--keep", "1", "--yes"),
    ]
    words = case.dice.choice([commands[0], commands[0], *commands[1:]])
    done = case.run(*words, broken=[world.wheels])
    name = str(path.relative_to(world.wheels))
    if words[0] == "verify" and not whole and done.code == 0 and any(p in name for p in PROVED):
        case.fault([f"verify finds no fault in {name}"])
    same(world.kept("shelf", "wheels"), world.wheels)
    case.settle(*words)


KINDS = {"shelf-files": shelf_files}
