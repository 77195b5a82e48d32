"""Plans the archs of every object: the real build with a launcher that compiles nothing."""

from __future__ import annotations

import email
import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from blackwheel.builder import build, workspace
from blackwheel.builder.inside import launcher
from blackwheel.builder.plan import BuildPlan
from blackwheel.builder.unplanned import EVERY, Watch
from blackwheel.core import isolation, process, processes
from blackwheel.core.console import Console
from blackwheel.stacks.projects import Project
from blackwheel.toolchain.host_compiler import Compiler

_CMAKE_TARGET: Final = re.compile(r"CMakeFiles/([^/]+)\.dir/")
_INCLUDE: Final = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', re.MULTILINE)
_NATIVE_SUFFIXES: Final = (".so", ".a", ".o")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedObject:
    """One object that a build would compile."""

    target: str
    """The library that it is linked into; empty where nothing tells."""
    source: str
    """Below the source tree."""
    archs: tuple[str, ...]
    """What its command line asks of nvcc: `sm_120a` for SASS, `compute_80` for PTX."""
    missing: tuple[str, ...]
    """What the arch contract asks for and the command line lacks."""
    command: str
    """sha256 of the command line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchPlan:
    """Objects, metadata and files of a wheel, known before anything is compiled."""

    objects: tuple[PlannedObject, ...]
    lists: tuple[tuple[str, str], ...]
    """Kernel lists and their archs, as the build itself tells them while it configures."""
    metadata: tuple[str, ...]
    """Header lines of METADATA."""
    files: Mapping[str, str]
    """What the wheel holds, less native files: path to digest."""
    texts: Mapping[str, str]
    """Every text of the tree that an object may be compiled from: path to digest."""
    failure: str = ""
    """Why there is no plan, in the build's own words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Objects of one folder and target with the same archs."""

    target: str
    sources: str
    archs: tuple[str, ...]
    missing: tuple[str, ...]
    count: int


def surroundings_digest(compiler: Compiler, known: Project) -> str:
    """Digest a plan's inputs beside the key: compiler, planning code, the project's pattern."""
    code = [
        Path(str(file)).read_bytes() for file in (__file__, launcher.__file__, workspace.__file__)
    ]
    made_of = [compiler.kind, compiler.version, *(hashlib.sha256(c).hexdigest() for c in code)]
    made_of += [known.build.lists or ""]
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()


def make(
    plan: BuildPlan, *, store: Path, compiler: Compiler, mode: str, console: Console
) -> ArchPlan:
    """Run the isolated build with a launcher that compiles no object, and return its plan.

    A build that fails on the way gives a plan with `failure`: what that means its caller knows. One
    that compiles all the same is stopped, and `plan-compiles` raised.
    """
    request = plan.request
    folder = store / "plans" / request.slug
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("work-*"):  # of a run that was killed: the caller holds the lock
        shutil.rmtree(leftover)
    log = folder / "plan.log"
    log.write_text("", encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="work-", dir=folder) as scratch:
        shop = workspace.Workshop(root=Path(scratch))
        workspace.prepare(plan, shop, compiler)
        spec, variables = workspace.command(plan, shop, store, compiler, mode)
        fixed = isolation.fixed_paths(mode, store)
        variables = {**variables, "BLACKWHEEL_PLAN": str(fixed.work / "plan.jsonl")}
        command = isolation.isolated_command(spec, shop.root / "isolation.json")
        with console.stage(request.project, "configure, compile nothing") as stage:
            watch = Watch(tmp=str(fixed.tmp))
            with processes.watching(watch.look, every=EVERY):
                done = process.run(command, environment=variables, cwd=shop.root, log=log)
            watch.require_none(request.project, str(log))
            if done.code in (130, 143):
                raise build.failure(plan, log, done.code, noted=shop.heard)
            if done.code:
                stage.conclude("it fails")
                return failed(build.failure(plan, log, done.code, noted=shop.heard).fact)
            made = _read(shop, fixed.src, log, plan.known.build.lists)
            stage.conclude(f"{len(made.objects)} objects")
            return made


def failed(fact: str) -> ArchPlan:
    """Return the plan of a build that fails."""
    nothing: dict[str, str] = {}
    return ArchPlan(objects=(), lists=(), metadata=(), files=nothing, texts=nothing, failure=fact)


def _read(shop: workspace.Workshop, src: Path, log: Path, told: str | None) -> ArchPlan:
    lines = [
        json.loads(text)
        for text in (shop.work / "plan.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    libraries = {
        name: PurePosixPath(line["library"]).name.partition(".")[0]
        for line in lines
        if "library" in line
        for name in line["objects"]
    }
    objects = [_object(line, libraries, str(src)) for line in lines if "object" in line]
    text = log.read_text(encoding="utf-8", errors="replace")
    said = [(found[1], found[2]) for found in re.finditer(told, text)] if told else []
    (wheel,) = (shop.work / "wheel").glob("*.whl")
    metadata, files = _wheel_contents(wheel)
    return ArchPlan(
        objects=tuple(sorted(objects, key=lambda each: (each.target, each.source))),
        lists=tuple(dict.fromkeys((name, archs) for name, archs in said)),
        metadata=metadata,
        files=files,
        texts=compiled_texts(shop.src, (each.source for each in objects)),
    )


def _object(line: Mapping[str, Any], libraries: Mapping[str, str], src: str) -> PlannedObject:
    cmake = _CMAKE_TARGET.search(line["object"])
    return PlannedObject(
        target=cmake[1] if cmake else libraries.get(line["object"], ""),
        source=os.path.relpath(line["source"], src),
        archs=tuple(line["archs"]),
        missing=tuple(line["missing"]),
        command=line["command"],
    )


def _wheel_contents(wheel: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Read METADATA's headers and the digest of every file that no compiler made."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith(_NATIVE_SUFFIXES)]
        (told,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        headers = email.message_from_bytes(archive.read(told)).items()
        files = {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in names
            if not name.endswith((".dist-info/METADATA", ".dist-info/RECORD"))
        }
    return tuple(f"{name}: {value}" for name, value in headers if "\n" not in value), files


def compiled_texts(root: Path, sources: Iterable[str]) -> dict[str, str]:
    """Return the digests of the sources and of their includes."""
    return {path: hashlib.sha256(text).hexdigest() for path, text, _ in read_texts(root, sources)}


def read_texts(root: Path, sources: Iterable[str]) -> Iterator[tuple[str, bytes, set[str]]]:
    """Read the sources and their includes in the tree, once each: path, content, header names.

    Includes are followed by name alone; `#if` is ignored.
    """
    by_name: dict[str, list[str]] = {}
    for path in _files(root):
        by_name.setdefault(path.rpartition("/")[2], []).append(path)
    seen: set[str] = set()
    frontier = list(sources)
    while frontier:
        path = frontier.pop()
        if path in seen or not (root / path).is_file():
            continue
        seen.add(path)
        content = (root / path).read_bytes()
        names = {name.decode("utf-8", "replace") for name in _INCLUDE.findall(content)}
        yield path, content, names
        for name in names:
            end = "/".join(part for part in name.split("/") if part not in (".", ".."))
            frontier += [
                each
                for each in by_name.get(name.rpartition("/")[2], [])
                if f"/{each}".endswith(f"/{end}")
            ]


def _files(root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        inner = os.path.relpath(folder, root)
        yield from (name if inner == "." else f"{inner}/{name}" for name in names)


def groups(objects: Sequence[PlannedObject]) -> tuple[Group, ...]:
    """Group the objects that share target, folder and archs."""
    found: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for each in objects:
        folder = each.source.rpartition("/")[0]
        suffix = each.source.rpartition(".")[2]
        key = (each.target, f"{folder}/*.{suffix}", each.archs, each.missing)
        found.setdefault(key, []).append(each.source)
    return tuple(
        Group(
            target=target,
            sources=_common_name(sources),
            archs=archs,
            missing=missing,
            count=len(sources),
        )
        for (target, _, archs, missing), sources in sorted(found.items())
    )


def _common_name(sources: Sequence[str]) -> str:
    if len(sources) == 1:
        return sources[0]
    stems = [source.rpartition(".")[0] for source in sources]
    stem = os.path.commonprefix(stems)  # noqa: RUF071  letters are what is wanted
    return f"{stem}*.{sources[0].rpartition('.')[2]}"


def content(plan: ArchPlan) -> dict[str, Any]:
    """Return a plan as a JSON value."""
    return asdict(plan)


def parse(document: Mapping[str, Any]) -> ArchPlan:
    """Return the plan from the JSON value that `content` returned."""
    objects = tuple(
        PlannedObject(**{**each, "archs": tuple(each["archs"]), "missing": tuple(each["missing"])})
        for each in document["objects"]
    )
    return ArchPlan(
        objects=objects,
        lists=tuple((name, archs) for name, archs in document["lists"]),
        metadata=tuple(document["metadata"]),
        files=document["files"],
        texts=document["texts"],
        failure=document["failure"],
    )
