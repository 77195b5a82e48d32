"""Moves one pin of a stack: a nightly torch, one of the registry, or a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.core.http import Patience
from blackwheel.core.site import Site
from blackwheel.pins import move_torch, project_report, registry_torch
from blackwheel.pytorch import identity
from blackwheel.stacks import loader


def pin(
    site: Site,
    what: str,
    version: str,
    *,
    stack: str,
    channel: str = "",
    archive_in: str = "",
    python: str = "",
    commits: Sequence[str] = (),
    as_version: str = "",
    dry_run: bool = False,
    objects: bool = False,
    patience: Patience | None = None,
) -> None:
    """Move one pin of a stack, and show the change; raise `cannot-pin` where that is impossible."""
    loaded = loader.load(stack, site.constraints)
    known = ["torch", *loaded.build]
    if what not in known:
        raise BlackwheelError(
            "cannot-pin",
            f"'{what}' is no pin that can be moved{nearest(what, known)}",
            where="invoke pin",
            fix=f"one of: {', '.join(known)}",
            code=Exit.USAGE,
        )
    of_torch = {"--channel": channel, "--archive": archive_in, "--python": python}
    of_project = {"--commit": commits, "--as-version": as_version, "--objects": objects}
    registry = what == "torch" and loaded.torch.source == "registry"
    if registry:
        of_project |= {"--channel": channel, "--archive": archive_in, "--python": python}
    else:
        of_project |= {"--dry-run": dry_run}
    _refuse_options(what, of_project if what == "torch" else of_torch)
    if what != "torch":
        project_report.pin_project(
            site,
            stack,
            what,
            version,
            commits=commits,
            as_version=as_version,
            dry_run=dry_run,
            objects=objects,
        )
        return
    if registry and version != identity.INSTALLED:
        move_torch.require_own(loaded, site.constraints)
        registry_torch.pin_registry(site, stack, version, dry_run=dry_run)
        return
    if version == identity.INSTALLED:
        move_torch.pin_installed(site, stack, python)
        return
    named = Path(archive_in).absolute() if archive_in else None
    move_torch.pin_torch(site, stack, version, channel=channel, archive_in=named, patience=patience)


def _refuse_options(what: str, others: Mapping[str, object]) -> None:
    """Raise `bad-option` for what this pin would ignore: `--dry-run` of all things."""
    if given := [name for name, value in others.items() if value]:
        raise BlackwheelError(
            "bad-option",
            f"{given[0]} means nothing for {what}",
            where="invoke pin",
            fix="leave it out; invoke --help pin tells what is for which",
            code=Exit.USAGE,
        )
