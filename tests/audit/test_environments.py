"""Environments of the store that a stack's wheel is linked against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toytorch import build_library, make_torch

from blackwheel.audit.environments import stack_exports
from blackwheel.core.console import Console
from blackwheel.core.site import Site
from blackwheel.stacks import loader
from blackwheel.stacks.request import Request

ROOT = Path(__file__).parents[2]
BESIDE = "ffi/lib/libffi_of_kernels.so"


def test_stacks_torch_serves_only_with_the_libraries_that_its_project_is_loaded_beside(
    tmp_path: Path,
) -> None:
    """A wheel that the build found whole was refused by the shelf, which linked it without them."""
    stack = loader.load("quickstart", ROOT / "constraints")
    pin = replace(stack.projects["flash-attn"], beside=(BESIDE,))
    given = replace(stack, projects={**stack.projects, "flash-attn": pin})
    plain, asked = (
        Request(stack=one, project="flash-attn", python="3.12", archs=stack.archs)
        for one in (stack, given)
    )
    site = Site(checkout=ROOT, store=tmp_path, environment={}, console=Console(environment={}))
    folders = tmp_path / "nox" / stack.name
    for name in ("a-build", "b-smoke"):
        made = make_torch(folders / name, version=stack.torch.runtime)
        (made / "pyvenv.cfg").touch()
        (info,) = made.rglob("torch-*.dist-info")  # the registry's names itself without +cu130
        info.rename(info.with_name(f"torch-{stack.torch.version.partition('+')[0]}.dist-info"))
    assert stack_exports(asked, site=site) == (None, []), "neither has it"
    packages = folders / "b-smoke" / "lib" / "python3.12" / "site-packages"
    build_library(packages / BESIDE, 'extern "C" int ffi_call() { return 1; }')
    found, _ = stack_exports(asked, site=site)
    assert found
    assert (found.beside, found.owner("ffi_call")) == (
        (Path(BESIDE).name,),
        Path(BESIDE).name,
    )
    other, _ = stack_exports(plain, site=site)
    assert other
    assert other.owner("ffi_call") == ""
