"""Stands before nvcc and g++ as the compiler launcher, one call per object; standard library only.

workspace.py copies it into a build, where `launcher.py COMPILER ARGUMENT…` runs the compiler and
appends one JSON line per object to the file that BLACKWHEEL_RECORDS names: seconds, CPU seconds,
the largest resident set of one process, archs. Beside each object it notes the contents that it was
compiled from (inputs.py). A .cu object whose command line lacks an arch of
BLACKWHEEL_NATIVE (`sm_90,sm_120a`) is refused before it compiles, unless BLACKWHEEL_OLDER names its
source: a wrong arch costs seconds, not hours.

Where BLACKWHEEL_SOURCE_TIME is set, a .cu object comes out the same byte for byte each time: its
source gets that modification time and its compiler process numbers of its own, both of which nvcc
puts into names (docs/decisions/0007-reproducible-kernel-names.md); where BLACKWHEEL_FOLDER
names a folder, it is compiled there, for the same reason. BLACKWHEEL_NVCC names the nvcc that asks
the compile cache. Where BLACKWHEEL_PLAN names a file, nothing is compiled: each object is noted
there, and an empty one is left (docs/decisions/0012-arch-plan.md).

Where BLACKWHEEL_EXPECTED names a file of memory_pool.py, an object waits until its predicted
memory is free, in one pool for all builds on the machine, the longest first
(docs/decisions/0019-memory-pool.md); with a compile cache it waits for a light share, and
BLACKWHEEL_REST_OF tells cache_step.py whose rest a miss takes. One that was killed is compiled
again, alone. The exit code is the compiler's, 97 for a refusal, 98 for an object not begun because
another has failed, 99 where the compiler ended well and left no whole object.
"""

import os
import sys
import time

from . import inputs, memory  # of the package here, and of its copy in a build

TYPE_CHECKING = False  # the module typing costs 8 ms
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable

REFUSED, NOT_BEGUN, NO_OBJECT = 97, 98, 99
KILLED = 137
_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25  # the module signal costs 5 ms
_CLONE_NEWUSER, _CLONE_NEWPID, _PR_SET_PDEATHSIG = 0x10000000, 0x20000000, 1
_EMPTY_OBJECT = (  # x86-64 ELF with a table of section names alone: a file of no bytes fits no ar
    bytes.fromhex("7f454c46020101" + 9 * "00" + "01003e0001000000" + 16 * "00" + "4000000000000000")
    + bytes.fromhex("00000000400000000000400002000100")
    + bytes(64)
    + bytes.fromhex("0100000003000000" + 16 * "00" + "c0000000000000000b00000000000000")
    + bytes.fromhex(8 * "00" + "0100000000000000" + 8 * "00")
    + b"\0.shstrtab\0"
)


def compiled_object(arguments: list[str]) -> tuple[str, str] | None:
    """Return (source, object) of a `-c` command line, None for anything else (link, --version)."""
    if "-o" not in arguments[:-1] or not {"-c", "--compile", "-dc"} & set(arguments):
        return None
    target = arguments[arguments.index("-o") + 1]
    sources = [word for word in arguments if word.endswith((".cu", ".cpp", ".cc", ".c", ".cxx"))]
    if sources and ("/CMakeFiles/" in sources[-1] or "CMakeFiles/cmTC_" in target):
        return None  # CMake tries its compilers, with archs of its own: it does not wait either
    return (sources[-1], target) if sources and not target.endswith((".cu", ".cpp")) else None


def requested_archs(arguments: list[str]) -> list[str]:
    """Return the archs in an nvcc command: `sm_120a` for SASS, `compute_120a` for PTX."""
    values = []
    for number, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in ("-gencode", "--generate-code", "-arch", "--gpu-architecture"):
            values.append(value if equals else arguments[number + 1])
    found = set()
    for value in values:
        code = value.partition("code=")[2] or value
        found |= {part.strip("[]'\" ") for part in code.split(",")}
    return sorted(part for part in found if part.startswith(("sm_", "compute_")))


def missing_archs(source: str, archs: list[str], native: str, older: str = "") -> list[str]:
    """Return the archs that a .cu object must carry as SASS and that the command lacks.

    `older` are the sources that the contract lets be older SASS or PTX.
    """
    if source.rpartition("/")[2] in older.split(","):
        return []
    wanted = [arch for arch in native.split(",") if arch]
    return [arch for arch in wanted if arch not in archs] if source.endswith(".cu") else []


def only_planned(path: str, words: list[str], unit: "tuple[str, str]", missing: list[str]) -> bool:
    """Record an object instead of compiling it; not for a build tool's trial of its compilers."""
    import hashlib  # noqa: PLC0415  3 ms, and only here

    here = os.getcwd()
    source, target = (os.path.join(here, name) for name in unit)
    if "/CMakeFiles/" in f"{here}/" or source.startswith(os.environ["TMPDIR"] + "/"):
        return False
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(_EMPTY_OBJECT)
    line: dict[str, object] = {
        "source": source,
        "object": target,
        "archs": requested_archs(words),
        "missing": missing,
        "command": hashlib.sha256("\0".join(words).encode()).hexdigest(),
    }
    record(path, line)
    return True


def linked_objects(arguments: list[str]) -> "tuple[str, list[str]] | None":
    """Return the library that a command line links, and its objects, by absolute paths."""
    if "-shared" not in arguments or "-o" not in arguments[:-1]:
        return None
    library = os.path.abspath(arguments[arguments.index("-o") + 1])
    objects = [os.path.abspath(word) for word in arguments if word.endswith(".o")]
    return library, objects


def record(path: str, line: dict[str, object]) -> None:
    """Append one line in one write: concurrent launchers do not mix theirs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (as_json(line) + "\n").encode())
    finally:
        os.close(descriptor)


def as_json(value: object) -> str:
    """Return sorted JSON of a value as `json.dumps` would: its import costs 6 ms, by `re`."""
    from _json import encode_basestring_ascii  # noqa: PLC0415

    if isinstance(value, dict):
        pairs = [f"{as_json(key)}: {as_json(one)}" for key, one in sorted(value.items())]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_json, value))}]"
    if isinstance(value, str):
        return str(encode_basestring_ascii(value))
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def note_inputs(command: list[str], target: str, folder: str) -> None:
    """Note the inputs of an object; one without notes is compiled again next time."""
    try:
        inputs.note(command, target, folder or os.getcwd())
    except OSError as error:
        sys.stderr.write(f"blackwheel: {target}: its inputs were not noted: {error}\n")


def behind_cache(path: str, *, device: bool = False) -> tuple[float, int, bool]:
    """Return and remove cache_step.py's records: CPU seconds, largest process, compiled.

    Of a .cu object only cicc tells what it takes: without it, it came from the cache.
    """
    seconds, peak, compiled = 0.0, 0, False
    if os.path.exists(path):
        with open(path, encoding="utf-8") as notes:
            for what, cost, size, _ in map(str.split, notes):
                seconds, peak = seconds + float(cost), max(peak, int(size))
                compiled = compiled or what == "cicc" or (what != "preprocess" and not device)
        os.unlink(path)
    return seconds, peak, compiled


def same_each_time(source: str, target: str, moment: int) -> None:
    """Set the source's modification time to the fixed one of every build.

    The object goes first: one that a failed compile left would look newer than its source.
    """
    remove(target)
    os.utime(source, (moment, moment))


def remove(path: str) -> None:
    """Remove an object, whatever a compiler left in its place."""
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil  # noqa: PLC0415  10 ms, and never

        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def is_whole(path: str) -> bool:
    """Tell whether a file is an ELF object to its end, or bitcode; ninja would never look again."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        head = os.read(descriptor, 64) if os.path.isfile(path) else b""
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if head[:4] in (b"BC\xc0\xde", b"\xde\xc0\x17\x0b"):
        return True
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return False
    table, each = int.from_bytes(head[40:48], "little"), int.from_bytes(head[58:60], "little")
    count = int.from_bytes(head[60:62], "little")
    return table > 0 and table + each * max(count, 1) <= size


def kills() -> str:
    """Return the kernel's count of processes killed for lack of memory."""
    return memory.text_of("/proc/vmstat").partition("\noom_kill ")[2].partition("\n")[0]


def all_absolute(words: list[str]) -> bool:
    """Tell whether a command has absolute paths only, and so works in every folder."""
    before = ("-o", "-I", "-isystem", "-include", "-MF", "--dependency-output")
    paths = [words[n + 1] for n, word in enumerate(words[:-1]) if word in before]
    paths += [word[2:] for word in words if word.startswith("-I") and len(word) > 2]
    paths += [word for word in words if word.endswith(".cu")]
    return all(path.startswith("/") for path in paths)


def place_of(command: list[str], source: str) -> str:
    """Return the folder that a kernel file is compiled in; empty for where the launcher is."""
    device = os.environ.get("BLACKWHEEL_SOURCE_TIME") and source.endswith(".cu")
    return os.environ.get("BLACKWHEEL_FOLDER", "") if device and all_absolute(command) else ""


def through_cache(command: list[str]) -> list[str]:
    """Return an nvcc command whose nvcc and host compiler are those that ask the cache."""
    asking = [os.environ["BLACKWHEEL_NVCC"], *command[1:]]
    for number, word in enumerate(command[:-1]):
        if word in ("-ccbin", "--compiler-bindir"):  # torch names one where CC is set
            asking[number + 1] = os.environ["NVCC_CCBIN"]
    return asking


def run(command: list[str], *, number: int = 0, folder: str = "") -> tuple[int, float, int]:
    """Run a compiler; return its exit code, CPU seconds and largest process in bytes.

    With a `number` it has that process number, in a process namespace of its own, so that those of
    its children are always the same.
    """
    child = os.fork()
    if child == 0:
        _end_with(lambda: _run_numbered(command, number) if number else _execute(command), folder)
    _, status, usage = os.wait4(child, 0)
    return _exit_code(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _run_numbered(command: list[str], number: int) -> int:
    import ctypes  # noqa: PLC0415  7 ms, and only here

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    uid, gid = os.geteuid(), os.getegid()
    # Root without a user namespace keeps its rights to files of other users: as in isolation.py.
    if libc.unshare(_CLONE_NEWPID):
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWPID):
            raise OSError(ctypes.get_errno(), "no process namespace for one compiler")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    return _forked(lambda: _numbered(command, number, libc), libc)


def _numbered(command: list[str], number: int, libc: "ctypes.CDLL") -> int:
    """Be the first process of a namespace, or use up numbers until the compiler gets its own."""
    if number == 1:
        return _execute(command)
    for _ in range(number - 2):
        _forked(lambda: 0, libc)
    return _forked(lambda: _execute(command), libc)


def _forked(work: "Callable[[], int]", libc: "ctypes.CDLL") -> int:
    """Do something in a process that ends with this one; return its exit code."""
    child = os.fork()
    if child == 0:
        libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL)
        _end_with(work)
    return _exit_code(os.waitpid(child, 0)[1])


def _execute(command: list[str]) -> int:
    import _signal  # type: ignore[import-not-found] # noqa: PLC0415  what `signal` dresses up

    # Python ignores these two, and an ignored signal stays ignored across exec.
    _signal.signal(_SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_SIGXFSZ, _signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606  not a shell: that is the point


def _end_with(work: "Callable[[], int]", folder: str = "") -> None:
    """End a forked process with what `work` returns, whatever happens."""
    code = 127
    try:
        if folder:
            os.chdir(folder)
        code = work()
    except OSError as error:
        sys.stderr.write(f"blackwheel: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(code)


def main(argv: list[str]) -> int:
    """Run one compiler command."""
    command = argv[1:]
    unit = compiled_object(command)
    archs = requested_archs(command) if unit else []
    contract = [os.environ.get(f"BLACKWHEEL_{name}", "") for name in ("NATIVE", "OLDER")]
    missing = missing_archs(unit[0], archs, *contract) if unit else []
    plan = os.environ.get("BLACKWHEEL_PLAN", "")
    if plan and unit and only_planned(plan, command, unit, missing):
        return 0
    if plan and (link := linked_objects(command)):
        record(plan, {"library": link[0], "objects": link[1]})
    if unit and missing and not plan:
        sys.stderr.write(
            f"blackwheel: refused {unit[0]}: asks for {', '.join(archs) or 'no arch'},"
            f" the contract needs {', '.join(missing)}\n"
        )
        return REFUSED
    if unit is None:
        return run(command)[0]
    command = inputs.whole(command)
    if command[0].endswith("/nvcc") and os.environ.get("BLACKWHEEL_NVCC"):
        command = through_cache(command)
    if inputs.unchanged(command, unit[1], place_of(command, unit[0]) or os.getcwd()):
        return 0
    file = os.environ.get("BLACKWHEEL_EXPECTED")
    settings = memory.Settings(file, unit[0].rpartition("/")[2]) if file else None
    code, killed = _compile(command, unit, archs, settings, alone=False)
    if killed:
        sys.stderr.write(f"blackwheel: {unit[0]} was killed: compiled again, alone\n")
        sys.stderr.flush()
        code, killed = _compile(command, unit, archs, settings, alone=True)
        if killed:
            sys.stderr.write(f"blackwheel: killed {unit[0]}: twice, the second time alone\n")
    if code and settings:
        with open(settings.failed, "w", encoding="utf-8"):
            pass
    return code


def _compile(
    command: list[str],
    unit: tuple[str, str],
    archs: list[str],
    settings: "memory.Settings | None",
    *,
    alone: bool,
) -> tuple[int, bool]:
    """Compile once, when there is room; return the exit code, and whether something killed it."""
    try:
        held = memory.shares(settings, alone=alone) if settings else []
    except TimeoutError:
        sys.stderr.write(f"blackwheel: not begun: {unit[0]}: another object failed\n")
        return NOT_BEGUN, False
    moment = os.environ.get("BLACKWHEEL_SOURCE_TIME", "")
    device = bool(moment and unit[0].endswith(".cu"))
    if device:
        same_each_time(*unit, int(moment))
    steps = f"{unit[1]}.steps" if os.environ.get("SCCACHE_SERVER_UDS") else ""
    if steps:
        behind_cache(steps)  # what a stopped build left
        os.environ["BLACKWHEEL_STEPS"] = os.path.abspath(steps)
    before = kills()
    began = time.time()
    folder = place_of(command, unit[0])
    os.environ["BLACKWHEEL_OWN_NUMBERS"] = "1" if device else ""
    light = settings is not None and settings.cached and not alone
    os.environ["BLACKWHEEL_REST_OF"] = unit[0].rpartition("/")[2] if light else ""
    code, cpu_seconds, peak_bytes = run(command, number=int(device), folder=folder)
    if not code and os.path.lexists(unit[1]) and not is_whole(unit[1]):  # none: ninja sees it
        sys.stderr.write(f"{unit[0]}: error: the compiler ended well and left no whole object\n")
        sys.stderr.flush()
        code = NO_OBJECT
        remove(unit[1])
    if code == 0:
        note_inputs(command, unit[1], folder)
    noted = behind_cache(steps, device=unit[0].endswith(".cu")) if steps else (0.0, 0, True)
    records = os.environ.get("BLACKWHEEL_RECORDS")
    if records:
        line = {
            "source": unit[0].rpartition("/")[2],
            "object": unit[1],
            "archs": archs,
            "began": round(began, 3),
            "seconds": round(time.time() - began, 3),
            "cpu_seconds": round(cpu_seconds + noted[0], 3),
            "peak_bytes": max(peak_bytes, noted[1]),
            "cached": not noted[2],
            "exit": code,
        }
        record(records, line)
    for file in held:
        os.close(file)
    # g++ says 1 when its compiler proper was killed: only the kernel's count tells.
    return code, code == KILLED or (code != 0 and kills() != before)
