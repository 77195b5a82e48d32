"""Keeps the states from which injections start, each prepared once and put back for each."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import checkout
import proved
import toy_upstream
from checkout import Checkout

from .invariants import listing

PARTS = ("constraints", "patches", "wheels", "store", "published", "home", "tmp")
"""What an injection may change; the first three lie in the checkout."""
SHARED = ("toolchains", "nox")
"""Of the store: gigabytes that are links here."""


class World:
    """One place with a checkout, a store and a published folder, in the state of a template."""

    def __init__(self, base: Path, shared: Path) -> None:
        self.base, self.shared = base, shared
        self.root = base / "blackwheel"
        self.variables: dict[str, str] = {}
        self._templates = base / "templates"
        self.makers: dict[str, Callable[[], None]] = {}
        """How each template is made, from the state `repository`."""
        shutil.rmtree(base, ignore_errors=True)
        names = checkout.git(
            checkout.REPOSITORY, "ls-files", "-z", "-c", "-o", "--exclude-standard"
        )
        for name in filter(None, names.split("\0")):
            kept = not name.startswith(("tests/", "docs/", ".ci/", "benchmarks/"))
            if kept and (checkout.REPOSITORY / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout.REPOSITORY / name, self.root / name)
        (base / "outputs").mkdir()
        for part in PARTS:
            self.part(part).mkdir(exist_ok=True)
        self.keep("repository")

    def part(self, name: str) -> Path:
        """Return the folder of a part."""
        return (self.root if name in PARTS[:3] else self.base) / name

    @property
    def store(self) -> Path:
        return self.part("store")

    @property
    def wheels(self) -> Path:
        return self.part("wheels")

    @property
    def published(self) -> Path:
        return self.part("published")

    @property
    def tmp(self) -> Path:
        return self.part("tmp")

    @property
    def shelves(self) -> list[Path]:
        """Folders with a page or a wheel."""
        return sorted(
            folder
            for top in (self.wheels, self.published)
            if top.is_dir()
            for folder in top.iterdir()
            if folder.is_dir() and not folder.is_symlink()
        )

    @property
    def environment(self) -> dict[str, str]:
        """The person's variables, with places of this world's own."""
        return {
            **checkout.persons_environment(),
            "BLACKWHEEL_HOME": str(self.store),
            "BLACKWHEEL_POOL": str(self.base),
            "BLACKWHEEL_CACHE": "off",
            "HOME": str(self.part("home")),
            "TMPDIR": str(self.tmp),
            "GIT_CONFIG_GLOBAL": str(self.base / "gitconfig"),
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(Path("~/.cache/uv").expanduser()),
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **self.variables,
        }

    def names(self) -> list[str]:
        """Return the names of all files that a command may have left."""
        return [f"{part}/{n}" for part in PARTS[2:] for n in listing(self.part(part))]

    def keep(self, name: str) -> None:
        """Make the present state a template."""
        for part in PARTS:
            same(self.part(part), self._templates / name / part)

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.base, ignore_errors=True)

    def put(self, name: str) -> None:
        """Bring back the state of a template; prepare it first where nobody did."""
        if not (self._templates / name).exists():
            self.makers |= makers(self)
            self.put("repository")
            self.makers[name]()
            self.keep(name)
        for part in PARTS:
            same(self._templates / name / part, self.part(part))

    def untouched(self, name: str) -> bool:
        """Tell whether the state is that of a template still."""
        return all(equal(self._templates / name / part, self.part(part)) for part in PARTS)

    def kept(self, name: str, part: str) -> Path:
        """Return the folder of a template's part."""
        return self._templates / name / part


def same(origin: Path, target: Path) -> None:
    """Make a folder equal to another, touching only what differs by kind, size, mode or time."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        target.unlink()
    if not target.exists():
        target.mkdir(parents=True)
    target.chmod(0o700 | stat.S_IMODE(origin.stat().st_mode))
    names = {entry.name: entry for entry in os.scandir(origin)}
    for entry in list(os.scandir(target)):
        if entry.name not in names:
            _remove(Path(entry.path))
    for name, entry in names.items():
        there = target / name
        if entry.is_dir(follow_symlinks=False):
            same(Path(entry.path), there)
            continue
        if _differs(entry, there):
            _remove(there)
            shutil.copy2(entry.path, there, follow_symlinks=False)
    target.chmod(stat.S_IMODE(origin.stat().st_mode))


def equal(origin: Path, target: Path) -> bool:
    """Tell whether a folder is what `same` would make of it."""
    names = {entry.name: entry for entry in os.scandir(origin)}
    if names.keys() != {entry.name for entry in os.scandir(target)}:
        return False
    return all(
        equal(Path(entry.path), target / name)
        if entry.is_dir(follow_symlinks=False)
        else not _differs(entry, target / name)
        for name, entry in names.items()
    )


def _differs(entry: os.DirEntry[str], there: Path) -> bool:
    try:
        found = there.lstat()
    except OSError:
        return True
    wanted = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(wanted.st_mode):
        return not stat.S_ISLNK(found.st_mode) or there.readlink() != Path(entry.path).readlink()
    one = (wanted.st_mode, wanted.st_size, wanted.st_mtime_ns, wanted.st_uid)
    return one != (found.st_mode, found.st_size, found.st_mtime_ns, found.st_uid)


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


def makers(world: World) -> dict[str, Callable[[], None]]:
    """Return how each template is made, from the state `repository`."""

    def shelf(*, older: tuple[tuple[str, int], ...] = ()) -> None:
        for part in ("constraints", "patches"):
            shutil.rmtree(world.part(part))
        proved.new_checkout(world.root)
        site = dataclasses.replace(proved.site_of(world.root), store=world.store)
        code = proved.library(world.tmp)
        built = world.base / "built"
        for name, revision in (*older, ("toy", 1), ("other", 1)):
            proved.shelve(site, proved.make_wheel(built, name, code, revision=revision))
        for file in world.tmp.iterdir():
            file.unlink()
        index_all(world)

    def sources() -> None:
        index = upstream_of(world)
        site = index.site(world.base / "toy-site")
        for part in ("constraints", "patches"):
            shutil.rmtree(world.part(part))
            shutil.copytree(site.checkout / part, world.part(part))
        shutil.copy2(world.base / "toy-site" / "gitconfig", world.base / "gitconfig")
        shutil.rmtree(world.base / "toy-site")

    def old() -> None:
        shelf(older=(("toy", 2), ("toy", 3), ("other", 2)))

    return {"shelf": shelf, "old": old, "sources": sources, "toy": lambda: _toy(world)}


def index_all(world: World) -> None:
    """Write the page over all shelves, as a run does."""
    from blackwheel.shelf import index

    index.show_all(world.wheels)


_UPSTREAMS: dict[Path, toy_upstream.World] = {}


def upstream_of(world: World) -> toy_upstream.World:
    """Serve the toy's index for as long as this process lives, and make its repositories."""
    if world.base not in _UPSTREAMS:
        serving = toy_upstream.serving()
        index = serving.__enter__()  # its thread ends with this process
        import atexit

        atexit.register(serving.__exit__, None, None, None)
        _UPSTREAMS[world.base] = toy_upstream.World(world.base / "upstreams", index)
    return _UPSTREAMS[world.base]


def _toy(world: World) -> None:
    """Add the stack of the real kernel; toolchain and environments are links to the shared ones."""
    place = Checkout(home=world.base)
    shutil.rmtree(place.upstream, ignore_errors=True)
    checkout.add_stack(place)
    for name in SHARED:
        (world.shared / name).mkdir(parents=True, exist_ok=True)
        (world.store / name).symlink_to(world.shared / name)
    place.point_git()
