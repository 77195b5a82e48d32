"""Puts sccache before those steps of nvcc that are pure functions of their input.

nvcc stays the driver, so that names and bytes are those of a build without a cache: only cudafe++,
cicc, ptxas and `g++ -c` go through sccache (docs/decisions/0021-compile-cache-wraps-nvcc-steps.md).
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from blackwheel.builder.inside import cache_step, python_neutral
from blackwheel.core import records
from blackwheel.core.errors import BlackwheelError, Exit

SETTING: Final = "BLACKWHEEL_CACHE"
PASSED: Final = ("SCCACHE_", "AWS_", "ACTIONS_", "ALIBABA_", "TENCENTCLOUD_")
"""The settings of sccache's own stores; its server alone sees them."""
OURS: Final = ("SCCACHE_SERVER_UDS", "SCCACHE_START_SERVER", "SCCACHE_NO_DAEMON", "SCCACHE_DIRECT")
_SOCKET_BYTES: Final = 100
_WORDS: Final = {"CUDA (Device code)": "cudafe++"}
"""What sccache calls the step that splits device code off; that of device code it calls PTX."""
_NUMBERED: Final = """\
[ -n "$BLACKWHEEL_OWN_NUMBERS" ] || exec {seen} "$@"
export BLACKWHEEL_NUMBER=$$
export SCCACHE_C_CUSTOM_CACHE_BUSTER="$$ $BLACKWHEEL_SOURCE_TIME $PWD $*"
{call}"""
"""cudafe++ writes down its process number, the source's time, its folder and names that sccache
does not hash: all of them are part of what it is asked for. The launcher says where the number is
the same each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Settings of one sccache for one build."""

    program: Path
    folder: Path
    """Its local store."""
    settings: Mapping[str, str]
    """What the user set of sccache's own."""

    @property
    def distributed(self) -> bool:
        """True if other machines compile: they need the real programs, not our wrappers."""
        file = Path(self.settings.get("SCCACHE_CONF") or "/nonexistent")
        return file.is_file() and "[dist" in file.read_text(encoding="utf-8")

    @property
    def keep(self) -> tuple[Path, ...]:
        """Files outside of the build's folders that the cache server reads."""
        return tuple(Path(self.settings[n]) for n in ("SCCACHE_CONF",) if self.settings.get(n))


def found(environment: Mapping[str, str], store: Path) -> Cache | None:
    """Return the cache if sccache is installed and not switched off; raise `bad-cache`."""
    wanted = environment.get(SETTING, "")
    if wanted not in ("", "off", "sccache"):
        raise BlackwheelError(
            "bad-cache",
            f"{SETTING}={wanted} is neither off nor sccache"
            + ("; ccache returns stale objects of CUDA sources" if wanted == "ccache" else ""),
            where=SETTING,
            fix="unset it: sccache is used where it is installed",
            code=Exit.USAGE,
        )
    path = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
    program = shutil.which("sccache", path=path) if wanted != "off" else None
    if not program:
        if wanted == "sccache":
            raise BlackwheelError(
                "no-cache",
                "there is no sccache on PATH",
                where=SETTING,
                fix="python3 -m pip install -e '.[cache]'",
                code=Exit.MACHINE,
            )
        return None
    settings = {
        name: value
        for name, value in environment.items()
        if name.startswith(PASSED) and name not in OURS
    }
    folder = Path(settings.get("SCCACHE_DIR") or store / "sccache")
    return Cache(program=Path(program), folder=folder, settings=settings)


def lay_out(cache: Cache, folder: Path, *, inside: Path, cuda: Path, real: Path, cxx: Path) -> None:
    """Write the programs that a build calls in place of nvcc and g++.

    `folder` is seen as `inside` by the build, `real` is the toolkit that it sees as `cuda`. Raises
    `unknown-toolkit` for an nvcc.profile that says things in another way.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "measured").mkdir(parents=True)
    shutil.copy2(cache.program, folder / "sccache")
    for module in (cache_step, python_neutral):
        shutil.copy2(str(module.__file__), folder)
    (folder / "nvcc").symlink_to(cuda / "bin" / "nvcc")
    text = (real / "bin" / "nvcc.profile").read_text(encoding="utf-8")
    (folder / "nvcc.profile").write_text(_profile(text, inside, cuda), encoding="utf-8")
    steps = [
        (real / "nvvm" / "bin" / "cicc", cuda / "nvvm" / "bin" / "cicc"),
        (real / "bin" / "ptxas", cuda / "bin" / "ptxas"),
        (cxx, cxx),
    ]
    if not cache.distributed:  # no other machine gives cudafe++ the process number that it has here
        steps.append((real / "bin" / "cudafe++", cuda / "bin" / "cudafe++"))
    for program, seen in steps:
        name = seen.name
        asked = inside / "measured" / name
        if cache.distributed:
            asked = seen
        else:  # sccache hashes the program that it starts: this one has to change with the real one
            digest = hashlib.sha256(program.read_bytes()).hexdigest()
            script = f'exec "$BLACKWHEEL_PYTHON" -I -S {inside}/cache_step.py {seen} "$@"'
            _script(folder / "measured" / name, f"# {digest}\n{script}")
        call = f'exec {inside}/sccache {asked} "$@"'
        if name == "cicc":
            through = f'exec "$BLACKWHEEL_PYTHON" -I -S {inside}/python_neutral.py'
            call = f'{through} {inside}/sccache {asked} "$@"'
        if name == "cudafe++":
            call = _NUMBERED.format(call=call, seen=seen)
        if name not in ("cicc", "ptxas", "cudafe++"):
            call = f'case " $* " in *" -c "*) {call};; esac\nexec {seen} "$@"'
        _script(folder / name, call)


def _profile(text: str, inside: Path, cuda: Path) -> str:
    """Point nvcc to our cicc and ptxas, and to everything else where it always is."""
    changed = text.replace("$(_HERE_)", f"{cuda}/bin")
    changed, cicc = re.subn(r"(?m)^CICC_PATH\s*=.*$", f"CICC_PATH = {inside}", changed)
    changed, path = re.subn(r"(?m)^(PATH\s*\+=\s*)", rf"\g<1>{inside}:", changed)
    if (cicc, path) != (1, 1):
        raise BlackwheelError(
            "unknown-toolkit",
            "nvcc.profile names cicc and PATH in a way that is not known",
            where=f"{cuda}/bin/nvcc.profile",
            fix=f"build without a cache: export {SETTING}=off",
            code=Exit.MACHINE,
        )
    return changed


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def server_variables(cache: Cache, inside: Path) -> dict[str, str]:
    """Return the settings of the cache server, which the build does not get."""
    return {
        **cache.settings,
        "SCCACHE_DIR": str(inside.parent.parent / "cache"),
        "SCCACHE_BASEDIRS": "",  # else a hit may hold the paths of another folder
        "SCCACHE_START_SERVER": "1",
        "SCCACHE_NO_DAEMON": "1",
    }


def client_variables(inside: Path) -> dict[str, str]:
    """Return the cache settings that the build gets."""
    return {
        "SCCACHE_SERVER_UDS": str(socket(inside)),
        "SCCACHE_IDLE_TIMEOUT": "0",  # an object takes longer than its ten minutes
        "SCCACHE_DIRECT": "false",  # its header manifest trusts modification times
        "SCCACHE_IGNORE_SERVER_IO_ERROR": "1",
    }


def socket(inside: Path) -> Path:
    """Return the server's socket; raise `long-path` where no socket can have that name."""
    path = inside / "socket"
    if len(str(path)) > _SOCKET_BYTES:
        raise BlackwheelError(
            "long-path",
            f"no socket can have a name of {len(str(path))} bytes",
            where=str(path),
            fix=f"a shorter BLACKWHEEL_HOME, or {SETTING}=off",
            code=Exit.MACHINE,
        )
    return path


def closing(argv: tuple[str, ...], inside: Path) -> tuple[str, ...]:
    """Return a command that runs `argv`, then stops the server and keeps its figures."""
    ask = f"{inside}/sccache --show-stats --stats-format json >{inside}/stats.json 2>/dev/null"
    stop = f"{inside}/sccache --stop-server >/dev/null 2>&1"  # it ends its writing first
    return ("/bin/sh", "-c", f'"$@"; code=$?; {ask}; {stop}; exit $code', "sh", *argv)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Calls by language."""

    counts: dict[records.Name, records.Count]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Part of the figures of sccache that is shown."""

    cache_hits: Counts
    cache_misses: Counts
    cache_errors: Counts
    not_cached: dict[records.Name, records.Count] = field(default_factory=dict)
    dist_compiles: dict[str, records.Count] = field(default_factory=dict)
    dist_errors: records.Count = 0
    cache_write_errors: records.Count = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """Content of `stats.json`, as `sccache --show-stats --stats-format json` writes it."""

    stats: Stats


def figures(folder: Path) -> dict[str, Any]:
    """Return hits and misses by language, and reasons for calls that were not cached."""
    told = records.kept(folder / "stats.json", Told)
    if told is None:
        return {}
    stats = told.stats
    pairs = (
        ("hits", stats.cache_hits),
        ("misses", stats.cache_misses),
        ("errors", stats.cache_errors),
    )
    return {
        **{
            name: {_WORDS.get(word, word): n for word, n in one.counts.items()}
            for name, one in pairs
        },
        "not_cached": stats.not_cached,
        "distributed": sum(stats.dist_compiles.values()),
        "distributed_errors": stats.dist_errors,
        "write_errors": stats.cache_write_errors,
    }


def told(seen: Mapping[str, Any]) -> str:
    """Return one line about the cache: `cache: 5 hits, 1 miss (1 PTX)`."""
    hits, misses = sum(seen["hits"].values()), sum(seen["misses"].values())
    text = f"cache: {hits} hit{'s' * (hits != 1)}, {misses} miss{'es' * (misses != 1)}"
    if misses:
        text += f" ({', '.join(f'{n} {word}' for word, n in sorted(seen['misses'].items()))})"
    reasons = [f"{word}: {n}" for word, n in sorted(seen["not_cached"].items())]
    reasons += [f"errors: {sum(seen['errors'].values())}"] if seen["errors"] else []
    reasons += [f"not written: {seen['write_errors']}"] if seen["write_errors"] else []
    reasons += [f"compiled elsewhere: {seen['distributed']}"] if seen["distributed"] else []
    return "; ".join([text, *reasons])
