"""FlashAttention-3 is refused before anything is fetched, with the reason."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from blackwheel.commands.build_wheels import build_wheels
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site, here
from blackwheel.pins import offer
from blackwheel.stacks import ask

ROOT = Path(__file__).parents[2]
RELEASES = {"torch211": "0.26.0", "report-2025-10": "0.11.0"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A checkout in which each stack has one beside it that leaves FA3 in."""
    for name in ("constraints", "patches"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in RELEASES:
        (tmp_path / "constraints" / f"fa3-{name}.toml").write_text(
            f'extends = "{name}"\n[projects.vllm.variables]\n'
            'VLLM_WITHOUT = "flashmla{without}"\n',
            encoding="utf-8",
        )
    return replace(here(), checkout=tmp_path)


def refused(site: Site, stack: str, *only: str, arch: str = "") -> BlackwheelError:
    with pytest.raises(BlackwheelError) as raised:
        ask.requests(site, stack, only=only, arch=arch, python="3.11")
    return raised.value


@pytest.mark.parametrize("name", RELEASES)
def test_vllm_with_fa3_is_refused_on_12_0_for_both_releases(site: Site, name: str) -> None:
    error = refused(site, f"fa3-{name}")
    assert error.code == Exit.CONFIG
    assert str(error) == (
        "error: cannot-run-on-arch\n"
        f"  vllm {RELEASES[name]} would build FlashAttention-3, which cannot run on 12.0a:\n"
        "  it is made of wgmma, an instruction that only sm_90a has\n"
        "  its tiles are larger than the 99 KB of shared memory of 12.0\n"
        f"  where: constraints/fa3-{name}.toml, projects.vllm.variables.VLLM_WITHOUT\n"
        "  fix:   name fa3 in it: FlashAttention-2 is what runs there"
    )


def test_fa3_beside_an_arch_that_has_it_is_refused_for_the_other(site: Site) -> None:
    assert "on 10.0a:\n" in refused(site, "fa3-torch211", arch="9.0a;10.0a").fact
    assert "99 KB" not in refused(site, "fa3-torch211", arch="9.0a;10.0a").fact


def test_fa3_for_9_0_alone_is_not_refused(site: Site) -> None:
    found, _ = ask.requests(site, "fa3-torch211", only=["vllm"], arch="9.0a", python="3.11")
    assert [one.project for one in found] == ["vllm"]


def test_stacks_as_they_ship_leave_fa3_out(site: Site) -> None:
    for name in RELEASES:
        assert "vllm" in {one.project for one in ask.requests(site, name, python="3.11")[0]}


@pytest.mark.parametrize("name", ["flash-attn-3", "fa3", "FlashAttention3", "hopper"])
def test_fa3_asked_for_as_a_project_is_refused_with_the_reason(site: Site, name: str) -> None:
    error = refused(site, "torch211", name)
    assert error.code == Exit.USAGE
    assert str(error) == (
        "error: cannot-run-on-arch\n"
        f"  '{name}' is FlashAttention-3, which cannot run on 12.0a:\n"
        "  it is made of wgmma, an instruction that only sm_90a has\n"
        "  its tiles are larger than the 99 KB of shared memory of 12.0\n"
        "  where: --only\n"
        "  fix:   --only flash-attn: FlashAttention-2 is what runs there"
    )


def test_fa3_as_a_project_is_unknown_where_it_could_run(site: Site) -> None:
    assert refused(site, "torch211", "fa3", arch="9.0").name == "unknown-project"


def test_names_for_several_pythons_are_refused_too(site: Site) -> None:
    with pytest.raises(BlackwheelError, match="cannot-run-on-arch"):
        ask.for_pythons(site, "torch211", "all", only=["fa3"])


def test_nightly_is_refused_before_its_torch_is_locked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offer, "lock_first", lambda *_, **__: pytest.fail("torch is locked"))
    (site.constraints / "fa3-nightly.toml").write_text(
        'extends = "nightly"\n[projects.vllm.variables]\nVLLM_WITHOUT = "flashmla{without}"\n',
        encoding="utf-8",
    )
    with pytest.raises(BlackwheelError, match="would build FlashAttention-3, which cannot"):
        build_wheels(site, "fa3-nightly", python="3.12")


@pytest.mark.parametrize(
    ("sets", "named", "meant"),
    [
        ("samplin", "'samplin'", "; did you mean 'sampling'?"),
        ("sampling,fp8,fa9", "'fp8', 'fa9'", "; did you mean 'nvfp4'?"),
        ("", "''", ""),
    ],
)
def test_set_that_does_not_exist_is_refused_before_anything_is_fetched(
    site: Site, sets: str, named: str, meant: str
) -> None:
    (site.constraints / "other-sets.toml").write_text(
        'extends = "flashinfer-quick"\n[projects.flashinfer.variables]\n'
        f'FLASHINFER_SETS = "{sets}"\n',
        encoding="utf-8",
    )
    with pytest.raises(BlackwheelError) as raised:
        build_wheels(site, stack="other-sets", python="3.11")
    assert raised.value.code == Exit.CONFIG
    assert str(raised.value) == (
        "error: unknown-part\n"
        f"  flashinfer 0.6.16.post3: FLASHINFER_SETS names {named}, which is none of its sets"
        f"{meant}\n"
        "  where: constraints/other-sets.toml, projects.flashinfer.variables.FLASHINFER_SETS\n"
        "  fix:   one or more of, with commas: sampling, gpt-oss, nvfp4"
    )


@pytest.mark.parametrize("sets", ["nvfp4", "sampling, nvfp4"])
def test_set_of_one_family_of_archs_is_refused_for_others(site: Site, sets: str) -> None:
    (site.constraints / "other-archs.toml").write_text(
        'extends = "flashinfer-quick"\narchs = ["10.0a", "12.0a"]\n'
        f'[projects.flashinfer.variables]\nFLASHINFER_SETS = "{sets}"\n',
        encoding="utf-8",
    )
    assert str(refused(site, "other-archs", "flashinfer")) == (
        "error: cannot-run-on-arch\n"
        "  flashinfer 0.6.16.post3 would build its set nvfp4, which cannot run on 10.0a:\n"
        "  its loader asks for fp4_quantization by the name of the family, 120f, which 12.x alone"
        " has\n"
        "  where: constraints/other-archs.toml, projects.flashinfer.variables.FLASHINFER_SETS\n"
        "  fix:   leave nvfp4 out of it, or --arch 12.0a"
    )
    found, _ = ask.requests(site, "other-archs", arch="12.1a", python="3.11")
    assert [one.archs for one in found] == [("12.1a",)]


def test_set_that_every_arch_may_have_is_not_refused(site: Site) -> None:
    found, _ = ask.requests(site, "flashinfer-quick", arch="9.0a;12.0a", python="3.11")
    assert [one.project for one in found] == ["flashinfer"]
