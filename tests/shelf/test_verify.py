"""`invoke verify` of a shelved toy: whole, with one byte flipped, forged with a whole chain.

The toy is a real wheel with a real (host-only) library, on a shelf that blackwheel wrote.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import forging
import proved
import pytest
from wheel.wheelfile import WheelFile

from blackwheel import __version__
from blackwheel.audit import audit
from blackwheel.audit.exports import system_exports
from blackwheel.core import archs
from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pages import render
from blackwheel.receipts import document as receipts
from blackwheel.shelf import index, verify, verify_pages, verify_receipt
from blackwheel.shelf.verify import Verified
from blackwheel.shelf.verify_leaves import SAID
from blackwheel.sources.series import patch_digests, series_of
from blackwheel.stacks import key as keys
from blackwheel.stacks import loader
from blackwheel.stacks.request import Request

ROOT = Path(__file__).parents[2]
LABEL = "cu130torch2.11.0.sm120a.1"
NAME = f"toy-1.0+{LABEL}-cp312-cp312-linux_x86_64.whl"
MOMENT = datetime(2025, 10, 20, 12, 30, tzinfo=UTC)
STACK = (
    """\
description = "a toy"
python = ["3.12"]
archs = ["12.0a"]
driver = 580
glibc = "2.28"
build = ["toy"]
[torch]
version = "2.11.0"
runtime = "2.11.0+cu130"
cuda = "13.0"
git_version = "70d99e998b4955e0049d13a98d77ae1b14db1f45"
source = "registry"
[toolchain]
source = "registry"
cuda = "13.0.2"
nvcc = "13.0.88"
[projects.toy]
version = "1.0"
modules = ["toy"]
source = { url = "https://upstream.invalid/toy", commit = "COMMIT", tree = "TREE" }
nested = [{ url = "https://upstream.invalid/n", commit = "COMMIT", tree = "TREE", path = "n" }]
sdist = { name = "toy-1.0.tar.gz", sha256 = "SHA256", size = 7, tree = "SDIST" }
[projects.toy.variables]
TOY_ARCHS = "{archs}"
MAX_JOBS = "{jobs}"
[[projects.toy.contract]]
library = "*"
kernels = 0
""".replace("COMMIT", "c" * 40)
    .replace("TREE", "7" * 40)
    .replace("SDIST", "d" * 40)
)
UNTOLD = {
    "findings": "findings",
    "torch of smoke": "torch",
    "smoked wheels": "together",
    "smoked libraries": "libraries",
    "imports": "imports",
}
"""What the toy's receipt does not tell, as one of an earlier version."""
PATCH = """\
From: blackwheel <blackwheel@localhost>
Subject: toy: take 12.0a

Because.

Origin: vendor, blackwheel
Forwarded: no
Last-Update: 2025-10-20
---
diff --git a/a b/a
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("library")
    (folder / "toy.c").write_text("int toy(void) { return 1; }\n")
    subprocess.run(["gcc", "-shared", "-o", "toy.so", "toy.c"], cwd=folder, check=True)
    return (folder / "toy.so").read_bytes()


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, library: bytes) -> Path:
    """A checkout with the stack `toy` and its wheel on the shelf."""
    root = tmp_path_factory.mktemp("original")
    (root / "constraints" / "toy").mkdir(parents=True)
    (root / "constraints/toy.toml").write_text(STACK.replace("SHA256", "5" * 64))
    lock = f"torch==2.11.0 \\\n    --hash=sha256:{'a' * 64}\n"
    (root / "constraints/toy/build-toy-py312.txt").write_text(lock)
    (root / "constraints/toy/toolchain.txt").write_text(proved.TOOLCHAIN)
    (root / "patches/toy/1.0").mkdir(parents=True)
    (root / "patches/toy/1.0/series").write_text("0001-take-12.0a.patch\n")
    (root / "patches/toy/1.0/0001-take-12.0a.patch").write_text(PATCH)
    wheel = make_wheel(root / "built", library)
    site = site_of(root)
    document = receipts.receipt(wheel.name, verify_pages.sha256(wheel), sections(site, wheel))
    index.shelve(wheel, document, site.wheels / "toy", now=MOMENT)
    return root


@pytest.fixture
def site(original: Path, tmp_path: Path) -> Site:
    shutil.copytree(original, tmp_path / "checkout")
    return site_of(tmp_path / "checkout")


def site_of(root: Path) -> Site:
    environment = {"PATH": "/usr/bin:/bin", "NO_COLOR": "1", "COLUMNS": "200"}
    console = Console(environment=environment, out=io.StringIO(), err=io.StringIO())
    return Site(checkout=root, store=root / "store", environment=environment, console=console)


def make_wheel(
    folder: Path, library: bytes, *, requires: str = "torch===2.11.0", guarded: bool = True
) -> Path:
    folder.mkdir()
    info = f"toy-1.0+{LABEL}.dist-info"
    guard = {
        "wheel": f"1.0+{LABEL}",
        "requirement": "torch===2.11.0",
        "version": "2.11.0+cu130",
        "git_version": "70d99e998b4955e0049d13a98d77ae1b14db1f45",
        "cuda": "13.0",
    }
    with WheelFile(folder / NAME, "w") as wheel:
        wheel.writestr("toy/__init__.py", "")
        if guarded:
            wheel.writestr("toy/_built_for.py", f"TORCH = {guard!r}\n")
        wheel.writestr("toy/_c.so", library)
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.4\nName: toy\nVersion: 1.0+{LABEL}\nRequires-Python: >=3.11\n"
            f"Requires-Dist: {requires}\n",
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp312-cp312-linux_x86_64\n",
        )
    return folder / NAME


def sections(site: Site, wheel: Path, mode: str = "namespaces") -> dict[str, Any]:
    """What the stages of a build write."""
    stack = loader.load("toy", site.constraints)
    request = Request(stack=stack, project="toy", python="3.12", archs=stack.archs)
    series = series_of(site, request)
    key = keys.key(
        request, patches=patch_digests(series), constraints=site.constraints, isolation=mode
    )
    report = audit.inspect(wheel, archs=[archs.parse("12.0a")], expected=audit.expectation(request))
    bonds, _ = report.linked(audit.Exports(torch="", python="", libraries=system_exports()))
    patches = [{"name": p.name, "digest": {"sha256": p.sha256}} for p in series.patches]
    return {
        "stack": {
            "name": "toy",
            "project": "toy",
            "version": "1.0",
            "archs": ["12.0a"],
            "blackwheel": __version__,
            "key": {"digest": key.digest, "slug": request.slug, "parts": dict(key.parts)},
        },
        "sources": {
            "origin": "git",
            "reason": "",
            "project": {
                "name": "toy",
                "uri": "https://upstream.invalid/toy",
                "digest": {"gitCommit": "c" * 40, "gitTree": "7" * 40},
            },
            "nested": [
                {
                    "name": "n",
                    "uri": "https://upstream.invalid/n",
                    "digest": {"gitCommit": "c" * 40, "gitTree": "7" * 40},
                }
            ],
        },
        "patches": {"series": patches, "tree": "e" * 40},
        **proved.built_sections(site, request, wheel),
        "environment": {
            "name": "build-toy-py312.txt",
            "python": "3.12",
            "digest": {"sha256": key.part("locks.build")},
        },
        "run": receipts.run_section(started=MOMENT, finished=MOMENT),
        "objects": {
            "count": 1,
            "cpu_seconds": 1.0,
            "peak_bytes": 1 << 20,
            "last_run_seconds": 1.0,
            "jobs": 2,
            "each": [
                {
                    "source": "toy.c",
                    "object": "toy.o",
                    "archs": [],
                    "began": 0.0,
                    "cached": "",
                    "seconds": 1.0,
                    "cpu_seconds": 1.0,
                    "peak_bytes": 1 << 20,
                    "exit": 0,
                }
            ],
        },
        "audit": {
            "libraries": json.loads(json.dumps([asdict(one) for one in report.libraries])),
            "links": json.loads(json.dumps([asdict(one) for one in bonds])),
        },
        "smoke": {"device": "import only", "kernels": {"12.0a": "not run: no GPU was found"}},
    }


def wheel_of(site: Site) -> Path:
    return site.wheels / "toy" / NAME


def verified(site: Site) -> tuple[Verified, ...]:
    return verify.verify_all(site, verify.wheels_of(site, "toy"))


def faults(site: Site) -> list[tuple[str, str, str]]:
    return [(c.what, c.found, c.expected) for one in verified(site) for c in one.faults]


def said(site: Site, *, as_json: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    console = Console(environment=site.environment, out=out, err=io.StringIO())
    told = Site(
        checkout=site.checkout, store=site.store, environment=site.environment, console=console
    )
    return verify.show_verify(told, "", as_json=as_json), out.getvalue()


def forge(site: Site, stage: str, change: Callable[[Any], None]) -> None:
    """Change a section and compute every digest again, as a forger does."""
    path = wheel_of(site).with_name(f"{NAME}.receipt.json")
    document = receipts.load(path)
    section = copy.deepcopy(dict(receipts.sections(document)[stage]))
    change(section)
    receipts.write(path, receipts.with_section(document, stage, section))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_whole_shelf_has_no_fault_and_says_what_it_could_not_compute_again(site: Site) -> None:
    code, text = said(site)
    assert code == Exit.OK
    assert text.endswith("\nno faults\n")
    opened = re.findall(r"(?m)^open  (\S+(?: \S+)*)  +(.*)$", text)
    assert opened == [
        *(
            (what, f"not held: the receipt has no `{leaf}`, as those of earlier versions")
            for what, leaf in UNTOLD.items()
        ),
        ("sources", "no git host is asked: commits and trees are held to the pin alone"),
        (
            "sbom",
            f"there is no {NAME}.cdx.json: nothing tells what the wheel was made from in one list",
        ),
        *((f"said {what}", f"not proved: {why}") for what, why in SAID),
        ("upload-time", "nothing but the page records it"),
    ]
    assert re.findall(r"(?m)^ok    (\S.*?)  ", text) == [
        "metadata sha256",
        "wheel sha256",
        "receipt",
        "wheel name",
        "wheel version",
        "wheel python",
        "key",
        "archs",
        "source commit",
        "source tree (git)",
        "nested sources",
        "n commit",
        "n tree",
        "series",
        "0001-take-12.0a.patch",
        "build-toy-py312.txt",
        "isolation",
        "toolchain",
        "nvcc",
        "torch version",
        "torch runtime",
        "torch cuda",
        "torch git_version",
        "torch cxx11_abi",
        "checkout",
        "variables",
        "torch wheels of the lock",
        "libraries",
        "audit",
        "links",
        "_built_for.py",
        "simple/index.html",
        "simple/index.json",
        "toy/index.html",
        "toy/index.json",
        f"{NAME}.audit.html",
        f"{NAME}.html",
        "index.html",
    ]


def test_page_of_a_wheel_that_another_blackwheel_drew_in_other_words_has_a_cure(site: Site) -> None:
    page = site.wheels / "toy" / f"{NAME}.audit.html"
    text = page.read_text().replace("<h1>", "<h1>Once: ", 1)
    page.write_text(text)
    ((what, _, _),) = faults(site)
    assert what.startswith(f"{NAME}.audit.html line "), "today's own stamp: somebody edited it"
    page.write_text(text.replace(render.stamp(), "blackwheel 0.0.9, pages 0123456789ab"))
    ((what, found, expected),) = faults(site)
    assert what == "pages for people"
    assert found.startswith("drawn by blackwheel 0.0.9, pages 0123456789ab or edited")
    assert "invoke serve-index" in expected


def test_fault_is_printed_with_what_was_found_and_what_was_expected(site: Site) -> None:
    wheel_of(site).with_name(f"{NAME}.metadata").write_text("other\n")
    code, text = said(site)
    assert code == Exit.INDEX
    listed = json.loads((site.wheels / "toy/simple/toy/index.json").read_text())["files"][0]
    found = hashlib.sha256(b"other\n").hexdigest()
    assert (
        "FAULT metadata sha256\n"
        f"        found {found}\n"
        f"     expected {listed['core-metadata']['sha256']}\n"
    ) in text
    assert text.endswith("\n1 fault\n")


def test_json_names_state_found_and_expected_of_every_check(site: Site) -> None:
    wheel_of(site).with_name(f"{NAME}.metadata").unlink()
    code, text = said(site, as_json=True)
    told = json.loads(text)
    document = told["wheels"]
    assert (code, told["schema"]) == (Exit.INDEX, "blackwheel.verify/1")
    assert [(one["path"], one["faults"]) for one in document] == [
        (f"wheels/toy/{NAME}", 1),
        ("wheels/toy/simple", 0),
    ]
    first = document[0]["checks"][0]
    assert (first["state"], first["what"], first["found"]) == (
        "FAULT",
        "metadata sha256",
        "no such file",
    )
    assert re.fullmatch("[0-9a-f]{64}", first["expected"])


@pytest.mark.parametrize(
    ("file", "step", "names"),
    [
        (NAME, 211, ("wheel sha256",)),
        (f"{NAME}.metadata", 5, ("metadata sha256",)),
        (f"{NAME}.receipt.json", 151, ("receipt",)),
        ("simple/index.html", 7, ("simple/index.html line ",)),
        ("simple/index.json", 7, ("simple/index.json line ",)),
        ("simple/toy/index.html", 17, ("toy/index.html line ",)),
        ("index.html", 997, ("index.html line ",)),
        (f"{NAME}.audit.html", 997, (f"{NAME}.audit.html line ",)),
        ("simple/toy/index.json", 17, ("toy/index.json line ", NAME, "simple/toy/index.json")),
    ],
)
def test_one_flipped_byte_is_caught_and_the_file_is_named(
    site: Site, file: str, step: int, names: tuple[str, ...]
) -> None:
    path = site.wheels / "toy" / file
    whole = path.read_bytes()
    time = whole.find(b"2025-10-20T12:30:00.000000Z")  # nothing but the page records it
    missed = []
    for place in range(0, len(whole), step):
        if time < 0 or not time <= place < time + 27:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            if not any(name in what for what, _, _ in faults(site) for name in names):
                missed.append((place, whole[max(0, place - 9) : place + 9]))
    assert missed == []


@pytest.mark.parametrize(
    ("stage", "change", "fault"),
    [
        ("stack", lambda s: s["key"].update(digest="f"), ("key", "f", "")),
        ("stack", lambda s: s.update(archs=["9.0"]), ("archs", "9.0", "12.0a")),
        ("stack", lambda s: s.update(project="other"), ("wheel name", "toy", "other")),
        (
            "stack",
            lambda s: s.update(version="2.0"),
            ("wheel version", f"1.0+{LABEL}", f"2.0+{LABEL}"),
        ),
        (
            "sources",
            lambda s: s["project"]["digest"].update(gitCommit="f"),
            ("source commit", "f", "c" * 40),
        ),
        (
            "sources",
            lambda s: s["project"]["digest"].update(gitTree="f"),
            ("source tree (git)", "f", "7" * 40),
        ),
        (
            "sources",
            lambda s: s.update(origin="sdist"),
            ("source tree (sdist)", "7" * 40, "d" * 40),
        ),
        ("sources", lambda s: s.update(nested=[]), ("nested sources", "none", "n")),
        (
            "sources",
            lambda s: s["nested"][0]["digest"].update(gitTree="f"),
            ("n tree", "f", "7" * 40),
        ),
        (
            "sources",
            lambda s: s["nested"][0]["digest"].update(gitCommit="f"),
            ("n commit", "f", "c" * 40),
        ),
        ("patches", lambda s: s.update(series=[]), ("series", "none", "0001-take-12.0a.patch")),
        (
            "patches",
            lambda s: s["series"][0]["digest"].update(sha256="f"),
            ("0001-take-12.0a.patch", "f", ""),
        ),
        ("torch", lambda s: s.update(version="2.12.0"), ("torch version", "2.12.0", "2.11.0")),
        ("torch", lambda s: s.update(cuda="12.8"), ("torch cuda", "12.8", "13.0")),
        ("torch", lambda s: s.update(cxx11_abi=False), ("torch cxx11_abi", "false", "true")),
        (
            "torch",
            lambda s: s.update(wheel_sha256=["f"]),
            ("torch wheels of the lock", "f", "a" * 64),
        ),
        ("torch", lambda s: s.update(cuda="12.8"), ("_built_for.py cuda", "13.0", "12.8")),
        ("toolchain", lambda s: s.update(cuda_version="12.8"), ("toolchain", "12.8", "13.0.2")),
        ("toolchain", lambda s: s.update(nvcc_version="1"), ("nvcc", "1", "13.0.88")),
        ("environment", lambda s: s["digest"].update(sha256="f"), ("build-toy-py312.txt", "f", "")),
        (
            "isolation",
            lambda s: s.update(mode="processes"),
            ("isolation", "processes", "namespaces"),
        ),
        (
            "command",
            lambda s: s["variables"].update(TOY_ARCHS="9.0"),
            ("variable TOY_ARCHS", "9.0", "12.0a"),
        ),
        (
            "audit",
            lambda s: s["libraries"][0].update(host_only=False),
            ("toy/_c.so host_only", "true", "false"),
        ),
        ("audit", lambda s: s.update(libraries=[]), ("libraries", "toy/_c.so", "none")),
        (
            "audit",
            lambda s: s["links"][0].update(torch="full"),
            ("toy/_c.so torch", '"none"', '"full"'),
        ),
        ("audit", lambda s: s.update(links=[]), ("linked libraries", "toy/_c.so", "none")),
        ("stack", lambda s: s["key"].update(slug="toy/x"), ("slug", "toy/x", "toy/toy/cp312")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_section_that_contradicts_key_wheel_or_checkout_is_named_though_its_chain_is_whole(
    site: Site, stage: str, change: Callable[[Any], None], fault: tuple[str, str, str]
) -> None:
    forge(site, stage, change)
    what, found, expected = fault
    named = {name: (there, wanted) for name, there, wanted in faults(site)}
    assert named[what][0] == found
    assert named[what][1].startswith(expected)


@pytest.mark.parametrize(
    ("stage", "change", "what"),
    [
        ("sources", lambda s: s["project"].pop("name"), "source name"),
        ("sources", lambda s: s["project"].pop("uri"), "source address"),
        ("sources", lambda s: s["nested"][0].pop("uri"), "n address"),
        ("sources", lambda s: s.pop("reason"), "reason for an sdist"),
        ("torch", lambda s: s.pop("source"), "torch source"),
        ("isolation", lambda s: s.pop("network"), "isolation network"),
        ("toolchain", lambda s: s.pop("root"), "toolchain root"),
        ("toolchain", lambda s: s.pop("source"), "toolchain source"),
        ("toolchain", lambda s: s.pop("parts"), "toolchain parts"),
        ("toolchain", lambda s: s.pop("digest"), "toolchain digest"),
        ("command", lambda s: s["variables"].pop("CC"), "variable CC"),
        (
            "command",
            lambda s: s["variables"].pop("NVCC_APPEND_FLAGS"),
            "variable NVCC_APPEND_FLAGS",
        ),
        (
            "command",
            lambda s: s["variables"].pop("SOURCE_DATE_EPOCH"),
            "variable SOURCE_DATE_EPOCH",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_leaf_that_every_build_writes_is_a_fault_where_it_is_missing(
    site: Site, stage: str, change: Callable[[Any], None], what: str
) -> None:
    forge(site, stage, change)
    assert what in [name for name, _, _ in faults(site)]


def test_version_that_only_one_place_of_the_receipt_tells_is_a_fault(site: Site) -> None:
    forge(site, "stack", lambda section: section.pop("blackwheel"))
    assert faults(site) == [("version of blackwheel", __version__, "the same")]


def opened(site: Site) -> dict[str, str]:
    checks = verify.verify(site, wheel_of(site)).checks
    assert [check for check in checks if check.ok is False] == []
    return {check.what: check.found for check in checks if check.ok is None}


def test_leaf_that_receipts_of_kept_wheels_lack_is_open(site: Site) -> None:
    forge(site, "command", lambda section: section["variables"].pop("BLACKWHEEL_FIXED"))
    why = "not held: a receipt of an earlier version of blackwheel"
    assert opened(site)["variable BLACKWHEEL_FIXED"] == why
    forge(site, "torch", lambda section: section.pop("built_for"))
    assert opened(site)["torch built_for"] == why


def test_variables_of_a_build_are_computed_again_and_each_has_a_row_in_the_page(site: Site) -> None:
    page = (ROOT / "docs" / "forgeries.md").read_text(encoding="utf-8")
    held = sections(site, wheel_of(site))["command"]["variables"]
    names = sorted(name for name in held if name.startswith("BLACKWHEEL_"))
    assert "BLACKWHEEL_FIXED" in names
    for name in names:
        forge(site, "command", lambda section, n=name: section["variables"].update({n: "x"}))
        assert f"variable {name}" in [what for what, _, _ in faults(site)]
        assert f"| `command.variables.{name}` | `variable {name}` | 1 |" in page


def test_torch_of_smoke_has_every_leaf_of_that_of_the_build(site: Site) -> None:
    wheel = wheel_of(site)
    own = sections(site, wheel)["torch"]
    told = {name: own[name] for name in own if name not in ("source", "built_for")}
    forge(site, "smoke", lambda section: section.update(torch={**told, "wheel_sha256": []}))
    assert "torch of smoke" not in opened(site)
    for name in told:
        forge(site, "smoke", lambda section, name=name: section["torch"].pop(name))
        (fault,) = [what for what, _, _ in faults(site) if what.endswith("of smoke")]
        assert fault.startswith("torch ")
        forge(site, "smoke", lambda section: section.update(torch={**told, "wheel_sha256": []}))


def test_command_of_a_build_in_mode_processes_is_open(
    site: Site, tmp_path: Path, library: bytes
) -> None:
    wheel = make_wheel(tmp_path / "built", library)
    held = sections(site, wheel, "processes")
    held["isolation"] = {"mode": "processes", "network": "dead proxies only"}
    document = receipts.receipt(wheel.name, verify_pages.sha256(wheel), held)
    receipts.write(wheel.with_name(f"{NAME}.receipt.json"), document)
    done = verify.verify(site, wheel)
    told = {check.what: check.found for check in done.checks if check.ok is None}
    assert done.faults == ()
    assert told["environment of the build"] == (
        "in mode processes command and environment name folders of the machine that built it"
    )


def test_receipt_without_the_parts_that_its_project_names_is_open(site: Site) -> None:
    (site.patches / "toy/project.toml").write_text(
        '[[holds]]\ntitle = "archs"\nvariable = "TOY_ARCHS"\nwords = { "12.0a" = "5090" }\n'
    )
    assert opened(site)["what it holds"].startswith("not held: ")
    holds = [{"title": "archs", "can": ["H100"], "cannot": []}]
    forge(site, "stack", lambda section: section.update(holds=holds))
    assert "what it holds" in [what for what, _, _ in faults(site)]


def test_times_and_objects_that_a_receipt_does_not_tell_are_open(site: Site) -> None:
    forge(site, "run", lambda section: section.update(metadata={}))
    assert opened(site)["times of the build"].startswith("not held: ")


def test_build_without_an_object_is_no_traceback(site: Site) -> None:
    def none(section: Any) -> None:
        section.update(each=[], count=0, cpu_seconds=0.0, peak_bytes=0)

    forge(site, "objects", none)
    assert "objects" not in opened(site)
    forge(site, "objects", lambda section: section.update(peak_bytes=7))
    assert ("objects peak_bytes", "7", "0") in faults(site)


def test_no_leaf_can_be_left_out_of_a_receipt_without_a_word(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a fault, or an open check that the whole receipt had not, or on the list of SAID."""
    real, (arch,) = audit.inspect, archs.parse_list("12.0a")
    report = functools.cache(lambda wheel: real(wheel, archs=[arch]))
    monkeypatch.setattr(audit, "inspect", lambda wheel, **_: report(wheel))
    path = wheel_of(site).with_name(f"{NAME}.receipt.json")
    document = receipts.load(path)
    before = set(opened(site))
    unnoticed = []
    for name, forged in forging.without_sections(document):
        receipts.write(path, forged)
        done = verify.verify(site, wheel_of(site))
        told = {check.what for check in done.checks if check.ok is None} - before
        if not (done.faults or told or forging.is_said(name)):
            unnoticed.append(name)
    assert unnoticed == []


def test_wheel_from_the_sdist_satisfies_the_pin_too(site: Site) -> None:
    def from_sdist(section: Any) -> None:
        section["origin"] = "sdist"
        section["project"]["digest"]["gitTree"] = "d" * 40
        section["nested"][0]["digest"]["gitTree"] = "9" * 40

    forge(site, "sources", from_sdist)
    assert faults(site) == []


def test_tree_from_git_that_no_key_pins_is_a_fault(site: Site) -> None:
    held = receipts.sections(receipts.load(wheel_of(site).with_name(f"{NAME}.receipt.json")))
    parts = {**held["stack"]["key"]["parts"]}
    what = "source tree (git)"
    pinned = [check.ok for check in verify_receipt.key_checks(held, parts) if check.what == what]
    parts["source.tree"] = "null"
    unseen = [check.ok for check in verify_receipt.key_checks(held, parts) if check.what == what]
    assert (pinned, unseen) == ([True], [False])


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        (
            "patches/toy/1.0/0001-take-12.0a.patch",
            "Because.",
            "Becauze.",
            "checkout patches.0001-take-12.0a.patch",
        ),
        ("constraints/toy/build-toy-py312.txt", "aaa", "aab", "checkout locks.build"),
        ("constraints/toy/toolchain.txt", ".88", ".89", "checkout locks.toolchain"),
        ("constraints/toy.toml", 'commit = "c', 'commit = "d', "checkout source.commit"),
        ("constraints/toy.toml", "[toolchain]", 'index = "x"\n[toolchain]', "checkout torch.index"),
    ],
)
def test_checkout_that_would_make_something_else_under_this_label_is_a_fault(
    site: Site, file: str, old: str, new: str, what: str
) -> None:
    edit(site.checkout / file, old, new)
    (fault, *_) = [fault for fault in faults(site) if fault[0] == what]
    assert fault[1] != fault[2]


def test_wheel_of_an_earlier_revision_is_not_held_to_the_stack_as_it_is_now(site: Site) -> None:
    edit(site.checkout / "constraints/toy.toml", 'version = "1.0"', 'version = "1.0"\nrevision = 2')
    edit(site.checkout / "patches/toy/1.0/0001-take-12.0a.patch", "Because.", "Why.")
    assert faults(site) == []
    (check,) = [c for c in verified(site)[0].checks if c.what == "checkout"]
    moved = f"stack toy has moved on to 1.0+{LABEL[:-1]}2"
    assert (check.state, check.found) == ("open", moved)


def test_receipt_of_a_stack_that_the_checkout_does_not_know_proves_nothing(site: Site) -> None:
    (site.checkout / "constraints/toy.toml").unlink()
    (one, _) = verify.verify_all(site, [wheel_of(site)])
    assert [(fault.what, fault.found, fault.expected) for fault in one.faults] == [
        (
            "checkout",
            "unknown-stack: there is no stack 'toy'",
            "a stack and project of this checkout, with all that its key is made from",
        )
    ]


def test_receipt_that_names_another_stack_than_its_shelf_is_a_fault(site: Site) -> None:
    shutil.copy(site.constraints / "toy.toml", site.constraints / "other.toml")
    for name in ("nosuch", "other"):
        forge(site, "stack", lambda section, name=name: section.update(name=name))
        assert faults(site) == [("stack", name, "toy")]


def test_project_that_the_stack_does_not_have_is_a_fault(site: Site) -> None:
    edit(site.constraints / "toy.toml", "projects.toy", "projects.toys")
    edit(site.constraints / "toy.toml", 'build = ["toy"]', 'build = ["toys"]')
    (found,) = [found for what, found, _ in faults(site) if what == "checkout"]
    assert found.startswith("unknown-project: stack 'toy' does not build 'toy'")


def test_checkout_without_a_lock_file_cannot_compute_the_key(site: Site) -> None:
    (site.checkout / "constraints/toy/build-toy-py312.txt").unlink()
    assert faults(site) == [
        (
            "checkout",
            "no-lock-file: there are no hashed pins of this environment",
            "a stack and project of this checkout, with all that its key is made from",
        )
    ]


def test_wheel_without_receipt_is_a_fault(site: Site) -> None:
    wheel_of(site).with_name(f"{NAME}.receipt.json").unlink()
    assert faults(site) == [
        ("receipt", "bad-receipt: No such file or directory", "a whole receipt")
    ]


def test_receipt_without_smoke_does_not_pass_on_a_shelf(site: Site) -> None:
    path = wheel_of(site).with_name(f"{NAME}.receipt.json")
    document = receipts.load(path)
    held = receipts.sections(document)
    del held["smoke"]
    receipts.write(path, receipts.receipt(*receipts.subject(document), held))
    assert faults(site) == [
        ("receipt smoke", "missing: the wheel did not go through it", "as the build wrote it")
    ]


def test_section_of_another_form_is_a_fault_and_no_traceback(site: Site) -> None:
    forge(site, "stack", lambda section: section.pop("key"))
    assert faults(site)[0] == (
        "receipt",
        "a section is not as blackwheel writes it: KeyError 'key'",
        "a whole receipt",
    )


def test_wheel_on_the_shelf_that_no_page_lists_is_a_fault(site: Site) -> None:
    name = NAME.replace("sm120a.1", "sm120a.2")
    shutil.copy(wheel_of(site), wheel_of(site).with_name(name))
    assert (name, "no page lists it", "a page") in faults(site)


def test_missing_page_is_a_fault(site: Site) -> None:
    (site.wheels / "toy/simple/toy/index.html").unlink()
    assert faults(site) == [("toy/index.html", "no such file", "a page")]


def test_wheel_off_the_shelf_needs_no_smoke_and_no_page(site: Site, tmp_path: Path) -> None:
    for path in (wheel_of(site), wheel_of(site).with_name(f"{NAME}.receipt.json")):
        shutil.copy(path, tmp_path)
    (one,) = verify.verify_all(site, verify.wheels_of(site, str(tmp_path / NAME)))
    assert one.faults == ()


def with_receipt(site: Site, wheel: Path) -> Verified:
    """Verify a wheel that is on no shelf, with a receipt as its build would write it."""
    document = receipts.receipt(wheel.name, verify_pages.sha256(wheel), sections(site, wheel))
    receipts.write(wheel.with_name(f"{wheel.name}.receipt.json"), document)
    return verify.verify(site, wheel)


def test_wheel_that_the_audit_refuses_today_is_a_fault(
    site: Site, tmp_path: Path, library: bytes
) -> None:
    one = with_receipt(site, make_wheel(tmp_path / "loose", library, requires="torch"))
    assert [(fault.what, fault.found, fault.expected) for fault in one.faults] == [
        (
            "audit",
            "torch-not-pinned: it requires torch, which does not accept exactly one torch:"
            " torch===2.11.0 does",
            "no fatal finding",
        )
    ]


def test_wheel_without_a_guard_is_said_to_carry_none(
    site: Site, tmp_path: Path, library: bytes
) -> None:
    one = with_receipt(site, make_wheel(tmp_path / "bare", library, guarded=False))
    (check,) = [check for check in one.checks if check.what == "_built_for.py"]
    why = "the wheel carries no guard against another torch"
    assert (check.state, check.found, one.faults) == ("open", why, ())


def test_locked_torch_wheel_must_be_among_those_that_the_build_accepted(
    site: Site, tmp_path: Path, library: bytes
) -> None:
    locked = f'[torch.wheels.cp312]\nname = "torch.whl"\nsha256 = "{"a" * 64}"\nsize = 7\n'
    edit(site.constraints / "toy.toml", "[toolchain]", f"{locked}[toolchain]")
    wheel = make_wheel(tmp_path / "locked", library)
    assert with_receipt(site, wheel).faults == ()
    path = wheel.with_name(f"{NAME}.receipt.json")
    document = receipts.load(path)
    torch = {**receipts.sections(document)["torch"], "wheel_sha256": ["f"]}
    receipts.write(path, receipts.with_section(document, "torch", torch))
    found = [(fault.what, fault.found) for fault in verify.verify(site, wheel).faults]
    assert found == [("torch wheel", "f"), ("torch wheels of the lock", "f")]


def test_nothing_to_verify_is_an_error(site: Site, tmp_path: Path) -> None:
    """An index from which somebody took every wheel does not verify: its pages alone remain."""
    shutil.rmtree(site.wheels, ignore_errors=True)
    emptied = tmp_path / "emptied"
    (emptied / "simple" / "toy").mkdir(parents=True)
    for what, where in ((str(emptied), str(emptied)), ("toy", "toy"), ("", "wheels/")):
        with pytest.raises(BlackwheelError) as caught:
            verify.show_verify(site, what)
        assert str(caught.value) == (
            "error: nothing-to-verify\n"
            f"  there is no wheel in '{where}'\n"
            "  where: invoke verify\n"
            "  fix:   invoke build-wheels fills a shelf, invoke publish a folder; or name a wheel\n"
            "         file, a folder with wheels, or a stack whose wheels are shelved"
        )
        assert caught.value.code == Exit.INDEX


def test_file_that_is_not_there_is_a_mistake_of_the_command_line(
    site: Site, tmp_path: Path
) -> None:
    with pytest.raises(BlackwheelError) as caught:
        verify.wheels_of(site, str(tmp_path / "gone.whl"), "sign")
    assert str(caught.value) == (
        "error: no-wheel\n"
        f"  there is no file '{tmp_path / 'gone.whl'}'\n"
        "  where: invoke sign\n"
        "  fix:   name a wheel file, a folder with wheels, or a stack whose wheels are shelved"
    )
    assert caught.value.code == Exit.USAGE


def test_environment_is_told_by_its_folder_or_its_python(site: Site, tmp_path: Path) -> None:
    import venv

    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    for name in (tmp_path / "env", tmp_path / "env" / "bin" / "python"):
        assert verify.show_environment(site, str(name)) == Exit.TORCH
    out = site.console._out
    assert isinstance(out, io.StringIO)
    text = (
        f"python: {tmp_path}/env/bin/python\n"
        "torch:  none is installed\n"
        "no wheel here was built for one torch, or requires exactly one\n"
    )
    assert out.getvalue() == text * 2


def test_program_that_is_no_python_is_refused(site: Site) -> None:
    with pytest.raises(BlackwheelError) as caught:
        verify.show_environment(site, "/bin/false")
    assert str(caught.value) == (
        "error: no-python\n"
        "  /bin/false ended with exit code 1\n"
        "  where: invoke doctor --env\n"
        "  fix:   name a Python 3.9 or newer, or the folder of a virtual environment"
    )


def test_environment_that_is_not_there_is_refused(site: Site) -> None:
    with pytest.raises(BlackwheelError, match="no-python\n  there is no Python 'nope'"):
        verify.show_environment(site, "nope")


@pytest.mark.parametrize(
    ("found", "same"), [("13.0.2", True), ("13.0.2.0", True), ("13.0.3", False), ("x", False)]
)
def test_toolkit_release_is_one_however_it_is_written(found: str, same: bool) -> None:
    assert verify_receipt._same_release(found, "13.0.2") is same
