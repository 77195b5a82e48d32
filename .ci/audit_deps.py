"""Asks for known vulnerabilities of every pin of the tool's locks: `nox -s audit-deps`.

pip-audit asks the advisories of the registry; with `--kept` a copy of them is read instead: a
folder or a zip of OSV records, as osv.dev offers it for the ecosystem PyPI. A pin of which
nobody could say anything is an error, not a pass. Standard library and `packaging`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
ACCEPTED = ROOT / ".ci" / "audit-accepted.toml"
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)
VULNERABLE, CONFIG, AWAY = 1, 3, 13


class RefusedError(Exception):
    """An end with a name, a fact, a place and a cure."""

    def __init__(self, name: str, fact: str, *, where: str, fix: str, code: int) -> None:
        super().__init__(f"error: {name}\n  {fact}\n  where: {where}\n  fix:   {fix}")
        self.code = code


@dataclass(frozen=True, order=True)
class Found:
    """An advisory about a pin."""

    lock: str
    name: str
    version: str
    advisory: str
    fixed: str

    def __str__(self) -> str:
        fixed = f"fixed in {self.fixed}" if self.fixed else "not fixed yet"
        return f"{self.name}=={self.version}  {self.advisory}, {fixed}  {self.lock}"


def pins(lock: Path) -> dict[str, str]:
    """Return version by name, whatever the markers say; a lock without a pin is none."""
    found = {canonicalize_name(n): v for n, v in PIN.findall(lock.read_text(encoding="utf-8"))}
    if not found:
        raise RefusedError(
            "bad-lock", "it pins nothing", where=str(lock), fix="nox -s lock", code=CONFIG
        )
    return found


def _everywhere(lock: Path) -> set[str]:
    """Return the names of the pins that no marker leaves out."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return {
        canonicalize_name(found[1]) for one in lines if (found := PIN.match(one)) and ";" not in one
    }


def asked(lock: Path) -> Iterator[Found]:
    """Let pip-audit ask the registry; raise where it could not ask about a pin."""
    program = str(Path(sys.executable).with_name("pip-audit"))
    words = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    argv = [program, *words, "--requirement", str(lock)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout)["dependencies"]
        silent = [f"{one['name']}: {one['skip_reason']}" for one in told if "skip_reason" in one]
    except (ValueError, KeyError, TypeError):
        told, silent = [], (done.stderr.strip().splitlines() or ["it says nothing"])[-1:]
    names = {canonicalize_name(one["name"]) for one in told}
    silent += [f"{name}: it is not in the answer" for name in _everywhere(lock) - names]
    if silent:
        more = f", and {len(silent) - 1} more" if len(silent) > 1 else ""
        raise RefusedError(
            "advisories-away",
            f"nobody said whether these pins are vulnerable: {silent[0]}{more}",
            where=str(lock),
            fix="try again where the registry's advisories are reached; or copy them, and\n"
            "         nox -s audit-deps -- --kept all.zip  (of osv.dev, ecosystem PyPI)",
            code=AWAY,
        )
    for one in told:
        for each in one["vulns"]:
            fixed = ", ".join(each.get("fix_versions") or [])
            yield Found(lock.name, one["name"], one["version"], each["id"], fixed)


def kept(place: Path) -> dict[str, list[dict[str, Any]]]:
    """Read a copy of the advisories; return those of each project."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        for text in _texts(place):
            advisory = json.loads(text)
            if advisory.get("withdrawn"):
                continue
            for one in advisory.get("affected", []):
                package = one.get("package", {})
                if package.get("ecosystem") == "PyPI":
                    row = {**one, "id": advisory["id"]}
                    found.setdefault(canonicalize_name(package["name"]), []).append(row)
    except (
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        RecursionError,
        zipfile.BadZipFile,
    ) as error:
        raise _no_copy(place, f"{type(error).__name__}: {error}") from None
    if not found:
        raise _no_copy(place, "it holds no advisory about a project of PyPI")
    return found


def _texts(place: Path) -> Iterator[bytes]:
    if place.is_dir():
        yield from (path.read_bytes() for path in sorted(place.rglob("*.json")))
        return
    with zipfile.ZipFile(place) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield archive.read(name)


def _no_copy(place: Path, why: str) -> RefusedError:
    return RefusedError(
        "bad-advisories",
        why[:300],
        where=str(place),
        fix="copy all.zip of the ecosystem PyPI from osv.dev again",
        code=CONFIG,
    )


def affected(one: dict[str, Any], version: str) -> tuple[bool, str]:
    """Tell whether a version is affected, and by which one it is fixed.

    A version or a range that cannot be compared counts as affected: a person looks at it.
    """
    if version in one.get("versions", []):
        return True, _fixed(one)
    try:
        mine = Version(version)
        for ranged in one.get("ranges", []):
            if ranged.get("type") == "ECOSYSTEM" and _in(ranged["events"], mine):
                return True, _fixed(one)
    except (InvalidVersion, KeyError, TypeError):
        return True, _fixed(one)
    return False, ""


def _in(events: Sequence[dict[str, str]], mine: Version) -> bool:
    inside = False
    for event in events:
        if "introduced" in event:
            first = event["introduced"]
            inside = inside or first == "0" or mine >= Version(first)
        elif "fixed" in event:
            inside = inside and mine < Version(event["fixed"])
        elif "last_affected" in event:
            inside = inside and mine <= Version(event["last_affected"])
    return inside


def _fixed(one: dict[str, Any]) -> str:
    events = [event for ranged in one.get("ranges", []) for event in ranged.get("events", [])]
    return ", ".join(event["fixed"] for event in events if "fixed" in event)


def accepted(path: Path, today: datetime.date) -> set[str]:
    """Return the advisories that are accepted: each with a reason, and a day when that ends."""
    if not path.exists():
        return set()
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("accepted", [])
    for row in rows:
        if not (
            row.get("id") and row.get("reason") and isinstance(row.get("until"), datetime.date)
        ):
            fact = f"an accepted advisory has an id, a reason and a day `until`: {row}"
            raise RefusedError(
                "bad-accepted", fact, where=str(path), fix="complete it", code=CONFIG
            )
    return {row["id"] for row in rows if row["until"] >= today}


def main(words: Sequence[str]) -> int:
    """Print what is known of the pins; return 1 where that is a vulnerability."""
    parser = argparse.ArgumentParser(prog="nox -s audit-deps --", allow_abbrev=False)
    parser.add_argument("--kept", type=Path, help="a copy of the advisories: folder or zip (OSV)")
    parser.add_argument("--stacks", action="store_true", help="the locks of all stacks, too")
    parser.add_argument("locks", nargs="*", type=Path, help="these (default: the tool's own)")
    options = parser.parse_args(words)
    own = [*ROOT.glob("constraints/dev-*.txt"), *ROOT.glob(".ci/*.txt")]
    own += ROOT.glob("constraints/*/*.txt") if options.stacks else []
    locks = options.locks or sorted(own)
    try:
        copy = kept(options.kept) if options.kept else None
        passed = accepted(ACCEPTED, datetime.datetime.now(tz=datetime.UTC).date())
        found = sorted({one for lock in locks for one in _of(lock, copy)})
    except RefusedError as refusal:
        sys.stderr.write(f"{refusal}\n")
        return refusal.code
    count = len({pin for lock in locks for pin in pins(lock).items()})
    for one in found:
        sys.stdout.write(f"{one}{'  (accepted)' if one.advisory in passed else ''}\n")
    open_ones = [one for one in found if one.advisory not in passed]
    sys.stdout.write(
        f"{count} pins in {len(locks)} locks: {len(open_ones)} known vulnerabilities\n"
    )
    return VULNERABLE if open_ones else 0


def _of(lock: Path, copy: dict[str, list[dict[str, Any]]] | None) -> Iterator[Found]:
    if copy is None:
        yield from asked(lock)
        return
    for name, version in pins(lock).items():
        for one in copy.get(name, []):
            hit, fixed = affected(one, version)
            if hit:
                yield Found(lock.name, name, version, one["id"], fixed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
