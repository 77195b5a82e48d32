"""Runs one command at fixed paths, without network, and leaves no process behind.

Two ways, chosen by `Spec.mode`; docs/decisions/0003-isolation.md says why there are two:

`namespaces`  own user, mount, process and network namespace. The kernel ends every process of the
              command when the namespace's first process ends.
`processes`   where the kernel forbids that: links at a per-user path under a lock, a sub-reaper,
              parent-death signals, and an environment in which every proxy is dead.

Standard library only and one file: it runs as `python -I isolation.py SPEC.json`, before and
outside of every environment that it isolates.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

NAMESPACES, PROCESSES = "namespaces", "processes"
FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
"""Exit codes of the isolation itself, those of env(1); the command's own are passed on."""

GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL: ninja removes half-written objects in between."""

_DEAD_PORT = 9
OFFLINE = {
    **{
        name: f"http://127.0.0.1:{_DEAD_PORT}"
        for proxy in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")
        for name in (proxy, proxy.upper())
    },
    "no_proxy": "",
    "NO_PROXY": "",
    "PIP_NO_INDEX": "1",
    "UV_OFFLINE": "1",
}
"""Set in both modes: a tool that wants the network fails at once and says so. Port 9 is closed, or
answered by `_answer_proxies`."""

_STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
_COVERED = Path("/tmp")  # noqa: S108  every Linux has it, and a build need not see what is there
_RUN = Path("/run")
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_OVER_THE_KERNEL = (2, 12, 13, 16, 17, 18, 19, 21, 22, 25, 27, 32, 33, 34, 38, 39, 40)
"""Capabilities by number (capabilities(7)) that no compiler needs: DAC_READ_SEARCH, NET_ADMIN,
NET_RAW, SYS_MODULE, RAWIO, CHROOT, PTRACE, ADMIN, BOOT, TIME, MKNOD, MAC_*, SYSLOG, PERFMON, BPF,
CHECKPOINT_RESTORE."""
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class IsolationError(Exception):
    """Refusal by the kernel or the machine; the caller gives it a name and a cure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """Fixed paths of a build's parts, whatever their real places are."""

    root: Path
    src: Path
    env: Path
    cuda: Path
    work: Path
    tmp: Path
    """For TMPDIR: bind a directory on disk here, compilers' temporaries reach gigabytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """One isolated command; its environment is the one that isolation.py is started with."""

    mode: str
    argv: tuple[str, ...]
    """Empty only to try the mode out: everything is set up, nothing is run."""
    root: Path
    binds: Mapping[str, Path] = field(default_factory=dict)
    """Name under `root` to real file or directory."""
    cwd: Path = Path("/")
    keep: tuple[Path, ...] = ()
    """Paths that must stay visible if they lie under /tmp, which the namespace covers."""
    network: bool = False
    lock: Path | None = None
    """Held while the links at `root` are ours (mode `processes`)."""
    label: str = ""
    """Whom another build is told that it waits for."""
    companion: tuple[str, ...] = ()
    """Started first and ends with the command; it sees the same files and processes, and the
    network."""
    companion_socket: Path | None = None
    """Where it answers once it is ready."""
    companion_only: tuple[str, ...] = ()
    """Variables that the command does not get: the credentials of a store."""
    heard: Path | None = None
    """Where a namespace without network notes which hosts the command's proxies are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolation:
    """The mode that this machine allows, and the reason where it is the weaker one."""

    mode: str
    reason: str = ""


def fixed_paths(mode: str, store: Path) -> Paths:
    """Return the paths inside a build: the same for everyone with namespaces, else for one user."""
    root = _COVERED / "blackwheel" if mode == NAMESPACES else store / "fixed"
    return Paths(root=root, **{n: root / n for n in ("src", "env", "cuda", "work", "tmp")})


def fixed_lock(store: Path) -> Path:
    """Return the lock that a build of mode `processes` holds, for `Spec.lock`."""
    return store / "locks" / "fixed.lock"


def isolated_command(spec: Spec, spec_file: Path, *, python: Path | None = None) -> list[str]:
    """Write `spec_file`; return the command that runs `spec.argv` as `spec` says.

    Exits with the command's own code, 128 + n if a signal n ended it or was sent to stop it.
    """
    spec_file.write_text(json.dumps(asdict(spec), default=str, indent=1), encoding="utf-8")
    return [str(python or sys.executable), "-I", str(Path(__file__).resolve()), str(spec_file)]


def bound_to_parent(argv: Sequence[str]) -> list[str]:
    """Return a command that runs `argv` and is killed when the thread that starts it ends.

    Not a `preexec_fn`: that runs Python between fork and exec, which is not safe among threads.
    Only this process may start it. Costs one bare interpreter start (20 ms).
    """
    me = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*me, "--exec", str(os.getpid()), *argv]


def available_isolation(forced: str = "") -> Isolation:
    """Try namespaces once, in a child; `forced` is BLACKWHEEL_ISOLATION."""
    if forced == PROCESSES:
        return Isolation(mode=PROCESSES, reason="BLACKWHEEL_ISOLATION=processes")
    if forced not in ("", NAMESPACES):
        raise IsolationError(f"BLACKWHEEL_ISOLATION={forced} is neither namespaces nor processes")
    reason = _why_no_namespaces()
    if not reason:
        return Isolation(mode=NAMESPACES)
    if forced:
        raise IsolationError(f"BLACKWHEEL_ISOLATION=namespaces, but {reason}")
    return Isolation(mode=PROCESSES, reason=reason)


def die_with_parent(signum: int = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Ask the kernel to send `signum` when the thread that started this process ends.

    Give `parent` where it is known: this process ends at once if that one is already gone.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signum)


def become_subreaper() -> None:
    """Inherit every orphan among the descendants, so that `reap_descendants` finds it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap_descendants(*, limit: float = 10.0) -> int:
    """Kill and reap every descendant, and return how many there were.

    For a sub-reaper that waits for no child of its own any more: it takes their exit status.
    Gives up after `limit` seconds (a process in an uninterruptible sleep dies when it wakes).
    """
    seen: set[int] = set()
    deadline = time.monotonic() + limit
    while _reap_zombies(lambda _pid, _status: None) and time.monotonic() < deadline:
        for pid in _descendants(os.getpid()):
            seen.add(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return len(seen)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in (path.name for path in Path("/proc").iterdir()):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                line = Path("/proc", entry, "stat").read_bytes()
                # The name, in brackets, may itself hold brackets and blanks.
                parent = int(line[line.rindex(b")") + 1 :].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found, frontier = [], [pid]
    while frontier:
        born = children.get(frontier.pop(), [])
        found += born
        frontier += born
    return found


def _reap_zombies(report: Callable[[int, int], None]) -> bool:
    """Collect every ended child; False when there is no child left at all."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
            report(pid, status)
    except ChildProcessError:
        return False


def _supervise(child: int, *, to_stop: int, grace: float) -> int:
    """Wait for `child`, pass a stop on to `to_stop` (as kill(2) takes it), leave nothing running.

    The stop signals and SIGCHLD are blocked before `child` is started, and taken here.
    """
    codes: dict[int, int] = {}
    stopped, deadline, alive = 0, float("inf"), True
    while alive and time.monotonic() < deadline and (stopped or child not in codes):
        wait = min(max(deadline - time.monotonic(), 0), 3600)
        taken = signal.sigtimedwait({*_STOPS, signal.SIGCHLD}, wait)
        if taken and taken.si_signo in _STOPS and not stopped:
            stopped, deadline = taken.si_signo, time.monotonic() + grace
            with contextlib.suppress(ProcessLookupError):
                os.kill(to_stop, signal.SIGTERM)
        alive = _reap_zombies(codes.__setitem__)
    reap_descendants()
    if stopped:
        return 128 + stopped
    code = os.waitstatus_to_exitcode(codes[child])
    return code if code >= 0 else 128 - code


def _start(child: Callable[[], int]) -> int:
    """Fork; the child ends with what `child` returns, whatever happens."""
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = FAILED
    try:
        code = child()
    except (IsolationError, OSError) as error:
        sys.stderr.write(f"isolation: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(spec: Spec) -> int:
    """Supervise the process that supervises the command: one of the two outlives any one kill."""
    if spec.mode == NAMESPACES:
        _enter_user_and_process_namespace()
    become_subreaper()
    alive, ours = os.pipe()
    inner = _start(lambda: _run_inside(spec, alive, ours))
    os.close(alive)
    # `ours` stays open as long as this process lives.
    return _supervise(inner, to_stop=inner, grace=2 * GRACE)


def _run_inside(spec: Spec, alive: int, ours: int) -> int:
    """Namespaces: the first process of its namespace, whose end ends every other one there.

    Processes: the sub-reaper that stops and reaps the command; if it is killed itself, the
    orphans fall to its parent.
    """
    os.close(ours)
    die_with_parent(signal.SIGKILL if spec.mode == NAMESPACES else signal.SIGTERM)
    poll = select.poll()
    poll.register(alive, 0)
    if poll.poll(0):  # hung up: the parent, which has no number in here, ended before that
        return FAILED
    if spec.mode == NAMESPACES:
        _mount_fixed_root(spec)
    else:
        become_subreaper()
    if spec.companion:
        _await_companion(_start(lambda: _become_companion(spec)), spec)
    command = _start(lambda: _become_command(spec))
    return _supervise(command, to_stop=-command, grace=GRACE)


def _become_companion(spec: Spec) -> int:
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return _execute(spec.companion, os.environ)


def _await_companion(pid: int, spec: Spec, *, limit: float = 20.0) -> None:
    """Return once it answers, or after `limit` seconds; raise IsolationError where it ended."""
    deadline = time.monotonic() + limit
    while spec.companion_socket and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as tried:
            tried.connect(str(spec.companion_socket))
            return
        if os.waitpid(pid, os.WNOHANG)[0]:
            break
        time.sleep(0.01)
    else:
        return
    raise IsolationError(f"{spec.companion[0]} ended before it answered")


def _become_command(spec: Spec) -> int:
    if spec.mode == NAMESPACES:
        _leave_rights(spec)
        if not spec.network:
            _raise_loopback()
            if spec.heard:
                _answer_proxies(spec.heard)
    os.setsid()  # a process group to stop as one, and no terminal to wait for
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if not spec.argv:
        return 0
    try:
        os.chdir(spec.cwd)
    except OSError as error:
        raise IsolationError(f"cannot work in {spec.cwd}: {error.strerror}") from None
    # gcc and cmake take the name of the working directory from PWD where it is one of its names.
    environment = {**os.environ, **({} if spec.network else OFFLINE), "PWD": str(spec.cwd)}
    environment = {n: v for n, v in environment.items() if n not in spec.companion_only}
    return _execute(spec.argv, environment)


def _execute(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Become `argv`; returns only the exit code of a failure to do so."""
    # Python ignores these two, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    try:
        os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606  not a shell: that is the point
    except OSError as error:
        sys.stderr.write(f"isolation: cannot run {argv[0]}: {error.strerror}\n")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _enter_user_and_process_namespace() -> None:
    """Children are born into the new process namespace; this process itself stays outside."""
    if os.geteuid() == 0:
        # A user namespace would take root's right to files of other users (a checkout mounted
        # into a container); it is needed only where root may not do without.
        try:
            _unshare(_CLONE_NEWPID | _CLONE_NEWNS, "namespaces")
            return
        except IsolationError:
            pass
    _unshare_user(_CLONE_NEWPID)


def _unshare_user(more: int) -> None:
    """Enter a user namespace, in which the user keeps the own number."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER | more, "a user namespace")
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        # The user's own number: the command sees itself as who it is, and loses all rights over
        # the namespace as soon as it is executed.
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    except OSError as error:
        raise IsolationError(f"cannot map the user: {error.strerror}") from None


def _leave_rights(spec: Spec) -> None:
    """Take from the command what leads to the companion's variables, and out of the namespaces.

    A process of another user namespace, or with more capabilities, is no one's to look into:
    neither /proc/PID/environ nor the namespaces of /proc/1, which has the machine's network.
    """
    apart = _CLONE_NEWNS | (0 if spec.network else _CLONE_NEWNET)
    try:
        if os.geteuid() == 0:
            raise IsolationError("root keeps its right to files of other users")
        _unshare_user(apart)
    except IsolationError:
        _unshare(apart, "a network namespace")
    needed = [*spec.keep, Path(sys.prefix), Path(sys.base_prefix), *map(Path, os.get_exec_path())]
    needed = [path.resolve() for path in needed]
    # Services of the machine listen there; where programs lie below it (NixOS), it stays.
    if _RUN.is_dir() and not spec.network and not any(p.is_relative_to(_RUN) for p in needed):
        _mount("tmpfs", _RUN, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    if os.geteuid() == 0:
        for right in _OVER_THE_KERNEL:
            with contextlib.suppress(IsolationError):  # an older kernel has fewer
                _prctl(_PR_CAPBSET_DROP, right)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _mount_fixed_root(spec: Spec) -> None:
    """Cover /tmp, and bind the parts under the fixed root; real places may be under /tmp too."""
    _unshare(_CLONE_NEWNS, "a mount namespace")
    _mount("none", Path("/"), "", _MS_REC | _MS_PRIVATE)
    wanted = {path: path for path in _kept(spec.keep)}
    wanted |= {spec.root / name: real for name, real in sorted(spec.binds.items())}
    opened = {target: _opened(real) for target, real in wanted.items()}
    _mount("tmpfs", _COVERED, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")
    spec.root.mkdir(exist_ok=True)
    for target, fd in opened.items():
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        _mount(f"/proc/self/fd/{fd}", target, "", _MS_BIND | _MS_REC)
        os.close(fd)
    _mount("proc", Path("/proc"), "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def _kept(keep: Sequence[Path]) -> list[Path]:
    """What of `keep` lies under the covered directory, as named and as resolved, outermost once."""
    covered = (_COVERED, _COVERED.resolve())
    outermost: list[Path] = []
    for path in sorted({*keep, *(path.resolve() for path in keep)}):
        if any(path.is_relative_to(c) for c in covered) and not any(
            path.is_relative_to(o) for o in outermost
        ):
            outermost.append(path)
    return outermost


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise IsolationError(f"cannot open {path}: {error.strerror}") from None


def _link_fixed_root(spec: Spec) -> None:
    """Take the lock, for as long as this process lives, and point the links to the real parts."""
    spec.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen = spec.root.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
        raise IsolationError(f"{spec.root} is not a directory of user {os.geteuid()}")
    _hold(spec.lock or spec.root / ".lock", f"{spec.label or 'a build'} (process {os.getpid()})")
    for old in spec.root.iterdir():
        if old.is_symlink():
            old.unlink()
    for name, real in spec.binds.items():
        (spec.root / name).symlink_to(real)


def _hold(lock: Path, holder: str) -> None:
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.pread(fd, 4096, 0).decode(errors="replace") or "another build"
        sys.stderr.write(f"waiting for {other}: without namespaces one build runs at a time\n")
        sys.stderr.flush()
        fcntl.flock(fd, fcntl.LOCK_EX)
    os.ftruncate(fd, 0)
    os.pwrite(fd, holder.encode(), 0)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP))


def _answer_proxies(heard: Path) -> None:
    """Be the proxy that every tool in here is told of: note whom it is asked for, and refuse."""
    try:
        server = socket.create_server(("127.0.0.1", _DEAD_PORT))
    except OSError:  # root without the right to low ports, in some containers: nothing is noted
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        server.close()
        return
    if os.fork():  # the command shall have no child that it did not start
        os._exit(0)
    os.setsid()
    for number in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    while True:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            _refuse(connection, heard)


def _refuse(connection: socket.socket, heard: Path) -> None:
    words = connection.recv(4096).partition(b"\r\n")[0].decode(errors="replace").split()
    address = words[1] if len(words) > 1 else ""
    host = address.partition("://")[2].partition("/")[0] or address
    with heard.open("a", encoding="utf-8") as file:  # a name and a password stay out of it
        file.write(f"{host.rpartition('@')[2]}\n")
    connection.sendall(b"HTTP/1.1 403 no network in a build\r\nContent-Length: 0\r\n\r\n")


def _prctl(option: int, value: int) -> None:
    unused = ctypes.c_ulong(0)
    if _LIBC.prctl(option, ctypes.c_ulong(value), unused, unused, unused):
        raise IsolationError(f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def _unshare(flags: int, what: str) -> None:
    if _LIBC.unshare(flags):
        raise IsolationError(f"cannot make {what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    arguments = (source.encode(), os.fsencode(target), kind.encode() or None)
    if _LIBC.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None):
        fault = os.strerror(ctypes.get_errno())
        raise IsolationError(f"cannot mount {kind or source} at {target}: {fault}")


@functools.cache
def _why_no_namespaces() -> str:
    """Nothing if namespaces work here, else what refused and, where known, the setting behind."""
    root = fixed_paths(NAMESPACES, Path()).root
    spec = json.dumps(asdict(Spec(mode=NAMESPACES, argv=(), root=root)), default=str)
    command = [sys.executable, "-I", str(Path(__file__).resolve()), "-"]
    tried = subprocess.run(command, input=spec, capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return ""
    fact = tried.stderr.strip().removeprefix("isolation: ") or f"exit code {tried.returncode}"
    for setting, forbids in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("user/max_user_namespaces", "0"),
    ):
        with contextlib.suppress(OSError):
            if Path("/proc/sys", setting).read_text(encoding="ascii").strip() == forbids:
                return f"{fact} ({setting.replace('/', '.', 1)}={forbids})"
    return fact


def _load(path: Path) -> Spec:
    raw = json.loads(path.read_text(encoding="utf-8"))
    lock, answers = raw.pop("lock"), raw.pop("companion_socket")
    heard = raw.pop("heard")
    return Spec(
        root=Path(raw.pop("root")),
        cwd=Path(raw.pop("cwd")),
        argv=tuple(raw.pop("argv")),
        binds={name: Path(real) for name, real in raw.pop("binds").items()},
        keep=tuple(map(Path, raw.pop("keep"))),
        lock=Path(lock) if lock else None,
        companion=tuple(raw.pop("companion")),
        companion_socket=Path(answers) if answers else None,
        companion_only=tuple(raw.pop("companion_only")),
        heard=Path(heard) if heard else None,
        **raw,
    )


def main(arguments: Sequence[str]) -> int:
    """Run the spec file named (`-`: from standard input), or `--exec PARENT COMMAND …`."""
    if arguments[0] == "--exec":
        die_with_parent(parent=int(arguments[1]))
        return _execute(arguments[2:], os.environ)
    die_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while waiting for the lock
    try:
        spec = _load(Path("/dev/stdin" if arguments[0] == "-" else arguments[0]))
        if spec.mode == PROCESSES:
            _link_fixed_root(spec)
        signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOPS, signal.SIGCHLD})
        return _run(spec)
    except (IsolationError, OSError) as error:
        sys.stderr.write(f"isolation: {error}\n")
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
