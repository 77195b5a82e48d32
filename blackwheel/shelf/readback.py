"""Reads back a published index: compares bytes, then installs into a fresh environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from blackwheel.core import process
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.redact import masked
from blackwheel.core.scratch import scratch
from blackwheel.core.site import Site
from blackwheel.pytorch import archive
from blackwheel.shelf import index as shelves
from blackwheel.shelf import remote_index, verify_pages
from blackwheel.shelf.gate import Proved
from blackwheel.shelf.remote_index import Index, Limits, Offers
from blackwheel.stacks import pythons
from blackwheel.stacks.locks import lock_text, pins
from blackwheel.stacks.request import Request

IMPORT_SECONDS: Final = 300


def read_folder(shelf: Path, proved: Sequence[Proved]) -> None:
    """Recompute everything on a published folder's pages; raise `not-what-was-sent`."""
    faults = [
        f"{check.what}: {check.found or 'nothing'}, expected {check.expected or 'nothing'}"
        for check in verify_pages.page_checks(shelf)
        if check.ok is False
    ]
    listed = {wheel.path.name: wheel for wheel in shelves.shelved(shelf)}
    for one in proved:
        found = listed.get(one.wheel.path.name)
        if found is None or verify_pages.sha256(found.path) != one.wheel.sha256:
            faults.append(f"{one.wheel.path.name}: not there with the bytes that were sent")
            continue
        checks = verify_pages.metadata_checks(found.path)
        faults += [f"{found.path.name}.metadata: {check.found}" for check in checks if not check.ok]
    if faults:
        raise BlackwheelError(
            "not-what-was-sent",
            "\n".join(["the folder does not hold what was written to it", *faults]),
            where=str(shelf),
            fix="not published. Ask who else writes there, then the same command again",
            code=Exit.READBACK,
        )


def read_index(one: Proved, index: Index, limits: Limits) -> Offers:
    """Download a wheel from the index and compare it; return the index's offers.

    Raises `not-what-was-sent` and `index-away`.
    """
    name = one.wheel.path.name
    page = remote_index.listing(index, one.wheel.project, limits)
    package = next((p for p in (page.packages if page else []) if p.filename == name), None)
    if package is None:
        count = len(page.packages) if page else 0
        raise remote_index.differs(
            f"its page lists {count} files, and {name} is none of them", index
        )
    told = package.digests.get("sha256", one.wheel.sha256)
    found, count = remote_index.sha256(index, package)
    for what, digest in (("the page says", told), ("the file has", found)):
        if digest != one.wheel.sha256:
            lines = [name, f"sent:  sha256 {one.wheel.sha256}, {one.wheel.size} bytes"]
            lines.append(f"there: sha256 {digest}, {count} bytes ({what} so)")
            raise remote_index.differs("\n".join(lines), index)
    if package.has_metadata:
        beside = remote_index.metadata(index, package)
        if beside != one.wheel.metadata.read_bytes():
            raise remote_index.differs(f"{name}.metadata is not the METADATA of the wheel", index)
    return remote_index.offers(index, package, one.wheel.project)


def install(
    proved: Sequence[Proved], *, simple: str, site: Site, login: tuple[str, str] | None = None
) -> tuple[str, ...]:
    """Install each Python's wheels from the index by hash, and import them; return the results.

    One environment a Python and arch list, which holds the hashed pins of the run locks besides.
    """
    seen = []
    groups: dict[tuple[str, tuple[str, ...]], list[Proved]] = {}
    for one in proved:
        groups.setdefault((one.request.python, one.request.archs), []).append(one)
    site.store.mkdir(parents=True, exist_ok=True)
    for (python, _), members in sorted(groups.items()):
        wanted = pythons.Python(version=python, where=python)
        try:
            program = pythons.located(wanted, uv=site.uv, environment=site.environment)
        except pythons.PythonMissingError:
            seen.append(f"Python {python}: not installed anew, there is no such Python here")
            continue
        with (
            scratch(site.store, "readback-") as folder,
            site.console.stage(members[0].wheel.project, f"install anew, Python {python}"),
        ):
            _install_one(folder, program, members, simple=simple, site=site, login=login)
            modules = [module for one in members for module in one.request.pin.modules]
            for module in modules:
                _import(module, folder, simple)
        seen.append(f"Python {python}: installed by hash, imports {', '.join(modules)}")
    return tuple(seen)


def _install_one(
    folder: Path,
    program: Path,
    members: Sequence[Proved],
    *,
    simple: str,
    site: Site,
    login: tuple[str, str] | None,
) -> None:
    # uv's folder for a cache that it shall not have: one that is killed leaves it.
    environment = {**site.environment, "NO_COLOR": "1", "UV_NO_CONFIG": "1", "TMPDIR": str(folder)}
    python = str(folder / "env" / "bin" / "python")
    pip = [str(site.uv), "pip"]
    wanted = folder / "wheels.txt"
    wanted.write_text(
        "".join(
            f"{one.wheel.project}=={one.wheel.version} --hash=sha256:{one.wheel.sha256}\n"
            for one in members
        ),
        encoding="utf-8",
    )
    locks = sorted({_pins(site, one.request) for one in members})
    any_pins = any(pins(lock_text(lock)) for lock in locks)
    sync = [*pip, "sync", "--quiet", "--require-hashes", "--python", python]
    # What this run's own cache holds proves nothing about the index.
    from_index = [*pip, "install", "--quiet", "--no-deps", "--require-hashes", "--no-cache"]
    from_index += ["--python", python, "--default-index", f"blackwheel={simple}"]
    own = dict(environment)
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_DEFAULT_INDEX"):
        own.pop(name, None)
    if login:
        own["UV_INDEX_BLACKWHEEL_USERNAME"], own["UV_INDEX_BLACKWHEEL_PASSWORD"] = login
    steps = [
        ([str(site.uv), "venv", "--quiet", "--python", str(program), str(folder / "env")], own),
        *([([*sync, *map(str, locks)], environment)] if any_pins else []),
        ([*from_index, "--requirement", str(wanted)], own),
    ]
    for argv, variables in steps:
        done = process.capture(argv, environment=variables, cwd=folder, check=False)
        if done.code != 0:
            secrets = remote_index.login_forms(login) if login else ()
            raise _failed(masked(done.tail, secrets), simple)


def _pins(site: Site, asked: Request) -> Path:
    kept = archive.archive(site.store, site.environment, site.console)
    lock = asked.lock("run", site.constraints)
    return archive.installable(asked.stack, asked.tag, lock, kept)


def _import(module: str, folder: Path, simple: str) -> None:
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    # An extension finds torch's libraries only after torch; the toys of the tests need none.
    code = (
        f"import importlib.util as u; u.find_spec('torch') and __import__('torch'); import {module}"
    )
    argv = [str(folder / "env" / "bin" / "python"), "-I", "-c", code]
    done = process.capture_within(IMPORT_SECONDS, argv, environment=variables, cwd=folder)
    if done.code != 0:
        raise _failed(f"import {module}\n{done.end}", simple)


def _failed(words: str, simple: str) -> BlackwheelError:
    return BlackwheelError(
        "does-not-install",
        f"the bytes are there, and a fresh environment does not take them from the index\n{words}",
        where=simple,
        fix="not published. uv must reach the index and, for torch, your package registry;\n"
        "then the same command again",
        code=Exit.READBACK,
    )
