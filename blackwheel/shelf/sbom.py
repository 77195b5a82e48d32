"""Lists all that a wheel was made from and needs, as a CycloneDX SBOM."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from blackwheel.receipts import document as receipts
from blackwheel.receipts.document import Section

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component

    from blackwheel.audit.linkage import Linkage

PREDICATE_TYPE: Final = "https://cyclonedx.org/bom"
ROLE: Final = "blackwheel:role"
SOURCE, BUNDLED, LINKED, NEEDED, BUILT = "source", "bundled", "linked-in", "needed", "build-tool"
RUNTIME: Final = "nvidia-cuda-runtime"
"""Brings `libcudart_static.a` and, with CUDA 13, its headers."""
HEADERS: Final = ("nvidia-cuda-cccl", "nvidia-cuda-runtime", "nvidia-cuda-crt", "nvidia-nvtx")
"""Packages whose headers are templates and inline code: what is used of them is in the library."""


def sbom(receipt: receipts.Document, bound: Sequence[Linkage]) -> bytes:
    """Return the SBOM of a wheel as it is stored: a function of its receipt and its libraries.

    Raises KeyError, TypeError or ValueError for a receipt that blackwheel did not write.
    """
    from cyclonedx.model.bom import Bom  # noqa: PLC0415  0.5 s that only shelving pays
    from cyclonedx.output.json import JsonV1Dot6  # noqa: PLC0415

    name, sha256 = receipts.subject(receipt)
    held = receipts.sections(receipt)
    finished = held["run"]["metadata"]["finishedOn"]
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:blackwheel:wheel:{sha256}"))
    bom.metadata.timestamp = datetime.strptime(finished, receipts.TIME).replace(tzinfo=UTC)
    main = _main(name, sha256, held)
    bom.metadata.component = main
    parts = [*_sources(held), *_files(bound, held), *_packages(bound, held)]
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(main, parts)
    return (JsonV1Dot6(bom).output_as_string(indent=2) + "\n").encode()


def statement(receipt: receipts.Document, bom: bytes) -> bytes:
    """Return the in-toto statement by which an SBOM is signed: about the wheel, as its receipt."""
    name, sha256 = receipts.subject(receipt)
    made = {**receipts.statement(name, sha256, json.loads(bom)), "predicateType": PREDICATE_TYPE}
    return receipts.content(made)


def _main(name: str, sha256: str, held: Mapping[str, Section]) -> Component:
    stack = held["stack"]
    version = f"{stack['version']}+{stack['key']['parts']['label']}"
    return _component(
        stack["project"],
        version,
        ref="wheel",
        sha256=sha256,
        properties={
            "blackwheel:file": name,
            "blackwheel:stack": stack["name"],
            "blackwheel:key": stack["key"]["digest"],
            "blackwheel:archs": ";".join(stack["archs"]),
            "blackwheel:python": held["environment"]["python"],
        },
    )


def _sources(held: Mapping[str, Section]) -> Iterator[Component]:
    """The project, its nested sources, and the patches."""
    sources = held["sources"]
    for one in (sources["project"], *sources["nested"]):
        digest = one["digest"]
        properties = {ROLE: SOURCE, "blackwheel:tree": digest.get("gitTree", "")}
        sdist = sources.get("sdist") if one is sources["project"] else one.get("wheel")
        if sdist:
            properties["blackwheel:archive"] = sdist["name"]
        yield _component(
            one["name"],
            digest.get("gitCommit", "") or held["stack"]["version"],
            ref=f"source:{one['name']}",
            address=one.get("uri", ""),
            sha256=sdist["digest"]["sha256"] if sdist else "",
            properties=properties,
        )
    for one in held["patches"]["series"]:
        yield _component(
            one["name"],
            "",
            ref=f"patch:{one['name']}",
            sha256=one["digest"]["sha256"],
            properties={ROLE: SOURCE, "blackwheel:kind": "patch"},
        )


def _files(bound: Sequence[Linkage], held: Mapping[str, Section]) -> Iterator[Component]:
    """The libraries in the wheel, each with what the loader looks for."""
    needs = {one.library: one for one in bound}
    for one in held["audit"]["libraries"]:
        properties = {ROLE: BUNDLED}
        if library := needs.get(one["path"]):
            properties["blackwheel:needs"] = " ".join(library.needed)
        yield _component(
            one["path"],
            "",
            ref=f"file:{one['path']}",
            sha256=one.get("sha256", ""),
            properties=properties,
            file=True,
        )


def _packages(bound: Sequence[Linkage], held: Mapping[str, Section]) -> Iterator[Component]:
    """torch, the build's lock, and the CUDA packages, each with the part that it played."""
    torch = held["torch"]
    yield _component(
        "torch",
        torch["version"],
        ref="package:torch",
        purl="pypi",
        properties={
            ROLE: NEEDED,
            "blackwheel:runtime": torch["runtime"],
            "blackwheel:git": torch["git_version"],
        },
    )
    libraries = ", ".join(one.library for one in bound if one.own_cuda_runtime)
    static = {"blackwheel:static": f"libcudart_static.a: {libraries}"} if libraries else {}
    toolchain = held["toolchain"]
    for line in toolchain.get("parts", ()):
        name, _, version = line.partition("==")
        properties = {ROLE: BUILT}
        if name in HEADERS:
            properties["blackwheel:headers"] = "what is used of them is compiled in"
        if name == RUNTIME and static:
            properties |= {ROLE: LINKED, **static}
        yield _component(name, version, ref=f"package:{name}", purl="pypi", properties=properties)
    if not toolchain.get("parts"):  # of the machine: its release is all that is known
        yield _component(
            "cuda-toolkit",
            toolchain["cuda_version"],
            ref="package:cuda-toolkit",
            properties={ROLE: LINKED if static else BUILT, **static},
        )
    lock = held["environment"]
    yield _component(
        lock["name"],
        "",
        ref="lock:build",
        sha256=lock["digest"]["sha256"],
        properties={ROLE: BUILT, "blackwheel:kind": "hashed pins of the build environment"},
        file=True,
    )


def _component(
    name: str,
    version: str,
    *,
    ref: str,
    sha256: str = "",
    address: str = "",
    purl: str = "",
    properties: Mapping[str, str],
    file: bool = False,
) -> Component:
    from cyclonedx.model import (  # noqa: PLC0415  only shelving pays
        ExternalReference,
        ExternalReferenceType,
        HashAlgorithm,
        HashType,
        XsUri,
    )
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415
    from packageurl import PackageURL  # noqa: PLC0415

    return Component(
        name=name,
        version=version or None,
        bom_ref=ref,
        type=ComponentType.FILE if file else ComponentType.LIBRARY,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else None,
        purl=PackageURL(type=purl, name=name, version=version) if purl else None,
        external_references=[ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(address))]
        if address
        else None,
        properties=_properties(properties),
    )


def _properties(named: Mapping[str, str]) -> Sequence[Property]:
    from cyclonedx.model import Property  # noqa: PLC0415  only shelving pays

    return [Property(name=name, value=value) for name, value in named.items() if value]
