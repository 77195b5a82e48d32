"""Sources from real git repositories, a real git server over HTTP, and a real package index."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from checkout import site_with

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.progress import Stage
from blackwheel.sources import fetch as sources
from blackwheel.sources import git_host, git_store
from blackwheel.sources.export import digest
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.tree import listed_tree_id, row, tree_id
from blackwheel.stacks.records import GitPin, NestedPin, ProjectPin, SdistPin

NOBODY = "0" * 40


def run_git(folder: Path, *args: str) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    who = ["-c", "user.name=toy", "-c", "user.email=toy@example.org"]
    done = subprocess.run(
        ["git", *who, *args],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


class Upstream:
    """A real repository with two commits; the first is the pinned one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        run_git(path, "init", "--quiet", "--initial-branch=main")
        run_git(path, "config", "uploadpack.allowFilter", "true")
        self.write("setup.py", "import torch\n")
        self.write("src/kernel.cu", "__global__ void k() {}\n")
        self.write("src/tool.sh", "#!/bin/sh\n")
        (path / "src" / "tool.sh").chmod(0o755)
        (path / "src" / "link.cu").symlink_to("kernel.cu")
        self.write("docs/big.md", "words\n" * 1000)
        self.commit = self.commit_all("first")
        self.write("setup.py", "import torch  # newer\n")
        self.newest = self.commit_all("second")

    def write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")

    def commit_all(self, message: str) -> str:
        run_git(self.path, "add", "--all", ".")
        run_git(self.path, "commit", "--quiet", "--message", message)
        return run_git(self.path, "rev-parse", "HEAD")

    def tree(self, commit: str) -> str:
        return run_git(self.path, "rev-parse", f"{commit}^{{tree}}")

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def pin(self, commit: str = "", **changes: Any) -> GitPin:
        commit = commit or self.commit
        return GitPin(**{"url": self.url, "commit": commit, "tree": self.tree(commit), **changes})


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "upstream" / "toy")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def environment() -> dict[str, str]:
    """As a user's, but for git's configuration, the proxies and the package index."""
    kept = ("PATH", "HOME", "LANG")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "UV_DEFAULT_INDEX": f"http://127.0.0.1:{closed_port()}/simple",
    }


def project(source: GitPin, **more: Any) -> ProjectPin:
    return ProjectPin(version="1.0", modules=("toy",), source=source, **more)


def fetch(
    pin: ProjectPin,
    store: Path,
    environment: dict[str, str],
    console: Quiet | None = None,
    name: str = "toy",
) -> SourceTree:
    return sources.fetch(site_with(store, environment, console), name, pin)


def failure(pin: ProjectPin, store: Path, environment: dict[str, str]) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as raised:
        fetch(pin, store, environment)
    assert raised.value.code == Exit.SOURCE
    left = list(store.glob("sources/*/*")) + list(store.glob("sdists/*"))
    assert left == [], "nothing half-written is left"
    return raised.value


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def git_server(root: Path, seen: list[str]) -> type[BaseHTTPRequestHandler]:
    """git's own server program, `git http-backend`, behind Python's HTTP server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            seen.append(path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            done = subprocess.run(
                ["git", "http-backend"],
                input=body,
                stdout=subprocess.PIPE,
                check=True,
                env={
                    "PATH": os.environ["PATH"],
                    "GIT_CONFIG_GLOBAL": os.devnull,
                    "GIT_PROJECT_ROOT": str(root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                },
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            lines = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.send_response(int(lines.pop("Status", "200").split()[0]))
            for name, value in lines.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815  the name that http.server looks up

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def answers(status: int, headers: dict[str, str] | None = None) -> type[BaseHTTPRequestHandler]:
    """A server that answers every request with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    return Handler


class Sdist:
    """A real sdist of the pinned commit's selected files, and an index that serves it."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        folder.mkdir()
        self.folder, self.path = folder, folder / "toy-1.0.tar.gz"
        with tarfile.open(self.path, "w:gz") as tar:
            for name, mode in (("setup.py", 0o644), ("src/kernel.cu", 0o644), ("docs/x", 0o644)):
                data = b"import torch\n" if name == "setup.py" else b"__global__ void k() {}\n"
                member = tarfile.TarInfo(f"toy-1.0/{name}")
                member.size, member.mode = len(data), mode
                tar.addfile(member, io.BytesIO(data))
        chosen = folder / "chosen"
        (chosen / "src").mkdir(parents=True)
        (chosen / "setup.py").write_text("import torch\n", encoding="utf-8")
        (chosen / "src" / "kernel.cu").write_text("__global__ void k() {}\n", encoding="utf-8")
        run_git(chosen, "init", "--quiet")
        run_git(chosen, "add", ".")
        self.tree = run_git(chosen, "write-tree")

    def pin(self, **changes: Any) -> SdistPin:
        data = self.path.read_bytes()
        known = {
            "name": self.path.name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "tree": self.tree,
        }
        return SdistPin(**{**known, **changes})

    def index(self, served_bytes: bytes | None = None) -> type[BaseHTTPRequestHandler]:
        data = self.path.read_bytes() if served_bytes is None else served_bytes

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = b'<a href="/files/toy-1.0.tar.gz">toy-1.0.tar.gz</a>'
                body = {"/simple/toy/": page, "/files/toy-1.0.tar.gz": data}.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body or b"")

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def release(tmp_path: Path, upstream: Upstream) -> Sdist:
    return Sdist(tmp_path / "carried", upstream)


def unreachable(upstream: Upstream, **changes: Any) -> GitPin:
    """The pin, with an address where nobody listens."""
    url = f"http://127.0.0.1:{closed_port()}/toy"
    return upstream.pin(url=url, sparse=("src",), **changes)


# --- from git -----------------------------------------------------------------------------------


def test_exactly_the_pinned_commit_arrives_without_a_git_folder(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    found = fetch(project(upstream.pin()), store, environment)

    assert (found.origin, found.commit, found.reason) == ("git", upstream.commit, "")
    assert found.tree == upstream.tree(upstream.commit) == tree_id(found.root)
    assert files(found.root) == [
        "docs/big.md",
        "setup.py",
        "src/kernel.cu",
        "src/link.cu",
        "src/tool.sh",
    ]
    assert (found.root / "setup.py").read_text(encoding="utf-8") == "import torch\n"


def test_no_filter_or_attribute_of_the_user_or_the_source_changes_a_byte(
    upstream: Upstream, store: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    upstream.write(".gitattributes", "*.py text eol=crlf ident export-ignore\n")
    upstream.write("ident.py", "$Id$\n")
    commit = upstream.commit_all("attributes")
    environment["GIT_CONFIG_GLOBAL"] = str(tmp_path / "gitconfig")
    (tmp_path / "gitconfig").write_text("[core]\n\tautocrlf = true\n", encoding="utf-8")

    found = fetch(project(upstream.pin(commit)), store, environment)

    assert tree_id(found.root) == upstream.tree(commit)


def test_the_second_fetch_needs_no_repository(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    pin = project(upstream.pin())
    first = fetch(pin, store, environment)
    upstream.path.rename(upstream.path.with_name("gone"))
    console = Quiet()

    assert fetch(pin, store, environment, console) == first
    assert console.lines == [
        f"toy: source: commit {first.commit[:12]} from git, tree {first.tree[:12]}"
    ]


def test_another_stack_with_the_same_commit_fetches_nothing(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    pin = upstream.pin()
    fetch(project(pin), store, environment)
    upstream.path.rename(upstream.path.with_name("gone"))
    less = GitPin(url=pin.url, commit=pin.commit, tree=pin.tree, sparse=("src",))
    console = Quiet()

    found = fetch(project(less), store, environment, console)

    assert files(found.root) == ["setup.py", "src/kernel.cu", "src/link.cu", "src/tool.sh"]
    assert len(console.lines) == 1


def test_a_selection_brings_only_its_own_files_over_the_network(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    found = fetch(project(upstream.pin(sparse=("src",))), store, environment)

    assert files(found.root) == ["setup.py", "src/kernel.cu", "src/link.cu", "src/tool.sh"]
    assert found.tree == upstream.tree(upstream.commit)
    bare = git_host.store_path(upstream.url, store)
    big = run_git(upstream.path, "rev-parse", f"{upstream.commit}:docs/big.md")
    listed = run_git(bare, "rev-list", "--objects", "--missing=print", upstream.commit)
    assert f"?{big}" in listed.splitlines()


def test_a_server_without_filters_serves_a_selection_too(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    run_git(upstream.path, "config", "uploadpack.allowFilter", "false")

    found = fetch(project(upstream.pin(sparse=("src",))), store, environment)

    assert files(found.root) == ["setup.py", "src/kernel.cu", "src/link.cu", "src/tool.sh"]


def test_nested_sources_lie_at_their_paths(
    upstream: Upstream, store: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    inner = Upstream(tmp_path / "upstream" / "inner")
    run_git(
        upstream.path, "update-index", "--add", "--cacheinfo", f"160000,{inner.commit},third/inner"
    )
    run_git(upstream.path, "commit", "--quiet", "--message", "submodule")
    commit = run_git(upstream.path, "rev-parse", "HEAD")
    pinned = inner.pin(sparse=("docs",))
    nested = NestedPin(
        url=pinned.url,
        commit=pinned.commit,
        tree=pinned.tree,
        sparse=pinned.sparse,
        path="third/inner",
    )

    found = fetch(project(upstream.pin(commit), nested=(nested,)), store, environment)

    assert files(found.root / "third" / "inner") == ["docs/big.md", "setup.py"]
    assert [(n.path, n.commit, n.tree) for n in found.nested] == [
        ("third/inner", inner.commit, inner.tree(inner.commit))
    ]


def test_a_mirror_of_gits_own_configuration_is_used(
    upstream: Upstream, store: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "gitconfig"
    environment["GIT_CONFIG_GLOBAL"] = str(config)
    pin = unreachable(upstream)
    config.write_text(f'[url "{upstream.url}"]\n\tinsteadOf = {pin.url}\n', encoding="utf-8")

    assert fetch(project(pin), store, environment).origin == "git"


def test_a_git_server_over_http_serves_exactly_the_commit(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    seen: list[str] = []
    with served(git_server(upstream.path.parent, seen)) as address:
        pin = project(upstream.pin(url=f"{address}/toy/.git", sparse=("src",)))
        found = fetch(pin, store, environment)
        asked = len(seen)
        fetch(pin, store, environment)

    assert found.tree == upstream.tree(upstream.commit)
    assert 0 < asked == len(seen)


def test_a_changed_file_in_the_store_is_written_anew_without_network(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    pin = project(upstream.pin())
    root = fetch(pin, store, environment).root
    (root / "setup.py").write_text("import os\n", encoding="utf-8")
    upstream.path.rename(upstream.path.with_name("gone"))
    console = Quiet()

    assert tree_id(fetch(pin, store, environment, console).root) == pin.source.tree
    assert console.lines[:2] == [
        "toy: files of the kept source were changed: setup.py",
        "toy: the source is written anew",
    ]


@pytest.mark.parametrize("how", ["whole", "sparse"])
def test_a_list_that_was_changed_with_its_files_proves_nothing(
    upstream: Upstream, store: Path, environment: dict[str, str], how: str
) -> None:
    pin = project(upstream.pin(**({"sparse": ("src",)} if how == "sparse" else {})))
    right = tree_id(root := fetch(pin, store, environment).root)
    (root / "setup.py").write_text("import os\n", encoding="utf-8")
    listed = root.parent / "fetched.json"
    made = json.loads(listed.read_text(encoding="utf-8"))
    made["parts"][0]["files"]["setup.py"] = row(root / "setup.py")
    tree = listed_tree_id(made["parts"][0]["files"])
    made["parts"][0]["commit"] = re.sub("^tree .*", f"tree {tree}", made["parts"][0]["commit"])
    listed.write_text(json.dumps(made), encoding="utf-8")
    console = Quiet()

    assert tree_id(fetch(pin, store, environment, console).root) == right
    assert console.lines[0].startswith("toy: the list of the kept source is not of its pins (the ")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"parts": []}', "null", "\xff", "[" * 5000])
def test_a_list_that_cannot_be_read_proves_nothing(
    upstream: Upstream, store: Path, environment: dict[str, str], text: str
) -> None:
    pin = project(upstream.pin())
    root = fetch(pin, store, environment).root
    (root.parent / "fetched.json").write_text(text, encoding="latin-1")
    (root / "setup.py").unlink()
    assert tree_id(fetch(pin, store, environment).root) == pin.source.tree


def test_the_repository_of_a_git_hook_that_runs_us_is_left_alone(
    upstream: Upstream, store: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    run_git(tmp_path, "init", "--quiet", "users")
    before = files(tmp_path / "users")
    environment |= {"GIT_DIR": str(tmp_path / "users" / ".git"), "GIT_INDEX_FILE": ".git/index"}

    fetch(project(upstream.pin()), store, environment)

    assert files(tmp_path / "users") == before


class Impatient(Quiet):
    """A person who presses Ctrl-C when the commit is there and its files are not."""

    @contextlib.contextmanager
    def stage(self, project: str, text: str) -> Iterator[Stage]:
        if "files of" in text:
            raise KeyboardInterrupt
        with super().stage(project, text) as stage:
            yield stage


def test_a_stopped_fetch_leaves_nothing_and_the_next_one_goes_on(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    pin = project(upstream.pin(sparse=("src",)))

    with pytest.raises(KeyboardInterrupt):
        fetch(pin, store, environment, Impatient())

    assert list(store.glob("sources/toy/*")) == []
    assert fetch(pin, store, environment).origin == "git"


def test_what_a_killed_run_left_behind_does_not_stop_the_next(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    first = fetch(project(upstream.pin()), store, environment)
    bare = git_host.store_path(upstream.url, store)
    (bare / "shallow.lock").touch()
    objects = [bare / "objects" / name for name in ("3a/tmp_obj_Ot8jLd", "pack/tmp_pack_x1")]
    for path in objects:  # git's own gc would take them, and never runs here
        path.parent.mkdir(exist_ok=True)
        path.touch()
    pin = project(upstream.pin(upstream.newest))
    half = store / "sources" / "toy" / f".{digest(pin, 'git')}-half"
    half.mkdir()

    second = fetch(pin, store, environment)

    assert second.tree != first.tree
    assert not half.exists()
    assert not any(path.exists() for path in objects)


def test_a_second_run_waits_and_says_for_whom(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    console, got = Quiet(), []
    with held(store, "sources-toy", project="toy", console=Quiet()):
        pin = project(upstream.pin())
        thread = threading.Thread(
            target=lambda: got.append(fetch(pin, store, environment, console))
        )
        thread.start()
        thread.join(timeout=1)
        assert thread.is_alive()
    thread.join(timeout=30)

    waited = f"toy: waiting for toy in process {os.getpid()} (sources-toy)"
    assert console.lines[0] == waited
    assert got[0].origin == "git"


# --- where only the sdist tells the commit -------------------------------------------------------


def test_a_commit_of_nine_digits_is_taken_from_the_sdist_and_no_git_host_is_asked(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    pin = upstream.pin(sparse=("src",))
    known = GitPin(url=pin.url, commit=pin.commit[:9], sparse=("src",))
    console = Quiet()

    found = fetch(project(known, sdist=release.pin()), store, environment, console)

    assert (found.origin, found.commit, found.tree) == ("sdist", pin.commit[:9], release.tree)
    assert found.reason == "only the sdist tells its commit"
    assert not list(store.glob("git/*"))
    assert not any("cannot be reached" in line for line in console.lines)
    again = fetch(project(known, sdist=release.pin()), store, environment)
    assert again.root == found.root


def test_an_sdist_that_alone_tells_the_commit_and_cannot_be_had_is_named(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    environment["UV_DEFAULT_INDEX"] = "nothing://at.all/simple"
    pin = GitPin(url=upstream.url, commit=upstream.commit[:9], sparse=("src",))

    assert str(failure(project(pin, sdist=release.pin()), store, environment)) == (
        "error: no-sdist\n"
        "  toy-1.0.tar.gz cannot be had: the package index: is no http address\n"
        "  no git host can be asked instead: only the sdist tells its commit\n"
        "  where: projects.toy.sdist\n"
        "  fix:   connect to the network, or carry the sdist here: BLACKWHEEL_SDISTS=folder"
    )


def test_a_commit_that_nobody_knows_is_said_to_be_so_and_nobody_asks_git(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    pin = GitPin(url=upstream.url, sparse=("src",))
    console = Quiet()

    found = fetch(project(pin, sdist=release.pin()), store, environment, console)

    assert (found.origin, found.commit, found.named) == ("sdist", "", "toy-1.0.tar.gz")
    assert found.reason == "pinned by sha256, no commit"
    assert not list(store.glob("git/*"))
    with pytest.raises(BlackwheelError) as caught:
        site = site_with(store, environment, console)
        git_store.GitStore(site, pin, project="toy", where="projects.toy.source").fetch()
    assert (caught.value.name, caught.value.where) == (
        "commit-unknown",
        "projects.toy.source.commit",
    )


def test_a_commit_whose_tree_nobody_has_seen_is_never_taken_from_git(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    """One key has one content: the sdist's tree is pinned, and this git host would answer."""
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    console = Quiet()

    found = fetch(
        project(upstream.pin(tree=None, sparse=("src",)), sdist=release.pin()),
        store,
        environment,
        console,
    )

    assert (found.origin, found.tree) == ("sdist", release.tree)
    assert found.reason == "nobody here has seen the tree of its commit"
    assert not list(store.glob("git/*"))
    assert fetch(project(upstream.pin(), sdist=release.pin()), store, environment).origin == "git"


def test_tree_of_a_commit_is_listed_once(
    upstream: Upstream,
    store: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, ...]] = []
    real = git_store.GitStore._read
    monkeypatch.setattr(
        git_store.GitStore, "_read", lambda self, *args: asked.append(args) or real(self, *args)
    )
    fetch(project(upstream.pin(sparse=("src",))), store, environment)
    assert [args[0] for args in asked].count("ls-tree") == 1


def test_nested_sources_whose_commits_nobody_knows_are_all_named_and_never_head(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    nested = tuple(NestedPin(path=f"third_party/{name}", url=upstream.url) for name in ("a", "b"))
    assert str(failure(project(upstream.pin(), nested=nested), store, environment)) == (
        "error: nested-not-pinned\n"
        "  nobody here has seen which commit of third_party/a, third_party/b is wanted\n"
        "  where: projects.toy.nested\n"
        "  fix:   where its git host answers: invoke pin toy VERSION --stack STACK"
    )
    assert not list(store.glob("git/*"))


# --- what git may not do --------------------------------------------------------------------------


def test_an_unknown_commit_is_an_error_and_never_a_reason_for_the_sdist(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    pin = GitPin(url=upstream.url, commit=NOBODY[:-1] + "1", tree=NOBODY, sparse=("src",))

    assert str(failure(project(pin, sdist=release.pin()), store, environment)) == (
        "error: wrong-commit\n"
        f"  {upstream.url} has no commit 0000000000000000000000000000000000000001\n"
        "  where: projects.toy.source.commit\n"
        "  fix:   correct commit and tree in the stack file"
    )


def test_a_commit_with_another_tree_is_refused(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    pin = upstream.pin(tree=NOBODY)

    assert str(failure(project(pin), store, environment)) == (
        "error: wrong-tree\n"
        f"  commit {pin.commit} of {pin.url} holds another tree\n"
        f"  found:  {upstream.tree(pin.commit)}\n"
        f"  pinned: {NOBODY}\n"
        "  where: projects.toy.source.tree\n"
        "  fix:   correct commit and tree in the stack file: they are not of one source"
    )


def test_a_selected_folder_that_is_not_there_is_named(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    pin = upstream.pin(sparse=("srcs",))

    assert str(failure(project(pin), store, environment)) == (
        "error: missing-folder\n"
        f"  {upstream.url} at {pin.commit[:12]} has no folder 'srcs'\n"
        "  where: projects.toy.source.sparse\n"
        "  fix:   correct 'sparse' in the stack file"
    )


def test_a_link_out_of_the_tree_is_refused(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    (upstream.path / "src" / "passwd").symlink_to("../../passwd")
    pin = upstream.pin(upstream.commit_all("hostile"))

    assert str(failure(project(pin), store, environment)) == (
        "error: unsafe-path\n"
        "  'src/passwd -> ../../passwd' leaves the source tree\n"
        "  where: projects.toy.source\n"
        "  fix:   select other folders with 'sparse', or pin a source without it"
    )


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (404, {}, "fatal: repository '{url}/' not found"),
        (
            401,
            {"WWW-Authenticate": "Basic"},
            "fatal: could not read Username for '{host}': terminal prompts disabled",
        ),
    ],
)
def test_an_answer_of_the_host_is_an_error_and_never_a_reason_for_the_sdist(
    *,
    upstream: Upstream,
    store: Path,
    environment: dict[str, str],
    release: Sdist,
    status: int,
    headers: dict[str, str],
    said: str,
) -> None:
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    with served(answers(status, headers)) as address:
        pin = upstream.pin(url=f"{address}/toy", sparse=("src",))
        error = failure(project(pin, sdist=release.pin()), store, environment)

    assert str(error) == (
        "error: git-refused\n"
        f"  {pin.url} cannot be fetched\n"
        f"  {said.format(url=pin.url, host=address)}\n"
        "  where: projects.toy.source.url\n"
        "  fix:   correct the address, or give git access to it (credentials, url.*.insteadOf)"
    )


def test_an_empty_mirror_is_named_and_is_no_reason_for_the_sdist(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist, tmp_path: Path
) -> None:
    config = tmp_path / "gitconfig"
    environment |= {"GIT_CONFIG_GLOBAL": str(config), "BLACKWHEEL_SDISTS": str(release.folder)}
    pin = unreachable(upstream)
    config.write_text(f'[url "file:///no/mirror"]\n\tinsteadOf = {pin.url}\n', encoding="utf-8")

    error = failure(project(pin, sdist=release.pin()), store, environment)

    assert error.name == "git-refused"
    assert error.fact.splitlines() == [
        f"{pin.url} cannot be fetched (git reads it from file:///no/mirror)",
        "fatal: '/no/mirror' does not appear to be a git repository",
        "fatal: Could not read from remote repository.",
    ]


def test_without_git_the_error_says_how_to_get_it(
    upstream: Upstream, store: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["PATH"] = str(tmp_path)

    assert str(failure(project(upstream.pin()), store, environment)) == (
        "error: git-missing\n"
        "  there is no git program on PATH\n"
        f"  where: PATH={tmp_path}\n"
        "  fix:   install git (apt install git, dnf install git), then run again"
    )


SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
from blackwheel.sources import fetch
from blackwheel.stacks import records
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
store, url, commit, tree = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", store], check=True)
source = records.GitPin(url=url, commit=commit, tree=tree)
pin = records.ProjectPin(version="1", modules=(), source=source)
try:
    place = Path(store)
    site = Site(checkout=place, store=place, environment=os.environ, console=Quiet())
    fetch.fetch(site, "toy", pin)
except BlackwheelError as error:
    print(error, *Path(store).glob("sources/*/*"), sep="\\n")
"""


@pytest.mark.parametrize("size", [250_000, 1_000_000], ids=["when writing", "when fetching"])
def test_a_full_disk_is_said_plainly(upstream: Upstream, store: Path, size: int) -> None:
    (upstream.path / "noise").write_bytes(os.urandom(size))
    pin = upstream.pin(upstream.commit_all("noise"))
    store.mkdir()
    unshare = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this kernel allows no namespaces to a user (doctor names the setting)")

    done = subprocess.run(
        [*unshare, sys.executable, "-c", SMALL_DISK, store, pin.url, pin.commit, pin.tree],
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    where = store if size < 400_000 else git_host.store_path(pin.url, store)
    assert done.stdout == (
        "error: disk-full\n"
        "  no space left while sources were fetched; nothing half-written was kept\n"
        f"  where: {where}\n"
        "  fix:   free space there, or set BLACKWHEEL_HOME to a folder on another disk\n"
    )


def test_a_damaged_store_is_fetched_anew(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    fetch(project(upstream.pin()), store, environment)
    bare = git_host.store_path(upstream.url, store)
    for damaged in (bare / "objects").iterdir():
        shutil.rmtree(damaged)
    shutil.rmtree(store / "sources")
    console = Quiet()

    assert tree_id(fetch(project(upstream.pin()), store, environment, console).root)
    assert f"toy: git cannot read what it fetched of {upstream.url}: " in console.lines[0]
    assert console.lines[0].endswith(": it is fetched anew")


def test_a_damaged_store_whose_host_is_away_stays_for_other_commits(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    fetch(project(upstream.pin()), store, environment)
    bare = git_host.store_path(upstream.url, store)
    (loose,) = (one for one in bare.glob(f"objects/??/{upstream.commit[2:]}"))
    loose.chmod(0o644)
    loose.write_bytes(b"")
    shutil.rmtree(store / "sources")
    away = {**environment, "GIT_CONFIG_GLOBAL": str(store / "away")}
    instead = f'[url "http://127.0.0.1:{closed_port()}/"]\n\tinsteadOf = {upstream.url}\n'
    (store / "away").write_text(instead, encoding="utf-8")

    error = failure(project(upstream.pin()), store, away)

    assert error.name == "git-host-unreachable"
    assert (bare / "HEAD").is_file()
    assert not list(bare.parent.glob(".*"))


def test_a_flipped_bit_of_the_store_never_reaches_an_export(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    pin = project(upstream.pin())
    right = tree_id(fetch(pin, store, environment).root)
    bare = git_host.store_path(upstream.url, store)
    kept = bare.with_name("kept")
    shutil.copytree(bare, kept)
    names = [one.relative_to(kept) for one in kept.glob("objects/??/*")]
    said = 0
    for name in (*names, Path("config"), Path("refs/pins") / upstream.commit):
        shutil.rmtree(bare)
        shutil.copytree(kept, bare)
        shutil.rmtree(store / "sources")
        data = bytearray((kept / name).read_bytes())
        data[len(data) // 2] ^= 1
        (bare / name).chmod(0o644)
        (bare / name).write_bytes(data)
        console = Quiet()
        assert tree_id(fetch(pin, store, environment, console).root) == right, name
        said += any("it is fetched anew" in line for line in console.lines)
    assert said >= len(names)


def test_a_nested_source_whose_host_is_down_is_the_one_that_is_named(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    nested = NestedPin(url="https://git.invalid/n", commit=NOBODY, tree=NOBODY, path="third/inner")

    error = failure(project(upstream.pin(), nested=(nested,)), store, environment)

    assert error.fact.splitlines()[0] == (
        "https://git.invalid/n cannot be reached: Could not resolve host: git.invalid"
    )
    assert error.where == "projects.toy.nested.0.url"


# --- the sdist stands in --------------------------------------------------------------------------


def test_the_sdist_stands_in_when_nobody_listens_and_the_output_says_so(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    pin = project(unreachable(upstream), sdist=release.pin())
    console = Quiet()
    with served(release.index()) as address:
        environment["UV_DEFAULT_INDEX"] = f"{address}/simple"
        found = fetch(pin, store, environment, console)

    assert (found.origin, found.tree) == ("sdist", release.tree)
    assert files(found.root) == ["setup.py", "src/kernel.cu"]
    assert tree_id(found.root) == release.tree
    port = pin.source.url.rpartition(":")[2].removesuffix("/toy")
    assert found.reason.startswith(f"Failed to connect to 127.0.0.1 port {port}")
    url, commit = pin.source.url, upstream.commit[:12]
    assert console.lines[0] == f"toy: fetch toy {commit}"
    assert console.lines[1].startswith(f"toy: fetch toy {commit}: failed after ")
    assert console.lines[2:4] == [
        f"toy: {url} cannot be reached ({found.reason})",
        "toy: the sdist of the same release stands in: toy-1.0.tar.gz",
    ]
    assert console.lines[-1] == (
        f"toy: source: toy-1.0.tar.gz instead of git ({found.reason}), tree {found.tree[:12]}"
    )


@pytest.mark.parametrize("status", [429, 503])
def test_the_sdist_stands_in_for_a_host_in_trouble(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist, status: int
) -> None:
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    with served(answers(status)) as address:
        pin = project(upstream.pin(url=f"{address}/toy", sparse=("src",)), sdist=release.pin())
        found = fetch(pin, store, environment, Quiet())
    assert (found.origin, found.tree) == ("sdist", release.tree)
    assert found.reason == f"the host answers {status}: busy or broken for now"


def test_the_second_fetch_of_an_sdist_needs_neither_host_nor_index(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    pin = project(unreachable(upstream), sdist=release.pin())
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    first = fetch(pin, store, environment)
    del environment["BLACKWHEEL_SDISTS"]
    console = Quiet()

    assert fetch(pin, store, environment, console) == first
    assert len(console.lines) == 1


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_host_that_never_answers_is_given_up(
    *,
    upstream: Upstream,
    store: Path,
    environment: dict[str, str],
    release: Sdist,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(git_store, "ANSWER_SECONDS", 1.0)
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/toy"
        pin = upstream.pin(url=url, sparse=("src",))
        found = fetch(project(pin, sdist=release.pin()), store, environment)

    assert found.reason == "timed out: no answer within 1 s"


def test_a_host_whose_tls_fails_is_not_reached(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    with served(answers(200)) as address:
        pin = upstream.pin(url=f"{address.replace('http', 'https')}/toy", sparse=("src",))
        found = fetch(project(pin, sdist=release.pin()), store, environment)

    assert found.origin == "sdist"


def test_a_host_without_an_address_is_not_reached(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    pin = upstream.pin(url="https://git.invalid/toy", sparse=("src",))

    found = fetch(project(pin, sdist=release.pin()), store, environment)

    assert found.reason == "Could not resolve host: git.invalid"


def test_an_unreachable_host_without_an_sdist_is_an_error(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    pin = upstream.pin(url="https://git.invalid/toy")

    assert str(failure(project(pin), store, environment)) == (
        "error: git-host-unreachable\n"
        "  https://git.invalid/toy cannot be reached: Could not resolve host: git.invalid\n"
        "  no sdist is pinned that could stand in\n"
        "  where: projects.toy.source.url\n"
        "  fix:   connect to the network, name a mirror with git's url.*.insteadOf,\n"
        "         or carry the sdist here: BLACKWHEEL_SDISTS=folder"
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "the package index has no toy-1.0.tar.gz: answers 404 Not Found"),
        (503, "the package index: answers 503 Service Unavailable (2 tries)"),
    ],
)
def test_an_unreachable_host_and_an_index_without_the_sdist_are_one_error(
    *,
    upstream: Upstream,
    store: Path,
    environment: dict[str, str],
    release: Sdist,
    status: int,
    said: str,
) -> None:
    pin = project(upstream.pin(url="https://git.invalid/toy", sparse=("src",)), sdist=release.pin())
    with served(answers(status)) as address:
        environment["UV_DEFAULT_INDEX"] = f"{address}/simple"
        error = failure(pin, store, environment)

    assert error.name == "git-host-unreachable"
    assert error.fact.splitlines()[1] == (f"toy-1.0.tar.gz cannot be had either: {said}")


def test_an_sdist_with_other_bytes_is_refused_and_deleted(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    pin = release.pin()
    other = bytes(pin.size)
    with served(release.index(other)) as address:
        environment["UV_DEFAULT_INDEX"] = f"{address}/simple"
        error = failure(project(unreachable(upstream), sdist=pin), store, environment)

    assert str(error) == (
        "error: wrong-sha256\n"
        "  toy-1.0.tar.gz is not the pinned file; it was not kept\n"
        f"  found:  {hashlib.sha256(other).hexdigest()}\n"
        f"  pinned: {pin.sha256}\n"
        f"  where: {address}/files/toy-1.0.tar.gz, projects.toy.sdist.sha256\n"
        "  fix:   find out who changed the file before you change the pin"
    )


@pytest.mark.parametrize(
    ("extra", "found"), [(-1, "{size} bytes"), (100_000, "more than that")], ids=["short", "long"]
)
def test_an_sdist_of_another_size_is_refused(
    *,
    upstream: Upstream,
    store: Path,
    environment: dict[str, str],
    release: Sdist,
    extra: int,
    found: str,
) -> None:
    pin = release.pin()
    with served(release.index(bytes(pin.size + extra))) as address:
        environment["UV_DEFAULT_INDEX"] = f"{address}/simple"
        error = failure(project(unreachable(upstream), sdist=pin), store, environment)

    assert str(error) == (
        "error: wrong-size\n"
        "  toy-1.0.tar.gz is not the pinned file; it was not kept\n"
        f"  found:  {found.format(size=pin.size + extra)}\n"
        f"  pinned: {pin.size} bytes\n"
        f"  where: {address}/files/toy-1.0.tar.gz, projects.toy.sdist.size\n"
        "  fix:   find out who changed the file before you change the pin"
    )


def test_a_carried_sdist_with_other_bytes_is_refused_but_not_deleted(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    pin = release.pin()
    release.path.write_bytes(bytes(pin.size))
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)

    error = failure(project(unreachable(upstream), sdist=pin), store, environment)

    assert error.name == "wrong-sha256"
    assert error.where == f"{release.path}, projects.toy.sdist.sha256"
    assert release.path.exists()


def test_a_kept_sdist_that_was_damaged_is_taken_again(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    pin = project(unreachable(upstream), sdist=release.pin())
    kept = store / "sdists" / "toy-1.0.tar.gz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(bytes(release.pin().size))
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)

    console = Quiet()
    assert fetch(pin, store, environment, console).origin == "sdist"
    assert kept.read_bytes() == release.path.read_bytes()
    assert f"toy: {kept} is not the pinned file: it is fetched anew" in console.lines


def test_an_sdist_whose_files_make_another_tree_is_refused(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)
    pin = project(unreachable(upstream), sdist=release.pin(tree=NOBODY))

    with pytest.raises(BlackwheelError) as raised:
        fetch(pin, store, environment)

    assert list(store.glob("sources/toy/*")) == []
    assert str(raised.value) == (
        "error: wrong-tree\n"
        "  the selected files of toy-1.0.tar.gz make another tree\n"
        f"  found:  {release.tree}\n"
        f"  pinned: {NOBODY}\n"
        "  where: projects.toy.sdist.tree\n"
        "  fix:   correct tree or 'sparse' in the stack file: they are not of one source"
    )


def test_what_the_sdist_does_not_hold_of_the_nested_sources_comes_from_git(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist, tmp_path: Path
) -> None:
    other = Upstream(tmp_path / "upstream" / "other")
    nested = asdict(other.pin(sparse=("src",)))
    pin = project(
        unreachable(upstream),
        sdist=release.pin(),
        nested=(
            NestedPin(path="third_party/other", **nested),
            NestedPin(path="third_party/other/src/deep", **nested),
        ),
    )
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)

    found = fetch(pin, store, environment)

    assert (found.origin, found.tree) == ("sdist", release.tree)
    kernels = [path for path in files(found.root) if path.endswith("kernel.cu")]
    assert kernels == [
        "src/kernel.cu",
        "third_party/other/src/deep/src/kernel.cu",
        "third_party/other/src/kernel.cu",
    ]
    assert {one.tree for one in found.nested} == {other.tree(other.commit)}


def test_a_nested_source_that_neither_git_nor_the_sdist_has_is_named(
    upstream: Upstream, store: Path, environment: dict[str, str], release: Sdist
) -> None:
    away = NestedPin(path="third_party/other", **asdict(unreachable(upstream)))
    pin = project(unreachable(upstream), sdist=release.pin(), nested=(away,), optional=("other",))
    environment["BLACKWHEEL_SDISTS"] = str(release.folder)

    with pytest.raises(BlackwheelError) as raised:
        fetch(pin, store, environment)

    port = away.url.rpartition(":")[2].removesuffix("/toy")
    first, *rest = str(raised.value).splitlines()
    assert first == "error: nested-unreachable"
    assert rest[0].startswith(
        f"  {away.url} cannot be reached: Failed to connect to 127.0.0.1 port {port}"
    )
    assert rest[1:] == [
        "  the sdist does not hold third_party/other",
        "  where: projects.toy.nested.0.url",
        "  fix:   connect to the network, or name a mirror with git's url.*.insteadOf",
        "         or leave it out: --without other",
    ]
    assert list(store.glob("sources/*/*")) == []


def test_a_nested_source_whose_tree_nobody_saw_is_taken_by_its_commit(
    upstream: Upstream, store: Path, environment: dict[str, str]
) -> None:
    """Unlike a project it has no sdist; the commit's id is that of its tree as well."""
    nested = NestedPin(url=upstream.url, commit=upstream.newest, path="third_party/other")
    found = fetch(project(upstream.pin(), nested=(nested,)), store, environment)
    assert [one.tree for one in found.nested] == [upstream.tree(upstream.newest)]


@pytest.mark.parametrize("kind", ["blob", "tree"])
def test_an_object_of_other_content_under_its_id_is_never_built(
    upstream: Upstream, store: Path, environment: dict[str, str], kind: str
) -> None:
    fetch(project(upstream.pin()), store, environment)
    shutil.rmtree(store / "sources")
    bare = git_host.store_path(upstream.url, store)
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "-t", upstream.commit],
        cwd=bare,
        env={**environment, "GIT_CONFIG_GLOBAL": os.devnull},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    oid = next(row[2] for row in rows if row[1] == kind)
    if kind == "blob":
        data = b"blob 5\0other"
    else:
        row = b"100644 x\0" + bytes.fromhex(next(row[2] for row in rows if row[1] == "blob"))
        data = f"tree {len(row)}\0".encode() + row
    loose = bare / "objects" / oid[:2] / oid[2:]
    loose.unlink(missing_ok=True)
    loose.parent.mkdir(exist_ok=True)
    loose.write_bytes(zlib.compress(data))
    for pack in (bare / "objects" / "pack").glob("*"):
        assert pack.suffix not in (".pack",), "the toy's objects are loose"

    console = Quiet()
    found = fetch(project(upstream.pin()), store, environment, console)

    assert tree_id(found.root) == upstream.tree(upstream.commit)
    wrong = f"object {oid} holds another" if kind == "blob" else "not those that its id says"
    assert wrong in console.lines[0]
    assert console.lines[0].endswith("it is fetched anew")
