"""Reports how a build used its cores, its memory and its time (`invoke report`)."""

from __future__ import annotations

from pathlib import Path

from blackwheel.builder import compile_cache, timeline, timeline_page
from blackwheel.builder.workspace import Workshop
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.stacks.ask import requests


def show_report(site: Site, stack: str, *, project: str, python: str, out: str) -> None:
    """Print a report on the last build, and draw it into a file; raise `no-records`."""
    asked, _ = requests(site, stack, only=[project] if project else [], python=python)
    seen = 0
    for request in asked:
        workshop = Workshop(root=site.store / "builds" / request.slug)
        found = timeline.records(workshop.records)
        if not found:
            continue
        seen += 1
        run, used = timeline.drawn(found), compile_cache.figures(workshop.cached)
        title = f"{request.project} {request.pin.version}, {stack}, Python {request.python}"
        lines = timeline.told(run) + ([compile_cache.told(used)] if used else [])
        site.console.result("\n".join([title, *(f"  {line}" for line in lines)]))
        for one in timeline.slowest(run):
            site.console.result(f"    {timeline.row(one)}")
        if out:
            many = len(asked) > 1
            path = Path(out).absolute()
            path = path.with_stem(f"{path.stem}-{request.project}") if many else path
            path.write_text(timeline_page.page(title, lines, run), encoding="utf-8")
            site.console.say(f"{request.project}: drawn in {path}")
    if not seen:
        folder, tags = site.store / "builds" / stack, {one.tag for one in asked}
        other = sorted(path.name for path in folder.glob("*/cp*") if path.name not in tags)
        raise BlackwheelError(
            "no-records",
            f"nothing of {stack} was compiled here for Python {asked[0].python}",
            where=str(folder),
            fix=f"invoke report --stack {stack} --python {_version(other[-1])}"
            if other
            else f"invoke build-wheels --stack {stack}",
            code=Exit.USAGE,
        )


def _version(tag: str) -> str:
    """Return the version of a Python tag: `3.12` of `cp312`."""
    return f"{tag[2]}.{tag[3:]}"
