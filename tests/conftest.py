"""Fixtures that cost minutes once, what a test needs to run, and what CI may not skip."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import programs
import pytest
from checkout import Checkout, Done, new_checkout, persons_environment
from uv import find_uv_bin

from blackwheel.toolchain.toolkit import assemble

# A shell starts jobs in the background with SIGINT ignored, and their children inherit that: tests
# that send it would find nobody listening.
signal.signal(signal.SIGINT, signal.default_int_handler)

NEVER_SKIPPED = ("toolchain", "torch", "needs")
"""Markers: where CI is set, a skipped test that has one of these has failed."""


SHARED_BUILDS = {"first_run", "twins"}
"""Fixtures that build a toy: a minute of the worker that asks for one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what uses a build first: one worker makes it, and the longest tests are not the last."""
    items.sort(key=lambda item: SHARED_BUILDS.isdisjoint(getattr(item, "fixturenames", ())))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose programs are not here, before a fixture takes minutes for it."""
    for marker in item.iter_markers("needs"):
        lacks = [programs.lack(name) for name in marker.args if not programs.found(name)]
        if lacks:
            pytest.skip("; ".join(lacks))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test that CI may not skip a failed one."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        held = [name for name in NEVER_SKIPPED if item.get_closest_marker(name)]
        if held and not hasattr(report, "wasxfail"):
            report.outcome = "failed"
            report.longrepr = f"CI skips no test marked {' or '.join(held)}: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Toolchain and environments, which every checkout of a toy links to."""
    folder = tmp_path_factory.mktemp("shared")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cuda_home(shared: Path) -> Path:
    """The toolchain of stack `torch211`."""
    lock = Path(__file__).parents[1] / "constraints" / "torch211" / "toolchain.txt"
    uv = Path(find_uv_bin())
    return assemble(lock, store=shared, uv=uv, environment=persons_environment()).root


@pytest.fixture
def fresh(tmp_path: Path, shared: Path) -> Checkout:
    """A checkout with the stack `toy`, of which nothing is fetched or built."""
    return new_checkout(tmp_path / "fresh", shared)


@pytest.fixture(scope="session")
def first_run(
    tmp_path_factory: pytest.TempPathFactory, shared: Path
) -> Iterator[tuple[Checkout, Done]]:
    """A checkout after `invoke build-wheels --stack toy`, and what that said. Change a copy."""
    home = tmp_path_factory.mktemp("first") / "run"
    checkout = new_checkout(home, shared)
    done = checkout.build()
    assert done.code == 0, done.said
    yield checkout, done
    shutil.rmtree(home)


@pytest.fixture
def built(first_run: tuple[Checkout, Done], tmp_path: Path) -> Checkout:
    """A copy of the checkout whose toy is built and shelved."""
    return first_run[0].copy(tmp_path / "built")
