"""Computes a build's command, environment and toolchain again, and names of its sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from blackwheel.builder import workspace
from blackwheel.core import isolation
from blackwheel.core.site import Site
from blackwheel.receipts.document import Section
from blackwheel.shelf.verify_pages import Check, compared_all
from blackwheel.stacks import projects
from blackwheel.stacks.request import Request, build_command, build_variables
from blackwheel.toolchain import toolkit
from blackwheel.toolchain.toolkit import Toolchain

NETWORK: Final = {isolation.NAMESPACES: "none", isolation.PROCESSES: "dead proxies only"}
LATER: Final = ("BLACKWHEEL_FIXED",)
"""Variables that builds of kept wheels did not have yet; they reach no byte of a wheel."""


def command_checks(site: Site, held: Mapping[str, Section], request: Request) -> Iterator[Check]:
    """Compare a build's command, environment and compilers with those that the stack decides.

    A leaf that every receipt of a build has is a fault where it is missing; one that only newer
    versions of blackwheel write is open.
    """
    yield from _environment_checks(site, held, request)
    yield from _toolchain_checks(site, held["toolchain"], request)
    pin, sources, mode = request.pin, held["sources"], held["isolation"]["mode"]
    told: list[tuple[str, Any, Any]] = [
        ("source name", sources["project"].get("name"), request.project),
        ("source address", sources["project"].get("uri"), pin.source.url),
        ("torch source", held["torch"].get("source"), request.stack.torch.source),
        ("isolation network", held["isolation"].get("network"), NETWORK[mode]),
        ("environment python", held["environment"]["python"], request.python),
        ("environment name", held["environment"]["name"], request.lock("build", Path()).name),
    ]
    urls = {nested.path: nested.url for nested in pin.nested}
    told += [
        (f"{one['name']} address", one.get("uri"), url)
        for one in sources["nested"]
        if (url := urls.get(one["name"]))
    ]
    # Of a tree from git there is none; why an sdist stood in for it, nobody can ask again.
    reason = sources.get("reason")
    told.append(("reason for an sdist", reason, "" if sources["origin"] == "git" else reason or ""))
    for what, found, expected in told:
        yield from _faults(_held(what, found, expected))
    yield from _part_checks(site, held, request)


def _part_checks(site: Site, held: Mapping[str, Section], request: Request) -> Iterator[Check]:
    """Compare the parts that the wheel is said to hold with those that its variables ask for."""
    known = projects.load(site.patches, request.project)
    parts = [part.limits(held["command"]["variables"]) for part in known.holds]
    if "holds" in held["stack"] or not parts:
        yield from _faults(_held("what it holds", held["stack"].get("holds", []), parts))
    else:
        yield _not_held("what it holds")


def _environment_checks(
    site: Site, held: Mapping[str, Section], request: Request
) -> Iterator[Check]:
    """Compare argument list and variables: all that are not this machine's affair."""
    mode, told = held["isolation"]["mode"], held["command"]["variables"]
    if mode != isolation.NAMESPACES:
        why = f"in mode {mode} command and environment name folders of the machine that built it"
        yield Check(what="environment of the build", ok=None, found=why)
        return
    if "CC" not in told:
        yield _held("variable CC", None, "the path of the host compiler")
        return
    paths = isolation.fixed_paths(mode, site.store)
    compiler, jobs = Path(told["CC"]), held["objects"]["jobs"]
    root = Toolchain(
        source="registry", root=paths.cuda, cuda_version="", nvcc_version="", digest=""
    )
    expected = workspace.build_environment(
        request,
        build_variables(request, jobs=jobs, paths=paths),
        paths=paths,
        mode=mode,
        compiler=compiler,
        toolchain=root,
        pooled=bool(told.get("BLACKWHEEL_EXPECTED")),
    )
    argv = build_command(request, jobs=jobs, paths=paths)
    if "BLACKWHEEL_NVCC" in told:
        inside = paths.root / "work" / "cached"
        expected = workspace.cached_environment(expected, inside, compiler)
    if not any("{jobs}" in word for word in request.pin.command):
        yield from _faults(compared_all("command", held["command"]["argv"], argv))
    queued = {name for name, text in request.pin.variables.items() if "{jobs}" in text}
    for name in sorted({*expected} - queued):
        if name in LATER and name not in told:
            yield _not_held(f"variable {name}")
        else:
            yield from _faults(_held(f"variable {name}", told.get(name), expected[name]))
    strange = sorted({*told} - {*expected})
    if strange:  # what only another version of blackwheel sets is no contradiction
        why = f"set by another version of blackwheel: {', '.join(strange)}"
        yield Check(what="other variables", ok=None, found=why)


def _toolchain_checks(site: Site, told: Section, request: Request) -> Iterator[Check]:
    """Compare the toolchain's packages and digest with the lock that the key names."""
    source = request.stack.toolchain.source
    wanted: dict[str, Any] = {"root": "cuda", "source": source, "parts": []}
    if source == "registry":
        lock = request.stack.lock(site.constraints, "toolchain")
        versions = toolkit.locked_versions(lock)
        wanted["parts"] = [f"{name}=={version}" for name, version in versions.items()]
        wanted["digest"] = toolkit.lock_digest(lock)
    else:
        why = "over the compilers of the machine that built it: nobody computes it again"
        yield Check(what="toolchain digest", ok=None, found=why)
    for name, value in wanted.items():
        yield from _faults(_held(f"toolchain {name}", told.get(name), value))


def _held(what: str, found: Any, expected: Any) -> Check:
    """Compare a leaf with the value computed again; a receipt without it (None) differs."""
    if found == expected and found is not None:
        return Check(what=what, ok=True, found=str(found))
    missing = "the receipt does not hold it"
    return Check(
        what=what,
        ok=False,
        found=missing if found is None else str(found),
        expected=str(expected) or "nothing",
    )


def _not_held(what: str) -> Check:
    why = "not held: a receipt of an earlier version of blackwheel"
    return Check(what=what, ok=None, found=why)


def _faults(check: Check) -> Iterator[Check]:
    if not check.ok:
        yield check
