"""Writes the container files of a stack, to build its wheels and to run them (`dockerfiles`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import replace_file
from blackwheel.core.site import Site
from blackwheel.stacks import loader, projects
from blackwheel.stacks.records import Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A base image whose own Python is the one that is wanted."""

    image: str
    glibc: str


BASES: Final = {
    "3.11": Base(image="debian:12-slim", glibc="2.36"),
    "3.12": Base(image="ubuntu:24.04", glibc="2.39"),
    "3.13": Base(image="debian:13-slim", glibc="2.41"),
}
_ON: Final = " \\\n#     "
_NEVER: Final = (
    "# Never run under Docker where it was written. The RUN lines of stack stable for Python 3.11\n"
    "# ran in a Debian 12 root file system (benchmarks/containers.md); hadolint finds nothing.\n"
)
_APT: Final = (
    "# hadolint ignore=DL3008\n"
    "RUN apt-get update && apt-get install -y --no-install-recommends \\\n"
    "    {packages} \\\n"
    "  && rm -rf /var/lib/apt/lists/*\n"
)


def write(site: Site, stack: str, *, python: str = "", out: str = "") -> int:
    """Write both files of a stack into `docker/`, or another folder; name them."""
    pin = loader.load(stack, site.constraints)
    version = python or pin.python[0]
    folder = Path(out).expanduser().absolute() if out else site.checkout / "docker"
    texts = files(pin, version, site.patches)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace_file(folder / name, text.encode())
        site.console.result(str(folder / name))
    return Exit.OK


def files(stack: Stack, python: str, patches: Path) -> dict[str, str]:
    """Return the text of each file; raise `no-base-image` or `no-container-file`."""
    known = [version for version in stack.python if version in BASES]
    if python not in known:
        raise BlackwheelError(
            "no-base-image",
            f"no base image is known that has Python {python} and that stack {stack.name} serves",
            where="--python",
            fix=f"--python {' or '.join(known)}",
            code=Exit.USAGE,
        )
    if stack.toolchain.source == "host":
        raise BlackwheelError(
            "no-container-file",
            f"stack {stack.name} takes CUDA {stack.toolchain.cuda} of the host, and no image with\n"
            "it was ever seen here",
            where=f"constraints/{stack.name}.toml, toolchain.source",
            fix="a stack whose compiler comes from the package registry: --stack stable",
            code=Exit.USAGE,
        )
    return {
        "Dockerfile.build": _build(stack, python),
        "Dockerfile.serve": _serve(stack, python, patches),
    }


def _head(stack: Stack, python: str, does: str, lines: str) -> str:
    """What both files say first, and their base image."""
    base = BASES[python]
    option = "" if python == stack.python[0] else f" --python {python}"
    return (
        f"# {does}\n"
        f"# Made by `invoke dockerfiles --stack {stack.name}{option}`: change the stack, or that.\n"
        f"{_NEVER}{lines}"
        f"# Python {python} and glibc {base.glibc} are the base image's own. It has no digest,\n"
        "# since no registry of images was in reach. Pin the one that you trust:\n"
        f"#   --build-arg BASE={base.image}@sha256:…\n"
        f"ARG BASE={base.image}\n"
        "FROM ${BASE}\n"
    )


def _build(stack: Stack, python: str) -> str:
    name = f"blackwheel-build-{stack.name}"
    lines = (
        f"#   docker build -f docker/Dockerfile.build -t {name} .\n"
        f"#   docker run --rm --security-opt seccomp=unconfined -v blackwheel-store:/store \\\n"
        f'#     -v "$PWD/wheels:/blackwheel/wheels" {name}\n'
        "# Without seccomp=unconfined there are no namespaces, and no byte-for-byte promise.\n"
    )
    packages = "ca-certificates g++ git python3 python3-dev python3-venv"
    return (
        _head(stack, python, f"Builds the wheels of stack {stack.name}; no system CUDA.", lines)
        + _APT.format(packages=packages)
        + "COPY . /blackwheel\n"
        "WORKDIR /blackwheel\n"
        "RUN python3 -m venv /opt/blackwheel \\\n"
        "  && /opt/blackwheel/bin/pip install --no-cache-dir -e .\n"
        "ENV PATH=/opt/blackwheel/bin:$PATH BLACKWHEEL_HOME=/store\n"
        'ENTRYPOINT ["invoke"]\n'
        f'CMD ["build-wheels", "--stack", "{stack.name}"]\n'
    )


def _serve(stack: Stack, python: str, patches: Path) -> str:
    name = f"blackwheel-serve-{stack.name}"
    modules = [module for project in stack.build for module in stack.projects[project].modules]
    known = (projects.load(patches, project).serve for project in stack.build)
    served = next(filter(None, known), None)  # the one that listens on a port
    variables = {"HF_HOME": "/models", **(served.variables if served else {})}
    told = [f"{variable}={value}" for variable, value in variables.items()]
    run = (
        f"#   docker run --gpus all --ipc=host -p {served.port}:{served.port}"
        " -v /srv/models:/models \\\n"
        f"#     -e {' -e '.join(told)} {name} \\\n"
        f"#     {served.line(between=_ON)}\n"
        if served
        else f"#   docker run --gpus all --ipc=host -it {name}\n"
    )
    lines = (
        "# CONTEXT holds requirements.txt of `invoke lock-consumer` and wheels/ with the files:\n"
        f"#   docker build -f docker/Dockerfile.serve -t {name} CONTEXT\n"
        f"{run}"
        f"# The host needs NVIDIA's driver {stack.driver} or newer and its container toolkit.\n"
    )
    packages = "ca-certificates gcc libc6-dev python3 python3-dev python3-venv"
    imports = (
        "from importlib import import_module, util; "
        f"[import_module(name) for name in {modules!r} if util.find_spec(name)]"
    )
    return (
        _head(stack, python, f"Runs the wheels of stack {stack.name}.", lines)
        + "# gcc and Python.h: Triton compiles its launchers at run time.\n"
        + _APT.format(packages=packages)
        + "RUN python3 -m venv /opt/serve\n"
        "COPY requirements.txt /tmp/requirements.txt\n"
        "COPY wheels /tmp/wheels\n"
        f"# A wheel that asks for a glibc above {BASES[python].glibc}, or another torch, fails at\n"
        "# its import, and no image is made.\n"
        "RUN /opt/serve/bin/pip install --no-cache-dir --require-hashes \\\n"
        "    --find-links /tmp/wheels -r /tmp/requirements.txt \\\n"
        f'  && /opt/serve/bin/python -c "{imports}"\n'
        f"ENV PATH=/opt/serve/bin:$PATH {' '.join(told)}\n"
        + (f"EXPOSE {served.port}\n" if served else "")
        + 'CMD ["python3"]\n'
    )
