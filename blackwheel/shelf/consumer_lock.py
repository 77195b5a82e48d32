"""Writes hashed requirements of a stack's wheels for another machine (`invoke lock-consumer`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from blackwheel.core import files
from blackwheel.core.addresses import require_address, shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.receipts.beside import key_section
from blackwheel.shelf import index
from blackwheel.stacks import locks
from blackwheel.stacks.ask import requests
from blackwheel.stacks.request import Request


def lock_consumer(
    site: Site,
    stack: str,
    *,
    python: str = "",
    projects: Sequence[str] = (),
    address: str = "",
    revision: int = 0,
    out: str = "",
) -> Path:
    """Write the requirements file of a stack and Python; return it.

    The newest revision on the shelf is taken, or `revision`: that is how one rolls back. The index
    at `address` is asked whether it has these wheels. Raises `no-wheel`, `not-on-index` and
    `locks-differ`.
    """
    asked, chosen = requests(site, stack, only=projects, python=python)
    wheels = [newest(site, request, revision) for request in asked]
    if address:
        _require_offered(site, wheels, address)
    text = requirements(
        [
            (wheel, locks.lock_text(request.lock("run", site.constraints)))
            for wheel, request in zip(wheels, asked, strict=True)
        ],
        stack=stack,
        python=chosen.version,
        address=address,
    )
    name = f"requirements-{stack}-py{chosen.version.replace('.', '')}.txt"
    path = Path(out or name).absolute()
    files.replace_file(path, text.encode())
    site.console.result(str(path))
    shelf = address or f"{(site.wheels / stack).as_uri()}/simple/"
    extra = "" if address else f" --extra-index-url '{shelf}'"
    for tool in ("python3 -m pip", "uv pip"):
        site.console.result(f"{tool} install --require-hashes{extra} -r '{out or name}'")
    return path


def _require_offered(site: Site, wheels: Sequence[index.ShelvedWheel], address: str) -> None:
    """Raise `not-on-index` where the index lacks a wheel, or has other bytes under its name.

    Only the machine that installs must reach it: where it does not answer here, that is said.
    """
    from blackwheel.shelf import remote_index  # noqa: PLC0415  requests takes 0.2 s

    require_address(address, "--index-url")
    simple, faults = f"{address.rstrip('/')}/", []
    for wheel in wheels:
        name = wheel.path.name
        try:
            digest = _offered(site, simple, wheel)
        except remote_index.NoAnswerError as error:
            line = f"not asked whether {name} is there: {error.fact.splitlines()[0]}"
            site.console.say(f"{shown(simple)}: {line}")
            return
        if digest is None:
            faults.append(f"{name} is not there")
        elif digest != wheel.sha256:
            faults.append(f"{name} is there with other bytes, sha256 {digest or 'of nobody'}")
    if faults:
        raise BlackwheelError(
            "not-on-index",
            "\n".join(faults),
            where=shown(simple),
            fix="publish them there first: invoke publish; or name another index: --index-url",
            code=Exit.INDEX,
        )


def _offered(site: Site, simple: str, wheel: index.ShelvedWheel) -> str | None:
    """Return the sha256 that the index has of a wheel, None where it lists none of this name."""
    if simple.startswith("file://"):
        file = Path(unquote(urlsplit(simple).path)).parent / wheel.path.name
        return files.sha256(file) if file.is_file() else None
    from blackwheel.shelf import remote_index  # noqa: PLC0415  requests takes 0.2 s

    login = remote_index.login_of(site.environment, simple)
    asked = remote_index.Index(upload="", simple=simple, login=login)
    limits = remote_index.Limits(tries=1)
    found = remote_index.listed(asked, wheel.project, wheel.path.name, limits)
    return None if found is None else str(found.digests.get("sha256", ""))


def newest(site: Site, request: Request, revision: int = 0) -> index.ShelvedWheel:
    """Return the wheel of a request on the shelf, of one revision or the newest.

    Raises `no-wheel`.
    """
    there = index.shelved(site.wheels / request.stack.name)
    kept = [one for one in there if key_section(one.receipt).get("slug") in request.slugs]
    found = [one for one in kept if not revision or one.version.endswith(f".{revision}")]
    if found:
        return max(found, key=lambda wheel: Version(wheel.version))
    if kept:
        raise BlackwheelError(
            "no-revision",
            f"revision {revision} of {request.project} for Python {request.python} is not"
            f" on the shelf; there: {', '.join(sorted(one.version for one in kept))}",
            where=f"wheels/{request.stack.name}/",
            fix="--revision with the last number of one of those, or none: the newest",
            code=Exit.INDEX,
        )
    what = f"revision {revision} of {request.project}" if revision else request.project
    tags = {
        (one.project, tag.interpreter)
        for one in there
        for tag in parse_wheel_filename(one.path.name)[3]
    }
    mine = {project for project, tag in tags if tag in ("py3", request.tag)}
    others = ",".join(sorted(mine - {request.project}))
    own = sorted(tag for project, tag in tags if project == request.project and tag != request.tag)
    pythons = " or ".join(f"--python 3.{tag[3:]}" for tag in own if tag.startswith("cp3"))
    raise BlackwheelError(
        "no-wheel",
        f"{what} for Python {request.python} is not on the shelf",
        where=f"wheels/{request.stack.name}/",
        fix=f"invoke build-wheels --stack {request.stack.name} --python {request.python}"
        + (f"\nor only what is there: --only {others}" if others else "")
        + (f"\nor for a Python that is there: {pythons}" if pythons else ""),
        code=Exit.INDEX,
    )


def requirements(
    members: Iterable[tuple[index.ShelvedWheel, str]], *, stack: str, python: str, address: str
) -> str:
    """Return the file's text: each wheel by full version and hash, then the pins it runs with."""
    ours, pins = [], dict[str, str]()
    for wheel, lock in members:
        ours.append(f"{wheel.project}=={wheel.version} \\\n    --hash=sha256:{wheel.sha256}\n")
        for pin in locks.pins(lock):
            if pins.setdefault(pin.name, pin.text) != pin.text:
                raise BlackwheelError(
                    "locks-differ",
                    f"the projects of {stack} are pinned to run with different versions or files\n"
                    f"of {pin.name}",
                    where=f"constraints/{stack}.toml",
                    fix="nox -s lock, or a file for each project: --only",
                    code=Exit.CONFIG,
                )
    head = [
        f"# {stack} for Python {python}, every file by hash. Made by invoke lock-consumer.",
        "# Install: pip install --require-hashes -r THIS, or uv pip install in its place.",
        *([f"--extra-index-url {address}"] if address else []),
    ]
    own = {wheel.split("==")[0] for wheel in ours}
    others = [text for name, text in sorted(pins.items()) if name not in own]
    return "\n".join(head) + "\n" + "".join([*ours, *others])
