"""Objects are reused by the content of their inputs: real ninja, CMake, g++ and isolation.

No clock is changed: what a wrong one leaves behind are times of files and of ninja's log.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blackwheel.builder import objects
from blackwheel.builder.inside import inputs
from blackwheel.builder.workspace import Workshop, lay_out_launcher
from blackwheel.core import isolation
from blackwheel.sources import patch, tree
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.patch import PatchedTree
from blackwheel.stacks.records import GitPin, ProjectPin

MODES = [
    pytest.param(mode, marks=pytest.mark.skipif(bool(why), reason=why))
    for mode, why in (
        (isolation.NAMESPACES, isolation.available_isolation().reason),
        (isolation.PROCESSES, ""),
    )
]
DAY = 86400 * 10**9

NINJA = """\
rule cxx
  command = $launcher g++ -O1 -I. -D$flag $dirs -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule generate
  command = cp $in $out
rule link
  command = g++ -shared -o $out $in
build made.h: generate ../made.in
build $here/one.o: cxx ../one.cpp | made.h
build two.o: cxx ../two.cpp
build lib.so: link $here/one.o two.o
"""
SETUP = """\
import os, subprocess, sys
os.makedirs("build", exist_ok=True)
head = ["launcher", "flag", "dirs"]
text = "".join(f"{name} = {os.environ[name]}\\n" for name in head)
text += f"here = {os.getcwd()}/build\\n" + open("rules.ninja").read()
open("build/build.ninja", "w").write(text)
sys.exit(subprocess.run(["ninja", "-C", "build"]).returncode)
"""
CMAKE = """\
cmake_minimum_required(VERSION 3.18)
project(toy CXX)
file(STRINGS flags.txt FLAGS)
add_custom_command(OUTPUT made.h COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_SOURCE_DIR}/made.in made.h
  DEPENDS ${CMAKE_SOURCE_DIR}/made.in)
add_library(lib MODULE one.cpp two.cpp made.h)
target_include_directories(lib PRIVATE ${CMAKE_BINARY_DIR})
target_compile_definitions(lib PRIVATE ${FLAG} ${FLAGS})
separate_arguments(INCLUDE UNIX_COMMAND "${INCLUDE}")
target_compile_options(lib PRIVATE -O1 ${INCLUDE})
set_target_properties(lib PROPERTIES PREFIX "" OUTPUT_NAME lib)
"""
FILES = {
    "one.cpp": '#include "made.h"\n#include "common.h"\nint one() { return MADE + COMMON; }\n',
    "two.cpp": "#include <near.h>\nint two() { return NEAR + VALUE; }\n",
    "common.h": "#define COMMON 1000\n",
    "made.in": "#define MADE 1\n",
    "far/near.h": "#define NEAR 7\n",
    "close/other.h": "",
    "nested/v1/value.h": "#define VALUE 1\n",
    "flags.txt": "",
    "rules.ninja": NINJA,
    "setup.py": SETUP,
    "CMakeLists.txt": CMAKE,
}

FRESH: dict[str, bytes] = {}
"""Libraries of builds from the start: no place of a build is in them."""


@dataclass
class Toy:
    """One build tree in a store, built as an upstream does."""

    home: Path
    kind: str
    mode: str
    files: dict[str, str] = field(default_factory=lambda: dict(FILES))
    nested: str = "nested/v1"
    flag: str = "PLAIN"

    @property
    def shop(self) -> Workshop:
        return Workshop(root=self.home / "store" / "builds" / self.kind)

    def build(self, shift: Callable[[Workshop], None] | None = None) -> tuple[bytes, list[str]]:
        """Bring the sources up to date and build; return the library, and what was compiled."""
        paths = isolation.fixed_paths(self.mode, self.home / "store")
        patched = self.patched()
        folders = {paths.src: self.shop.src, paths.work: self.shop.work, paths.tmp: self.shop.tmp}
        if self.shop.src.exists():
            objects.Tree(
                src=self.shop.src,
                folders=folders,
                patched=patched.root,
                wanted=tree.rows(patched.root),
                before=patch.synced(self.shop.manifest),
            ).drop_unproved()
        for folder in (self.shop.src, self.shop.work / "bin", self.shop.tmp):
            folder.mkdir(parents=True, exist_ok=True)
        patch.sync(patched, self.shop.src, manifest=self.shop.manifest)
        if shift:
            shift(self.shop)
        lay_out_launcher(self.shop.work / "bin")
        self.shop.records.unlink(missing_ok=True)
        self.run(paths)
        lines = self.shop.records.read_text("utf-8") if self.shop.records.exists() else ""
        compiled = sorted(json.loads(line)["source"] for line in lines.splitlines())
        return (self.shop.src / "build" / "lib.so").read_bytes(), compiled

    def patched(self) -> PatchedTree:
        root = self.home / "patched"
        shutil.rmtree(root, ignore_errors=True)
        for name, text in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        pin = ProjectPin(version="1", modules=("toy",), source=GitPin(url="x", commit="0" * 40))
        source = SourceTree(
            project="toy", pin=pin, root=root, origin="git", commit="", tree="", nested=()
        )
        return PatchedTree(source=source, root=root, patches=(), tree=tree.tree_id(root))

    def run(self, paths: isolation.Paths) -> None:
        launcher = [sys.executable, "-I", "-S", f"{paths.work}/bin/launcher.py"]
        dirs = f"-I{paths.src}/close -I{paths.src}/far"
        dirs += f" -include {paths.src}/{self.nested}/value.h"
        words = [sys.executable, "setup.py"]
        if self.kind == "cmake":
            given = {
                "CMAKE_CXX_COMPILER_LAUNCHER": ";".join(launcher),
                "INCLUDE": dirs,
                "FLAG": self.flag,
            }
            cmake = " ".join(f"'-D{name}={value}'" for name, value in given.items())
            words = ["sh", "-ec", f"cmake -G Ninja -S . -B build {cmake}; ninja -C build"]
        spec = isolation.Spec(
            mode=self.mode,
            argv=tuple(words),
            root=paths.root,
            binds={name: getattr(self.shop, name) for name in ("src", "work", "tmp")},
            cwd=paths.src,
            keep=(self.home, Path(sys.prefix)),
            lock=isolation.fixed_lock(self.home / "store") if self.mode == "processes" else None,
        )
        (self.home / "store" / "locks").mkdir(exist_ok=True)
        variables = {
            "PATH": os.environ["PATH"],
            "BLACKWHEEL_RECORDS": f"{paths.work}/objects.jsonl",
            "launcher": " ".join(launcher),
            "flag": self.flag,
            "dirs": dirs,
        }
        argv = isolation.isolated_command(spec, self.shop.root / "spec.json")
        done = subprocess.run(argv, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def fresh(self) -> bytes:
        """Return the library of a build from the start, of the same sources."""
        same = json.dumps([self.kind, self.files, self.nested, self.flag])
        if same not in FRESH:
            FRESH[same] = self._fresh()
        return FRESH[same]

    def _fresh(self) -> bytes:
        other = Toy(
            home=self.home, kind=self.kind, mode=self.mode, files=self.files, nested=self.nested
        )
        other.flag = self.flag
        kept = self.shop.root.with_name("kept")
        self.shop.root.rename(kept)
        made = other.build()[0]
        shutil.rmtree(self.shop.root)
        kept.rename(self.shop.root)
        return made


def ahead(shop: Workshop) -> None:
    """Make all that a build wrote as late as a clock a day ahead did; sources keep their times."""
    sources = patch.synced(shop.manifest)
    for path in shop.src.rglob("*"):
        if path.is_file() and path.relative_to(shop.src).as_posix() not in sources:
            late = path.stat().st_mtime_ns + DAY
            os.utime(path, ns=(late, late))
    late_log(shop)


def late_log(shop: Workshop) -> None:
    """Make ninja's log alone a day late."""
    for log in shop.src.rglob(".ninja_log"):
        head, *lines = log.read_text("utf-8").splitlines()
        rows = [line.split("\t") for line in lines]
        for row in rows:
            row[2] = str(int(row[2]) + DAY)
        text = "\n".join([head, *("\t".join(row) for row in rows)])
        log.write_text(f"{text}\n", encoding="utf-8")


def early_sources(shop: Workshop) -> None:
    """Make the sources older than every output, as a clock that was set back does."""
    early = time.time_ns() - 300 * DAY
    for name in patch.synced(shop.manifest):
        os.utime(shop.src / name, ns=(early, early))


def header(toy: Toy) -> None:
    toy.files["common.h"] = "#define COMMON 2000\n"


def patch_removed(toy: Toy) -> None:
    toy.files["common.h"] = FILES["common.h"]


def source(toy: Toy) -> None:
    toy.files["two.cpp"] += "int three() { return 3; }\n"


def variable(toy: Toy) -> None:
    toy.flag = "VALUED=1"
    toy.files["one.cpp"] += "#ifdef VALUED\nint valued() { return 1; }\n#endif\n"


def variable_alone(toy: Toy) -> None:
    toy.flag = "PLAIN"


def nested_commit(toy: Toy) -> None:
    toy.files["nested/v1/value.h"] = "#define VALUE 11\n"


def nested_moved(toy: Toy) -> None:
    toy.files["nested/v2/value.h"] = "#define VALUE 22\n"
    del toy.files["nested/v1/value.h"]
    toy.nested = "nested/v2"


def found_before(toy: Toy) -> None:
    toy.files["close/near.h"] = "#define NEAR 77\n"


def generated(toy: Toy) -> None:
    toy.files["made.in"] = "#define MADE 2\n"


BOTH, ONE, TWO = ["one.cpp", "two.cpp"], ["one.cpp"], ["two.cpp"]
CHANGES = [
    (header, ONE),
    (patch_removed, ONE),
    (source, TWO),
    (variable, BOTH),
    (variable_alone, BOTH),
    (nested_commit, BOTH),
    (nested_moved, BOTH),
    (found_before, TWO),
    (generated, ONE),
]


@pytest.mark.parametrize(
    ("kind", "clock"),
    [("ninja", ahead), ("ninja", late_log), ("cmake", late_log), ("cmake", early_sources)],
)
@pytest.mark.parametrize("mode", MODES)
def test_every_change_gives_the_bytes_of_a_fresh_build_whatever_the_clock_was(
    tmp_path: Path, kind: str, mode: str, clock: Callable[[Workshop], None]
) -> None:
    toy = Toy(home=tmp_path, kind=kind, mode=mode)
    before, compiled = toy.build()
    assert compiled == BOTH
    for change, wanted in CHANGES:
        change(toy)
        if clock is not early_sources:
            clock(toy.shop)
        made, compiled = toy.build(early_sources if clock is early_sources else None)
        assert set(wanted) <= set(compiled), change.__name__
        assert made != before, change.__name__
        assert made == toy.fresh(), change.__name__
        before = made


@pytest.mark.parametrize("kind", ["ninja", "cmake"])
def test_objects_of_the_same_contents_are_reused(tmp_path: Path, kind: str) -> None:
    toy = Toy(home=tmp_path, kind=kind, mode=MODES[0].values[0])  # type: ignore[arg-type]
    before = toy.build()[0]
    assert toy.build() == (before, []), "what a command of its own makes is made again, and equal"
    header(toy)
    assert toy.build()[1] == ONE


@pytest.mark.parametrize("what", ["object", "note", "no note"])
def test_an_object_whose_bytes_or_note_changed_is_compiled_again(tmp_path: Path, what: str) -> None:
    toy = Toy(home=tmp_path, kind="ninja", mode=isolation.PROCESSES)
    before = toy.build()[0]
    target = toy.shop.src / "build" / "two.o"
    note = Path(f"{target}{inputs.SUFFIX}")
    place = target if what == "object" else note
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    state = place.stat()
    place.write_bytes(data)
    os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))
    if what == "no note":
        note.unlink()
    made, compiled = toy.build()
    assert "two.cpp" in compiled
    assert made == before


def test_what_a_compiler_read_is_found_in_every_form_of_its_rule() -> None:
    text = "a.o: \\\n /src/a.cu /usr/x\\ y.h\\\r\n  /src/$$b.h\n\n/src/a.cu:\n"
    assert inputs.read_files(text) == ["/src/a.cu", "/usr/x y.h", "/src/$b.h"]
    assert inputs.told_in(["nvcc", "-MF", "a.d", "-c", "a.cu"]) == "a.d"
    assert inputs.told_in(["nvcc", "--dependency-output=b.d"]) == "b.d"
    assert inputs.told_in(["g++", "-MF"]) == ""
    assert inputs.whole(["g++", "-MMD"]) == ["g++", "-MD"]


@pytest.fixture
def unit(tmp_path: Path) -> tuple[list[str], Path]:
    """An object and its notes; its command reads a header of the second of two folders."""
    for name in ("first", "second", "src"):
        (tmp_path / name).mkdir()
    (tmp_path / "second/near.h").write_text("#define NEAR 1\n")
    (tmp_path / "src/a.c").write_text('#include "near.h"\nint a = NEAR;\n')
    target = tmp_path / "a.o"
    words = ["gcc", "-I", f"{tmp_path}/first", f"-I{tmp_path}/second", "-MD", "-MF", "a.d"]
    words += ["-c", f"{tmp_path}/src/a.c", "-o", str(target)]
    subprocess.run(words, cwd=tmp_path, check=True)
    inputs.note(words, str(target), str(tmp_path))
    return words, tmp_path


def test_object_of_the_same_inputs_looks_new_and_its_inputs_are_told_again(
    unit: tuple[list[str], Path],
) -> None:
    words, folder = unit
    told = folder / "a.d"
    before = inputs.read_files(told.read_text())
    told.unlink()  # ninja takes it
    os.utime(folder / "a.o", ns=(0, 0))
    assert inputs.unchanged(words, str(folder / "a.o"), str(folder))
    assert sorted(inputs.read_files(told.read_text())) == sorted(before)
    assert (folder / "a.o").stat().st_mtime > (folder / "src/a.c").stat().st_mtime


@pytest.mark.parametrize(
    "change",
    [
        "second/near.h",
        "src/a.c",
        "a.o",
        "first/near.h",
        "src/near.h",
        "a.o.inputs",
        "command",
        "more",
    ],
)
def test_object_of_which_anything_differs_is_not_the_same(
    unit: tuple[list[str], Path], change: str
) -> None:
    words, folder = unit
    if change == "command":
        words = [*words, "-O2"]
    elif change == "more":  # words of a file, which may say something else by now
        words = [*words, f"@{folder}/more.rsp"]
        (folder / "more.rsp").write_text("-O2\n")
        subprocess.run(words, cwd=folder, check=True)
        inputs.note(words, str(folder / "a.o"), str(folder))
    else:
        (folder / change).write_text("#define NEAR 2\n")
    assert not inputs.unchanged(words, str(folder / "a.o"), str(folder))
