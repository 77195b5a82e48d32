"""Runs kernel checks, each in its own process with a time limit; no failure ends the others.

Standard library only: on a machine with a GPU and torch none of our requirements is installed.
"""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from blackwheel.core import process
from blackwheel.core.archs import Arch
from blackwheel.smoke.checks import answers
from blackwheel.smoke.checks.tables import table_of
from blackwheel.smoke.diagnosis import Diagnosis, from_words, of_crash, python_line

PATCHES: Final = Path(__file__).parents[3] / "patches"
"""The checkout's: PROJECT/checks.py in it has the checks of a project."""
ONE_CHECK: Final = Path(__file__).with_name("one_check.py")
SECONDS: Final = 180
"""A check takes seconds; the driver may compile PTX for a minute first."""
START_SECONDS: Final = 300
"""For the imports before it: torch takes 4 s, and minutes on a machine that is starved."""
GRACE: Final = 20
"""After its own watchdog a process that still lives is stuck in the driver."""
GOOD: Final = ("right", "not-claimed")
_JIT: Final = ("ptx-only", "no-kernel-image")
_PASSED_ON: Final = re.compile("CUDA_VISIBLE_DEVICES|CUDA_CACHE_PATH|.*_ALLOW_OTHER_TORCH")
"""The last switches off the guard of a wheel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """Result of one check."""

    check: str
    name: str
    """`right`, `not-claimed`, or the name of what went wrong."""
    fact: str = ""
    cause: str = ""
    step: str = ""
    seconds: float = 0.0
    code: str = ""
    """`native`, or `PTX compiled at load`; empty where nothing ran."""
    cases: tuple[Mapping[str, Any], ...] = ()

    @property
    def worst(self) -> Mapping[str, Any] | None:
        """The case nearest to its bound."""
        measured = [case for case in self.cases if "error" in case]
        # A bound of 0 asks for equal values: any error is above it.
        return max(
            measured, key=lambda case: case["error"] / (case["bound"] or 1e-300), default=None
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks that are no failure and must be read."""
        return tuple(f"{case['case']}: {case['note']}" for case in self.cases if "note" in case)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """Surroundings of checks: a Python with torch, a device, a wheel's claims."""

    python: Path
    variables: Mapping[str, str]
    device: str = "cuda"
    path: tuple[str, ...] = ()
    """Folders put in front of the module path: an unpacked wheel."""
    claims: Mapping[str, Sequence[str]]
    seconds: float = SECONDS
    seed: int = 0


def claims_of(file: Path, variables: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the features that a wheel claims, from its build variables.

    CLAIMS of its checks names each with its variable, and all words that this may hold.
    """
    return {
        claim: [word.strip() for word in (variables.get(name) or every).split(",")]
        for claim, (name, every) in table_of(file, "CLAIMS").items()
    }


def variables_of(environment: Mapping[str, str], home: str) -> dict[str, str]:
    """Return the environment of a check: choice of GPU, folder of the driver, little else."""
    kept = {name: text for name, text in environment.items() if _PASSED_ON.fullmatch(name)}
    folders = environment.get("LD_LIBRARY_PATH", "").split(":")
    driver = [folder for folder in folders if folder and (Path(folder) / "libcuda.so.1").exists()]
    kept |= {"LD_LIBRARY_PATH": ":".join(driver)} if driver else {}
    # Triton, which torch may import, asks for a home; the loader and ldconfig for a PATH.
    return {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": home, "LC_ALL": "C.UTF-8", **kept}


def arch_of(text: str) -> Arch:
    """Read `12.0a`; the file name of a wheel may name archs that this machine's GPU lacks."""
    found = re.fullmatch(r"(\d+)\.(\d)([af]?)", text)
    if not found:
        raise ValueError(text)
    return Arch(int(found[1]), int(found[2]), found[3])


def without_code(archs: Sequence[str], capability: str) -> str:
    """Return a sentence if a wheel has no code for a device, before any launch; else empty."""
    device = arch_of(capability)
    if not archs or any(arch_of(arch).runs_on(device) for arch in archs):
        return ""
    return f"the wheel holds code for {', '.join(archs)}, and this GPU is {capability}"


def served(arch: str, capability: str) -> bool:
    """Tell whether code of this arch is the code that ran on a device of this capability."""
    return arch.rstrip("af") == capability


def summary(results: Sequence[CheckResult]) -> str:
    """Return a summary: `11 checks right, native`."""
    right = [one for one in results if one.name == "right"]
    bad = [one for one in results if one.name not in GOOD]
    words = [f"{len(right)} checks right"] + ([f"{len(bad)} wrong"] if bad else [])
    words += sorted({one.code for one in right if one.code})
    holes = sum(len(one.notes) for one in right)
    return ", ".join(words + ([f"{holes} notes"] if holes else []))


def cells(result: CheckResult) -> tuple[str, ...]:
    """Return one row of the table of checks."""
    worst = result.worst
    error = f"{worst['error']:.2g} of {worst['bound']:.2g}" if worst else ""
    return (result.check, result.name, error, f"{result.seconds:.2f}", result.code)


def remarks(result: CheckResult) -> tuple[str, ...]:
    """Return the lines below the table: failures, causes, next steps, notes."""
    if result.name == "not-claimed":
        return ()
    named = (("", result.fact), ("cause: ", result.cause), ("next: ", result.step))
    lines = [f"{label}{text}" for label, text in named if text]
    lines += [f"note: {note}" for note in result.notes]
    return tuple(f"{result.check}: {line}" for line in lines)


def checks_of(wheel: str, patches: Path = PATCHES) -> Path:
    """Return the file with the checks of a wheel, by its file name."""
    return patches / re.sub(r"[_.]+", "-", wheel.partition("-")[0]).lower() / "checks.py"


def fresh_seed() -> int:
    """Return a new seed: fixed inputs find the same faults for ever."""
    return secrets.randbelow(2**31)


def run_checks(
    file: Path,
    bench: Bench,
    *,
    modules: Sequence[str],
    only: Sequence[str] = (),
    on_result: Callable[[CheckResult], None] = lambda _: None,
) -> tuple[CheckResult, ...]:
    """Run every check of a file; each gets a process of its own."""
    needs, results = table_of(file, "NEEDS"), []
    for check in table_of(file, "CHECKS"):
        if only and check not in only:
            continue
        claim, needed = needs.get(check, needs.get("*", ("", "")))
        if claim and needed not in bench.claims[claim]:
            fact = f"the wheel was built without '{needed}' of its {claim.replace('_', ' ')}"
            result = CheckResult(check=check, name="not-claimed", fact=fact)
        else:
            result = run_check(file, check, bench, modules=modules)
        on_result(result)
        results.append(result)
    return tuple(results)


def run_check(file: Path, check: str, bench: Bench, *, modules: Sequence[str]) -> CheckResult:
    """Run one check without JIT; where that finds no native code, once more with it."""
    refused = {**bench.variables, "CUDA_DISABLE_PTX_JIT": "1"}
    result = _once(file, check, replace(bench, variables=refused), modules)
    if bench.device == "cpu":
        return result
    if result.name not in _JIT:
        return replace(result, code="native" if result.name == "right" else "")
    again = _once(file, check, bench, modules)
    return replace(again, code="PTX compiled at load" if again.name == "right" else "")


def device_facts(bench: Bench) -> dict[str, Any]:
    """Return torch and device in the smoke environment; an empty device means no GPU."""
    with tempfile.TemporaryDirectory() as folder:
        result, code, said = _start(Path(folder), bench, {"modules": []})
    if result is None or not answers.are_facts(result):
        found = from_words(said) or Diagnosis(name="torch-failed", fact=_tail(said))
        return {"device": "", "capability": "", "failed": f"{found.name}: {found.fact} ({code})"}
    return result


def _once(file: Path, check: str, bench: Bench, modules: Sequence[str]) -> CheckResult:
    with tempfile.TemporaryDirectory() as folder:
        request = {"checks": str(file), "check": check, "modules": list(modules)}
        seen, code, said = _start(Path(folder), bench, request)
    if seen is not None and code == 0 and answers.is_outcome(seen):
        cases = tuple(seen["cases"])
        how = {"cause": _cause(seen["name"]), "step": _step(seen["name"])}
        found = Diagnosis(name=seen["name"], fact=seen["fact"], **how)
        return _result(check, found, float(seen["seconds"]), cases)
    return _result(check, diagnosis(code, said, bench.seconds))


def _result(
    check: str, found: Diagnosis, seconds: float = 0.0, cases: tuple[Mapping[str, Any], ...] = ()
) -> CheckResult:
    words = asdict(found)
    return CheckResult(check=check, seconds=seconds, cases=cases, **words)


def _cause(name: str) -> str:
    return {
        "unwritten-output": "a kernel that was not launched, or ends before its last tile",
        "wrong-result": "a wrong kernel, or one compiled for another layout of its inputs",
        "unclear-refusal": "the call failed, but not in the wheel's own words",
    }.get(name, "")


def _step(name: str) -> str:
    return "" if name == "right" else "run the check again with its seed; keep the wheel off"


def _start(
    folder: Path, bench: Bench, request: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, int, str]:
    """Start one process; return what it wrote, its exit code (0 for none) and what it said."""
    asked, written = folder / "request.json", folder / "result.json"
    asked.write_text(
        json.dumps(
            {
                **request,
                "result": str(written),
                "maps": str(folder / "maps"),
                "seconds": bench.seconds,
                "start_seconds": START_SECONDS,
                "seed": bench.seed,
                "device": bench.device,
                "claims": {key: list(value) for key, value in bench.claims.items()},
                "path": list(bench.path),
            }
        ),
        encoding="utf-8",
    )
    argv = [str(bench.python), "-I", str(ONE_CHECK), str(asked)]
    try:
        done = process.capture(
            argv,
            environment=bench.variables,
            cwd=folder,
            timeout=START_SECONDS + bench.seconds + GRACE,
            check=False,
        )
        code, said = done.code, done.stderr
    except subprocess.TimeoutExpired as late:
        code, said = 128 + signal.SIGKILL, f"Timeout (\n{(late.stderr or b'').decode()}"
    return answers.written(written), code, said


def diagnosis(code: int, said: str, seconds: float) -> Diagnosis:
    """Explain the end of a check that wrote no result."""
    if "Timeout (" in said:
        line = python_line(said)
        return Diagnosis(
            name="hung",
            fact=f"no end after {seconds:g} s" + (f", at {line}" if line else ""),
            cause="a kernel that waits for ever, or a driver that does not answer",
            step="nvidia-smi, and dmesg for an Xid: invoke explain LINE tells what it means",
        )
    if code > 128:
        crash = of_crash(signal.Signals(code - 128).name, said)
        case = re.findall(r"^case: (.+)$", said, re.MULTILINE)
        return replace(crash, fact=f"{crash.fact}, in the case {case[-1]}") if case else crash
    found = from_words(said)
    if found:
        return found
    fact = _tail(said) or f"exit code {code}"
    return Diagnosis(name="raised", fact=fact, cause="an error that is not known here")


def _tail(said: str) -> str:
    """The line that names the exception, for its message may have many; else the last."""
    lines = [line for line in said.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"(\[rank\d+\]: )?[\w.]*(Error|Exception)\b", line)]
    return (named or lines or [""])[-1][:400]
