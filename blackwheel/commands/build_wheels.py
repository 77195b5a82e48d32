"""Decides which wheels `invoke build-wheels` must build; imports the chain only if one is due."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.core.units import size
from blackwheel.pipeline.todo import adopted, work
from blackwheel.receipts import document
from blackwheel.shelf import index
from blackwheel.stacks.ask import for_pythons
from blackwheel.stacks.records import Stack, python_tag

if TYPE_CHECKING:
    from blackwheel.receipts.keys import Signer


def build_wheels(site: Site, stack: str, **words: Any) -> int:
    """Run the whole chain for a stack's projects; return the exit code.

    Where a pinned torch cannot be had any more, offer to move it, and begin again.
    """
    try:
        return _build_wheels(site, stack, **words)
    except BlackwheelError as lost:
        from blackwheel.pins import offer

        if not offer.move_first(site, stack, lost):
            raise
    return build_wheels(site, stack, **words)


def _build_wheels(
    site: Site,
    stack: str,
    *,
    only: Sequence[str] = (),
    arch: str = "",
    jobs: int = 0,
    python: str = "",
    again: bool = False,
    keep_going: bool = False,
    lock: bool = False,
    replace: bool = False,
    without: Sequence[str] = (),
    sign: str = "",
) -> int:
    ask = partial(for_pythons, site, stack, python, only=only, arch=arch, without=without)
    asked = ask()
    if asked[0][0].stack.torch.source == "index":
        from blackwheel.pins import offer
        from blackwheel.pipeline import run
        from blackwheel.stacks import refusals

        for request, _ in asked:  # before anything is fetched
            refusals.refuse(request, site.patches)
        ready = partial(run.require_machine, site, asked)
        if offer.lock_first(site, asked[0][0].stack, lock=lock, ready=ready):
            asked = ask()
        run.require_locked(site, asked[0][0].stack)
    todo = [adopted(site, work(site, request, chosen, again=again)) for request, chosen in asked]
    done = [item.shelved for item in todo if item.shelved and not item.reasons]
    pending = [item for item in todo if item.reasons]
    if not pending:
        site.console.say(f"{stack}: nothing changed since these wheels were built")
        _summary(site, done, asked[0][0].stack)
        return Exit.OK
    from blackwheel.pipeline import run

    signer = _signer(site, sign)
    code, shelved = run.build_pending(
        site,
        stack,
        pending,
        jobs=jobs,
        again=again,
        keep_going=keep_going,
        replace_shelved=replace,
    )
    if signer:
        from blackwheel.shelf import signing

        for wheel in shelved:
            site.console.result(signing.sign_wheel(site, wheel.path, signer))
    if shelved or not code:
        _summary(site, [*done, *shelved], asked[0][0].stack)
    return code


def _signer(site: Site, spec: str) -> Signer | None:
    """Return who signs, before hours begin; raise what `keys.signer` raises."""
    if not spec:
        return None
    from blackwheel.receipts import keys

    return keys.signer(spec, site.environment)


def _summary(site: Site, wheels: Sequence[index.ShelvedWheel], stack: Stack) -> None:
    """End with what was built, what is in it, and the lines that install it."""
    files: dict[str, list[str]] = {}
    for wheel in wheels:
        held = document.sections(document.load(wheel.receipt))
        libraries = "\n         ".join(_archs(library) for library in held["audit"]["libraries"])
        slug = held["stack"]["key"]["slug"]
        site.console.summary(
            f"wheel    {_short(wheel.path)}\n"
            f"size     {size(wheel.size)}\n"
            f"sha256   {wheel.sha256}\n"
            f"kernels  {libraries}\n"
            f"smoke    {held['smoke']['device']}\n"
            f"receipt  {_short(wheel.receipt)}\n"
            f"log      {site.store / 'builds' / slug / 'build.log'}\n"
        )
        files.setdefault(held["environment"]["python"], []).append(f"'{wheel.path.absolute()}'")
    for python, names in files.items():
        version = python if len(files) > 1 else "3"
        torch = stack.torch.wheels.get(python_tag(python))
        words = [f"'{one.requirement}'" for one in (torch.by_url if torch else ())] + names
        site.console.summary(
            "install, in your own environment:\n"
            f"  pip: python{version} -m pip install {' '.join(words)}\n"
            f"  uv:  uv pip install {' '.join(words)}\n"
            f"or in a new one: invoke install --stack {stack.name} --python {python} --into FOLDER"
        )


def _archs(library: Any) -> str:
    counts = ", ".join(f"{count} {arch}" for arch, count in library["kernels_by_arch"])
    return f"{library['path']}: {counts or 'host code only'}"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
