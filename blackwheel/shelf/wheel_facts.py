"""Reads from a wheel's receipt the facts that people look for on its pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from blackwheel.core import archs, records
from blackwheel.core.cards import cards
from blackwheel.core.errors import BlackwheelError
from blackwheel.receipts import document
from blackwheel.shelf.simple_api import ShelvedWheel
from blackwheel.toolchain.releases import releases

_MOST: Final = 100
"""Parts of a project that a receipt tells of: those of today's have ten at most."""
NOT_RUN: Final = "not run"
"""How smoke begins its words on an arch on which no kernel ran."""
FREE: Final = "any (it links none)"
"""Stands for the torch of a wheel whose libraries the audit saw to take nothing of it."""
UNREADABLE: Final = (BlackwheelError, OSError, ValueError, KeyError, TypeError, AttributeError)
"""Raised by a receipt of another form: another version of blackwheel wrote it, or nobody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Part of a project, with words for the abilities of a wheel and for its lacks."""

    title: str
    can: tuple[str, ...]
    cannot: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """Facts that a receipt gives, in the form of the pages; empty where it lacks one."""

    torch: str = "unknown"
    cuda: str = ""
    archs: str = "unknown"
    cards: str = ""
    """GPUs that its archs are for, by name."""
    driver: str = ""
    glibc: str = ""
    guard: str = ""
    built: str = ""
    """Day of the build."""
    native: records.Count = 0
    kernels: records.Count = 0
    ran: bool = False
    """Kernels ran on a GPU, and all checks were right."""
    gpu: str = "no record of a GPU"
    kernel_words: tuple[tuple[str, str], ...] = ()
    """Each arch with the words of smoke."""
    limits: tuple[Limits, ...] = ()
    """Parts of the project, as its build recorded them."""
    variables: tuple[tuple[str, str], ...] = ()
    """Build variables that the stack sets, but for those that are wholly filled in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts(Recorded):
    """Facts of one wheel."""

    wheel: ShelvedWheel
    held: Mapping[str, document.Section]
    """Sections of its receipt; none for a receipt that cannot be read."""
    python: str

    @property
    def exact(self) -> str:
        """Requirement of exactly its version."""
        return f"{self.wheel.project}=={self.wheel.version}"

    @property
    def release(self) -> str:
        """Version without the local part."""
        return Version(self.wheel.version).public


def facts(wheel: ShelvedWheel) -> Facts:
    """Read the facts from a wheel's receipt without verifying it; `invoke verify` does that."""
    tags = parse_wheel_filename(wheel.path.name)[3]
    python = ", ".join(sorted({_python(tag.interpreter) for tag in tags}))
    try:
        held = document.sections(json.loads(wheel.receipt.read_bytes()))
        told = records.checked(_recorded(held), Recorded)
        given = {one.name: getattr(told, one.name) for one in fields(told)}
        return Facts(wheel=wheel, held=held, python=python, **given)
    except UNREADABLE:
        return Facts(wheel=wheel, held={}, python=python)


def _links_none(audit: document.Section, parts: Mapping[str, str]) -> bool:
    """Tell whether a wheel serves every torch: by what the audit saw, and by its label."""
    links = audit.get("links", ())
    free = bool(links) and all(one["torch"] == "none" for one in links)
    return free and "torch" not in parts.get("label", "torch")


def _torch(audit: document.Section, parts: Mapping[str, str], torch: document.Section) -> str:
    if _links_none(audit, parts):
        return FREE
    runtime = str(torch.get("runtime", "unknown"))
    return f"{runtime} or newer" if parts.get("torch") == "abi" else runtime


def _recorded(held: Mapping[str, document.Section]) -> dict[str, Any]:
    stack, torch, smoke = (held.get(name, {}) for name in ("stack", "torch", "smoke"))
    audit = held.get("audit", {})
    counts = [one["kernels"] for one in audit.get("libraries", ())]
    floors = [Version(one["glibc"]) for one in audit.get("links", ()) if one["glibc"]]
    words = tuple(sorted(smoke.get("kernels", {}).items()))
    started = [text for _, text in words if not text.startswith(NOT_RUN)]
    wrong = [one for one in smoke.get("checks", ()) if one["name"] not in ("right", "not-claimed")]
    parts = stack.get("key", {}).get("parts", {})
    given = held.get("command", {}).get("variables", {})
    known = releases().get(torch.get("cuda", ""))  # receipts of before 2026-11 name no driver
    driver = stack.get("driver") or (known.driver if known else None)
    return {
        "torch": _torch(audit, parts, torch),
        "cuda": torch.get("cuda", ""),
        "archs": ", ".join(stack.get("archs", ())) or "unknown",
        "cards": _cards(stack.get("archs", ())),
        "driver": f"{driver} or newer" if driver else "",
        "glibc": f"{max(floors)} or newer" if floors else "",
        "guard": smoke.get("guard", ""),
        "built": held.get("run", {}).get("metadata", {}).get("finishedOn", "")[:10],
        "native": sum(one["native"] for one in counts),
        "kernels": sum(sum(one.values()) for one in counts),
        "ran": bool(started) and not wrong,
        "gpu": "; ".join(started) or f"never ran on a GPU: {smoke.get('device', 'not recorded')}",
        "kernel_words": words,
        "limits": _limits(stack.get("holds", [])),
        "variables": tuple(
            (name, given[name])
            for name in sorted(given)
            if parts.get(f"variables.{name}", "{")[:1] != "{"
        ),
    }


def _limits(held: object) -> tuple[Any, ...]:
    """Return what a wheel can do and what it cannot; raise TypeError for a record of another shape.

    A long text would be a row for each of its characters.
    """
    if not isinstance(held, list) or len(held) > _MOST:
        raise TypeError(f"holds is no list of at most {_MOST} parts")
    return tuple(held)


def _cards(names: list[str]) -> str:
    try:
        return "; ".join(dict.fromkeys(cards(archs.parse(name)) for name in names))
    except BlackwheelError:
        return ""


def _python(interpreter: str) -> str:
    number = interpreter[2:]
    return f"{number[0]}.{number[1:]}" if len(number) > 1 else number
