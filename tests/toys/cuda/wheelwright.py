"""Makes small wheels, right ones and wrong ones: `from wheelwright import make_wheel`."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LABEL = "cu130torch2.11.0.sm120a.1"
NAME = f"toy-1.0+{LABEL}-cp312-cp312-linux_x86_64.whl"
TORCH = "torch===2.11.0"


def record_row(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(data)}\n"


def make_wheel(
    folder: Path,
    files: Mapping[str, bytes | Path] | None = None,
    *,
    name: str = NAME,
    metadata_version: str = "",
    requires: Sequence[str] = (TORCH, "einops"),
    tag: str = "",
    wheel_version: str = "1.0",
    unlisted: Sequence[tuple[str | zipfile.ZipInfo, bytes]] = (),
    record: Callable[[str], str] = lambda text: text,
    compression: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """A right wheel, plus `unlisted` entries at the end, with RECORD as `record` changes it."""
    distribution, version, *tags = name.removesuffix(".whl").split("-")
    info = f"{distribution}-{version}.dist-info"
    lines = ["Metadata-Version: 2.4", f"Name: {distribution}"]
    lines += [f"Version: {metadata_version or version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    held: dict[str, bytes] = {"toy/__init__.py": b"NAME = 'toy'\n"}
    for path, data in (files or {}).items():
        held[path] = data.read_bytes() if isinstance(data, Path) else data
    held[f"{info}/METADATA"] = ("\n".join(lines) + "\n").encode()
    wheel_file = (
        f"Wheel-Version: {wheel_version}\nRoot-Is-Purelib: false\nTag: {tag or '-'.join(tags)}\n"
    )
    held[f"{info}/WHEEL"] = wheel_file.encode()
    text = "".join(record_row(path, data) for path, data in held.items()) + f"{info}/RECORD,,\n"
    held[f"{info}/RECORD"] = record(text).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", compression) as archive:
        for entry, data in [*held.items(), *unlisted]:
            archive.writestr(entry, data)
    return folder / name
