"""Computes the key of a build from all that can change its bytes. Pure but for reading files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from blackwheel.stacks.locks import lock_text
from blackwheel.stacks.request import COMPANIONS, Request, _text, filled, label


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A sha256 over everything that can change the wheel's bytes, with its parts."""

    digest: str
    parts: tuple[tuple[str, str], ...]

    def part(self, name: str) -> str:
        """Return one of the parts."""
        return dict(self.parts)[name]

    def changes(self, before: Mapping[str, str]) -> tuple[str, ...]:
        """Name the parts that differ from those of an earlier key: the reasons for a rebuild."""
        now = dict(self.parts)
        names = sorted(set(now) | set(before))
        pairs = ((name, before.get(name), now.get(name)) for name in names)
        return tuple(_change(name, was, is_) for name, was, is_ in pairs if was != is_)


def key(
    request: Request, *, patches: Sequence[tuple[str, str]], constraints: Path, isolation: str
) -> Key:
    """Compute the key from the stack, the patches' names and sha256, and the lock files alone."""
    stack, pin = request.stack, request.pin
    torch = replace(stack.torch, wheels={})
    parts: dict[str, Any] = {
        "recipe": stack.recipe,
        "isolation": isolation,
        "python": request.python,
        "archs": ";".join(request.archs),
        "label": label(stack, pin, request.archs, request.without),
        "source.commit": pin.source.commit,
        "source.tree": pin.source.tree,
        "source.sparse": pin.source.sparse,
        "sdist": asdict(pin.sdist) if pin.sdist else None,
        **lock_digests(request, constraints),
    }
    wheel = stack.torch.wheels.get(request.tag)
    named = asdict(torch)
    # What came later than the first wheels is a part only where it is not the default.
    for field in ("libraries", "channel"):
        if not named[field]:
            del named[field]
    parts |= {f"torch.{name}": value for name, value in named.items()}
    parts["torch.wheel"] = wheel.sha256 if wheel else None
    parts |= {f"toolchain.{n}": v for n, v in asdict(stack.toolchain).items()}
    for nested in pin.nested:
        row = asdict(nested)
        if nested.archive is None:
            del row["archive"]
        parts[f"nested.{nested.path}"] = row
    parts |= {f"patches.{name}": sha256 for name, sha256 in patches}
    parts["patches"] = [name for name, _ in patches]
    if request.without:
        parts["without"] = list(request.without)
    if pin.requires:
        parts["requires"] = [asdict(one) for one in pin.requires]
        lines = [line for one in pin.requires for line in one.set]
        if any(f"{{{name}}}" in line for line in lines for name in COMPANIONS):
            parts["requires.set"] = [filled(line, stack, pin, request.python) for line in lines]
    later = ("one_folder", "readme", "subfolder", "command", "distribution")
    parts |= {name: value for name in later if (value := getattr(pin, name))}
    if pin.torch != "exact":
        parts["torch"] = pin.torch
    # The number of jobs changes no byte.
    parts |= {f"variables.{n}": v for n, v in pin.variables.items() if "{jobs}" not in v}
    texts = tuple(sorted((name, _text(value)) for name, value in parts.items()))
    canonical = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    return Key(digest=hashlib.sha256(canonical.encode()).hexdigest(), parts=texts)


def lock_digests(request: Request, constraints: Path) -> dict[str, str]:
    """Return the lock files' part of the key; raise `no-lock-file`."""
    files = lock_files(request, constraints).items()
    return {name: hashlib.sha256(lock_text(path).encode()).hexdigest() for name, path in files}


def lock_files(request: Request, constraints: Path) -> dict[str, Path]:
    """Return the lock files whose digests are parts of the key, by the names of these parts."""
    files = {"locks.build": request.lock("build", constraints)}
    if request.stack.toolchain.source == "registry":
        files["locks.toolchain"] = request.stack.lock(constraints, "toolchain")
    return files


def _change(name: str, before: str | None, now: str | None) -> str:
    if before is None:
        return f"{name} is new"
    if now is None:
        return f"{name} is gone"
    if re.fullmatch(r"[0-9a-f]{64}", now) or max(len(before), len(now)) > 60:
        return f"{name} changed"
    return f"{name}: {before or 'none'} → {now or 'none'}"
