"""Moves a stack to another torch of the package registry: torch, its family, toolkit and locks."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from blackwheel.core.addresses import shown
from blackwheel.core.download import no_answer
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.files import replace_file
from blackwheel.core.http import AbsentError, FailedError, Patience, whole_length
from blackwheel.core.site import Site
from blackwheel.core.units import duration
from blackwheel.pins import changes, lock, lock_all, move_torch, stack_file
from blackwheel.pytorch import wheel as torchwheel
from blackwheel.pytorch.nightly_index import Offer, offered
from blackwheel.pytorch.wheel import TorchFile
from blackwheel.sources import package_index
from blackwheel.stacks import loader, locks
from blackwheel.stacks.records import (
    LockedWheel,
    Stack,
    ToolchainPin,
    TorchPin,
    TorchWheel,
    python_tag,
)
from blackwheel.stacks.request import COMPANIONS
from blackwheel.toolchain.releases import minor, release

_PATIENCE: Final = Patience(tries=3)
_TOOLKIT: Final = "cuda-toolkit"
_DIGITS: Final = r"[0-9]+(?:\.[0-9]+)+"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One project of the registry: the files that its index lists."""

    offers: tuple[Offer, ...]
    sizes: Mapping[str, int]

    def at(self, version: Version, tag: str) -> Offer | None:
        """Return the wheel of a version for one Python, the one made for it alone first."""
        fitting = [one for one in self.offers if one.version == version and one.fits(tag)]
        return min(fitting, key=lambda one: (tag not in one.pythons, one.name), default=None)


def pin_registry(site: Site, name: str, version: str, *, dry_run: bool = False) -> bool:
    """Move a stack's registry torch to `version` or the `latest`; return whether it was written.

    Everything is found, resolved and shown first; then all of it is written, or nothing. Raises
    `cannot-pin`, `no-version-there`, `no-wheel-there`, `unknown-cuda-release`, `no-lock`.
    """
    stack = loader.load(name, site.constraints)
    with held(site.store, f"pin-{name}", project="torch", console=site.console):
        torch, file = _found(site, stack, version)
        toolchain = _toolchain(site, stack, file)
        torch = _with_families(site, stack, torch)
        with changes.copied(site) as copy:
            _edit(copy, stack, torch, toolchain)
            moved = loader.load(name, copy.constraints)
            if moved.locks == name:
                lock_all.lock_all(copy, names=[name], trial=True)
            changed = changes.differing(site.constraints, copy.constraints)
            site.console.result("\n".join(_summary(stack, moved)))
            site.console.result(shown("\n".join(_difference(site, copy, changed))))
            if dry_run or not changed:
                word = "nothing was written" if changed else "nothing changed"
                site.console.say(f"{name}: {word}")
                return False
            changes.write(
                {site.constraints / one: (copy.constraints / one).read_bytes() for one in changed}
            )
    site.console.say(f"{name}: written; next: invoke plan --stack {name}")
    return True


def _found(site: Site, stack: Stack, version: str) -> tuple[TorchPin, TorchFile]:
    """Read the torch of every Python where it lies, and little of it."""
    known, tags = _listed(site, "torch"), [python_tag(p) for p in stack.python]
    wanted = _version(known, version, tags)
    seen = {}
    for tag in tags:
        offer = _at(known, "torch", wanted, tag)
        with site.console.stage("torch", f"read parts of {offer.name}") as stage:
            file = torchwheel.peek_torch(offer.url, offer.name, _PATIENCE)
            stage.conclude(f"git {file.identity.git_version[:12]}, CUDA {file.identity.cuda}")
        seen[tag] = (TorchWheel(**asdict(_locked(known, offer))), file)
    first = seen[tags[0]][1]
    pin = replace(
        stack.torch,
        version=str(wanted),
        runtime=first.identity.runtime,
        cuda=first.identity.cuda,
        git_version=first.identity.git_version,
        cxx11_abi=first.identity.cxx11_abi,
        wheels={},
    )
    move_torch.require_one_torch(seen, pin)
    return replace(pin, wheels={tag: wheel for tag, (wheel, _) in seen.items()}), first


def _with_families(site: Site, stack: Stack, pin: TorchPin) -> TorchPin:
    """Return the pin with the wheels that belong to each of its torches."""
    pairs = zip(pin.wheels.items(), stack.python, strict=True)
    wheels = {
        tag: replace(wheel, family=_family(site, stack, Version(pin.version), python, tag))
        for (tag, wheel), python in pairs
    }
    return replace(pin, wheels=wheels)


def _version(known: Listed, version: str, tags: Sequence[str]) -> Version:
    if version != move_torch.LATEST:
        try:
            return Version(version)
        except InvalidVersion:
            raise _cannot(f"'{version}' is no version", "invoke pin torch 2.15.0") from None
    listed = {one.version for one in known.offers if not one.version.is_prerelease}
    served = [v for v in listed if all(known.at(v, tag) for tag in tags)]
    if not served:
        raise _cannot(f"the registry has no torch for all of {', '.join(tags)}", "fewer Pythons")
    return max(served)


def _listed(site: Site, project: str) -> Listed:
    files = package_index.offered_files(project, site)
    pairs = [(offer, one) for one in files if (offer := offered(one, project))]
    return Listed(
        offers=tuple(offer for offer, _ in pairs),
        sizes={one.filename: one.size or 0 for _, one in pairs},
    )


def _at(known: Listed, project: str, version: Version, tag: str) -> Offer:
    """Return the wheel of a version for one Python, with a digest; raise `no-wheel-there`."""
    offer = known.at(version, tag)
    if offer and offer.sha256:
        return offer
    near = sorted({one.version for one in known.offers if one.fits(tag)}, reverse=True)[:4]
    what = "with a sha256" if offer else "for Linux on x86-64"
    raise BlackwheelError(
        "no-wheel-there",
        f"the package index has no wheel of {project} {version} for {tag} {what}",
        where=f"{project}=={version}",
        fix=f"one of: {', '.join(map(str, near)) or 'none'}; or fewer Pythons in the stack",
        code=Exit.INDEX,
    )


def _locked(known: Listed, offer: Offer) -> LockedWheel:
    size = known.sizes[offer.name]
    if not size:  # a page of HTML tells none
        try:
            size = whole_length(offer.url, patience=_PATIENCE)
        except (AbsentError, FailedError) as error:
            raise no_answer(offer.url, error) from None
    return LockedWheel(name=offer.name, sha256=offer.sha256, size=size)


def _family(
    site: Site, stack: Stack, torch: Version, python: str, tag: str
) -> tuple[LockedWheel, ...]:
    """Resolve triton, torchvision and torchaudio beside a torch; the last two may be absent."""
    texts = [one for pin in stack.projects.values() for one in (*pin.runtime, *_set(pin.requires))]
    named = [one for one in reversed(COMPANIONS) if any(f"{{{one}}}" in text for text in texts)]
    for wanted in (named, *([one] for one in named if len(named) > 1), []):
        try:
            pins = _resolved(site, [f"torch==={torch}", *wanted], python)
        except lock.NoLockError:
            if not wanted:
                raise
            continue
        lacking = sorted({*named} - {*wanted})
        for one in lacking:
            site.console.say(f"{one}: no release of it goes with torch {torch} on {tag}")
        found = []
        for project in ("triton", *wanted):
            if project in pins:
                known = _listed(site, project)
                offer = _at(known, project, Version(pins[project]), tag)
                found.append(_locked(known, offer))
        return tuple(found)
    return ()


def _set(requires: Sequence[object]) -> Iterator[str]:
    for one in requires:
        yield from getattr(one, "set", ())


def _resolved(site: Site, wanted: Sequence[str], python: str) -> dict[str, str]:
    """Return version by project of everything that these requirements bring."""
    with tempfile.TemporaryDirectory(prefix="blackwheel-pin-") as folder:
        out = Path(folder) / "family.txt"
        lock.compile_lock(
            wanted,
            python=python,
            out=out,
            source="invoke pin torch",
            uv=site.uv,
            environment=site.environment,
        )
        return {one.name: one.version for one in locks.pins(locks.lock_text(out)) if one.version}


def _toolchain(site: Site, stack: Stack, file: TorchFile) -> ToolchainPin:
    """Return the stack's toolkit, of the release that torch requires."""
    old = stack.toolchain
    asked = [one for one in file.requires if canonicalize_name(one.name) == _TOOLKIT]
    exact = next((v for one in asked if (v := torchwheel.exact_version(one))), None)
    same = minor(old.cuda) == file.identity.cuda
    if old.source != "registry" or exact is None:
        if not same:
            raise _cannot(
                f"torch is built with CUDA {file.identity.cuda}, stack '{stack.name}' compiles with"
                f" CUDA {old.cuda} of the host",
                "docs/nightly-stack.md: a stack of your own for another CUDA",
            )
        return old
    if Version(old.cuda) == exact:
        return old
    release(str(exact))  # drivers and compilers are known, or this ends here
    parts = _parts(site, exact)
    found = {line: _moved_line(line, exact, parts) for line in old.requirements}
    return replace(
        old,
        cuda=str(exact),
        nvcc=parts.get("nvidia-cuda-nvcc", ""),
        requirements=tuple(found.values()),
    )


def _parts(site: Site, version: Version) -> dict[str, str]:
    """Return the version that a release of the toolkit names of each of its parts, or the least."""
    known = _listed(site, _TOOLKIT)
    offer = _at(known, _TOOLKIT, version, "cp312")
    with torchwheel.peeked(offer.url, offer.name, _PATIENCE) as wheel:
        text = torchwheel.remote_metadata(wheel, offer.name)
    found: dict[str, str] = {}
    for one in torchwheel.requirements(text, offer.name):
        least = [s.version.removesuffix(".*") for s in one.specifier if s.operator in ("==", ">=")]
        if least:
            found[canonicalize_name(one.name)] = least[0]
    return found


def _moved_line(line: str, version: Version, parts: Mapping[str, str]) -> str:
    name = canonicalize_name(Requirement(line).name)
    if name == _TOOLKIT:
        return re.sub(rf"=={_DIGITS}$", f"=={version}", line)
    if name in parts:
        return re.sub(rf"=={_DIGITS}$", f"=={parts[name]}", line)
    raise _cannot(
        f"the toolkit's requirement '{line}' is no part of {_TOOLKIT} {version}",
        "write [toolchain] of the new release by hand, then the same command",
    )


def _edit(copy: Site, stack: Stack, torch: TorchPin, toolchain: ToolchainPin) -> None:
    """Write torch and toolkit into the copy; raise where a stack would not load any more."""
    path = copy.constraints / f"{stack.name}.toml"
    if toolchain != stack.toolchain:
        text = path.read_text(encoding="utf-8")
        replace_file(path, stack_file.with_toolchain(text, stack.toolchain, toolchain).encode())
    stack_file.rewrite(stack.name, copy.constraints, torch)
    found = loader.load(stack.name, copy.constraints)
    if found.torch != torch or found.toolchain != toolchain:
        raise BlackwheelError(
            "cannot-write-pin",
            "the stack file would not hold the torch and the toolkit that were seen",
            where=f"constraints/{stack.name}.toml",
            fix="write [torch] and [toolchain] as tables of its own, as constraints/stable.toml",
            code=Exit.CONFIG,
        )
    for other in loader.names(copy.constraints):
        loader.load(other, copy.constraints)


def _summary(stack: Stack, moved: Stack) -> Iterator[str]:
    old, new = stack.torch, moved.torch
    yield f"torch in stack {stack.name}: {old.version} → {new.version}"
    yield f"  runtime    {old.runtime} → {new.runtime}"
    yield f"  git        {(old.git_version or 'unknown')[:12]} → {(new.git_version or '')[:12]}"
    for tag, wheel in new.wheels.items():
        yield f"  {tag:9}  {', '.join(one.name for one in (wheel, *wheel.family))}"
    a, b = stack.toolchain, moved.toolchain
    same = a.nvcc == b.nvcc
    yield f"  toolkit    {a.cuda} → {b.cuda}, nvcc {a.nvcc or '?'} → {b.nvcc or '?'}"
    yield (
        "  compile    the same nvcc: objects whose text stays the same come from the compile cache"
        if same
        else "  compile    another nvcc: every object"
    )
    for name in moved.build:
        pin = moved.projects[name]
        cost = f", {duration(pin.cpu_seconds)} of CPU without a cache" if pin.cpu_seconds else ""
        yield f"  {name}: {pin.objects or 'unknown'} objects{cost}"
    driver = release(b.cuda).driver
    if moved.driver < driver:
        yield f"  look at    driver: CUDA {b.cuda} wants {driver}, the stack says {moved.driver}"
    if a.cuda != b.cuda and moved.driver_ptx:
        yield f"  look at    driver_ptx: the driver that CUDA {b.cuda} came out with"


def _difference(site: Site, copy: Site, changed: Sequence[Path]) -> Iterator[str]:
    for path in changed:
        old, new = site.constraints / path, copy.constraints / path
        before = old.read_text(encoding="utf-8") if old.is_file() else ""
        after, name = new.read_text(encoding="utf-8"), f"constraints/{path}"
        if path.suffix == ".toml":
            yield from changes.difference(name, before, after)
            continue
        a, b = ({one.words for one in locks.pins(text)} for text in (before, after))
        yield f"{name}: {len(b - a)} of {len(b)} pins are others"


def _cannot(fact: str, fix: str) -> BlackwheelError:
    where = "invoke pin torch"
    return BlackwheelError("cannot-pin", fact, where=where, fix=fix, code=Exit.USAGE)
