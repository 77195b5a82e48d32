"""Pages for people on a shelf of twelve wheels: words, links, form, and who may write them."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import pytest
from many_wheels import LABEL, MOMENT, make_wheel, many_wheels, receipt_of, sections
from page_reader import Reader, broken_links

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.pages import render
from blackwheel.shelf import index, landing_page, verify_pages
from blackwheel.shelf.wheel_facts import facts

HERE = "https://ADDRESS-OF-THIS-FOLDER/"
EVIL = '<img src=x onerror="alert(1)">&'


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_wheels(tmp_path_factory.mktemp("many"))


def wheel_of(shelves: Path, project: str, number: int, python: str) -> index.ShelvedWheel:
    found = [one for one in index.shelved(shelves / "stable") if one.project == project]
    ends = f".{number}-cp{python.replace('.', '')}-"
    return next(one for one in found if ends in one.path.name)


def read(page: Path) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


def test_no_link_of_any_page_is_broken(shelves: Path) -> None:
    assert broken_links(shelves) == []
    assert len(list(shelves.rglob("*.html"))) == 1 + 2 * 2 + 3 + 13 * 3


def test_link_without_a_target_is_found(shelves: Path, tmp_path: Path) -> None:
    shutil.copytree(shelves, tmp_path / "w")
    next((tmp_path / "w/stable").glob("vllm*.audit.html")).unlink()
    (tmp_path / "w/index.html").unlink()
    broken = broken_links(tmp_path / "w")
    assert len([one for one in broken if one.endswith("../index.html")]) == 2 + 13 * 3 - 1
    assert len([one for one in broken if one.endswith(".audit.html")]) == 1


def test_pages_are_linked_both_ways(shelves: Path) -> None:
    wheel = wheel_of(shelves, "flash-attn", 10, "3.12")
    assert read(shelves / "index.html").links["stable"] == "stable/index.html"
    stack = read(shelves / "stable/index.html")
    assert stack.links["Wheels by stack"] == "../index.html"
    assert stack.links["simple index"] == "simple/index.html"
    page = read(wheel.page)
    for name, target in (
        ("Wheels by stack", "../index.html"),
        ("stable", "index.html"),
        ("Audit", f"{quoted(wheel.path)}.audit.html"),
        ("Build report", f"{quoted(wheel.path)}.build.html"),
        ("Receipt", f"{quoted(wheel.path)}.receipt.json"),
        ("File", quoted(wheel.path)),
        ("Python 3.13", quoted(wheel_of(shelves, "flash-attn", 10, "3.13").page)),
    ):
        assert page.links[name] == target
    for path in (wheel.audit, wheel.build):
        back = read(path).links
        assert back["flash-attn 2.8.3 for Python 3.12"] == f"{quoted(wheel.path)}.html"
        assert (back["stable"], back["Wheels by stack"]) == ("index.html", "../index.html")


def quoted(path: Path) -> str:
    return path.name.replace("+", "%2B")


def test_versions_are_rows_with_their_pythons_the_newest_first(shelves: Path) -> None:
    words = read(shelves / "stable/index.html").words
    rows = [
        f"2.8.3+{LABEL}.{number} 3.11 3.12 3.13 2.11.0+cu130 700 of 700 {ran} 2026-11-29"
        for number, ran in ((10, "ran: 3.12"), (9, "never ran"), (1, "never ran"))
    ]
    places = [words.index(row) for row in rows]
    assert places == sorted(places)
    assert words.index("flash-attn 2.8.3") < words.index("vllm 0.26.0")


def test_state_on_a_gpu_is_told_and_amber_until_it_ran(shelves: Path) -> None:
    never = '<li class="warn">never ran on a GPU: import only, because no GPU was found</li>'
    ran = '<li class="good">11 checks right, native on NVIDIA GeForce RTX 5090</li>'
    assert never in wheel_of(shelves, "flash-attn", 10, "3.11").page.read_text()
    assert ran in wheel_of(shelves, "flash-attn", 10, "3.12").page.read_text()
    stack = read(shelves / "stable/index.html")
    assert "only that for Python 3.12 ran on a GPU: 11 checks right" in stack.words
    assert "1100 of 1112 kernels native for 12.0a" in stack.words


def test_page_tells_cards_limits_and_day_by_name(shelves: Path) -> None:
    words = read(wheel_of(shelves, "flash-attn", 10, "3.12").page).words
    for said in (
        "for GeForce RTX 5050 to 5090, desktop and laptop; RTX PRO 2000 to 6000 Blackwell",
        "torch 2.11.0+cu130 another torch another torch is refused CUDA 13.0",
        "driver 580 or newer glibc 2.32 or newer built 2026-11-29",
        "passes forward not: backward (training)",
        "head dimensions 64, 128 not: 32, 96, 192, 256",
    ):
        assert said in words


@pytest.mark.parametrize(
    ("bonds", "label", "torch"),
    [
        (["none", "none"], "cu130.sm120a.1", "any (it links none)"),
        (["none", "stable"], "cu130.sm120a.1", "2.11.0+cu130"),
        (["none"], LABEL, "2.11.0+cu130"),  # its guard may refuse another
        ([], "cu130.sm120a.1", "2.11.0+cu130"),  # nothing was looked at
    ],
)
def test_wheel_that_links_no_torch_is_said_to_serve_any(
    tmp_path: Path, bonds: list[str], label: str, torch: str
) -> None:
    held = sections("toy")
    held["audit"]["links"] = [{"torch": one, "glibc": ""} for one in bonds]
    held["stack"]["key"]["parts"]["label"] = label
    wheel = make_wheel(tmp_path, "toy", f"1.0+{LABEL}.1", "3.12")
    assert facts(index.shelve(wheel, receipt_of(wheel, held), tmp_path / "s")).torch == torch


def test_wheel_without_recorded_limits_shows_its_build_variables(shelves: Path) -> None:
    one = wheel_of(shelves, "vllm", 1, "3.12")
    assert facts(one).variables == (("TOY_DTYPES", "bf16"),)
    assert "What it was built with TOY_DTYPES bf16 Install" in read(one.page).words


def test_commands_name_the_exact_version_and_bytes(shelves: Path) -> None:
    wheel = wheel_of(shelves, "flash-attn", 10, "3.12")
    exact, file = f"flash-attn==2.8.3+{LABEL}.10", f"{HERE}{quoted(wheel.path)}"
    assert read(wheel.page).commands == [
        f"python3 -m pip install '{file}#sha256={wheel.sha256}'",
        f"uv pip install '{file}#sha256={wheel.sha256}'",
        f"{exact} \\\n    --hash=sha256:{wheel.sha256}",
    ]
    digests = [wheel_of(shelves, "flash-attn", 10, one).sha256 for one in ("3.11", "3.12", "3.13")]
    assert read(shelves / "stable/index.html").commands[:4] == [
        f"{HERE}simple/",
        f"python3 -m pip install --no-deps --index-url {HERE}simple/ {exact}",
        f"uv pip install --no-deps --index-url {HERE}simple/ {exact}",
        " \\\n".join([exact, *(f"    --hash=sha256:{digest}" for digest in digests)]),
    ]


def test_every_command_has_a_button_that_is_hidden_without_a_script(shelves: Path) -> None:
    page = read(shelves / "stable/index.html")
    buttons = page.attributes("button")
    assert len(buttons) == len(page.commands)
    assert all("hidden" in one and one["class"] == "copy" for one in buttons)


def test_pages_ask_nothing_of_any_network(shelves: Path) -> None:
    for page in shelves.glob("*/*.html"):
        text = page.read_text().replace(HERE, "")
        for outside in ("http:", "https:", "url(", "@import", "src="):
            assert outside not in text, page.name


def test_nothing_of_a_receipt_becomes_markup(tmp_path: Path) -> None:
    held = sections("toy", holds=[{"title": EVIL, "can": [EVIL], "cannot": [EVIL]}])
    held["stack"] |= {"name": EVIL, "archs": [EVIL], "driver": EVIL}
    held["torch"] = {"runtime": EVIL, "cuda": EVIL}
    held["smoke"] = {"kernels": {EVIL: EVIL}, "device": EVIL, "guard": EVIL}
    held["objects"]["each"][0]["source"] = EVIL
    held["run"]["metadata"]["finishedOn"] = EVIL
    wheel = make_wheel(tmp_path, "toy", f"1.0+{LABEL}.1", "3.12")
    put = index.shelve(wheel, receipt_of(wheel, held), tmp_path / "wheels" / EVIL.replace("/", ""))
    index.show_all(tmp_path / "wheels")
    assert put.build.is_file()
    pages = [page for page in tmp_path.rglob("*.html") if "simple" not in page.parts]
    assert len(pages) == 4
    for page in pages:
        assert all(tag != "img" and "onerror" not in attrs for tag, attrs in read(page).seen)
    assert EVIL in read(put.page).words


@pytest.mark.parametrize("receipt", ["", "{}", "[]", '{"predicate": {"blackwheel_chain": 7}}'])
def test_receipt_that_cannot_be_read_gives_a_page_that_claims_nothing(
    tmp_path: Path, receipt: str
) -> None:
    wheel = make_wheel(tmp_path, "toy", f"1.0+{LABEL}.1", "3.12")
    put = index.shelve(wheel, receipt_of(wheel, sections("toy")), tmp_path / "s", now=MOMENT)
    put.receipt.write_text(receipt)
    drawn = dict(landing_page.pages(tmp_path / "s", [put]))
    assert (drawn[put.audit], drawn[put.build]) == ("", "")
    words = Reader(drawn[put.page]).words
    assert "no kernels no record of a GPU" in words
    assert "torch unknown" in words
    assert "Audit" not in Reader(drawn[put.page]).links


@pytest.mark.parametrize(
    "holds", ["x" * 100_000, [{"title": "t", "can": ["c"], "cannot": []}] * 101]
)
def test_parts_of_another_shape_are_no_facts_and_cost_nothing(
    tmp_path: Path, holds: object
) -> None:
    held = sections("toy")
    wheel = make_wheel(tmp_path, "toy", f"1.0+{LABEL}.1", "3.12")
    assert facts(index.shelve(wheel, receipt_of(wheel, held), tmp_path / "right")).held
    held["stack"]["holds"] = holds
    put = index.shelve(wheel, receipt_of(wheel, held), tmp_path / "wrong")
    tracemalloc.start()
    told = facts(put)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not told.held
    assert peak < 4 << 20


def test_checks_that_were_wrong_are_no_good_state(tmp_path: Path) -> None:
    held = sections("toy", device="NVIDIA GeForce RTX 5090")
    held["smoke"]["checks"] = [{"name": "right"}, {"name": "wrong-result"}]
    wheel = make_wheel(tmp_path, "toy", f"1.0+{LABEL}.1", "3.12")
    assert not facts(index.shelve(wheel, receipt_of(wheel, held), tmp_path / "s")).ran


def test_page_follows_a_wheel_that_is_withdrawn(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "toy", f"1.0+{LABEL}.1", "3.12")
    put = index.shelve(wheel, receipt_of(wheel, sections("toy")), tmp_path / "s")
    assert all(page.is_file() for page in (put.page, put.audit, put.build))
    index.withdraw(put, tmp_path / "s")
    assert [page.name for page in tmp_path.glob("s/*.html")] == ["index.html"]
    assert "There is no wheel here." in read(tmp_path / "s/index.html").words


# Pages of another version of blackwheel, and of somebody else


def faults(shelf: Path) -> list[tuple[str, str]]:
    checks = verify_pages.page_checks(shelf)
    return [(one.what, one.found) for one in checks if one.ok is False]


def of_another_version(shelf: Path) -> None:
    for page in shelf.glob("*.html"):
        text = page.read_text().replace(render.stamp(), "blackwheel 0.0.9, pages 0123456789ab")
        page.write_text(text.replace("</h1>", "</h1><p>as it was</p>"))


@pytest.fixture
def copy(shelves: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shelves, tmp_path / "wheels"))


def test_pages_of_another_version_are_told_apart_from_edited_ones(copy: Path) -> None:
    assert faults(copy / "stable") == []
    page = copy / "stable/index.html"
    page.write_text(page.read_text().replace("never ran", "ran"))
    ((what, found),) = faults(copy / "stable")
    assert what.startswith("index.html line ") and found.startswith('<td data-label="on a GPU"')
    of_another_version(copy / "stable")
    words = "drawn by blackwheel 0.0.9, pages 0123456789ab or edited: nothing proves their words"
    assert faults(copy / "stable") == [("pages for people", words)]


def test_page_without_a_version_is_of_an_earlier_one_or_edited(copy: Path) -> None:
    (copy / "stable/index.html").write_text("<html><title>Wheels of stable</title></html>")
    words = "drawn by an earlier blackwheel or edited: nothing proves their words"
    assert faults(copy / "stable") == [("pages for people", words)]


def test_same_words_under_another_version_are_no_fault(copy: Path) -> None:
    for page in copy.glob("stable/*.html"):
        text = page.read_text()
        page.write_text(text.replace(render.stamp(), "blackwheel 0.0.9, pages 0123456789ab"))
    assert faults(copy / "stable") == []


def test_pages_of_another_version_are_drawn_again(copy: Path) -> None:
    before = {page: page.read_bytes() for page in copy.rglob("*.html")}
    of_another_version(copy / "stable")
    index.show_all(copy)
    assert {page: page.read_bytes() for page in copy.rglob("*.html")} == before


def test_pages_that_cannot_be_written_are_named(copy: Path) -> None:
    (copy / "index.html").unlink()
    (copy / "index.html").mkdir()
    with pytest.raises(BlackwheelError) as caught:
        index.show_all(copy)
    assert caught.value.code is Exit.INDEX
    assert str(caught.value) == (
        "error: pages-unwritable\n"
        "  pages for people cannot be written: Is a directory\n"
        "  the wheels and the pages that installers read are as they should be\n"
        f"  where: {copy}/index.html\n"
        "  fix:   free space or correct the rights of the folder, then the same command again"
    )


def test_page_over_all_shelves_that_is_somebody_elses_stays(copy: Path) -> None:
    (copy / "index.html").write_text("<title>Our wheels</title>")
    index.show_all(copy)
    assert (copy / "index.html").read_text() == "<title>Our wheels</title>"
    (copy / "index.html").write_text("<title>Wheels by stack</title>")  # before pages had stamps
    index.show_all(copy)
    assert "stable" in read(copy / "index.html").links


def test_edited_receipt_is_said_where_pages_are_compared(copy: Path) -> None:
    receipt = next(copy.glob("stable/*.receipt.json"))
    receipt.write_text(json.dumps(json.loads(receipt.read_text())))
    checks = verify_pages.page_checks(copy / "stable")
    assert [one.found for one in checks if one.what == "index.html"] == [
        "drawn from a receipt that does not hold"
    ]
