"""Writes hashed lock files: exact versions with sha256, and no index address."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from packaging.utils import parse_wheel_filename

from blackwheel.core import files
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture
from blackwheel.stacks.records import LockedWheel

PLATFORM: Final = "x86_64-manylinux_2_28"
"""What a lock is resolved for, on any machine: the floor of torch's own wheels."""


class NoLockError(BlackwheelError):
    """Raised where no versions fit the requirements together."""


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


def compile_lock(
    requirements: Sequence[str],
    *,
    python: str,
    out: Path,
    source: str,
    uv: Path,
    environment: Mapping[str, str],
    upgrade: bool = False,
    wheels: Sequence[LockedWheel] = (),
    without: Sequence[str] = (),
    constraints: Sequence[str] = (),
    platform: str = PLATFORM,
) -> bool:
    """Resolve for Python `python` ("3.11") into `out`; return whether the file changed.

    Versions that `out` already holds stay unless `upgrade` or a changed requirement moves them.
    `source` is the file that the requirements come from, as the first line of the lock names it.
    `wheels` are those that no registry has: where its project is wanted, the lock names address and
    hash of each. What they require stands in the stack, so that none is fetched.
    `without` are projects that the environment gets otherwise, whoever requires them.
    `constraints` hold for what is wanted, and ask for nothing.
    Only wheels are taken: building an sdist would run requirements that no lock covers.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    before = out.read_text(encoding="utf-8") if out.exists() else ""
    # Inside of a checkout uv reads the settings of its top alone.
    place = None if wheels else out.parent
    with tempfile.TemporaryDirectory(prefix=".lock-", dir=place) as folder:
        wanted, result = Path(folder) / "requirements.in", Path(folder) / "lock.txt"
        wanted.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
        if before and not upgrade:
            shutil.copyfile(out, result)
        argv = [str(uv), "pip", "compile", "--quiet", "--generate-hashes", "--no-header"]
        argv += [
            "--no-python-downloads",
            "--no-annotate",
            "--only-binary",
            ":all:",
            "--python-version",
            python,
        ]
        argv += ["--python-platform", platform, "--output-file", result.name, wanted.name]
        if wheels:
            environment = _with_metadata(wheels, Path(folder), out, environment)
        if held := [*constraints, *(wheel.requirement for wheel in wheels)]:
            exact = Path(folder) / "constraints.txt"
            exact.write_text("".join(f"{line}\n" for line in held), encoding="utf-8")
            argv += ["--constraint", exact.name]
        if without:
            left_out = Path(folder) / "excludes.txt"
            left_out.write_text("".join(f"{name}\n" for name in without), encoding="utf-8")
            argv += ["--excludes", left_out.name]
        done = capture(argv, environment=environment, cwd=Path(folder), check=False)
        if done.code != 0:
            raise NoLockError(
                "no-lock",
                f"no versions fit {', '.join(requirements)} for Python {python}\n"
                f"{done.stderr.strip()}",
                where=source,
                fix="correct the requirements, or the package index that uv is configured for",
                code=Exit.CONFIG,
            )
        text = lock_text(result.read_text(encoding="utf-8"), source=source, before=before)
        if text != before:
            files.replace_file(out, text.encode())
    return text != before


def _with_metadata(
    wheels: Sequence[LockedWheel], folder: Path, out: Path, environment: Mapping[str, str]
) -> Mapping[str, str]:
    """Write a uv.toml that says what wheels require; return the variables by which uv reads it.

    uv merges the file of its working folder with the user's own. Settings of the checkout, or of
    the file that a variable names, go first.
    """
    named, off = environment.get("UV_CONFIG_FILE"), environment.get("UV_NO_CONFIG")
    places = [Path(named)] if named else [one / "uv.toml" for one in out.absolute().parents]
    known = next((one for one in places if one.is_file()), None)
    text = known.read_text(encoding="utf-8") + "\n" if known and not off else ""
    for wheel in wheels:
        project, version, _, _ = parse_wheel_filename(wheel.name)
        facts: dict[str, str | list[str]] = {
            "name": project,
            "version": str(version),
            "requires-dist": list(wheel.requires),
        }
        if wheel.requires_python:
            facts["requires-python"] = wheel.requires_python
        lines = (f"{name} = {json.dumps(value)}\n" for name, value in facts.items())
        text += "".join(["[[dependency-metadata]]\n", *lines])
    (folder / "uv.toml").write_text(text, encoding="utf-8")
    if not named and not off:
        return environment
    own = {name: value for name, value in environment.items() if name != "UV_NO_CONFIG"}
    return {**own, "UV_CONFIG_FILE": "uv.toml"}
