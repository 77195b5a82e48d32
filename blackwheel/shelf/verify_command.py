"""Computes a build's command, environment and toolchain again, and names of its sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from blackwheel.builder import workspace
from blackwheel.core import isolation
from blackwheel.core.site import Site
from blackwheel.receipts.document import Section
from blackwheel.shelf.verify_pages import Check, compared, compared_all
from blackwheel.stacks import projects
from blackwheel.stacks.request import Request, build_command, build_variables
from blackwheel.toolchain import toolkit
from blackwheel.toolchain.toolkit import Toolchain

NETWORK: Final = {isolation.NAMESPACES: "none", isolation.PROCESSES: "dead proxies only"}


def command_checks(site: Site, held: Mapping[str, Section], request: Request) -> Iterator[Check]:
    """Compare a build's command, environment and compilers with those that the stack decides."""
    yield from _environment_checks(site, held, request)
    yield from _toolchain_checks(site, held["toolchain"], request)
    pin, sources, source = request.pin, held["sources"], request.stack.torch.source
    told: list[tuple[str, Any, Any]] = [
        ("source name", sources["project"].get("name"), request.project),
        ("source address", sources["project"].get("uri", pin.source.url), pin.source.url),
        ("torch source", held["torch"].get("source", source), source),
        ("isolation network", held["isolation"]["network"], NETWORK[held["isolation"]["mode"]]),
        ("environment python", held["environment"]["python"], request.python),
        ("environment name", held["environment"]["name"], request.lock("build", Path()).name),
    ]
    urls = {nested.path: nested.url for nested in pin.nested}
    told += [
        (f"{one['name']} address", one.get("uri", url), url)
        for one in sources["nested"]
        if (url := urls.get(one["name"]))
    ]
    if sources["origin"] == "git":
        told.append(("reason for an sdist", sources.get("reason", ""), ""))
    if "holds" in held["stack"]:
        known = projects.load(site.patches, request.project)
        holds = [part.limits(held["command"]["variables"]) for part in known.holds]
        told.append(("what it holds", held["stack"]["holds"], holds))
    for what, found, expected in told:
        if found != expected:
            yield Check(what=what, ok=False, found=str(found), expected=str(expected))


def _environment_checks(
    site: Site, held: Mapping[str, Section], request: Request
) -> Iterator[Check]:
    """Compare argument list and variables: all that are not this machine's affair."""
    mode, told = held["isolation"]["mode"], held["command"]["variables"]
    if mode != isolation.NAMESPACES or "CC" not in told:  # its paths are one machine's own
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
    for name in sorted({*told, *expected} - queued):
        # A variable that only another version of blackwheel sets is no contradiction.
        if name in told and name in expected:
            yield from _faults(compared(f"variable {name}", told[name], expected[name]))
    strange = sorted({*told} - {*expected})
    if strange:
        why = f"set by another version of blackwheel: {', '.join(strange)}"
        yield Check(what="other variables", ok=None, found=why)


def _toolchain_checks(site: Site, told: Section, request: Request) -> Iterator[Check]:
    """Compare the toolchain's packages and digest with the lock that the key names."""
    wanted: dict[str, Any] = {"root": "cuda", "source": request.stack.toolchain.source}
    lock = site.constraints / request.stack.locks / "toolchain.txt"
    registry = request.stack.toolchain.source == "registry"
    if registry and lock.is_file() and "parts" in told:
        versions = toolkit.locked_versions(lock)
        wanted["parts"] = [f"{name}=={version}" for name, version in versions.items()]
        wanted["digest"] = toolkit.lock_digest(lock)
    for name, value in wanted.items():
        if name in told and told[name] != value:
            yield Check(
                what=f"toolchain {name}", ok=False, found=str(told[name]), expected=str(value)
            )


def _faults(check: Check) -> Iterator[Check]:
    if not check.ok:
        yield check
