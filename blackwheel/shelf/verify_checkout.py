"""Compares a receipt with the stack of this checkout that the wheel is said to be of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from blackwheel.core import files, isolation
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.pytorch import identity
from blackwheel.receipts.document import Section
from blackwheel.shelf import verify_pages
from blackwheel.shelf.verify_pages import Check, compared, compared_all
from blackwheel.sources.series import patch_digests, series_of
from blackwheel.stacks import key as keys
from blackwheel.stacks import loader
from blackwheel.stacks.key import Key
from blackwheel.stacks.loader import UnknownStackError
from blackwheel.stacks.records import Stack, UnknownProjectError
from blackwheel.stacks.request import Request, build_variables, left_out


def checkout_checks(
    site: Site,
    wheel: Path,
    held: Mapping[str, Section],
    parts: Mapping[str, str],
    *,
    asked: Request | None = None,
    key: Key | None = None,
    trusted: bool = False,
) -> tuple[Request | None, list[Check]]:
    """Hold a receipt to the request that it is `asked` for, else to the stack of its shelf or name.

    A stack, project or request that this checkout cannot tell is a fault: an unknown one proves
    nothing. Only a wheel of an earlier label, for which nobody asks, is not held to a stack that
    has moved on, and a signed one whose signer is `trusted` may be of any stack. `key` is that of
    a build whose inputs may have changed since.
    """
    try:
        stack = asked.stack if asked else _stack(site, wheel, held)
        told = held["stack"]["name"]
        if told not in (stack.name, stack.formerly):
            return None, [compared("stack", told, stack.name)]
        request = _request(stack, held, parts)
        if other := _other_request(held, parts, request, asked):
            return None, [other]
        wanted = key or keys.key(
            request,
            patches=patch_digests(series_of(site, request)),
            constraints=site.constraints,
            isolation=parts["isolation"],
        )
    except BlackwheelError as error:
        found = f"{error.name}: {'; '.join(error.fact.splitlines())}"
        expected = "a stack and project of this checkout, with all that its key is made from"
        check = Check(what="checkout", ok=False, found=found, expected=expected)
        unknown = isinstance(error, UnknownStackError | UnknownProjectError)
        if trusted and unknown and asked is None:
            check = Check(what="checkout", ok=None, found=f"{found}: its signer knows it")
        return None, [check]
    now = dict(wanted.parts)
    checks = [
        compared(f"checkout {part}", parts.get(part, "none"), now.get(part, "none"))
        for part in sorted({*parts, *now})
        if parts.get(part) != now.get(part)
    ]
    checks += _stack_checks(held["stack"], request, wanted)
    if not checks:
        checks = [Check(what="checkout", ok=True, found=f"key {wanted.digest}")]
        checks += _command_checks(site, held, request, parts)
    return request, checks


def _stack(site: Site, wheel: Path, held: Mapping[str, Section]) -> Stack:
    """Return the stack whose shelf the wheel lies on, else the one that its receipt names."""
    shelf = wheel.parent
    on_shelf = verify_pages.is_shelf(shelf) and shelf.name in loader.names(site.constraints)
    return loader.load(shelf.name if on_shelf else held["stack"]["name"], site.constraints)


def _request(stack: Stack, held: Mapping[str, Section], parts: Mapping[str, str]) -> Request:
    project = held["stack"]["project"]
    stack.project(project)
    return Request(
        stack=stack,
        project=project,
        python=parts["python"],
        archs=tuple(parts["archs"].split(";")),
        without=left_out(parts),
    )


def _other_request(
    held: Mapping[str, Section], parts: Mapping[str, str], request: Request, asked: Request | None
) -> Check | None:
    """Return the check that a wheel of another request, or of an earlier label, does not pass."""
    built = f"{held['stack']['version']}+{parts['label']}"
    if asked and request != asked:
        return compared("request", _shown(request), _shown(asked))
    if request.version == built:
        return None
    if asked:
        return compared("label", built, request.version)
    why = f"stack {request.stack.name} has moved on to {request.version}"
    return Check(what="checkout", ok=None, found=why)


def _shown(request: Request) -> str:
    return f"{request.slug} {request.version}"


def _stack_checks(told: Section, request: Request, key: Key) -> Iterator[Check]:
    """Return the faults of what the section `stack` says besides its key."""
    slug = told["key"]["slug"]
    if slug not in request.slugs:
        yield compared("slug", slug, request.slug)
    if told["key"]["digest"] != key.digest:
        yield compared("checkout key", told["key"]["digest"], key.digest)


def _command_checks(
    site: Site, held: Mapping[str, Section], request: Request, parts: Mapping[str, str]
) -> Iterator[Check]:
    """Compare the variables of the build and the torch of its lock; only for this key."""
    paths = isolation.fixed_paths(held["isolation"]["mode"], site.store)
    filled = build_variables(request, jobs=held["objects"]["jobs"], paths=paths)
    # How many compilers may queue is the affair of the machine, not of the stack.
    fixed = [name for name, text in request.pin.variables.items() if "{jobs}" not in text]
    variables = {name: filled[name] for name in fixed}
    told = {name: held["command"]["variables"].get(name, "none") for name in variables}
    for name, value in variables.items():
        if told[name] != value:
            yield compared(f"variable {name}", told[name], value)
    if told == variables:
        yield Check(what="variables", ok=True, found=f"{len(variables)} of the stack")
    lock = request.lock("build", site.constraints)
    if lock.is_file() and files.sha256(lock) == parts["locks.build"]:
        accepted = identity.locked_digests(lock)
        yield compared_all("torch wheels of the lock", held["torch"]["wheel_sha256"], accepted)
