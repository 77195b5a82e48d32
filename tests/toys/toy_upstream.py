"""An upstream with releases: tags, submodules, CMake's fetches, and sdists on a package index."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from checkout import HOST, git

from blackwheel.core.console import Quiet
from blackwheel.core.site import Site
from blackwheel.sources.tree import tree_id

REPOSITORY = Path(__file__).parents[2]
LINES = [f"line {number}\n" for number in range(1, 31)]
HEADER = """From: A Person <a@upstream.invalid>
Subject: {name}

Because.

Origin: vendor, toy
Forwarded: no
Last-Update: 2026-01-02
---

"""
CMAKE = """\
set(HEADERS_TAG "{headers}") # the release
FetchContent_Declare(
  toy_headers
  GIT_REPOSITORY {host}toy/toy_headers.git
  GIT_TAG ${{HEADERS_TAG}}
)
{more}"""
MODULES = f"""[submodule "third_party/sub"]
\tpath = third_party/sub
\turl = {HOST}toy/toy_sub
"""
STACK = """# A stack of one toy.
extends = "torch211"
description = "toy 1.0 on torch 2.11.0"
build = ["toy"]
locks = "toy"

[projects.toy]
version = "1.0"
revision = 3 # bytes changed twice
modules = ["toy"]
requirements = ["setuptools<80", "ninja"]
runtime = [
  "numpy", # any
  "regex==1",
  "torchvision==0.26.0",
]
objects = 3

[projects.toy.source]
url = "{host}toy/toy"
commit = "{commit}"
tree = "{tree}"

[[projects.toy.nested]]
path = "third_party/toy_headers"
url = "{host}toy/toy_headers" # HEADERS_TAG v4.0
commit = "{headers}"
tree = "{headers_tree}"

[[projects.toy.nested]]
path = "third_party/toy_headers/deep"
url = "{host}toy/toy_sub"
commit = "{deep}"
tree = "{deep_tree}"

[[projects.toy.nested]]
path = "third_party/sub"
url = "{host}toy/toy_sub"
commit = "{sub}"
tree = "{sub_tree}"

[projects.toy.sdist]
name = "toy-1.0.tar.gz"
sha256 = "{sha256}"
size = {size}
tree = "{sdist_tree}"

[projects.toy.variables]
TOY_ARCHS = "{{archs}}" # a comment

[[projects.toy.requires]]
file = "requirements/cuda.txt"
set = ["{{torch}}", "torchvision==0.26.0"]
"""


def text_with(**lines: str) -> str:
    """Thirty lines, of which some are others: `l7="seven"`."""
    wanted = {int(name[1:]) - 1: text for name, text in lines.items()}
    return "".join(wanted.get(number, line.strip()) + "\n" for number, line in enumerate(LINES))


def release_files(
    *,
    setup: str = text_with(),
    kernel: str = text_with(),
    headers: str = "v4.0",
    torch: str = "2.11.0",
    regex: str = "regex==1",
    more: str = "",
) -> dict[str, str]:
    return {
        "setup.py": setup,
        "src/kernel.cu": kernel,
        "CMakeLists.txt": CMAKE.format(headers=headers, host=HOST, more=more),
        ".gitmodules": MODULES,
        "pyproject.toml": f'[build-system]\nrequires = ["setuptools<8{headers[-1]}", "ninja"]\n',
        "requirements/common.txt": f"numpy # any\n{regex}\n",
        "requirements/cuda.txt": f"-r common.txt\ntorch=={torch}\ntorchvision==0.26.0\n",
    }


@dataclass
class Repository:
    """One real repository."""

    path: Path
    commits: dict[str, str] = field(default_factory=dict)
    """Of each tag."""

    def commit(self, tag: str, files: Mapping[str, str], links: Mapping[str, str]) -> str:
        """Make a release of these files and submodules, tagged unless its name is for us alone."""
        if not self.path.exists():
            self.path.mkdir(parents=True)
            git(self.path, "init", "--quiet", "--initial-branch=main")
            git(self.path, "config", "uploadpack.allowAnySHA1InWant", "true")
            git(self.path, "config", "uploadpack.allowFilter", "true")
        for name, text in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text, encoding="utf-8")
        git(self.path, "add", "--all", ".")
        for path, commit in links.items():
            git(self.path, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        git(self.path, "commit", "--quiet", "--message", tag)
        self.commits[tag] = git(self.path, "rev-parse", "HEAD")
        if tag.startswith("v"):
            annotated = ["--annotate", "--message", tag] if tag == "v1.1" else []
            git(self.path, "tag", *annotated, tag)
        return self.commits[tag]

    def tree(self, tag: str) -> str:
        return git(self.path, "rev-parse", f"{self.commits[tag]}^{{tree}}")


def sdist_of(name: str, files: Mapping[str, str], commit: str = "") -> bytes:
    """An sdist as setuptools makes one, without submodules and CMake's fetches."""
    made = {**files, "PKG-INFO": f"Name: toy\nVersion: {name.split('-')[1]}\n"}
    if commit:
        made["toy/_version.py"] = f"__commit_id__ = commit_id = 'g{commit[:9]}'\n"
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for path, text in sorted(made.items()):
            info = tarfile.TarInfo(f"{name}/{path}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return sink.getvalue()


@dataclass
class Index:
    """A package index of sdists, in JSON."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    """sha256 that the page names, where it is not the file's."""

    def page(self) -> bytes:
        rows = [
            {
                "filename": name,
                "url": f"/files/{name}",
                "hashes": {"sha256": self.claims.get(name, hashlib.sha256(data).hexdigest())},
                "size": len(data),
            }
            for name, data in self.files.items()
        ]
        versions = sorted({row["filename"].split("-")[1].removesuffix(".tar.gz") for row in rows})
        meta = {"api-version": "1.1"}
        return json.dumps(
            {"meta": meta, "name": "toy", "versions": versions, "files": rows}
        ).encode()


@contextlib.contextmanager
def serving() -> Iterator[Index]:
    """Serve an index on a port of its own."""
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = "application/octet-stream", index.files.get(self.path.rpartition("/")[2])
            if self.path == "/simple/toy/":
                kind, body = "application/vnd.pypi.simple.v1+json", index.page()
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    index.address = f"http://127.0.0.1:{server.server_port}/simple"
    try:
        yield index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def patch(path: str, before: str, after: str, name: str) -> str:
    """A patch of one file with the header that a series wants."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return HEADER.format(name=name) + f"diff --git a/{path} b/{path}\n" + "".join(lines)


HEADER_FILE = "include/toy.h"
PATCHES = {
    "0001-change-kernel.patch": ("src/kernel.cu", text_with(), text_with(l20="twenty")),
    "0002-change-setup.patch": ("setup.py", text_with(), text_with(l7="seven")),
    "0003-change-headers.patch": (
        f"third_party/toy_headers/{HEADER_FILE}",
        text_with(),
        text_with(l3="three"),
    ),
}


class World:
    """The upstreams of the stack `toy`, and a store that has seen what the tests before fetched."""

    def __init__(self, home: Path, index: Index) -> None:
        self.home, self.index, self.store = home, index, home / "store"
        self.toy = Repository(home / "upstream" / "toy")
        self.headers = Repository(home / "upstream" / "toy_headers")
        self.sub = Repository(home / "upstream" / "toy_sub")
        for name in ("one", "two"):
            self.sub.commit(name, {"sub.h": name}, {})
        for tag, deep in (("v4.0", "one"), ("v4.1", "two")):
            files = {HEADER_FILE: text_with(), "version": tag}
            self.headers.commit(tag, files, {"deep": self.sub.commits[deep]})
        moved = "top\n" + text_with()
        taken = text_with(l7="seven")
        more = f"FetchContent_Declare(newdep GIT_REPOSITORY {HOST}toy/newdep GIT_TAG v7)\n"
        newer = {"setup": taken, "headers": "v4.1", "regex": "regex==2"}
        self.release("v1.0", "one", release_files())
        self.release("v1.1", "two", release_files(kernel=moved, more=more, **newer))
        conflict = text_with(l20="upstream's", l28="more")
        self.release("v1.2", "two", release_files(kernel=conflict, torch="2.13.0", **newer))
        lost = release_files(kernel=moved, **newer) | {"CMakeLists.txt": "project(toy)\n"}
        self.release("v1.3", "two", lost, sdist=False)
        self.release("v2.0rc1", "two", release_files(kernel=moved, **newer), sdist=False)

    def release(self, tag: str, sub: str, files: dict[str, str], *, sdist: bool = True) -> None:
        commit = self.toy.commit(tag, files, {"third_party/sub": self.sub.commits[sub]})
        name = f"toy-{tag.removeprefix('v')}"
        if sdist:
            self.index.files[f"{name}.tar.gz"] = sdist_of(name, files, commit)

    def site(self, home: Path, *, unreachable: tuple[str, ...] = ()) -> Site:
        """A checkout with the stack; repositories in `unreachable` have no mirror."""
        checkout = home / "checkout"
        constraints = checkout / "constraints"
        (constraints / "toy").mkdir(parents=True)
        shutil.copy2(REPOSITORY / "constraints" / "torch211.toml", constraints)
        (constraints / "toy.toml").write_text(self.stack(), encoding="utf-8")
        child = 'extends = "toy"\ndescription = "the same"\n'
        (constraints / "child.toml").write_text(child, encoding="utf-8")
        for name in ("build-toy-py311.txt", "toolchain.txt"):
            (constraints / "toy" / name).write_text("ninja==1 --hash=…\n", encoding="utf-8")
        series = checkout / "patches" / "toy" / "1.0"
        series.mkdir(parents=True)
        for name, (path, before, after) in PATCHES.items():
            (series / name).write_text(patch(path, before, after, name), encoding="utf-8")
        order = "# in this order\n" + "".join(f"{name}\n" for name in PATCHES)
        (series / "series").write_text(order, encoding="utf-8")
        probes = '["0002-change-setup.patch"]\nfiles = ["a"]\nwhy = "it shows nothing else"\n'
        (series / "probes.toml").write_text(probes, encoding="utf-8")
        mirrors = [
            f'[url "{(self.home / "upstream" / name).as_uri()}"]\n\tinsteadOf = {HOST}toy/{name}\n'
            for name in ("toy", "toy_headers", "toy_sub")
            if name not in unreachable
        ]
        # `toy` is a prefix of the others: git takes the longest that fits
        mirrors += [
            f'[url "{HOST}away/{name}"]\n\tinsteadOf = {HOST}toy/{name}\n' for name in unreachable
        ]
        (home / "gitconfig").write_text("".join(mirrors), encoding="utf-8")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
            "GIT_CONFIG_SYSTEM": os.devnull,
            "UV_DEFAULT_INDEX": self.index.address,
        }
        return Site(checkout=checkout, store=self.store, environment=environment, console=Quiet())

    def stack(self) -> str:
        data = self.index.files["toy-1.0.tar.gz"]
        unpacked = self.home / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(unpacked, filter="data")
        return STACK.format(
            host=HOST,
            commit=self.toy.commits["v1.0"],
            tree=self.toy.tree("v1.0"),
            headers=self.headers.commits["v4.0"],
            headers_tree=self.headers.tree("v4.0"),
            deep=self.sub.commits["one"],
            deep_tree=self.sub.tree("one"),
            sub=self.sub.commits["one"],
            sub_tree=self.sub.tree("one"),
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            sdist_tree=tree_id(unpacked / "toy-1.0"),
        )
