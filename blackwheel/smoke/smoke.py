"""Smokes a wheel beside the pinned torch: libraries, imports, kernels; returns a SmokeReport."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from blackwheel.core import files, machine, process, records
from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.pytorch import identity as torchpin
from blackwheel.receipts import document
from blackwheel.receipts.beside import receipt_path
from blackwheel.smoke import loading, lookups
from blackwheel.smoke.checks import runner, tables
from blackwheel.smoke.checks.runner import CheckResult
from blackwheel.smoke.loading import Loading
from blackwheel.stacks import projects
from blackwheel.stacks.records import ProjectPin, Stack

IMPORT_SECONDS: Final = 900
"""An import that takes longer hangs; one took 95 s beside a build that has the cores."""
ONLY_IMPORTED: Final = "import only"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The answer of `import_one.py`, as far as it is read."""

    seconds: records.Seconds
    operators: dict[records.Name, int]
    """Operators that the import registered with torch, by namespace."""
    device: records.Name
    capability: records.Name


@dataclass(frozen=True, kw_only=True, slots=True)
class SmokeReport:
    """The results of a wheel that imported beside the pinned torch, with the device."""

    wheel: Path
    torch: torchpin.TorchIdentity
    loading: Loading
    """Every library beside torch alone, and the guard."""
    imports: tuple[tuple[str, float], ...]
    """Module and seconds."""
    device: str
    """The GPU's name, or `import only, because no GPU was found`."""
    kernels: tuple[tuple[str, str], ...]
    """Each arch of the wheel and what ran there: `not run` until a device of it ran the kernels."""
    together: tuple[str, ...]
    """File names of the wheels that lay in the same environment."""
    driver: str = ""
    seed: int = 0
    lookups: str = ""
    """What the project's own script of look-ups said; empty where it has none."""
    checks: tuple[CheckResult, ...] = ()
    """Every kernel check; none where there is no GPU that the wheel has code for."""

    @property
    def gpu(self) -> bool:
        """True if a GPU was found."""
        return not self.device.startswith(ONLY_IMPORTED)

    def section(self) -> dict[str, Any]:
        """Return the receipt's section about smoke."""
        return {
            "torch": self.torch.section(),
            **self.loading.sections(),
            "imports": dict(self.imports),
            "device": self.device,
            "kernels": dict(self.kernels),
            "together": list(self.together),
            "driver": self.driver,
            "seed": self.seed,
            **({"lookups": self.lookups} if self.lookups else {}),
            "checks": [asdict(one) for one in self.checks],
        }


def smoke(
    wheel: Path,
    project: str,
    *,
    stack: Stack,
    patches: Path,
    environment: Path,
    together: tuple[str, ...],
    variables: Mapping[str, str],
    console: Console,
    store: Path | None = None,
    driver: Path | None = None,
    require_gpu: bool = False,
) -> SmokeReport:
    """Load every library of one installed wheel, import its modules, and check its kernels.

    Each in its own process; `patches` holds the project's own files. `driver` is a stand-in for the
    driver's library where there is none.
    Raises what `loading.load` and `loading.require_operators` raise,
    `import-failed` with the interpreter's own words, and `other-torch` where the environment
    holds another torch than the stack's pin or the wheel's receipt, down to its libraries' bytes;
    `no-gpu` where one is required, and `kernels-failed` after the table of all checks.
    """
    pin: ProjectPin = stack.projects[project]
    known, file = projects.load(patches, project), patches / project / projects.CHECKS
    if file.is_file():
        tables.require(file)
    packages = torchpin.site_packages(environment)
    identity = torchpin.seen(packages, store=store)
    torchpin.check(identity, stack.torch, where=str(environment))
    built = _receipt_of(wheel)
    torchpin.check_same(identity, built.get("torch", {}), where=str(environment))
    archs = tuple(built.get("stack", {}).get("archs", stack.archs))
    imports = []
    with console.stage(project, f"smoke {wheel.name}") as stage:
        stage.update(0, len(pin.modules), "its libraries")
        loaded = loading.load(
            wheel,
            modules=pin.modules,
            packages=next(iter(sorted(environment.glob("lib/python3*/site-packages"))), packages),
            python=environment / "bin" / "python",
            variables=variables,
            driver=driver,
            beside=pin.beside,
            serves_later=pin.torch == "abi",
            before_guard=known.smoke.before_guard,
        )
        registered: set[str] = set()
        for number, module in enumerate(pin.modules):
            stage.update(number, len(pin.modules), module)
            seen = _imported(module, environment, variables, wheel)
            imports.append((module, float(seen.seconds)))
            registered |= set(seen.operators)
        loading.require_operators(loaded, known.smoke.operators, wheel, registered)
        stage.update(len(pin.modules), len(pin.modules))
        told = built.get("command", {}).get("variables", pin.variables)
        script = patches / project / projects.LOOKUPS
        found = ""
        if script.is_file():
            found = lookups.look_up(
                script,
                wheel,
                environment=environment,
                variables=variables,
                driver=driver,
                archs=archs,
                told={name: told[name] for name in pin.variables if name in told},
            )
        capability = seen.capability
        device = seen.device and f"{seen.device} ({capability})"
        lack = runner.without_code(archs, capability) if device else "no GPU was found"
        if lack and require_gpu:
            raise _no_gpu(lack, wheel)
        if require_gpu and not (file.is_file() and tables.table_of(file, "CHECKS")):
            raise _no_checks(project, wheel)
        device = device or f"{ONLY_IMPORTED}, because no GPU was found"
        idle = f"; kernels not run: {lack}" if capability and lack else ""
        stage.conclude(f"{device}{idle}")
    console.say(f"{project}: libraries: {loaded}")
    if found:
        console.say(f"{project}: look-ups: {found}")
    smoked = SmokeReport(
        wheel=wheel,
        torch=identity,
        loading=loaded,
        imports=tuple(imports),
        device=device,
        kernels=kernels_not_run(archs, device, capability),
        together=together,
        driver=machine.read_machine().driver,
        lookups=found,
    )
    if lack or not file.is_file():
        return smoked
    return _checked(
        smoked,
        project,
        file,
        modules=pin.modules,
        told=told,
        environment=environment,
        variables=variables,
        console=console,
        capability=capability,
        store=store,
    )


def _checked(
    smoked: SmokeReport,
    project: str,
    file: Path,
    *,
    modules: Sequence[str],
    told: Mapping[str, str],
    environment: Path,
    variables: Mapping[str, str],
    console: Console,
    capability: str,
    store: Path | None,
) -> SmokeReport:
    """Run every check, print their table to its end, and only then raise for what was wrong."""
    bench = runner.Bench(
        python=environment / "bin" / "python",
        variables=variables,
        claims=runner.claims_of(file, told),
        seed=runner.fresh_seed(),
    )
    with console.stage(project, f"kernel checks on {smoked.device}, seed {bench.seed}") as stage:
        total = len(tables.table_of(file, "CHECKS"))
        done: list[CheckResult] = []

        def one(result: CheckResult) -> None:
            done.append(result)
            stage.update(len(done), total, result.check)

        results = runner.run_checks(file, bench, modules=modules, on_result=one)
        stage.conclude(runner.summary(results))
    smoked = replace(smoked, seed=bench.seed, checks=tuple(results))
    sha256 = files.sha256(smoked.wheel)
    keep(store, smoked, sha256)
    columns = ["check", "result", "error of bound", "seconds", "code"]
    console.table(smoked.wheel.name, columns, [runner.cells(result) for result in results])
    for line in [line for result in results for line in runner.remarks(result)]:
        console.result(line)
    bad = [result for result in results if result.name not in runner.GOOD]
    unseen = tables.table_of(file, "UNSEEN")
    fatal = [result for result in bad if result.check not in unseen]
    if fatal:
        raise _kernels_failed(fatal, smoked, bench.seed)
    for result in bad:
        console.say(f"{project}: {result.check} stops nothing: {unseen[result.check]}")
    summary = f"{runner.summary(results)} on {smoked.device}"
    right = any(result.name == "right" for result in results)
    served = [arch for arch, _ in smoked.kernels if right and runner.served(arch, capability)]
    ran = dict.fromkeys(served, summary)
    kernels = tuple((arch, ran.get(arch, words)) for arch, words in smoked.kernels)
    smoked = replace(smoked, kernels=kernels)
    keep(store, smoked, sha256)
    return smoked


def keep(store: Path | None, smoked: SmokeReport, sha256: str) -> None:
    """Keep the results of the checks, right or wrong: a wheel that fails gets no receipt of them.

    `sha256` is that of the wheel. `invoke publish` believes an unsigned receipt that kernels ran
    where this record says so, too.
    """
    if store is None:
        return
    held = {**smoked.section(), "sha256": sha256}
    path = store / "smoke" / f"{smoked.wheel.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace_file(path, json.dumps(held, indent=2).encode())


def _no_checks(project: str, wheel: Path) -> BlackwheelError:
    return BlackwheelError(
        "no-kernel-checks",
        f"{project} has no kernel checks: on this GPU nothing of it would run",
        where=str(wheel),
        fix=f"write patches/{project}/{projects.CHECKS}, or leave --require-gpu out",
        code=Exit.SMOKE,
    )


def _no_gpu(lack: str, wheel: Path) -> BlackwheelError:
    return BlackwheelError(
        "no-gpu",
        f"the kernels of {wheel.name} were not run: {lack}",
        where="--require-gpu",
        fix="run it on a machine with a GPU of the wheel's archs, or without --require-gpu",
        code=Exit.SMOKE,
    )


def _kernels_failed(bad: Sequence[CheckResult], smoked: SmokeReport, seed: int) -> BlackwheelError:
    lines = [f"{one.check}: {one.name}: {one.fact}" for one in bad]
    return BlackwheelError(
        "kernels-failed",
        "\n".join([f"{len(bad)} kernel checks failed on {smoked.device}, seed {seed}", *lines]),
        where=str(smoked.wheel),
        fix=bad[0].step or "the wheel stays off the shelf; the table above has every check",
        code=Exit.SMOKE,
    )


def kernels_not_run(
    archs: Sequence[str], device: str, capability: str
) -> tuple[tuple[str, str], ...]:
    """Return for each arch why no kernel of it ran: an import alone proves none.

    `capability` is the device's, `12.0`; empty where there is no GPU.
    """
    found = f"{device} was found" if capability else "no GPU was found"
    unchecked = f"{found}, but kernels are not checked yet"
    return tuple(
        (arch, f"not run: {unchecked if runner.served(arch, capability) else found}")
        for arch in archs
    )


def _receipt_of(wheel: Path) -> dict[str, document.Section]:
    """The sections of the receipt beside a wheel; none for a wheel from elsewhere."""
    path = receipt_path(wheel)
    return document.sections(document.load(path)) if path.exists() else {}


def _imported(module: str, environment: Path, variables: Mapping[str, str], wheel: Path) -> Seen:
    """Import one module in a process of its own, away from any source tree."""
    probe = Path(__file__).parent / "inside" / "import_one.py"
    argv = [str(environment / "bin" / "python"), "-I", str(probe), module]
    done = process.capture_within(IMPORT_SECONDS, argv, environment=variables, cwd=environment)
    if done.code != 0:
        raise _failed(module, wheel, done.end)
    try:
        return records.last_of(done.stdout, Seen)
    except records.NotARecordError as error:
        raise _failed(module, wheel, f"what it printed last is not the answer: {error}") from None


def _failed(module: str, wheel: Path, words: str) -> BlackwheelError:
    return BlackwheelError(
        "import-failed",
        f"import {module} of {wheel.name} failed\n{words}",
        where=str(wheel),
        fix="a requirement that brings it, in the project's `runtime`, then: nox -s lock; or a"
        " patch that imports it no more"
        if "ModuleNotFoundError: " in words
        else "the wheel stays off the shelf; invoke audit WHEEL tells what it links against",
        code=Exit.SMOKE,
    )
