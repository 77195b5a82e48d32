"""What a person gets wrong while adding a project, through the real `invoke`, before anything is
compiled: the stack file, the series, what is known of it, its checks. Wrong bytes of a source and
patches that do not apply are in test_bad_input.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkout import Checkout, new_checkout

from blackwheel.core.errors import Exit


@pytest.fixture
def toy(tmp_path: Path) -> Checkout:
    return new_checkout(tmp_path / "toy", tmp_path / "shared")


def refused(checkout: Checkout) -> tuple[int, str]:
    """Build; return code and error once it is sure that nothing was fetched or made for it."""
    done = checkout.invoke("build-wheels", "--stack", "toy")
    assert "Traceback" not in done.said
    assert not checkout.shelf.exists()
    assert not list(checkout.store.glob("builds/*")), "nothing was compiled"
    assert not list(checkout.store.glob("nox/*")), "nothing was installed"
    return done.code, done.err[done.err.index("error: ") :]


def test_project_that_a_stack_names_and_does_not_describe(toy: Checkout) -> None:
    toy.edit(toy.toml, 'build = ["toy-cuda"]', 'build = ["toy-cuda", "toycuda"]')
    assert refused(toy) == (
        Exit.CONFIG,
        "error: bad-stack\n"
        "  1 fault:\n"
        "  build.1: no [projects.toycuda]; did you mean 'toy-cuda'?\n"
        "  where: constraints/toy.toml\n"
        "  fix:   correct the keys named above\n",
    )


def test_project_without_a_series(toy: Checkout) -> None:
    shutil.rmtree(toy.series)
    assert refused(toy) == (
        Exit.CONFIG,
        "error: no-series\n"
        "  there is no series of patches for toy-cuda 1.0, not even an empty one\n"
        "  where: patches/toy-cuda/1.0/series\n"
        "  fix:   invoke pin toy-cuda 1.0 --stack toy makes it\n",
    )


def test_key_that_project_toml_does_not_know(toy: Checkout) -> None:
    known = toy.series.parent / "project.toml"
    known.write_text('[smoke]\noperator = ["toy"]\n', encoding="utf-8")
    assert refused(toy) == (
        Exit.CONFIG,
        "error: bad-project\n"
        "  1 fault:\n"
        "  smoke.operator: unknown key; did you mean 'operators'?\n"
        "  where: patches/toy-cuda/project.toml\n"
        "  fix:   correct the keys named above\n",
    )


def test_checks_that_are_no_python(toy: Checkout) -> None:
    checks = toy.series.parent / "checks.py"
    checks.write_text("def scale(kit)\n    pass\n\nCHECKS = {'scale': scale}\n", encoding="utf-8")
    assert refused(toy) == (
        Exit.CONFIG,
        "error: bad-checks\n"
        "  1 fault:\n"
        "  line 1: expected ':'\n"
        "  where: patches/toy-cuda/checks.py\n"
        "  fix:   correct what is named above; docs/add-a-project.md shows the form\n",
    )
