"""Provides a CUDA_HOME: assembled from the package registry, or the host's, checked.

A registry toolchain is `store/toolchains/<digest>/`: `cuda/` is the CUDA_HOME, `packages/` holds
the metadata and licences of what was installed, `toolchain.json` is written last. Every link in
`cuda/` is relative and stays inside, so the folder may be moved, or mounted elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from packaging.version import Version

from blackwheel.core import recorded
from blackwheel.core.console import Console, Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.process import capture, run
from blackwheel.core.settled import Digests
from blackwheel.stacks.locks import lock_text, pins
from blackwheel.stacks.records import ToolchainPin
from blackwheel.toolchain.host_compiler import host_compiler
from blackwheel.toolchain.layout import (
    LAYOUT,
    NEEDED,
    faults,
    inventory,
    lay_out,
    other_than_recorded,
)
from blackwheel.toolchain.releases import minor

_COMPILER: Final = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolchain:
    """A CUDA_HOME with its release, nvcc version and digest."""

    source: Literal["registry", "host"]
    root: Path
    """CUDA_HOME. After a bind mount: `dataclasses.replace(toolchain, root=…)`."""
    cuda_version: str
    """Release: 13.0.2 of the registry, 12.8 of a host (nvcc does not say more)."""
    nvcc_version: str
    digest: str
    """sha256: of the lock's pins and the layout, or of the host's compilers."""
    parts: tuple[str, ...] = ()
    """`nvidia-cuda-nvcc==13.0.88` and the like; none for a host."""

    @property
    def nvcc(self) -> Path:
        """Path of the compiler driver."""
        return self.root / "bin" / "nvcc"


def toolchain_variables(toolchain: Toolchain, *, path: str) -> dict[str, str]:
    """Return the variables by which torch, CMake and nvcc find this toolchain alone.

    `path` is the PATH to prefix. LIBRARY_PATH lets a bare `-lcuda` link: only nvcc looks into
    `stubs` by itself.
    """
    root = str(toolchain.root)
    return {
        "CUDA_HOME": root,
        "CUDA_PATH": root,
        "CUDAToolkit_ROOT": root,
        "CUDACXX": str(toolchain.nvcc),
        "LIBRARY_PATH": f"{root}/lib64/stubs",
        "PATH": f"{root}/bin:{path}",
    }


def locked_versions(lock: Path) -> dict[str, str]:
    """Read a lock's pins, name → version; raise `no-lock-file` or `mixed-release`."""
    versions = {one.name: one.version for one in pins(lock_text(lock))}
    strays = _strays(versions)
    if strays:
        raise BlackwheelError(
            "mixed-release",
            f"not of one release with cuda-toolkit {versions.get('cuda-toolkit', '(missing)')}: "
            + ", ".join(strays),
            where=str(lock),
            fix="name every part as an extra of cuda-toolkit in the stack, then: nox -s lock\n"
            "nvidia-nvjitlink floats even so: name its version as well (nvidia-nvjitlink==)",
            code=Exit.CONFIG,
        )
    return versions


def _strays(versions: dict[str, str]) -> list[str]:
    """Parts of another release than cuda-toolkit's, or missing.

    A part that no extra names floats to the newest minor. The mathematical libraries and CCCL (3.3
    in CUDA 13.4) count their own versions, so only parts that follow the toolkit's are compared.
    """
    release = minor(versions.get("cuda-toolkit", "")) + "."
    nvcc = versions.get("nvidia-cuda-nvcc")
    return [
        f"{name} {version}"
        for name, version in sorted((dict.fromkeys(_COMPILER, "(missing)") | versions).items())
        if name.startswith(("nvidia-cuda-", "nvidia-nv"))
        and name != "nvidia-cuda-cccl"
        and not (version.startswith(release) and (name not in _COMPILER or version == nvcc))
    ]


def lock_digest(lock: Path) -> str:
    """Return the sha256 over a lock's packages and the layout; comments do not count."""
    lines = (line.strip() for line in lock_text(lock).splitlines())
    pins = "\n".join(line for line in lines if line and not line.startswith("#"))
    return hashlib.sha256(f"layout {LAYOUT}\n{pins}\n".encode()).hexdigest()


def assemble(
    lock: Path,
    *,
    store: Path,
    uv: Path,
    environment: Mapping[str, str],
    console: Console | None = None,
) -> Toolchain:
    """Install the lock into the store as a CUDA_HOME, or find it whole there; about 2 GB.

    `environment` is what uv and the host compiler run in. Raises `toolchain-install`,
    `changed-package` and `toolchain-incomplete`, and what `host_compiler` raises.
    """
    console = console or Quiet()
    toolchain = _locked(lock, store)
    digest, home = toolchain.digest, toolchain.root.parent
    if home.is_dir() and not faults(home, digest, store):
        return toolchain
    compiler = host_compiler(environment, cuda=toolchain.cuda_version)
    with held(store, f"toolchain-{home.name}", project="toolchain", console=console):
        if home.is_dir():
            other = faults(home, digest, store)
            if not other:
                return toolchain
            console.say(f"toolchain: changed files: {', '.join(other[:5])}: it is installed anew")
        fresh = home.with_suffix(".new")
        for leftover in (fresh, home):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        _install(lock, fresh / "packages", uv=uv, environment=environment)
        if changed := other_than_recorded(fresh, Digests(fresh, None)):
            raise recorded.refusal(changed, where=str(fresh), folder=fresh)
        lay_out(fresh, compiler=compiler.path, environment=environment)
        _check_nvcc(fresh / "cuda", toolchain.nvcc_version, environment)
        marker = {"digest": digest, "files": inventory(fresh)}
        (fresh / "toolchain.json").write_text(json.dumps(marker), encoding="utf-8")
        fresh.replace(home)
    return toolchain


def _locked(lock: Path, store: Path) -> Toolchain:
    """Return the toolchain of a lock, as it is or would be in the store."""
    versions, digest = locked_versions(lock), lock_digest(lock)
    return Toolchain(
        source="registry",
        root=store / "toolchains" / digest[:16] / "cuda",
        cuda_version=versions["cuda-toolkit"],
        nvcc_version=versions["nvidia-cuda-nvcc"],
        digest=digest,
        parts=tuple(f"{name}=={version}" for name, version in versions.items()),
    )


def present(
    pin: ToolchainPin, *, lock: Path, store: Path, environment: Mapping[str, str]
) -> Toolchain | None:
    """Return the toolchain of a stack if it is here, whole; nothing is installed.

    Raises what `toolchain_for` raises for a host's toolkit or another lock.
    """
    if pin.source == "host":
        return _of_host(pin, environment)
    _require_same(pin, lock)
    toolchain = _locked(lock, store)
    home = toolchain.root.parent
    whole = home.is_dir() and not faults(home, toolchain.digest, store)
    return toolchain if whole else None


def _install(
    lock: Path,
    target: Path,
    *,
    uv: Path,
    environment: Mapping[str, str],
) -> None:
    """Put the lock's packages under `target`: hard links into uv's cache where it can be.

    Never symbolic links, whatever UV_LINK_MODE says: a moved or mounted toolchain would lose them.
    """
    log = target.parent / "install.log"
    argv = [str(uv), "pip", "install", "--python", sys.executable, "--target", str(target)]
    argv += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--link-mode", "hardlink"]
    argv += ["--requirement", str(lock)]
    done = run(argv, environment=environment, cwd=target.parent, log=log)
    if done.code != 0:
        raise BlackwheelError(
            "toolchain-install",
            f"the toolchain's packages could not be installed\n{done.stdout}",
            where=str(lock),
            fix="check the network and the package index that uv is configured for: invoke doctor",
            code=Exit.MACHINE,
        )


def _nvcc_version(root: Path, environment: Mapping[str, str]) -> str:
    """Return `13.0.88`, or what nvcc printed instead."""
    done = capture([str(root / "bin" / "nvcc"), "--version"], environment=environment, cwd=root)
    found = re.search(r"\bV(\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else done.stdout.strip()


def _check_nvcc(root: Path, wanted: str, environment: Mapping[str, str]) -> None:
    seen = _nvcc_version(root, environment)
    if seen != wanted:
        raise BlackwheelError(
            "wrong-nvcc",
            f"nvcc of the locked packages says {seen}, the lock says {wanted}",
            where=str(root / "bin" / "nvcc"),
            fix="nox -s lock",
            code=Exit.CONFIG,
        )


def host_candidates(
    cuda: str, environment: Mapping[str, str], *, system: Path = Path("/usr/local")
) -> tuple[Path, ...]:
    """Return places of a host toolkit of release `cuda`; BLACKWHEEL_CUDA_HOME alone if set.

    PATH is not asked: an nvcc found there says nothing about what the stack wants.
    """
    if explicit := environment.get("BLACKWHEEL_CUDA_HOME"):
        return (Path(explicit),)
    named = environment.get("CUDA_HOME")
    release = minor(cuda)
    return (*([Path(named)] if named else []), system / f"cuda-{release}")


def host_toolchain(
    candidates: tuple[Path, ...], *, cuda: str, nvcc: str = "", environment: Mapping[str, str]
) -> Toolchain:
    """Take the first candidate whose nvcc is of release `cuda`, or exactly `nvcc` when given.

    Raises `no-host-toolkit` and `wrong-nvcc`.
    """
    release = minor(cuda)
    seen = []
    for root in (path.resolve() for path in candidates):
        if not (root / "bin" / "nvcc").is_file():
            continue
        version = _nvcc_version(root, environment)
        if version == nvcc or (not nvcc and version.startswith(f"{release}.")):
            return Toolchain(
                source="host",
                root=root,
                cuda_version=release,
                nvcc_version=version,
                digest=_tools_digest(root),
            )
        seen.append(f"{root} has nvcc {version}")
    wanted = f"nvcc {nvcc or release}"
    fix = (
        f"install CUDA toolkit {release}, and name it: "
        f"export BLACKWHEEL_CUDA_HOME=/usr/local/cuda-{release}"
    )
    if seen:
        raise BlackwheelError(
            "wrong-nvcc",
            "\n".join([f"the stack wants {wanted}", *seen]),
            where=str(candidates[0]),
            fix=fix,
            code=Exit.MACHINE,
        )
    raise BlackwheelError(
        "no-host-toolkit",
        f"the stack wants {wanted} of this machine, and there is none",
        where=", ".join(str(path) for path in candidates),
        fix=fix,
        code=Exit.MACHINE,
    )


def _tools_digest(root: Path) -> str:
    """sha256 over the programs of a toolkit that make code; a missing one counts as such."""
    total = hashlib.sha256()
    for name in (name for name in NEEDED if name.startswith(("bin/", "nvvm/"))):
        path = root / name
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()


def toolchain_for(
    pin: ToolchainPin,
    *,
    lock: Path,
    store: Path,
    uv: Path,
    environment: Mapping[str, str],
    console: Console | None = None,
) -> Toolchain:
    """Return the toolchain that a stack asks for; raise `stale-lock` when the lock differs."""
    if pin.source == "host":
        return _of_host(pin, environment)
    _require_same(pin, lock)
    return assemble(lock, store=store, uv=uv, environment=environment, console=console)


def _of_host(pin: ToolchainPin, environment: Mapping[str, str]) -> Toolchain:
    where = host_candidates(pin.cuda, environment)
    return host_toolchain(where, cuda=pin.cuda, nvcc=pin.nvcc, environment=environment)


def _require_same(pin: ToolchainPin, lock: Path) -> None:
    """Raise `stale-lock` where a lock is of another release than the stack's."""
    versions = locked_versions(lock)
    locked = (versions["cuda-toolkit"], versions["nvidia-cuda-nvcc"])
    same = Version(locked[0]) == Version(pin.cuda)  # 13.0.3.0 is 13.0.3
    if not same or locked[1] != (pin.nvcc or locked[1]):
        raise BlackwheelError(
            "stale-lock",
            f"the lock holds CUDA {locked[0]} with nvcc {locked[1]}, "
            f"the stack wants CUDA {pin.cuda} with nvcc {pin.nvcc or 'any'}",
            where=str(lock),
            fix="nox -s lock",
            code=Exit.CONFIG,
        )
