"""`nox -s audit-deps`: a vulnerable pin is no pass, and one of which nobody knows is none."""

from __future__ import annotations

import datetime
import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / ".ci" / "audit_deps.py"
HASH = f"\\\n    --hash=sha256:{'0' * 64}\n"


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_deps", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "audit_deps", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ACCEPTED", tmp_path / "accepted.toml")
    return module


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "dev.txt"
    path.write_text(f"# made\nToy.Box==1.5 {HASH}other==2.0 ; sys_platform == 'x' {HASH}")
    return path


def advisories(folder: Path, *events: dict[str, str], **more: Any) -> Path:
    ranged = {"type": "ECOSYSTEM", "events": list(events)}
    about = {"package": {"ecosystem": "PyPI", "name": "toy-box"}, "ranges": [ranged]}
    record = {"id": "TOY-1", "affected": [{**about, **more.pop("about", {})}], **more}
    folder.mkdir(exist_ok=True)
    (folder / "TOY-1.json").write_text(json.dumps(record))
    return folder


FROM, UNTIL = {"introduced": "1.0"}, {"fixed": "1.6"}


@pytest.mark.parametrize(
    ("events", "more", "code"),
    [
        ((FROM, UNTIL), {}, 1),
        (({"introduced": "0"},), {}, 1),
        ((FROM, {"last_affected": "1.5"}), {}, 1),
        ((FROM, {"fixed": "not a version"}), {}, 1),
        ((), {"about": {"ranges": [], "versions": ["1.5"]}}, 1),
        ((FROM, {"fixed": "1.5"}), {}, 0),
        (({"introduced": "1.6"},), {}, 0),
        ((FROM, {"last_affected": "1.4"}), {}, 0),
        ((FROM, UNTIL), {"withdrawn": "2026-01-01T00:00:00Z"}, 3),
        ((FROM, UNTIL), {"about": {"package": {"ecosystem": "npm", "name": "toy-box"}}}, 3),
    ],
)
def test_kept_advisory_counts_for_the_versions_that_it_names(
    audit: ModuleType, lock: Path, tmp_path: Path, events: Any, more: Any, code: int
) -> None:
    place = advisories(tmp_path / "kept", *events, **more)
    assert audit.main(["--kept", str(place), str(lock)]) == code


def test_found_one_is_told_with_its_cure_and_an_archive_is_read_as_a_folder(
    audit: ModuleType, lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = advisories(tmp_path / "kept", FROM, UNTIL)
    packed = tmp_path / "all.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(place / "TOY-1.json", "TOY-1.json")
    assert audit.main(["--kept", str(packed), str(lock)]) == 1
    assert capsys.readouterr().out == (
        "toy-box==1.5  TOY-1, fixed in 1.6  dev.txt\n2 pins in 1 locks: 1 known vulnerabilities\n"
    )


@pytest.mark.parametrize(
    "content", [None, b"", b"[", b"[" * 200_000, b"{}", b'{"id": 1, "affected": [7]}']
)
def test_copy_that_tells_nothing_is_no_pass(
    audit: ModuleType,
    lock: Path,
    tmp_path: Path,
    content: bytes | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "kept"
    if content is not None:
        place.mkdir()
        (place / "x.json").write_bytes(content)
    assert audit.main(["--kept", str(place), str(lock)]) == 3
    assert capsys.readouterr().err.startswith("error: bad-advisories\n")


def test_lock_without_a_pin_is_no_pass(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    place = advisories(tmp_path / "kept", FROM)
    assert audit.main(["--kept", str(place), str(tmp_path / "empty.txt")]) == 3
    assert capsys.readouterr().err.startswith("error: bad-lock\n")


@pytest.mark.parametrize(
    ("told", "code", "said"),
    [
        ([{"name": "toy-box", "version": "1.5", "vulns": []}], 0, ""),
        (
            [{"name": "toy-box", "version": "1.5", "vulns": [{"id": "X-1", "fix_versions": []}]}],
            1,
            "",
        ),
        ([{"name": "toy-box", "skip_reason": "not found on PyPI"}], 13, "error: advisories-away\n"),
        ([{"name": "other", "version": "2.0", "vulns": []}], 13, "error: advisories-away\n"),
        ([], 13, "error: advisories-away\n"),
        (None, 13, "error: advisories-away\n"),
    ],
)
def test_answer_of_pip_audit_is_believed_only_where_it_knows(
    audit: ModuleType,
    lock: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    told: Any,
    code: int,
    said: str,
) -> None:
    """It ends with 0 where it skipped every pin: seen with an index that has no such pages."""
    program = tmp_path / "pip-audit"
    answer = "no connection" if told is None else json.dumps({"dependencies": told})
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setattr(audit.sys, "executable", str(tmp_path / "python"))
    assert audit.main([str(lock)]) == code
    assert capsys.readouterr().err[: len(said) or None] == said


def test_accepted_advisory_has_a_reason_and_an_end(
    audit: ModuleType, lock: Path, tmp_path: Path
) -> None:
    place = advisories(tmp_path / "kept", FROM, UNTIL)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    row = '[[accepted]]\nid = "TOY-1"\nreason = "no such call is made"\nuntil = {}\n'
    for day, code in ((today, 0), (today - datetime.timedelta(days=1), 1)):
        audit.ACCEPTED.write_text(row.format(day))
        assert audit.main(["--kept", str(place), str(lock)]) == code
    audit.ACCEPTED.write_text('[[accepted]]\nid = "TOY-1"\nuntil = 2099-01-01\n')
    assert audit.main(["--kept", str(place), str(lock)]) == 3


def test_every_lock_of_the_tool_is_asked_for(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = advisories(tmp_path / "kept", {"introduced": "9999"})
    assert audit.main(["--kept", str(place)]) == 0
    told = capsys.readouterr().out
    locks = [*audit.ROOT.glob("constraints/dev-*.txt"), *audit.ROOT.glob(".ci/*.txt")]
    assert f" in {len(locks)} locks: 0 known" in told
    assert len(locks) >= 7
