"""Selection, git tree ids, safe writing, and what git's words mean."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from blackwheel.core import addresses
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.sources import git_host, sdist, tree
from blackwheel.sources.tree import FILE, LINK, PROGRAM, Entry

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


def test_the_tree_id_of_a_folder_is_the_one_git_gives(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    tree.write_entries(
        [
            # git sorts `a` as `a/`: after `a.b` and before `a0`
            Entry(path="a0", mode=FILE, data=b"zero"),
            Entry(path="a.b", mode=FILE, data=b""),
            Entry(path="a/deep/file", mode=PROGRAM, data=b"#!/bin/sh\r\n"),
            Entry(path="a/link", mode=LINK, data=b"deep/file"),
            Entry(path="ümlaut", mode=FILE, data=b"\xff\x00"),
        ],
        root,
        where="here",
    )
    (root / "empty" / "within").mkdir(parents=True)

    assert tree.tree_id(root) == git_tree_id(root, tmp_path / "git")


def test_the_tree_id_of_an_empty_folder_is_the_empty_tree(tmp_path: Path) -> None:
    assert tree.tree_id(tmp_path) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@pytest.mark.parametrize("change", ["content", "name", "mode"])
def test_every_change_gives_another_tree_id(tmp_path: Path, change: str) -> None:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_text("one", encoding="utf-8")
    before = tree.tree_id(tmp_path)
    match change:
        case "content":
            path.write_text("two", encoding="utf-8")
        case "name":
            path.rename(path.with_name("other"))
        case "mode":
            path.chmod(0o755)

    assert tree.tree_id(tmp_path) != before


def test_a_selection_takes_the_top_and_whole_folders_and_nested_sources_by_their_own_rule() -> None:
    paths = [
        "setup.py",
        "src/a.cu",
        "src/deep/b.cu",
        "src_old/c.cu",
        "docs/guide.md",
        "src/nested/README",
        "src/nested/include/n.h",
        "src/nested/test/n.cu",
    ]

    chosen = [p for p in paths if tree.is_selected(p, ["src"], {"src/nested": ["include"]})]
    assert chosen == [
        "setup.py",
        "src/a.cu",
        "src/deep/b.cu",
        "src/nested/README",
        "src/nested/include/n.h",
    ]


def test_without_a_selection_everything_is_taken() -> None:
    assert all(tree.is_selected(path, []) for path in ("a", "b/c"))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("../out", ""),
        ("a/../../out", ""),
        ("/out", ""),
        (".git/hooks/post-checkout", ""),
        ("a/.GIT/config", ""),
        ("", ""),
        ("link", "/etc/passwd"),
        ("link", "../out"),
        ("a/link", "../../out"),
        ("link", "link"),
    ],
)
def test_a_path_out_of_the_tree_is_refused(tmp_path: Path, path: str, target: str) -> None:
    entry = Entry(path=path, mode=LINK if target else FILE, data=target.encode())

    with pytest.raises(BlackwheelError) as raised:
        tree.write_entries([entry], tmp_path / "tree", where="here")

    assert (raised.value.name, raised.value.code) == ("unsafe-path", Exit.SOURCE)
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]
    assert list((tmp_path / "tree").rglob("*")) in ([], [tmp_path / "tree" / "a"])


def test_a_link_into_a_link_cannot_leave_the_tree(tmp_path: Path) -> None:
    """By its text `deep/../..` stays at the top; through the other link it is above it."""
    entries = [
        Entry(path="x/y/file", mode=FILE, data=b""),
        Entry(path="x/y/up", mode=LINK, data=b"../.."),
        Entry(path="z", mode=LINK, data=b"x/y/up/.."),
    ]

    with pytest.raises(BlackwheelError, match="unsafe-path"):
        tree.write_entries(entries, tmp_path / "tree", where="here")


def test_no_file_is_written_through_a_link_of_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    entries = [
        Entry(path="a", mode=LINK, data=b"../outside"),
        Entry(path="a/file", mode=FILE, data=b"hostile"),
    ]

    with pytest.raises((BlackwheelError, OSError)):
        tree.write_entries(entries, tmp_path / "tree", where="here")

    assert list((tmp_path / "outside").iterdir()) == []


def test_written_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        tree.write_entries(
            [Entry(path="f", mode=FILE, data=b""), Entry(path="p", mode=PROGRAM, data=b"")],
            tmp_path / "tree",
            where="here",
        )
    finally:
        os.umask(old)

    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "tree").iterdir()}
    assert modes == {"f": 0o644, "p": 0o755}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://host/owner/name", "host/owner/name.git"),
        ("https://host/owner/name.git", "host/owner/name.git"),
        ("https://user:secret@host:8443/name.git/", "host_8443/name.git"),
        ("git@host:owner/name.git", "host/owner/name.git"),
        ("ssh://git@host/owner/name", "host/owner/name.git"),
        ("file:///srv/../mirrors/name", "srv/mirrors/name.git"),
    ],
)
def test_each_repository_has_one_place_in_the_store(url: str, path: str) -> None:
    assert git_host.store_path(url, Path("/store")) == Path("/store/git") / path


HEAD = "fatal: unable to access 'https://host/openssl/timed-out/': "


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HEAD + "Could not resolve host: host", "Could not resolve host: host"),
        (
            HEAD + "Failed to connect to host port 443 after 3 ms: Couldn't connect to server",
            "Failed to connect to host port 443 after 3 ms: Couldn't connect to server",
        ),
        (
            HEAD + "server certificate verification failed. CAfile: none CRLfile: none",
            "server certificate verification failed. CAfile: none CRLfile: none",
        ),
        (
            HEAD + "gnutls_handshake() failed: The TLS connection was non-properly terminated.",
            "gnutls_handshake() failed: The TLS connection was non-properly terminated.",
        ),
        (
            HEAD + "Received HTTP code 403 from proxy after CONNECT",
            "Received HTTP code 403 from proxy after CONNECT",
        ),
        (
            "ssh: connect to host h port 22: Connection timed out\n"
            "fatal: Could not read from remote repository.",
            "ssh: connect to host h port 22: Connection timed out",
        ),
    ],
)
def test_a_host_that_did_not_answer_is_unreachable(text: str, why: str) -> None:
    assert git_host.reason(text) == why


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "The requested URL returned error: 404",
        HEAD + "The requested URL returned error: 403",
        "fatal: repository 'https://host/openssl/ssl /' not found",
        "fatal: could not read Username for 'https://host': terminal prompts disabled",
        "fatal: Authentication failed for 'https://host/'",
        "fatal: remote error: upload-pack: not our ref 1234",
        "git@host: Permission denied (publickey).\nConnection closed by 192.0.2.1 port 22",
        "fatal: remote error: connection refused: 192.0.2.1 is not on the list",
        "fatal: '/mirrors/ssl_tools' does not appear to be a git repository",
        "",
    ],
)
def test_a_host_that_answered_is_never_called_unreachable(text: str) -> None:
    assert git_host.reason(text) is None


def test_passwords_in_addresses_are_not_shown() -> None:
    assert addresses.shown("https://me:secret@host/name") == "https://host/name"


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        (
            {"UV_DEFAULT_INDEX": "https://a/simple", "PIP_INDEX_URL": "https://b/"},
            "https://a/simple",
        ),
        ({"UV_DEFAULT_INDEX": "inner=https://a/simple"}, "https://a/simple"),
        ({"UV_INDEX_URL": "https://c/", "PIP_INDEX_URL": "https://b/"}, "https://c/"),
        ({"PIP_INDEX_URL": "https://b/"}, "https://b/"),
        ({"PIP_CONFIG_FILE": os.devnull, "PATH": ""}, None),
    ],
)
def test_the_package_index_is_the_one_that_the_environment_names(
    environment: dict[str, str], address: str | None
) -> None:
    assert addresses.index_address(environment) == address


def test_the_package_index_may_come_from_pips_configuration(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://inner/simple\n", encoding="utf-8"
    )
    environment = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PATH": os.environ["PATH"]}
    if not (shutil.which("pip") or importlib.util.find_spec("pip")):
        pytest.skip("no pip here: python -m ensurepip installs it")

    assert addresses.index_address(environment) == "https://inner/simple"


def test_an_sdist_is_read_by_selection_and_without_its_leading_folder(tmp_path: Path) -> None:
    path = tmp_path / "toy-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "toy-1.0/run.sh", b"#!/bin/sh", mode=0o775)
        add(tar, "toy-1.0/src/a.cu", b"kernel", mode=0o600)
        add(tar, "toy-1.0/docs/guide.md", b"words")
        link = tarfile.TarInfo("toy-1.0/src/link")
        link.type, link.linkname = tarfile.SYMTYPE, "a.cu"
        tar.addfile(link)

    assert list(sdist.entries(path, lambda name: not name.startswith("docs/"))) == [
        Entry(path="run.sh", mode=PROGRAM, data=b"#!/bin/sh"),
        Entry(path="src/a.cu", mode=FILE, data=b"kernel"),
        Entry(path="src/link", mode=LINK, data=b"a.cu"),
    ]


def add(tar: tarfile.TarFile, name: str, data: bytes, *, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    tar.addfile(member, io.BytesIO(data))


def git_tree_id(root: Path, git_dir: Path) -> str:
    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=false", *args],
            env={**ENVIRONMENT, "GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(root)},
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", "--all", "--force", ".")
    return git("write-tree")
