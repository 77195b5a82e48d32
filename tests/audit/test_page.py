"""The page of an audit and its closing sentence, from reports made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from page_reader import Reader

from blackwheel.audit.audit import AuditReport, Finding, Library, Links
from blackwheel.audit.kernels import KernelCounts
from blackwheel.audit.page import Sheet, page
from blackwheel.audit.summary import rows
from blackwheel.commands.audit import closing
from blackwheel.core.archs import parse_list

ARCHS = parse_list("12.0a")
NATIVE = Library(
    path="toy/_C.abi3.so",
    size=26 << 20,
    sha256="a" * 64,
    elf_archs=(("sm_120a", 8),),
    kernels_by_arch=(("sm_120a", 40),),
    kernels=KernelCounts(native=40),
)
MIXED = Library(
    path="toy/_moe.so",
    size=1 << 20,
    sha256="b" * 64,
    elf_archs=(("sm_80", 2), ("sm_120", 1)),
    ptx_archs=(("sm_80", 2),),
    kernels_by_arch=(("sm_80", 10), ("sm_120", 5)),
    kernels=KernelCounts(family=5, ptx=3, missing=2),
)
HOST = Library(path="toy/_host.so", size=2048, sha256="c" * 64, host_only=True)
BROKEN = Library(path="toy/_bad.so", size=9, sha256="d" * 64, unreadable="no <headers>")
OLDER = replace(BROKEN, unread_archs=(("sm_60", 4), ("sm_90", 5)))
"""What cannot be read of it is for other cards, as its headers tell."""
NOT_NATIVE = Finding(name="not-native", fact="10 of 10", library=MIXED.path)
ALLOWED = replace(NOT_NATIVE, fact="10 of 10; allowed: they are empty", fatal=False)
LOOSE = Finding(name="torch-not-pinned", fact="it requires torch")
ONE, ANY, MANY = (Requirement(t) for t in ("torch===2.11.0", "torch==2.11.0", "torch>=2.5"))


def report(*libraries: Library, findings: tuple[Finding, ...] = ()) -> AuditReport:
    return AuditReport(
        path=Path("toy-1.0-cp312-cp312-linux_x86_64.whl"),
        sha256="e" * 64,
        size=7 << 20,
        libraries=libraries,
        links=(Links(library=NATIVE.path, torch="stable", glibc="2.28", glibc_for="x"),),
        findings=findings,
    )


def sheet(*libraries: Library, findings: tuple[Finding, ...] = ()) -> Sheet:
    return Sheet(
        report=report(*libraries, findings=findings),
        archs=ARCHS,
        requires=("torch===2.11.0",),
        linked="2.11.0+cu130",
        closing="The closing sentence.",
    )


CARDS = "GeForce RTX 5050 to 5090, desktop and laptop; RTX PRO 2000 to 6000 Blackwell"


def test_page_shows_everything_that_was_seen() -> None:
    text = page([sheet(NATIVE, MIXED, HOST, BROKEN, findings=(ALLOWED, LOOSE))])
    assert Reader(text).words == (
        "toy-1.0-cp312-cp312-linux_x86_64.whl refused The closing sentence."
        f" size 7.0 MiB sha256 {'e' * 64} requires torch===2.11.0"
        f" symbols looked for in torch 2.11.0+cu130 counted for 12.0a: {CARDS}"
        " How the kernels run on 12.0a"
        " natively as code of the family through PTX not at all"
        " toy/_C.abi3.so40 of 40 run natively natively: 40"
        " toy/_moe.so0 of 10 run natively"
        " as code of the family: 5, through PTX: 3, not at all: 2"
        " Kernels by library and arch Kernels with SASS of each arch; a field with more color is"
        " a larger share of the library's kernels. PTX is counted in pieces of code."
        " library sm_80 sm_120 sm_120a PTX kernels"
        " toy/_C.abi3.so26 MiB, torch: stable, glibc 2.28 · · 40 · 40"
        " toy/_moe.so1.0 MiB 10 5 0 2 x sm_80 10"
        " toy/_bad.so9 B unreadable: no <headers>"
        " Host code only toy/_host.so 2.0 KiB"
        " Findings fatal: torch-not-pinned it requires torch"
        " note: not-native toy/_moe.so 10 of 10; allowed: they are empty"
        " Drawn by blackwheel."
    )


def test_verdict_about_a_card_is_a_line_each() -> None:
    made = replace(sheet(NATIVE, MIXED), closing="On it 40 run.\nThrough PTX: 3.", state="in part")
    read = Reader(page([made]))
    assert "runs: in part On it 40 run. Through PTX: 3. size" in read.words
    assert [one["class"] for one in read.attributes("section")] == ["partly"]
    good = replace(made, state="natively")
    assert [one["class"] for one in Reader(page([good])).attributes("section")] == ["passed"]


def test_page_needs_nothing_else() -> None:
    text = page([sheet(NATIVE, MIXED)])
    for outside in ("http:", "https:", "//", "url(", "@import", "src=", "href="):
        assert outside not in text
    assert ("meta", {"charset": "utf-8"}) in Reader(text).seen


def test_share_of_kernels_is_drawn() -> None:
    seen = Reader(page([sheet(MIXED)]))
    drawn = [(one["data-label"], one.get("style")) for one in seen.attributes("td")]
    assert drawn == [
        ("sm_80", "--share:100%"),
        ("sm_120", "--share:50%"),
        ("sm_120a", "--share:0%"),
        ("PTX", None),
        ("kernels", None),
    ]
    bars = [one["style"] for one in seen.attributes("i") if "style" in one]
    assert bars == ["flex-grow:5", "flex-grow:3", "flex-grow:2"]


def test_nothing_of_a_wheel_becomes_markup() -> None:
    evil = '<img src=x onerror="alert(1)">&'
    bad = replace(NATIVE, path=evil, elf_archs=(), kernels=KernelCounts(missing=1))
    found = Finding(name="x", fact=evil, library=evil)
    made = sheet(bad, replace(HOST, path=evil), replace(BROKEN, unreadable=evil), findings=(found,))
    made = replace(made, requires=(evil,), linked=evil, closing=evil)
    made = replace(made, report=replace(made.report, path=Path(f"{evil}.whl")))
    made = replace(made, archs=ARCHS)
    text = page([made])
    assert all(tag != "img" and "onerror" not in attrs for tag, attrs in Reader(text).seen)
    assert Reader(text).words.count(evil) == 10


def test_no_name_of_an_arch_becomes_markup() -> None:
    """They come out of a receipt that anybody may have written."""
    evil = "sm_80<img src=x>"
    text = page([sheet(replace(MIXED, ptx_archs=((evil, 1),)))])
    assert all(tag != "img" for tag, _ in Reader(text).seen)
    assert "sm_80<img src=x>" in Reader(text).words


def test_no_name_of_a_wheel_becomes_a_command_of_a_terminal() -> None:
    evil = "a\x1b[2J\u202e\nb"
    bad = replace(NATIVE, path=evil)
    text = page([sheet(bad, findings=(Finding(name="x", fact=evil, library=evil),))])
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert Reader(text).words.count("a\\u001b[2J\\u202e\\u000ab") == 4


def test_many_files_are_one_row() -> None:
    """A wheel of cubins alone has 16,000."""
    many = [replace(MIXED, path=f"toy/{n}.cubin", kind="cubin") for n in range(1000)]
    text = page([sheet(NATIVE, *many)])
    assert "toy/0.cubin and 999 more files like it" in Reader(text).words
    assert text.count("cubin") < 10
    assert len(rows(many)) == 1
    assert rows(many)[0].kernels == KernelCounts(family=5000, ptx=3000, missing=2000)
    assert rows([NATIVE, *many[:10]]) == (NATIVE, *many[:10])


def test_page_of_several_wheels_has_them_all() -> None:
    text = page([sheet(NATIVE), sheet(MIXED, findings=(NOT_NATIVE,))])
    assert "<title>Audit of 2 wheels</title>" in text
    assert [one["class"] for one in Reader(text).attributes("section")] == ["passed", "refused"]


@pytest.mark.parametrize(
    ("libraries", "findings", "requires", "said"),
    [
        (
            (NATIVE, HOST),
            (),
            (ONE,),
            "All 40 kernels are native 12.0a, and it accepts only torch===2.11.0:"
            " you need not build.",
        ),
        (
            (NATIVE,),
            (LOOSE,),
            (ANY,),
            "All 40 kernels are native 12.0a, and it accepts any build of torch==2.11.0:"
            " you need not build, but pin torch.",
        ),
        (
            (NATIVE, MIXED),
            (NOT_NATIVE,),
            (MANY,),
            "40 of 50 kernels are native 12.0a (5 run as code of the family, 3 through PTX,"
            " 2 not at all), and it accepts more than one torch (torch>=2.5):"
            " build your own for native kernels.",
        ),
        (
            (NATIVE, MIXED),
            (ALLOWED,),
            (ONE,),
            "40 of 50 kernels are native 12.0a, and the stack allows the others,"
            " and it accepts only torch===2.11.0: you need not build.",
        ),
        (
            (NATIVE,),
            (Finding(name="undefined-symbol", fact="gone"),),
            (ONE,),
            "All 40 kernels are native 12.0a, and it accepts only torch===2.11.0:"
            " but read the findings before you use it.",
        ),
        (
            (NATIVE, BROKEN),
            (),
            (ONE,),
            "Whether it serves 12.0a cannot be told: 1 of its libraries cannot be read;"
            " it accepts only torch===2.11.0.",
        ),
        (
            (NATIVE, OLDER),
            (),
            (ONE,),
            "All 40 kernels are native 12.0a, 9 pieces that cannot be read are not compiled for it,"
            " and it accepts only torch===2.11.0: you need not build.",
        ),
        (
            (NATIVE, replace(OLDER, unread_archs=(("sm_60", 4), ("sm_120", 1)))),
            (),
            (ONE,),
            "Whether it serves 12.0a cannot be told: 1 of its libraries cannot be read;"
            " it accepts only torch===2.11.0.",
        ),
        (
            (HOST,),
            (),
            (),
            "It holds no kernels, so there is nothing to build for 12.0a; it names no torch.",
        ),
        (
            (),
            (LOOSE, Finding(name="html-file", fact="")),
            (),
            "Nothing of it can be used: html-file.",
        ),
    ],
)
def test_need_i_build_at_all(
    libraries: tuple[Library, ...],
    findings: tuple[Finding, ...],
    requires: tuple[Requirement, ...],
    said: str,
) -> None:
    assert closing(report(*libraries, findings=findings), ARCHS, requires) == said


def test_wheel_that_no_stack_builds_is_not_told_to_be_built() -> None:
    found = report(NATIVE, MIXED, findings=(NOT_NATIVE,))
    said = closing(found, ARCHS, (MANY,), buildable=False)
    assert said.endswith("it accepts more than one torch (torch>=2.5): no stack builds it.")
