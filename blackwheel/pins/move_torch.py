"""Moves a stack's torch pin to a build that was downloaded and hashed; all or nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.http import AbsentError, Patience
from blackwheel.core.site import Site
from blackwheel.pins import changes
from blackwheel.pins.stack_file import Edited, rewrite
from blackwheel.pytorch import archive, identity, installed, nightly_index
from blackwheel.pytorch import wheel as torchwheel
from blackwheel.pytorch.archive import Archive
from blackwheel.pytorch.companions import Sought, family_of
from blackwheel.pytorch.nightly_index import Listing
from blackwheel.pytorch.wheel import TorchFile
from blackwheel.stacks import loader, pythons
from blackwheel.stacks.records import Stack, TorchPin, TorchWheel, python_tag
from blackwheel.toolchain.releases import minor

LATEST: Final = "latest"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The torch build that a person requested."""

    version: Version | None
    """None for the newest."""
    channel: str
    """`cu128`."""
    place: TorchPin
    """The present pin, with the index and the channel that are asked."""

    @property
    def index(self) -> str:
        """Address of the page that lists torch."""
        return self.place.pages[0]


def pin_torch(
    site: Site,
    stack_name: str,
    version: str,
    *,
    channel: str = "",
    archive_in: Path | None = None,
    patience: Patience | None = None,
) -> bool:
    """Lock a stack's torch at `version`; return whether the stack file changed.

    Raises `torch-gone`, `other-bytes`, `other-torch` and what the index and the wheels raise; then
    the stack file is as it was.
    """
    stack = loader.load(stack_name, site.constraints)
    _refuse(stack, site.constraints)
    wanted = asked(stack.torch, version, channel)
    # Before 900 MB are fetched: the compiler must be of torch's CUDA.
    channel_cuda = nightly_index.channel_cuda(wanted.channel)
    _require_cuda(stack, channel_cuda, of=f" of channel {wanted.channel}")
    kept = archive.archive(site.store, site.environment, site.console, patience)
    with held(site.store, f"pin-{stack_name}", project="torch", console=site.console):
        moved = _moved(stack, wanted, kept)
        if archive_in:
            wheels = [w for torch in moved.wheels.values() for w in (torch, *torch.family)]
            archive.keep_in(archive_in, wheels, kept)
            site.console.say(
                f"torch: also archived in {archive_in}; export {archive.CARRIED}='{archive_in}'"
                " takes them from there"
            )
        changed = rewrite(stack_name, site.constraints, moved)
    _show(site, stack_name, changed)
    if changed:
        site.console.say(f"{stack_name}: next: nox -s lock -- {stack_name}")
    return bool(changed)


def pin_installed(site: Site, stack_name: str, python: str) -> None:
    """Lock the torch of an interpreter by its identity and the digests of its libraries.

    Raises `cannot-pin` for a stack whose torch comes from elsewhere, and what `installed` raises.
    """
    stack = loader.load(stack_name, site.constraints)
    own = loader.own_table(stack_name, site.constraints).get("torch", {})
    if own.get("source") != identity.INSTALLED:
        raise BlackwheelError(
            "cannot-pin",
            f"stack '{stack_name}' does not say that it takes the torch that is installed",
            where=f"constraints/{stack_name}.toml",
            fix=f'[torch] with source = "{identity.INSTALLED}" in that file',
            code=Exit.USAGE,
        )
    chosen = pythons.choose(stack, python, environment=site.environment)
    where = pythons.located(chosen, uv=site.uv, environment=site.environment)
    with held(site.store, f"pin-{stack_name}", project="torch", console=site.console):
        found = installed.find(where, site.environment)
        seen = installed.identity(found, store=site.store)
        site.console.say(f"torch: {seen.runtime} in {found.packages}")
        moved = replace(
            stack.torch,
            version=seen.version,
            runtime=seen.runtime,
            cuda=seen.cuda,
            git_version=seen.git_version,
            cxx11_abi=seen.cxx11_abi,
            libraries={one.name: one.sha256 for one in seen.libraries},
            wheels={},
            index="",
            channel="",
        )
        _require_cuda(stack, seen.cuda)
        changed = rewrite(stack_name, site.constraints, moved)
    _show(site, stack_name, changed)


def _show(site: Site, stack_name: str, changed: Sequence[Edited]) -> None:
    if not changed:
        site.console.result(f"constraints/{stack_name}.toml: nothing changed")
    for one in changed:
        path = f"constraints/{one.path.relative_to(site.constraints)}"
        lines = changes.difference(path, one.before, one.after)
        site.console.result(shown("\n".join(lines)))


def asked(torch: TorchPin, version: str, channel: str) -> Asked:
    """Resolve VERSION and `--channel` against the stack's own index; raise `bad-version`."""
    found = re.search(r"/(cu\d+)/?$", torch.index)
    own = torch.channel or (found[1] if found else "")
    if version == LATEST:
        named = channel or own or torch.runtime.partition("+")[2]
        return Asked(version=None, channel=named, place=_place(torch, named))
    try:
        wanted = Version(version)
    except InvalidVersion:
        raise _bad_version(f"'{version}' is no version") from None
    if wanted.local and channel and wanted.local != channel:
        raise _bad_version(f"{version} is not of channel {channel}")
    named = wanted.local or channel or own
    if not wanted.local:
        wanted = Version(f"{version}+{named}")
    return Asked(version=wanted, channel=named, place=_place(torch, named))


def _place(torch: TorchPin, channel: str) -> TorchPin:
    """Return a pin with the index of a channel; a mirror that has no folder for it stays."""
    if torch.channel:
        return replace(torch, channel=channel)
    return replace(torch, index=re.sub(r"/cu\d+(?=/?$)", f"/{channel}", torch.index))


def _moved(stack: Stack, wanted: Asked, kept: Archive) -> TorchPin:
    """Fetch and read every wheel; return the pin that they make together."""
    tags = [python_tag(python) for python in stack.python]
    known = nightly_index.listing(wanted.index, "torch", patience=kept.patience)
    version = wanted.version or nightly_index.newest(known, wanted.channel, tags)
    if wanted.version is None:
        kept.console.say(f"torch: the newest of {wanted.channel} is {version}")
        _require_alive(version, wanted, kept)
    locked = stack.torch.wheels if stack.torch.version == str(version) else {}
    seen = _fetched(known, version, tags, locked=locked, kept=kept, stack=stack.name)
    first = seen[tags[0]][1].identity
    moved = replace(
        wanted.place,
        version=str(version),
        runtime=str(version),
        cuda=nightly_index.channel_cuda(wanted.channel),
        git_version=first.git_version,
        cxx11_abi=first.cxx11_abi,
        wheels={},
    )
    require_one_torch(seen, moved)
    wheels = {
        tag: replace(wheel, family=family_of(file, _sought(version, tag, wanted, wheel), kept))
        for tag, (wheel, file) in seen.items()
    }
    return replace(moved, wheels=wheels)


def _require_alive(version: Version, wanted: Asked, kept: Archive) -> None:
    """Raise `channel-ended` for what no index lists new builds of; where nothing tells, go on."""
    root = re.sub(r"/cu\d+/?$", "", wanted.index)
    if root == wanted.index:
        return
    with contextlib.suppress(nightly_index.IndexRefusedError, nightly_index.NotAnIndexError):
        listed = nightly_index.listing(root, "torch", patience=kept.patience)
        nightly_index.require_alive(version, listed)


def newest(stack: Stack, *, patience: Patience) -> Version:
    """Return the newest build of a channel; raise `no-nightly`."""
    wanted = asked(stack.torch, LATEST, "")
    known = nightly_index.listing(wanted.index, "torch", patience=patience)
    return nightly_index.newest(
        known, wanted.channel, [python_tag(python) for python in stack.python]
    )


def _sought(version: Version, tag: str, wanted: Asked, wheel: TorchWheel) -> Sought:
    before = {known.name: known for known in wheel.family}
    return Sought(torch=version, tag=tag, pages=wanted.place.pages, before=before)


def _fetched(
    known: Listing,
    version: Version,
    tags: list[str],
    *,
    locked: Mapping[str, TorchWheel],
    kept: Archive,
    stack: str,
) -> dict[str, tuple[TorchWheel, TorchFile]]:
    """Take the wheel of each Python into the archive and read it; raise `torch-gone`."""
    taken, lacking = {}, []
    for tag in tags:
        try:
            taken[tag] = archive.find(known, version, tag, kept, locked=locked.get(tag))
        except AbsentError:
            lacking.append(tag)
    if lacking:
        raise nightly_index.gone(known, version, tags, stack=stack, lacking=lacking)
    seen = {}
    for tag, wheel in taken.items():
        with kept.console.stage("torch", f"read {wheel.name}") as stage:
            file = torchwheel.read_torch(kept.folder / wheel.name)
            stage.conclude(f"git {file.identity.git_version[:12]}, CUDA {file.identity.cuda}")
        known_before = locked.get(tag)
        family = known_before.family if known_before else ()
        seen[tag] = (TorchWheel(**asdict(wheel) | {"family": family}), file)
    return seen


def require_one_torch(seen: Mapping[str, tuple[TorchWheel, TorchFile]], pin: TorchPin) -> None:
    """Raise `other-torch` for a wheel of another torch, and for Pythons that got two torches."""
    faults = []
    for wheel, file in seen.values():
        found = file.identity
        wanted = {
            "torch.__version__": (pin.runtime, found.runtime),
            "CUDA": (pin.cuda, found.cuda),
            "C++11 ABI": (str(pin.cxx11_abi), str(found.cxx11_abi)),
            "git_version": (pin.git_version or "", found.git_version),
        }
        faults += [
            f"{wheel.name}: {name}: {is_} instead of {want}"
            for name, (want, is_) in wanted.items()
            if want != is_
        ]
    if faults:
        raise BlackwheelError(
            "other-torch",
            "\n".join(["the wheels are not the torch that was asked for", *faults]),
            where=pin.index,
            fix="pin another build: invoke pin torch VERSION",
            code=Exit.TORCH,
        )


def _refuse(stack: Stack, constraints: Path) -> None:
    """Raise `cannot-pin` where torch is not this stack's own, or comes from elsewhere."""
    where, fix = f"constraints/{stack.name}.toml, torch.source", "nox -s lock"
    if stack.torch.source == "index":
        require_own(stack, constraints)
        return
    if stack.torch.source == "registry":
        fact = f"stack '{stack.name}' takes torch from the package registry: its locks hold it"
    else:
        fact = f"stack '{stack.name}' takes the torch that is installed: no index has it"
        fix = f"invoke pin torch {identity.INSTALLED} --python PATH --stack {stack.name}"
    raise BlackwheelError("cannot-pin", fact, where=where, fix=fix, code=Exit.USAGE)


def require_own(stack: Stack, constraints: Path) -> None:
    """Raise `cannot-pin` for a stack that has the torch of the one that it extends."""
    if "torch" not in loader.own_table(stack.name, constraints):
        raise BlackwheelError(
            "cannot-pin",
            f"stack '{stack.name}' has the torch of stack '{stack.extends}'",
            where=f"constraints/{stack.name}.toml, extends",
            fix="give it a [torch] table of its own, as docs/add-a-stack.md does; or move that one:"
            f" invoke pin torch {LATEST} --stack {stack.extends}",
            code=Exit.USAGE,
        )


def _require_cuda(stack: Stack, cuda: str, *, of: str = "") -> None:
    """Raise `other-cuda` where the stack's compiler is of another CUDA than torch."""
    if minor(stack.toolchain.cuda) != cuda:
        raise BlackwheelError(
            "other-cuda",
            f"torch{of} is built with CUDA {cuda}, stack '{stack.name}' compiles"
            f" with CUDA {stack.toolchain.cuda}",
            where=f"constraints/{stack.name}.toml, toolchain.cuda",
            fix="docs/nightly-stack.md: a stack of your own for another CUDA",
            code=Exit.CONFIG,
        )


def _bad_version(fact: str) -> BlackwheelError:
    return BlackwheelError(
        "bad-version",
        fact,
        where="invoke pin torch",
        fix=f"invoke pin torch 2.10.0.dev20251016+cu128, or {LATEST} --channel cu128",
        code=Exit.USAGE,
    )
