"""The three that build: this project, `pip wheel` and fromager, each with the same source.

All get the patched source, the hashed pins, the toolkit and the variables of one stack; pip and
fromager take their packages from one folder of the locked wheels.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

from bench import CHANGED, REQUIRES, Bench, Served, compiled, git_bytes
from measure import FailedError
from uv import find_uv_bin

from blackwheel.core import machine

HERE = Path(__file__).parent


class Blackwheel:
    """This project: the whole chain, from environment to shelf."""

    name = "blackwheel"

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.stack = bench.request.stack.name

    def _build(self, name: str, *words: str, tag: str = "", **variables: str) -> dict[str, Any]:
        log = self.bench.log(f"blackwheel-{name}")
        log.unlink(missing_ok=True)
        before = len(self._records(tag))
        # Without --replace the wheel that `change` left would be in the way.
        jobs = () if self.bench.jobs == os.cpu_count() else ("--jobs", str(self.bench.jobs))
        call = ("build-wheels", "--stack", self.stack, *jobs, "--replace", *words)
        cost = self.bench.invoke(f"blackwheel-{name}", *call, **variables)
        records = self._records(tag)
        if len(records) < before or "--again" in words:
            before = 0
        new = records[before:]
        compiling = max((r["began"] + r["seconds"] for r in new), default=0.0) - min(
            (r["began"] for r in new), default=0.0
        )
        return {
            **cost.record,
            "compiled": sum(not r["cached"] for r in new),
            "compiling": round(compiling, 2),
            "wheel": self._shelved(),
            "cache": "".join(re.findall(r": (cache: .*)", log.read_text(encoding="utf-8"))),
        }

    def _shelved(self) -> str:
        """Return the digest of this stack's newest wheel."""
        wheels = (self.bench.checkout.root / "wheels" / self.stack).glob("*.whl")
        newest = max(wheels, key=lambda wheel: wheel.stat().st_mtime, default=None)
        return hashlib.sha256(newest.read_bytes()).hexdigest() if newest else ""

    def _records(self, tag: str = "") -> list[dict[str, Any]]:
        tree = self.bench.store / "builds" / self.bench.request.slug
        path = tree.with_name(tag or tree.name) / "work" / "objects.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def fetch(self) -> dict[str, Any]:
        """Fetch the pinned sources into a store that holds nothing."""
        store = self.bench.work / "fetched"
        shutil.rmtree(store, ignore_errors=True)
        words = ("clone", "--stack", self.stack)
        cost = self.bench.invoke("blackwheel-fetch", *words, BLACKWHEEL_HOME=str(store))
        sdists = sum(file.stat().st_size for file in store.glob("sdists/*.tar.gz"))
        return {**cost.record, "bytes": sdists + git_bytes(store / "git")}

    def environment(self) -> dict[str, Any]:
        """Make the build's environment as its nox session does, uv's cache warm."""
        uv, place = find_uv_bin(), self.bench.work / "environment"
        script = (
            f'"{uv}" venv -q --clear -p "$1" "$2"'
            f' && "{uv}" pip sync -q --require-hashes -p "$2" "$3"'
        )
        argv = ("sh", "-c", script, "sh", self.bench.python, place, self.bench.lock)
        self.bench.do("blackwheel-environment", *argv)  # fills uv's cache, if need be
        return self.bench.do("blackwheel-environment", *argv).record

    def cold(self) -> dict[str, Any]:
        """Build with nothing but sources, toolkit and uv's cache."""
        self.bench.tree()
        _ = self.bench.cuda
        shutil.rmtree(self.bench.work / "shared" / "nox")
        (self.bench.work / "shared" / "nox").mkdir()
        return self._build("cold", "--again")

    def warm(self) -> dict[str, Any]:
        """Build from nothing with a compile cache that has everything."""
        cached = {"BLACKWHEEL_CACHE": "sccache"}
        filling = self._build("fill", "--again", **cached)
        return {**self._build("warm", "--again", **cached), "filling": filling}

    def second(self) -> dict[str, Any] | None:
        """Build for another Python of the stack with the cache that `warm` left."""
        request = self.bench.request
        found = machine.interpreters(request.stack.python, self.bench.environment)
        others = [one.version for one in found if one.version != request.python and one.header]
        if not others:
            return None
        tag = f"cp{others[0].replace('.', '')}"
        words = ("--again", "--python", others[0])
        cost = self._build("second", *words, tag=tag, BLACKWHEEL_CACHE="sccache")
        return {**cost, "python": others[0]}

    def again(self) -> dict[str, Any]:
        """Run the same command where nothing changed: the median of three."""
        runs = sorted((self._build("again") for _ in range(3)), key=lambda run: run["wall"])
        return {**runs[1], "walls": [run["wall"] for run in runs]}

    def change(self) -> dict[str, Any]:
        """Add a patch that changes one kernel file."""
        request = self.bench.request
        series = self.bench.checkout.root / "patches" / request.project / request.pin.version
        name = "0099-add-a-line.patch"
        head = "From: A <a@b.invalid>\nSubject: one line more\n\nFor the benchmark.\n\n"
        tail = "Origin: vendor\nForwarded: not-needed\nLast-Update: 2026-11-25\n---\n"
        (series / name).write_text(f"{head}{tail}{self.bench.patch()}", encoding="utf-8")
        with (series / "series").open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        try:
            return self._build("change")
        finally:
            (series / name).unlink()
            text = (series / "series").read_text(encoding="utf-8")
            (series / "series").write_text(text.replace(f"{name}\n", ""), encoding="utf-8")


class Pip:
    """`pip wheel` in an environment of the same pins: what a careful person types."""

    name = "pip wheel"

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.env, self.tree = bench.work / "pip" / "env", bench.work / "pip" / "tree"

    def fetch(self) -> dict[str, Any]:
        """Clone whole repositories, as upstream's instructions say, less what is not compiled."""
        pin, place = self.bench.request.pin, self.bench.work / "pip" / "clones"
        shutil.rmtree(place, ignore_errors=True)
        urls = dict.fromkeys([pin.source.url, *(nested.url for nested in pin.nested)])
        clone = 'git clone -q --bare --no-local "$url" "$(basename "$url")"'
        script = f'for url in "$@"; do {clone} || exit; done'
        place.mkdir(parents=True)
        cost = self.bench.do("pip-fetch", "sh", "-c", script, "sh", *urls, cwd=place)
        fetched = git_bytes(place)
        shutil.rmtree(place)
        return {**cost.record, "bytes": fetched, "sdist": pin.sdist.size if pin.sdist else 0}

    def environment(self) -> dict[str, Any]:
        """Make the environment with venv and pip, packages at hand."""
        wheels = self.bench.wheels()
        script = (
            'rm -rf "$2" && "$1" -m venv "$2" && "$2/bin/pip" install -q --no-index'
            ' --find-links "$3" --require-hashes -r "$4"'
        )
        argv = ("sh", "-c", script, "sh", self.bench.python, self.env, wheels, self.bench.lock)
        return self.bench.do("pip-environment", *argv).record

    def _wheel(self, name: str) -> dict[str, Any]:
        if not self.env.is_dir():
            raise FailedError("pip wheel has no environment yet: --only pip-wheel:environment")
        log = self.bench.log(f"pip-{name}")
        log.unlink(missing_ok=True)
        path = f"{self.env}/bin:{self.bench.cuda}/bin:{self.bench.environment['PATH']}"
        variables = {**self.bench.environment, **self.bench.variables, "PATH": path}
        out = self.bench.work / "pip" / "out"
        words = ("wheel", "-v", "--no-build-isolation", "--no-deps", "--wheel-dir", out, self.tree)
        cost = self.bench.do(f"pip-{name}", self.env / "bin" / "pip", *words, environment=variables)
        return {**cost.record, "compiled": compiled(log)}

    def cold(self) -> dict[str, Any]:
        """Build in the environment that is there."""
        shutil.rmtree(self.tree, ignore_errors=True)
        shutil.copytree(self.bench.tree(), self.tree)
        return self._wheel("cold")

    def warm(self) -> dict[str, Any] | None:
        """It has no compile cache."""
        return None

    second = warm

    def again(self) -> dict[str, Any]:
        """Run the same command in the same tree."""
        return self._wheel("again")

    def change(self) -> dict[str, Any]:
        """Change one kernel file in the tree."""
        name = CHANGED[self.bench.request.project]
        text = (self.tree / name).read_text(encoding="utf-8")
        (self.tree / name).write_text(f"// one line more\n{text}", encoding="utf-8")
        return self._wheel("change")


class Fromager:
    """fromager's build-sequence, its build environment from the same wheels, network cut."""

    name = "fromager"

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.home = bench.work / "fromager"
        self.release = f"{bench.request.project.replace('-', '_')}-{bench.request.pin.version}"

    def _ready(self) -> None:
        """Its environment, settings, packages and source archive."""
        venv = self.home / "venv"
        if not (self.home / "ready").exists():
            self.bench.do("fromager-setup", self.bench.python, "-m", "venv", venv)
            words = ("install", "-q", "--require-hashes", "-r", HERE / "fromager.txt")
            self.bench.do("fromager-setup", venv / "bin" / "pip", *words)
            (self.home / "ready").touch()
        # Its own server hands out what lies in this folder.
        prebuilt = self.home / "wheels-repo" / "prebuilt"
        prebuilt.mkdir(parents=True, exist_ok=True)
        for wheel in self.bench.wheels().glob("*.whl"):
            if not (prebuilt / wheel.name).exists():
                (prebuilt / wheel.name).symlink_to(wheel)
        pins = re.findall(r"^[\w.-]+==[^\s;\\]+", self.bench.lock.read_text(), re.MULTILINE)
        (self.home / "constraints.txt").write_text("\n".join(pins) + "\n", encoding="utf-8")
        settings = self.home / "overrides" / "settings"
        settings.mkdir(parents=True, exist_ok=True)
        names = re.findall(r"^([\w.-]+)==", self.bench.lock.read_text(), re.MULTILINE)
        wanted = {*self.bench.request.pin.requirements, *REQUIRES, "torch"}
        requires = [word for word in sorted(wanted) if re.split("[<>=!~ ]", word)[0] in names]
        variables = {n: v for n, v in self.bench.variables.items() if n != "MAX_JOBS"}
        path = f"{self.bench.cuda}/bin:$PATH"
        text = json.dumps(
            {
                "env": {**variables, "PATH": path},
                "build_options": {"memory_per_job_gb": 5},
                "project_override": {"update_build_requires": requires},
            },
            indent=2,
        )
        name = self.bench.request.project.replace("-", "_")
        (settings / f"{name}.yaml").write_text(text + "\n", encoding="utf-8")
        archive = self.home / "sdists" / f"{self.release}.tar.gz"
        if not archive.exists():
            archive.parent.mkdir(exist_ok=True)
            with tarfile.open(archive, "w:gz") as file:
                file.add(self.bench.tree(), arcname=self.release)

    def _sequence(self, name: str, *words: str) -> dict[str, Any]:
        self._ready()
        log = self.bench.log(f"fromager-{name}")
        log.unlink(missing_ok=True)
        pin = self.bench.request.pin
        # Its own server lists a `+` as %2B, and does not find the wheel that it made by that name.
        with Served(self.home) as address:
            order = {
                "req": f"{self.bench.request.project}=={pin.version}",
                "dist": self.bench.request.project,
                "version": pin.version,
                "prebuilt": False,
                "source_url": f"{address}/sdists/{self.release}.tar.gz",
                "source_url_type": "sdist",
            }
            (self.home / "order.json").write_text(json.dumps([order]), encoding="utf-8")
            limits = ("--constraints-file", self.home / "constraints.txt")
            program = self.home / "venv" / "bin" / "fromager"
            server = ("--build-wheel-server-url", f"{address}/wheels-repo/simple/")
            argv = (
                *(program, "--verbose", "--network-isolation", *limits, *server),
                *("--jobs", str(self.bench.jobs), "build-sequence", *words, "order.json"),
            )
            path = f"{program.parent}:{self.bench.environment['PATH']}"
            variables = {**self.bench.environment, "PATH": path}
            cost = self.bench.do(f"fromager-{name}", *argv, environment=variables, cwd=self.home)
        build = self.home / "work-dir" / self.release / "build.log"
        spent = re.findall(
            r"prepare_build_environment took (\d+):(\d+):([\d.]+)",
            log.read_text(encoding="utf-8", errors="replace"),
        )
        hours, minutes, seconds = map(float, spent[-1]) if spent else (0.0, 0.0, 0.0)
        return {
            **cost.record,
            "compiled": compiled(build) if spent else 0,
            "environment": hours * 3600 + minutes * 60 + seconds,
        }

    def fetch(self) -> dict[str, Any]:
        """Say how large the archive is that it downloads: the same patched source."""
        self._ready()
        return {"bytes": (self.home / "sdists" / f"{self.release}.tar.gz").stat().st_size}

    def environment(self) -> dict[str, Any] | None:
        """It makes one inside each build: see `cold`."""
        return None

    def cold(self) -> dict[str, Any]:
        """Build with nothing but the source's archive and the wheels at hand."""
        for name in ("work-dir", "sdists-repo", "wheels-repo"):
            shutil.rmtree(self.home / name, ignore_errors=True)
        self._patches().unlink(missing_ok=True)
        return self._sequence("cold")

    def warm(self) -> dict[str, Any] | None:
        """It has no compile cache."""
        return None

    second = warm

    def again(self) -> dict[str, Any]:
        """Run the same command: it finds its wheel."""
        return self._sequence("again")

    def change(self) -> dict[str, Any]:
        """Add a patch that changes one kernel file; it unpacks and builds from nothing."""
        path = self._patches()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.bench.patch(), encoding="utf-8")
        try:
            return self._sequence("change", "--force")
        finally:
            path.unlink()

    def _patches(self) -> Path:
        return self.home / "overrides" / "patches" / self.release / "0001-add-a-line.patch"


CONTENDERS = (Blackwheel, Pip, Fromager)
