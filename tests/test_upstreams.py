"""No upstream's name stands in the package: what is known of one is data beside its series."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = re.compile(
    r"flash[-_ ]?att|\bfa[234]\b|vllm|flash[-_ ]?infer|marlin|cutlass|triton[-_]kernels"
    r"|deep[-_]?gemm|qutlass|flash[-_ ]?mla|hopper|gpt-oss|sglang|causal[-_]conv",
    re.IGNORECASE,
)
ALLOWED = {
    ("sources/package_index.py", "vllm==0.26.0"): "an example of what a person types",
    ("stacks/records.py", "docs/decisions/0026-vllm-0.11.0.md"): "the name of a page",
    ("core/progress.py", "`flash-attn: compile: done in"): "an example of a line of progress",
    ("pipeline/sessions.py", "`flash-attn`, or `flash-attn 3.12`"): "an example of a lane's name",
}
"""Text for people: file and words, and why they may stay."""


def named() -> list[tuple[str, str]]:
    """Every line of the package that names an upstream."""
    return [
        (path.relative_to(ROOT / "blackwheel").as_posix(), line)
        for path in sorted((ROOT / "blackwheel").rglob("*.py"))
        for line in [str(path), *path.read_text(encoding="utf-8").splitlines()]
        if NAMES.search(line.removeprefix(str(ROOT)))
    ]


def test_package_names_no_upstream() -> None:
    faults = [
        f"blackwheel/{file}: {line.strip()}"
        for file, line in named()
        if not any(file == known and words in line for known, words in ALLOWED)
    ]
    assert not faults, "it belongs into patches/<project>/: " + "\n".join(faults)


def test_nothing_is_allowed_that_is_not_there() -> None:
    lines = named()
    for known, words in ALLOWED:
        assert any(file == known and words in line for file, line in lines), (known, words)


def test_words_of_an_upstream_are_seen() -> None:
    """A pattern that finds nothing would allow everything."""
    for text in ("FLASH_ATTN_PASSES", "import vllm", "FlashInfer", "'fa3'", "libtriton_kernels"):
        assert NAMES.search(text), text
