"""`invoke audit` of environments, and of several wheels in one table."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from elfwright import cubin, elf, entry, fat_binary
from wheelwright import make_wheel, native

from blackwheel.commands.audit import show_audit
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site

ROOT = Path(__file__).parents[2]
HOPPER = elf(
    rodata=fat_binary(entry(cubin("wgmma", arch=90, suffix="a"), arch=90, suffix="a")),
    section=".nv_fatbin",
)
PLAIN = native("scale", "add", arch=120, suffix="")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A checkout with what is known of projects, on a machine without a card."""
    return Site(checkout=ROOT, store=tmp_path / "store", environment={"PATH": ""}, console=Quiet())


def said(site: Site) -> str:
    assert isinstance(site.console, Quiet)
    return site.console.results


def install(environment: Path, wheel: Path) -> Path:
    """Unpack a wheel as an installer does."""
    place = environment / "lib" / "python3.12" / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Native code, code of the family, code for other cards, and no code."""
    folder = tmp_path / "env"
    install(folder, make_wheel(tmp_path / "a", {"toy/_C.so": native("a", "b")}))
    hopper = {"vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so": HOPPER, "vllm/_C.so": PLAIN}
    install(folder, make_wheel(tmp_path / "b", hopper, name="vllm-0.28.0-py3-none-any.whl"))
    other = {"other/_H.so": HOPPER, "other/_host.so": elf()}
    install(folder, make_wheel(tmp_path / "c", other, name="other-2-py3-none-any.whl"))
    install(folder, make_wheel(tmp_path / "d", {"h/_h.so": elf()}, name="host-1-py3-none-any.whl"))
    return folder


def test_environment_is_one_table_with_what_serves_least_first(
    site: Site, environment: Path
) -> None:
    assert show_audit(site, str(environment), gpu="RTX 5090") == Exit.OK
    table, _, verdict = said(site).partition("\nOn RTX")
    rows = [" ".join(line.split()) for line in table.splitlines()[1:]]
    assert rows == [
        "distribution, libraries natively family PTX not at all runs",
        "other 2 - - - 1 not at all",
        "_H.so - - - 1 not at all",
        "vllm 0.28.0 - 2 - 1 as code of the family",
        "_vllm_fa3_C.abi3.so - - - 1 not at all, not called",
        "toy 1.0+cu130torch2.11.0.sm120a.1 2 - - - natively",
    ]
    assert table.splitlines()[0] == f"{environment} on RTX 5090 (12.0a)"
    assert verdict.splitlines() == [
        " 5090 (12.0a) 2 of 6 kernels run natively, 2 as code of the family (sm_120),"
        " 2 not at all.",
        "other: Not at all: other/_H.so (1), compiled for sm_90a alone; a call of it fails."
        " Whether anything calls it the file does not tell.",
        "vllm: Not at all: vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so (1), compiled for sm_90a"
        " alone; nothing calls it there: FlashAttention 3 is chosen on 9.0 alone,"
        " FlashAttention 2 elsewhere.",
        "Verdict: no, not all of it runs on RTX 5090 (12.0a): other (not at all)."
        " No stack of this repository builds other.",
        "",
    ]


def test_many_libraries_that_do_not_serve_are_counted(site: Site, tmp_path: Path) -> None:
    code = {f"other/_{number}.so": HOPPER for number in range(6)}
    install(tmp_path / "env", make_wheel(tmp_path, code, name="other-2-py3-none-any.whl"))
    show_audit(site, str(tmp_path / "env"))
    rows = [" ".join(line.split()) for line in said(site).splitlines()[2:7]]
    assert rows == [
        "other 2 - - - 6 not at all",
        *(f"_{number}.so - - - 1 not at all" for number in range(3)),
        "and 3 more like these - - - 3",
    ]


def test_what_compiles_at_run_time_is_named_and_is_no_lack(
    site: Site, environment: Path, tmp_path: Path
) -> None:
    show_audit(site, str(environment), gpu="RTX 5090")
    assert "At run time" not in said(site), "nothing here compiles any"
    host = {"triton/_C/libtriton.so": elf()}
    install(environment, make_wheel(tmp_path / "t", host, name="triton-3.7.1-py3-none-any.whl"))
    name = "flashinfer_python-0.6.16-py3-none-any.whl"
    install(environment, make_wheel(tmp_path / "f", {"flashinfer/a.py": b""}, name=name))
    show_audit(site, str(environment), gpu="RTX 5090")
    told = said(site).rstrip().splitlines()
    line = (
        "At run time, for the card that is there: FlashInfer (flashinfer-python 0.6.16; wants nvcc"
        " and ninja), Triton (triton 3.7.1; wants gcc and Python.h) compile kernels. No file holds"
        " these, so that they are not counted here is no lack."
    )
    assert told[-2] == line
    assert told[-1].startswith("Verdict: ")


def test_environment_in_json(site: Site, environment: Path) -> None:
    place = environment / "lib" / "python3.12" / "site-packages"
    assert show_audit(site, str(place), as_json=True) == Exit.OK
    told = json.loads(said(site))
    assert told["schema"] == "blackwheel.audit-environment/1"
    assert told["archs"] == ["12.0a"]
    assert told["verdict"].startswith("Verdict: no, ")
    assert {one["name"]: one["runs"] for one in told["distributions"]} == {
        "other": "not at all",
        "vllm": "as code of the family",
        "toy": "natively",
    }


def test_on_the_card_it_was_made_for_the_same_code_is_called(site: Site, environment: Path) -> None:
    show_audit(site, str(environment), gpu="H100", as_json=True)
    runs = {one["name"]: one["runs"] for one in json.loads(said(site))["distributions"]}
    assert runs == {"other": "natively", "toy": "not at all", "vllm": "in part"}


def test_strict_wants_every_kernel_native(site: Site, environment: Path, tmp_path: Path) -> None:
    assert show_audit(site, str(environment), strict=True) == Exit.AUDIT
    install(tmp_path / "good", make_wheel(tmp_path / "a", {"toy/_C.so": native("a")}))
    assert show_audit(site, str(tmp_path / "good"), strict=True) == Exit.OK


def test_file_of_no_distribution_is_told_too(site: Site, tmp_path: Path) -> None:
    place = install(tmp_path / "env", make_wheel(tmp_path / "a", {"toy/_C.so": native("a")}))
    (place / "loose.so").write_bytes(HOPPER)
    (place / "twice.so").hardlink_to(place / "loose.so")
    show_audit(site, str(tmp_path / "env"), as_json=True)
    first = json.loads(said(site))["distributions"][0]
    assert (first["name"], len(first["libraries"])) == ("(no distribution)", 1)


def test_environment_has_no_page(site: Site, environment: Path, tmp_path: Path) -> None:
    with pytest.raises(BlackwheelError, match="are for wheels, not for an environment"):
        show_audit(site, str(environment), html=str(tmp_path / "a.html"))


def test_several_wheels_are_one_table(site: Site, tmp_path: Path) -> None:
    good = make_wheel(tmp_path, {"toy/_C.so": native("a", "b")})
    other = make_wheel(tmp_path, {"o/_H.so": HOPPER}, name="other-2-py3-none-any.whl")
    bad = make_wheel(tmp_path, {"../x": b""}, name="bad-1-py3-none-any.whl")
    assert show_audit(site, [str(good), str(other)], gpu="5090") == Exit.OK
    title, *table, last, verdict, _ = said(site).splitlines()
    assert title == "kernels that run on 5090 (12.0a)"
    assert [" ".join(line.split()) for line in table] == [
        "wheel python natively family PTX not at all runs",
        "toy 1.0+cu130torch2.11.0.sm120a.1 cp312 2 - - - natively",
        "other 2 py3 - - - 1 not at all",
    ]
    assert last == "each in full: invoke audit WHEEL"
    assert verdict.startswith("Verdict: no, not all of it runs on 5090 (12.0a): other (not at all)")
    site.console.__init__()  # type: ignore[misc]
    assert show_audit(site, [str(good), str(bad)]) == Exit.AUDIT
    assert "FATAL  bad-1-py3-none-any.whl: " in said(site)


def test_card_that_nobody_knows(site: Site, environment: Path) -> None:
    with pytest.raises(BlackwheelError) as caught:
        show_audit(site, str(environment), gpu="Voodoo 2")
    assert str(caught.value).startswith("error: unknown-gpu\n  'Voodoo 2' is no GPU that is known")
    with pytest.raises(BlackwheelError, match="both --gpu and --arch"):
        show_audit(site, str(environment), gpu="H100", arch="9.0")


def test_card_of_this_machine_counts_where_none_is_named(
    site: Site, environment: Path, tmp_path: Path
) -> None:
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.95.05, 9.0'\n")
    smi.chmod(0o755)
    object.__setattr__(site, "environment", {"PATH": f"{smi.parent}:/usr/bin:/bin"})
    show_audit(site, str(environment), as_json=True)
    assert json.loads(said(site))["card"] == "NVIDIA H200 (9.0a)"
