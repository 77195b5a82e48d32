"""Recomputes the statements of a wheel's receipt and of its shelf, without network."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blackwheel.audit.linkage import Linkage, linkage
from blackwheel.core import process
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.core.zips import UNREADABLE
from blackwheel.pytorch import guard
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import receipt_path
from blackwheel.receipts.document import BEFORE_SMOKE
from blackwheel.shelf import (
    shelved_here,
    verify_command,
    verify_leaves,
    verify_pages,
    verify_receipt,
    verify_signature,
)
from blackwheel.shelf.verify_audit import abi_checks, audit_checks, audited
from blackwheel.shelf.verify_checkout import checkout_checks
from blackwheel.shelf.verify_pages import Check, compared
from blackwheel.stacks import loader
from blackwheel.stacks.key import Key
from blackwheel.stacks.request import Request, oldest_torch

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

SOURCES: Final = "no git host is asked: commits and trees are held to the pin alone"
_SIGNED: Final = "as it was signed"
_SHELVED: Final = "as this store shelved it"
_MALFORMED: Final = (KeyError, TypeError, ValueError, AttributeError, IndexError)
_UNREADABLE: Final = (*_MALFORMED, *UNREADABLE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """One wheel, or the pages of one project, with every recomputed statement."""

    path: Path
    checks: tuple[Check, ...]
    receipt: receipts.Document | None = None
    """As it was read for these checks."""
    bound: tuple[Linkage, ...] = ()
    """The wheel's libraries as the audit read them."""

    @property
    def faults(self) -> tuple[Check, ...]:
        """Checks that failed."""
        return tuple(check for check in self.checks if check.ok is False)


def show_verify(site: Site, what: str, *, key: Sequence[str] = (), as_json: bool = False) -> int:
    """Verify a wheel, a folder, a stack's shelf or, for an empty `what`, every shelf.

    With files of public keys each wheel must be signed by one of those.
    """
    done = verify_all(site, wheels_of(site, what), verify_signature.public_keys(key))
    faults = sum(len(one.faults) for one in done)
    if as_json:
        site.console.document("verify", wheels=[_document(site, one) for one in done])
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
    foreign = any(check.what == verify_signature.WHAT for one in done for check in one.faults)
    return Exit.SIGNATURE if foreign else Exit.INDEX if faults else Exit.OK


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
    if not shutil.which(program, path=site.environment.get("PATH")):
        raise _unusable("no-python", f"there is no Python '{program}'")
    argv = [
        program,
        str(Path(__file__).parents[1] / "doctor" / "environment.py"),
        *(["--json"] if as_json else []),
    ]
    done = process.capture(argv, environment=site.environment, cwd=Path.cwd(), check=False)
    if done.code not in (0, 1, 2) or not done.stdout:
        ended = f"{program} ended with exit code {done.code}"
        raise _unusable(
            "no-python", "\n".join([ended, *done.stderr.splitlines()[-process.TAIL_LINES :]])
        )
    return done


def _unusable(name: str, fact: str) -> BlackwheelError:
    fix = "name a Python 3.9 or newer, or the folder of a virtual environment"
    return BlackwheelError(name, fact, where="invoke doctor --env", fix=fix, code=Exit.USAGE)


def wheels_of(site: Site, what: str, verb: str = "verify") -> tuple[Path, ...]:
    """Return the wheel files that `what` names.

    Raises `no-wheel` for a file that is not there, and `nothing-to-verify` for an index, a folder
    or a shelf without a wheel: an index that somebody emptied is no index that verifies.
    """
    path = Path(what).absolute()
    if not what:
        found = sorted(site.wheels.glob("*/*.whl"))
    elif path.is_dir():
        found = sorted(path.rglob("*.whl"))
    elif path.suffix == ".whl":
        if not path.is_file():
            raise BlackwheelError(
                "no-wheel",
                f"there is no file '{what}'",
                where=f"invoke {verb}",
                fix="name a wheel file, a folder with wheels, or a stack whose wheels are shelved",
                code=Exit.USAGE,
            )
        found = [path]
    else:
        loader.load(what, site.constraints)
        found = sorted((site.wheels / what).glob("*.whl"))
    if not found:
        raise BlackwheelError(
            "nothing-to-verify",
            f"there is no wheel in '{what or 'wheels/'}'",
            where=f"invoke {verb}",
            fix="invoke build-wheels fills a shelf, invoke publish a folder; or name a wheel\n"
            "file, a folder with wheels, or a stack whose wheels are shelved",
            code=Exit.INDEX,
        )
    return tuple(found)


def verify_all(
    site: Site, wheels: Sequence[Path], signers: Sequence[SSlibKey] = ()
) -> tuple[Verified, ...]:
    """Verify each wheel, and the pages of the projects of wheels on a shelf."""
    done = [verify(site, wheel, signers=signers) for wheel in wheels]
    shelves = {wheel.parent for wheel in wheels if verify_pages.is_shelf(wheel.parent)}
    for shelf in sorted(shelves):
        done.append(Verified(path=shelf / "simple", checks=tuple(verify_pages.page_checks(shelf))))
    return tuple(done)


def verify(
    site: Site,
    wheel: Path,
    *,
    asked: Request | None = None,
    key: Key | None = None,
    smoked: bool | None = None,
    signers: Sequence[SSlibKey] = (),
) -> Verified:
    """Recompute everything that wheel, receipt and this checkout allow.

    `asked` is the request whose wheel it must be, which it then must link, too; `key` is that of
    its build. A wheel must be `smoked` on a shelf, and where that is asked for. With `signers` one
    of them must have signed it: then the signed receipt is enough, and its stack may be unknown.
    """
    document, bound = None, tuple[Linkage, ...]()
    signed, signature = verify_signature.signature_checks(wheel, signers)
    checks = [signature] if signature else []
    trusted = bool(signers and signed)
    on_shelf = verify_pages.is_shelf(wheel.parent)
    if on_shelf:
        checks += verify_pages.metadata_checks(wheel)
    if signers and not trusted and not receipt_path(wheel).exists():
        found = "not read: no signature of it holds"
        return Verified(path=wheel, checks=(*checks, Check(what="receipt", ok=None, found=found)))
    try:
        if trusted and not receipt_path(wheel).exists():
            document = signed[0].statement
        else:
            document = receipts.load(receipt_path(wheel))
        digest = verify_pages.sha256(wheel)
        must_be_smoked = on_shelf if smoked is None else smoked
        broken = list(_receipt_checks(document, wheel, digest, must_be_smoked))
        checks += broken
        if all(check.ok for check in broken):
            held = receipts.sections(document)
            known = shelved_here.is_known(site.store, wheel.name, document) if on_shelf else None
            parts: dict[str, str] = held["stack"]["key"]["parts"]
            request, told = checkout_checks(
                site, wheel, held, parts, asked=asked, key=key, trusted=trusted
            )
            seen = audited(site, wheel, parts, request, digest=digest)
            bound = linkage(seen.report)
            checks += verify_receipt.title_checks(wheel, held, parts)
            checks += verify_receipt.key_checks(held, parts)
            checks += verify_receipt.torch_checks(held["torch"], parts)
            checks += told
            must_link = asked is not None
            checks += audit_checks(seen, held["audit"], request, must_link=must_link)
            checks += abi_checks(seen, held["audit"], oldest_torch(parts))
            checks += _section_checks(site, wheel, held, parts, request, trusted=trusted)
            checks += verify_signature.sbom_checks(wheel, document, signed, bound, trusted=trusted)
            checks += _witness_checks(known=known, trusted=trusted)
    except BlackwheelError as error:
        found = f"{error.name}: {'; '.join(error.fact.splitlines())}"
        checks.append(Check(what="receipt", ok=False, found=found, expected="a whole receipt"))
    except _MALFORMED as error:
        found = f"a section is not as blackwheel writes it: {type(error).__name__} {error}"
        checks.append(Check(what="receipt", ok=False, found=found, expected="a whole receipt"))
    return Verified(path=wheel, checks=tuple(checks), receipt=document, bound=bound)


def _receipt_checks(
    document: receipts.Document, wheel: Path, digest: str, smoked: bool
) -> Iterator[Check]:
    """The wheel's bytes and the chain."""
    expected = receipts.subject(document)[1]
    yield compared("wheel sha256", digest, expected)
    stages = receipts.STAGES if smoked else BEFORE_SMOKE
    faults = receipts.verify(document, wheel, stages=stages, digest=digest)
    for fault in faults:
        stage, _, words = fault.partition(": ")
        if not words.startswith("the wheel's sha256"):  # said above
            what = f"receipt {stage}"
            yield Check(what=what, ok=False, found=words, expected="as the build wrote it")
    if not faults:
        yield Check(what="receipt", ok=True, found=f"{len(receipts.chain(document))} stages")


def _section_checks(
    site: Site,
    wheel: Path,
    held: Mapping[str, receipts.Section],
    parts: Mapping[str, str],
    request: Request | None,
    *,
    trusted: bool,
) -> Iterator[Check]:
    """The guard in the wheel, what the receipt says twice, and the command."""
    yield from _guard_checks(wheel, held, parts)
    modules = request.pin.modules if request else None
    yield from verify_leaves.twice_checks(wheel, held, parts, modules)
    if request is not None:
        yield from verify_command.command_checks(site, held, request)
    yield Check(what="sources", ok=trusted or None, found=_SIGNED if trusted else SOURCES)


def _witness_checks(*, known: bool | None, trusted: bool) -> Iterator[Check]:
    """Tell who besides the receipt says what nobody can compute again."""
    if known is False:
        found = "another receipt than those with which this store shelved the wheel"
        yield Check(what="shelved here", ok=False, found=found, expected="one of those")
    elif known:
        yield Check(what="shelved here", ok=True, found="with this receipt")
    yield from verify_leaves.said_checks(_SIGNED if trusted else _SHELVED if known else "")


def _guard_checks(
    wheel: Path, held: Mapping[str, receipts.Section], parts: Mapping[str, str]
) -> Iterator[Check]:
    """What the process that ran setup.py wrote into the wheel of the torch it met."""
    try:
        told = guard.built_for(wheel)
    except _UNREADABLE as error:
        yield Check(what=guard.GUARD, ok=False, found=str(error), expected="a whole file")
        return
    if "built_for" not in held["torch"]:
        why = "not held: a receipt of an earlier version of blackwheel"
        yield Check(what="torch built_for", ok=None, found=why)
    if told is None and held["torch"].get("built_for"):
        found = str(held["torch"]["built_for"])
        yield Check(what="torch built_for", ok=False, found=found, expected="no guard in the wheel")
    if told is None:
        why = "the wheel carries no guard against another torch"
        yield Check(what=guard.GUARD, ok=None, found=why)
        return
    version = f"{held['stack']['version']}+{parts['label']}"
    expected = guard.expected_guard(held["torch"], version, oldest_torch(parts))
    differences = guard.guard_differences(told, expected)
    for name, found, wanted in differences:
        yield compared(f"{guard.GUARD} {name}", found, wanted)
    if "built_for" in held["torch"] and held["torch"]["built_for"] != told:
        yield compared("torch built_for", held["torch"]["built_for"], told)
    if not differences:
        yield Check(what=guard.GUARD, ok=True, found=f"torch {told['version']}")
