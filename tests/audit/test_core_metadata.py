"""METADATA: fields that installers act on must hold, others may be odd in a foreign wheel."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from wheelwright import INFO, SO, make_wheel, native, require, rewritten, verdicts

from blackwheel.audit.core_metadata import core_metadata

HEAD = b"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"


def test_license_file_before_its_standard_is_a_note(tmp_path: Path) -> None:
    """Most wheels of the registry until 2025 are so: pip and uv install them."""
    wheel = make_wheel(tmp_path, {SO: native()})
    old = rewritten(
        wheel, f"{INFO}/METADATA", lambda t: t.replace("2.4\n", "2.1\nLicense-File: LICENSE\n")
    )
    seen = verdicts(old)
    assert (seen.own, seen.fatal) == (set(), set())
    assert "loose-metadata" in seen.noted


@pytest.mark.parametrize(
    ("change", "name", "foreign"),
    [
        (lambda t: t.replace("Version: 1.0", "Version: 9\nVersion: 1.0"), "bad-metadata", "fatal"),
        (lambda t: t.replace("Name: toy", "Name: torch"), "name-mismatch", "fatal"),
        (lambda t: t.replace("Name: toy\n", ""), "bad-metadata", "fatal"),
        (lambda t: t.replace("Version: 2.4", "Version: 3.0"), "bad-metadata", "fatal"),
        (lambda t: t + "Requires-Python: banana\n", "loose-metadata", "note"),
        (lambda t: t + "Requires-Python: <3.8\n", "excludes-its-python", "fatal"),
        (lambda t: t + "Requires-Python: >=3.13\n", "excludes-its-python", "fatal"),
        (lambda t: t + "requires-dist: torch>=2\n", "torch-not-pinned", "note"),
        (lambda t: t + "Requires-Dist: TORCH==2.13.0; extra == 'x'\n", "torch-not-pinned", "note"),
        (lambda t: t + "Obsoletes-Dist: torch\n", "loose-metadata", "note"),
        (lambda t: t + "Provides-Dist: torch\n", "loose-metadata", "note"),
        (lambda t: t + "Home: x\n", "loose-metadata", "note"),
        (lambda t: t + "Summary: x\rRequires-Dist: einops\n", "loose-metadata", "note"),
        (
            lambda t: t + 'Content-Type: multipart/mixed; boundary="B"\n\n--B\nRequires-Dist: x\n',
            "bad-metadata",
            "fatal",
        ),
        (lambda t: t.replace("2.11.0", '2.11.0\n   ; extra == "x"'), "bad-metadata", "fatal"),
        (lambda t: t + "\n\x00binary", "unreadable-text", "fatal"),
        (lambda t: "\x7fELF" + t, "bad-metadata", "fatal"),
        (lambda t: t + "\n" + "x" * (5 << 20), "unreadable-text", "fatal"),
        (lambda t: t + "".join(f"X{n}: a\n" for n in range(6000)), "bad-metadata", "fatal"),
        (lambda t: t + "Requires-Dist: vllm\n", "may-swap-torch", "note"),
        (lambda t: t + "Requires-Dist: pandas\n", "other-requirement", ""),
        (lambda t: t + "Requires-Dist: nvidia-cublas-cu12\n", "other-requirement", ""),
        (lambda t: t.replace("einops", "einops<1"), "other-requirement", ""),
        (lambda t: t + "Requires-Dist: torchvision\n", "may-swap-torch", "note"),
        (lambda t: t + "Requires-Dist: torchaudio; extra == 'a'\n", "may-swap-torch", "note"),
    ],
)
def test_metadata_like_that_is_named(
    tmp_path: Path, change: object, name: str, foreign: str
) -> None:
    wheel = make_wheel(tmp_path, {SO: native()})
    require(rewritten(wheel, f"{INFO}/METADATA", change), name, foreign)


def test_extra_may_require_what_it_likes(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {SO: native()})
    more = "Provides-Extra: bench\nRequires-Dist: pandas; extra == 'bench'\n"
    assert verdicts(rewritten(wheel, f"{INFO}/METADATA", lambda t: t + more)).own == set()


def test_python_of_the_tag_may_be_required_in_any_words(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {SO: native()})
    for words in (">=3.10", ">=3.12.3", "==3.12.*", "<4,>=3.9,!=3.12.0", ">3.11"):
        one = rewritten(wheel, f"{INFO}/METADATA", lambda t, w=words: t + f"Requires-Python: {w}\n")
        assert verdicts(one).own == set(), words


def test_wheel_without_torch_owes_no_torch(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {SO: native()}, requires=["einops"])
    assert "torch-not-pinned" not in verdicts(wheel).noted
    assert "torch-not-pinned" in verdicts(wheel).own


def test_requirements_are_read_beside_a_field_that_is_wrong() -> None:
    found = core_metadata(HEAD + b"Requires-Python: banana\nRequires-Dist: torch\n")
    assert found.requires == (Requirement("torch"),)
    assert [fault.read for fault in found.faults] == [False]


@pytest.mark.parametrize(
    "text",
    [
        HEAD + b"X%d: a\n" * 0 + b"".join(b"X%d: a\n" % n for n in range(200_000)),
        HEAD + b"Description: " + b"a\n        " * 400_000,
        HEAD + b"Requires-Dist: a\n" * 200_000,
        HEAD + b"Requires-Dist: " + b"(" * 100_000 + b"\n",
        HEAD + b"Requires-Dist: a[" + b"b," * 100_000 + b"c]\n",
        HEAD + b"\n" + b"x\n" * 1_000_000,
        b":" * 1_000_000,
        b"\r" * 1_000_000,
    ],
)
def test_large_metadata_is_read_in_seconds(text: bytes) -> None:
    began = time.monotonic()
    core_metadata(text[: 4 << 20])
    assert time.monotonic() - began < 8
