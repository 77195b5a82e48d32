"""`nox -s smoke` where a GPU is required, and where checks fail on one: the session through nox."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest
from checkout import Checkout
from wheel.wheelfile import WheelFile

from blackwheel.core.errors import Exit

pytestmark = [pytest.mark.toolchain, pytest.mark.torch, pytest.mark.network]
GPU = """\
import torch  # noqa: F401  its libraries are what the extension links against
torch.cuda.is_available = lambda: True
torch.cuda.get_device_name = lambda: "Toy GPU"
torch.cuda.get_device_capability = lambda: (12, 0)
"""
"""In front of the toy's own code. What is done with this GPU fails, in torch's own words."""
CHECKS = """\
def scaled(kit):
    kit.torch.zeros(1, device="cuda")


UNSEEN = {"third": "no GPU ran it yet"}
CHECKS = {"first": scaled, "second": scaled, "third": scaled}
"""


def with_gpu(wheel: Path, folder: Path) -> Path:
    """The same wheel from elsewhere, without a receipt, that sees a GPU."""
    folder.mkdir()
    made = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, WheelFile(made, "w") as new:
        for name in old.namelist():
            if name.endswith("toy_cuda/__init__.py"):
                new.writestr(name, GPU + old.read(name).decode())
            elif not name.endswith("RECORD"):
                new.writestr(name, old.read(name))
    return made


def test_required_gpu_that_is_not_there_fails_the_session(built: Checkout) -> None:
    built.variables["CUDA_VISIBLE_DEVICES"] = ""
    done = built.nox("-s", "smoke", "--", "--stack", "toy", "--require-gpu")
    assert done.code == Exit.SMOKE, done.said
    assert "failed with exit code 9" in done.err
    assert (
        "error: no-gpu\n"
        f"  the kernels of {built.wheels[0].name} were not run: no GPU was found\n"
        "  where: --require-gpu\n"
        "  fix:   run it on a machine with a GPU of the wheel's archs, or without --require-gpu\n"
    ) in done.err


def test_checks_that_fail_are_all_told_and_kept_before_the_session_fails(built: Checkout) -> None:
    wheel = with_gpu(built.wheels[0], built.home / "brought")
    (built.root / "patches" / "toy-cuda" / "checks.py").write_text(CHECKS, encoding="utf-8")
    words = ("--stack", "toy", "--wheels", str(wheel), "--require-gpu")
    done = built.nox("-s", "smoke", "--", *words)
    assert done.code == Exit.SMOKE, done.said
    assert "failed with exit code 9" in done.err
    kept = json.loads((built.store / "smoke" / f"{wheel.name}.json").read_text())
    assert [one["check"] for one in kept["checks"]] == ["first", "second", "third"]
    fact, seed = kept["checks"][0]["fact"], kept["seed"]
    name = kept["checks"][0]["name"]
    step = (
        kept["checks"][0]["step"]
        or "the wheel stays off the shelf; the table above has every check"
    )
    assert (
        "error: kernels-failed\n"
        f"  2 kernel checks failed on Toy GPU (12.0), seed {seed}\n"
        f"  first: {name}: {fact}\n"
        f"  second: {name}: {fact}\n"
        f"  where: {wheel}\n"
        f"  fix:   {kept['checks'][0]['step'] or step}\n"
    ) in done.err
    for check in ("first", "second", "third"):
        assert re.search(rf"(?m)^{check} +{name}", done.said), done.said


def test_a_required_gpu_on_which_nothing_would_run_is_an_error(built: Checkout) -> None:
    wheel = with_gpu(built.wheels[0], built.home / "brought")
    words = ("--stack", "toy", "--wheels", str(wheel), "--require-gpu")
    done = built.nox("-s", "smoke", "--", *words)
    assert done.code == Exit.SMOKE, done.said
    assert "failed with exit code 9" in done.err
    assert "error: no-kernel-checks\n  toy-cuda has no kernel checks" in done.err
