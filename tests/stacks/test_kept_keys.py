"""Keys of wheels that people keep do not move: revision 3b77469 computed the table.

vLLM 0.26.0 of torch211 is not in it: its guard came too late where a GPU is, and every wheel of it
is another one since (decision 0051).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blackwheel.sources.series import load_series, patch_digests
from blackwheel.stacks import loader
from blackwheel.stacks.key import key
from blackwheel.stacks.request import Request

ROOT = Path(__file__).parents[2]
KEPT = json.loads(Path(__file__).with_name("keys-3b77469.json").read_text(encoding="utf-8"))
"""By `stack project Python isolation [without …]`: the key's digest."""


@pytest.mark.parametrize("words", sorted(KEPT))
def test_key_is_what_revision_3b77469_computed(words: str) -> None:
    name, project, python, isolation, *left_out = words.split()
    stack = loader.load(name, ROOT / "constraints")
    without = tuple(left_out[1].split(",")) if left_out else ()
    request = Request(
        stack=stack, project=project, python=python, archs=stack.archs, without=without
    )
    series = load_series(ROOT / "patches" / project / request.pin.version)
    found = key(
        request,
        patches=patch_digests(series),
        constraints=ROOT / "constraints",
        isolation=isolation,
    )
    assert found.digest == KEPT[words]
