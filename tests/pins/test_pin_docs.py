"""The stacks of docs/nightly-stack.md are stacks, and of one CUDA with their torch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError
from blackwheel.pytorch import nightly_index
from blackwheel.pytorch.identity import require_locked
from blackwheel.stacks import loader

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "nightly-stack.md").read_text(encoding="utf-8")
EXAMPLES = {
    found[1]: found[0]
    for found in re.finditer(r"(?<=```toml\n)# constraints/([\w-]+)\.toml\n.*?(?=```)", TEXT, re.S)
}


@pytest.mark.parametrize("name", ["nightly-cu130", "nightly-cu134"])
def test_documented_stack_loads_and_waits_for_its_lock(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "constraints", tmp_path, dirs_exist_ok=True)
    (tmp_path / f"{name}.toml").write_text(EXAMPLES[name], encoding="utf-8")
    stack = loader.load(name, tmp_path)
    channel = stack.torch.runtime.partition("+")[2]
    assert stack.torch.index.endswith(f"/{channel}")
    assert stack.torch.cuda == nightly_index.channel_cuda(channel)
    assert stack.toolchain.cuda.startswith(f"{stack.torch.cuda}.")
    with pytest.raises(BlackwheelError, match="is not locked"):
        require_locked(stack)
