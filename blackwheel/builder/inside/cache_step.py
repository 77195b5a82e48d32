"""Runs one compiler step for the compile cache and records its cost; standard library only.

`python -I -S cache_step.py COMPILER ARGUMENT…` is what sccache's server starts where it has no
answer. The launcher sees the cache's client only, so the cost is appended to the file that
BLACKWHEEL_STEPS names: CPU seconds, bytes of the largest process, exit code.

Here it is known that the cache has no answer, so here the rest of the memory is waited for that the
object takes: BLACKWHEEL_REST_OF names its source, where the launcher holds a light share alone.

cudafe++ puts its process number into names: where BLACKWHEEL_NUMBER says which it has where nobody
caches, it gets that one.
"""

import os
import sys

# workspace.py lays bin/ beside this file's folder.
sys.path.append(os.path.dirname(os.path.abspath(__file__)) + "/../bin")
NOT_BEGUN = 98  # as the launcher's


def _rest_of(source: str) -> bool:
    """Wait for the rest of an object's memory; False where another object failed meanwhile.

    The locked files stay open until this process and the compiler have ended.
    """
    from inside import memory  # type: ignore[import-not-found]  # noqa: PLC0415

    try:
        memory.rest(memory.Settings(os.environ["BLACKWHEEL_EXPECTED"], source))
    except TimeoutError:
        sys.stderr.write(f"blackwheel: not begun: {source}: another object failed\n")
        sys.stderr.flush()
        return False
    return True


def main(argv: list[str]) -> int:
    """Run one step and end as it ended, also by its signal."""
    number = os.environ.get("BLACKWHEEL_NUMBER")
    source = os.environ.get("BLACKWHEEL_REST_OF", "")
    if source and "-E" not in argv and not _rest_of(source):
        return NOT_BEGUN
    child = os.fork()
    if child == 0 and number:
        from inside import launcher  # noqa: PLC0415

        os._exit(launcher.run(argv[1:], number=int(number))[0])
    if child == 0:
        try:
            os.execv(argv[1], argv[1:])  # noqa: S606  not a shell: that is the point
        except OSError as error:
            sys.stderr.write(f"blackwheel: {argv[1]}: {error.strerror}\n")
            sys.stderr.flush()
            os._exit(127)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    notes = os.environ.get("BLACKWHEEL_STEPS")
    if notes:
        what = "preprocess" if "-E" in argv else os.path.basename(argv[1])
        seconds = usage.ru_utime + usage.ru_stime
        line = f"{what} {seconds:.3f} {usage.ru_maxrss * 1024} {code}\n"
        descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, line.encode())
        os.close(descriptor)
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
