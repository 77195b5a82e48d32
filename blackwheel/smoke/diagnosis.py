"""Explains crashes, CUDA errors and kernel log lines: likely cause and next step. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from blackwheel.smoke.known_errors import KNOWN, SANITIZE, SWAPPED

_FRAME: Final = re.compile(
    r"frame #(?P<number>\d+): (?P<symbol>.+?) \+ (?:0x)?(?P<offset>[0-9a-f]+)"
    r" \(0x(?P<address>[0-9a-f]+) in (?P<object>[^)]+)\)"
)
_OMITTED: Final = "<omitting python frames>"
_INTERPRETER: Final = re.compile(r"^(python(3(\.\d+)?)?|libpython3.*)$")
_SYSTEM: Final = re.compile(
    r"/lib-dynload/[^/]*$|/(libc|libpthread|libstdc\+\+|ld-linux[^.]*|libm|libgcc_s|libffi)\.so[^/]*$"
)
_SEGFAULT: Final = re.compile(
    r"segfault at (?P<address>[0-9a-f]+) ip (?P<ip>[0-9a-f]+) sp [0-9a-f]+"
    r" error (?P<error>[0-9a-f]+)"
    r"(?: in (?P<object>[^\[\s]+)\[(?:(?P<offset>[0-9a-f]+),)?(?P<base>[0-9a-f]+)\+"
    r"(?P<size>[0-9a-f]+)\])?"
)
_SEGFAULT_SHORT: Final = re.compile(
    r"segfault at (?P<address>(?:0x)?[0-9a-f]+)(?: ip (?:0x)?(?P<ip>[0-9a-f]+))?"
    r"(?:.*? in (?P<object>[^\[\s]+)\[)?"
)
_TRAP: Final = re.compile(r"traps: (?P<who>\S+?)\[\d+\] (?P<what>[a-z ]+?) ip:(?P<ip>[0-9a-f]+)")
_XID: Final = re.compile(r"Xid \([^)]*\): (?P<number>\d+)")
_CHATTER: Final = re.compile(r"(?:\([^()\n]{1,80}\) )?(?:DEBUG|INFO)\b")
"""Begins a line of a server's log in which nothing has gone wrong, its process before it."""
MOST_LETTERS: Final = 1 << 16
"""Of an output that is searched: what ends a process stands at its end."""
LONGEST_LINE: Final = 2000
LOWEST_PAGE: Final = 0x10000
"""Linux maps nothing below: an address there is a small number that was taken for a pointer."""
LOW_IMAGE: Final = (0x400000, 0x2000000)
"""Where a program lies that was linked for a fixed address, as distributions link python3."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """A named result with the observation, the likely cause and the next step."""

    name: str
    fact: str
    cause: str = ""
    step: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One native frame; `symbol` is empty where the object exports none."""

    symbol: str
    offset: int
    address: int
    object: str

    def __str__(self) -> str:
        where = self.object.rpartition("/")[2]
        return f"{self.symbol} in {where}" if self.symbol else f"{where}+{self.offset:#x}"


_XIDS: Final = {
    13: ("launch-failed", "a kernel made the graphics engine fault: often code of another arch"),
    31: ("illegal-access", "a kernel touched an address that is not mapped"),
    43: ("launch-failed", "a kernel broke, and its channel was stopped"),
    45: ("stopped-kernel", "the driver cleaned up after an earlier error, or a killed process"),
    48: ("bad-memory", "an error in the GPU's memory that could not be corrected: hardware"),
    79: ("gpu-lost", "the GPU fell off the bus: power, heat, slot or cable; no wheel does that"),
    119: ("gpu-lost", "the GPU's system processor does not answer: driver or hardware"),
}


def bounded(text: str) -> str:
    """Return the end of an output, its lines cut: no pattern may take minutes for a long one."""
    lines = text[-MOST_LETTERS:].splitlines()
    return "\n".join(line[:LONGEST_LINE] for line in lines)


def from_words(text: str) -> Diagnosis | None:
    """Recognize an error of CUDA, the loader, the compiler or a wheel's guard in an output."""
    text = bounded(text)
    for pattern, name, cause, step in KNOWN:
        # The last one: a traceback shows the line that raised before what it raised.
        found = next(reversed(list(pattern.finditer(text))), None)
        if found:
            start = text.rfind("\n", 0, found.start()) + 1
            line = text[start:].split("\n", 1)[0].strip()
            named = {key: value or "" for key, value in found.groupdict().items()}
            return Diagnosis(
                name=name, fact=line[:400], cause=cause.format(**named), step=step.format(**named)
            )
    return None


def frames(text: str) -> tuple[Frame | None, ...]:
    """Return the native frames below the signal, nearest first; None for the interpreter's own.

    `text` is what torch's handler of fatal signals prints.
    """
    found: list[Frame | None] = []
    inside = True  # the handler's own frames come first, up to libc's trampoline
    for line in text.splitlines():
        if line.strip() == _OMITTED:
            found.append(None)
            continue
        match = _FRAME.search(line)
        if not match:
            if found and "PID:" in line:
                break  # another thread's stack
            continue
        if inside:
            inside = "SignalHandler" in match["symbol"]
            continue
        symbol = "" if match["symbol"] == "<unknown function>" else match["symbol"]
        found.append(
            Frame(
                symbol=symbol,
                offset=int(match["offset"], 16),
                address=int(match["address"], 16),
                object=match["object"],
            )
        )
    return tuple(found)


def is_interpreter(name: str) -> bool:
    """Tell whether an object is Python itself."""
    return bool(_INTERPRETER.match(name.rpartition("/")[2]))


def nearest_extension(native: Sequence[Frame | None]) -> Frame | None:
    """Return the nearest frame that is neither the interpreter's nor the system's."""
    for frame in native:
        if frame is None or is_interpreter(frame.object):
            continue
        if not _SYSTEM.search(frame.object):
            return frame
    return None


def python_line(text: str) -> str:
    """Return the innermost Python line of faulthandler's report: `x.py:8 in check`."""
    found = re.search(r'most recent call first\):\n\s+File "([^"]+)", line (\d+) in (\S+)', text)
    return f"{found[1].rpartition('/')[2]}:{found[2]} in {found[3]}" if found else ""


def of_crash(signal: str, text: str) -> Diagnosis:
    """Explain a process that a signal ended, from the output of its handlers."""
    native = frames(text)
    extension = nearest_extension(native)
    first = native[0] if native else None
    line = python_line(text)
    at = f", called at {line}" if line else ""
    if not native:
        return Diagnosis(
            name="crashed",
            fact=f"{signal}, and no native frames were written{at}",
            cause="the stack is broken, or the process was killed from outside (out of memory?)",
            step=SWAPPED,
        )
    if first is None or is_interpreter(first.object):
        culprit = f"; nearest extension frame: {extension}" if extension else ""
        return Diagnosis(
            name="crashed",
            fact=f"{signal} in the interpreter{culprit}{at}",
            cause=layout_cause(str(extension) if extension else "an extension"),
            step=SWAPPED,
        )
    return Diagnosis(
        name="crashed",
        fact=f"{signal} in {first}"
        + (f"; nearest extension frame: {extension}" if extension and extension != first else "")
        + at,
        cause="native code followed a wrong pointer: compiled against other headers than those of"
        " the library it met, as after a swapped torch, or a defect of its own",
        step=SWAPPED,
    )


def layout_cause(who: str) -> str:
    """Return the explanation of a crash in the interpreter that is not its fault."""
    return (
        f"the interpreter followed a pointer that {who} gave it: compiled against another struct"
        " layout than the one it met, as after a swapped torch"
    )


def of_log(text: str) -> Diagnosis | None:
    """Explain a line of the kernel log, or an error message; None for an unknown one."""
    text = bounded(text)
    full = _SEGFAULT.search(text) or _SEGFAULT_SHORT.search(text)
    if full:
        return _of_segfault(full.groupdict())
    trap = _TRAP.search(text)
    if trap:
        other = "invalid opcode" in trap["what"]
        return Diagnosis(
            name="crashed",
            fact=f"{trap['what']} at {int(trap['ip'], 16):#x} in {trap['who']}",
            cause="code for another processor, or a check of the program's own that failed"
            if other
            else "a jump through a wrong pointer",
            step=SWAPPED,
        )
    xid = _XID.search(text)
    if xid:
        name, cause = _XIDS.get(int(xid["number"]), ("gpu-error", "an error that the driver saw"))
        step = SANITIZE if name in ("illegal-access", "launch-failed") else "nvidia-smi -q"
        return Diagnosis(name=name, fact=f"Xid {xid['number']}", cause=cause, step=step)
    return from_words(text)


def of_output(log: str) -> Diagnosis | None:
    """Explain how a program ended, from its log; None where nothing in it is known.

    What it says of its work is left out: a setting that is named there explains no error.
    """
    return of_log("\n".join(line for line in log.splitlines() if not _CHATTER.match(line)))


def _of_segfault(seen: Mapping[str, str | None]) -> Diagnosis:
    address = int(seen["address"] or "0", 16)
    ip = int(seen["ip"] or "0", 16)
    code = int(seen.get("error") or "4", 16)
    where = seen.get("object") or ""
    inside = is_interpreter(where) if where else LOW_IMAGE[0] <= ip < LOW_IMAGE[1]
    how = "jumped to" if code & 16 else "wrote to" if code & 2 else "read"
    place = f"code at {ip:#x}" if ip else "it"
    if seen.get("offset") and where:  # since Linux 6.10: where in the file, said by the kernel
        place += f" ({where}+{int(seen['offset'] or '0', 16):#x})"
    elif seen.get("base") and where:
        place += f" ({where}+{ip - int(seen['base'] or '0', 16):#x})"
    elif where:
        place += f" (in {where})"
    fact = f"{place} {how} address {address:#x}"
    if address >= LOWEST_PAGE:
        cause = "memory that was freed or never mapped: a stale pointer or a wrong size"
    elif address == 0:
        cause = "a null pointer"
    else:
        cause = f"no pointer but a small number, {address:#x}, was followed"
        if inside and 8 < address < 0x1000:
            cause += (
                f": {address - 8} + 8 is where the type of an object at address {address - 8} would"
                f" be, so the number {address - 8} was taken for an object"
            )
    if inside:
        cause += f"; {layout_cause('an extension')}"
    step = SWAPPED + "; then nox -s smoke runs each kernel and names the extension"
    return Diagnosis(name="crashed", fact=fact, cause=cause, step=step)
