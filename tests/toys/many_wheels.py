"""A folder of shelves such as a team has: two projects, three Pythons, several versions."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wheel.wheelfile import WheelFile

from blackwheel.receipts import document
from blackwheel.shelf import index

LABEL = "cu130torch2.11.0.sm120a"
MOMENT = datetime(2026, 11, 30, 12, tzinfo=UTC)
PYTHONS = ("3.11", "3.12", "3.13")
OTHERS = ("sm_75", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_100f", "sm_103", "sm_120f")
HOLDS = [
    {"title": "passes", "can": ["forward"], "cannot": ["backward (training)"]},
    {"title": "head dimensions", "can": ["64", "128"], "cannot": ["32", "96", "192", "256"]},
]


def library(path: str, **counts: int) -> dict[str, Any]:
    kernels = {"native": 0, "family": 0, "ptx": 0, "missing": 0} | counts
    archs = [["sm_80", kernels["ptx"]]] if kernels["ptx"] else []
    archs += [["sm_120a", kernels["native"]]] if kernels["native"] else []
    return {
        "path": path,
        "size": 45 << 20,
        "sha256": "a" * 64,
        "host_only": not any(kernels.values()),
        "elf_archs": archs,
        "ptx_archs": [["sm_80", kernels["ptx"]]] if kernels["ptx"] else [],
        "kernels_by_arch": archs,
        "kernels": kernels,
        "examples": [],
        "unreadable": "",
    }


def objects(count: int) -> list[dict[str, Any]]:
    """Records of a build on two lanes."""
    dice, free, found = random.Random(count), [0.0, 0.0], []  # noqa: S311
    for number in range(count):
        lane, seconds = free.index(min(free)), dice.uniform(2, 400)
        found.append(
            {
                "source": f"flash_fwd_hdim{dice.choice((64, 96, 256))}_bf16_causal_{number}.cu",
                "began": 1_796_004_106.0 + free[lane],
                "seconds": seconds,
                "cpu_seconds": seconds * 0.95,
                "peak_bytes": int(dice.uniform(0.3, 10) * 2**30),
                "cached": dice.random() < 0.1,
                "exit": 0,
            }
        )
        free[lane] += seconds
    scale = 1504 / max(free)  # the last tick, 25:00, is as far to the right as can be
    for one in found:
        one["began"] = 1_796_004_106.0 + (one["began"] - 1_796_004_106.0) * scale
        one["seconds"] *= scale
    return found


def sections(project: str, *, holds: Any = HOLDS, device: str = "") -> dict[str, Any]:
    ran = f"11 checks right, native on {device}" if device else "not run: no GPU was found"
    libraries = [library(f"{project}/_C.abi3.so", native=700), library(f"{project}/host.so")]
    if project == "vllm":
        libraries.append(library("vllm/_moe_C.abi3.so", native=400, ptx=12))
        libraries[-1]["kernels_by_arch"] += [[name, 1194] for name in OTHERS]
        libraries[-1]["ptx_archs"] += [["sm_89", 1], ["sm_90", 8]]
    return {
        **{stage: {} for stage in document.STAGES},
        "stack": {
            "name": "stable",
            "project": project,
            "archs": ["12.0a"],
            "driver": 580,
            "key": {"parts": {"variables.TOY_DTYPES": "bf16", "variables.MAX_JOBS": "{jobs}"}},
            **({"holds": holds} if holds else {}),
        },
        "torch": {"runtime": "2.11.0+cu130", "cuda": "13.0"},
        "command": {"variables": {"TOY_DTYPES": "bf16", "MAX_JOBS": "8", "CC": "g++"}},
        "run": {"builder": {}, "metadata": {"finishedOn": "2026-11-29T02:08:46Z"}},
        "objects": {"count": 40, "jobs": 2, "each": objects(40)},
        "audit": {
            "libraries": libraries,
            "links": [
                {
                    "library": f"{project}/_C.abi3.so",
                    "torch": "stable",
                    "glibc": "2.32",
                    "glibc_for": "x",
                    "missing": [],
                }
            ],
            "findings": [],
        },
        "smoke": {
            "device": device or "import only, because no GPU was found",
            "kernels": {"12.0a": ran},
            "guard": "another torch is refused",
            "checks": [{"name": "right"}] if device else [],
        },
    }


def make_wheel(folder: Path, project: str, version: str, python: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name, tag = project.replace("-", "_"), f"cp{python.replace('.', '')}"
    path, info = folder / f"{name}-{version}-{tag}-{tag}-linux_x86_64.whl", f"{name}-{version}"
    with WheelFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"{version} {python}")
        wheel.writestr(
            f"{info}.dist-info/METADATA",
            f"Metadata-Version: 2.4\nName: {project}\nVersion: {version}\n"
            "Requires-Python: >=3.11\nRequires-Dist: torch===2.11.0\n",
        )
        text = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}-{tag}-linux_x86_64\n"
        wheel.writestr(f"{info}.dist-info/WHEEL", text)
    return path


def receipt_of(wheel: Path, held: Mapping[str, Any]) -> document.Document:
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return document.receipt(wheel.name, sha256, held)


def many_wheels(home: Path) -> Path:
    """A folder `wheels` with the shelves `stable` and `quickstart`."""
    made = []
    versions = [("flash-attn", f"2.8.3+{LABEL}.{number}") for number in (1, 9, 10)]
    for project, version in [*versions, ("vllm", f"0.26.0+{LABEL}.1")]:
        for python in PYTHONS:
            device = "NVIDIA GeForce RTX 5090" if (version[-2:], python) == ("10", "3.12") else ""
            wheel = make_wheel(home, project, version, python)
            held = sections(project, device=device, holds=project == "flash-attn" and HOLDS)
            made.append((wheel, receipt_of(wheel, held)))
    index.shelve_all(made, home / "wheels" / "stable", now=MOMENT)
    index.shelve(*made[0], home / "wheels" / "quickstart", now=MOMENT)
    index.show_all(home / "wheels")
    return home / "wheels"
