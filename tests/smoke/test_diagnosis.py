"""What a crash, a CUDA error or a line of the kernel log means."""

from __future__ import annotations

from pathlib import Path

import pytest

from blackwheel.commands.explain import explain
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.smoke import diagnosis
from blackwheel.smoke.checks import runner
from blackwheel.smoke.smoke import _no_gpu, kernels_not_run

USERS_LINE = (
    "python3[412]: segfault at a ip 00000000005266a0 sp 00007ffc8bd0 error 4 in"
    " python3.11[400000+2a1000]"
)
STACK = """SIGSEGV(11), PID: 898, Thread 898:
 frame #0: c10::FatalSignalHandler::stacktraceSignalHandler(bool) + 0x8f (0x7f84 in /t/libc10.so)
frame #1: c10::FatalSignalHandler::fatalSignalHandler(int) + 0x2da (0x7f85 in /t/libc10.so)
frame #2: <unknown function> + 0x3c050 (0x7f86 in /lib/x86_64-linux-gnu/libc.so.6)
{frames}
frame #9: __libc_start_main + 0x85 (0x7f87 in /lib/x86_64-linux-gnu/libc.so.6)

Current thread 0x00007f846ec80b80 (most recent call first):
  File "/x/check.py", line 5 in forward
"""


def test_users_kernel_log_line_is_explained_as_a_swapped_torch(
    site_quiet: tuple[Site, Quiet],
) -> None:
    site, console = site_quiet
    explain(site, USERS_LINE)
    assert console.results == (
        "crashed\n"
        "  seen:  code at 0x5266a0 (python3.11+0x1266a0) read address 0xa\n"
        "  cause: no pointer but a small number, 0xa, was followed: 2 + 8 is where the type of an"
        " object at address 2 would be, so the number 2 was taken for an object; the interpreter"
        " followed a pointer that an extension gave it: compiled against another struct layout"
        " than the one it met, as after a swapped torch\n"
        "  next:  invoke doctor --env PYTHON tells whether the torch there is the wheel's own;"
        " then nox -s smoke runs each kernel and names the extension\n"
    )


def test_line_without_its_object_is_placed_by_its_address() -> None:
    found = diagnosis.of_log("segfault at a ip 00000000005266a0")
    assert found is not None
    assert "another struct layout" in found.cause


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("CUDA error: no kernel image is available for execution on the device", "no-kernel-image"),
        ("CUDA error: an illegal memory access was encountered", "illegal-access"),
        ("the provided PTX was compiled with an unsupported toolchain.", "driver-older-than-ptx"),
        ("CUDA driver version is insufficient for CUDA runtime version", "driver-too-old"),
        ("ImportError: x.so: undefined symbol: _ZN3c104cuda9SetDeviceEab", "undefined-symbol"),
        ("NVRM: Xid (PCI:0000:01:00): 31, pid=7, name=python, MMU Fault", "illegal-access"),
        ("flash_attn x was built for torch 2 (git a), and found torch 3 (git b)", "other-torch"),
        ("traps: python3[7] general protection fault ip:5266a0 sp:7ffc error:0", "crashed"),
    ],
)
def test_line_has_its_name(line: str, name: str) -> None:
    found = diagnosis.of_log(line)
    assert found is not None
    assert found.name == name
    assert found.cause
    assert found.step


FRIENDS = [
    (
        "ImportError: libfoo.so: cannot enable executable stack as shared object requires: Invalid"
        " argument",
        "executable-stack",
    ),
    ("Illegal instruction (core dumped)", "illegal-instruction"),
    ("x.sh: line 1: 42 Illegal instruction     python3 x.py", "illegal-instruction"),
    ("subprocess.CalledProcessError: x died with <Signals.SIGILL: 4>.", "illegal-instruction"),
    ("error: Illegal instruction was typed", ""),
    ("serve: error: argument --kv-cache-dtype: invalid argument: fp9", ""),
    ("virtual memory exhausted: Cannot allocate memory; c++: out of memory allocating 65536", ""),
    (
        "Memory cgroup out of memory: Killed process 4242 (cicc) total-vm:64156kB",
        "killed-for-memory",
    ),
    ("Out of memory: Killed process 4242 (cicc) total-vm:9012345kB", "killed-for-memory"),
    (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),task=cicc,pid=4242",
        "killed-for-memory",
    ),
    ("cicc invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0", "killed-for-memory"),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has a total"
        " capacity of 31 GiB of which 1 GiB is free. this process has 30 GiB in use",
        "out-of-memory",
    ),
    ("CUDA error: invalid argument", "launch-refused"),
    ("CUDA error: an illegal instruction was encountered", "launch-failed"),
    (
        "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.32' not found (required by"
        " /e/flash_attn_2_cuda.so)",
        "system-too-old",
    ),
    ("ImportError: libc10.so: cannot open shared object file: No such file", "torch-not-loaded"),
    ("ImportError: libcudart.so.12: cannot open shared object file: No such file", "other-cuda"),
    (
        "ImportError: /e/libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version"
        " libnvJitLink.so.12",
        "foreign-library",
    ),
    (
        "ERROR : Arch conditional MMA instruction used without targeting appropriate compute"
        " capability. Aborting.",
        "arch-conditional",
    ),
    (
        "NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current"
        " PyTorch installation.",
        "torch-too-old",
    ),
    ("RuntimeError: CUDA error: invalid device function", "no-kernel-image"),
    (
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 106496,"
        " Hardware limit: 101376",
        "launch-refused",
    ),
    ("nvcc fatal   : Unsupported gpu architecture 'compute_120a'", "nvcc-too-old"),
    ("ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'", "nvcc-too-old"),
    ("nvcc error   : 'cicc' died due to signal 9 (Kill signal)", "killed-for-memory"),
]


@pytest.mark.parametrize(("line", "name"), FRIENDS)
def test_line_is_explained_by_who_prints_it(line: str, name: str) -> None:
    found = diagnosis.of_log(line)
    assert (found.name if found else "") == name
    if found:
        assert "{" not in found.cause + found.step
    if name == "killed-for-memory":
        assert found
        assert "cicc" in found.cause


def test_library_of_a_newer_kernels_line_is_named() -> None:
    line = "python3[9]: segfault at a ip 00007f8b12385ad8 sp 00007ffcfb93bc98 error 4 in {}"
    new = diagnosis.of_log(line.format("libc.so.6[167ad8,7f8b12244000+156000] likely on CPU 1"))
    old = diagnosis.of_log(line.format("libc.so.6[7f8b12244000+156000]"))
    inside = diagnosis.of_log(line.format("python3.11[1266a0,400000+2a1000]"))
    assert new
    assert old
    assert inside
    assert "(libc.so.6+0x167ad8)" in new.fact
    assert "(libc.so.6+0x141ad8)" in old.fact
    assert "(python3.11+0x1266a0)" in inside.fact
    assert "another struct layout" in inside.cause


def test_unknown_line_is_refused(site_quiet: tuple[Site, Quiet]) -> None:
    with pytest.raises(BlackwheelError) as error:
        explain(site_quiet[0], "all is well")
    assert str(error.value) == (
        "error: not-understood\n"
        "  no crash, CUDA error or linker error that is known: all is well\n"
        "  where: invoke explain\n"
        "  fix:   give the whole line, or the program's log file: invoke explain LOG"
    )


SERVER = """\
(APIServer pid=7) INFO 12-01 02:06:01 [utils.py:9] args: {{'dtype': 'float16', 'q': 'mxfp4'}}
(EngineCore pid=8) INFO 12-01 02:06:25 [core.py:1] dtype=torch.bfloat16, quantization=mxfp4
{end}
(APIServer pid=7) INFO:     Finished server process [7]
"""


@pytest.mark.parametrize(
    ("name", "end"),
    [
        (
            "no-kernel-image",
            "(EngineCore pid=8) ERROR 12-01 02:06:40 [core.py:1330] torch.AcceleratorError: CUDA"
            " error: no kernel image is available for execution on the device\n"
            "(APIServer pid=7) RuntimeError: Engine core initialization failed.",
        ),
        (
            "mxfp4-needs-bfloat16",
            "(APIServer pid=7)   Value error, torch.float16 is not supported for quantization"
            " method gpt_oss_mxfp4. Supported dtypes: [torch.bfloat16]",
        ),
        (
            "kv-cache-too-small",
            "(EngineCore pid=8) ValueError: To serve at least one request with the model's max seq"
            " len (33000), (1.51 GiB KV cache is needed, which is larger than the available KV"
            " cache memory (1.11 GiB).",
        ),
        ("missing-module", "(EngineCore pid=8) ModuleNotFoundError: No module named 'torchvision'"),
        (
            "engine-ended",
            "(APIServer pid=7) WARNING 12-01 02:06:52 [core_client.py:702] [shutdown] MPClient:"
            " engine core exited unexpectedly; starting cleanup",
        ),
    ],
)
def test_log_of_a_server_is_explained_by_what_ended_it(
    site_quiet: tuple[Site, Quiet], tmp_path: Path, name: str, end: str
) -> None:
    """Lines as `vllm serve` 0.26.0 wrote them on an H200, 1 December 2026."""
    log = tmp_path / "server.log"
    log.write_text("x" * 5_000_000 + "\n" + SERVER.format(end=end), encoding="utf-8")
    explain(site_quiet[0], str(log))
    assert site_quiet[1].results.splitlines()[0] == name


def test_log_in_which_nothing_went_wrong_explains_nothing(
    site_quiet: tuple[Site, Quiet], tmp_path: Path
) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(SERVER.format(end="\xff").encode("latin-1"))
    with pytest.raises(BlackwheelError) as error:
        explain(site_quiet[0], str(log))
    assert error.value.name == "not-understood"
    assert "journalctl" in error.value.fix


def test_nearest_extension_is_named_where_the_interpreter_faults() -> None:
    below = "<omitting python frames>\nframe #7: give + 0x12 (0x5 in /site/flash_attn_2_cuda.so)"
    found = diagnosis.of_crash("SIGSEGV", STACK.format(frames=below))
    assert found.fact == (
        "SIGSEGV in the interpreter; nearest extension frame: give in flash_attn_2_cuda.so,"
        " called at check.py:5 in forward"
    )
    assert "give in flash_attn_2_cuda.so gave it: compiled against another struct" in found.cause


def test_faulting_extension_is_named_itself() -> None:
    below = "frame #3: run + 0 (0x5 in /site/a.so)"
    found = diagnosis.of_crash("SIGSEGV", STACK.format(frames=below))
    assert found.fact == "SIGSEGV in run in a.so, called at check.py:5 in forward"


def test_gpu_without_code_in_the_wheel_is_said_before_any_launch() -> None:
    assert runner.without_code(["12.0a"], "9.0") == (
        "the wheel holds code for 12.0a, and this GPU is 9.0"
    )
    assert runner.without_code(["12.0a"], "12.1")
    assert not runner.without_code(["9.0", "12.0a"], "12.0")
    assert kernels_not_run(["9.0", "12.0a"], "", "") == (
        ("9.0", "not run: no GPU was found"),
        ("12.0a", "not run: no GPU was found"),
    )


def test_required_gpu_that_is_not_there_is_an_error(site_quiet: tuple[Site, Quiet]) -> None:
    assert str(_no_gpu("no GPU was found", site_quiet[0].checkout / "a.whl")) == (
        "error: no-gpu\n"
        "  the kernels of a.whl were not run: no GPU was found\n"
        "  where: --require-gpu\n"
        "  fix:   run it on a machine with a GPU of the wheel's archs, or without --require-gpu"
    )


def test_error_of_many_lines_is_told_by_the_line_that_names_it() -> None:
    said = "Traceback:\n  x\nNotImplementedError: no kernel for CPU\n\nPython: registered at y\n"
    found = runner.diagnosis(1, said, 5)
    assert (found.name, found.fact) == ("raised", "NotImplementedError: no kernel for CPU")


def test_crash_is_told_with_the_case_it_began() -> None:
    said = "case: fp16\ncase: head dim 32\n" + STACK.format(frames="frame #3: f + 0 (0x5 in /a.so)")
    found = runner.diagnosis(128 + 11, said, 5)
    assert (
        found.fact
        == "SIGSEGV in f in a.so, called at check.py:5 in forward, in the case head dim 32"
    )


def test_claims_come_from_the_variables_of_the_build() -> None:
    file = runner.checks_of(
        "flash_attn-2.8.3+cu130torch2.11.0.sm120a.3-cp312-cp312-linux_x86_64.whl"
    )
    variables = {"FLASH_ATTN_PASSES": "fwd", "FLASH_ATTN_HEAD_DIMS": "64,128"}
    claims = runner.claims_of(file, variables)
    assert claims == {
        "passes": ["fwd"],
        "head_dims": ["64", "128"],
        "dtypes": ["bf16", "fp16"],
    }


@pytest.fixture
def site_quiet(tmp_path) -> tuple[Site, Quiet]:  # type: ignore[no-untyped-def]
    console = Quiet()
    return Site(checkout=tmp_path, store=tmp_path, environment={}, console=console), console
