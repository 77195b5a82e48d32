"""Groups wheels by smoke environment, smokes them, and adds the results to their receipts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.utils import parse_wheel_filename

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pytorch import archive, installed
from blackwheel.receipts import beside
from blackwheel.receipts import document as receipts
from blackwheel.shelf import index
from blackwheel.smoke import environment as together
from blackwheel.smoke import loading, smoke
from blackwheel.smoke.checks import runner
from blackwheel.stacks import loader, pythons, records


def groups(
    site: Site, stack_name: str, python: str, wheels: Sequence[Path] = ()
) -> list[dict[str, Any]]:
    """Return the environments of a smoke session: one for each wheel, then one for the whole set.

    Without wheels those on the shelf are taken, without a stack those of every stack, without
    `python` every Python of them: one that does not run here is one row, for a session of its own.
    Raises `nothing-to-smoke` for an empty shelf: a check of nothing is no check.
    """
    names = [stack_name] if stack_name else loader.names(site.constraints)
    found: list[dict[str, Any]] = []
    for name in names:
        stack = loader.load(name, site.constraints)
        taken = list(wheels) or [wheel.path for wheel in index.shelved(site.wheels / name)]
        kept = archive.archive(site.store, site.environment, site.console)
        running = pythons.choose(stack, python, environment=site.environment).version
        by_python: dict[str, list[Path]] = {}
        for wheel in taken:
            for version in _pythons_of(wheel, stack):
                by_python.setdefault(version, []).append(wheel)
        for version, members in sorted(by_python.items()):
            if python and version != running:
                continue  # else two Pythons' sessions would start each other for ever
            sets = [members]
            if version == running:
                newest = _newest(members)
                sets = [[wheel] for wheel in members] + ([newest] if len(newest) > 1 else [])
            for group in sets:
                tag = f"cp{version.replace('.', '')}"
                known = {_lock(site, stack, wheel, version) for wheel in group}
                locks = {archive.installable(stack, tag, lock, kept) for lock in known}
                found.append(
                    {
                        "stack": name,
                        "python": version,
                        "here": version == running,
                        "wheels": [str(wheel) for wheel in group],
                        "locks": sorted(map(str, locks)),
                    }
                )
    if not found:
        raise BlackwheelError(
            "nothing-to-smoke",
            f"no wheel for Python {python} is among those given"
            if wheels
            else f"no wheel is on the shelf of {' or '.join(names)}",
            where="wheels/",
            fix=f"invoke build-wheels --stack {names[0]}",
            code=Exit.SMOKE,
        )
    return found


def _newest(wheels: Sequence[Path]) -> list[Path]:
    """Return the newest wheel of each project: two of one cannot be installed together."""
    found: dict[str, Path] = {}
    for wheel in sorted(wheels, key=lambda wheel: parse_wheel_filename(wheel.name)[1]):
        found[parse_wheel_filename(wheel.name)[0]] = wheel
    return sorted(found.values())


def smoke_installed(
    site: Site,
    stack_name: str,
    wheels: Sequence[Path],
    environment: Path,
    *,
    python: str = "",
    require_gpu: bool = False,
) -> None:
    """Smoke the wheels that lie in one environment together, and add it to receipts not shelved."""
    stack = loader.load(stack_name, site.constraints)
    chosen = pythons.choose(stack, python, environment=site.environment)
    installed.show_torch(site, stack, chosen, environment.absolute())
    variables = runner.variables_of(site.environment, str(environment))
    driver = loading.stand_in(
        stack, constraints=site.constraints, store=site.store, environment=site.environment
    )
    smoked = [
        smoke.smoke(
            wheel,
            project_of(stack, wheel),
            stack=stack,
            environment=environment.absolute(),
            together=tuple(sorted(wheel.name for wheel in wheels)),
            variables=variables,
            console=site.console,
            store=site.store,
            driver=driver,
            require_gpu=require_gpu,
        )
        for wheel in wheels
    ]
    found = together.examine(
        wheels,
        environment=environment.absolute(),
        uv=site.uv,
        variables=variables,
        own_torch=stack.torch.source != "installed",
        gpu=any(seen.gpu for seen in smoked),
    )
    site.console.say(f"{stack_name}: {len(wheels)} of its wheels in one environment: {found}")
    for seen in smoked:
        receipt = beside.receipt_path(seen.wheel)
        if receipt.exists() and not receipt.is_relative_to(site.wheels):
            document = receipts.load(receipt)
            section = {**seen.section(), "environment": found.section()}
            receipts.write(receipt, receipts.with_section(document, "smoke", section))


def project_of(stack: records.Stack, wheel: Path) -> str:
    """Return the project of a wheel file."""
    name = str(parse_wheel_filename(wheel.name)[0])
    stack.project(name)
    return name


def _pythons_of(wheel: Path, stack: records.Stack) -> list[str]:
    """The Pythons of a stack that a wheel serves: one, or with the stable ABI it and all newer."""
    tag = next(iter(parse_wheel_filename(wheel.name)[3]))
    if tag.abi not in ("abi3", "none"):
        return [f"{tag.interpreter[2]}.{tag.interpreter[3:]}"]
    lowest = int(tag.interpreter[3:] or 0)
    return [version for version in stack.python if int(version.partition(".")[2]) >= lowest]


def _lock(site: Site, stack: records.Stack, wheel: Path, version: str) -> Path:
    name = f"run-{project_of(stack, wheel)}-py{version.replace('.', '')}.txt"
    return site.constraints / stack.locks / name
