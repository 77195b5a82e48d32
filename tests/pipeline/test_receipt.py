"""What a receipt says about sources, also where nobody knows the commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from blackwheel.pipeline import receipt
from blackwheel.shelf import verify_receipt
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.patch import PatchedTree
from blackwheel.stacks.records import GitPin, ProjectPin, SdistPin

SDIST = SdistPin(name="toy-1.0.tar.gz", sha256="5" * 64, size=1, tree="7" * 40)


def sources(commit: str, origin: str = "sdist") -> dict[str, Any]:
    pin = ProjectPin(
        version="1.0",
        modules=("toy",),
        source=GitPin(url="https://upstream.invalid/toy", commit=commit),
        sdist=SDIST,
    )
    tree = SourceTree(
        project="toy",
        pin=pin,
        root=Path("/nowhere"),
        origin=cast(Any, origin),
        commit=commit,
        tree=SDIST.tree,
        nested=(),
    )
    patched = PatchedTree(source=tree, root=tree.root, tree=tree.tree, patches=())
    return receipt._sources(patched)


def faults(section: dict[str, Any], commit: str) -> list[str]:
    """What `invoke verify` finds wrong in this section, with a key of that commit."""
    held = {"stack": {"key": {"digest": "f"}, "archs": []}, "sources": section}
    parts = {
        "archs": "",
        "source.commit": commit,
        "source.tree": SDIST.tree,
        "sdist": json.dumps({"tree": SDIST.tree, "sha256": SDIST.sha256}),
    }
    checks = verify_receipt.key_checks(cast(Any, held), parts)
    found = []
    try:
        for check in checks:
            if check.what not in ("key", "archs") and not check.ok:
                found.append(check.what)
    except KeyError:  # of the sections that follow
        pass
    return found


def test_unknown_commit_is_left_out_and_the_sdist_is_named_by_its_bytes() -> None:
    section = sources("")
    assert section["project"]["digest"] == {"gitTree": SDIST.tree}
    assert section["sdist"] == {"name": SDIST.name, "digest": {"sha256": SDIST.sha256}}
    assert faults(section, "") == []
    assert "sdist" not in sources("c" * 40, "git")
    assert sources("c" * 40)["project"]["digest"]["gitCommit"] == "c" * 40


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: s["sdist"]["digest"].update(sha256="6" * 64), "sdist"),
        (lambda s: s.pop("sdist"), "sdist"),
        (lambda s: s["project"]["digest"].update(gitCommit="c" * 40), "source commit"),
        (lambda s: s["project"]["digest"].update(gitTree="8" * 40), "source tree (sdist)"),
    ],
)
def test_receipt_of_an_unknown_commit_is_held_to_the_sdist(change: Any, fault: str) -> None:
    section = sources("")
    change(section)
    assert faults(section, "") == [fault]


def test_receipt_without_a_commit_is_not_one_of_a_key_that_has_one() -> None:
    assert faults(sources(""), "c" * 40) == ["source commit"]
