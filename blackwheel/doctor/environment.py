"""Checks that an installed environment still has the torch that its wheels were built for.

One file, standard library only, Python 3.9 and newer, nothing is imported from the environment:
`docker exec -i CONTAINER python3 - < blackwheel/doctor/environment.py`, or `python3 - --json < …`.
Exit code 0: it does. 1: it does not, or torch has no CUDA, and the cure is printed. 2: no torch.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

GUARD = "_built_for.py"
LABEL = re.compile(r"^(?P<cuda>cu\d+|cpu)torch(?P<torch>\d+(?:\.\d+)+.*?)\.sm\d+[af]?(?:\.|$)")
"""`cu130torch2.11.0.sm120a.1`: the local version of a wheel of blackwheel."""
RELEASE = r"\d{1,9}(?:\.\d{1,9}){0,7}(?!\.?\d)"
FLOOR = re.compile(rf"^torch\s*\(?\s*>=\s*(?P<version>{RELEASE})\s*\)?$", re.IGNORECASE)
"""What a wheel of torch's stable interface requires, and nothing else of torch."""
EXACT = re.compile(r"^torch\s*\(?\s*(?P<how>===?)\s*(?P<version>[^\s,;()]+)\s*\)?$", re.IGNORECASE)
FINE, MISMATCH, NO_TORCH = 0, 1, 2

Facts = dict[str, Any]


def folders() -> list[str]:
    """Return the module folders of this interpreter, without the folder of this file."""
    mine = str(Path(__file__).resolve().parent) if "__file__" in globals() else ""
    paths = [path for path in sys.path if path and os.path.realpath(path) != mine]
    return [path for path in dict.fromkeys(paths) if Path(path).is_dir()]


def assignments(text: str) -> Facts:
    """Read the plain assignments of a module, annotated or not; nothing is executed."""
    values: Facts = {}
    for node in ast.parse(text).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            try:
                value = ast.literal_eval(node.value)
            except (ValueError, TypeError):
                continue
            values.update({one.id: value for one in targets if isinstance(one, ast.Name)})
    return values


def torch_of(paths: list[str]) -> Facts | None:
    """Read the first torch on the path, the one that an import finds."""
    found = [Path(path) for path in paths if (Path(path) / "torch" / "version.py").is_file()]
    if not found:
        return None
    values = assignments((found[0] / "torch" / "version.py").read_text(encoding="utf-8"))
    named = [dist.version for dist in metadata.distributions(name="torch", path=[str(found[0])])]
    return {
        "version": values.get("__version__"),
        "git_version": values.get("git_version"),
        "cuda": values.get("cuda"),
        "distribution": named[0] if named else None,
        "folder": str(found[0]),
        "hidden": [str(path) for path in found[1:]],
    }


def guard_of(dist: metadata.Distribution, guards: list[Path]) -> tuple[str, Facts] | None:
    """Return path and content of the file in which setup.py recorded the torch of the build."""
    listed = (dist.read_text("RECORD") or "").splitlines() if guards else []
    for file in guards:
        name = f"{file.parent.name}/{GUARD}"
        if any(line.startswith(f"{name},") for line in listed):
            try:
                torch = assignments(file.read_text(encoding="utf-8"))["TORCH"]
                if "from" in torch and re.fullmatch(RELEASE, torch["from"]):
                    return name, {"from": torch["from"], "cuda": torch["cuda"]}
                return name, {key: torch[key] for key in ("version", "git_version", "cuda")}
            except (OSError, SyntaxError, ValueError, KeyError, TypeError):
                return name, {}
    return None


def label_of(version: str) -> Facts:
    """Return the torch in the local version of a wheel, as far as it is named there."""
    found = LABEL.match(version.partition("+")[2])
    if not found:
        return {}
    cuda = found["cuda"]
    dotted = f"{cuda[2:-1]}.{cuda[-1]}" if cuda != "cpu" else None
    return {"version": f"{found['torch']}+{cuda}", "cuda": dotted}


def exact_torch(dist: metadata.Distribution) -> str:
    """Return the one torch that a distribution requires: `torch===2.11.0`; empty where it is free.

    A requirement with a marker binds only somewhere, which is not looked into.
    """
    for text in dist.requires or ():
        found = EXACT.match(text.strip())
        if found:
            return f"torch{found['how']}{found['version']}"
    return ""


def oldest_torch(dist: metadata.Distribution) -> str:
    """Return the oldest torch of a distribution that serves all later ones: `2.13.0`, or nothing.

    Every other requirement of torch beside it is one that this file does not understand.
    """
    named = [text.strip() for text in dist.requires or () if re.match(r"torch\W", text + " ", re.I)]
    found = FLOOR.match(named[0]) if len(named) == 1 else None
    return found["version"] if found else ""


def not_below(version: str, oldest: str) -> bool:
    """Tell whether a torch is the oldest or a later one; a pre-release comes before its release."""
    parts = re.match(rf"({RELEASE})(.*)", version.partition("+")[0])
    if not parts:
        return False
    found, wanted = ([int(each) for each in text.split(".")] for text in (parts[1], oldest))
    width = max(len(found), len(wanted))
    found, wanted = (each + [0] * (width - len(each)) for each in (found, wanted))
    return found > wanted or (
        found == wanted and re.fullmatch(r"(\.post\d+)?", parts[2]) is not None
    )


def compared(built: Facts, torch: Facts) -> list[Facts]:
    """Return the differences between the torch of a wheel and the one that was found.

    A wheel that serves later torches wants its own CUDA release line, and no older torch.
    """
    if "from" not in built:
        pairs = [(name, value, torch[name]) for name, value in built.items()]
        return [{"what": w, "built": b, "found": f} for w, b, f in pairs if b != f]
    differences = []
    if not not_below(str(torch["version"]), str(built["from"])):
        wanted = f"{built['from']} or newer"
        differences.append({"what": "version", "built": wanted, "found": torch["version"]})
    lines = [str(one["cuda"]).partition(".")[0] for one in (built, torch)]
    if lines[0] != lines[1]:
        differences.append({"what": "cuda", "built": built["cuda"], "found": torch["cuda"]})
    return differences


def accepts(requirement: str, version: str) -> bool:
    """Tell whether a requirement of torch accepts a version, as PEP 440 says.

    It is `torch==2.11.0`, `torch===2.11.0` or `torch>=2.11.0`.
    """
    _, how, wanted = re.split(r"(={2,3}|>=)", requirement)
    public = version.partition("+")[0]
    if how == ">=":
        return not_below(version, wanted)
    if how == "==" and wanted.endswith(".*"):
        return f"{public}.".startswith(wanted[:-1])
    return version == wanted or (how == "==" and "+" not in wanted and public == wanted)


def examined(dist: metadata.Distribution, torch: Facts | None, guards: list[Path]) -> Facts | None:
    """Compare one distribution with the torch found; None where it is bound to no torch."""
    guard, requirement = guard_of(dist, guards), exact_torch(dist)
    built = guard[1] if guard else label_of(dist.version)
    oldest = oldest_torch(dist) if guard or built else ""
    if oldest:
        requirement = f"torch>={oldest}"
        if not guard:
            built = {"from": oldest, "cuda": built["cuda"]}
    if not guard and not built and not requirement:
        return None
    differences = []
    if guard and not built:
        differences.append({"what": guard[0], "built": "a whole file", "found": "unreadable"})
    elif torch:
        differences += compared(built, torch)
    installed = (torch or {}).get("distribution")
    if installed and requirement and not accepts(requirement, installed):
        differences.append({"what": "requires", "built": requirement, "found": installed})
    return {
        "name": dist.metadata["Name"],
        "version": dist.version,
        "guard": guard[0] if guard else None,
        "built_for": built,
        "requires": requirement or None,
        "differences": differences,
    }


def is_ours(found: Facts) -> bool:
    """Tell whether a wheel was built for one torch, and does not merely require it."""
    return bool(found["guard"] or found["built_for"])


def cure(torch: Facts | None, found: list[Facts]) -> str:
    """Return the one command that repairs the environment.

    What was built for a torch decides which; what else is bound to another is resolved with it.
    """
    ours = [one for one in found if is_ours(one)]
    wanted = {one["requires"] or f"torch=={one['built_for'].get('version')}" for one in ours}
    exact = [one for one in wanted if ">=" not in one]
    if len(exact) == 1:  # it decides, where the others serve it
        version = re.split(r"={2,3}", exact[0])[1]
        wanted = {one for one in wanted if one in exact or not accepts(one, version)}
    if not wanted and torch:
        version = torch["distribution"] or torch["version"]
        version = version.partition("+")[0] if lacks_cuda(torch) else version
        wanted = {f"torch{'==' if '+' in version else '==='}{version}"}
    spoilt = [f"{one['name']}=={one['version']}" for one in ours if not one["built_for"]]
    if spoilt:
        return command(spoilt, reinstall=True)
    if len(wanted) != 1:
        words = " and ".join(sorted(wanted)) or "none"
        return f"no torch serves all of them ({words}): each needs an environment of its own"
    (requirement,) = wanted
    version = re.split(r"={2,3}|>=", requirement)[1]
    others = [o["name"] for o in found if o not in ours and not accepts(o["requires"], version)]
    # An installer finds a version satisfied whose bytes are others: it must be told.
    satisfied = torch and torch["distribution"] and accepts(requirement, torch["distribution"])
    if satisfied and lacks_cuda(torch):  # what a torch with CUDA requires must come, too
        return command([f"torch==={version}", *others], reinstall=False)
    return command([requirement, *others], reinstall=bool(satisfied) and not others)


def command(requirements: list[str], *, reinstall: bool) -> str:
    """Return the command that installs these into this environment, with pip where it has pip."""
    words = " ".join(f"'{one}'" for one in requirements)
    if importlib.util.find_spec("pip"):
        options = "--force-reinstall --no-deps " if reinstall else ""
        return f"{sys.executable} -m pip install {options}{words}"
    options = "--reinstall --no-deps " if reinstall else ""
    return f"uv pip install --python {sys.executable} {options}{words}"


def report() -> tuple[Facts, int]:
    """Examine this interpreter's environment; return the findings and the exit code."""
    paths = folders()
    torch = torch_of(paths)
    seen: dict[str, metadata.Distribution] = {}
    for dist in metadata.distributions(path=paths):
        name = (dist.metadata["Name"] or "").lower().replace("_", "-")
        if name and name != "torch":
            seen.setdefault(name, dist)  # the first on the path is the one that an import finds
    guards = [file for path in paths for file in sorted(Path(path).glob(f"*/{GUARD}"))]
    looked = [examined(dist, torch, guards) for _, dist in sorted(seen.items())]
    found = [one for one in looked if one]
    wrong = any(one["differences"] for one in found) or is_half_overwritten(torch)
    wrong = wrong or lacks_cuda(torch)
    code = NO_TORCH if torch is None else MISMATCH if wrong else FINE
    document = {
        "schema": "blackwheel.environment/1",
        "python": sys.executable,
        "torch": torch,
        "lacks": ["CUDA"] if lacks_cuda(torch) else [],
        "distributions": found,
        "fix": cure(torch, found) if wrong or (code == NO_TORCH and found) else None,
        "exit": code,
    }
    return document, code


def is_half_overwritten(torch: Facts | None) -> bool:
    """Tell whether torch's files are of another release than its metadata names."""
    if not torch or not torch["distribution"]:
        return False
    told = str(torch["version"])
    return torch["distribution"] not in (told, told.partition("+")[0])


def lacks_cuda(torch: Facts | None) -> bool:
    """Tell whether torch was built without CUDA: for the CPU (`+cpu`), or for another GPU."""
    return bool(torch) and not torch["cuda"]  # type: ignore[index]


def lines(document: Facts) -> list[str]:
    """Return the report as a person reads it."""
    torch, found = document["torch"], document["distributions"]
    text = [f"python: {document['python']}"]
    if torch is None:
        text.append("torch:  none is installed")
    else:
        git = (torch["git_version"] or "unknown")[:12]
        cuda = torch["cuda"] or "none"
        text.append(f"torch:  {torch['version']} (git {git}, CUDA {cuda}) in {torch['folder']}")
        text += [f"        hides another one in {folder}" for folder in torch["hidden"]]
    if is_half_overwritten(torch):
        text.append(f"        MISMATCH its metadata says {torch['distribution']}")
    if lacks_cuda(torch):
        text.append("LACKS    CUDA: this torch was built without it, so no NVIDIA GPU is used")
    for one in found:
        bound = "built for" if is_ours(one) else "requires"
        target = one["built_for"].get("version") or one["requires"] or "an unknown torch"
        state = "MISMATCH" if one["differences"] else "ok" if torch else "no torch"
        text.append(f"{state:8} {one['name']} {one['version']}, {bound} {target}")
        text += [
            f"         {each['what']}: {each['built']}, found {each['found']}"
            for each in one["differences"]
        ]
    if not found:
        text.append("no wheel here was built for one torch, or requires exactly one")
    if document["fix"]:
        text.append(f"fix:    {document['fix']}")
        if lacks_cuda(torch):
            text.append(
                "        from an index whose torch has CUDA, as the package registry's: pip and"
            )
            text.append("        uv must not be told of one for the CPU (its address ends in /cpu)")
        if re.search(r"'torch=[^']*\+", document["fix"]):
            text.append("        a torch with a local part (+cu128) has an index of its own:")
            text.append("        add --extra-index-url and the address it was installed from")
    return text


def main(arguments: list[str]) -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="environment.py", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    document, code = report()
    text = json.dumps(document, indent=2) if options.json else "\n".join(lines(document))
    sys.stdout.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
