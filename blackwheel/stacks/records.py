"""Defines the records of a stack file: Stack, ProjectPin, TorchPin, and their fields."""

from __future__ import annotations

import re
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from packaging.utils import canonicalize_name
from pydantic import AfterValidator, ConfigDict, StringConstraints
from pydantic.dataclasses import dataclass

from blackwheel.core.errors import BlackwheelError, Exit, nearest


def python_tag(version: str) -> str:
    """Return the tag of a Python version: `cp312` for `3.12`."""
    return f"cp{version.replace('.', '')}"


def _inside(path: str) -> str:
    """Accept only a path that stays inside the tree."""
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ValueError("a path inside the tree is wanted")
    return path


class UnknownProjectError(BlackwheelError):
    """A stack does not build a project of that name: `unknown-project`."""


Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
SourceCommit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{9}|[0-9a-f]{40})?$")]
NestedCommit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40})?$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PythonVersion = Annotated[str, StringConstraints(pattern=r"^3\.\d{1,2}$")]
RelativePath = Annotated[str, AfterValidator(_inside)]
Version = Annotated[str, StringConstraints(pattern=r"^(\d+(\.\d+)?)?$")]
Variant = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9]*)?$")]

Distribution = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
"""A canonical name, as wheels of it are compared."""

STRICT = ConfigDict(extra="forbid", defer_build=True)


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class GitPin:
    """A git source, pinned by commit and by the tree that this commit must hold."""

    url: str
    commit: SourceCommit = ""
    """Nine digits where the sdist alone tells it, empty where nobody knows it: then no git host is
    asked, the sdist is the source (docs/decisions/0026-vllm-0.11.0.md)."""
    tree: Commit | None = None
    """None where nobody has seen it yet: then a project is taken from its sdist, whose tree is
    pinned; of a nested source the commit alone decides."""
    sparse: tuple[RelativePath, ...] = ()
    """Folders to take beside the files at the top; all of the tree when empty."""

    @property
    def only_sdist(self) -> bool:
        """Tell whether the commit is unknown, or too short to ask a git host for it."""
        return len(self.commit) != 40

    @property
    def whole(self) -> bool:
        """Tell whether commit and tree are known: only then git may be a project's source."""
        return bool(self.tree) and not self.only_sdist


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class ArchivePin:
    """A folder of a published wheel that stands in for a nested source."""

    name: str
    """File name of the wheel."""
    sha256: Sha256
    size: int
    folder: RelativePath
    """The folder in the wheel."""
    into: RelativePath
    """The folder of the nested source that it is a copy of."""
    tree: Commit
    """Git tree id of the files."""
    suffix: str = ".py"
    """The end of the names of those files: all that the wheel took from the folder."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class NestedPin(GitPin):
    """A nested source and the path in the project's tree where it belongs."""

    path: RelativePath
    commit: NestedCommit = ""
    """Empty where nobody has seen it: then nothing is fetched, and `invoke pin` is named."""
    archive: ArchivePin | None = None


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class SdistPin:
    """The sdist of the same release: stands in when the git host cannot be reached.

    With a name alone it was never measured: nothing is fetched, and `invoke pin` is named.
    """

    name: str
    """File name: `NAME-VERSION.tar.gz`."""
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    size: int = 0
    tree: NestedCommit = ""
    """Git tree id of the unpacked files."""

    @property
    def measured(self) -> bool:
        """Tell whether the pin says which bytes the file has."""
        return bool(self.sha256 and self.size and self.tree)


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Contract:
    """Arch contract of the libraries that `library` (a glob of paths in the wheel) names."""

    library: str
    native: bool = True
    """Every kernel must be SASS of every arch of the stack."""
    older: tuple[str, ...] = ()
    """Sources (`scaled_mm_c2x.cu`) of an otherwise native library that may be older SASS or PTX."""
    why: str = ""
    """Why a library, or a source, may be so; required when `native` is off or `older` names one."""
    kernels: int = 1
    """At least so many must be in all that `library` names: counted from the plan's objects and the
    source, never from a build. 0 for host code."""
    entry_points: tuple[str, ...] = ()
    """Kernels, or symbols that a library exports, that must be there: `flash_fwd_kernel`."""
    optional: bool = False
    """The wheel may lack what `library` names."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class RequirementFile:
    """Changes that the stack makes to a requirement file of a project."""

    file: RelativePath
    set: tuple[str, ...] = ()
    """Requirements that replace those of the same distribution; `{torch}` is the stack's,
    `{torchvision}` and `{torchaudio}` are those that are locked with it."""
    drop: tuple[str, ...] = ()
    """Distributions whose requirement goes."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class ProjectPin:
    """An upstream project that becomes a wheel, with all of its pins."""

    version: str
    revision: Annotated[int, "raised when published bytes must change"] = 1
    variant: Variant = ""
    """A selection of kernels, named in the label."""
    modules: tuple[str, ...]
    """Top-level import names that the wheel may hold."""
    source: GitPin
    nested: tuple[NestedPin, ...] = ()
    sdist: SdistPin | None = None
    variables: dict[str, str] = field(default_factory=dict)
    """Build variables; `{archs}`, `{label}`, `{torch}`, `{version}`, `{source}`, `{launcher}`,
    `{without}` and `{jobs}` are filled in."""
    requirements: tuple[str, ...] = ()
    """What the build environment holds besides torch."""
    runtime: tuple[str, ...] = ()
    """What the wheel requires besides torch; filled in as `requires` is."""
    requires: tuple[RequirementFile, ...] = ()
    """Set before the build, so that the wheel's own metadata keeps the stack's torch."""
    readme: RelativePath | None = None
    """The file of the long description, of which one line is left before the build: it is most of
    METADATA, which installers fetch at every resolve."""
    one_folder: bool = False
    """Compile device code in one working folder whatever the Python: nvcc puts it into names."""
    optional: tuple[str, ...] = ()
    """Nested sources, by the last part of their path, that `--without` may leave out."""
    gcc: Version = ""
    """The oldest GCC whose library its host code compiles with: `13`, or `11.3`."""
    subfolder: RelativePath | None = None
    """The folder of the tree that is built, where it is not the top."""
    command: tuple[str, ...] = ()
    """The command that makes the wheel, where it is not `python -m build` in that folder: words in
    which `{python}`, `{wheels}` (the folder for it), `{folder}` and what a variable may hold are
    filled in."""
    distribution: Distribution | None = None
    """The wheel's name, where it is not the project's."""
    links_torch: bool = True
    """Its libraries are bound to the stack's torch. Where they are not, the wheel serves every
    torch: it requires none, and its label names the CUDA alone."""
    torch: Literal["exact", "abi"] = "exact"
    """`abi`: its libraries use torch's stable interface alone, which the audit holds it to. Then it
    requires the stack's torch or a later one, and its label names no patch release."""
    beside: tuple[RelativePath, ...] = ()
    """Libraries of other packages, by their paths below site-packages, that are loaded for everyone
    before the wheel's own."""
    contract: tuple[Contract, ...] = ()
    data: tuple[str, ...] = ()
    """Binary files, neither code nor images, that the wheel may hold: globs of its paths."""
    object_bytes: int = 0
    """Peak memory of the hungriest object; 0 takes that of the project's own file."""
    objects: int = 0
    """How many objects a build compiles; 0 when nobody counted."""
    cpu_seconds: int = 0
    """What they took when it was measured (benchmarks/); 0 when nobody measured."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class LockedWheel:
    """One wheel by its bytes: downloaded and hashed here, or published by somebody else."""

    name: str
    sha256: Sha256
    size: int = 0
    """0 where nobody here has had the bytes."""
    url: str = ""
    """Where it was taken from; empty for the package registry."""
    told_by: str = ""
    """Whose publication name and digest were copied from; empty where the bytes were seen here."""
    requires: tuple[str, ...] = ()
    """Requires-Dist of a wheel that no registry has: with it a lock needs no download."""
    requires_python: str = ""

    @property
    def requirement(self) -> str:
        """Requirement that takes exactly this file from its address."""
        return f"{self.name.partition('-')[0]} @ {self.url}#sha256={self.sha256}"


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class TorchWheel(LockedWheel):
    """One locked torch wheel, and the wheels of the same index that belong to it."""

    family: tuple[LockedWheel, ...] = ()
    """What torch requires by a local version (its triton), and torchvision and torchaudio."""

    @property
    def by_url(self) -> tuple[LockedWheel, ...]:
        """Wheels of this torch and its family that no package registry has."""
        return tuple(one for one in (self, *self.family) if one.url)


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class TorchPin:
    """The torch identity that build and run share."""

    version: str
    """As the distribution names itself: 2.11.0, or 2.10.0.dev20251016+cu128."""
    runtime: str
    """As `torch.__version__` says it: 2.11.0+cu130."""
    cuda: str
    source: Literal["registry", "index", "installed"]
    index: str = ""
    """Address of the pages of `channel`, or of the folder above them where there is one."""
    channel: str = ""
    """Folder of the index that holds the builds of one CUDA: `cu134`."""
    git_version: Commit | None = None
    cxx11_abi: bool = True
    wheels: dict[str, TorchWheel] = field(default_factory=dict)
    """By Python tag (`cp312`); empty while the pin is not locked."""
    libraries: dict[str, Sha256] = field(default_factory=dict)
    """Of a torch that is installed, which no wheel was seen of: sha256 by `torch/lib/libc10.so`."""

    @property
    def pages(self) -> tuple[str, ...]:
        """Addresses that list wheels: those of the channel, then the index itself."""
        root = self.index.rstrip("/")
        return (f"{root}/{self.channel}", root) if self.channel else (self.index,)

    @property
    def told_by(self) -> str:
        """Publishers of the digests of wheels that nobody here has had."""
        wheels = [one for torch in self.wheels.values() for one in (torch, *torch.family)]
        return ", ".join(dict.fromkeys(wheel.told_by for wheel in wheels if wheel.told_by))

    @property
    def requirement(self) -> str:
        """Requirement that accepts exactly this torch."""
        return f"torch{'==' if '+' in self.version else '==='}{self.version}"

    @property
    def floor(self) -> str:
        """The oldest torch that a wheel of its stable interface serves: none older was tried."""
        return self.runtime.partition("+")[0]

    @property
    def label(self) -> str:
        """First part of a wheel's label: `cu130torch2.11.0`."""
        public, _, local = self.runtime.partition("+")
        if not re.fullmatch(r"cu\d+|cpu", local):  # a vendor's own mark, or none
            local = f"cu{self.cuda.replace('.', '')}"
        return f"{local}torch{public}"


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class ToolchainPin:
    """The CUDA toolkit: of the registry, every part of one release, or the host's."""

    source: Literal["registry", "host"]
    cuda: str
    """Release: 13.0.2 for the registry, 12.8 for the host."""
    nvcc: str = ""
    """What `nvcc --version` must say: 13.0.88; empty accepts any of the release."""
    requirements: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """First part of the label of a wheel that links no torch: `cu130`."""
        return f"cu{''.join(self.cuda.split('.')[:2])}"


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Stack:
    """One locked combination of torch, toolkit, archs and projects."""

    name: str
    description: str
    python: tuple[PythonVersion, ...]
    archs: tuple[str, ...]
    driver: int
    """The lowest NVIDIA driver branch that runs it."""
    driver_ptx: int = 0
    """The lowest that also takes PTX of this toolkit, which is compiled at run time; 0: any."""
    glibc: str
    """The newest glibc that its wheels may need."""
    build: tuple[str, ...]
    """The projects that are built, in order."""
    torch: TorchPin
    toolchain: ToolchainPin
    projects: dict[str, ProjectPin]
    recipe: Literal[2, 3] = 2
    """How wheels are built, raised when another way makes other bytes; a stack that is older than a
    recipe keeps its own, and with it the keys of its wheels (docs/decisions/0034)."""
    locks: str = ""
    """The folder under constraints/ with the hashed pins; the stack's own name when empty."""
    extends: str = ""
    formerly: str = ""
    """The name under which its wheels were built before: they are on that shelf."""
    note: str = ""
    """What was not seen of this stack, or can no longer be had."""

    def lock(self, constraints: Path, kind: str, project: str = "", python: str = "") -> Path:
        """Return the hashed pins of the `toolchain`, or of a project's `build` or `run` packages.

        `python` is its version: 3.12.
        """
        tag = f"-{project}-py{python.replace('.', '')}" if project else ""
        return constraints / self.locks / f"{kind}{tag}.txt"

    def lock_files(self, constraints: Path) -> tuple[Path, ...]:
        """Return the hashed pins of every environment of the stack, also those that are missing."""
        toolchain = (self.lock(constraints, "toolchain"),)
        return (toolchain if self.toolchain.source == "registry" else ()) + tuple(
            self.lock(constraints, kind, project, python)
            for kind in ("build", "run")
            for project in self.build
            for python in self.python
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """Warnings before hours begin: the note, and wheels whose bytes nobody here has had."""
        told = self.torch.told_by
        unseen = f"its torch is locked as {told} published it: nobody here has had the bytes"
        return tuple(filter(None, (self.note, unseen if told else "")))

    def project(self, name: str) -> ProjectPin:
        """Return the pin of a project that this stack builds, or raise `unknown-project`."""
        if name not in self.build:
            raise self._unknown(name)
        return self.projects[name]

    def torch_requirement(self, pin: ProjectPin) -> str:
        """Return the value of `{torch}` in a project: `torch===2.13.0`, or `torch>=2.13.0`."""
        return f"torch>={self.torch.floor}" if pin.torch == "abi" else self.torch.requirement

    def named(self, distribution: str) -> str:
        """Return the project that makes wheels of this canonical name; raise `unknown-project`."""
        for name in self.build:
            if self.distribution(name) == distribution:
                return name
        raise self._unknown(distribution)

    def distribution(self, project: str) -> str:
        """Return the canonical name of a project's wheels."""
        return self.projects[project].distribution or canonicalize_name(project)

    def _unknown(self, name: str) -> UnknownProjectError:
        return UnknownProjectError(
            "unknown-project",
            f"stack '{self.name}' does not build '{name}'{nearest(name, list(self.build))}",
            where=f"constraints/{self.name}.toml",
            fix=f"one of: {', '.join(self.build)}",
            code=Exit.USAGE,
        )
