from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer

import pytest

from blackwheel.core import isolation
from blackwheel.core.isolation import NAMESPACES, PROCESSES, Isolation, IsolationError, Spec

INSIDE = "/tmp/blackwheel"  # noqa: S108  the path that every build sees
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
FORBIDDEN = isolation.available_isolation().reason
needs_namespaces = pytest.mark.skipif(bool(FORBIDDEN), reason=f"namespaces: {FORBIDDEN}")
MODES = [pytest.param(NAMESPACES, marks=needs_namespaces), PROCESSES]


class Place:
    """A store under /tmp, the hardest place for it, and the user who builds there."""

    def __init__(self, user: str) -> None:
        self.store = Path(tempfile.mkdtemp(dir="/tmp", prefix="blackwheel-test-"))
        self.prefix: tuple[str, ...] = ()
        self.python, self.module = sys.executable, Path(isolation.__file__)
        self.interpreter: tuple[Path, ...] = (Path(sys.prefix), Path(sys.base_prefix))
        """What a Python that runs inside needs, should this checkout lie under /tmp."""
        for name in ("src", "env", "tmp"):
            (self.store / "real" / name).mkdir(parents=True)
        if user == "nobody":
            self._give_to_nobody()

    def _give_to_nobody(self) -> None:
        if os.geteuid() != 0 or not shutil.which("setpriv"):
            pytest.skip("only root, with util-linux, can become another user; you are one already")
        self.prefix = AS_NOBODY
        self.module = Path(shutil.copy(isolation.__file__, self.store))
        for path in (self.store, *self.store.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        for python in (sys.executable, "/usr/bin/python3"):
            if subprocess.run([*AS_NOBODY, "env", python, "-c", ""], check=False).returncode == 0:
                self.python = python
                self.interpreter = self.interpreter if python == sys.executable else ()
                return
        pytest.skip("no interpreter that user 65534 may start; install python3 for all users")

    def spec(self, mode: str, argv: Sequence[str], **changes: object) -> Spec:
        paths = isolation.fixed_paths(mode, self.store)
        spec = Spec(
            mode=mode,
            argv=tuple(argv),
            root=paths.root,
            binds={name: self.store / "real" / name for name in ("src", "env", "tmp")},
            cwd=paths.src,
            lock=isolation.fixed_lock(self.store),
            label="quickstart/flash-attn",
        )
        return replace(spec, **changes)  # type: ignore[arg-type]

    def command(self, spec: Spec, name: str = "spec.json") -> list[str]:
        file = self.store / name
        command = isolation.isolated_command(spec, file, python=Path(self.python))
        file.chmod(0o644)
        command[2] = str(self.module)
        return [*self.prefix, *command]

    def run(self, spec: Spec) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TMPDIR": str(spec.root / "tmp"), "no_proxy": "127.0.0.1"}
        return subprocess.run(
            self.command(spec), env=environment, capture_output=True, text=True, check=False
        )

    def shell(self, mode: str, script: str, **changes: object) -> subprocess.CompletedProcess[str]:
        return self.run(self.spec(mode, ("sh", "-c", script), **changes))


@pytest.fixture(params=["me", "nobody"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(request.param)
    yield made
    shutil.rmtree(made.store)


@pytest.fixture
def mine() -> Iterator[Place]:
    made = Place("me")
    yield made
    shutil.rmtree(made.store)


def wait_for(seen: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something that is sure to come: long only on a machine that is busy."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def alive(word: str) -> list[str]:
    """Command lines that hold `word`, of processes that have not ended."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [line for line in lines if word in line and line]


# --- exit codes and messages


@pytest.mark.parametrize("mode", MODES)
def test_the_commands_own_exit_code_is_passed_on(mode: str, place: Place) -> None:
    assert place.shell(mode, "exit 3").returncode == 3


@pytest.mark.parametrize("mode", MODES)
def test_a_signal_that_ends_the_command_becomes_128_plus_its_number(mode: str, mine: Place) -> None:
    assert mine.shell(mode, "kill -SEGV $$").returncode == 128 + signal.SIGSEGV


@pytest.mark.parametrize("mode", MODES)
def test_a_command_that_does_not_exist_is_said_with_127(mode: str, mine: Place) -> None:
    done = mine.run(mine.spec(mode, ("no-such-compiler",)))
    assert (done.returncode, done.stderr) == (
        127,
        "isolation: cannot run no-such-compiler: No such file or directory\n",
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_command_blocks_no_signal_and_can_break_a_pipe(mode: str, mine: Place) -> None:
    status = mine.run(mine.spec(mode, ("grep", "^Sig", "/proc/self/status"))).stdout
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines()[1:]}
    assert masks["SigBlk"] == 0
    assert not masks["SigIgn"] & 1 << (signal.SIGPIPE - 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_working_directory_that_does_not_exist_is_said_with_125(mode: str, mine: Place) -> None:
    done = mine.run(mine.spec(mode, ("true",), cwd=Path("/no/such")))
    assert (done.returncode, done.stderr) == (
        125,
        "isolation: cannot work in /no/such: No such file or directory\n",
    )


@needs_namespaces
def test_a_part_that_does_not_exist_is_said_with_125(mine: Place) -> None:
    done = mine.run(mine.spec(NAMESPACES, ("true",), binds={"src": Path("/no/such")}))
    assert (done.returncode, done.stderr) == (
        125,
        "isolation: cannot open /no/such: No such file or directory\n",
    )


# --- what asks for the network

ASK = """
import sys, urllib.request
for address in sys.argv[1:]:
    try:
        urllib.request.urlopen(address, timeout=5)
    except OSError as error:
        print(error)
"""


@needs_namespaces
def test_whom_the_command_asks_for_is_noted_without_its_password(place: Place) -> None:
    heard = isolation.fixed_paths(NAMESPACES, place.store).tmp / "heard"
    addresses = ("https://upstream.invalid/x", "http://name:secret@mirror.invalid:8080/y")
    argv = (place.python, "-c", ASK, *addresses)
    spec = place.spec(NAMESPACES, argv, heard=heard, keep=place.interpreter)
    done = place.run(spec)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "<urlopen error Tunnel connection failed: 403 no network in a build>\n"
        "HTTP Error 403: no network in a build\n"
    )
    noted = (place.store / "real" / "tmp" / "heard").read_text(encoding="utf-8")
    assert noted == "upstream.invalid:443\nmirror.invalid:8080\n"


@needs_namespaces
def test_who_notes_it_is_no_child_of_the_command_and_ends_with_it(mine: Place) -> None:
    heard = isolation.fixed_paths(NAMESPACES, mine.store).tmp / "heard"
    script = "for p in /proc/[0-9]*; do cut -d' ' -f1,4 $p/stat; done; echo me $$"
    done = mine.shell(NAMESPACES, script, heard=heard)
    *lines, last = done.stdout.splitlines()
    parents = dict(line.split() for line in lines)
    (me,) = re.findall(r"me (\d+)", last)
    assert len(parents) > 2, "the first process, the command, and who notes"
    others = [pid for pid, parent in parents.items() if parent == me]
    assert len(others) <= 1, "cut itself"
    wait_for(lambda: not alive(str(mine.store)), seconds=5)


# --- fixed paths


@needs_namespaces
def test_two_real_places_have_one_path_inside(place: Place) -> None:
    other = place.store / "real" / "env"
    (other / "here").touch()
    first = place.shell(NAMESPACES, "pwd -P; ls")
    second = place.shell(NAMESPACES, "pwd -P; ls", binds={"src": other})
    assert first.stdout == f"{INSIDE}/src\n"
    assert second.stdout == f"{INSIDE}/src\nhere\n"


def test_without_namespaces_the_fixed_path_lies_in_the_store(place: Place) -> None:
    (place.store / "real" / "src" / "here").touch()
    done = place.shell(PROCESSES, "pwd -L; ls")
    assert done.stdout == f"{place.store}/fixed/src\nhere\n"


def test_without_namespaces_the_next_build_gets_its_own_links(mine: Place) -> None:
    root, env = mine.store / "fixed", mine.store / "real" / "env"
    assert mine.shell(PROCESSES, f"ls {root}").stdout == "env\nsrc\ntmp\n"
    done = mine.shell(PROCESSES, f"ls {root}; readlink {root}/src", binds={"src": env})
    assert done.stdout == f"src\n{env}\n"


@needs_namespaces
def test_nothing_else_of_tmp_is_visible_inside_but_what_is_kept(place: Place) -> None:
    kept, hidden = place.store / "kept", place.store / "hidden"
    kept.mkdir()
    hidden.mkdir()
    (kept / "interpreter").touch()
    script = f"ls {kept}; ls -d {hidden}; ls /tmp"
    done = place.shell(NAMESPACES, script, keep=(kept, kept / "interpreter", Path("/usr")))
    assert done.stdout == f"interpreter\nblackwheel\n{place.store.name}\n"


@needs_namespaces
def test_a_kept_link_is_visible_by_both_of_its_names(mine: Place) -> None:
    real, link = mine.store / "3.12.1", mine.store / "3.12"
    (real / "bin").mkdir(parents=True)
    link.symlink_to(real)
    done = mine.shell(NAMESPACES, f"ls {real} {link}", keep=(link,))
    assert done.stdout == f"{link}:\nbin\n\n{real}:\nbin\n"


@needs_namespaces
def test_a_single_file_can_be_bound(mine: Place) -> None:
    file = mine.store / "nvcc.profile"
    file.write_text("TOP = ..\n")
    done = mine.shell(NAMESPACES, "cat p", cwd=Path(INSIDE), binds={"p": file})
    assert done.stdout == "TOP = ..\n"


@pytest.mark.parametrize("mode", MODES)
def test_temporary_files_of_compilers_land_on_disk(mode: str, place: Place) -> None:
    done = place.shell(mode, 'stat -c %d "$TMPDIR"; mktemp "$TMPDIR/tmpxft.XXXXXX"')
    device, path = done.stdout.splitlines()
    real = place.store / "real" / "tmp"
    assert int(device) == real.stat().st_dev
    assert [file.name for file in real.iterdir()] == [Path(path).name]


@pytest.mark.parametrize("mode", MODES)
def test_what_the_command_writes_belongs_to_the_user(mode: str, place: Place) -> None:
    done = place.shell(mode, "touch object.o; id -u")
    user = NOBODY if place.prefix else os.geteuid()
    assert done.stdout == f"{user}\n"
    assert (place.store / "real" / "src" / "object.o").stat().st_uid == user


@pytest.mark.parametrize("mode", MODES)
def test_pwd_names_the_fixed_path_whatever_the_callers_was(mode: str, mine: Place) -> None:
    root = isolation.fixed_paths(mode, mine.store).root
    assert mine.run(mine.spec(mode, ("printenv", "PWD"))).stdout == f"{root}/src\n"


def test_a_fixed_path_of_another_user_is_refused(mine: Place) -> None:
    done = mine.run(mine.spec(PROCESSES, ("true",), root=another_users_directory(mine.store)))
    assert done.returncode == 125
    assert done.stderr.endswith(f"is not a directory of user {os.geteuid()}\n")


def test_a_fixed_path_that_is_a_link_is_refused(mine: Place) -> None:
    link = mine.store / "fixed"
    link.symlink_to(mine.store / "real")
    done = mine.shell(PROCESSES, "true")
    assert (done.returncode, done.stderr) == (
        125,
        f"isolation: {link} is not a directory of user {os.geteuid()}\n",
    )


def another_users_directory(store: Path) -> Path:
    if os.geteuid() != 0:
        return Path("/usr")
    theirs = store / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    return theirs


@needs_namespaces
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's mounts could spread; you are not root")
def test_the_machine_itself_sees_nothing_of_the_mounts(mine: Place) -> None:
    # As systemd does: mounts made in a copy of the mount namespace spread to the original.
    script = f'"$@"; ls -d {mine.store}'
    command = mine.command(mine.spec(NAMESPACES, ("true",)))
    shared = ["unshare", "--mount", "--propagation", "shared", "sh", "-c", script, "sh", *command]
    done = subprocess.run(shared, capture_output=True, text=True, check=False)
    assert done.stdout == f"{mine.store}\n"


# --- no network


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"reached")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def address() -> Iterator[str]:
    """A web server outside."""
    with TCPServer(("127.0.0.1", 0), Answer) as server:  # HTTPServer looks its own name up
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_inside_reaches_no_server_outside(mode: str, mine: Place, address: str) -> None:
    spec = mine.spec(mode, (mine.python, "-c", FETCH, address), keep=mine.interpreter)
    refused = mine.run(spec)
    assert refused.returncode == 1
    assert "Connection refused" in refused.stderr
    assert mine.run(replace(spec, network=True)).stdout == "reached\n"


CONNECT = """
import socket, sys
inside = socket.create_server(("127.0.0.1", 0))
socket.create_connection(inside.getsockname(), 2)
print("loopback works")
inside.close()  # its port may be that of the server outside
outside = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2)
if outside.getsockname() != outside.getpeername():  # TCP may connect a port with itself
    print("outside reached")
sys.exit(1)
"""


@needs_namespaces
def test_a_namespace_has_a_loopback_of_its_own_and_no_other_interface(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = str(outside.getsockname()[1])
        argv = (place.python, "-c", CONNECT, port)
        done = place.run(place.spec(NAMESPACES, argv, keep=place.interpreter))
        devices = place.run(place.spec(NAMESPACES, ("cat", "/proc/net/dev")))
    assert (done.returncode, done.stdout) == (1, "loopback works\n")
    assert [line.split(":")[0].strip() for line in devices.stdout.splitlines()[2:]] == ["lo"]


@needs_namespaces
def test_what_the_companion_alone_is_given_cannot_be_read_by_the_command(place: Place) -> None:
    secret = f"s3cret{uuid.uuid4().hex}"
    script = "sleep 0.3; cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c SECRET"
    spec = place.spec(
        NAMESPACES,
        ("sh", "-c", script),
        companion=("sh", "-c", "sleep 60"),
        companion_only=("SECRET",),
    )
    environment = {**os.environ, "SECRET": secret}
    command = place.command(spec)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "/environ" in done.stderr, "the companion is there, and is not to be read"
    assert done.stdout == "0\n"


@needs_namespaces
@pytest.mark.parametrize("kind", ["net", "mnt", "user"])
def test_namespaces_of_the_first_process_cannot_be_entered(place: Place, kind: str) -> None:
    enter = f"import os; os.open('/proc/1/ns/{kind}', os.O_RDONLY)"  # what setns(2) wants
    done = place.run(place.spec(NAMESPACES, (place.python, "-c", enter), keep=place.interpreter))
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


@needs_namespaces
def test_services_of_the_machine_have_no_socket_inside(place: Place) -> None:
    if any(Path(one).resolve().is_relative_to("/run") for one in os.get_exec_path()):
        pytest.skip("programs of this machine lie below /run")
    assert place.shell(NAMESPACES, "ls -A /run").stdout == ""


@needs_namespaces
def test_no_program_gives_the_command_more_rights(place: Place) -> None:
    told = place.shell(NAMESPACES, "grep -E 'CapEff|NoNewPrivs' /proc/self/status").stdout
    rights, no_more = (int(line.split()[1], 16) for line in sorted(told.splitlines()))
    assert no_more == 1
    for right in (19, 21):  # SYS_PTRACE, SYS_ADMIN
        assert not rights >> right & 1


# --- nothing is left


@needs_namespaces
def test_a_namespace_shows_only_its_own_processes(place: Place) -> None:
    done = place.shell(NAMESPACES, "echo /proc/[0-9]*")
    assert done.stdout == "/proc/1 /proc/2\n"


@pytest.mark.parametrize("mode", MODES)
def test_a_daemon_that_the_command_leaves_is_ended_with_it(mode: str, place: Place) -> None:
    seconds = f"7{os.getpid()}"
    done = place.shell(mode, f"(setsid sleep {seconds} >/dev/null 2>&1 &); exit 4")
    assert done.returncode == 4
    assert alive(f"sleep {seconds}") == []


@pytest.mark.parametrize("mode", MODES)
def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(mode: str, place: Place) -> None:
    seconds = f"8{os.getpid()}"
    spec = place.spec(mode, ("sh", "-c", f"trap '' TERM; sleep {seconds}; sleep {seconds}"))
    build = subprocess.Popen(place.command(spec))
    wait_for(lambda: len(alive(f"sleep {seconds}")) > 1)
    build.terminate()
    assert build.wait(timeout=4 * isolation.GRACE) == 128 + signal.SIGTERM
    assert alive(f"sleep {seconds}") == []


@pytest.mark.parametrize("mode", MODES)
def test_a_stopped_command_has_time_to_clean_up(mode: str, mine: Place) -> None:
    # As ninja does: it removes half-written objects.
    script = "trap 'sleep 0.3; rm half.o; exit' TERM; touch half.o; while :; do sleep 0.1; done"
    build = subprocess.Popen(mine.command(mine.spec(mode, ("sh", "-c", script))))
    half = mine.store / "real" / "src" / "half.o"
    wait_for(half.exists)
    build.send_signal(signal.SIGINT)
    assert build.wait(timeout=3) == 128 + signal.SIGINT
    assert not half.exists()


STUBBORN = """
trap '' TERM
(setsid sh -c 'trap "" TERM; sleep {seconds}; sleep {seconds}' &)
sleep {seconds}; sleep {seconds}
"""


@pytest.mark.parametrize("killed", ["parent", "outer supervisor", "inner supervisor"])
@pytest.mark.parametrize("mode", MODES)
def test_whoever_is_killed_even_a_stubborn_command_ends(
    mode: str, killed: str, place: Place
) -> None:
    seconds = f"9{uuid.uuid4().int % 10**12}"
    spec = place.spec(mode, ("sh", "-c", STUBBORN.format(seconds=seconds)))
    parent = subprocess.Popen(["sh", "-c", '"$@"; true', "sh", *place.command(spec)])
    wait_for(lambda: len(alive(f"sleep {seconds}")) == 4)
    outer, inner, *_ = isolation._descendants(parent.pid)
    number = {"parent": parent.pid, "outer supervisor": outer, "inner supervisor": inner}[killed]
    os.kill(number, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not alive(f"sleep {seconds}"), seconds=3 * isolation.GRACE)
    wait_for(lambda: not alive(str(place.store)), seconds=isolation.GRACE)


def test_a_supervisor_whose_parent_is_already_gone_runs_nothing(mine: Place) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from blackwheel.core import isolation\n"
        "spec = isolation.Spec(mode='processes', argv=('touch', sys.argv[1]), root=Path('/'))\n"
        "sys.exit(isolation._run_inside(spec, *os.pipe()))\n"  # closes the pipe's only writing end
    )
    argv = [sys.executable, "-c", code, str(mine.store / "ran")]
    assert subprocess.run(argv, check=False, timeout=10).returncode == 125
    assert not (mine.store / "ran").exists()


def test_a_bound_command_ends_with_the_process_that_started_it() -> None:
    seconds = f"9{uuid.uuid4().int % 10**12}"
    code = (
        "import subprocess, sys\n"
        "from blackwheel.core import isolation\n"
        "subprocess.run(isolation.bound_to_parent(['sleep', sys.argv[1]]))\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, seconds])
    wait_for(lambda: any(line.startswith("sleep ") for line in alive(f"sleep {seconds} ")))
    starter.kill()
    starter.wait()
    wait_for(lambda: not alive(f"sleep {seconds} "), seconds=1)


def test_a_bound_command_ends_as_it_would_unbound() -> None:
    script = "kill -PIPE $$; exit 5"  # Python ignores SIGPIPE, a compiler must not inherit that
    bound = isolation.bound_to_parent(["sh", "-c", script])
    assert subprocess.run(bound, check=False).returncode == -signal.SIGPIPE


def test_reaping_ends_grandchildren_too_and_counts_them() -> None:
    code = (
        "import subprocess, time\n"
        "from blackwheel.core import isolation\n"
        "isolation.become_subreaper()\n"
        "subprocess.Popen(['sh', '-c', '(sleep 60 & sleep 60 & wait) & wait'])\n"
        "time.sleep(0.3)\n"
        "print(isolation.reap_descendants())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "4\n"


def test_a_process_whose_parent_is_already_gone_ends_at_once() -> None:
    code = (
        "from blackwheel.core import isolation; isolation.die_with_parent(parent=1); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


# --- one at a time, without namespaces


def test_a_second_build_without_namespaces_waits_and_says_for_whom(mine: Place) -> None:
    go = mine.store / "go"
    script = f"while ! test -e {go}; do sleep 0.02; done; ls"
    first = subprocess.Popen(mine.command(mine.spec(PROCESSES, ("sh", "-c", script)), "1.json"))
    wait_for((mine.store / "fixed" / "src").is_symlink)
    argv = ("ls", str(mine.store / "fixed"))
    other = mine.spec(PROCESSES, argv, binds={"src": mine.store / "real"})
    second = subprocess.Popen(
        mine.command(other, "2.json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert second.stderr is not None
    assert second.stderr.readline() == (
        f"waiting for quickstart/flash-attn (process {first.pid}):"
        " without namespaces one build runs at a time\n"
    )
    time.sleep(0.2)
    assert second.poll() is None
    assert (mine.store / "fixed" / "env").is_symlink()
    go.touch()
    assert second.communicate(timeout=5)[0] == "src\n"
    assert (first.wait(), second.returncode) == (0, 0)


def test_a_build_that_waits_can_be_stopped(mine: Place) -> None:
    first = subprocess.Popen(mine.command(mine.spec(PROCESSES, ("sleep", "60")), "1.json"))
    wait_for((mine.store / "fixed" / "src").is_symlink)
    second = subprocess.Popen(
        mine.command(mine.spec(PROCESSES, ("true",)), "2.json"), stderr=subprocess.PIPE, text=True
    )
    assert second.stderr is not None
    second.stderr.readline()
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=2) == -signal.SIGINT
    assert second.stderr.read() == ""
    first.terminate()
    first.wait()


@needs_namespaces
def test_builds_in_namespaces_run_side_by_side(mine: Place) -> None:
    go = mine.store / "real" / "src" / "go"
    script = "while ! test -e go; do sleep 0.02; done"
    first = subprocess.Popen(mine.command(mine.spec(NAMESPACES, ("sh", "-c", script)), "1.json"))
    second = subprocess.run(
        mine.command(mine.spec(NAMESPACES, ("touch", "go")), "2.json"), timeout=5, check=False
    )
    assert (second.returncode, first.wait(timeout=5)) == (0, 0)
    assert go.exists()


# --- the choice


def test_forcing_processes_needs_no_trial() -> None:
    assert isolation.available_isolation("processes") == Isolation(
        mode=PROCESSES, reason="BLACKWHEEL_ISOLATION=processes"
    )


def test_an_unknown_isolation_is_refused() -> None:
    with pytest.raises(IsolationError) as caught:
        isolation.available_isolation("docker")
    assert str(caught.value) == ("BLACKWHEEL_ISOLATION=docker is neither namespaces nor processes")


CHOOSE = """
echo 0 > /proc/sys/user/max_mnt_namespaces
exec "$0" -c '
import sys
from blackwheel.core import isolation
print(isolation.available_isolation())
try:
    isolation.available_isolation("namespaces")
except isolation.IsolationError as error:
    print(error)
'
"""


@needs_namespaces
def test_a_kernel_that_forbids_namespaces_leaves_processes_and_says_why() -> None:
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", CHOOSE, sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "Isolation(mode='processes', reason='cannot make a mount namespace:"
        " No space left on device')",
        "BLACKWHEEL_ISOLATION=namespaces, but cannot make a mount namespace:"
        " No space left on device",
    ]
