"""Recomputes the statements of a wheel's receipt and of its shelf, without network."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from blackwheel.audit import audit
from blackwheel.core import archs, isolation, process
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pytorch import guard, identity
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import receipt_path
from blackwheel.receipts.document import BEFORE_SMOKE
from blackwheel.shelf import verify_pages, verify_receipt
from blackwheel.shelf.verify_pages import Check, compared, compared_all
from blackwheel.sources.series import patch_digests, series_of
from blackwheel.stacks import key as keys
from blackwheel.stacks import loader, records
from blackwheel.stacks.request import Request, build_variables, left_out

OPEN: Final = (
    ("sources", "no git host is asked: commits and trees are held to the pin alone"),
    ("objects", "only the build saw them: invoke build-wheels --again must give the same bytes"),
    ("links", "no environment is looked at: invoke audit links the wheel in one"),
    ("smoke", "no environment is looked at: nox -s smoke imports, and compares torch's libraries"),
)
"""What is believed because the chain of digests holds it, and which command proves it again."""
_MALFORMED: Final = (KeyError, TypeError, ValueError, AttributeError, IndexError)
_UNREADABLE: Final = (*_MALFORMED, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """One wheel, or the pages of one project, with every recomputed statement."""

    path: Path
    checks: tuple[Check, ...]

    @property
    def faults(self) -> tuple[Check, ...]:
        """Checks that failed."""
        return tuple(check for check in self.checks if check.ok is False)


def show_verify(site: Site, what: str, *, as_json: bool = False) -> int:
    """Verify a wheel, a folder, a stack's shelf or, for an empty `what`, every shelf."""
    done = verify_all(site, wheels_of(site, what))
    faults = sum(len(one.faults) for one in done)
    if as_json:
        site.console.json([_document(site, one) for one in done])
    else:
        for one in done:
            rows = [(c.state, c.what, _shortened(c.found)) for c in one.checks if c.ok is not False]
            site.console.table(_short(site, one.path), ("", "check", "found"), rows)
            for check in one.faults:
                found, expected = check.found or "nothing", check.expected or "nothing"
                site.console.result(f"FAULT {check.what}")
                site.console.result(f"        found {found}\n     expected {expected}")
            site.console.result("")
        site.console.result(f"{faults or 'no'} fault{'' if faults == 1 else 's'}")
    return Exit.INDEX if faults else Exit.OK


def _shortened(text: str) -> str:
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"\1", text)


def _document(site: Site, one: Verified) -> dict[str, Any]:
    checks = [
        {"state": c.state, "what": c.what, "found": c.found, "expected": c.expected}
        for c in one.checks
    ]
    return {"path": _short(site, one.path), "faults": len(one.faults), "checks": checks}


def _short(site: Site, path: Path) -> str:
    inside = path.is_relative_to(site.checkout)
    return str(path.relative_to(site.checkout) if inside else path)


def show_environment(site: Site, python: str, *, as_json: bool = False) -> int:
    """Show the report of `environment_report`; return the exit code."""
    done = environment_report(site, python, as_json=as_json)
    site.console.result(done.stdout.rstrip("\n"))
    return Exit.TORCH if done.code else Exit.OK


def environment_report(site: Site, python: str, *, as_json: bool = False) -> process.Completed:
    """Run `doctor/environment.py` in another interpreter, or in that of an environment's folder.

    Raises `no-python`.
    """
    path = Path(python).expanduser()
    program = str(path / "bin" / "python" if path.is_dir() else python)
    argv = [
        program,
        str(Path(__file__).parents[1] / "doctor" / "environment.py"),
        *(["--json"] if as_json else []),
    ]
    done = process.capture(argv, environment=site.environment, cwd=Path.cwd(), check=False)
    if done.code not in (0, 1, 2) or not done.stdout:
        raise BlackwheelError(
            "no-python",
            "\n".join([f"{program} ended with exit code {done.code}", *_tail(done.stderr)]),
            where="invoke doctor --env",
            fix="name a Python 3.9 or newer, or the folder of a virtual environment",
            code=Exit.USAGE,
        )
    return done


def _tail(text: str) -> list[str]:
    return text.splitlines()[-process.TAIL_LINES :]


def wheels_of(site: Site, what: str) -> tuple[Path, ...]:
    """Return the wheel files that `what` names; raise `no-wheel` where there is none."""
    path = Path(what).absolute()
    if not what:
        found = sorted(site.wheels.glob("*/*.whl"))
    elif path.is_dir():
        found = sorted(path.rglob("*.whl"))
    elif path.suffix == ".whl":
        found = [path] if path.is_file() else []
    else:
        loader.load(what, site.constraints)
        found = sorted((site.wheels / what).glob("*.whl"))
    if not found:
        raise BlackwheelError(
            "no-wheel",
            f"there is no wheel in '{what or 'wheels/'}'",
            where="invoke verify",
            fix="name a wheel file, a folder with wheels, or a stack whose wheels are shelved",
            code=Exit.USAGE,
        )
    return tuple(found)


def verify_all(site: Site, wheels: Sequence[Path]) -> tuple[Verified, ...]:
    """Verify each wheel, and the pages of the projects of wheels on a shelf."""
    done = [verify(site, wheel) for wheel in wheels]
    shelves = {wheel.parent for wheel in wheels if verify_pages.is_shelf(wheel.parent)}
    for shelf in sorted(shelves):
        done.append(Verified(path=shelf / "simple", checks=tuple(verify_pages.page_checks(shelf))))
    return tuple(done)


def verify(site: Site, wheel: Path) -> Verified:
    """Recompute everything that wheel, receipt and this checkout allow."""
    checks: list[Check] = []
    if verify_pages.is_shelf(wheel.parent):
        checks += verify_pages.metadata_checks(wheel)
    try:
        document = receipts.load(receipt_path(wheel))
        broken = list(_receipt_checks(document, wheel))
        checks += broken
        if all(check.ok for check in broken):
            checks += _section_checks(site, wheel, receipts.sections(document))
    except BlackwheelError as error:
        found = f"{error.name}: {'; '.join(error.fact.splitlines())}"
        checks.append(Check(what="receipt", ok=False, found=found, expected="a whole receipt"))
    except _MALFORMED as error:
        found = f"a section is not as blackwheel writes it: {type(error).__name__} {error}"
        checks.append(Check(what="receipt", ok=False, found=found, expected="a whole receipt"))
    return Verified(path=wheel, checks=tuple(checks))


def _receipt_checks(document: receipts.Document, wheel: Path) -> Iterator[Check]:
    """The wheel's bytes and the chain."""
    expected = receipts.subject(document)[1]
    yield compared("wheel sha256", verify_pages.sha256(wheel), expected)
    on_shelf = verify_pages.is_shelf(wheel.parent)
    stages = receipts.STAGES if on_shelf else BEFORE_SMOKE
    faults = receipts.verify(document, wheel, stages=stages)
    for fault in faults:
        stage, _, words = fault.partition(": ")
        if not words.startswith("the wheel's sha256"):  # said above
            what = f"receipt {stage}"
            yield Check(what=what, ok=False, found=words, expected="as the build wrote it")
    if not faults:
        yield Check(what="receipt", ok=True, found=f"{len(receipts.chain(document))} stages")


def _section_checks(
    site: Site, wheel: Path, held: Mapping[str, receipts.Section]
) -> Iterator[Check]:
    parts: dict[str, str] = held["stack"]["key"]["parts"]
    yield from verify_receipt.title_checks(wheel, held, parts)
    yield from verify_receipt.key_checks(held, parts)
    yield from verify_receipt.torch_checks(held["torch"], parts)
    request, checks = _checkout_checks(site, held, parts)
    yield from checks
    yield from _audit_checks(wheel, held["audit"], parts, request)
    yield from _guard_checks(wheel, held, parts)
    yield from (Check(what=what, ok=None, found=why) for what, why in OPEN)


def _checkout_checks(
    site: Site, held: Mapping[str, receipts.Section], parts: Mapping[str, str]
) -> tuple[Request | None, list[Check]]:
    """Compute the key from this checkout's stack, patches and lock files.

    A wheel of an earlier label cannot be held to a stack that has moved on.
    """
    name, project = held["stack"]["name"], held["stack"]["project"]
    try:
        stack = loader.load(name, site.constraints)
        stack.project(project)
        request = Request(
            stack=stack,
            project=project,
            python=parts["python"],
            archs=tuple(parts["archs"].split(";")),
            without=left_out(parts),
        )
        version = request.version
        built = f"{held['stack']['version']}+{parts['label']}"
        if version != built:
            why = f"stack {name} has moved on to {version}"
            return None, [Check(what="checkout", ok=None, found=why)]
        key = keys.key(
            request,
            patches=patch_digests(series_of(site, request)),
            constraints=site.constraints,
            isolation=parts["isolation"],
        )
    except BlackwheelError as error:
        found = f"{error.name}: {'; '.join(error.fact.splitlines())}"
        gone = isinstance(error, loader.UnknownStackError | records.UnknownProjectError)
        expected = "" if gone else "a checkout that can compute the key"
        ok = None if gone else False
        return None, [Check(what="checkout", ok=ok, found=found, expected=expected)]
    now = dict(key.parts)
    checks = [
        compared(f"checkout {part}", parts.get(part, "none"), now.get(part, "none"))
        for part in sorted({*parts, *now})
        if parts.get(part) != now.get(part)
    ]
    if not checks:
        checks = [Check(what="checkout", ok=True, found=f"key {key.digest}")]
        checks += _command_checks(site, held, request)
    return request, checks


def _command_checks(
    site: Site, held: Mapping[str, receipts.Section], request: Request
) -> Iterator[Check]:
    """What the build was told, and which torch its lock accepts; only for the checkout's key."""
    paths = isolation.fixed_paths(held["isolation"]["mode"], site.store)
    filled = build_variables(request, jobs=held["objects"]["jobs"], paths=paths)
    # How many compilers may queue is the affair of the machine, not of the stack.
    fixed = [name for name, text in request.pin.variables.items() if "{jobs}" not in text]
    variables = {name: filled[name] for name in fixed}
    told = {name: held["command"]["variables"].get(name, "none") for name in variables}
    for name, value in variables.items():
        if told[name] != value:
            yield compared(f"variable {name}", told[name], value)
    if told == variables:
        yield Check(what="variables", ok=True, found=f"{len(variables)} of the stack")
    accepted = identity.locked_digests(request.lock("build", site.constraints))
    yield compared_all("torch wheels of the lock", held["torch"]["wheel_sha256"], accepted)


def _audit_checks(
    wheel: Path, seen: receipts.Section, parts: Mapping[str, str], request: Request | None
) -> Iterator[Check]:
    """The audit again, and what it read of each library."""
    report = audit.inspect(
        wheel,
        archs=[archs.parse(arch) for arch in parts["archs"].split(";")],
        expected=audit.expectation(request) if request else None,
    )
    for finding in report.fatal:
        yield Check(what="audit", ok=False, found=str(finding), expected="no fatal finding")
    now = {one.path: json.loads(json.dumps(asdict(one))) for one in report.libraries}
    before = {one["path"]: one for one in seen["libraries"]}
    yield compared_all("libraries", sorted(now), sorted(before))
    for path in sorted({*now} & {*before}):
        # What another version of blackwheel reads besides is no contradiction.
        for name in sorted({*now[path]} & {*before[path]}):
            if now[path][name] != before[path][name]:
                found, expected = json.dumps(now[path][name]), json.dumps(before[path][name])
                yield Check(what=f"{path} {name}", ok=False, found=found, expected=expected)
    if not report.fatal and now == before:
        count = sum(one.kernels.native for one in report.libraries)
        yield Check(what="audit", ok=True, found=f"{count} native kernels")


def _guard_checks(
    wheel: Path, held: Mapping[str, receipts.Section], parts: Mapping[str, str]
) -> Iterator[Check]:
    """What the process that ran setup.py wrote into the wheel of the torch it met."""
    try:
        told = guard.built_for(wheel)
    except _UNREADABLE as error:
        yield Check(what=guard.GUARD, ok=False, found=str(error), expected="a whole file")
        return
    if told is None:
        why = "the wheel carries no guard against another torch"
        yield Check(what=guard.GUARD, ok=None, found=why)
        return
    version = f"{held['stack']['version']}+{parts['label']}"
    expected = guard.expected_guard(held["torch"], version)
    differences = guard.guard_differences(told, expected)
    for name, found, wanted in differences:
        what = f"{guard.GUARD} {name}"
        yield Check(what=what, ok=False, found=str(found), expected=str(wanted))
    if not differences:
        yield Check(what=guard.GUARD, ok=True, found=f"torch {told['version']}")
