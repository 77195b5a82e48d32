"""The last line of an audit: does it serve the card, and which stack would replace it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from blackwheel.audit import on_card
from blackwheel.audit.kernels import KernelCounts, Library
from blackwheel.commands import audit_verdict
from blackwheel.commands.audit_verdict import Judged
from blackwheel.core import cards
from blackwheel.core.console import Quiet
from blackwheel.core.site import Site
from blackwheel.stacks import loader
from blackwheel.stacks.request import label

ROOT = Path(__file__).parents[2]
CARD = cards.card("RTX 5090")
NATIVE = Library(
    path="v/_C.so",
    size=1,
    sha256="",
    kernels_by_arch=(("sm_120a", 9),),
    kernels=KernelCounts(native=9),
)
PLAIN = replace(NATIVE, kernels_by_arch=(("sm_120", 9),), kernels=KernelCounts(family=9))
PTX = replace(NATIVE, path="v/_fa2.so", kernels=KernelCounts(ptx=1234), kernels_by_arch=())
HOPPER = replace(NATIVE, path="v/_fa3.so", kernels=KernelCounts(missing=7), kernels_by_arch=())
BROKEN = replace(NATIVE, path="v/_bad.so", kernels=KernelCounts(), unreadable="no header")
STABLE = "stack stable builds vllm 0.28.0 for torch 2.13.0, "
BUILD = "invoke build-wheels --stack stable --only vllm; invoke stacks lists others"
ON = "RTX 5090 (12.0a)"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The stacks and projects of this checkout, an empty shelf, and a machine that builds all."""
    for name in ("constraints", "patches"):
        (tmp_path / name).symlink_to(ROOT / name)
    from blackwheel.doctor import for_building

    monkeypatch.setattr(for_building, "buildable", lambda stack, place: ())
    return Site(checkout=tmp_path, store=tmp_path / "store", environment={}, console=Quiet())


def nobody_knows(_: str) -> str:
    return ""


def judged(
    *libraries: Library,
    name: str = "vllm",
    uncalled: Callable[[str], str] = nobody_knows,
    broken: str = "",
) -> Judged:
    return Judged(
        name=name,
        version="0.28.0",
        state=on_card.state(libraries, uncalled),
        libraries=libraries,
        uncalled=uncalled,
        broken=broken,
    )


def said(site: Site, *all_of: Judged, gpu: str = "RTX 5090") -> str:
    return audit_verdict.verdict(site, cards.card(gpu), all_of)


@pytest.mark.parametrize(
    ("libraries", "begins"),
    [
        ((NATIVE,), f"yes, all that would be called runs natively on {ON}. "),
        (
            (NATIVE, PLAIN),
            f"yes, all that would be called runs on {ON} as machine code, some of it ",
        ),
    ],
)
def test_what_runs_without_a_compiler_needs_no_build_and_names_no_stack(
    site: Site, libraries: tuple[Library, ...], begins: str
) -> None:
    told = said(site, judged(*libraries))
    assert told.startswith(f"Verdict: {begins}")
    assert told.endswith(" You need not build your own.")
    assert "stack" not in told


def test_code_that_nothing_calls_takes_nothing_from_a_yes(site: Site) -> None:
    told = said(site, judged(NATIVE, HOPPER, uncalled=lambda p: "no" if "fa3" in p else ""))
    assert told == (
        f"Verdict: yes, all that would be called runs natively on {ON}."
        " You need not build your own."
    )


def test_ptx_runs_slower_and_the_stack_that_replaces_it_is_named_with_its_state(site: Site) -> None:
    assert said(site, judged(NATIVE, PTX)) == (
        f"Verdict: yes, but 1,234 of 1,243 kernels run on {ON} only through PTX: your driver"
        " compiles them at first use, which takes time."
        " You need not build your own to run it; for native code: "
        f"{STABLE}buildable here, not on the shelf here: {BUILD}"
    )


def test_what_runs_nowhere_on_the_card_is_a_no_with_the_command(site: Site) -> None:
    told = said(site, judged(HOPPER))
    assert told.startswith(
        f"Verdict: no, none of its 7 kernels runs on {ON}. Build your own: {STABLE}"
    )
    told = said(site, judged(NATIVE, HOPPER))
    assert f"no, not all of it runs on {ON}: v/_fa3.so holds nothing for it. Where you" in told
    assert BUILD in told


@pytest.mark.parametrize("library", [HOPPER, PTX, BROKEN])
def test_nobody_is_told_to_build_what_no_stack_builds(site: Site, library: Library) -> None:
    told = said(site, judged(library, name="nvidia-cublas"))
    assert "No stack of this repository builds nvidia-cublas: a newer release" in told
    assert "build" not in told.replace("No stack of this repository builds", "")


def test_wheel_on_the_shelf_is_installed_and_not_built_again(site: Site) -> None:
    shelf = site.wheels / "stable"
    shelf.mkdir(parents=True)
    (shelf / "vllm-0.28.0+cu130torch2.13.0.sm120a.1-cp312-cp312-linux_x86_64.whl").touch()
    told = said(site, judged(HOPPER))
    assert f"{STABLE}on the shelf here: invoke install --stack stable --only vllm" in told


def test_machine_that_cannot_build_it_is_told_why(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blackwheel.doctor import for_building

    monkeypatch.setattr(for_building, "buildable", lambda stack, place: ("no g++", "no git"))
    assert f"{STABLE}not buildable here (no g++): {BUILD}" in said(site, judged(HOPPER))


def test_nightly_whose_torch_nobody_saw_is_no_buildable_stack(site: Site, tmp_path: Path) -> None:
    (tmp_path / "constraints").unlink()
    (tmp_path / "constraints").mkdir()
    for name in ("nightly", "stable"):
        shutil.copytree(ROOT / "constraints" / name, tmp_path / "constraints" / name)
        shutil.copy(ROOT / "constraints" / f"{name}.toml", tmp_path / "constraints")
    stable = tmp_path / "constraints" / "stable.toml"
    text = stable.read_text(encoding="utf-8")
    head, _, rest = text.partition("\nbuild = ")
    stable.write_text(f'{head}\nbuild = ["flash-attn"]\n{rest.partition(chr(10))[2]}', "utf-8")
    told = said(site, judged(HOPPER))
    assert "stack nightly builds vllm 0.28.0 for torch 2.16.0.dev" in told
    assert ", its torch never seen from here: invoke build-wheels --stack nightly" in told


def test_release_that_is_asked_for_goes_before_the_newest(site: Site) -> None:
    old = replace(judged(HOPPER), version="0.26.0")
    found = audit_verdict.builders(site, old.name, old.version)
    assert (found[0].stack.name, found[0].version) == ("torch211", "0.26.0")
    assert (found[1].stack.name, found[1].version) == ("stable", "0.28.0")
    names = [one.stack.name for one in audit_verdict.builders(site, "flash-attn", "2.8.3.post2")]
    assert names.index("stable") < names.index("quickstart"), "a part of it comes later"


def test_another_card_is_not_promised_what_no_stack_builds_for_it(site: Site) -> None:
    told = said(site, judged(HOPPER), gpu="A100")
    assert "the stacks here build vllm for 12.0a alone; docs/add-a-stack.md has more." in told


def test_wheel_that_no_installer_takes_is_a_no(site: Site) -> None:
    told = said(site, judged(NATIVE, broken="path-outside"))
    assert told == "Verdict: no, path-outside: no installer or loader takes it as it is."


def test_several_are_one_verdict_with_the_worst_first(site: Site) -> None:
    told = said(
        site,
        judged(NATIVE, name="good"),
        judged(PTX),
        judged(HOPPER, name="bitsandbytes"),
        judged(BROKEN, name="odd"),
    )
    assert told == (
        f"Verdict: no, not all of it runs on {ON}: bitsandbytes (not at all); compiled by your"
        " driver at first use: vllm (through PTX); cannot be read: odd."
        " No stack of this repository builds bitsandbytes, odd. For vllm: "
        f"{STABLE}buildable here, not on the shelf here: {BUILD}"
    )
    assert said(site, judged(NATIVE), judged(PLAIN)) == (
        f"Verdict: yes, all that would be called runs on {ON} as machine code."
        " You need not build your own."
    )
    assert said(site).startswith("Verdict: yes, nothing here holds GPU code: any card will do.")
    broken = said(site, judged(NATIVE), judged(name="bad", broken="path-outside"))
    assert broken == "Verdict: no, refused: bad (path-outside)."


def test_own_build_is_not_sent_to_itself(site: Site) -> None:
    stack = loader.load("stable", ROOT / "constraints")
    own = f"0.28.0+{label(stack, stack.projects['vllm'], stack.archs)}"
    told = said(site, replace(judged(NATIVE, PTX), version=own, state=on_card.PARTLY_PTX))
    assert "By its name it is what stack stable builds: invoke audit stable tells which" in told
    other = said(site, replace(judged(NATIVE, PTX), version=f"{own}2", state=on_card.PARTLY_PTX))
    assert f"for native code: {STABLE}" in other
