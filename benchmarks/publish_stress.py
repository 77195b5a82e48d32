"""Kill, crowd and starve publishers to a folder: python benchmarks/publish_stress.py [--kills 30].

Toy wheels with whole receipts, real processes, real SIGKILL at random moments. After each: every
listed wheel is whole, no name holds other bytes, and the same command again brings the set there.
"""

# ruff: noqa: S101  what it asserts is what it is for

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from blackwheel.core import files

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "toys"))

from proved import PROJECTS, library, make_wheel, new_checkout, shelve, site_of

from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.receipts import document
from blackwheel.shelf import index, readback, verify_pages
from blackwheel.shelf import publish as publishing

PADDING = 2 << 20


def checkout(root: Path, padding: int = PADDING) -> Site:
    """A checkout with a set of two wheels on its shelf."""
    site = new_checkout(root)
    code = library(root)
    for name in PROJECTS:
        shelve(site, make_wheel(root / "built", name, code, padding=padding))
    return site


def publish(root: Path, to: Path) -> None:
    """Publish without the fresh environment: this looks at files."""
    readback.install = lambda *_, **__: ()
    publishing.publish(site_of(root), "toy", to=str(to), yes=True)


def whole(shelf: Path, originals: dict[str, Path]) -> int:
    """Return how many wheels are listed; fail where one is not whole."""
    for file in shelf.glob("*.whl"):
        assert file.read_bytes() == originals[file.name].read_bytes(), f"{file.name} is torn"
    wheels = index.shelved(shelf)
    for wheel in wheels:
        assert verify_pages.sha256(wheel.path) == wheel.sha256
        assert all(check.ok for check in verify_pages.metadata_checks(wheel.path))
        assert document.verify(document.load(wheel.receipt), wheel.path) == ()
    return len(wheels)


def started(work: Callable[[], None]) -> int:
    """Start a child that works and ends with 0, 1 or, refused, 2."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BlackwheelError as error:
            sys.stderr.write(f"{error.name}: {error.fact}\n")
            code = 2
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    """Exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(root: Path, folder: Path, count: int, originals: dict[str, Path]) -> str:
    """Kill publishers at random moments, each on an empty folder, then let one end."""
    begun = time.monotonic()
    publish(root, folder / "first")
    seconds = time.monotonic() - begun
    hit, listed = 0, [0, 0, 0]
    for number in range(count):
        to = folder / str(number)
        child = started(lambda to=to: publish(root, to))
        time.sleep(random.uniform(0, seconds))  # noqa: S311
        os.kill(child, signal.SIGKILL)
        hit += ended(child) == -signal.SIGKILL
        listed[whole(to / "toy", originals)] += 1
        publish(root, to)
        assert whole(to / "toy", originals) == len(PROJECTS)
        assert not list((to / "toy").glob(f"{files.TEMPORARY}*"))
        shutil.rmtree(to)
    return f"{hit} of {count} killed in the act; none, one, both listed then: {listed}"


def crowded(root: Path, folder: Path, count: int, originals: dict[str, Path]) -> str:
    """Let several publish the same set into one folder at once."""
    to = folder / "crowd"
    children = [started(lambda: publish(root, to)) for _ in range(count)]
    codes = [ended(child) for child in children]
    assert codes == [0] * count, codes
    assert whole(to / "toy", originals) == len(PROJECTS)
    return f"{count} at once: all ended with 0, the set is whole"


def starved(root: Path, folder: Path, originals: dict[str, Path]) -> str:
    """Publish to a disk that holds one wheel and a half; give it room; publish again."""
    to = folder / "small"
    to.mkdir()
    room = PADDING + PADDING // 2
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", to], check=True)
    try:
        code = ended(started(lambda: publish(root, to)))
        assert code == 2, code
        assert whole(to / "toy", originals) == 0
        subprocess.run(["mount", "-o", f"remount,size={4 * PADDING}", to], check=True)
        assert ended(started(lambda: publish(root, to))) == 0
        assert whole(to / "toy", originals) == len(PROJECTS)
    finally:
        subprocess.run(["umount", to], check=True)
    return "a full disk: refused, nothing listed; with room the same command ends"


def main() -> None:
    """Run all three and print a line of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--publishers", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = checkout(folder / "checkout")
        originals = {path.name: path for path in (site.wheels / "toy").glob("*.whl")}
        for line in (
            killed(site.checkout, folder, options.kills, originals),
            crowded(site.checkout, folder, options.publishers, originals),
            starved(site.checkout, folder, originals)
            if os.geteuid() == 0
            else "no tmpfs: not root",
        ):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
