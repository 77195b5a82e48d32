"""Reads patches/<project>/project.toml: the facts about one upstream that are in no wheel's key.

A project without the file is one of which nothing is known. docs/add-a-project.md has every key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints
from pydantic.dataclasses import dataclass

from blackwheel.core import archs
from blackwheel.core.errors import BlackwheelError
from blackwheel.stacks.faults import FaultsError, record_of, refusal, table_of
from blackwheel.stacks.records import STRICT, Distribution, ProjectPin, RelativePath

FILE: Final = "project.toml"
CHECKS: Final = "checks.py"
"""The file beside it with the kernel checks (blackwheel/smoke/checks)."""
LOOKUPS: Final = "lookups.py"
"""The file beside it that asks the wheel's own loader for what its users look up."""
BENCH: Final = "bench.py"
"""The file beside it that measures kernels: `nox -s bench -- attention`."""
MOST_BYTES: Final = 64 << 10
UNKNOWN_GIB: Final = 3
"""What an object of device code takes at most, where nobody measured."""


def _pattern(groups: int) -> AfterValidator:
    """Accept only a regular expression with that many groups or more."""

    def checked(text: str) -> str:
        try:
            found = re.compile(text).groups
        except re.error as error:
            raise ValueError(f"a regular expression is wanted ({error})") from None
        if found < groups:
            raise ValueError(f"a regular expression with {groups} groups is wanted")
        return text

    return AfterValidator(checked)


def _arch(text: str) -> str:
    try:
        return str(archs.parse(text))
    except BlackwheelError as error:
        raise ValueError(error.fact) from None


Line = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\r\n\t]+$")]
Variable = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Z][A-Z0-9_]*$")]
ArchName = Annotated[str, AfterValidator(_arch)]
Few = Field(max_length=100)


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Cost:
    """Cost of an object that no earlier build recorded."""

    source: Line
    """Its source's file name, or after a star a part of that; the first that fits holds."""
    gib: Annotated[int, Field(strict=True, ge=1, le=1024)]
    """Of its largest process."""
    seconds: Annotated[int, Field(strict=True, ge=0, le=100_000)]
    """Of CPU, for one arch."""
    only: dict[Variable, Line] = field(default_factory=dict)
    """It is compiled where each of these build variables is unset, or names this word."""

    def compiled(self, variables: Mapping[str, str]) -> bool:
        """Tell whether a build with these variables has such objects."""
        return all(word in variables.get(name, word).split(",") for name, word in self.only.items())


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Build:
    """Outside view of its build, and its costs."""

    objects: RelativePath | None = None
    """The folder, a glob below the source tree, where objects land."""
    stale: Annotated[tuple[RelativePath, ...], Few] = ("build/lib*", "build/bdist*")
    """Folders below the folder that is built, removed before each build: a file that a patch has
    taken out would live on in them."""
    writes: Annotated[tuple[Line, ...], Few] = ("*.egg-info/*", "*_version.py")
    """Source files that the build itself writes anew, globs of their paths: setuptools and
    setuptools-scm do. A build that changes another one is refused."""
    lists: Annotated[Line, _pattern(2)] | None = None
    """How the build tells while it configures which archs (group 2) a list of kernels (1) gets."""
    tree_gib: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    """Disk that a whole build tree takes, its wheel included."""
    costs: Annotated[tuple[Cost, ...], Few] = ()


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Reason:
    """Reason why something cannot run; with `major` only on that compute capability."""

    text: Line
    major: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Refusal:
    """Kernels that are refused on archs that cannot run them, before anything is fetched."""

    what: Line
    """What follows the project's name and version, or the name asked for: `would build …`."""
    why: Annotated[tuple[Reason, ...], Few]
    fix: Line
    newer_than: ArchName | None = None
    """Archs newer than this one cannot run them."""
    other_than: Annotated[int, Field(strict=True, ge=1, le=99)] | None = None
    """Or: archs of another major compute capability than this one cannot."""
    variable: Variable | None = None
    """The build variable that must name `lacks`, or must not name `has`."""
    lacks: Line | None = None
    has: Line | None = None
    names: Annotated[tuple[Line, ...], Few] = ()
    """Names that people give to `--only`, which no stack builds."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class State:
    """State of a neighbour when `beside` is installed too; without `beside`, in any other case."""

    how: Line
    """`{version}` is that of `beside`."""
    beside: Distribution | None = None


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Neighbour:
    """Distribution that is not built here, of which smoke tells how it works beside the wheel."""

    distribution: Distribution
    title: Line
    states: Annotated[tuple[State, ...], Few]
    """The first that holds is told."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Smoke:
    """Questions to a wheel beside loading its libraries and importing its modules."""

    operators: Annotated[tuple[Line, ...], Few] = ()
    """Namespaces of torch.ops that its libraries must register: nothing else misses them before a
    request."""
    before_guard: Annotated[tuple[Line, ...], Few] = ()
    """Its modules that may be imported before its guard: those that import no other of its own."""
    without_gpu: Annotated[tuple[Line, ...], Few] = ("--version",)
    """What its command is asked where no GPU is found."""
    neighbours: Annotated[tuple[Neighbour, ...], Few] = ()


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Cache:
    """Folder that grows while a server runs: a variable, its default under HOME, room wanted."""

    variable: Variable
    folder: RelativePath
    gib: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Serve:
    """Facts about a project that listens on a port."""

    port: Annotated[int, Field(strict=True, ge=1, le=65535)]
    model: Line
    """The one that a bench asks for, unless told otherwise."""
    command: Annotated[tuple[Line, ...], Few]
    """The line that serves `{model}`, in parts that a page can show."""
    variables: dict[Variable, Line] = field(default_factory=dict)
    log: dict[Line, Annotated[Line, _pattern(1)]] = field(default_factory=dict)
    """What its log tells about its speed: a name, and the pattern whose last hit counts."""
    caches: Annotated[tuple[Cache, ...], Few] = ()
    compiles: Line | None = None
    """Who compiles with an nvcc while it serves."""
    without_nvcc: Line | None = None
    """What that means where there is no nvcc."""

    def line(self, between: str = " ") -> str:
        """Return the command that serves the model."""
        return between.join(self.command).replace("{model}", self.model)


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Part:
    """A thing in which wheels of a project differ, with the words for people: pages show them."""

    title: Line
    variable: Variable
    """The build variable that lists words, separated by commas; unset it means all of them."""
    words: Annotated[dict[Line, Line], Few]
    left_out: bool = False
    """The variable lists the parts that a wheel lacks; nothing is claimed of the others."""
    closed: bool = False
    """Other words than these mean nothing: a stack that names one is refused."""

    def limits(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """Return the words for the parts that a build with these variables has and lacks."""
        given = [word.strip() for word in variables.get(self.variable, "").split(",")]
        named = [self.words.get(word, word) for word in given if word]
        if self.left_out:
            return {"title": self.title, "can": [], "cannot": named}
        known = list(self.words.values())
        lacking = [word for word in known if named and word not in named]
        return {"title": self.title, "can": named or known, "cannot": lacking}


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class AheadSet:
    """Kernels that a build variable selects by one word, with the cost of their compilation."""

    word: Line
    what: Line
    objects: Annotated[int, Field(strict=True, ge=1, le=100_000)]
    seconds: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    """Of CPU; 0 when nobody measured."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Ahead:
    """Kernels that another distribution would compile while a server runs, compiled before."""

    distribution: Distribution
    """Who looks for them, in a wheel of exactly its own version."""
    title: Line
    """What people call it: `serve.compiles` of the project that serves."""
    switch: Line
    """The patch, a glob, that has a server look for such a wheel where there is no compiler."""
    variable: Variable
    """The build variable that lists the sets, separated by commas."""
    sets: Annotated[tuple[AheadSet, ...], Field(min_length=1, max_length=100)]


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Elsewhere:
    """Library of upstream's own wheels that is called on some cards alone."""

    library: Line
    """A glob of paths in the wheel."""
    called: Annotated[tuple[ArchName, ...], Few]
    """The cards that call it: `9.0`."""
    why: Line


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Project:
    """Facts about one upstream."""

    holds: Annotated[tuple[Part, ...], Few] = ()
    build: Build = field(default_factory=Build)
    refuse: Annotated[tuple[Refusal, ...], Few] = ()
    smoke: Smoke = field(default_factory=Smoke)
    serve: Serve | None = None
    ahead: Ahead | None = None
    elsewhere: Annotated[tuple[Elsewhere, ...], Few] = ()

    def uncalled(self, path: str, devices: Sequence[archs.Arch]) -> str:
        """Return why nothing calls a library on these cards; empty where that is not known."""
        for one in self.elsewhere:
            called = [archs.parse(name) for name in one.called]
            if fnmatchcase(path, one.library):
                here = any(a.runs_on(device) for a in called for device in devices)
                return "" if here else one.why
        return ""

    def largest_object(self, pin: ProjectPin) -> int:
        """Return the bytes that the hungriest object of this pin's selection takes."""
        held = [cost.gib for cost in self.build.costs if cost.compiled(pin.variables)]
        return pin.object_bytes or max(held, default=UNKNOWN_GIB) << 30


def load(patches: Path, name: str) -> Project:
    """Read a project's own file; raise `bad-project` with every fault at once."""
    path = patches / name / FILE
    if not path.is_file():
        return Project()
    try:
        found = record_of(Project, table_of(path, most=MOST_BYTES))
    except FaultsError as error:
        raise _bad_project(name, error.faults) from None
    if faults := _inconsistencies(found):
        raise _bad_project(name, faults)
    return found


def known(patches: Path) -> dict[str, Project]:
    """Return every project that has the file, by name."""
    names = sorted(path.parent.name for path in patches.glob(f"*/{FILE}"))
    return {name: load(patches, name) for name in names}


def _inconsistencies(project: Project) -> list[str]:
    """Find what no single key shows."""
    faults = []
    for number, one in enumerate(project.refuse):
        if bool(one.names) == bool(one.variable) or bool(one.variable) != (
            bool(one.lacks) ^ bool(one.has)
        ):
            faults.append(f"refuse.{number}: either variable and lacks or has, or names")
        if bool(one.newer_than) == bool(one.other_than):
            faults.append(f"refuse.{number}: either newer_than or other_than")
        if not one.why:
            faults.append(f"refuse.{number}.why: missing: say why")
    for number, near in enumerate(project.smoke.neighbours):
        if [state for state in near.states if not state.beside] != list(near.states[-1:]):
            faults.append(f"smoke.neighbours.{number}.states: only the last one has no beside")
    if project.serve and bool(project.serve.compiles) != bool(project.serve.without_nvcc):
        faults.append("serve: compiles and without_nvcc belong together")
    return faults


def _bad_project(name: str, faults: Sequence[str]) -> BlackwheelError:
    return refusal("bad-project", faults, where=f"patches/{name}/{FILE}")
