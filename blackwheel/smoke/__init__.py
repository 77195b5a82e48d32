"""Does the wheel import in a clean environment that holds only the pinned torch → SmokedWheel."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blackwheel import process, receipts, torchpin
from blackwheel.console import Console
from blackwheel.errors import BlackwheelError, Exit
from blackwheel.stacks import ProjectPin, Stack

IMPORT_SECONDS: Final = 300
"""An import that takes longer hangs; torch alone takes 4 s on a slow machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmokedWheel:
    """A wheel that imported beside the pinned torch, and on what."""

    wheel: Path
    torch: torchpin.TorchIdentity
    imports: tuple[tuple[str, float], ...]
    """Module and seconds."""
    device: str
    """The GPU's name, or `import only, because no GPU was found`."""
    kernels: tuple[tuple[str, str], ...]
    """Each arch of the wheel and what ran there: `not run` until a device of it ran the kernels."""
    together: tuple[str, ...]
    """File names of the wheels that lay in the same environment."""

    def section(self) -> dict[str, Any]:
        """What the receipt says of it."""
        return {
            "torch": self.torch.section(),
            "imports": dict(self.imports),
            "device": self.device,
            "kernels": dict(self.kernels),
            "together": list(self.together),
        }


def smoke(
    wheel: Path,
    project: str,
    *,
    stack: Stack,
    environment: Path,
    together: tuple[str, ...],
    variables: Mapping[str, str],
    console: Console,
    store: Path | None = None,
) -> SmokedWheel:
    """Import every module of one installed wheel, each in its own process.

    Raises `import-failed` with the interpreter's own words, and `other-torch` where the environment
    holds another torch than the stack's pin or the wheel's receipt, down to its libraries' bytes.
    """
    pin: ProjectPin = stack.projects[project]
    packages = torchpin.site_packages(environment)
    identity = torchpin.seen(packages, store=store)
    torchpin.check(identity, stack.torch, where=str(environment))
    built = _receipt_of(wheel)
    torchpin.check_same(identity, built.get("torch", {}), where=str(environment))
    archs = tuple(built.get("stack", {}).get("archs", stack.archs))
    imports = []
    device, capability = "", ""
    with console.stage(project, f"smoke {wheel.name}") as stage:
        for number, module in enumerate(pin.modules):
            stage.update(number, len(pin.modules), module)
            seen = _imported(module, environment, variables, wheel)
            imports.append((module, float(seen["seconds"])))
            capability = seen["capability"]
            device = seen["device"] and f"{seen['device']} ({capability})"
        stage.update(len(pin.modules), len(pin.modules))
        device = device or "import only, because no GPU was found"
        stage.conclude(device)
    return SmokedWheel(
        wheel=wheel,
        torch=identity,
        imports=tuple(imports),
        device=device,
        kernels=kernels_not_run(archs, device, capability),
        together=together,
    )


def kernels_not_run(
    archs: Sequence[str], device: str, capability: str
) -> tuple[tuple[str, str], ...]:
    """Say of each arch why no kernel of it ran: an import alone proves none.

    `capability` is the device's, `12.0`; empty where there is no GPU.
    """
    found = f"{device} was found" if capability else "no GPU was found"
    unchecked = f"{found}, but kernels are not checked yet"
    return tuple(
        (arch, f"not run: {unchecked if arch.rstrip('af') == capability else found}")
        for arch in archs
    )


def _receipt_of(wheel: Path) -> dict[str, receipts.Section]:
    """The sections of the receipt beside a wheel; none for a wheel from elsewhere."""
    path = wheel.with_name(f"{wheel.name}.receipt.json")
    return receipts.sections(receipts.load(path)) if path.exists() else {}


def _imported(
    module: str, environment: Path, variables: Mapping[str, str], wheel: Path
) -> dict[str, Any]:
    """Import one module in a process of its own, away from any source tree."""
    probe = Path(__file__).with_name("probe.py")
    argv = [str(environment / "bin" / "python"), "-I", str(probe), module]
    try:
        done = process.capture(
            argv, environment=variables, cwd=environment, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _failed(module, wheel, f"hung: {IMPORT_SECONDS} s went by") from None
    if done.code != 0:
        how = f"killed by signal {done.code - 128}\n" if done.code > 128 else ""
        tail = "\n".join(done.stderr.splitlines()[-12:])
        raise _failed(module, wheel, f"{how}{tail}")
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def _failed(module: str, wheel: Path, words: str) -> BlackwheelError:
    return BlackwheelError(
        "import-failed",
        f"import {module} of {wheel.name} failed\n{words}",
        where=str(wheel),
        fix="the wheel stays off the shelf; invoke audit WHEEL tells what it links against",
        code=Exit.SMOKE,
    )
