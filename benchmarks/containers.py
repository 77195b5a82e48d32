"""Run a container file's RUN lines in a Debian root file system: root, debootstrap, no Docker.

    python benchmarks/containers.py docker/Dockerfile.serve CONTEXT --work FOLDER

FROM becomes debootstrap's minbase of the same release (once, kept in FOLDER), COPY a copy, RUN
`/bin/sh -c` behind chroot in namespaces of its own. No image: no layers, no limits, not slim.
How this machine reaches package registries goes in by `--set NAME=VALUE` and `--bind PATH[:INSIDE]`
(read-only), for the run only. `--then COMMAND` is run at the end as `docker run` would; with
`--kept` in the root that the run before left.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

RELEASES = {"debian:12-slim": "bookworm", "debian:13-slim": "trixie"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Word and rest of each instruction; comments go, continued lines are joined."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest


def filled(text: str, variables: Mapping[str, str]) -> str:
    """A text with $NAME and ${NAME} put in, as Docker does outside of RUN."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: variables.get(found[1], ""), text)


class Container:
    """A root file system, and what ENV and WORKDIR have said so far."""

    def __init__(self, root: Path, binds: list[str], passed: Mapping[str, str]) -> None:
        self.root, self.binds = root, ["/etc/resolv.conf", "/etc/hosts", *binds]
        self.passed = passed
        self.variables = {"PATH": PATH}
        self.arguments: dict[str, str] = {}
        self.folder = "/"

    def run(self, argv: list[str]) -> int:
        """Run a command inside; mounts and processes end with it."""
        root = shlex.quote(str(self.root))
        # A container's root is a mount; what makes namespaces inside relies on it.
        lines = ["set -e", f"mount --bind {root} {root}", f"cd {root}"]
        lines += ["mount -t proc proc proc", "mount --rbind /dev dev"]
        for path in self.binds:
            outside, _, target = path.partition(":")
            inside = self.root / (target or outside).lstrip("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.mkdir(exist_ok=True) if Path(outside).is_dir() else inside.touch()
            lines.append(f"mount -o bind,ro {shlex.quote(outside)} {shlex.quote(str(inside))}")
        inner = f"cd {shlex.quote(self.folder)} && exec {shlex.join(argv)}"
        lines.append(f"exec chroot . /bin/sh -c {shlex.quote(inner)}")
        outer = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c"]
        person = (self.root / "etc" / "passwd").read_text(encoding="utf-8").partition("\n")[0]
        environment = {"HOME": person.split(":")[5], **self.variables, **self.passed}
        return subprocess.run(
            [*outer, "\n".join(lines)], env=environment, check=False, stdin=subprocess.DEVNULL
        ).returncode


def base(image: str, work: Path) -> Path:
    """The root file system that stands in for a base image, made once."""
    release = RELEASES[image]
    root = work / release
    if not root.is_dir():
        half = work / f"{release}.half"
        shutil.rmtree(half, ignore_errors=True)
        log = work / f"{release}.log"
        with log.open("w", encoding="utf-8") as sink:
            argv = ["debootstrap", "--variant=minbase", release, str(half)]
            subprocess.run(argv, check=True, stdout=sink, stderr=sink)
        half.rename(root)
    return root


def main() -> int:
    """Run the file from its first line to its last; print one row an instruction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("context", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--set", dest="passed", action="append", default=[])
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("--then", action="append", default=[])
    parser.add_argument("--kept", action="store_true")
    options = parser.parse_args()
    work = options.work.absolute()
    passed = dict(pair.split("=", 1) for pair in options.passed)
    container = Container(work / f"root-{options.file.name}", options.bind, passed)
    steps = list(instructions(options.file.read_text(encoding="utf-8")))
    steps += [("then", command) for command in options.then]
    for word, rest in steps:
        if options.kept and word in ("FROM", "COPY", "RUN"):
            continue
        began = time.monotonic()
        code = step(word, rest, container, context=options.context, work=work)
        row = f"{word} | {rest[:90]} | {time.monotonic() - began:.1f} s | {code}"
        sys.stderr.write(f"==> {row}\n")
        if code:
            return code
    return 0


def step(word: str, rest: str, container: Container, *, context: Path, work: Path) -> int:
    """Do what one instruction says; return its exit code."""
    if word in ("RUN", "then"):
        return container.run(["/bin/sh", "-c", rest])
    if word == "ARG":
        name, _, value = rest.partition("=")
        container.arguments[name] = value
    elif word == "FROM":
        shutil.rmtree(container.root, ignore_errors=True)
        source = base(filled(rest, container.arguments), work)
        subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(container.root)], check=True)
    elif word == "ENV":
        for pair in shlex.split(filled(rest, container.variables)):
            name, _, value = pair.partition("=")
            container.variables[name] = value
    elif word == "WORKDIR":
        container.folder = rest
        (container.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif word == "COPY":
        name, target = rest.split()
        copied(context / name, container.root / target.lstrip("/"))
    elif word not in ("EXPOSE", "CMD", "ENTRYPOINT"):
        raise SystemExit(f"{word} is not known here")
    return 0


def copied(source: Path, target: Path) -> None:
    """COPY: a file, or what is in a folder, less what .dockerignore names."""
    if not source.is_dir():
        shutil.copyfile(source, target)
        return
    file = source / ".dockerignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    named = [line for line in lines if line and not line.startswith("#")]
    left = [f"--exclude=./{line}".replace("./**/", "").rstrip("/") for line in named]
    target.mkdir(parents=True, exist_ok=True)
    pack = subprocess.Popen(
        ["tar", "-C", str(source), *left, "-cf", "-", "."], stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-C", str(target), "-xf", "-"], stdin=pack.stdout, check=True)
    if pack.wait():
        raise SystemExit(f"{source} cannot be copied")


if __name__ == "__main__":
    sys.exit(main())
