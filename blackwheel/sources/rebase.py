"""Rebases a series onto another source by three-way merge; drops patches that upstream took."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import tomlkit

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.scratch import scratch as scratch_folder
from blackwheel.core.site import Site
from blackwheel.core.units import counted
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.patch import stale
from blackwheel.sources.scratch_git import QUIET, Scratch, allowed_paths, reasons
from blackwheel.sources.series import Patch, Series

Outcome = Literal["kept", "rebased", "dropped", "conflicts"]

_MARKER: Final = b"<<<<<<< "
_DIFF: Final = ("--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")
_REJECTS: Final = re.compile(
    r"^Applying patch (.+) with \d+ rejects?\.\.\.$|^Rejected hunk #(\d+)\.$"
)
_HUNK: Final = re.compile(rb"^(?:\+\+\+ (?:b/)?(.+)|(@@ -[\d,]+ \+[\d,]+ @@).*)$", re.MULTILINE)
_PROBES: Final = "probes.toml"
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


class ConflictError(BlackwheelError):
    """A patch does not fit the new sources; `files` are those in which it conflicts."""

    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Refreshed:
    """Outcome of rebasing one patch."""

    name: str
    outcome: Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebased:
    """A series rebased onto another source, not written yet."""

    series: Series
    patches: tuple[Refreshed, ...]
    contents: Mapping[str, bytes]
    """Of those that are left, by name."""

    @property
    def changed(self) -> bool:
        """Tell whether any patch is different, moved or dropped."""
        return any(patch.outcome != "kept" for patch in self.patches)


def refresh(
    site: Site, series: Series, *, old: SourceTree, new: SourceTree, folder: Path, date: str
) -> tuple[Refreshed, ...]:
    """Rebase a series from its own source onto another, and write it to `folder`.

    `old` and `new` may be one source: then hunks that moved are put where they belong. `folder` is
    the series' own, or that of a new version. All of it is written, or nothing. Raises what
    `rebase` raises, and `series-exists` for a version that has one.
    """
    if folder != series.folder and folder.exists():
        raise BlackwheelError(
            "series-exists",
            f"{folder.parent.name} {folder.name} has a series already",
            where=f"patches/{folder.parent.name}/{folder.name}",
            fix="refresh that one, or remove its folder",
            code=Exit.PATCH,
        )
    found = rebase(site, series, old=old, new=new, date=date)
    if folder != series.folder or found.changed:
        put(found, folder)
    return found.patches


def put(rebased: Rebased, folder: Path) -> None:
    """Put a whole series in the place of `folder`, or leave that as it was."""
    part = staged(rebased, folder)
    try:
        exchange(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def rebase(
    site: Site,
    series: Series,
    *,
    old: SourceTree,
    new: SourceTree,
    date: str,
    keep_going: bool = False,
) -> Rebased:
    """Rebase a series in a scratch folder; a changed patch gets the `date` (2026-11-22).

    Raises `refresh-conflict`, and `stale-patch` for one that fits neither source; with `keep_going`
    such a patch is left out, and said to conflict.
    """
    site.store.mkdir(parents=True, exist_ok=True)
    count = len(series.patches)
    contents: dict[str, bytes] = {}
    results = []
    with (
        scratch_folder(site.store, "refresh-") as place,
        site.console.stage(
            series.project, f"refresh {counted(count, 'patch', 'patches')}"
        ) as stage,
    ):
        bench = _bench(place, old, new, site.environment)
        for done, patch in enumerate(series.patches):
            stage.update(done, count, patch.name)
            outcome: Outcome = "dropped"
            try:
                content = _rebased(bench, series, patch, old=old, new=new)
            except BlackwheelError:
                if not keep_going:
                    raise
                bench.new.git("reset", "--hard", "--quiet")
                outcome, content = "conflicts", None
            if content is not None:
                outcome = "kept" if content == patch.content else "rebased"
                contents[patch.name] = content if outcome == "kept" else _dated(content, date)
            results.append(Refreshed(name=patch.name, outcome=outcome))
        stage.update(count, count)
    for result in results:
        why = ": upstream has taken it" if result.outcome == "dropped" else ""
        site.console.say(f"{result.name}: {result.outcome}{why}")
    return Rebased(series=series, patches=tuple(results), contents=contents)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bench:
    """The series on the old source, and what was rebased of it on the new."""

    old: Scratch
    new: Scratch
    folder: Path


def _bench(
    folder: Path, old: SourceTree, new: SourceTree, environment: Mapping[str, str]
) -> _Bench:
    trees = {}
    for name, source in (("old", old), ("new", new)):
        shutil.copytree(source.root, folder / name, symlinks=True)
        scratch = Scratch(
            tree=folder / name, repository=folder / f"{name}.git", environment=environment
        )
        scratch.make()
        if name == "new":
            # a merge onto the new side reads commits of the old one
            alternates = scratch.repository / "objects/info/alternates"
            alternates.parent.mkdir(parents=True, exist_ok=True)
            alternates.write_text(f"{folder / 'old.git/objects'}\n", encoding="utf-8")
        scratch.git("add", "--all", "--force", ".")  # whatever an ignore file of the tree says
        _commit(scratch, "pristine")
        trees[name] = scratch
    return _Bench(old=trees["old"], new=trees["new"], folder=folder)


def _commit(scratch: Scratch, message: str) -> None:
    scratch.git("commit", "--quiet", "--allow-empty", "--no-verify", "-m", message)


def _rebased(
    bench: _Bench, series: Series, patch: Patch, *, old: SourceTree, new: SourceTree
) -> bytes | None:
    """Return a patch as the new source wants it, None when upstream has taken it."""
    file = bench.folder / patch.name
    file.write_bytes(patch.content)
    allowed_paths(bench.old, series, patch, file)
    made = bench.old.git("apply", "--index", *QUIET, str(file), check=False)
    if made.code == 0:
        _commit(bench.old, patch.name)
    if not bench.new.misfit(file, apply=False):
        bench.new.git("apply", "--index", *QUIET, str(file))
        _commit(bench.new, patch.name)
        return patch.content
    if bench.new.git("apply", "--reverse", "--check", *QUIET, str(file), check=False).code == 0:
        return None
    if made.code == 0:
        return _merged(bench, series, patch, new)
    told = "\n".join(f"git: {line}" for line in reasons(made.stderr))
    fix = f"correct {patch.name} by hand, or take it out of the series"
    raise stale(old, series, patch, told, fix=fix)


def _merged(bench: _Bench, series: Series, patch: Patch, new: SourceTree) -> bytes | None:
    """Merge the last change of the old side into the new one; None when nothing is left of it."""
    scratch, out = bench.new, bench.folder / "diff"
    commit = bench.old.git("rev-parse", "HEAD").stdout.strip()
    done = scratch.git("cherry-pick", "--no-commit", commit, check=False)
    if done.code != 0:
        raise _conflict(scratch, series, patch, new, done.stderr)
    scratch.git("diff", *_DIFF, f"--output={out}", "--cached")
    diff = out.read_bytes()
    if not diff:
        return None
    _commit(scratch, patch.name)
    head, rule, _ = patch.header.partition(b"\n---\n")  # the diffstat below it no longer holds
    return head + (b"\n---\n\n" if rule else b"") + diff


def _conflict(
    scratch: Scratch, series: Series, patch: Patch, new: SourceTree, stderr: str
) -> ConflictError:
    names = scratch.git("diff", "--name-only", "--diff-filter=U", "-z").stdout.split("\0")
    places = []
    for name in filter(None, names):
        path = scratch.tree / name
        lines = path.read_bytes().splitlines() if path.is_file() else []
        found = [
            f"{name}:{number}" for number, line in enumerate(lines, 1) if line.startswith(_MARKER)
        ]
        places += found or [f"{name}: changed by one side, removed by the other"]
    facts = places or [f"git: {line}" for line in reasons(stderr)]
    facts += _unfitting(scratch, patch, [name for name in names if name])
    conflict = ConflictError(
        "refresh-conflict",
        "\n".join([f"{patch.name} conflicts with {new.project} at {new.named}", *facts]),
        where=f"{series.place}, line {patch.line}",
        fix=f"correct {patch.name} by hand for {new.named}, or take it out of the series",
        code=Exit.PATCH,
    )
    conflict.files = tuple(filter(None, names))
    return conflict


def _unfitting(scratch: Scratch, patch: Patch, files: Sequence[str]) -> list[str]:
    """Name the hunks of these files that find no place; changes the tree, which is given up."""
    headers: dict[str, list[str]] = {}
    for name, header in _HUNK.findall(patch.content):
        if name:
            hunks = headers.setdefault(os.fsdecode(name.rstrip()), [])
        else:
            hunks.append(header.decode())
    scratch.git("reset", "--hard", "--quiet")
    file = scratch.tree.with_name(patch.name)
    tried = scratch.git("apply", "--reject", "--verbose", *QUIET, str(file), check=False)
    found, path = [], ""
    for line in tried.stderr.splitlines():
        match = _REJECTS.match(line)
        if match and match[1]:
            path = match[1]
        elif match and path in files:
            number = int(match[2])
            header = headers.get(path, [])[number - 1 : number]
            found.append(" ".join([f"{path}: hunk {number} does not fit:", *header]))
    return found


def _dated(content: bytes, date: str) -> bytes:
    return re.sub(rb"(?m)^Last-Update:.*$", f"Last-Update: {date}".encode(), content, count=1)


def staged(rebased: Rebased, folder: Path) -> Path:
    """Write the whole series into a hidden folder beside `folder`, for `exchange`."""
    series, contents = rebased.series, rebased.contents
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
    try:
        part.chmod(0o755)
        kept = series.folder / "series"
        for path in series.folder.iterdir():  # a note beside the patches stays
            if path.is_file() and path != kept and path.suffix != ".patch":
                shutil.copy2(path, part)
        dropped = [patch for patch in series.patches if patch.name not in contents]
        numbers = {patch.line for patch in dropped}
        lines = kept.read_text(encoding="utf-8").splitlines(keepends=True)
        text = "".join(line for number, line in enumerate(lines, 1) if number not in numbers)
        (part / "series").write_text(text, encoding="utf-8")
        _forget_probes(part / _PROBES, [patch.name for patch in dropped])
        for name, content in contents.items():
            (part / name).write_bytes(content)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return part


def _forget_probes(path: Path, names: Sequence[str]) -> None:
    """Take patches that are gone out of the probes, which may name none but the series'."""
    if not names or not path.exists():
        return
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    for name in set(names) & set(document):
        document.remove(name)
    path.write_text(tomlkit.dumps(document), encoding="utf-8")


def exchange(part: Path, folder: Path) -> None:
    """Put `part` in the place of `folder`, whose former content is then in `part`."""
    if not folder.exists():
        part.replace(folder)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(part), os.fsencode(folder)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    # File systems that cannot exchange (9p of WSL's /mnt/c): two renames, with a moment between.
    aside = part.with_name(f"{part.name}-old")
    folder.replace(aside)
    part.replace(folder)
    aside.replace(part)
