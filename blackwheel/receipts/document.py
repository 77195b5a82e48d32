"""Writes, reads and verifies receipts, whose stages are linked so that an edit is named.

An in-toto Statement v1 (https://in-toto.io/Statement/v1) with a SLSA provenance v1 predicate
(https://slsa.dev/spec/v1.0/provenance), so that others can read it. Each stage's section has one
place: stack in `externalParameters`, run in `builder` and `metadata`, objects, audit and smoke as
`annotations` in `byproducts`, the others in `internalParameters`. `blackwheel_chain` lists the
stages in order, each with a digest over its section and the digest before it; the first one is over
the subject. `resolvedDependencies` repeats every descriptor that the sections hold.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from blackwheel import __version__
from blackwheel.core import files
from blackwheel.core.errors import BlackwheelError, Exit

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:blackwheel:wheel:v1"
STAGES: Final = (
    "stack",
    "sources",
    "patches",
    "torch",
    "toolchain",
    "environment",
    "isolation",
    "command",
    "run",
    "objects",
    "audit",
    "smoke",
)
TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
"""Of the moments in a receipt: UTC, to the second."""
LARGEST: Final = 1 << 26
"""Bytes of a receipt; one of 1,000 objects has 0.5 MB."""
_SHAPE: Final[dict[str, str | type]] = {
    "_type": STATEMENT_TYPE,
    "subject": list,
    "predicateType": PREDICATE_TYPE,
    "predicate.buildDefinition.buildType": BUILD_TYPE,
    "predicate.buildDefinition.externalParameters": dict,
    "predicate.buildDefinition.internalParameters": dict,
    "predicate.buildDefinition.resolvedDependencies": list,
    "predicate.runDetails.builder": dict,
    "predicate.runDetails.metadata": dict,
    "predicate.runDetails.byproducts": list,
    "predicate.blackwheel_chain": list,
}
_BYPRODUCTS: Final = ("objects", "audit", "smoke")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

Document = dict[str, Any]
Section = Mapping[str, Any]


def run_section(*, started: datetime, finished: datetime) -> Section:
    """Return the section `run`: this version of blackwheel, start and end of the build."""

    def text(moment: datetime) -> str:
        return moment.astimezone(UTC).strftime(TIME)

    return {
        "builder": {"id": "urn:blackwheel:builder", "version": {"blackwheel": __version__}},
        "metadata": {"startedOn": text(started), "finishedOn": text(finished)},
    }


def receipt(name: str, sha256: str, sections: Mapping[str, Section]) -> Document:
    """Return the receipt of the wheel file `name` from the sections of its stages.

    A section is any mapping that JSON can hold. A mapping in it with `name` and `digest` (a mapping
    from `sha256`, `gitCommit` or `gitTree`), perhaps `uri`, is a descriptor that others look for.
    """
    unknown = set(sections) - set(STAGES)
    if unknown:
        raise ValueError(f"no such stage: {sorted(unknown)}")
    held = {stage: sections[stage] for stage in STAGES if stage in sections}
    links = _links(name, sha256, held)
    run = held.get("run", {"builder": {}, "metadata": {}})
    return statement(
        name,
        sha256,
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"stack": held["stack"]} if "stack" in held else {},
                "internalParameters": {
                    stage: section
                    for stage, section in held.items()
                    if stage not in ("stack", "run", *_BYPRODUCTS)
                },
                "resolvedDependencies": _dependencies(held),
            },
            "runDetails": {
                **run,
                "byproducts": [
                    {"name": stage, "digest": {"sha256": digest}, "annotations": held[stage]}
                    for stage, digest in links
                    if stage in _BYPRODUCTS
                ],
            },
            "blackwheel_chain": [{"stage": stage, "digest": digest} for stage, digest in links],
        },
    )


def statement(name: str, sha256: str, predicate: Mapping[str, Any]) -> Document:
    """Return an in-toto Statement v1 about one file, with a SLSA provenance v1 predicate."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(predicate),
    }


def with_section(document: Document, stage: str, section: Section) -> Document:
    """Return the receipt with the section of one stage added or replaced."""
    name, sha256 = subject(document)
    return receipt(name, sha256, {**sections(document), stage: section})


def subject(document: Document) -> tuple[str, str]:
    """Return file name and sha256 of the wheel that the receipt is about."""
    entry = document["subject"][0]
    return entry["name"], entry["digest"]["sha256"]


def chain(document: Document) -> tuple[str, ...]:
    """Return the stages that the wheel went through, in order."""
    return tuple(link["stage"] for link in document["predicate"]["blackwheel_chain"])


def sections(document: Document) -> dict[str, Section]:
    """Return the section of each stage in the chain."""
    found = {stage: _section(document, stage) for stage in chain(document)}
    return {stage: section for stage, section in found.items() if section is not None}


def content(document: Document) -> bytes:
    """Return the stored form of a receipt: sorted keys, two spaces, UTF-8, a newline."""
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def write(path: Path, document: Document) -> None:
    """Store a receipt."""
    files.replace_file(path, content(document))


def load(path: Path) -> Document:
    """Read a receipt of the right shape; raise `bad-receipt` with every fault.

    What it says is not proved by this: `verify` does that.
    """
    try:
        raw = files.bounded(path, LARGEST)
        document = json.loads(raw)
        faults = shape_faults(document)
        if not faults and content(document) != raw:
            faults = [f"line {first_change(raw, content(document))}: not as blackwheel wrote it"]
    except OSError as error:
        faults = [error.strerror or str(error)]
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        faults = [f"no JSON: {error}"]
    except (ValueError, RecursionError) as error:  # NaN, a lone surrogate, brackets a mile deep
        large = [str(error)] if str(error).startswith("it ") else []
        faults = large or ["no JSON that blackwheel writes"]
    if faults:
        raise BlackwheelError(
            "bad-receipt",
            "\n".join(faults),
            where=str(path),
            fix="build the wheel again: invoke build-wheels --again",
            code=Exit.INDEX,
        )
    return dict(document)


def shape_faults(document: Any) -> list[str]:
    """Return the faults that keep a JSON value from being a receipt, each with its path."""
    faults = []
    for path, wanted in _SHAPE.items():
        found = _at(document, path)
        if isinstance(wanted, str) and found != wanted:
            faults.append(f"{path}: not {wanted}")
        elif isinstance(wanted, type) and not isinstance(found, wanted):
            faults.append(f"{path}: no {'array' if wanted is list else 'object'}")
    if faults:
        return faults
    if len(document["subject"]) != 1:
        return ["subject: not exactly one"]
    entry = document["subject"][0]
    if not isinstance(_at(entry, "name"), str) or not _is_sha256(_at(entry, "digest.sha256")):
        return ["subject.0: no name with a digest.sha256"]
    return _chain_faults(document)


def verify(
    document: Document, wheel: Path, *, stages: Sequence[str] = STAGES, digest: str = ""
) -> tuple[str, ...]:
    """Return every fault: other bytes of the wheel, a missing stage, an edited section.

    `digest` is the sha256 of the wheel's bytes where that is known already.
    Empty if all holds. The receipt bears no signature: a forger who recomputes every digest is not
    found.
    """
    faults = shape_faults(document)
    if faults:
        return tuple(faults)
    name, sha256 = subject(document)
    if wheel.name != name:
        faults.append(f"subject: is about {name}, not about {wheel.name}")
    if not wheel.is_file():
        faults.append(f"subject: {wheel.name} is missing")
    else:
        found = digest or files.sha256(wheel)
        if found != sha256:
            faults.append(f"subject: the wheel's sha256 is {found}, the receipt's {sha256}")
    seen = chain(document)
    faults += [
        f"{stage}: missing: the wheel did not go through it"
        for stage in stages
        if stage not in seen
    ]
    broken = _broken_links(document)
    if broken:
        return (*faults, *broken)
    derived = receipt(name, sha256, sections(document))
    return (*faults, *(f"{path}: edited" for path in _differences(document, derived)))


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _link(stage: str, section: Section, previous: str) -> str:
    return _digest({"stage": stage, "section": section, "previous": previous})


def _links(name: str, sha256: str, held: Mapping[str, Section]) -> list[tuple[str, str]]:
    """Each stage with its digest, which covers its section and the digest before it."""
    previous = _digest({"name": name, "sha256": sha256})
    links = []
    for stage, section in held.items():
        previous = _link(stage, section, previous)
        links.append((stage, previous))
    return links


def _broken_links(document: Document) -> list[str]:
    """The stages whose stored digest is not that of their section and the stored digest before."""
    name, sha256 = subject(document)
    previous = _digest({"name": name, "sha256": sha256})
    broken = []
    for link in document["predicate"]["blackwheel_chain"]:
        stage = link["stage"]
        if _link(stage, _section(document, stage) or {}, previous) != link["digest"]:
            broken.append(f"{stage}: edited: its section does not give its digest in the chain")
        previous = link["digest"]
    return broken


def _section(document: Document, stage: str) -> Section | None:
    """The section of a stage from its place in the predicate."""
    found: Any = None
    if stage == "run":
        details = document["predicate"]["runDetails"]
        found = {key: details[key] for key in ("builder", "metadata")}
    elif stage in _BYPRODUCTS:
        for entry in document["predicate"]["runDetails"]["byproducts"]:
            if _at(entry, "name") == stage:
                found = _at(entry, "annotations")
    else:
        group = "externalParameters" if stage == "stack" else "internalParameters"
        found = document["predicate"]["buildDefinition"][group].get(stage)
    return found if isinstance(found, dict) else None


def _chain_faults(document: Document) -> list[str]:
    links = document["predicate"]["blackwheel_chain"]
    seen = [_at(link, "stage") for link in links]
    if seen != [stage for stage in STAGES if stage in seen]:
        return [f"blackwheel_chain: stages unknown, repeated or out of order: {seen}"]
    return [
        f"blackwheel_chain: {stage}: no digest, or no section"
        for stage, link in zip(seen, links, strict=True)
        if not _is_sha256(_at(link, "digest")) or _section(document, stage) is None
    ]


def _dependencies(held: Mapping[str, Section]) -> list[Section]:
    """Every descriptor of the sections that go into a build, once, in the order of the stages."""
    found: dict[str, Section] = {}
    for stage, section in held.items():
        if stage not in _BYPRODUCTS:
            for entry in _descriptors(section):
                found.setdefault(_digest(entry), entry)
    return list(found.values())


def _descriptors(value: Any) -> Iterator[Section]:
    if isinstance(value, Mapping):
        if "name" in value and isinstance(value.get("digest"), Mapping):
            yield {key: value[key] for key in ("name", "uri", "digest") if key in value}
        for key in sorted(value):
            yield from _descriptors(value[key])
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _descriptors(entry)


def _differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Paths at which two JSON values differ."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in sorted({*found, *wanted}):
            inner = f"{path}.{key}" if path else key
            if (key in found) != (key in wanted):
                yield inner
            else:
                yield from _differences(found[key], wanted[key], inner)
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield from _differences(one, other, f"{path}.{number}")
    elif found != wanted:
        yield path


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def first_change(found: bytes, wanted: bytes) -> int:
    """Return the number of the first line in which two texts differ."""
    pairs = zip_longest(found.split(b"\n"), wanted.split(b"\n"))
    return next(number for number, (one, other) in enumerate(pairs, 1) if one != other)


BEFORE_SMOKE: Final = tuple(stage for stage in STAGES if stage != "smoke")
