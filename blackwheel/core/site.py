"""Finds the checkout, the per-user store, the environment and the console of a run."""

# ruff: noqa: PLC0415  --list must not wait for imports

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blackwheel.core import caller
from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit

if TYPE_CHECKING:
    from blackwheel.core import isolation


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Places of one run, made once at the edge; nothing below it reads os.environ."""

    checkout: Path
    store: Path
    environment: Mapping[str, str]
    console: Console

    @property
    def constraints(self) -> Path:
        """Folder of the stack files."""
        return self.checkout / "constraints"

    @property
    def patches(self) -> Path:
        """Folder of the patch series."""
        return self.checkout / "patches"

    @property
    def wheels(self) -> Path:
        """Folder of the shelves: one directory index per stack."""
        return self.checkout / "wheels"

    @property
    def uv(self) -> Path:
        """The uv in blackwheel's own environment."""
        from uv import find_uv_bin

        return Path(find_uv_bin())


def here(environment: Mapping[str, str] | None = None) -> Site:
    """Return this checkout's site; raise `relative-home` for a store that is no absolute path."""
    variables = caller.chosen(os.environ if environment is None else environment)
    store = Path(variables.get("BLACKWHEEL_HOME") or f"{_cache(variables)}/blackwheel")
    if not store.is_absolute():
        raise BlackwheelError(
            "relative-home",
            f"'{store}' is no absolute path",
            where="BLACKWHEEL_HOME or XDG_CACHE_HOME",
            fix=f"export BLACKWHEEL_HOME={store.absolute()}",
            code=Exit.USAGE,
        )
    return Site(
        checkout=Path(__file__).resolve().parents[2],
        store=store,
        environment=variables,
        console=Console(environment=variables),
    )


def adopt(environment: MutableMapping[str, str]) -> None:
    """Make the chosen environment this process's own: GitPython and requests read no other."""
    wanted = caller.chosen(environment)
    for name in set(environment) - set(wanted):
        del environment[name]
    environment.update(wanted)


def _cache(variables: Mapping[str, str]) -> str:
    """Return the folder of a person's caches; raise `no-home` for a user who has none."""
    try:
        return variables.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    except RuntimeError:
        raise BlackwheelError(
            "no-home",
            "this user has no home folder: HOME is not set, and /etc/passwd has no line of it",
            where=f"user {os.geteuid()}",
            fix="export BLACKWHEEL_HOME=/path/to/a/folder/of/yours",
            code=Exit.MACHINE,
        ) from None


def isolation_mode(site: Site) -> isolation.Isolation:
    """Return the isolation that this machine allows, or BLACKWHEEL_ISOLATION asks for."""
    from blackwheel.core import isolation

    try:
        return isolation.available_isolation(site.environment.get("BLACKWHEEL_ISOLATION", ""))
    except isolation.IsolationError as error:
        raise BlackwheelError(
            "bad-isolation",
            str(error),
            where="BLACKWHEEL_ISOLATION",
            fix=f"{isolation.NAMESPACES} or {isolation.PROCESSES}, or unset it",
            code=Exit.USAGE,
        ) from None
