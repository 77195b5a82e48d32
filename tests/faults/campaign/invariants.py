"""What may never be after a command, whatever was done to it. Each function returns the faults."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path

from starved import left_over

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.receipts import document as receipts

from .commands import Done, Shell

GONE_WITHIN = 2.0
CPU_SECONDS = 60.0
PEAK = 1 << 30
TRACEBACK = re.compile(
    r"^\s*Traceback \(most recent call last\)|^Exception ignored in", re.MULTILINE
)
THEIRS = re.compile(r"KeyboardInterrupt|/invoke/config\.py")
"""An interrupt, or settings that Invoke cannot read: it wants them before it loads our tasks."""
OURS = re.compile(r'File "[^"]*/(blackwheel/blackwheel/|tasks\.py|noxfile\.py)')
NAMED = re.compile(r"^\s*(?:[\w.-]+: )?error: ([a-z][a-z0-9]*(?:-[a-z0-9]+)*)$", re.MULTILINE)
TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00| UTC)?")
TEMPORARY = re.compile(
    r"(^|/)(\.blackwheel-|tmp[a-z0-9_]{8}|\..*-[a-z0-9_]{8}$)|\.part(\.json)?$|\.new$"
)
"""Names of half-written files: of `core/files.py`, of `tempfile`, of downloads, of toolchains."""


KEPT = re.compile(
    r"^store/(sessions/|locks/[^/]+$|sdists/[^./][^/]*$|exports/[0-9a-f]{64}\.json$"
    r"|digests/[0-9a-f]+\.json$|logs/environments\.log$)"
    r"|^home/\.cache/(nox|uv)/"
)
"""Names that do not grow: session files go after a week; a lock and an archive for each pin, a
table for each torch, digests for each folder, one log of installs; the caches of nox and uv are
theirs."""


def wheels_without_receipt(shelf: Path) -> list[str]:
    """No wheel lies on a shelf without a whole receipt that verifies."""
    found = []
    for wheel in sorted(shelf.glob("*.whl")):
        beside = wheel.with_name(f"{wheel.name}.receipt.json")
        try:
            document = receipts.load(beside)
            faults = receipts.verify(document, wheel)
        except (BlackwheelError, OSError) as error:
            faults = (str(error).splitlines()[0],)
        found += [f"{wheel.name} has no whole receipt: {fault}" for fault in faults[:1]]
    return found


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get("href") or ""
        if tag == "a" and ".whl#sha256=" in address:
            name, _, digest = address.rpartition("/")[2].partition("#sha256=")
            self.found[name.replace("%2B", "+")] = digest


def pages_that_lie(shelf: Path) -> list[str]:
    """No page names a file that is missing or another one; a reader may come at any moment."""
    found = []
    for page in sorted(shelf.glob("simple/*/index.*")):
        where = f"{page.parent.name}/{page.name}"
        try:
            listed = _listed(page)
        except (OSError, ValueError, KeyError, TypeError) as error:
            found.append(f"{where} cannot be read: {error}")
            continue
        for name, sha256 in listed.items():
            file = shelf / name
            if not file.is_file():
                found.append(f"{where} names {name}, which is missing")
            elif digest(file) != sha256:
                found.append(f"{where} names {name}, which has other bytes")
    return found


def _listed(page: Path) -> dict[str, str]:
    if page.suffix == ".json":
        files = json.loads(page.read_bytes())["files"]
        return {file["filename"]: file["hashes"]["sha256"] for file in files}
    links = _Links()
    links.feed(page.read_text("utf-8"))
    return links.found


def held_locks(folders: Iterable[Path]) -> list[str]:
    """No file below is locked, by whomever."""
    told = Path("/proc/locks").read_text("ascii").splitlines()
    rows = [line.split() for line in told if "->" not in line]
    places = {_place(row[-3]): row[1] for row in rows}
    found = []
    for folder in folders if places else ():
        for place, _, names in os.walk(folder):
            for path in (Path(place, name) for name in names):
                seen = path.lstat()
                kind = places.get((seen.st_dev, seen.st_ino))
                found += [f"{path.relative_to(folder)} is locked ({kind})"] if kind else []
    return found


def _place(text: str) -> tuple[int, int]:
    """Read device and inode of a row of /proc/locks: `fd:00:1234`, of which two are hexadecimal."""
    major, minor, inode = text.split(":")
    return os.makedev(int(major, 16), int(minor, 16)), int(inode)


def live_processes(shell: Shell, *, seconds: float = GONE_WITHIN) -> list[str]:
    """Two seconds after a command has ended no process of its family lives."""
    left = left_over(shell.family, seconds)
    alive = shell.family() if left else {}
    return [f"process {pid} lives on: {alive.get(pid, '')[:160]}" for pid in sorted(left)]


def tracebacks(done: Done) -> list[str]:
    """No output holds a traceback."""
    if not TRACEBACK.search(done.said) or _before_us(done):
        return []
    last = [
        line for line in done.said.splitlines() if re.match(r"\w[\w.]*(Error|Exception)\b", line)
    ]
    return [f"traceback: {last[-1][:200] if last else done.said[-200:]}"]


def _before_us(done: Done) -> bool:
    """Tell whether the interpreter, Invoke or nox ended while it still began: theirs."""
    found = TRACEBACK.search(done.said)
    begins = done.said[found.start() :] if found else ""
    return bool(THEIRS.search(begins)) and not OURS.search(begins)


def unnamed_codes(
    done: Done, *, signals: Iterable[int] = (), nox: bool = False, mute: bool = False
) -> list[str]:
    """Each exit code is one of `core/errors.py`'s, with its error named; or of a signal sent."""
    code = done.code
    ours = {*(-number for number in signals), *(128 + number for number in signals)}
    interrupted = signal.SIGINT in signals or "KeyboardInterrupt" not in done.said
    if code in ours or code == Exit.OK or (interrupted and _before_us(done)):
        return []
    if code == Exit.FAULT and signal.SIGINT in signals and not done.said:
        return []  # Invoke's own end of an interrupt, before it has loaded a verb
    if code not in set(Exit) or (code == Exit.FAULT and not nox):
        return [f"exit code {code} is none of core/errors.py's: {done.said.strip()[-300:]}"]
    if code == Exit.STOPPED and not signals:
        return ["exit code 130 and nobody sent a signal"]
    tells = done.words[0] in ("verify", "doctor", "audit")  # each fault by its own name
    if not NAMED.search(done.said) and not tells and not mute:
        return [f"exit code {code} without a named error"]
    return []


def over_bounds(done: Done, *, cpu: float = CPU_SECONDS, peak: int = PEAK) -> list[str]:
    """No command takes more time or memory than its bound."""
    found = [f"not ended after {done.wall:.0f} s"] if done.overdue else []
    if done.cpu > cpu:
        found.append(f"{done.cpu:.0f} s of CPU, more than {cpu:.0f}")
    if done.peak > peak:
        found.append(f"{done.peak >> 20} MiB in one process, more than {peak >> 20}")
    return found


def leftovers(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Nothing is left that an undisturbed run does not leave, and no half-written file at all."""
    known = set(before)
    names = sorted(name for name in set(after) - known if not KEPT.search(name))
    names += sorted(name for name in set(after) & known if TEMPORARY.search(name))
    return [f"left over: {name}" for name in names[:5]]


def other_bytes(reference: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """A rerun ends with the same bytes as a run that nobody disturbed."""
    changed = sorted(n for n in {*reference, *found} if reference.get(n) != found.get(n))
    states = {
        name: "is missing"
        if name not in found
        else "is not there undisturbed"
        if name not in reference
        else "has other bytes"
        for name in changed[:5]
    }
    return [f"after the rerun {name} {state}" for name, state in states.items()]


def shelf_bytes(folder: Path) -> dict[str, str]:
    """Return a digest of each file of a folder of shelves that installers read, without times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        installers = "/simple/" in f"/{name}" or path.suffix in (".whl", ".metadata")
        if installers and path.is_file():
            data = path.read_bytes()
            if path.suffix in (".html", ".json"):
                data = TIMES.sub("TIME", data.decode("utf-8", "replace")).encode()
            found[name] = hashlib.sha256(data).hexdigest()
    return found


def listing(folder: Path) -> list[str]:
    """Return the names of all files and links below a folder."""
    return [
        str(Path(place, name).relative_to(folder))
        for place, folders, names in os.walk(folder)
        for name in [*names, *(n for n in folders if Path(place, n).is_symlink())]
    ]


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
