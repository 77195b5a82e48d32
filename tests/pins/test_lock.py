"""Hashed locks, resolved by uv from a folder of wheels that stands in for the registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import persons_environment
from nightly_index import wheel
from uv import find_uv_bin

from blackwheel.pins import lock


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A folder with two releases of one distribution."""
    folder = tmp_path / "registry"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        name = f"dep-{version}-py3-none-any.whl"
        (folder / name).write_bytes(wheel("dep", version))
    return folder


def locked(registry: Path, out: Path, *, source: str, upgrade: bool = False) -> bool:
    empty = registry.parent / "empty"
    empty.mkdir(exist_ok=True)
    return lock.compile_lock(
        ["dep"],
        python="3.12",
        out=out,
        source=source,
        uv=Path(find_uv_bin()),
        environment={
            **persons_environment(),
            "UV_DEFAULT_INDEX": empty.as_uri(),
            "UV_FIND_LINKS": str(registry),
        },
        upgrade=upgrade,
    )


def test_lock_of_a_renamed_stack_keeps_every_byte(registry: Path, tmp_path: Path) -> None:
    """The whole file is part of the key, so also the line that names the stack."""
    out = tmp_path / "locks" / "run.txt"
    assert locked(registry, out, source="constraints/stable.toml")
    before = out.read_bytes()
    assert not locked(registry, out, source="constraints/torch211.toml")
    assert out.read_bytes() == before


def test_changed_pins_of_a_renamed_stack_keep_their_first_line(
    registry: Path, tmp_path: Path
) -> None:
    out = tmp_path / "locks" / "run.txt"
    assert locked(registry, out, source="constraints/stable.toml")
    out.write_text(out.read_text("utf-8").replace("dep==2.0", "dep==1.0"), encoding="utf-8")
    assert locked(registry, out, source="constraints/torch211.toml", upgrade=True)
    first, pin = out.read_text(encoding="utf-8").splitlines()[:2]
    assert first == "# Regenerate: nox -s lock (from constraints/stable.toml). Do not edit."
    assert pin.startswith("dep==2.0 ")
