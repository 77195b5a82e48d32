"""Groups wheels by smoke environment, smokes them, and adds the results to their receipts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packaging.utils import parse_wheel_filename

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pipeline.session_file import SmokeGroup, SmokeOrder
from blackwheel.pytorch import archive, installed
from blackwheel.receipts import beside
from blackwheel.receipts import document as receipts
from blackwheel.shelf import index
from blackwheel.smoke import environment as together
from blackwheel.smoke import loading, smoke
from blackwheel.smoke.checks import runner
from blackwheel.stacks import loader, projects, pythons, records
from blackwheel.stacks.pythons import Python
from blackwheel.stacks.records import python_tag


def resolve(
    site: Site,
    stack_name: str,
    python: str,
    wheels: Sequence[Path] = (),
    *,
    require_gpu: bool = False,
) -> SmokeOrder:
    """Resolve the environments of a smoke session: of given wheels, else of those on the shelf.

    Without a stack it takes the shelf of every stack, without `python` every Python of them. Raises
    `nothing-to-smoke` for an empty shelf: a check of nothing is no check.
    """
    names = [stack_name] if stack_name else loader.names(site.constraints)
    stacks = {name: loader.load(name, site.constraints) for name in names}
    found: list[SmokeGroup] = []
    for name, stack in stacks.items():
        taken = list(wheels) or [wheel.path for wheel in index.shelved(site.wheels / name)]
        chosen = pythons.choose(stack, python, environment=site.environment)
        found += groups(site, stack, chosen, taken, only=bool(python))
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
    return SmokeOrder(
        stack=stack_name, python=python, groups=tuple(found), stacks=stacks, require_gpu=require_gpu
    )


def groups(
    site: Site, stack: records.Stack, running: Python, wheels: Sequence[Path], *, only: bool
) -> list[SmokeGroup]:
    """Return the environments of a stack's wheels: each alone, then the newest of each project.

    Groups of another Python than the `running` one are for a session of its own; `only` leaves them
    out.
    """
    found = []
    by_python: dict[str, list[Path]] = {}
    for wheel in wheels:
        for version in _pythons_of(wheel, stack):
            by_python.setdefault(version, []).append(wheel)
    for version, members in sorted(by_python.items()):
        here = version == running.version
        if only and not here:
            continue
        where = running.where if here else _located(site, version)
        newest = _newest(members)
        for group in [[wheel] for wheel in members] + ([newest] if len(newest) > 1 else []):
            found.append(
                SmokeGroup(
                    stack=stack.name,
                    python=version,
                    where=where,
                    here=here,
                    wheels=tuple(group),
                    locks=_locks(site, stack, group, version),
                )
            )
    return found


def _located(site: Site, version: str) -> str:
    """Return the path of another Python; its version where there is none, for nox to say so."""
    python = Python(version=version, where=version)
    try:
        return str(pythons.located(python, uv=site.uv, environment=site.environment))
    except pythons.PythonMissingError:
        return version


def _newest(wheels: Sequence[Path]) -> list[Path]:
    """Return the newest wheel of each project: two of one cannot be installed together."""
    found: dict[str, Path] = {}
    for wheel in sorted(wheels, key=lambda wheel: parse_wheel_filename(wheel.name)[1]):
        found[parse_wheel_filename(wheel.name)[0]] = wheel
    return sorted(found.values())


def link_torch(site: Site, order: SmokeOrder, group: SmokeGroup, environment: Path) -> None:
    """Link the torch of an interpreter into a group's environment where its stack says so."""
    python = Python(version=group.python, where=group.where)
    installed.show_torch(site, order.stacks[group.stack], python, environment.absolute())


def smoke_installed(site: Site, order: SmokeOrder, group: SmokeGroup, environment: Path) -> None:
    """Smoke the wheels that lie in one environment together, and add it to receipts not shelved."""
    stack, wheels = order.stacks[group.stack], group.wheels
    link_torch(site, order, group, environment)
    variables = runner.variables_of(site.environment, str(environment))
    driver = loading.stand_in(site, stack)
    smoked = [
        smoke.smoke(
            wheel,
            project_of(stack, wheel),
            stack=stack,
            patches=site.patches,
            environment=environment.absolute(),
            together=tuple(sorted(wheel.name for wheel in wheels)),
            variables=variables,
            console=site.console,
            store=site.store,
            driver=driver,
            require_gpu=order.require_gpu,
        )
        for wheel in wheels
    ]
    found = together.examine(
        {wheel: projects.load(site.patches, project_of(stack, wheel)) for wheel in wheels},
        environment=environment.absolute(),
        uv=site.uv,
        variables=variables,
        own_torch=stack.torch.source != "installed",
        gpu=any(seen.gpu for seen in smoked),
    )
    site.console.say(f"{stack.name}: {len(wheels)} of its wheels in one environment: {found}")
    for seen in smoked:
        receipt = beside.receipt_path(seen.wheel)
        if receipt.exists() and not receipt.is_relative_to(site.wheels):
            document = receipts.load(receipt)
            section = {**seen.section(), "environment": found.section()}
            receipts.write(receipt, receipts.with_section(document, "smoke", section))


def project_of(stack: records.Stack, wheel: Path) -> str:
    """Return the project of a wheel file."""
    return stack.named(parse_wheel_filename(wheel.name)[0])


def _pythons_of(wheel: Path, stack: records.Stack) -> list[str]:
    """The Pythons of a stack that a wheel serves: one, or with the stable ABI it and all newer."""
    tag = next(iter(parse_wheel_filename(wheel.name)[3]))
    if tag.abi not in ("abi3", "none"):
        return [f"{tag.interpreter[2]}.{tag.interpreter[3:]}"]
    lowest = int(tag.interpreter[3:] or 0)
    return [version for version in stack.python if int(version.partition(".")[2]) >= lowest]


def _locks(
    site: Site, stack: records.Stack, wheels: Sequence[Path], version: str
) -> tuple[Path, ...]:
    """Return the hashed pins of the environment that these wheels run in, their torch obtained."""
    tag, named = python_tag(version), {project_of(stack, wheel) for wheel in wheels}
    locks = [stack.lock(site.constraints, "run", project, version) for project in named]
    kept = archive.archive(site.store, site.environment, site.console)
    return tuple(sorted(archive.installable(stack, tag, lock, kept) for lock in locks))
