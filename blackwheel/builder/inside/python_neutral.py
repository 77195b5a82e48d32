"""Removes Python's version from the input of cicc, so that all Pythons share its cache entries.

`python -I -S python_neutral.py SCCACHE CICC ARGUMENT…` takes out of cicc's input what differs
between two Pythons and changes no device code: `3.12` in the paths of the environment's headers,
and the names of two files in a folder that is named after the Python. What cicc wrote gets them
back. Where the
device code itself holds such a path, or lines are asked for, nothing is taken out
(docs/decisions/0029-device-code-cached-across-pythons.md).
"""

import hashlib
import os
import re
import shutil
import sys

FOLDER = re.compile(rb"/python3\.\d\d/")
TAKEN = b"/python3.__/"
BYTES = re.compile(rb"47, *112, *121, *116, *104, *111, *110, *51, *46, *95, *95")
"""TAKEN as PTX writes strings. No pattern begins with anything but text: inputs are megabytes."""
PYTHON = re.compile(r"(?<=python-)3\d\d|(?<=python3\.)\d\d")
INCLUDED = "blackwheel.fatbin.c"
SIGNALS = 128
"""Exit codes above say that something killed the compiler: it is not for us to start it again."""
LINES = ("-g", "-G", "--debug", "--device-debug")


def value(words: list[str], name: str) -> str:
    """Return the word after an option; empty where the option is absent."""
    return words[words.index(name) + 1] if name in words[:-1] else ""


def main(argv: list[str]) -> int:
    """Run one step of nvcc through the cache."""
    call, words = argv[1:3], argv[3:]
    sources = [word for word in words if word.endswith(".ii")]
    stub, included = value(words, "--stub_file_name"), value(words, "--include_file_name")
    module, place = value(words, "--module_id_file_name"), os.environ.get("TMPDIR", "")
    lines = any(word in LINES or "line-info" in word or "lineinfo" in word for word in words)
    known = stub and included and os.path.exists(module) and "--gen_module_id_file" not in words
    before = read(sources[0]) if sources else b""
    if lines or len(sources) != 1 or not known or not place or TAKEN in before:
        return run([*call, *words])
    source, seen = sources[0], sorted(set(FOLDER.findall(before)))
    other = list(words)
    other[words.index("--include_file_name") + 1] = INCLUDED
    named = hashlib.sha256(PYTHON.sub("", os.path.abspath(module)).encode()).hexdigest()
    moved = f"{place}/{named}.module_id"
    shutil.copyfile(module, moved)
    other[words.index("--module_id_file_name") + 1] = moved
    if len(seen) == 1:
        write(source, before.replace(seen[0], TAKEN))
    code = run([*call, *other], said=f"{moved}.said")
    said = read(f"{moved}.said")
    os.unlink(f"{moved}.said")
    os.unlink(moved)
    failed = 0 < code < SIGNALS
    if failed or (code == 0 and in_device_code(read(value(words, "-o")))):
        write(source, before)  # its messages name files as they are
        return run([*call, *words])
    os.write(2, said.replace(TAKEN, seen[0]) if seen else said)
    for name in ("--gen_c_file_name", "--stub_file_name", "--gen_device_file_name"):
        path = value(words, name)
        if path and os.path.exists(path):
            text = read(path)
            back = text.replace(TAKEN, seen[0]) if seen else text
            back = back.replace(f'"{INCLUDED}"'.encode(), f'"{included}"'.encode())
            if back != text:
                write(path, back)
    return code


def in_device_code(ptx: bytes) -> bool:
    """Tell whether device code holds a path from which something was removed."""
    return TAKEN in ptx or BYTES.search(ptx) is not None


def run(argv: list[str], *, said: str = "") -> int:
    """Run to the end, with messages in the file `said` if named; return a shell's exit code."""
    child = os.fork()
    if child == 0:
        try:
            if said:
                file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(file, 1)
                os.dup2(file, 2)
            os.execv(argv[0], argv)  # noqa: S606  not a shell: that is the point
        finally:
            os._exit(127)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else SIGNALS - code


def read(path: str) -> bytes:
    """Return a whole file."""
    with open(path, "rb") as file:
        return file.read()


def write(path: str, content: bytes) -> None:
    """Write a whole file."""
    with open(path, "wb") as file:
        file.write(content)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
