"""Runs one stage of the chain alone: `clone`, `apply-patches` and `refresh-patches`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from blackwheel.core.site import Site
from blackwheel.core.units import counted
from blackwheel.pipeline import chain
from blackwheel.sources import rebase
from blackwheel.sources.series import series_of
from blackwheel.stacks.ask import requests


def clone(site: Site, stack: str, only: Sequence[str]) -> None:
    """Fetch the sources of a stack's projects."""
    for request in requests(site, stack, only=only)[0]:
        tree = chain.source_tree(site, request)
        site.console.result(f"{request.project} {tree.named} ({tree.origin}): {tree.root}")


def apply_patches(site: Site, stack: str, only: Sequence[str]) -> None:
    """Fetch and patch the sources of a stack's projects."""
    for request in requests(site, stack, only=only)[0]:
        tree = chain.patched_tree(site, request, series_of(site, request))
        site.console.result(
            f"{request.project}: {counted(len(tree.patches), 'patch', 'patches')}: {tree.root}"
        )


def refresh_patches(site: Site, stack: str, project: str) -> None:
    """Rebase a project's series onto the source its pin names."""
    (request,), _ = requests(site, stack, only=[project])
    tree = chain.source_tree(site, request)
    series = series_of(site, request)
    today = datetime.now(UTC).date().isoformat()
    rebase.refresh(site, series, old=tree, new=tree, folder=series.folder, date=today)
