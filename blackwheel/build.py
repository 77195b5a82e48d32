"""The isolated, network-less build → BuiltWheel."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from blackwheel import (
    archs,
    cache,
    isolation,
    launcher,
    machine,
    patches,
    pool,
    process,
    requires,
    torchpin,
)
from blackwheel.cache import Cache
from blackwheel.compiler import Compiler
from blackwheel.console import Console, duration, size
from blackwheel.errors import BlackwheelError, Exit
from blackwheel.plan import SOURCE_DATE_EPOCH, BuildPlan
from blackwheel.toolchain import toolchain_variables

_NINJA_STEP: Final = re.compile(r"^\[(\d+)/(\d+)\] ")


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltWheel:
    """A wheel fresh from its build, and what the build cost."""

    plan: BuildPlan
    path: Path
    sha256: str
    size: int
    objects: tuple[dict[str, Any], ...]
    """What the launcher recorded of each object that is in the wheel, also from earlier runs."""
    seconds: float
    """Wall seconds of the last run."""
    cpu_seconds: float
    peak_bytes: int
    """The largest resident set of one compiler process."""
    isolation: str
    argv: tuple[str, ...]
    """The upstream build's command line, at the fixed paths."""
    variables: Mapping[str, str]
    """Its whole environment."""
    log: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """The folders of one build tree in the store; they outlive a run, so that it can continue."""

    root: Path

    @property
    def src(self) -> Path:
        """The patched tree, updated in place, with the upstream build's own output."""
        return self.root / "src"

    @property
    def work(self) -> Path:
        """Records, compiler wrappers and the finished wheel."""
        return self.root / "work"

    @property
    def tmp(self) -> Path:
        """TMPDIR of the compilers."""
        return self.root / "tmp"

    @property
    def records(self) -> Path:
        """What the launcher appends to."""
        return self.work / "objects.jsonl"

    @property
    def cached(self) -> Path:
        """The programs that ask the compile cache, and what it said."""
        return self.work / "cached"

    @property
    def expected(self) -> Path:
        """What the launcher reads: pools, and what each object is expected to take."""
        return self.work / "pool.txt"


def build(
    plan: BuildPlan,
    *,
    store: Path,
    compiler: Compiler,
    mode: str,
    console: Console,
    cached: Cache | None = None,
) -> BuiltWheel:
    """Compile and pack one wheel; raise `build-failed` with the failing object's own words.

    Stopped at any moment, the next call continues with the objects that are already compiled.
    """
    request = plan.request
    workshop = Workshop(root=store / "builds" / request.slug)
    log = workshop.root / "build.log"
    packages = torchpin.site_packages(plan.environment)
    torch = torchpin.seen(packages, store=store)
    torchpin.check(torch, request.stack.torch, where=str(plan.environment))
    prepare(plan, workshop, compiler)
    known = pool.history(store, request.project)
    cores = max(plan.jobs, machine.read_machine().cores)
    workshop.expected.write_text(pool.settings(plan.pools, cores, known), encoding="utf-8")
    Path(f"{workshop.expected}.failed").unlink(missing_ok=True)
    log.write_text("", encoding="utf-8")
    spec, variables = command(plan, workshop, store, compiler, mode)
    argv = spec.argv
    secret: dict[str, str] = {}
    if cached:
        spec, variables, secret = _through_cache(cached, spec, variables, workshop, plan, compiler)
    isolated = isolation.isolated_command(spec, workshop.root / "isolation.json")
    with console.stage(request.project, "compile") as stage:
        progress = _Progress(plan, stage, compiled=len(_recorded(workshop)))
        done = process.run(
            isolated,
            environment={**variables, **secret},
            cwd=workshop.root,
            log=log,
            on_line=progress.line,
        )
        if done.code != 0:
            raise failure(plan, log, done.code)
        stage.update(progress.total, progress.total)
        recorded = _recorded(workshop)
        cpu = sum(line["cpu_seconds"] for line in recorded)
        stage.conclude(f"{len(recorded)} objects, {duration(cpu)} of CPU")
        seconds = stage.elapsed
    seen = cache.figures(workshop.cached)
    if seen:
        console.say(f"{request.project}: {cache.told(seen)}")
    wheel = _the_wheel(plan, workshop, log)
    content = wheel.read_bytes()
    console.say(f"{request.project}: packed {wheel.name}, {size(len(content))}")
    return BuiltWheel(
        plan=plan,
        path=wheel,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        objects=recorded,
        seconds=seconds,
        cpu_seconds=cpu,
        peak_bytes=max((line["peak_bytes"] for line in recorded), default=0),
        isolation=mode,
        argv=argv,
        variables=variables,
        log=log,
    )


def prepare(plan: BuildPlan, workshop: Workshop, compiler: Compiler) -> None:
    """Bring the source up to date by content, clear what must not reach the wheel, lay out bin/."""
    for folder in (workshop.src, workshop.work, workshop.tmp):
        folder.mkdir(parents=True, exist_ok=True)
    patches.sync(plan.tree, workshop.src, manifest=workshop.root / "manifest.json")
    requires.set_requirements(workshop.src, plan.request.stack, plan.request.project)
    requires.shorten_readme(workshop.src, plan.request.stack, plan.request.project)
    # A file that a patch has taken out would live on in setuptools' own copies.
    for stale in (*workshop.src.glob("build/lib*"), *workshop.src.glob("build/bdist*")):
        shutil.rmtree(stale)
    shutil.rmtree(workshop.work / "wheel", ignore_errors=True)
    shutil.rmtree(workshop.cached, ignore_errors=True)
    for child in workshop.tmp.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()
    wrappers = workshop.work / "bin"
    wrappers.mkdir(exist_ok=True)
    shutil.copyfile(launcher.__file__, wrappers / "launcher.py")
    # torch asks `$CXX --version` and refuses a command of two words: a file of that name serves.
    wrapper = wrappers / compiler.path.name
    wrapper.write_text(
        '#!/bin/sh\nexec "$BLACKWHEEL_PYTHON" -I -S "$(dirname "$0")/launcher.py"'
        f' {compiler.path} "$@"\n',
        encoding="utf-8",
    )
    wrapper.chmod(0o755)


def command(
    plan: BuildPlan,
    workshop: Workshop,
    store: Path,
    compiler: Compiler,
    mode: str,
) -> tuple[isolation.Spec, dict[str, str]]:
    """Return the isolated command and its whole environment: nothing else gets in."""
    request, paths = plan.request, isolation.fixed_paths(mode, store)
    python = paths.env / "bin" / "python"
    toolchain = plan.toolchain
    binds = {
        "cuda": toolchain.root.resolve(),
        "env": plan.environment,
        "src": workshop.src,
        "work": workshop.work,
        "tmp": workshop.tmp,
    }
    cuda = replace(toolchain, root=paths.cuda)
    variables = {
        **toolchain_variables(cuda, path=f"{paths.env}/bin:/usr/bin:/bin"),
        **plan.variables,
        "HOME": str(paths.work / "home"),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TMPDIR": str(paths.tmp),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
        "CC": str(compiler.path),
        "CXX": str(paths.work / "bin" / compiler.path.name),
        "NVCC_CCBIN": str(compiler.path),
        # Without it the names of nvcc's temporaries, with process numbers in them, reach the wheel.
        "NVCC_APPEND_FLAGS": "-objtemp",
        "PYTORCH_NVCC": f"{python} -I -S {paths.work}/bin/launcher.py {cuda.nvcc}",
        "BLACKWHEEL_PYTHON": str(python),
        "BLACKWHEEL_RECORDS": str(paths.work / "objects.jsonl"),
        "BLACKWHEEL_EXPECTED": str(paths.work / "pool.txt") if plan.pools else "",
        "BLACKWHEEL_SOURCE_TIME": str(SOURCE_DATE_EPOCH) if mode == isolation.NAMESPACES else "",
        "BLACKWHEEL_NATIVE": ",".join(archs.parse(arch).sm for arch in request.archs),
        "BLACKWHEEL_OLDER": ",".join(name for one in request.pin.contract for name in one.older),
    }
    spec = isolation.Spec(
        mode=mode,
        argv=(
            *(str(python), "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"),
            *("--outdir", str(paths.work / "wheel"), str(paths.src)),
        ),
        root=paths.root,
        binds=binds,
        cwd=paths.src,
        keep=(*_kept(plan.environment, compiler), *(path for path, _ in plan.pools)),
        lock=isolation.fixed_lock(store) if mode == isolation.PROCESSES else None,
        label=f"the build of {request.project} ({request.stack.name}, Python {request.python})",
    )
    return spec, variables


def _through_cache(  # noqa: PLR0917  each is another record
    cached: Cache,
    spec: isolation.Spec,
    variables: dict[str, str],
    workshop: Workshop,
    plan: BuildPlan,
    compiler: Compiler,
) -> tuple[isolation.Spec, dict[str, str], dict[str, str]]:
    """Return the same build with the cache before its compilers, and what only its server gets."""
    inside = spec.root / "work" / "cached"
    cuda, nvcc = spec.root / "cuda", spec.root / "cuda" / "bin" / "nvcc"
    cache.lay_out(
        cached,
        workshop.cached,
        inside=inside,
        cuda=cuda,
        real=plan.toolchain.root.resolve(),
        cxx=compiler.path,
    )
    cached.folder.mkdir(parents=True, exist_ok=True)
    secret = cache.server_variables(cached, inside)
    clients = cache.client_variables(inside)
    changed = {
        **variables,
        **clients,
        "NVCC_CCBIN": str(inside / compiler.path.name),
        "PYTORCH_NVCC": variables["PYTORCH_NVCC"].replace(str(nvcc), str(inside / "nvcc")),
    }
    wrapper = workshop.work / "bin" / compiler.path.name
    text = wrapper.read_text(encoding="utf-8")
    plain, asking = (
        f'launcher.py" {path} ' for path in (compiler.path, inside / compiler.path.name)
    )
    wrapper.write_text(text.replace(plain, asking), encoding="utf-8")
    return (
        replace(
            spec,
            argv=cache.closing(spec.argv, inside),
            binds={**spec.binds, "cache": cached.folder},
            keep=(*spec.keep, *cached.keep),
            companion=(str(inside / "sccache"),),
            companion_socket=cache.socket(inside),
            companion_only=tuple(name for name in secret if name not in clients),
        ),
        changed,
        secret,
    )


def _kept(environment: Path, compiler: Compiler) -> tuple[Path, ...]:
    """Return what must stay visible should it lie under /tmp: the base Python and the compiler."""
    base = (environment / "bin" / "python").resolve().parent.parent
    linked = environment / torchpin.INSTALLED / torchpin.VERSION_FILE
    other = (linked.resolve().parent.parent,) if linked.is_file() else ()
    return (base, compiler.path.parent.parent, *other)


class _Progress:
    """Reads ninja's own counter out of the build's output."""

    def __init__(self, plan: BuildPlan, stage: Any, *, compiled: int) -> None:
        pin = plan.request.pin
        self.total = pin.objects
        self._each = pin.cpu_seconds / pin.objects if pin.objects else 0.0
        self._jobs = plan.jobs
        self._stage = stage
        if self.total > compiled:  # until ninja has said what it finds to do
            self._show(compiled, self.total - compiled)

    def line(self, line: str) -> None:
        """Take one line of output."""
        found = _NINJA_STEP.match(line)
        if not found:
            return
        done, steps = int(found[1]), int(found[2])
        self.total = max(self.total, steps)
        self._show(self.total - steps + done, steps - done)

    def _show(self, done: int, remaining: int) -> None:
        left = remaining * self._each / self._jobs if self._each else None
        self._stage.update(done, self.total, f"{self._jobs} job{'s' * (self._jobs > 1)}", left=left)


def _recorded(workshop: Workshop) -> tuple[dict[str, Any], ...]:
    """Return the last successful record of each object that lies in the build tree."""
    if not workshop.records.exists():
        return ()
    latest: dict[str, dict[str, Any]] = {}
    for text in workshop.records.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a line that a power cut left half-written
            line = json.loads(text)
            if line["exit"] == 0:
                latest[line["object"]] = line
    there = {path.name for path in workshop.src.glob("build/temp*/**/*.o")}
    kept = [line for line in latest.values() if Path(line["object"]).name in there]
    return tuple(sorted(kept, key=lambda line: str(line["object"])))


def failure(plan: BuildPlan, log: Path, code: int) -> BlackwheelError:
    """Tell from the log why a build failed: the failing object's own words, not the last lines."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    refused = [line for line in lines if line.startswith("blackwheel: refused ")]
    killed = [line for line in lines if line.startswith("blackwheel: killed ")]
    starts = [number for number, line in enumerate(lines) if line.startswith("FAILED: ")]
    block = lines[starts[0] :] if starts else _without_frames(lines)[-process.TAIL_LINES :]
    ends = [n for n, line in enumerate(block) if n and re.match(r"\[\d+/\d+\] |ninja: ", line)]
    block = block[: ends[0] if ends else None][: process.TAIL_LINES]
    words = "\n".join(line[:400] for line in block)
    stopped = code in (130, 143)
    if killed and not stopped:
        return _out_of_memory(plan, killed[0].removeprefix("blackwheel: killed "), log)
    series = f"{plan.request.project}/{plan.request.pin.version}/"
    return BlackwheelError(
        "build-stopped" if stopped else "wrong-arch" if refused else "build-failed",
        f"{plan.request.project} {plan.request.pin.version} "
        + (
            "was stopped; the objects already compiled are kept"
            if stopped
            else f"{refused[0].removeprefix('blackwheel: ')}"
            if refused
            else f"ended with exit code {code}\n{words}"
        ),
        where=str(log),
        fix=f"correct the patch or the variable that hands the archs to nvcc: patches/{series}"
        if refused
        else "run the same command again: it continues with the objects already compiled",
        code=Exit.STOPPED if stopped else Exit.BUILD,
    )


def _out_of_memory(plan: BuildPlan, source: str, log: Path) -> BlackwheelError:
    """Say what a person would look for in the kernel's log: no `-j` is to blame any more."""
    name = source.partition(": ")[0]
    return BlackwheelError(
        "out-of-memory",
        f"{plan.request.project} {plan.request.pin.version}: {Path(name).name}"
        " was killed twice, the second time with no other object beside it",
        where=str(log),
        fix="close other programs or raise the memory limit, then run the same command again:"
        " it continues with the objects already compiled",
        code=Exit.BUILD,
    )


def _without_frames(lines: list[str]) -> list[str]:
    """Drop the frames of Python's tracebacks: the exception's own line says what a person needs."""
    kept, inside = [], False
    for line in lines:
        inside = line.startswith("Traceback (") or (inside and line.startswith(" "))
        if not inside:
            kept.append(line)
    return kept


def _the_wheel(plan: BuildPlan, workshop: Workshop, log: Path) -> Path:
    wheels = sorted((workshop.work / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        raise BlackwheelError(
            "not-one-wheel",
            f"the build of {plan.request.project} left {len(wheels)} wheels",
            where=str(log),
            fix="read the log; a build must end with exactly one",
            code=Exit.BUILD,
        )
    return wheels[0]
