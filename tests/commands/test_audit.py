"""`invoke audit` on wheels that lie here or on a real index, and against toy torches."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nightly_index
import pytest
from checkout import new_checkout, persons_environment
from nightly_index import Index
from toytorch import C10, build_library, make_torch
from wheelwright import NAME, make_wheel

from blackwheel.audit import environments
from blackwheel.commands.audit import show_audit
from blackwheel.commands.audit_torch import SHOWN
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import sha256
from blackwheel.core.site import Site
from blackwheel.receipts import document
from blackwheel.shelf.index import shelve
from blackwheel.sources import package_index

ROOT = Path(__file__).parents[2]
TAG = f"cp3{sys.version_info.minor}"
OTHER_TAG = "cp39-cp39-linux_x86_64"
EXACT = "torch==2.11.0+cu130"
USES_TORCH = """
namespace c10 { int device_count(); int stream_of(int); }
extern "C" int entry() { return c10::device_count() + c10::stream_of(0); }
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A checkout of nothing but the stacks, and an empty store."""
    shutil.copytree(ROOT / "constraints", tmp_path / "checkout" / "constraints")
    environment = persons_environment()
    return Site(
        checkout=tmp_path / "checkout",
        store=tmp_path / "store",
        environment=environment,
        console=Quiet(),
    )


@pytest.fixture
def index(site: Site) -> Iterator[Index]:
    """A package index that the site is pointed to."""
    with nightly_index.serving() as served:
        environment = {**site.environment, "UV_DEFAULT_INDEX": served.channel(), "UV_NO_CACHE": "1"}
        object.__setattr__(site, "environment", environment)
        yield served


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_torch(tmp_path_factory.mktemp("torch") / "env")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A later torch that lacks one function."""
    code = {"libc10.so": C10.replace("int stream_of(int) { return 0; }", "")}
    folder = tmp_path_factory.mktemp("other") / "env"
    return make_torch(folder, version="2.13.0+cu130", sources=code)


@pytest.fixture(scope="module")
def library(torch: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    c10 = next(torch.rglob("libc10.so"))
    return build_library(tmp_path_factory.mktemp("lib") / "_C.so", USES_TORCH, needs=[c10])


def said(site: Site) -> str:
    assert isinstance(site.console, Quiet)
    return site.console.results


def refusal(site: Site, what: str, **how: str) -> tuple[str, Exit]:
    with pytest.raises(BlackwheelError) as caught:
        show_audit(site, what, **how)
    assert said(site) == ""
    return str(caught.value), caught.value.code


def toy(index: Index, tag: str, *, version: str = "1.0", **how: object) -> bytes:
    """A wheel `toy` on the index."""
    data = nightly_index.wheel("toy", version, files={"toy/tag.txt": tag})
    index.add(f"toy-{version}-{tag}.whl", data, **how)
    return data


def kept(site: Site) -> list[str]:
    return sorted(path.name for path in (site.store / "audited").glob("*"))


def keep_torch(site: Site, environment: Path) -> None:
    """Put an environment where a build of a stack leaves one."""
    folder = site.store / "nox" / "toy" / "build-toy"
    folder.parent.mkdir(parents=True)
    shutil.copytree(environment, folder, symlinks=True)
    (folder / "pyvenv.cfg").touch()


def test_wheel_that_needs_no_torch_library(site: Site, tmp_path: Path, library: Path) -> None:
    wheel = make_wheel(tmp_path, {"toy/_C.so": library})
    assert show_audit(site, str(wheel)) == Exit.OK
    assert said(site) == (
        f"{NAME}  {wheel.stat().st_size / 1024:.1f} KiB  sha256 {sha256(wheel)}\n"
        "host code only: 1 more library\n"
        "bound to torch: this torch only (1)\n"
        "files: 3 text, 1 native, 1 python\n"
        "symbols: not checked, no torch that it requires is here; --torch does\n"
        "It holds no kernels, so it runs on RTX 50 and RTX PRO Blackwell (12.0a) as on any card.\n"
        "It accepts only torch===2.11.0.\n"
        "Verdict: yes, it holds no GPU code: any card will do. There is nothing to build.\n\n"
    )


def test_symbols_are_looked_for_in_the_torch_that_the_store_has(
    site: Site, tmp_path: Path, library: Path, torch: Path
) -> None:
    keep_torch(site, torch)
    wheel = make_wheel(tmp_path, {"toy/_C.so": library}, requires=[EXACT])
    assert show_audit(site, str(wheel)) == Exit.OK
    assert "\nsymbols: looked for in torch 2.11.0+cu130\n" in said(site)
    loose = make_wheel(tmp_path / "loose", {"toy/_C.so": library}, requires=["torch>=2.11"])
    assert show_audit(site, str(loose)) == Exit.OK
    assert show_audit(site, str(loose), strict=True) == Exit.AUDIT
    other = make_wheel(tmp_path / "other", {"toy/_C.so": library}, requires=["torch===2.13.0"])
    assert show_audit(site, str(other)) == Exit.OK
    assert said(site).count("symbols: not checked, no torch that it requires is here") == 3


def test_folder_as_json_and_the_exit_code_of_the_worst(site: Site, tmp_path: Path) -> None:
    pure = {"name": NAME.replace("linux_x86_64", "any")}
    make_wheel(tmp_path / "wheels", **pure)
    make_wheel(tmp_path / "wheels" / "more", requires=["torch>=2.5"], **pure)
    assert show_audit(site, str(tmp_path / "wheels"), as_json=True) == Exit.OK
    site.console.__init__()  # type: ignore[misc]
    assert show_audit(site, str(tmp_path / "wheels"), as_json=True, strict=True) == Exit.AUDIT
    document = json.loads(said(site))
    assert document["schema"] == "blackwheel.audit/1"
    second, first = document["wheels"]
    assert (first["findings"], first["requires_torch"]) == ([], ["torch===2.11.0"])
    assert first["archs"] == ["12.0a"]
    assert second["closing"].endswith("it accepts more than one torch (torch>=2.5).")
    assert [finding["name"] for finding in second["findings"]] == ["torch-not-pinned"]


def test_shelf_is_held_to_its_stack(site: Site, tmp_path: Path) -> None:
    name = "flash_attn-2.8.3+cu130torch2.11.0.sm120a.other.1-cp312-cp312-linux_x86_64.whl"
    wheel = make_wheel(tmp_path, name=name)
    receipt = document.receipt(name, sha256(wheel), {"stack": {"name": "quickstart"}})
    shelve(wheel, receipt, site.wheels / "quickstart")
    assert show_audit(site, "quickstart") == Exit.AUDIT
    assert "FATAL  other-label: it is version 2.8.3+cu130torch2.11.0.sm120a.other.1" in said(site)


def test_nothing_there(site: Site, tmp_path: Path) -> None:
    usage = "  where: invoke audit\n  fix:   "
    assert refusal(site, "quickstart") == (
        "error: no-wheel\n  there is no wheel in 'quickstart'\n"
        f"{usage}invoke build-wheels --stack quickstart",
        Exit.USAGE,
    )
    missing = str(tmp_path / "missing.whl")
    assert refusal(site, missing) == (
        f"error: no-wheel\n  there is no wheel in '{missing}'\n"
        f"{usage}name a wheel file, a folder with wheels, an environment, a stack,"
        " or NAME==VERSION",
        Exit.USAGE,
    )
    told, code = refusal(site, "quikstart")
    assert "'quikstart' is no file or folder here, no NAME==VERSION, and no stack; did you" in told
    assert f"{usage}a wheel file, the folder of an environment, NAME==VERSION" in told
    assert code == Exit.USAGE


def test_page_is_written_and_its_folder_must_be_there(site: Site, tmp_path: Path) -> None:
    wheel, target = str(make_wheel(tmp_path)), tmp_path / "none" / "audit.html"
    assert refusal(site, wheel, html=str(target)) == (
        f"error: no-folder\n  there is no folder {target.parent}\n"
        "  where: --html\n  fix:   --html audit.html",
        Exit.USAGE,
    )
    target.parent.mkdir()
    assert show_audit(site, wheel, html=str(target)) == Exit.OK
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_wheel_of_the_registry_is_downloaded_once(site: Site, index: Index) -> None:
    data = toy(index, "py3-none-any")
    assert show_audit(site, "toy==1.0") == Exit.OK
    assert (site.store / "audited" / "toy-1.0-py3-none-any.whl").read_bytes() == data
    show_audit(site, "toy==1.0")
    assert index.sent == [("toy-1.0-py3-none-any.whl", 0)]
    assert kept(site) == ["toy-1.0-py3-none-any.whl"]


def test_kept_wheel_that_changed_is_downloaded_again(site: Site, index: Index) -> None:
    data = toy(index, "py3-none-any")
    show_audit(site, "toy==1.0")
    path = site.store / "audited" / "toy-1.0-py3-none-any.whl"
    path.write_bytes(data[:-1])
    show_audit(site, "toy==1.0")
    assert path.read_bytes() == data


def test_wheel_for_this_python_comes_before_one_for_any(site: Site, index: Index) -> None:
    for tag in ("py3-none-any", f"{TAG}-{TAG}-linux_x86_64", OTHER_TAG):
        toy(index, tag)
    show_audit(site, "toy==1.0")
    assert kept(site) == [f"toy-1.0-{TAG}-{TAG}-linux_x86_64.whl"]


def test_sdist_alone(site: Site, index: Index) -> None:
    index.add("toy-1.0.tar.gz", b"source")
    message, code = refusal(site, "toy==1.0")
    best = next(iter(package_index.sys_tags()))
    assert (message, code) == (
        "error: no-wheel-there\n"
        f"  the package index has no wheel of toy 1.0 for {best}\n"
        "  it has: toy-1.0.tar.gz (an sdist: source to build from)\n"
        "  where: toy==1.0\n"
        "  fix:   build it: invoke stacks tells which stack does",
        Exit.INDEX,
    )


def test_wheels_of_other_pythons_alone(site: Site, index: Index) -> None:
    for minor in range(1, 9):
        toy(index, f"cp2{minor}-none-win32")
    message, _ = refusal(site, "toy==1.0")
    best = next(iter(package_index.sys_tags()))
    listed = "".join(f"  it has: toy-1.0-cp2{minor}-none-win32.whl\n" for minor in range(1, 7))
    assert message == (
        "error: no-wheel-there\n"
        f"  the package index has no wheel of toy 1.0 for {best}\n"
        f"{listed}  it has: 2 more wheels\n"
        "  where: toy==1.0\n"
        "  fix:   name a version with a wheel for this Python and platform,\n"
        "         or download another's, and: invoke audit FILE"
    )
    assert index.sent == []


def test_version_that_is_not_there(site: Site, index: Index) -> None:
    for version in ("1.9", "1.10"):
        toy(index, "py3-none-any", version=version)
    assert refusal(site, "toy==2") == (
        "error: no-version-there\n"
        "  the package index has no toy 2\n"
        "  where: toy==2\n"
        "  fix:   one of: 1.10, 1.9",
        Exit.INDEX,
    )


def test_project_that_is_not_there(site: Site, index: Index) -> None:
    assert refusal(site, "toy==1.0") == (
        "error: no-project-there\n"
        "  the package index has no project 'toy'\n"
        f"  where: {index.channel()}\n"
        "  fix:   correct the name, or name the index that has it:"
        " export UV_DEFAULT_INDEX=ADDRESS",
        Exit.INDEX,
    )


def test_index_that_does_not_answer(site: Site) -> None:
    address = "http://127.0.0.1:9/simple"
    environment = {**site.environment, "UV_DEFAULT_INDEX": address}
    object.__setattr__(site, "environment", environment)
    message, code = refusal(site, "toy==1.0")
    assert message.startswith("error: no-answer\n  the package index: ")
    assert "Connection refused" in message
    assert message.endswith(
        f"\n  where: {address}\n"
        "  fix:   export UV_DEFAULT_INDEX=ADDRESS (of a mirror that this machine reaches),"
        " or HTTPS_PROXY"
    )
    assert code == Exit.INDEX


@pytest.mark.parametrize("what", ["toy>=1,==2", "toy==1.*", "toy==", "toy[x]==1", "toy===1"])
def test_what_is_no_single_version(site: Site, what: str) -> None:
    assert refusal(site, what) == (
        f"error: bad-requirement\n  '{what}' does not name one version of one project\n"
        "  where: invoke audit\n  fix:   write NAME==VERSION: vllm==0.26.0",
        Exit.USAGE,
    )


def test_other_bytes_than_the_index_lists_are_not_kept(site: Site, index: Index) -> None:
    toy(index, "py3-none-any", claim="f" * 64)
    message, code = refusal(site, "toy==1.0")
    (file,) = index.files.values()
    found = hashlib.sha256(file.data).hexdigest()
    assert (message, code) == (
        "error: wrong-sha256\n"
        "  toy-1.0-py3-none-any.whl is not the file that the index lists; it was not kept\n"
        f"  found:  {found}\n  listed: {'f' * 64}\n"
        f"  where: {index.channel()}/toy-1.0-py3-none-any.whl\n"
        "  fix:   the same command again; if it stays so, ask who runs the index or the proxy",
        Exit.INDEX,
    )
    assert kept(site) == []


def test_index_without_digests_is_not_believed(site: Site, index: Index) -> None:
    toy(index, "py3-none-any", claim="")
    assert refusal(site, "toy==1.0") == (
        "error: no-digest-there\n"
        "  the package index names no sha256 of toy-1.0-py3-none-any.whl:"
        " nothing tells whose it is\n"
        f"  where: {index.channel()}/toy-1.0-py3-none-any.whl\n"
        "  fix:   download it yourself, and: invoke audit FILE",
        Exit.INDEX,
    )
    assert index.sent == []


def test_a_file_name_of_the_index_does_not_leave_the_store(
    site: Site, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy(index, "py3-none-any")
    offered = package_index.offered_files("toy", site)[0]
    offered.filename = "toy-1.0-1/../../../traversed-py3-none-any.whl"
    monkeypatch.setattr(package_index, "offered_files", lambda name, site: [offered])
    message, code = refusal(site, "toy==1.0")
    assert message.startswith("error: unsafe-name\n")
    assert code == Exit.INDEX
    assert not list(site.store.parent.rglob("*traversed*"))


def test_listed_file_that_is_gone(site: Site, index: Index) -> None:
    toy(index, "py3-none-any")
    index.answers["toy-1.0-py3-none-any.whl"] = [404]
    message, code = refusal(site, "toy==1.0")
    assert (message, code) == (
        "error: no-answer\n"
        "  the package index lists toy-1.0-py3-none-any.whl and does not have it:"
        " answers 404 Not Found\n"
        f"  where: {index.channel()}/toy-1.0-py3-none-any.whl\n"
        "  fix:   the same command again, later or with another index",
        Exit.INDEX,
    )


def test_wheel_links_with_its_own_torch(
    site: Site, tmp_path: Path, library: Path, torch: Path
) -> None:
    wheel = make_wheel(tmp_path, {"toy/_C.so": library})
    assert show_audit(site, str(wheel), torch=str(torch)) == Exit.OK
    assert said(site) == (
        f"{NAME} with torch 2.11.0+cu130\n"
        "it links: every symbol of 1 library is there\n"
        "its metadata requires torch===2.11.0: an installer holds to that, links or not\n\n"
    )


def test_wheel_does_not_link_with_another_torch(
    site: Site, tmp_path: Path, library: Path, torch: Path, other: Path
) -> None:
    keep_torch(site, torch)
    wheel = make_wheel(tmp_path, {"toy/_C.so": library}, requires=[EXACT])
    assert show_audit(site, str(wheel), torch=str(other / "bin" / "python")) == Exit.AUDIT
    assert said(site) == (
        f"{NAME} with torch 2.13.0+cu130\n"
        "  toy/_C.so: 1 symbol is gone\n"
        "    c10::stream_of(int) (was in libc10.so)\n"
        "it does not link: 1 symbol is gone, wanted by 1 library\n\n"
    )


def test_page_and_json_tell_of_the_other_torch(
    site: Site, tmp_path: Path, library: Path, other: Path
) -> None:
    wheel, target = make_wheel(tmp_path, {"toy/_C.so": library}), tmp_path / "audit.html"
    how = {"torch": str(other), "html": str(target)}
    assert show_audit(site, str(wheel), as_json=True, **how) == Exit.AUDIT
    assert "undefined-symbol" in target.read_text(encoding="utf-8")
    (told,) = json.loads(said(site))["wheels"]
    assert told["symbols_looked_for_in"] == "2.13.0+cu130"
    site.console.__init__()  # type: ignore[misc]
    assert show_audit(site, str(wheel), torch=str(other), as_json=True) == Exit.AUDIT
    (told,) = json.loads(said(site))["wheels"]
    assert (told["links"], told["torch"]) == (False, "2.13.0+cu130")
    assert [one["demangled"] for one in told["libraries"][0]["missing"]] == ["c10::stream_of(int)"]


def test_many_lost_symbols_are_counted(site: Site, tmp_path: Path, torch: Path) -> None:
    calls = [f"lost_{number:03}" for number in range(SHOWN + 5)]
    code = "namespace c10 { " + " ".join(f"int {name}();" for name in calls) + " }\n"
    code += 'extern "C" int entry() { return ' + " + ".join(f"c10::{n}()" for n in calls) + "; }"
    c10 = next(torch.rglob("libc10.so"))
    file = build_library(tmp_path / "_C.so", code, needs=[c10])
    wheel = make_wheel(tmp_path, {"toy/_C.so": file, "toy/_D.so": file})
    assert show_audit(site, str(wheel), torch=str(torch)) == Exit.AUDIT
    shown = "".join(f"    c10::{name}()\n" for name in calls[:SHOWN])
    one = f": 25 symbols are gone\n{shown}    and 5 more; --json has all\n"
    assert said(site) == (
        f"{NAME} with torch 2.11.0+cu130\n  toy/_C.so{one}  toy/_D.so{one}"
        "it does not link: 50 symbols are gone, wanted by 2 libraries\n\n"
    )


def test_library_that_the_other_torch_does_not_bring(
    site: Site, tmp_path: Path, torch: Path
) -> None:
    gone = build_library(tmp_path / "libgone.so.1", "int gone;")
    wheel = make_wheel(
        tmp_path, {"toy/_C.so": build_library(tmp_path / "_C.so", "int a;", needs=[gone])}
    )
    assert show_audit(site, str(wheel), torch=str(torch)) == Exit.OK
    assert said(site).splitlines()[1:3] == [
        "  note  unknown-library: toy/_C.so: needs libgone.so.1, which neither"
        " torch 2.11.0+cu130 nor the system brings",
        "every symbol of torch is there; libgone.so.1 must come from elsewhere",
    ]


def test_symbols_of_a_library_that_is_not_here_are_not_blamed_on_torch(
    site: Site, tmp_path: Path, torch: Path, other: Path
) -> None:
    afar = build_library(
        tmp_path / "libafar.so.62",
        'extern "C" int av_read(int) { return 0; } int unversioned() { return 0; }',
        versions="LIBAFAR_62 { av_read; };",
    )
    c10 = next(torch.rglob("libc10.so"))
    code = USES_TORCH.replace('extern "C" int entry() {', 'extern "C" int av_read(int);\n').replace(
        "return c10::device_count() + c10::stream_of(0);",
        'int unversioned(); extern "C" int entry() { return av_read(c10::device_count()'
        " + c10::stream_of(0) + unversioned());",
    )
    file = build_library(tmp_path / "_C.so", code, needs=[c10, afar])
    wheel = make_wheel(tmp_path, {"toy/_C.so": file}, requires=[EXACT])
    assert show_audit(site, str(wheel), torch=str(torch)) == Exit.OK
    assert "every symbol of torch is there; libafar.so.62 must come from elsewhere" in said(site)
    site.console.__init__()  # type: ignore[misc]
    assert show_audit(site, str(wheel), torch=str(other)) == Exit.AUDIT
    assert "it does not link: 1 symbol is gone, wanted by 1 library" in said(site)
    assert "c10::stream_of(int)" in said(site)
    assert "av_read" not in said(site)


def test_what_is_no_torch(site: Site, tmp_path: Path) -> None:
    wheel = str(make_wheel(tmp_path))
    assert refusal(site, wheel, torch="mine") == (
        "error: unknown-torch\n"
        "  'mine' is neither an environment's folder nor a version of torch\n"
        "  where: --torch\n  fix:   --torch .venv, or --torch 2.13.0",
        Exit.USAGE,
    )


def test_version_of_torch_is_installed_once(site: Site, index: Index) -> None:
    data = nightly_index.torch("2.13.0", runtime="2.13.0+cu130", requires=())
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        metadata = wheel.read("torch-2.13.0.dist-info/METADATA")
    index.add("torch-2.13.0-py3-none-any.whl", data, metadata=metadata)
    folder = environments.environment_of("2.13.0", site=site)
    assert folder == site.store / "torches" / "2.13.0" / TAG
    assert environments.exports_in(folder, site=site).torch == "2.13.0+cu130"
    assert isinstance(site.console, Quiet)
    assert site.console.lines[0] == (
        "torch: 2.13.0 is not here yet: 2 to 4 GB of download (less from uv's cache), about 5 GB"
        " of disk; it is kept for the next time"
    )
    assert environments.environment_of("2.13.0", site=site) == folder
    assert len(index.sent) == 1
    (folder / "whole").unlink()  # as if it had been stopped
    environments.environment_of("2.13.0", site=site)
    assert len(index.sent) == 2


def test_version_of_torch_that_nobody_has(site: Site, index: Index) -> None:
    with pytest.raises(BlackwheelError) as caught:
        environments.environment_of("2.99.0", site=site)
    error = caught.value
    assert (error.name, error.code) == ("torch-not-installed", Exit.TORCH)
    assert error.fact.startswith("torch 2.99.0 could not be installed\n")
    assert "torch was not found in the package registry" in error.fact
    assert error.where == str(site.store / "logs" / "torch-2.99.0.log")
    assert error.fix == (
        "name a version that the package index has, or an environment: --torch DIR"
    )
    assert not list(site.store.glob("torches/2.99.0/*"))


def test_command_line_ends_with_the_audits_exit_code(tmp_path: Path) -> None:
    checkout = new_checkout(tmp_path / "toy", tmp_path / "shared")
    good, bad = make_wheel(tmp_path / "good"), make_wheel(tmp_path / "bad", requires=["torch"])
    done = checkout.invoke("audit", str(good))
    assert (done.code, "accepts only torch===2.11.0" in done.out) == (0, True), done.said
    page = tmp_path / "audit.html"
    assert checkout.invoke("audit", str(bad)).code == 0
    done = checkout.invoke("audit", str(bad), "--json", "--strict", "--html", str(page))
    assert (done.code, json.loads(done.out)["wheels"][0]["requires_torch"]) == (8, ["torch"]), (
        done.said
    )
    assert page.exists()
