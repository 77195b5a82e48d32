"""Writes docs/forgeries.md: each leaf of a real receipt and each file, changed as each writer can.

`python3 docs/make/forgeries.py CHECKOUT STORE`, of a checkout with one toy on its shelf
(`tests/chain/` builds one). A copy of it is forged; nothing there changes.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "toys"))

import forging  # noqa: E402  a toy of the tests

from blackwheel.core import site as sites  # noqa: E402
from blackwheel.core.console import Console  # noqa: E402
from blackwheel.core.site import Site  # noqa: E402
from blackwheel.pytorch import guard, identity  # noqa: E402
from blackwheel.receipts import document as receipts  # noqa: E402
from blackwheel.receipts import keys  # noqa: E402
from blackwheel.receipts.beside import bundle_path, receipt_path, sbom_path  # noqa: E402
from blackwheel.shelf import (  # noqa: E402
    index,
    shelved_here,
    signing,
    verify,
    verify_audit,
    verify_pages,
)
from blackwheel.stacks import loader  # noqa: E402
from blackwheel.toolchain import toolkit  # noqa: E402

PAGE = ROOT / "docs" / "forgeries.md"
BEGIN, END = "<!-- forgeries -->\n", "<!-- end of forgeries -->\n"
UNCHANGED: list[tuple[Any, str]] = [
    (verify_audit.audit, "inspect"),
    (verify_audit, "_exports"),
    (loader, "load"),
    (identity, "locked_digests"),
    (toolkit, "locked_versions"),
    (verify_pages, "sha256"),
    (guard, "built_for"),
]
"""What reads the files that stay as they are while leaves of a receipt change."""
SAID = "**said, not proved**"


@dataclass
class Toy:
    """One shelved, signed toy whose files are changed and put back."""

    site: Site
    wheel: Path
    signers: tuple[Any, ...]

    def noticed(self, wheel: Path | None = None, *, signed: bool = False) -> str:
        """Return the first fault of a wheel and of the pages beside it."""
        wheel = wheel or self.wheel
        signers = self.signers if signed else ()
        for done in verify.verify_all(self.site, [wheel], signers):
            for check in done.faults:
                return re.sub(r"toy[_-]cuda-1\.0\S*?\.whl", "WHEEL", check.what)
        return ""


def opened(checkout: Path, store: Path, key: Path) -> Toy:
    """Return the toy of a checkout, with its note in the store, its SBOM and its signature."""
    place = sites.here({"BLACKWHEEL_HOME": str(store), "PATH": "/usr/bin:/bin"})
    console = Console(environment={}, out=io.StringIO(), err=io.StringIO())
    site = Site(checkout=checkout, store=store, environment=place.environment, console=console)
    (wheel,) = (checkout / "wheels").glob("*/*.whl")
    if not key.exists():
        keys.new_key(key)
    shelved_here.remember(store, wheel.name, receipts.load(receipt_path(wheel)))
    signing.sign(site, str(wheel), str(key))
    signers = keys.public_keys(keys.public_path(key))
    return Toy(site=site, wheel=wheel, signers=tuple(signers))


@contextmanager
def kept(*paths: Path) -> Iterator[None]:
    """Put files back as they were."""
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    try:
        yield
    finally:
        for path, data in before.items():
            if data is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(data)


def leaf_rows(toy: Toy) -> list[tuple[str, str, str]]:
    """Return pattern, first fault without store and signature, and how many leaves that are."""
    document = receipts.load(receipt_path(toy.wheel))
    note = shelved_here.FOLDER
    found: dict[tuple[str, str], int] = {}
    with kept(receipt_path(toy.wheel), bundle_path(toy.wheel), sbom_path(toy.wheel)):
        bundle_path(toy.wheel).unlink()
        sbom_path(toy.wheel).unlink()
        shutil.move(toy.site.store / note, toy.site.store / "away")
        known = [once(module, name) for module, name in UNCHANGED]
        try:
            forged = [*forging.forged_sections(document), *forging.forged_rest(document)]
            for name, made in forged:
                receipts.write(receipt_path(toy.wheel), made)
                faults = verify.verify(toy.site, toy.wheel).faults
                what = faults[0].what if faults else SAID
                row = (forging.pattern(name), forging.pattern(what))
                found[row] = found.get(row, 0) + 1
                if not faults and not forging.is_said(name):
                    raise AssertionError(f"unnoticed, and not on the list: {name}")
        finally:
            shutil.move(toy.site.store / "away", toy.site.store / note)
            for put_back in known:
                put_back()
    return [(name, what, str(count)) for (name, what), count in sorted(found.items())]


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def shelf_rows(toy: Toy) -> Iterator[tuple[str, str, str]]:
    """Change each file of a shelf."""
    shelf, project = toy.wheel.parent, toy.wheel.name.split("-")[0].replace("_", "-")
    files = {
        "the wheel": toy.wheel,
        "its receipt, a bit": receipt_path(toy.wheel),
        "its METADATA": toy.wheel.with_name(f"{toy.wheel.name}.metadata"),
        "its SBOM": sbom_path(toy.wheel),
        "its signature": bundle_path(toy.wheel),
        "its page": toy.wheel.with_name(f"{toy.wheel.name}.html"),
        "its audit page": toy.wheel.with_name(f"{toy.wheel.name}.audit.html"),
        "its build page": toy.wheel.with_name(f"{toy.wheel.name}.build.html"),
        "the project's page": shelf / "simple" / project / "index.html",
        "the project's JSON page": shelf / "simple" / project / "index.json",
        "the index page": shelf / "simple" / "index.html",
        "the shelf's page": shelf / "index.html",
    }
    for name, path in files.items():
        with kept(path):
            flip(path)
            yield name, toy.noticed() or SAID, toy.noticed(signed=True) or SAID
    document = receipts.load(receipt_path(toy.wheel))
    smoke = {**receipts.sections(document)["smoke"], "device": "a GPU of another's"}
    forged = receipts.with_section(document, "smoke", smoke)
    with kept(receipt_path(toy.wheel)):
        receipts.write(receipt_path(toy.wheel), forged)
        yield "its receipt, `smoke.device`, chain whole", toy.noticed(), toy.noticed(signed=True)
    with kept(receipt_path(toy.wheel), bundle_path(toy.wheel)):
        receipts.write(receipt_path(toy.wheel), forged)
        bundle_path(toy.wheel).unlink()
        signed = toy.noticed(signed=True)
        yield "the same, and no signature", toy.noticed(), signed
    with kept(sbom_path(toy.wheel), bundle_path(toy.wheel)):
        sbom_path(toy.wheel).unlink()
        bundle_path(toy.wheel).unlink()
        unsigned = toy.noticed() or "nothing: they are not asked for"
        yield "SBOM and signature gone", unsigned, toy.noticed(signed=True)


def store_rows(toy: Toy) -> Iterator[tuple[str, str, str]]:
    """Change what the store knows of a shelved wheel."""
    note = toy.site.store / shelved_here.FOLDER / f"{toy.wheel.name}.json"
    with kept(note):
        note.write_text('{"receipts": []}', encoding="utf-8")
        yield "its note of the receipt, emptied", toy.noticed(), toy.noticed(signed=True)
        note.unlink()
        unsigned = toy.noticed() or "nothing: the lines above are then said, not proved"
        yield "its note of the receipt, gone", unsigned, toy.noticed(signed=True) or "no fault"


def index_rows(toy: Toy, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Change each file of a published folder, where neither checkout nor store is its writer's."""
    there = folder / toy.wheel.parent.name
    document = receipts.load(receipt_path(toy.wheel))
    name = toy.wheel.name
    index.shelve_all(
        [(toy.wheel, document)],
        there,
        signed={name: bundle_path(toy.wheel).read_bytes()},
        sboms={name: sbom_path(toy.wheel).read_bytes()},
    )
    wheel = there / name
    for what, path in (
        ("the wheel", wheel),
        ("its receipt", receipt_path(wheel)),
        ("its SBOM", sbom_path(wheel)),
        ("its signature", bundle_path(wheel)),
        ("a page", there / "simple" / "index.html"),
    ):
        with kept(path):
            flip(path)
            yield what, toy.noticed(wheel) or SAID, toy.noticed(wheel, signed=True) or SAID
    theirs = folder / "theirs"
    keys.new_key(theirs)
    with kept(bundle_path(wheel)):
        signing.sign(toy.site, str(wheel), str(theirs))
        unsigned = toy.noticed(wheel) or "nothing: whose key it is, nobody asked"
        yield "signed anew by another key", unsigned, toy.noticed(wheel, signed=True)


def other_commit(path: Path) -> None:
    """Pin another commit in a stack file."""
    text = path.read_text(encoding="utf-8")
    found = re.search(r'commit = "([0-9a-f]{40})"', text)
    if found is None:
        raise AssertionError(f"{path} pins no commit")
    other = ("1" if found[1][0] == "0" else "0") + found[1][1:]
    path.write_text(text.replace(found[1], other), encoding="utf-8")


def checkout_rows(toy: Toy) -> Iterator[tuple[str, str, str]]:
    """Change what decides: a fault tells that wheel and checkout are no longer of one key."""
    root, stack = toy.site.checkout, toy.wheel.parent.name
    toml, locks = root / "constraints" / f"{stack}.toml", root / "constraints" / stack
    patch = min((root / "patches").glob("toy-cuda/1.0/*.patch"))
    for what, path, change in (
        ("a patch", patch, flip),
        ("the hashed pins of the build", min(locks.glob("build-*.txt")), flip),
        ("the pins of the toolchain", locks / "toolchain.txt", flip),
        ("a commit in the stack file", toml, other_commit),
        ("the stack file, gone", toml, Path.unlink),
    ):
        with kept(path):
            change(path)
            signed = toy.noticed(signed=True) or "nothing: its signer knows the stack"
            yield what, toy.noticed(), signed


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return a table in Markdown."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*head, *("| " + " | ".join(row) + " |" for row in rows), ""]


def text(toy: Toy, folder: Path) -> str:
    """Return all tables."""
    leaves = leaf_rows(toy)
    total = sum(int(count) for _, _, count in leaves)
    said = sum(int(count) for _, what, count in leaves if what == SAID)
    three = ("changed", "noticed as", "with `--key`, as")
    lines = [
        "## Leaves of a receipt",
        f"{total} leaves, each changed alone and all digests computed again. Without the store's"
        f" note and without a signature {total - said} are noticed;\nthe other {said} are on the"
        " list of statements that are said, not proved. With the note all are noticed as"
        " `shelved here`, signed all as `signature`.",
        "",
        *table(
            ("leaves", "noticed as", "how many"),
            [(f"`{name}`", what if what == SAID else f"`{what}`", n) for name, what, n in leaves],
        ),
        "## Writer of the shelf\nThe store has its note of the receipt, and the wheel is signed.",
        "",
        *table(three, list(shelf_rows(toy))),
        "## Writer of the store\nWhat is kept there of a shelved wheel.",
        "",
        *table(three, list(store_rows(toy))),
        "## Writer of an index\nA published folder, verified on the machine that published it.",
        "",
        *table(three, list(index_rows(toy, folder))),
        "## Writer of the checkout\nIt decides what is right: a fault tells that they differ.",
        "",
        *table(three, list(checkout_rows(toy))),
    ]
    return "\n".join(lines)


def once(module: Any, name: str) -> Callable[[], None]:
    """Let a function that reads files answer an equal question from memory; return the way back."""
    real, known = getattr(module, name), []

    def asked(*given: Any, **named: Any) -> Any:
        for question, answer in known:
            if question == (given, named):
                return answer
        known.append(((given, named), real(*given, **named)))
        return known[-1][1]

    setattr(module, name, asked)
    return lambda: setattr(module, name, real)


def main(checkout: Path, store: Path) -> None:
    """Forge a copy of a checkout, and write the page."""
    with tempfile.TemporaryDirectory(prefix="forgeries-", dir=store.parent) as name:
        folder = Path(name)
        shutil.copytree(checkout, folder / "checkout", symlinks=True)
        toy = opened(folder / "checkout", store, folder / "key")
        made = text(toy, folder)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{made}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(*(Path(word).absolute() for word in sys.argv[1:3]))
