"""Names errors that others print: patterns anchored to the words of the source that prints them.

A bare word is no anchor: `invalid argument` is also argparse's, and `out of memory` the kernel's.
`{name}` in a cause or a step is filled in from the pattern's group of that name.
"""

from __future__ import annotations

import re
from typing import Final

SWAPPED: Final = "invoke doctor --env PYTHON tells whether the torch there is the wheel's own"
SANITIZE: Final = "CUDA_LAUNCH_BLOCKING=1, then compute-sanitizer, name the kernel"
ARCHS: Final = (
    "invoke audit WHEEL shows its archs; build it for this GPU: invoke build-wheels --arch"
)
FEWER: Final = (
    "fewer compilers (--jobs 1), or more memory for the machine or container; invoke report"
)
_CUDA: Final = (
    r"(?:CUDA error|CUDA_ERROR_\w+|CUDA driver|CUDA runtime|cuda\w*Error|RuntimeError: CUDA)"
)
"""Without one of these words a line is not explained by CUDA."""

_WORDS: Final[tuple[tuple[str, str, str, str], ...]] = (
    (
        r"(?:Out of memory|out of memory): Killed process \d+ \((?P<who>[^)]+)\)"
        r"|(?P<by>\S{1,64}) invoked oom-killer"
        r"|oom-kill:constraint=\S{0,400}?task=(?P<task>[^,\s]+)",
        "killed-for-memory",
        "the kernel ran out of memory for this machine or its cgroup; it is about {who}{by}{task}",
        FEWER,
    ),
    (
        r"no kernel image is available",
        "no-kernel-image",
        "the wheel holds no code for this GPU's arch",
        ARCHS,
    ),
    (
        r"compiled with an unsupported toolchain|unsupported PTX|UnsupportedPtxVersion",
        "driver-older-than-ptx",
        "the wheel holds no native code for this GPU, and its PTX is newer than the driver",
        "a newer driver, or a wheel with native code: invoke build-wheels --arch",
    ),
    (
        r"PTX JIT compilation was disabled|JitCompilationDisabled",
        "ptx-only",
        "the wheel holds no native code for this GPU: the driver would compile its PTX at load",
        "invoke audit WHEEL; build it for this GPU: invoke build-wheels --arch",
    ),
    (
        r"driver version is insufficient|driver on your system is too old",
        "driver-too-old",
        "the NVIDIA driver is older than the CUDA of torch",
        "a newer driver; invoke stacks names the lowest one of each stack",
    ),
    (
        r"an illegal memory access was encountered|cudaErrorIllegalAddress"
        r"|CUDA_ERROR_ILLEGAL_ADDRESS",
        "illegal-access",
        "a kernel read or wrote where no memory is: a wrong shape, stride or offset in it",
        SANITIZE,
    ),
    (
        r"unspecified launch failure|an illegal instruction was encountered|device-side assert"
        rf"|misaligned address|{_CUDA}[^\n]*(?:misaligned|illegal instruction)",
        "launch-failed",
        "a kernel broke on the device",
        SANITIZE,
    ),
    (
        rf"{_CUDA}[^\n]*invalid device function|cudaErrorInvalidDeviceFunction",
        "no-kernel-image",
        "the wheel holds no code of this kernel for this GPU's arch",
        ARCHS,
    ),
    (
        r"too many resources requested for launch|invalid configuration argument"
        rf"|{_CUDA}[^\n]*invalid argument",
        "launch-refused",
        "the launch asks for more shared memory or threads than this GPU has: code of another arch",
        "invoke audit WHEEL shows for which archs it was compiled",
    ),
    (
        r"CUDA out of memory[^\n]*?(?:this process has|of which|already allocated)",
        "out-of-memory",
        "this process itself, or others beside it, filled the GPU's memory: the words say how much",
        "a smaller batch, model or gpu_memory_utilization; nvidia-smi shows who else is there",
    ),
    (
        rf"CUDA out of memory|{_CUDA}[^\n]*out of memory|CUDA_ERROR_OUT_OF_MEMORY",
        "out-of-memory",
        "the GPU's memory is full: this process's own, or another's",
        "nvidia-smi shows whose; run it again when it is gone",
    ),
    (
        r"was built for torch .* and found torch",
        "other-torch",
        "torch was swapped after the wheel was built: an installer put another one in its place",
        "the message holds the command that mends it; invoke doctor --env PYTHON",
    ),
    (
        r"undefined symbol: (?P<symbol>\S+?), version (?P<library>lib\S+)",
        "foreign-library",
        "another {library} than the one beside it was loaded first, without {symbol}",
        "unset LD_LIBRARY_PATH; ldd LIBRARY shows where the other one lies",
    ),
    (
        r"version [`'](?P<version>(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)' not found",
        "system-too-old",
        "this system's C or C++ library is older than {version}, which the wheel needs",
        "invoke audit WHEEL shows the glibc that it needs: a newer system, or a wheel built for it",
    ),
    (
        r"(?P<library>libc10\w*|libtorch\w*)\.so: cannot open shared object",
        "torch-not-loaded",
        "the extension was loaded before torch, whose libraries it needs, or without torch",
        "import torch first; " + SWAPPED,
    ),
    (
        r"(?P<library>lib(?:cudart|cublas|cublasLt|cusparse|cusolver|cudnn|nvrtc|nvJitLink)"
        r"\.so\.(?P<cuda>\d+)): cannot open shared object",
        "other-cuda",
        "the wheel was built for a CUDA whose {library} this environment lacks: torch's CUDA is"
        " another one",
        "a wheel of torch's own CUDA; invoke audit WHEEL --torch ENVIRONMENT tells",
    ),
    (
        r"cannot enable executable stack",
        "executable-stack",
        "the library asks for an executable stack, which glibc 2.41 and newer refuse",
        "link it with -Wl,-z,noexecstack; invoke audit WHEEL names it",
    ),
    (
        r"Illegal instruction(?! was)|died with <Signals\.SIGILL",
        "illegal-instruction",
        "code for another processor: it holds an instruction that this CPU lacks (AVX-512, say)",
        "lscpu lists what this one has; build the library named there for it, or use a newer CPU",
    ),
    (
        r"Arch conditional MMA instruction used without targeting",
        "arch-conditional",
        "the kernel was compiled for a plain arch (sm_120), and needs its own variant (12.0a)",
        "build it for 12.0a: invoke build-wheels --arch 12.0a",
    ),
    (
        r"with CUDA capability (?P<arch>sm_\d+\w?) is not compatible with the current PyTorch",
        "torch-too-old",
        "this torch holds no code for {arch}: it is older than the GPU",
        "a torch of a newer CUDA: invoke stacks lists them, invoke doctor --env PYTHON checks",
    ),
    (
        r"OutOfResources: out of resource: shared memory",
        "launch-refused",
        "a Triton kernel asks for more shared memory than this GPU has: tuned for another",
        "smaller block sizes or fewer stages in that kernel",
    ),
    (
        r"Unsupported gpu architecture '(?P<arch>\w+)'"
        r"|Value '(?P<value>sm_\w+)' is not defined for",
        "nvcc-too-old",
        "this nvcc or ptxas does not know the arch {arch}{value}: its CUDA is older",
        "the stack's own toolkit knows its archs: invoke build-wheels; invoke stacks lists CUDA",
    ),
    (
        r"'(?P<who>[\w+-]+)' died due to signal 9",
        "killed-for-memory",
        "{who} was killed, as the kernel does where memory runs out",
        FEWER,
    ),
    (
        r"undefined symbol: ",
        "undefined-symbol",
        "the library was compiled against another torch, or CUDA, than the one it met",
        SWAPPED,
    ),
    (
        r"this wheel was built without",
        "not-built",
        "the wheel was built without the kernels of this call, and says so",
        "build them: the build variable that the words name, in the stack file",
    ),
    (
        r"mxfp4[^\n]*\b(?:float16|half)\b|\b(?:float16|half)\b[^\n]*mxfp4",
        "mxfp4-needs-bfloat16",
        "MXFP4 kernels take bfloat16 activations only",
        "--dtype bfloat16",
    ),
    (
        r"KV cache is needed, which is larger than the available KV cache memory",
        "kv-cache-too-small",
        "what the GPU has left beside weights and other processes holds no request of that length",
        "a smaller --max-model-len, more --gpu-memory-utilization; nvidia-smi shows who else is"
        " there",
    ),
    (
        r"Free memory on device[^\n]*is less than desired GPU memory utilization",
        "gpu-in-use",
        "other processes hold the GPU's memory",
        "nvidia-smi shows whose; end them, or ask for less: --gpu-memory-utilization",
    ),
    (
        r"ModuleNotFoundError: No module named '(?P<module>[\w.]+)'",
        "missing-module",
        "the environment lacks the package that holds {module}",
        "uv pip check names what is missing; invoke install --into makes a stack's environment",
    ),
    (
        r"engine core exited unexpectedly|EngineDeadError",
        "engine-ended",
        "the server's engine process ended: by the error above, if it wrote one; else it was killed"
        " from outside (out of memory?), or crashed in native code",
        "journalctl -k | grep -E 'segfault|traps|Xid|oom', then invoke explain 'THAT LINE'",
    ),
)

KNOWN: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), name, cause, step) for pattern, name, cause, step in _WORDS
)
