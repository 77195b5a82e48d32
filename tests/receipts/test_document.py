from __future__ import annotations

import copy
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.receipts import document as receipts

NAME = "toy-1.0+cu130torch2.11.0.sm120a.1-cp312-cp312-linux_x86_64.whl"
SECTIONS: dict[str, Any] = {
    "stack": {"name": "toy", "archs": ["12.0a"]},
    "sources": {
        "toy": {"name": "toy", "uri": "git+file:///toy", "digest": {"gitCommit": "3f1c2ab9"}},
    },
    "patches": {"series": [{"name": "0001-take-12.0a.patch", "digest": {"sha256": "aa"}}]},
    "torch": {"name": "torch-2.11.0.whl", "digest": {"sha256": "bb"}, "size": 7},
    "toolchain": {"cuda": "13.0.2"},
    "environment": {"packages": [{"name": "ninja-1.13.whl", "digest": {"sha256": "cc"}}]},
    "isolation": {"network": "namespace"},
    "command": {"argv": ["pip", "wheel", "Größe"]},
    "run": receipts.run_section(
        started=datetime(2025, 10, 20, 8, tzinfo=UTC),
        finished=datetime(2025, 10, 20, 9, tzinfo=UTC),
    ),
    "objects": {"toy.o": ["sm_120a"]},
    "audit": {"findings": []},
    "smoke": {"device": "sm_120: not run"},
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "shelf" / NAME
    path.parent.mkdir()
    path.write_bytes(b"toy")
    return path


@pytest.fixture
def document(wheel: Path) -> receipts.Document:
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return receipts.receipt(NAME, sha256, copy.deepcopy(SECTIONS))


def refusal(path: Path) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        receipts.load(path)
    return caught.value


def test_receipt_is_an_in_toto_statement_with_slsa_provenance(document: receipts.Document) -> None:
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert document["subject"] == [
        {"name": NAME, "digest": {"sha256": hashlib.sha256(b"toy").hexdigest()}}
    ]
    definition = document["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["stack"] == SECTIONS["stack"]
    assert definition["internalParameters"]["isolation"] == {"network": "namespace"}
    details = document["predicate"]["runDetails"]
    assert details["metadata"] == {
        "startedOn": "2025-10-20T08:00:00Z",
        "finishedOn": "2025-10-20T09:00:00Z",
    }
    assert details["builder"]["id"] == "urn:blackwheel:builder"
    assert [entry["name"] for entry in details["byproducts"]] == ["objects", "audit", "smoke"]


def test_sources_patches_torch_and_packages_are_resolved_dependencies(
    document: receipts.Document,
) -> None:
    assert document["predicate"]["buildDefinition"]["resolvedDependencies"] == [
        {"name": "toy", "uri": "git+file:///toy", "digest": {"gitCommit": "3f1c2ab9"}},
        {"name": "0001-take-12.0a.patch", "digest": {"sha256": "aa"}},
        {"name": "torch-2.11.0.whl", "digest": {"sha256": "bb"}},
        {"name": "ninja-1.13.whl", "digest": {"sha256": "cc"}},
    ]


def test_stored_receipt_is_the_same_bytes_each_time_and_loads_as_it_was(
    document: receipts.Document, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    receipts.write(first, document)
    receipts.write(
        second, receipts.receipt(*receipts.subject(document), dict(reversed(SECTIONS.items())))
    )
    assert first.read_bytes() == second.read_bytes()
    assert receipts.load(first) == document
    assert receipts.chain(document) == receipts.STAGES
    assert receipts.sections(document) == SECTIONS
    assert {path.name for path in tmp_path.glob("*")} == {"first.json", "second.json", "shelf"}


def test_whole_receipt_of_the_right_wheel_verifies(
    document: receipts.Document, wheel: Path
) -> None:
    assert receipts.verify(document, wheel) == ()


def test_flipped_byte_anywhere_in_a_receipt_is_caught(
    document: receipts.Document, wheel: Path, tmp_path: Path
) -> None:
    path = tmp_path / "receipt.json"
    receipts.write(path, document)
    whole = path.read_bytes()
    missed = []
    for place in range(0, len(whole), 7):  # all 5000 pass too, in 15 s
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            faults = receipts.verify(receipts.load(path), wheel)
        except BlackwheelError as error:
            assert error.name == "bad-receipt"
        else:
            missed += [] if faults else [whole[max(0, place - 20) : place + 20]]
    assert missed == []


@pytest.mark.parametrize("stage", receipts.STAGES)
def test_edited_section_is_named(document: receipts.Document, wheel: Path, stage: str) -> None:
    section = receipts.sections(document)[stage]
    deepest: Any = section
    while not isinstance(key := next(iter(deepest)), str) or isinstance(deepest[key], dict):
        deepest = deepest[key]
    deepest[key] = "edited"
    assert receipts.verify(document, wheel)[0] == (
        f"{stage}: edited: its section does not give its digest in the chain"
    )


def test_edit_beside_the_sections_is_named_by_its_path(
    document: receipts.Document, wheel: Path
) -> None:
    document["predicate"]["buildDefinition"]["resolvedDependencies"][0]["uri"] = "git+file:///else"
    document["predicate"]["runDetails"]["byproducts"][1]["digest"]["sha256"] = "0" * 64
    document["predicate"]["runDetails"]["extra"] = 1
    assert receipts.verify(document, wheel) == (
        "predicate.buildDefinition.resolvedDependencies.0.uri: edited",
        "predicate.runDetails.byproducts.1.digest.sha256: edited",
        "predicate.runDetails.extra: edited",
    )


def test_section_taken_from_the_receipt_of_another_wheel_is_named(
    document: receipts.Document, wheel: Path
) -> None:
    other = receipts.receipt("other.whl", "0" * 64, SECTIONS)
    document["predicate"]["blackwheel_chain"] = other["predicate"]["blackwheel_chain"]
    assert receipts.verify(document, wheel) == (
        "stack: edited: its section does not give its digest in the chain",
    )


def test_flipped_byte_in_the_wheel_is_named(document: receipts.Document, wheel: Path) -> None:
    wheel.write_bytes(b"toz")
    assert receipts.verify(document, wheel) == (
        f"subject: the wheel's sha256 is {hashlib.sha256(b'toz').hexdigest()}, "
        f"the receipt's {hashlib.sha256(b'toy').hexdigest()}",
    )


def test_receipt_of_another_or_a_missing_wheel_is_named(
    document: receipts.Document, tmp_path: Path
) -> None:
    assert receipts.verify(document, tmp_path / "other.whl") == (
        f"subject: is about {NAME}, not about other.whl",
        "subject: other.whl is missing",
    )


def test_stage_that_the_wheel_did_not_go_through_is_named(wheel: Path) -> None:
    held = {stage: SECTIONS[stage] for stage in SECTIONS if stage not in ("audit", "smoke")}
    document = receipts.receipt(NAME, hashlib.sha256(b"toy").hexdigest(), held)
    assert receipts.verify(document, wheel) == (
        "audit: missing: the wheel did not go through it",
        "smoke: missing: the wheel did not go through it",
    )
    assert receipts.verify(document, wheel, stages=receipts.STAGES[:-2]) == ()


def test_added_and_repeated_stages_give_a_whole_receipt(wheel: Path) -> None:
    held = {stage: SECTIONS[stage] for stage in SECTIONS if stage not in ("audit", "smoke")}
    document = receipts.receipt(NAME, hashlib.sha256(b"toy").hexdigest(), held)
    for stage in ("audit", "smoke", "smoke"):
        document = receipts.with_section(document, stage, {"seen": stage})
    assert receipts.verify(document, wheel) == ()
    assert receipts.sections(document)["smoke"] == {"seen": "smoke"}


def test_unknown_stage_is_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no such stage"):
        receipts.receipt(NAME, "0" * 64, {"sauce": {}})


def test_faults_of_shape_are_reported_together(document: receipts.Document, tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    document["_type"] = "https://in-toto.io/Statement/v0.1"
    del document["predicate"]["runDetails"]
    document["predicate"]["blackwheel_chain"] = {}
    path.write_text(json.dumps(document), encoding="utf-8")
    error = refusal(path)
    assert error.code is Exit.INDEX
    assert str(error) == (
        "error: bad-receipt\n"
        "  _type: not https://in-toto.io/Statement/v1\n"
        "  predicate.runDetails.builder: no object\n"
        "  predicate.runDetails.metadata: no object\n"
        "  predicate.runDetails.byproducts: no array\n"
        "  predicate.blackwheel_chain: no array\n"
        f"  where: {path}\n"
        "  fix:   build the wheel again: invoke build-wheels --again"
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda d: d["subject"].append({}), "subject: not exactly one"),
        (lambda d: d["subject"][0].pop("name"), "subject.0: no name with a digest.sha256"),
        (
            lambda d: d["subject"][0]["digest"].update(sha256="AB"),
            "subject.0: no name with a digest.sha256",
        ),
        (
            lambda d: d["predicate"]["blackwheel_chain"].reverse(),
            "blackwheel_chain: stages unknown, repeated or out of order: "
            + str(list(reversed(receipts.STAGES))),
        ),
        (
            lambda d: d["predicate"]["blackwheel_chain"][1].pop("digest"),
            "blackwheel_chain: sources: no digest, or no section",
        ),
        (
            lambda d: d["predicate"]["runDetails"]["byproducts"].pop(),
            "blackwheel_chain: smoke: no digest, or no section",
        ),
    ],
)
def test_fault_of_shape_is_named(
    document: receipts.Document, tmp_path: Path, change: Any, fault: str
) -> None:
    change(document)
    path = tmp_path / "receipt.json"
    receipts.write(path, document)
    assert refusal(path).fact == fault


@pytest.mark.parametrize(
    ("raw", "fact"),
    [
        (b"", "no JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "_type: not https://in-toto.io/Statement/v1"),
        (b"[" * 100_000, "no JSON that blackwheel writes"),
    ],
)
def test_file_that_is_no_receipt_is_refused(tmp_path: Path, raw: bytes, fact: str) -> None:
    path = tmp_path / "receipt.json"
    path.write_bytes(raw)
    assert refusal(path).fact.splitlines()[0] == fact


def test_missing_receipt_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.json").fact == "No such file or directory"


def test_receipt_in_another_form_is_refused_with_the_line(
    document: receipts.Document, tmp_path: Path
) -> None:
    path = tmp_path / "receipt.json"
    receipts.write(path, document)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "  " + lines[3], *lines[4:]]), encoding="utf-8")
    assert refusal(path).fact == "line 4: not as blackwheel wrote it"


def test_failed_write_leaves_the_old_receipt_and_nothing_beside(
    tmp_path: Path,
) -> None:
    path = tmp_path / "receipt.json"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        receipts.write(path, receipts.receipt(NAME, "0" * 64, SECTIONS))
    assert list(tmp_path.iterdir()) == [path]
