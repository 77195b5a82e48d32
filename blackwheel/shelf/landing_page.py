"""Draws the pages of shelves for people: one a shelf, one over all, one of each wheel's audit.

All of it comes from the receipts beside the wheels, and `verify_pages` computes it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from blackwheel.audit.receipt_page import recorded_page
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.units import size
from blackwheel.receipts import document
from blackwheel.shelf.simple_api import ShelvedWheel
from blackwheel.toolchain.releases import releases

_HERE: Final = "https://ADDRESS-OF-THIS-PAGE/"
_SCRIPT: Final = (
    "<script>for (const one of document.querySelectorAll('.here'))"
    " one.textContent = new URL('.', location.href).href;</script>"
)
"""A page that is moved cannot know its address; what reads it does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Facts of one wheel on the page of its shelf; `unknown` where its receipt lacks one."""

    wheel: ShelvedWheel
    stack: str
    python: str
    torch: str
    cuda: str
    archs: str
    driver: str
    native: int
    kernels: int
    ran: str


def facts(wheel: ShelvedWheel) -> Facts:
    """Read the facts from a wheel's receipt without verifying it; `invoke verify` does that."""
    try:
        held: dict[str, Any] = dict(document.sections(json.loads(wheel.receipt.read_bytes())))
    except (OSError, ValueError, KeyError, TypeError):
        held = {}
    stack, torch = held.get("stack", {}), held.get("torch", {})
    counts = [one["kernels"] for one in held.get("audit", {}).get("libraries", [])]
    cuda = torch.get("cuda", "")
    # Receipts of before 2026-11 do not name the driver.
    known = releases().get(cuda)
    driver = stack.get("driver") or (known.driver if known else None)
    tags = parse_wheel_filename(wheel.path.name)[3]
    return Facts(
        wheel=wheel,
        stack=stack.get("name", "unknown"),
        python=", ".join(sorted({_python(tag.interpreter) for tag in tags})),
        torch=torch.get("runtime", "unknown"),
        cuda=cuda or "unknown",
        archs=", ".join(stack.get("archs", ())) or "unknown",
        driver=f"{driver} or newer" if driver else "unknown",
        native=sum(one["native"] for one in counts),
        kernels=sum(sum(one.values()) for one in counts),
        ran=_ran(held.get("smoke", {})),
    )


def _python(interpreter: str) -> str:
    number = interpreter[2:]
    return f"{number[0]}.{number[1:]}" if len(number) > 1 else number


def _ran(smoke: dict[str, Any]) -> str:
    """What is known of its kernels on a device: the plain words of the smoke."""
    if not smoke:
        return "not recorded"
    return "; ".join(f"{arch}: {what}" for arch, what in sorted(smoke.get("kernels", {}).items()))


def audit_page(wheel: ShelvedWheel) -> str:
    """Draw the page of a wheel's audit; empty where its receipt has none that can be drawn."""
    try:
        held = document.sections(json.loads(wheel.receipt.read_bytes()))
        metadata = wheel.metadata.read_bytes()
        return recorded_page(wheel.path, wheel.sha256, wheel.size, metadata, held)
    except (BlackwheelError, OSError, ValueError, KeyError, TypeError):
        return ""


def shelf_page(name: str, wheels: Sequence[ShelvedWheel]) -> str:
    """Draw the page of one shelf: a card a wheel, the newest version first."""
    ordered = sorted(
        wheels,
        key=lambda one: (one.project, Version(one.version), one.path.name),
        reverse=True,
    )
    seen = [facts(wheel) for wheel in ordered]
    title = f"Wheels of {name}"
    cards = "\n".join(_card(one) for one in seen) or "<p>There is no wheel here.</p>"
    return _document(
        title,
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="lead">{_count(len(seen))}. The address of this index for pip and uv:</p>\n'
        f'<pre><code><span class="here">{_HERE}</span>simple/</code></pre>\n'
        f"{cards}\n"
        '<p class="foot"><a href="../index.html">All stacks</a> ·'
        ' <a href="simple/index.html">simple index</a></p>',
    )


def root_page(shelves: Sequence[tuple[str, Sequence[ShelvedWheel]]]) -> str:
    """Draw the page over all stacks."""
    cards = "\n".join(_stack(name, wheels) for name, wheels in shelves)
    return _document(
        "Wheels by stack",
        "<h1>Wheels by stack</h1>\n"
        '<p class="lead">A stack is one locked combination of torch, CUDA and archs. Choose the one'
        " whose torch you run; its driver line says what your machine needs.</p>\n"
        f"{cards or '<p>There is no shelf here.</p>'}",
    )


def _stack(name: str, wheels: Sequence[ShelvedWheel]) -> str:
    seen = [facts(wheel) for wheel in wheels]
    rows = (
        ("wheels", _joined(f"{one.wheel.project} {one.wheel.version}" for one in seen)),
        ("Python", _joined(one.python for one in seen)),
        ("torch", _joined(one.torch for one in seen)),
        ("archs", _joined(one.archs for one in seen)),
        ("driver", _joined(one.driver for one in seen)),
        ("size", f"{_count(len(seen))}, {size(sum(one.wheel.size for one in seen))}"),
    )
    link = f'<a href="{quote(name)}/index.html">{escape(name)}</a>'
    return f"<article>\n<h2>{link}</h2>\n{_table(rows)}\n</article>"


def _joined(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(words)) or "none"


def _count(number: int) -> str:
    return f"{number} wheel{'' if number == 1 else 's'}"


def _card(one: Facts) -> str:
    wheel = one.wheel
    name = quote(wheel.path.name)
    exact = f"{wheel.project}=={wheel.version}"
    rows = (
        ("Python", one.python),
        ("torch", one.torch),
        ("CUDA", one.cuda),
        ("archs", one.archs),
        ("driver", one.driver),
        ("ran on a GPU", one.ran),
        ("size", size(wheel.size)),
        ("sha256", wheel.sha256),
    )
    audit = f'<a class="audit" href="{name}.audit.html">Audit</a>' if wheel.audit.is_file() else ""
    links = (
        audit,
        f'<a href="{name}.receipt.json">Receipt</a>',
        f'<a href="{name}">File</a>',
    )
    file = f'<span class="here">{_HERE}</span>{escape(name)}#sha256={wheel.sha256}'
    index = f'--index-url <span class="here">{_HERE}</span>simple/'
    return (
        f'<article id="{quote(exact)}">\n'
        f"<h2>{escape(wheel.project)} <small>{_breakable(wheel.version)}</small></h2>\n"
        f"{_coverage(one)}{_table(rows)}\n"
        f'<p class="links">{" ".join(filter(None, links))}</p>\n'
        "<h3>Install this file; torch and the rest come from your own index</h3>\n"
        f"{_command('pip', f'python3 -m pip install &#x27;{file}&#x27;')}"
        f"{_command('uv', f'uv pip install &#x27;{file}&#x27;')}"
        f"<h3>Beside the torch {escape(one.torch)} that is installed</h3>\n"
        f"{_command('pip', f'python3 -m pip install --no-deps {index} {escape(exact)}')}"
        f"{_command('uv', f'uv pip install --no-deps {index} {escape(exact)}')}"
        "</article>"
    )


def _coverage(one: Facts) -> str:
    if not one.kernels:
        return '<p class="coverage"><b>no kernels</b></p>\n'
    share = 100 * one.native / one.kernels
    text = f"{one.native} of {one.kernels} kernels native {one.archs}"
    return (
        f'<p class="coverage"><b>{escape(text)}</b>'
        f'<span role="img" aria-label="{share:.0f} %"><i style="width:{share:.2f}%"></i></span></p>'
        "\n"
    )


def _command(tool: str, line: str) -> str:
    return f'<div class="command"><b>{tool}</b><pre><code>{line}</code></pre></div>\n'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<dt>{name}</dt><dd>{_breakable(text)}</dd>" for name, text in rows)
    return f"<dl>{cells}</dl>"


def _breakable(text: str) -> str:
    """Escaped, and a browser may break the line after each part of a version."""
    return "".join(escape(letter) + ("<wbr>" if letter in "+-_/" else "") for letter in text)


def _document(title: str, body: str) -> str:
    style = Path(__file__).with_name("landing.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n{_SCRIPT}\n</body>\n</html>\n"
    )
