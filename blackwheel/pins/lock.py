"""Writes hashed lock files: exact versions with sha256, and no index address."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from packaging.utils import parse_wheel_filename

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture

PLATFORM: Final = "x86_64-manylinux_2_28"
"""What a lock is resolved for, on any machine: the floor of torch's own wheels."""


def lock_text(compiled: str, *, source: str, before: str = "") -> str:
    """Return a lock file from `uv pip compile` output; raise `lock-names-index` for an index.

    The first line of an earlier lock stays: the whole file is part of the keys of wheels, and a
    stack that was renamed keeps its keys.
    """
    lines = compiled.splitlines()
    for line in lines:
        if line.startswith(("--index-url", "--extra-index-url", "--find-links", "-i ", "-f ")):
            raise BlackwheelError(
                "lock-names-index",
                f"the lock would name a package index: {line.split()[0]}",
                where=source,
                fix="remove emit-index-url and emit-find-links from your uv configuration",
                code=Exit.CONFIG,
            )
    head = f"# Regenerate: nox -s lock (from {source}). Do not edit."
    old = before.partition("\n")[0]
    return "\n".join([old if old.startswith("# Regenerate: ") else head, *lines]) + "\n"


def versions_in(wheels: Path) -> list[str]:
    """Return `name==version` of every wheel in a folder."""
    parsed = (parse_wheel_filename(path.name) for path in sorted(wheels.glob("*.whl")))
    return [f"{name}=={version}" for name, version, _, _ in parsed]


def pins_in(lock: str) -> tuple[str, ...]:
    """Return `name==version` of every pin of a lock file's text."""
    return tuple(re.findall(r"^([\w.-]+(?:\[[^\]]*\])?==[^\s;\\]+)", lock, re.MULTILINE))


def compile_lock(
    requirements: Sequence[str],
    *,
    python: str,
    out: Path,
    source: str,
    uv: Path,
    environment: Mapping[str, str],
    upgrade: bool = False,
    wheels: Path | None = None,
    without: Sequence[str] = (),
    constraints: Sequence[str] = (),
    platform: str = PLATFORM,
) -> bool:
    """Resolve for Python `python` ("3.11") into `out`; return whether the file changed.

    Versions that `out` already holds stay unless `upgrade` or a changed requirement moves them.
    `source` is the file that the requirements come from, as the first line of the lock names it.
    `wheels` is a folder with wheels that no registry has: each is taken where its project is
    wanted, and the lock names it by version and hash as it names the others.
    `without` are projects that the environment gets otherwise, whoever requires them.
    `constraints` hold for what is wanted, and ask for nothing.
    Only wheels are taken: building an sdist would run requirements that no lock covers.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    before = out.read_text(encoding="utf-8") if out.exists() else ""
    with tempfile.TemporaryDirectory(prefix=".lock-", dir=out.parent) as folder:
        wanted, result = Path(folder) / "requirements.in", Path(folder) / "lock.txt"
        wanted.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
        if before and not upgrade:
            shutil.copyfile(out, result)
        argv = [str(uv), "pip", "compile", "--quiet", "--generate-hashes", "--no-header"]
        argv += ["--no-annotate", "--only-binary", ":all:", "--python-version", python]
        argv += ["--python-platform", platform, "--output-file", result.name, wanted.name]
        if held := [*constraints, *(versions_in(wheels) if wheels else ())]:
            exact = Path(folder) / "constraints.txt"
            exact.write_text("".join(f"{line}\n" for line in held), encoding="utf-8")
            argv += ["--constraint", exact.name]
        if wheels:
            argv += ["--find-links", str(wheels)]
            # Else uv keeps the digest that the lock already has for a version.
            for line in versions_in(wheels):
                argv += ["--upgrade-package", line.partition("==")[0]]
        if without:
            left_out = Path(folder) / "excludes.txt"
            left_out.write_text("".join(f"{name}\n" for name in without), encoding="utf-8")
            argv += ["--excludes", left_out.name]
        done = capture(argv, environment=environment, cwd=Path(folder), check=False)
        if done.code != 0:
            raise BlackwheelError(
                "no-lock",
                f"no versions fit {', '.join(requirements)} for Python {python}\n"
                f"{done.stderr.strip()}",
                where=source,
                fix="correct the requirements, or the package index that uv is configured for",
                code=Exit.CONFIG,
            )
        text = lock_text(result.read_text(encoding="utf-8"), source=source, before=before)
        result.write_text(text, encoding="utf-8")
        if text != before:
            result.replace(out)
    return text != before
