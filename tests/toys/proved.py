"""A checkout whose shelf holds two small wheels with whole receipts, as their builds write them."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wheel.wheelfile import WheelFile

from blackwheel import __version__
from blackwheel.audit import audit
from blackwheel.builder import workspace
from blackwheel.core import archs, isolation
from blackwheel.core.console import Console
from blackwheel.core.site import Site
from blackwheel.pytorch import guard
from blackwheel.receipts import document as receipts
from blackwheel.shelf import index
from blackwheel.sources.series import patch_digests, series_of
from blackwheel.stacks import key as keys
from blackwheel.stacks import loader
from blackwheel.stacks.request import Request, build_command, build_variables
from blackwheel.toolchain import toolkit
from blackwheel.toolchain.toolkit import Toolchain

PYTHON = f"3.{sys.version_info.minor}"
TAG = f"cp3{sys.version_info.minor}"
LABEL = "cu130torch2.11.0.sm120a"
GIT = "70d99e998b4955e0049d13a98d77ae1b14db1f45"
MOMENT = datetime(2025, 10, 20, 12, 30, tzinfo=UTC)
NOT_RUN = {"12.0a": "not run: no GPU was found"}
RUN = {"12.0a": "12 kernels agree with their reference"}
PROJECTS = ("toy", "other")
STACK = f"""\
description = "toys"
python = ["{PYTHON}"]
archs = ["12.0a"]
driver = 580
glibc = "2.28"
build = ["toy", "other"]
[torch]
version = "2.11.0"
runtime = "2.11.0+cu130"
cuda = "13.0"
git_version = "{GIT}"
source = "registry"
[toolchain]
source = "registry"
cuda = "13.0.2"
nvcc = "13.0.88"
"""
TOOLCHAIN = "cuda-toolkit==13.0.2\n" + "".join(
    f"nvidia-{name}==13.0.88\n" for name in ("cuda-nvcc", "nvvm", "cuda-crt")
)
PROJECT = """\
[projects.NAME]
version = "1.0"
revision = 1
modules = ["NAME"]
source = { url = "https://upstream.invalid/NAME", commit = "COMMIT", tree = "TREE" }
[projects.NAME.variables]
MAX_JOBS = "{jobs}"
[[projects.NAME.contract]]
library = "*"
kernels = 0
""".replace("COMMIT", "c" * 40).replace("TREE", "7" * 40)


def site_of(root: Path, environment: Mapping[str, str] | None = None) -> Site:
    variables = {"PATH": "/usr/bin:/bin", "NO_COLOR": "1", "COLUMNS": "200", "HOME": str(root)}
    variables |= environment or {}
    console = Console(environment=variables, out=io.StringIO(), err=io.StringIO())
    return Site(checkout=root, store=root / "store", environment=variables, console=console)


def said(site: Site) -> str:
    """All that a command printed."""
    streams = (site.console._out, site.console._err)
    return "".join(s.getvalue() for s in streams if isinstance(s, io.StringIO))


def new_checkout(root: Path) -> Site:
    """A checkout with the stack `toy` of two projects, and nothing on its shelf."""
    locks = root / "constraints" / "toy"
    locks.mkdir(parents=True)
    text = STACK + "".join(PROJECT.replace("NAME", name) for name in PROJECTS)
    (root / "constraints/toy.toml").write_text(text)
    (locks / "toolchain.txt").write_text(TOOLCHAIN)
    for name in PROJECTS:
        lock = f"torch==2.11.0 \\\n    --hash=sha256:{'a' * 64}\n"
        (locks / f"build-{name}-py{PYTHON.replace('.', '')}.txt").write_text(lock)
        (locks / f"run-{name}-py{PYTHON.replace('.', '')}.txt").write_text("# nothing\n")
        (root / "patches" / name / "1.0").mkdir(parents=True)
        (root / "patches" / name / "1.0" / "series").write_text("")
    return site_of(root)


def library(folder: Path, text: str = "int toy(void) { return 1; }\n") -> bytes:
    (folder / "toy.c").write_text(text)
    subprocess.run(["gcc", "-shared", "-o", "toy.so", "toy.c"], cwd=folder, check=True)
    return (folder / "toy.so").read_bytes()


def make_wheel(
    folder: Path,
    name: str,
    code: bytes,
    *,
    revision: int = 1,
    module: str = "",
    padding: int = 0,
    requires: str = "torch===2.11.0",
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    version = f"1.0+{LABEL}.{revision}"
    path = folder / f"{name}-{version}-{TAG}-{TAG}-linux_x86_64.whl"
    info = f"{name}-{version}.dist-info"
    with WheelFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", module)
        wheel.writestr(f"{name}/_c.so", code)
        if padding:
            wheel.writestr(f"{name}/padding", b"".join(_block(n) for n in range(padding >> 5)))
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nRequires-Python: >=3.11\n"
            f"Requires-Dist: {requires}\n",
        )
        tag = f"Tag: {TAG}-{TAG}-linux_x86_64"
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\n{tag}\n")
    return path


def plain_wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel of Python files that requires nothing, as a stand-in for a package of others."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with WheelFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{name}-{version}.dist-info/METADATA", head)
        said = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{name}-{version}.dist-info/WHEEL", said)
    return path


def add_file(wheel: Path, name: str, text: str) -> None:
    """Add a file to a wheel behind its RECORD's back."""
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(name, text)


def _block(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def shelve(
    site: Site, wheel: Path, *, kernels: Mapping[str, str] | None = None, without: str = ""
) -> index.ShelvedWheel:
    """Put a wheel on the shelf with the receipt that its build would write, less one stage."""
    held = sections(site, wheel, kernels or RUN)
    held.pop(without, None)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    remember_smoke(site, wheel, kernels or RUN)
    document = receipts.receipt(wheel.name, digest, held)
    return index.shelve(wheel, document, site.wheels / "toy", now=MOMENT)


def remember_smoke(site: Site, wheel: Path, kernels: Mapping[str, str]) -> None:
    """Write the record that smoke keeps in the store."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    path = site.store / "smoke" / f"{wheel.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"kernels": dict(kernels), "sha256": digest}))


def built_sections(site: Site, request: Request, wheel: Path) -> dict[str, Any]:
    """The sections in which a build tells its torch, toolchain, isolation and command."""
    paths = isolation.fixed_paths(isolation.NAMESPACES, site.store)
    lock = request.stack.lock(site.constraints, "toolchain")
    made = Toolchain(
        source="registry",
        root=Path("cuda"),
        cuda_version="13.0.2",
        nvcc_version="13.0.88",
        digest=toolkit.lock_digest(lock),
        parts=tuple(f"{name}=={found}" for name, found in toolkit.locked_versions(lock).items()),
    )
    variables = workspace.build_environment(
        request,
        build_variables(request, jobs=2, paths=paths),
        paths=paths,
        mode=isolation.NAMESPACES,
        compiler=Path("/usr/bin/g++"),
        toolchain=made,
        pooled=False,
    )
    argv = build_command(request, jobs=2, paths=paths)
    return {
        "torch": {
            "version": "2.11.0",
            "runtime": "2.11.0+cu130",
            "cuda": "13.0",
            "git_version": GIT,
            "cxx11_abi": True,
            "wheel_sha256": ["a" * 64],
            "source": "registry",
            "built_for": guard.built_for(wheel),
        },
        "toolchain": {**asdict(made), "root": "cuda", "parts": list(made.parts)},
        "isolation": {"mode": "namespaces", "network": "none"},
        "command": {"argv": list(argv), "variables": variables},
    }


def sections(site: Site, wheel: Path, kernels: Mapping[str, str]) -> dict[str, Any]:
    """What the stages of a build write."""
    project = wheel.name.split("-")[0]
    stack = loader.load("toy", site.constraints)
    request = Request(stack=stack, project=project, python=PYTHON, archs=stack.archs)
    series = series_of(site, request)
    key = keys.key(
        request, patches=patch_digests(series), constraints=site.constraints, isolation="namespaces"
    )
    report = audit.inspect(wheel, archs=[archs.parse("12.0a")], expected=audit.expectation(request))
    return {
        "stack": {
            "name": "toy",
            "project": project,
            "version": "1.0",
            "archs": ["12.0a"],
            "blackwheel": __version__,
            "key": {"digest": key.digest, "slug": request.slug, "parts": dict(key.parts)},
        },
        "sources": {
            "origin": "git",
            "reason": "",
            "project": {
                "name": project,
                "uri": f"https://upstream.invalid/{project}",
                "digest": {"gitCommit": "c" * 40, "gitTree": "7" * 40},
            },
            "nested": [],
        },
        "patches": {"series": [], "tree": "7" * 40},
        **built_sections(site, request, wheel),
        "environment": {
            "name": f"build-{project}-py{PYTHON.replace('.', '')}.txt",
            "python": PYTHON,
            "digest": {"sha256": key.part("locks.build")},
        },
        "run": receipts.run_section(started=MOMENT, finished=MOMENT),
        "objects": {"count": 1, "jobs": 2},
        "audit": {"libraries": json.loads(json.dumps([asdict(one) for one in report.libraries]))},
        "smoke": {"device": "a GPU", "kernels": dict(kernels)},
    }
