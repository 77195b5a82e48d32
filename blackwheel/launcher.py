"""The compiler launcher: stands before nvcc and g++, one call per object; standard library only.

`python -I -S launcher.py COMPILER ARGUMENT…` runs the compiler and appends one JSON line per object
to the file that BLACKWHEEL_RECORDS names: seconds, CPU seconds, the largest resident set of one
process, archs. A .cu object whose command line lacks an arch of BLACKWHEEL_NATIVE (`sm_90,sm_120a`)
is refused before it compiles: a wrong arch costs seconds, not hours. Its exit code is that of the
compiler, or 97 for a refusal.
"""

import json
import os
import sys
import time

REFUSED = 97


def compiled_object(arguments: list[str]) -> tuple[str, str] | None:
    """Return (source, object) of a `-c` command line, None for anything else (link, --version)."""
    if "-o" not in arguments[:-1] or not {"-c", "--compile", "-dc"} & set(arguments):
        return None
    target = arguments[arguments.index("-o") + 1]
    sources = [word for word in arguments if word.endswith((".cu", ".cpp", ".cc", ".c", ".cxx"))]
    return (sources[-1], target) if sources and not target.endswith((".cu", ".cpp")) else None


def requested_archs(arguments: list[str]) -> list[str]:
    """Return what a command line asks of nvcc: `sm_120a` for SASS, `compute_120a` for PTX."""
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


def missing_archs(source: str, archs: list[str], native: str) -> list[str]:
    """Return the archs that a .cu object must carry as SASS and that nobody asks of nvcc."""
    wanted = [arch for arch in native.split(",") if arch]
    return [arch for arch in wanted if arch not in archs] if source.endswith(".cu") else []


def record(path: str, line: dict[str, object]) -> None:
    """Append one line in one write: concurrent launchers do not mix theirs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(line, sort_keys=True) + "\n").encode())
    finally:
        os.close(descriptor)


def main(argv: list[str]) -> int:
    """Run one compiler command."""
    command = argv[1:]
    unit = compiled_object(command)
    archs = requested_archs(command) if unit else []
    missing = missing_archs(unit[0], archs, os.environ.get("BLACKWHEEL_NATIVE", "")) if unit else []
    if unit and missing:
        sys.stderr.write(
            f"blackwheel: refused {unit[0]}: asks for {', '.join(archs) or 'no arch'},"
            f" the contract needs {', '.join(missing)}\n"
        )
        return REFUSED
    began = time.time()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    records = os.environ.get("BLACKWHEEL_RECORDS")
    if unit and records:
        line = {
            "source": unit[0].rpartition("/")[2],
            "object": unit[1],
            "archs": archs,
            "began": round(began, 3),
            "seconds": round(time.time() - began, 3),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "peak_bytes": usage.ru_maxrss * 1024,
            "exit": code,
        }
        record(records, line)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
