"""Takes rights away: read-only folders, others' files, noexec, umasks, and TMPDIRs that fail."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from .. import choices
from ..case import Case
from ..mounts import SkippedError, mounted, remounted

DROPPED = "-dac_override,-dac_read_search,-fowner,-chown,-fsetid"
OTHER = 12345
"""A user of whom nobody has heard."""


def _as_ordinary(case: Case) -> tuple[str, ...]:
    """Return the words that take from root the right to others' files; a user has none."""
    if os.geteuid():
        return ()
    if not shutil.which("setpriv"):
        raise SkippedError("setpriv is not here")
    return ("setpriv", f"--bounding-set={DROPPED}", f"--inh-caps={DROPPED}")


def _place(case: Case, words: tuple[str, ...]) -> Path:
    world = case.world
    at = {"prune": world.wheels, "publish": world.published}.get(words[0], world.store)
    # Not HOME: `invoke` itself reads a file there, before anything of blackwheel is imported.
    return case.dice.choice([at, at, world.store, world.tmp])


def _healed(case: Case, at: Path) -> None:
    for path in (at, *at.rglob("*")):
        if not path.is_symlink():
            os.chown(path, os.geteuid(), os.getegid())
            path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IRUSR | stat.S_IWUSR)
            if path.is_dir():
                path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IXUSR)


def read_only(case: Case) -> None:
    """Folders and files without the right to write, or to read, to enter."""
    words = choices.any_command(case)
    at = _place(case, words)
    mode = case.dice.choice([0o555, 0o555, 0o000, 0o444, 0o111])
    paths = [at, *(path for path in at.rglob("*") if not path.is_symlink())]
    chosen = [path for path in paths if path == at or case.dice.random() < 0.4]
    case.note(f"{at.name}: {len(chosen)} of {len(paths)} have mode {mode:o}")
    wrapped = _as_ordinary(case)
    for path in sorted(chosen, reverse=True):
        path.chmod(mode)
    case.cleanups.append(lambda: _healed(case, at))
    case.run(*words, wrapped=wrapped, broken=[case.world.wheels, case.world.published])
    _healed(case, at)
    case.settle(*words)


def other_user(case: Case) -> None:
    """Folders and files that belong to somebody else."""
    words = choices.any_command(case)
    if os.geteuid():
        raise SkippedError("only root may give files away")
    at = _place(case, words)
    paths = [at, *(path for path in at.rglob("*") if not path.is_symlink())]
    chosen = [path for path in paths if case.dice.random() < case.dice.choice([0.3, 1.0])] or [at]
    case.note(f"{at.name}: {len(chosen)} of {len(paths)} are somebody else's")
    for path in chosen:
        os.chown(path, OTHER, OTHER)
    case.cleanups.append(lambda: _healed(case, at))
    case.run(*words, wrapped=_as_ordinary(case))
    _healed(case, at)
    case.settle(*words)


def umasks(case: Case) -> None:
    """A person's umask changes no byte, and nobody else's right to read what is published."""
    words = choices.any_command(case)
    umask = case.dice.choice([0o000, 0o022, 0o027, 0o077, 0o177, 0o277, 0o777, 0o700, 0o333])
    case.note(f"umask {umask:03o}")
    done = case.run(*words, umask=umask)
    if words[0] == "publish" and not done.code:
        for path in case.world.published.rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            if path.name != ".lock" and not mode & stat.S_IROTH:
                case.fault([f"{path.name} has mode {mode:o}: nobody else can read it"])
                break
    _healed(case, case.world.base / "published")
    for part in ("store", "wheels", "tmp"):
        _healed(case, case.world.part(part))
    case.settle(*words)


def temporary(case: Case) -> None:
    """A TMPDIR that is small, missing, a file, read-only, far away or named strangely."""
    words = choices.any_command(case)
    tmp = case.world.tmp
    way = case.dice.choice(["small", "missing", "file", "read-only", "long", "strange", "noexec"])
    case.note(f"TMPDIR: {way}")
    variables, wrapped = {}, ()
    if way == "small":
        pages = case.dice.randint(1, 12)
        mounted(case, tmp, "-t", "tmpfs", "-o", f"size={pages * 4}k", "tmpfs")
    elif way == "noexec":
        mounted(case, tmp, "-t", "tmpfs", "-o", "noexec", "tmpfs")
    elif way in ("missing", "file"):
        variables = {"TMPDIR": str(tmp / "nothing")}
        (tmp / "nothing").touch() if way == "file" else None
    elif way == "read-only":
        tmp.chmod(0o555)
        wrapped = _as_ordinary(case)
    else:
        name = "x" * 120 if way == "long" else "a 'b' \"c\" ü;$(d)"
        folder = tmp / name / name if way == "long" else tmp / name
        folder.mkdir(parents=True)
        variables = {"TMPDIR": str(folder)}
    case.run(*words, environment=variables, **({"wrapped": wrapped} if wrapped else {}))
    if way == "small":
        remounted(tmp, "size=64m")
    tmp.chmod(0o755)
    for path in tmp.iterdir():
        if path.name in ("nothing", "x" * 120, "a 'b' \"c\" ü;$(d)"):
            left = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else []
            case.fault([f"left over in TMPDIR: {p.name}" for p in left])
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    case.settle(*words)


def no_exec(case: Case) -> None:
    """Store, shelf or home from which no program may be started."""
    words = choices.any_command(case)
    world = case.world
    at = case.dice.choice([world.store, world.published, world.wheels, world.part("home")])
    options = case.dice.choice(["noexec", "noexec,nosuid,nodev", "ro", "noexec,size=1m"])
    mounted(case, at, "-t", "tmpfs", "-o", options.replace("ro", "rw"), "tmpfs")
    if options == "ro":
        remounted(at, "ro")
    case.note(f"{at.name}: {options}")
    case.run(*words)
    remounted(at, "rw,exec,size=256m")
    case.settle(*words)


KINDS = {
    "read-only": read_only,
    "other-user": other_user,
    "umask": umasks,
    "tmpdir": temporary,
    "noexec": no_exec,
}
