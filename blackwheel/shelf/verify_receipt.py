"""Compares the sections of a receipt with the key in it and with the name of the wheel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from blackwheel.receipts import document
from blackwheel.shelf.verify_pages import Check, compared, compared_all
from blackwheel.stacks.records import python_tag

_TORCH: Final = ("version", "runtime", "cuda", "git_version", "cxx11_abi")


def title_checks(
    wheel: Path, held: Mapping[str, document.Section], parts: Mapping[str, str]
) -> Iterator[Check]:
    """Compare the file's name with the receipt."""
    name, version, _, tags = parse_wheel_filename(wheel.name)
    stack = held["stack"]
    named = parts.get("distribution", canonicalize_name(stack["project"]))
    yield compared("wheel name", str(name), named)
    yield compared("wheel version", str(version), f"{stack['version']}+{parts['label']}")
    pythons = "/".join(sorted({tag.interpreter for tag in tags}))
    yield compared("wheel python", pythons, python_tag(parts["python"]))


def key_checks(held: Mapping[str, document.Section], parts: Mapping[str, str]) -> Iterator[Check]:
    """Compare the key with its parts, and each stage with the key."""
    texts = json.dumps(sorted(parts.items()), ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(texts.encode()).hexdigest()
    yield compared("key", held["stack"]["key"]["digest"], digest)
    yield compared("archs", ";".join(held["stack"]["archs"]), parts["archs"])
    sources = held["sources"]
    from_git = sources["origin"] == "git"
    tree = parts["source.tree"] if from_git else json.loads(parts["sdist"])["tree"]
    seen = sources["project"]["digest"]
    commit = seen.get("gitCommit", "")
    if commit or parts["source.commit"] or from_git:
        yield compared("source commit", commit, parts["source.commit"])
    else:  # nobody knows the commit: then the bytes of the sdist are the source
        archive = sources.get("sdist", {}).get("digest", {}).get("sha256", "")
        yield compared("sdist", archive, json.loads(parts["sdist"])["sha256"])
    # A git source without a pinned tree is never taken: its key says "null", which is no tree.
    yield compared(f"source tree ({sources['origin']})", seen["gitTree"], tree)
    pins = {k.partition(".")[2]: json.loads(v) for k, v in parts.items() if k.startswith("nested.")}
    there = {one["name"]: one for one in sources["nested"]}
    yield compared_all("nested sources", sorted(there), sorted(pins))
    for path, pin in sorted(pins.items()):
        row = there.get(path, {})
        seen, wheel = row.get("digest", {}), row.get("wheel", {}).get("digest", {})
        yield compared(f"{path} commit", seen.get("gitCommit", ""), pin["commit"])
        if wheel:
            known = pin.get("archive") or {}
            yield compared(f"{path} wheel", wheel.get("sha256", ""), known.get("sha256", "none"))
            yield compared(f"{path} tree", seen.get("gitTree", ""), known.get("tree", "none"))
        elif from_git and pin["tree"]:  # of an sdist the whole tree covers its part of it
            yield compared(f"{path} tree", seen.get("gitTree", ""), pin["tree"])
    series = held["patches"]["series"]
    names = [one["name"] for one in series]
    yield compared_all("series", names, json.loads(parts["patches"]))
    for one in series:
        expected = parts.get(f"patches.{one['name']}", "none")
        yield compared(one["name"], one["digest"]["sha256"], expected)
    lock, isolation = held["environment"], held["isolation"]
    yield compared(lock["name"], lock["digest"]["sha256"], parts["locks.build"])
    yield compared("isolation", isolation["mode"], parts["isolation"])
    toolchain = held["toolchain"]
    cuda, pinned = toolchain["cuda_version"], parts["toolchain.cuda"]
    yield compared("toolchain", pinned if _same_release(cuda, pinned) else cuda, pinned)
    nvcc = parts["toolchain.nvcc"] or toolchain["nvcc_version"]
    yield compared("nvcc", toolchain["nvcc_version"], nvcc)


def _same_release(one: str, other: str) -> bool:
    """Tell whether two releases are one, however they are written: 13.0.3.0 is 13.0.3."""
    try:
        return Version(one) == Version(other)
    except (InvalidVersion, TypeError):
        return one == other


def torch_checks(torch: document.Section, parts: Mapping[str, str]) -> Iterator[Check]:
    """Compare the torch of the build with the torch that the stack pins."""
    for name in _TORCH:
        value, expected = torch[name], parts[f"torch.{name}"]
        text = value if isinstance(value, str) else json.dumps(value)
        if expected != "null":  # the stack does not pin it
            yield compared(f"torch {name}", text, expected)
    locked = json.loads(parts.get("torch.libraries", "{}"))
    there = {one["name"]: one["digest"]["sha256"] for one in torch["libraries"]} if locked else {}
    for name in sorted({*locked, *there}):
        yield compared(name, there.get(name, "none"), locked.get(name, "none"))
    if parts["torch.wheel"] != "null":
        accepted = parts["torch.wheel"] in torch["wheel_sha256"]
        found = parts["torch.wheel"] if accepted else ", ".join(torch["wheel_sha256"])
        yield compared("torch wheel", found, parts["torch.wheel"])
