"""`invoke publish` and `invoke prune`: the gate, folders, upload servers that go wrong, kills."""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from page_reader import broken_links
from proved import (
    LABEL,
    NOT_RUN,
    PROJECTS,
    PYTHON,
    TAG,
    library,
    make_wheel,
    new_checkout,
    said,
    shelve,
    site_of,
)
from upload_server import LOGIN, Server, serving

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.receipts import document
from blackwheel.shelf import admission, gate, index, readback, verify_pages
from blackwheel.shelf import publish as publishing
from blackwheel.shelf.remote_index import Limits

QUICK = Limits(seconds=30, pause=lambda _: None)
NAMES = [f"{name}-1.0+{LABEL}.1-{TAG}-{TAG}-linux_x86_64.whl" for name in PROJECTS]
SECRET = "open-sesame-8"  # noqa: S105  no real one


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, code: bytes) -> Path:
    root = tmp_path_factory.mktemp("publish") / "checkout"
    site = new_checkout(root)
    for name in PROJECTS:
        shelve(site, make_wheel(root / "built", name, code))
    return root


@pytest.fixture
def site(original: Path, tmp_path: Path) -> Site:
    shutil.copytree(original, tmp_path / "checkout")
    return site_of(tmp_path / "checkout")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the fresh environment, which other tests make."""
    monkeypatch.setattr(readback, "install", lambda *_, **__: ())


def with_login(site: Site) -> Site:
    login = {"UV_PUBLISH_USERNAME": "toys", "UV_PUBLISH_PASSWORD": SECRET}
    return site_of(site.checkout, login)


def publish(site: Site, to: str, limits: Limits = QUICK, **how: object) -> int:
    return publishing.publish(site, "toy", to=to, yes=True, limits=limits, **how)  # type: ignore[arg-type]


def refusal(site: Site, to: str, limits: Limits = QUICK, **how: object) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        publish(site, to, limits, **how)
    assert SECRET not in f"{caught.value}{said(site)}"
    assert base64.b64encode(f"toys:{SECRET}".encode()).decode() not in str(caught.value)
    return caught.value


def whole(shelf: Path) -> None:
    """What holds at every moment: each listed wheel is there with all that belongs to it."""
    for wheel in index.shelved(shelf):
        assert verify_pages.sha256(wheel.path) == wheel.sha256
        assert all(check.ok for check in verify_pages.metadata_checks(wheel.path))
        assert document.verify(document.load(wheel.receipt), wheel.path) == ()


# The gate


def test_wheel_without_smoke_in_its_receipt_is_refused(
    site: Site, tmp_path: Path, code: bytes
) -> None:
    shutil.rmtree(site.wheels / "toy")
    for name in PROJECTS:
        shelve(site, make_wheel(tmp_path / "w", name, code), without="smoke")
    error = refusal(site, str(tmp_path / "to"))
    assert str(error) == (
        "error: unproved\n"
        "  nothing is published: what is not proved stays here\n"
        + "".join(
            f"  {name}\n"
            "    receipt smoke: missing: the wheel did not go through it\n"
            "    expected: as the build wrote it\n"
            for name in reversed(NAMES)
        )
        + "  where: wheels/toy\n"
        "  fix:   invoke verify toy tells all of it;\n"
        "         invoke build-wheels --stack toy --again makes the wheel anew"
    )
    assert error.code == Exit.INDEX
    assert not (tmp_path / "to").exists()


def test_flipped_byte_and_missing_receipt_keep_the_whole_set_here(
    site: Site, tmp_path: Path
) -> None:
    wheel = site.wheels / "toy" / NAMES[0]
    receipt = wheel.with_name(f"{wheel.name}.receipt.json")
    data = bytearray(wheel.read_bytes())
    data[200] ^= 1
    wheel.write_bytes(data)
    assert "wheel sha256" in refusal(site, str(tmp_path / "to")).fact
    receipt.unlink()
    assert "bad-receipt: No such file" in refusal(site, str(tmp_path / "to")).fact
    assert not (tmp_path / "to").exists()


def test_set_that_lacks_a_project_is_refused(site: Site, tmp_path: Path) -> None:
    (site.wheels / "toy" / NAMES[1]).unlink()
    assert str(refusal(site, str(tmp_path / "to"))) == (
        "error: incomplete-set\n"
        "  stack toy is published together or not at all\n"
        f"  Python {PYTHON}: has toy\n"
        f"  Python {PYTHON}: lacks other\n"
        "  where: wheels/toy\n"
        f"  fix:   invoke build-wheels --stack toy --python {PYTHON}\n"
        "         or what is there: --only toy"
    )


def test_projects_named_by_only_are_a_set_of_their_own(site: Site, tmp_path: Path) -> None:
    (site.wheels / "toy" / NAMES[1]).unlink()
    assert [one.request.project for one in gate.proved_set(site, "toy", only=["toy"])] == ["toy"]
    with pytest.raises(BlackwheelError, match="unknown-project"):
        gate.proved_set(site, "toy", only=["toys"])
    with pytest.raises(BlackwheelError, match="nothing-to-publish"):
        gate.proved_set(site, "toy", only=["other"])


def test_empty_shelf_is_refused(site: Site, tmp_path: Path) -> None:
    shutil.rmtree(site.wheels)
    assert str(refusal(site, str(tmp_path / "to"))) == (
        "error: nothing-to-publish\n"
        "  no wheel of the current label of stack toy is on the shelf\n"
        "  where: wheels/toy\n"
        "  fix:   invoke build-wheels --stack toy"
    )


def test_wheel_whose_kernels_never_ran_needs_a_word(
    site: Site, tmp_path: Path, code: bytes, trusting: None
) -> None:
    shelf = site.wheels / "toy"
    shutil.rmtree(shelf)
    shelve(site, make_wheel(tmp_path / "w", "toy", code), kernels=NOT_RUN)
    shelve(site, make_wheel(tmp_path / "w", "other", code))
    error = refusal(site, str(tmp_path / "to"))
    assert error.code == Exit.SMOKE
    assert str(error) == (
        "error: kernels-not-run\n"
        "  no kernel of these ever ran on the arch it was built for\n"
        f"  {NAMES[0]}\n"
        "    12.0a: not run: no GPU was found\n"
        "  where: smoke, in the receipt\n"
        "  fix:   build where such a GPU is: smoke runs the kernels there;\n"
        "         or, knowing that: --allow-unrun-arch"
    )
    assert publish(site, str(tmp_path / "to"), allow_unrun=True) == 0
    assert f"UNRUN    {NAMES[0]}: 12.0a: not run: no GPU was found" in said(site)


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("", "no-index"),
        (f"https://toys:{SECRET}@host.invalid/", "secret-in-address"),
        ("s3://bucket/wheels", "unknown-index"),
    ],
)
def test_address_that_is_none_is_refused(site: Site, to: str, name: str) -> None:
    error = refusal(site, to)
    assert (error.name, error.code) == (name, Exit.USAGE)


# A folder


def test_folder_gets_the_set_and_is_believed_when_a_fresh_environment_imports(
    site: Site, tmp_path: Path
) -> None:
    to = tmp_path / "a folder"
    assert publishing.publish(site, "toy", to=str(to), limits=QUICK) == 0
    assert not to.exists()
    assert "nothing was published; --yes publishes it" in said(site)
    assert publish(site, str(to)) == 0
    whole(to / "toy")
    assert [one.path.name for one in index.shelved(to / "toy")] == sorted(NAMES)
    assert broken_links(to) == []
    assert 'href="toy/index.html"' in (to / "index.html").read_text()
    told = said(site)
    assert f"published: {NAMES[0]} sha256 " in told
    assert f"read back: Python {PYTHON}: installed by hash, imports toy, other" in told
    digests = {wheel.project: wheel.sha256 for wheel in index.shelved(site.wheels / "toy")}
    assert (
        "by hash, for a requirements file in which every line has one:\n"
        + "".join(f"  {name}==1.0+{LABEL}.1 --hash=sha256:{digests[name]}\n" for name in PROJECTS)
        in told
    )


def test_each_long_step_of_a_publication_shows_how_far_it_is(
    site: Site, tmp_path: Path, trusting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(site.console, "_clock", lambda: now)
    examined = admission.examined

    def slow(*given: object, **how: object) -> object:
        nonlocal now
        now += 7
        return examined(*given, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(admission, "examined", slow)
    assert publish(site, str(tmp_path / "to")) == 0
    told = site.console._err.getvalue().splitlines()  # type: ignore[attr-defined]
    assert told == [
        "toy: verify 2 wheels",
        f"toy: verify 2 wheels: 1/2, 50 %, 7.0 s left, {sorted(NAMES)[1]}",
        "toy: verify 2 wheels: done in 14 s",
        "toy: compare 2 wheels with the index",
        "toy: compare 2 wheels with the index: done in 0.0 s",
        "toy: copy 2 wheels",
        "toy: copy 2 wheels: done in 0.0 s",
        "toy: read back 2 wheels",
        "toy: read back 2 wheels: done in 0.0 s",
    ]


def test_reading_back_needs_no_place_outside_of_the_store_and_leaves_none_there(
    site: Site, tmp_path: Path
) -> None:
    (site.store / "readback-of-a-killed-run").mkdir(parents=True)
    elsewhere = site_of(site.checkout, {"TMPDIR": str(tmp_path / "nowhere")})
    assert publish(elsewhere, str(tmp_path / "to")) == 0
    assert not list(site.store.glob("readback-*"))


def test_folder_that_has_the_set_is_left_as_it_is(
    site: Site, tmp_path: Path, trusting: None
) -> None:
    assert publish(site, str(tmp_path)) == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "toy").rglob("*.html")}
    again = site_of(site.checkout)
    assert publish(again, str(tmp_path), as_json=True) == 0
    rows = json.loads(again.console._out.getvalue())["wheels"]  # type: ignore[attr-defined]
    assert [(row["wheel"], row["state"]) for row in rows] == [
        (name, "already there") for name in NAMES
    ]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "toy").rglob("*.html")} == before


def test_mark_of_a_yanked_wheel_outlives_a_publication(site: Site, tmp_path: Path) -> None:
    """The mark of a wheel that is published again, and that of a project that is not."""
    assert publish(site, str(tmp_path)) == 0
    for name in PROJECTS:
        page = tmp_path / "toy" / "simple" / name / "index.json"
        page.write_text(page.read_text("utf-8").replace('"size"', '"yanked": "bad", "size"'))
    again = site_of(site.checkout)
    assert publish(again, str(tmp_path), only=[PROJECTS[0]]) == 0
    assert [one.yanked for one in index.shelved(tmp_path / "toy")] == ["bad", "bad"]
    assert f"{NAMES[0]} is yanked there: it keeps the mark\n" in said(again)
    assert f"{NAMES[1]} is yanked" not in said(again)
    assert f"read back: Python {PYTHON}: installed by hash, imports {PROJECTS[0]}" in said(again)


def test_other_bytes_under_a_name_keep_the_whole_set_away(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "toy" / NAMES[1]
    place.parent.mkdir()
    place.write_bytes(b"a stranger's")
    error = refusal(site, str(tmp_path))
    assert str(error) == (
        "error: other-bytes\n"
        f"  {NAMES[1]} is on the index with other bytes\n"
        f"  there: sha256 {verify_pages.sha256(place)}\n"
        f"  new:   sha256 {verify_pages.sha256(site.wheels / 'toy' / NAMES[1])}\n"
        f"  where: {place}\n"
        "  fix:   raise projects.other.revision in constraints/toy.toml and build again"
    )
    assert [path.name for path in place.parent.iterdir()] == [NAMES[1]]


def test_shelf_that_refuses_one_wheel_of_a_set_takes_none(site: Site, tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(b"a stranger's, put there after the plan was made")
    with pytest.raises(BlackwheelError) as caught:
        index.shelve_all(shelved_set(site), tmp_path)
    assert caught.value.name == "other-bytes"
    assert not (tmp_path / NAMES[1]).exists()


def test_wheel_that_does_not_import_is_not_published(
    site: Site, tmp_path: Path, code: bytes
) -> None:
    shutil.rmtree(site.wheels / "toy")
    shelve(site, make_wheel(tmp_path / "w", "toy", code, module="raise ImportError('no such')"))
    shelve(site, make_wheel(tmp_path / "w", "other", code))
    error = refusal(site, str(tmp_path / "to"))
    assert (error.name, error.code) == ("does-not-install", Exit.READBACK)
    assert "ImportError: no such" in error.fact
    assert "published: " not in said(site)


def in_child(work: Callable[[], object]) -> int:
    """Start a child that works and ends with 0, or 2 where it was refused."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BlackwheelError:
            code = 2
        finally:
            os._exit(code)
    return child


def shelved_set(site: Site) -> list[tuple[Path, document.Document]]:
    wheels = index.shelved(site.wheels / "toy")
    return [(wheel.path, document.load(wheel.receipt)) for wheel in wheels]


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_publishers_leave_whole_files_and_the_next_one_ends(
    site: Site, tmp_path: Path, trusting: None
) -> None:
    """Six moments, spread over the writing; benchmarks/publish_stress.py takes thirty at random."""
    for step in (3, 10, 20, 34, 48, 62):
        to = tmp_path / str(step)

        def work(step: int = step, to: Path = to) -> None:
            die_when_writing(to, step)
            publish(site_of(site.checkout), str(to))

        assert exit_code(in_child(work)) == -signal.SIGKILL
        whole(to / "toy")
        index.shelve_all(shelved_set(site), to / "toy")
        whole(to / "toy")
        assert len(index.shelved(to / "toy")) == len(NAMES)


def die_when_writing(to: Path, step: int) -> None:
    """Be killed at the n-th time that this process touches a file below a folder."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if (
            event.startswith(("open", "os."))
            and arguments
            and str(arguments[0]).startswith(str(to))
        ):
            seen += 1
            if seen > step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def test_four_publishers_at_once_make_one_whole_set(
    site: Site, tmp_path: Path, trusting: None
) -> None:
    children = [in_child(lambda: publish(site, str(tmp_path / "to"))) for _ in range(4)]
    assert [exit_code(child) for child in children] == [0] * 4
    whole(tmp_path / "to" / "toy")
    assert len(index.shelved(tmp_path / "to" / "toy")) == len(NAMES)


def test_disk_that_takes_no_more_lists_nothing_and_with_room_the_set_is_there(
    site: Site, tmp_path: Path, trusting: None
) -> None:
    wheels = shelved_set(site)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # a wheel has 2.7 KiB
        index.shelve_all(wheels, tmp_path / "to" / "toy")

    assert exit_code(in_child(work)) == 2
    assert index.shelved(tmp_path / "to" / "toy") == ()
    assert [path.name for path in (tmp_path / "to" / "toy").iterdir()] == [".lock"]
    assert publish(site, str(tmp_path / "to")) == 0
    whole(tmp_path / "to" / "toy")


# An upload server


def test_server_gets_the_set_and_is_read_back(site: Site, server: Server) -> None:
    server.login = ("toys", SECRET)
    site = with_login(site)
    assert publish(site, server.upload) == 0
    assert server.files == {n: (site.wheels / "toy" / n).read_bytes() for n in NAMES}
    told = said(site)
    assert "the index offers: JSON yes, metadata yes, ranges yes" in told
    assert "installed by hash, imports toy, other" in told
    assert SECRET not in told
    again = with_login(site)
    assert publish(again, server.upload) == 0
    assert server.uploads == 2
    assert f"already there: {NAMES[0]}" in said(again)


def test_netrc_opens_a_server_too(
    site: Site, server: Server, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    server.login = ("toys", SECRET)
    netrc = site.checkout / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login toys password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    site = site_of(site.checkout, {"NETRC": str(netrc)})
    assert publish(site, server.upload) == 0
    assert SECRET not in said(site)


@pytest.mark.parametrize(
    ("answers", "name", "exits", "uploads"),
    [
        (["html"], "not-what-was-sent", Exit.READBACK, 1),
        (["cut"], "not-what-was-sent", Exit.READBACK, 1),
        ([413], "upload-too-large", Exit.INDEX, 1),
        ([403], "upload-denied", Exit.INDEX, 1),
        ([400], "upload-refused", Exit.INDEX, 1),
        (["echo"], "upload-refused", Exit.INDEX, 1),
        (["redirect"], "upload-redirected", Exit.INDEX, 1),
        ([500] * 9, "index-away", Exit.AWAY, 4),
        (["drop"] * 9, "index-away", Exit.AWAY, 4),
    ],
    ids=str,
)
def test_bad_answer_is_told_and_nothing_is_called_published(
    *,
    site: Site,
    server: Server,
    answers: list[int | str],
    name: str,
    exits: Exit,
    uploads: int,
) -> None:
    server.answers = list(answers)
    site = with_login(site)
    error = refusal(site, server.upload)
    assert (error.name, error.code, server.uploads) == (name, exits, uploads)
    assert error.__notes__ == [f"failed:   {NAMES[0]}\nnot sent: {NAMES[1]}"]
    assert "published: " not in said(site)


def test_size_and_limit_are_named_where_a_proxy_takes_less(site: Site, server: Server) -> None:
    server.answers = [200, 413]
    assert str(refusal(with_login(site), server.upload)) == (
        "error: upload-too-large\n"
        f"  {NAMES[1]} has 2.7 KiB; the server, or a proxy before it, takes less\n"
        f"  where: {server.upload}\n"
        "  fix:   raise the limit of the proxy (nginx: client_max_body_size 2g) and of the "
        "server;\n"
        "         or publish to a folder that a web server serves: --to FOLDER\n"
        f"  note:  there:    {NAMES[0]}\n"
        f"         failed:   {NAMES[1]}"
    )


def test_moment_of_503_and_an_upload_that_landed_unseen_are_got_over(
    site: Site, server: Server, trusting: None
) -> None:
    server.answers = [503, 503, "landed-500", 503]
    site = with_login(site)
    assert publish(site, server.upload) == 0
    assert sorted(server.files) == sorted(NAMES)
    assert "toy: the server answers 503; try 2 of 4" in said(site)
    assert server.uploads == 5


def test_run_that_failed_in_the_middle_goes_on(site: Site, server: Server, trusting: None) -> None:
    server.answers = [200, 403]
    assert refusal(with_login(site), server.upload).name == "upload-denied"
    assert sorted(server.files) == [NAMES[0]]
    assert publish(with_login(site), server.upload) == 0
    assert (sorted(server.files), server.uploads) == (sorted(NAMES), 3)


def test_silent_server_is_given_up_when_the_time_is_over(site: Site, server: Server) -> None:
    server.answers = ["silence"] * 9
    error = refusal(with_login(site), server.upload, replace(QUICK, seconds=1.5))
    assert (error.name, error.code) == ("index-away", Exit.AWAY)
    assert "no answer in time, and the time of this run is over" in error.fact


def test_server_whose_pages_are_a_login_is_not_believed(site: Site, server: Server) -> None:
    server.pages = LOGIN
    error = refusal(with_login(site), server.upload)
    assert str(error).startswith(
        "error: not-what-was-sent\n"
        "  the upload was answered as if it had succeeded, and is not believed\n"
        f"  its page lists 0 files, and {NAMES[0]} is none of them\n"
    )


def test_file_that_is_served_with_other_bytes_is_not_believed(site: Site, server: Server) -> None:
    data = (site.wheels / "toy" / NAMES[0]).read_bytes()
    server.serves = {NAMES[0]: data[:-1] + b"!"}
    error = refusal(with_login(site), server.upload)
    assert (error.name, error.code) == ("not-what-was-sent", Exit.READBACK)
    assert "(the file has so)" in error.fact


def test_other_bytes_on_a_server_are_refused_before_anything_is_sent(
    site: Site, server: Server
) -> None:
    server.files = {NAMES[1]: b"a stranger's"}
    error = refusal(with_login(site), server.upload)
    assert (error.name, server.uploads) == ("other-bytes", 0)
    assert error.fix == "raise projects.other.revision in constraints/toy.toml and build again"


def test_server_without_hashes_is_compared_by_its_files(
    site: Site, server: Server, trusting: None
) -> None:
    server.hashes = server.json = server.metadata = server.ranges = False
    server.files = {n: (site.wheels / "toy" / n).read_bytes() for n in NAMES}
    site = with_login(site)
    assert publish(site, server.upload) == 0
    assert "the index offers: JSON no, metadata no, ranges no" in said(site)


def test_server_that_cannot_be_read_is_away(site: Site, server: Server) -> None:
    server.status = 503
    error = refusal(with_login(site), server.upload)
    assert (error.name, error.code) == ("no-simple-pages", Exit.AWAY)
    error = refusal(with_login(site), server.upload, simple=server.simple)
    assert (error.name, error.code) == ("index-away", Exit.AWAY)
    assert error.fact == "toy: it answers 503 Service Unavailable (4 tries)"


# Retention


def test_prune_keeps_pinned_and_newest(site: Site, tmp_path: Path, code: bytes) -> None:
    toml = site.constraints / "toy.toml"
    text = toml.read_text()
    for revision in (2, 3, 10):
        toml.write_text(text.replace("revision = 1", f"revision = {revision}", 1))
        shelve(site, make_wheel(tmp_path / "w", "toy", code, revision=revision))
    toml.write_text(text)  # the stack went back to revision 1

    def left() -> list[str]:
        versions = [one.version for one in index.shelved(site.wheels / "toy")]
        return sorted(version.rpartition(".")[2] for version in versions)

    from blackwheel.shelf import prune

    assert prune.prune(site, "toy", keep=1) == 0
    assert "nothing was removed; --yes takes 2 off" in said(site)
    assert left() == ["1", "1", "10", "2", "3"]
    assert prune.prune(site, "toy", keep=1, yes=True) == 0
    assert broken_links(site.wheels) == []
    assert left() == ["1", "1", "10"]
    whole(site.wheels / "toy")
    with pytest.raises(BlackwheelError) as caught:
        prune.prune(site, "toy", keep=0)
    assert str(caught.value) == (
        "error: bad-keep\n"
        "  '0' wheels of a project cannot be kept\n"
        "  where: --keep\n"
        "  fix:   --keep 1, or --wheel NAME for one that must go although the stack pins it"
    )


def test_prune_of_a_folder_without_an_index_of_that_stack_is_refused(
    site: Site, tmp_path: Path
) -> None:
    from blackwheel.shelf import prune

    toml = (site.constraints / "toy.toml").read_text()
    (site.constraints / "wrong.toml").write_text(toml)
    for folder, stack, fix in (
        (site.wheels, "wrong", "--stack toy"),
        (site.wheels / "toy", "toy", f"--folder {site.wheels} --stack toy"),
        (tmp_path / "nowhere", "toy", "--folder FOLDER, as invoke publish --to"),
    ):
        with pytest.raises(BlackwheelError) as caught:
            prune.prune(site, stack, keep=3, folder=str(folder), yes=True)
        assert str(caught.value) == (
            "error: no-index-there\n"
            f"  there is no index of stack '{stack}'\n"
            f"  where: {folder}\n"
            f"  fix:   {fix}"
        )
        assert caught.value.code == Exit.USAGE
    assert not (tmp_path / "nowhere").exists()


def test_prune_takes_a_named_wheel_off_although_the_stack_pins_it(
    site: Site, tmp_path: Path, code: bytes
) -> None:
    from blackwheel.shelf import prune

    shelf = site.wheels / "toy"
    pinned, *others = index.shelved(shelf)
    assert prune.prune(site, "toy", keep=3, wheel=pinned.path.name) == 0
    assert index.shelved(shelf) == (pinned, *others)
    assert prune.prune(site, "toy", keep=3, wheel=pinned.path.name, yes=True) == 0
    assert index.shelved(shelf) == tuple(others)
    assert not list(shelf.glob(f"{pinned.path.name}*"))
    assert broken_links(site.wheels) == []
    with pytest.raises(BlackwheelError, match="no page lists 'toy-9") as caught:
        prune.prune(site, "toy", keep=3, wheel="toy-9.whl", yes=True)
    assert caught.value.name == "no-such-wheel"
    assert index.shelved(shelf) == tuple(others)


def test_prune_takes_a_wheel_off_the_pages_whose_file_a_person_removed(
    site: Site, tmp_path: Path, code: bytes
) -> None:
    from blackwheel.shelf import prune

    shelf = site.wheels / "toy"
    removed, *others = index.shelved(shelf)
    removed.path.unlink()
    assert index.shelved(shelf, absent=True) == (removed,)
    assert prune.prune(site, "toy", keep=3) == 0
    assert "toy: files of 1 wheel that a page lists were removed\n" in said(site)
    assert prune.prune(site, "toy", keep=3, yes=True) == 0
    assert index.shelved(shelf, absent=True) == ()
    assert index.shelved(shelf) == tuple(others)
    assert not list(shelf.glob(f"{removed.path.name}*"))


def test_prune_removes_what_a_killed_run_left_unlisted_and_nothing_without_a_page(
    site: Site, tmp_path: Path, code: bytes
) -> None:
    from blackwheel.shelf import prune

    shelf = site.wheels / "toy"
    old = shelve(site, make_wheel(tmp_path / "w", "toy", code, revision=2))
    kept = {path.name: path.read_bytes() for path in (old.path, old.metadata, old.receipt)}
    index.withdraw(old, shelf)
    before = sorted(shelf.iterdir())
    for name, data in kept.items():
        (shelf / name).write_bytes(data)
    assert prune.prune(site, "toy", keep=1) == 0
    assert "toy: files of 1 wheel that no page lists: a run was killed\n" in said(site)
    assert sorted(kept) == sorted(p.name for p in shelf.iterdir() if p not in before)
    assert prune.prune(site, "toy", keep=1, yes=True) == 0
    assert sorted(shelf.iterdir()) == before
    shutil.rmtree(shelf / "simple" / "toy")  # as `bad-shelf` says
    assert prune.prune(site, "toy", keep=1, yes=True) == 0
    assert (shelf / NAMES[0]).is_file()
