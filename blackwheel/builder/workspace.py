"""Lays out the folders of one build, and the isolated command that runs in them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from blackwheel.builder import compile_cache, requirements
from blackwheel.builder.compile_cache import Cache
from blackwheel.builder.inside import inputs, launcher, memory
from blackwheel.builder.plan import SOURCE_DATE_EPOCH, BuildPlan
from blackwheel.core import archs, isolation
from blackwheel.pytorch import identity
from blackwheel.sources import patch
from blackwheel.stacks.request import Request, build_command
from blackwheel.toolchain.host_compiler import Compiler
from blackwheel.toolchain.toolkit import Toolchain, toolchain_variables

_STARTER: Final = """\
import sys
sys.path.append(__file__.rpartition("/")[0])
from inside.launcher import main
sys.exit(main(sys.argv))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """The folders of one build tree in the store; a stopped build continues in them."""

    root: Path

    @property
    def src(self) -> Path:
        """Patched tree, updated in place, with the upstream build's own output."""
        return self.root / "src"

    @property
    def manifest(self) -> Path:
        """List of the source files in it."""
        return self.root / "manifest.json"

    @property
    def work(self) -> Path:
        """Records, compiler wrappers and the finished wheel."""
        return self.root / "work"

    @property
    def tmp(self) -> Path:
        """Folder of the compilers' temporary files."""
        return self.root / "tmp"

    @property
    def records(self) -> Path:
        """File to which the launcher appends a line per object."""
        return self.work / "objects.jsonl"

    @property
    def cached(self) -> Path:
        """Programs that ask the compile cache, and its statistics."""
        return self.work / "cached"

    @property
    def heard(self) -> Path:
        """File of the hosts that the build tried to reach."""
        return self.work / "network.txt"

    @property
    def expected(self) -> Path:
        """File that the launcher reads: pools, and expected memory and time of each object."""
        return self.work / "pool.txt"


def prepare(plan: BuildPlan, workshop: Workshop, compiler: Compiler) -> None:
    """Update the source by content, remove stale output that would reach the wheel, fill bin/."""
    for folder in (workshop.src, workshop.work, workshop.tmp):
        folder.mkdir(parents=True, exist_ok=True)
    patch.sync(plan.tree, workshop.src, manifest=workshop.manifest)
    request = plan.request
    requirements.set_requirements(workshop.src, request.stack, request.project, request.python)
    requirements.shorten_readme(workshop.src, request.stack, request.project)
    for stale in plan.known.build.stale:
        for folder in (workshop.src / plan.folder).glob(stale):
            shutil.rmtree(folder)
    shutil.rmtree(workshop.work / "wheel", ignore_errors=True)
    shutil.rmtree(workshop.cached, ignore_errors=True)
    workshop.heard.unlink(missing_ok=True)
    for child in workshop.tmp.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()
    wrappers = workshop.work / "bin"
    wrappers.mkdir(exist_ok=True)
    lay_out_launcher(wrappers)
    # torch asks `$CXX --version` and refuses a command of two words: a file of that name serves.
    wrapper = wrappers / compiler.path.name
    wrapper.write_text(
        '#!/bin/sh\nexec "$BLACKWHEEL_PYTHON" -I -S "$(dirname "$0")/launcher.py"'
        f' {compiler.path} "$@"\n',
        encoding="utf-8",
    )
    wrapper.chmod(0o755)


def lay_out_launcher(folder: Path) -> Path:
    """Copy the launcher into a folder; return the script for `python -I -S`.

    It imports the rest, which Python then compiles once and not for each object.
    """
    package = folder / "inside"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    for module in (inputs, launcher, memory):
        shutil.copy(str(module.__file__), package)
    script = folder / "launcher.py"
    script.write_text(_STARTER, encoding="utf-8")
    return script


def command(
    plan: BuildPlan,
    workshop: Workshop,
    store: Path,
    compiler: Compiler,
    mode: str,
) -> tuple[isolation.Spec, dict[str, str]]:
    """Return the isolated command and its whole environment, which inherits nothing."""
    request, paths = plan.request, isolation.fixed_paths(mode, store)
    toolchain = plan.toolchain
    binds = {
        "cuda": toolchain.root.resolve(),
        "env": plan.environment,
        "src": workshop.src,
        "work": workshop.work,
        "tmp": workshop.tmp,
    }
    variables = build_environment(
        request,
        plan.variables,
        paths=paths,
        mode=mode,
        compiler=compiler.path,
        toolchain=toolchain,
        pooled=bool(plan.pools),
    )
    spec = isolation.Spec(
        mode=mode,
        argv=build_command(request, jobs=plan.queued, paths=paths),
        root=paths.root,
        binds=binds,
        cwd=paths.src / plan.folder,
        keep=(*_kept(plan.environment, compiler), *(path for path, _ in plan.pools)),
        heard=paths.work / workshop.heard.name,
        lock=isolation.fixed_lock(store) if mode == isolation.PROCESSES else None,
        label=f"the build of {request.project} ({request.stack.name}, Python {request.python})",
    )
    return spec, variables


def build_environment(
    request: Request,
    variables: Mapping[str, str],
    *,
    paths: isolation.Paths,
    mode: str,
    compiler: Path,
    toolchain: Toolchain,
    pooled: bool,
) -> dict[str, str]:
    """Return the whole environment of a build without a compile cache; a function of its inputs.

    `variables` are the project's own, filled in; `pooled` tells that objects wait for memory.
    """
    python, cuda = paths.env / "bin" / "python", replace(toolchain, root=paths.cuda)
    return {
        **toolchain_variables(cuda, path=f"{paths.env}/bin:/usr/bin:/bin"),
        **variables,
        "HOME": str(paths.work / "home"),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TMPDIR": str(paths.tmp),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
        "CC": str(compiler),
        "CXX": str(paths.work / "bin" / compiler.name),
        "NVCC_CCBIN": str(compiler),
        **_flags(request.stack.recipe, paths.root, paths.work / "bin" / compiler.name),
        "PYTORCH_NVCC": f"{python} -I -S {paths.work}/bin/launcher.py {cuda.nvcc}",
        "BLACKWHEEL_PYTHON": str(python),
        "BLACKWHEEL_FIXED": f"{paths.env}:{paths.cuda}",
        "BLACKWHEEL_RECORDS": str(paths.work / "objects.jsonl"),
        "BLACKWHEEL_EXPECTED": str(paths.work / "pool.txt") if pooled else "",
        "BLACKWHEEL_SOURCE_TIME": str(SOURCE_DATE_EPOCH) if mode == isolation.NAMESPACES else "",
        "BLACKWHEEL_FOLDER": str(paths.src) if request.pin.one_folder else "",
        "BLACKWHEEL_NATIVE": ",".join(archs.parse(arch).sm for arch in request.archs),
        "BLACKWHEEL_OLDER": ",".join(name for one in request.pin.contract for name in one.older),
    }


def _flags(recipe: int, root: Path, compiler: Path) -> dict[str, str]:
    """Return what compilers are told so that no place of this machine reaches the wheel.

    Debug sections name the folder of the builder's Python: none are made, and none that a build
    system asks for are linked. Messages of torch's checks name headers: below `/blackwheel`,
    wherever the build's folders lie (docs/decisions/0034-same-bytes-on-every-machine.md).
    """
    # Without -objtemp the names of nvcc's temporaries, with process numbers, reach the wheel.
    if recipe < 3:
        return {"NVCC_APPEND_FLAGS": "-objtemp"}
    mapped = f"-ffile-prefix-map={root}=/blackwheel"
    # setuptools takes these instead of Python's own, which bring -g and, with some, an RPATH.
    host = f"-DNDEBUG -fwrapv -O3 -g0 {mapped}"
    return {
        "CFLAGS": host,
        "CXXFLAGS": host,
        "LDSHARED": f"{compiler} -shared",
        "LDCXXSHARED": f"{compiler} -shared",
        "LDFLAGS": "-Wl,--strip-debug",
        "NVCC_APPEND_FLAGS": f"-objtemp -Xcompiler={mapped}",
    }


def cached_environment(
    variables: Mapping[str, str], inside: Path, compiler: Path
) -> dict[str, str]:
    """Return the environment of a build whose compilers run behind the cache in `inside`."""
    return {
        **variables,
        **compile_cache.client_variables(inside),
        "NVCC_CCBIN": str(inside / compiler.name),
        # Not in command lines: a tree that was begun without the cache is up to date with it.
        "BLACKWHEEL_NVCC": str(inside / "nvcc"),
    }


def through_cache(  # noqa: PLR0917  each is another record
    cached: Cache,
    spec: isolation.Spec,
    variables: dict[str, str],
    workshop: Workshop,
    plan: BuildPlan,
    compiler: Compiler,
) -> tuple[isolation.Spec, dict[str, str], dict[str, str]]:
    """Return the build with the cache before its compilers, and the server's own variables."""
    inside = spec.root / "work" / "cached"
    cuda = spec.root / "cuda"
    compile_cache.lay_out(
        cached,
        workshop.cached,
        inside=inside,
        cuda=cuda,
        real=plan.toolchain.root.resolve(),
        cxx=compiler.path,
    )
    cached.folder.mkdir(parents=True, exist_ok=True)
    secret = compile_cache.server_variables(cached, inside)
    clients = compile_cache.client_variables(inside)
    changed = cached_environment(variables, inside, compiler.path)
    wrapper = workshop.work / "bin" / compiler.path.name
    text = wrapper.read_text(encoding="utf-8")
    plain, asking = (
        f'launcher.py" {path} ' for path in (compiler.path, inside / compiler.path.name)
    )
    wrapper.write_text(text.replace(plain, asking), encoding="utf-8")
    return (
        replace(
            spec,
            argv=compile_cache.closing(spec.argv, inside),
            binds={**spec.binds, "cache": cached.folder},
            keep=(*spec.keep, *cached.keep),
            companion=(str(inside / "sccache"),),
            companion_socket=compile_cache.socket(inside),
            companion_only=tuple(name for name in secret if name not in clients),
        ),
        changed,
        secret,
    )


def _kept(environment: Path, compiler: Compiler) -> tuple[Path, ...]:
    """Return what must stay visible should it lie under /tmp: Pythons and the compiler."""
    base = (environment / "bin" / "python").resolve().parent.parent
    linked = environment / identity.INSTALLED / identity.VERSION_FILE
    other = (linked.resolve().parent.parent,) if linked.is_file() else ()
    # Console scripts of the environment name its own place, not the one that the build sees.
    return (base, environment, compiler.path.parent.parent, *other)
