"""Checks a library as the loader reads it: machine, stack, segments, folders, odd requests."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from packaging.tags import Tag
from packaging.version import Version

from blackwheel.audit.contents import Native
from blackwheel.audit.elf import X86_64, Elf
from blackwheel.audit.findings import Finding
from blackwheel.audit.glibc import system_libraries

MACHINES: Final = {"x86_64": X86_64, "aarch64": 183, "i686": 3, "ppc64le": 21, "s390x": 22}
"""By the end of a platform tag."""
NEIGHBOURS: Final = {"torch": "torch/lib/*", "nvidia": "nvidia/*"}
"""Folders of site-packages that belong to others and hold libraries: by the requirement's name, or
how it begins."""
LIBRARY: Final = re.compile(r"\.so(\.\d+)*$")
EXTENSION: Final = re.compile(r"\.(cpython-\d+\w*-[\w-]+|abi3t?|pypy\d+\w*-[\w-]+)\.so$")
LOADERS: Final = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
SHADOWED: Final = re.compile(
    r"lib(torch(_\w+)?|c10(_\w+)?|shm|caffe2_nvrtc|python3\.?\d*|cuda|nvidia-ml|cudart|cublas|"
    r"cublasLt|cudnn\w*|cusparse|cusolver|cufft|curand|nvrtc|nvJitLink|nccl|cupti|nvshmem_host)\.so"
)
"""Libraries that others of the process bring: a second one of that name is loaded instead."""
# fmt: off
INTERPOSED: Final = frozenset((
    "malloc", "calloc", "realloc", "reallocarray", "free", "cfree", "memalign", "posix_memalign",
    "aligned_alloc", "valloc", "pvalloc", "malloc_usable_size", "_Znwm", "_Znam", "_ZdlPv",
    "_ZdaPv", "_ZdlPvm", "_ZdaPvm", "__cxa_throw", "__cxa_begin_catch", "__cxa_rethrow",
    "__gxx_personality_v0", "_Unwind_RaiseException", "_Unwind_Resume", "dl_iterate_phdr",
    "dlopen", "dlmopen", "dlsym", "dlvsym", "dlclose", "dladdr", "__tls_get_addr",
    "pthread_create", "pthread_join", "pthread_mutex_lock", "pthread_mutex_unlock",
    "pthread_once", "fork", "vfork", "execve", "execvp", "system", "popen", "posix_spawn", "open",
    "open64", "openat", "read", "write", "close", "mmap", "mmap64", "munmap", "mprotect", "ioctl",
    "fopen", "fopen64", "fclose", "fread", "fwrite", "memcpy", "memmove", "memset", "memcmp",
    "strlen", "strcmp", "getenv", "setenv", "putenv", "exit", "_exit", "abort", "raise", "kill",
    "signal", "sigaction", "connect", "socket", "send", "recv", "getaddrinfo", "time",
    "gettimeofday", "clock_gettime", "getpid", "__libc_start_main", "cuInit",
    "cuGetProcAddress_v2", "cudaMalloc", "cudaLaunchKernel",
))
# fmt: on
"""Functions of the C and C++ libraries and of CUDA that a library should call and never be."""
_TOOLKIT: Final = re.compile(r"lib(cudart|cublas|cublasLt|nvrtc|nvJitLink|nvblas)\.so\.(\d+)")
"""Libraries whose soname ends with the release of CUDA."""
_LABEL: Final = re.compile(r"(?:^|\.)cu(\d+)\d(?=torch|\.|$)")
_PYTHON: Final = re.compile(r"_?Py(?!Init_|ModExport_|bind)[A-Z_]")
# fmt: off
STARTERS: Final = frozenset((
    "system", "popen", "fork", "vfork", "clone", "posix_spawn", "posix_spawnp", "execl", "execle",
    "execlp", "execv", "execve", "execvp", "execvpe", "fexecve",
))
# fmt: on
"""Functions of the C library that start a program, or a process."""
_TM_CLONES: Final = "_ITM_registerTMCloneTable"
"""Wanted, weakly, by the one constructor that gcc adds to every library."""
STATIC_TLS: Final = (512, 4096)
"""Bytes of static TLS that glibc keeps for one late library, and that no process ever has left."""
TRAILING: Final = 64
OWN_RUNTIME: Final = (
    "holds a C++ runtime of its own (libstdc++ was linked statically): an exception that crosses"
    " to torch crashes; link with a compiler that has libstdc++.so"
)
"""Seen: every refused call of such a wheel was a segfault instead of an error."""
OWN_UNWINDER: Final = (
    "holds an unwinder of its own (libgcc was linked statically): exceptions that cross to another"
    " library may end the process"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """The facts of the wheel that a library lies in."""

    name: str
    version: Version
    tags: frozenset[Tag]
    requires: frozenset[str] = frozenset()
    """Canonical names."""
    folders: frozenset[str] = frozenset()
    """Top-level names of site-packages that it fills."""


def loading_findings(natives: Sequence[Native], around: Surroundings) -> Iterator[Finding]:
    """Hold every library of a wheel to the loader's rules."""
    for native in natives:
        yield from _header_findings(native, around)
        if native.elf.kind in ("library", "program"):
            yield from _segment_findings(native)
            yield from _dynamic_findings(native, around)
            yield from _path_findings(native, around)
            yield from _runtime_findings(native)
    yield from _constructors(natives)


def machines(tags: frozenset[Tag]) -> set[int]:
    """Return the machines that a wheel's platform tags name: all of them for `any`."""
    found = {
        number
        for tag in tags
        for end, number in MACHINES.items()
        if tag.platform.endswith(f"_{end}")
    }
    return found or set(MACHINES.values())


def _header_findings(native: Native, around: Surroundings) -> Iterator[Finding]:
    elf, path = native.elf, native.path
    if elf.machine not in machines(around.tags):
        fact = f"is for {elf.machine_name}, the wheel for {_platforms(around.tags)}"
        name = "other-machine" if _is_imported(path) else "other-machine-code"
        yield Finding(name=name, fact=fact, library=path)
    if not elf.loads_here or elf.kind == "core":
        fact = f"the loader does not take it: system mark {elf.system}, an ELF {elf.kind}"
        yield Finding(name="does-not-load", fact=fact, library=path)
    if EXTENSION.search(path) and elf.kind != "library":
        fact = f"is named as a module of Python, and is an ELF {elf.kind}"
        yield Finding(name="does-not-load", fact=fact, library=path)
    if native.sections.fault:
        fact = f"its section headers do not serve: {native.sections.fault}"
        yield Finding(name="odd-section-headers", fact=fact, library=path)
    if native.trailing > TRAILING:
        fact = f"{native.trailing:,} bytes lie behind its last section and segment"
        yield Finding(name="trailing-data", fact=fact, library=path)
    if native.libraries:
        fact = f"{native.libraries} more ELF files lie inside of it"
        yield Finding(name="odd-elf", fact=fact, library=path)
    if elf.isa:
        fact = f"needs a processor of level {elf.isa}; the platform tag promises x86-64"
        yield Finding(name="isa-level", fact=fact, library=path)


def _platforms(tags: frozenset[Tag]) -> str:
    return ", ".join(sorted({tag.platform for tag in tags}))


def _is_imported(path: str) -> bool:
    """Tell whether its name makes a Python for x86-64 load it."""
    return bool(re.search(r"\.(abi3t?|[\w-]+-x86_64-[\w-]+)\.so$", path))


def _segment_findings(native: Native) -> Iterator[Finding]:
    elf, path = native.elf, native.path
    if elf.executable_stack and elf.machine == X86_64:
        fact = (
            "asks for an executable stack: glibc 2.41 and later do not load it (Debian 13,"
            " Ubuntu 25.04, Fedora 42)"
        )
        fatal = elf.kind == "library"
        yield Finding(name="executable-stack", fact=fact, library=path, fatal=fatal)
    if elf.writable_code:
        fact = "a segment can be written and run: hardened kernels refuse it"
        yield Finding(name="writable-code", fact=fact, library=path)
    if not elf.relro and elf.dynamic.needed:
        fact = "its tables of addresses stay writable (no RELRO)"
        yield Finding(name="no-relro", fact=fact, library=path, fatal=False)
    if elf.interpreter and elf.interpreter not in LOADERS:
        fact = f"asks for the loader {elf.interpreter}"
        yield Finding(name="other-sub-loader", fact=fact, library=path)
    kept, most = STATIC_TLS
    if elf.kind == "library" and elf.dynamic.static_tls and elf.tls > kept:
        fact = f"wants {elf.tls:,} bytes of static TLS, the loader keeps {kept} for late libraries"
        name = "static-tls" if elf.tls <= most else "does-not-load"
        yield Finding(name=name, fact=fact, library=path)


def _dynamic_findings(native: Native, around: Surroundings) -> Iterator[Finding]:
    elf, path = native.elf, native.path
    dynamic = elf.dynamic
    if dynamic.text_relocations:
        fact = "its code is changed while it is loaded (text relocations): hardened systems refuse"
        yield Finding(name="text-relocations", fact=fact, library=path)
    for tag, name in dynamic.odd:
        fact = f"{tag} has the loader take {name} too, or instead"
        yield Finding(name="odd-elf", fact=fact, library=path)
    for name in dynamic.needed:
        if "/" in name:
            fact = f"needs {name} by a path, wherever it is installed"
            yield Finding(name="runpath", fact=fact, library=path)
    label = _LABEL.search(around.version.local or "")
    for name in dynamic.needed:
        release = _TOOLKIT.match(name)
        if label and release and release[2] != label[1]:
            fact = f"needs {name}, the wheel's label names CUDA {label[1]}"
            yield Finding(name="unknown-library", fact=fact, library=path)
    own = posixpath.basename(path)
    for name in {dynamic.soname, own} - {""}:
        provider = name.startswith("lib") and around.name.startswith(("torch", "nvidia"))
        if not provider and (SHADOWED.match(name) or name in system_libraries()):
            fact = f"goes by the name of another library, {name}: the process gets one of the two"
            yield Finding(name="soname-clash", fact=fact, library=path)
            break
    taken = sorted(name for name in elf.exports if name in INTERPOSED or _PYTHON.match(name))
    if taken:
        fact = f"exports {_few(taken)}: callers of the system's or Python's own may get these"
        yield Finding(name="interposed-symbol", fact=fact, library=path)


def _path_findings(native: Native, around: Surroundings) -> Iterator[Finding]:
    """Where it has the loader look for libraries: in the wheel and beside it, nowhere else."""
    dynamic = native.elf.dynamic
    entries = [one for path in (dynamic.rpath, dynamic.runpath) if path for one in path.split(":")]
    for entry in entries:
        told = _where(native.path, entry, around)
        if told:
            shown = entry or "an empty entry"
            fact = f"has the loader look in {shown}: {told}"
            yield Finding(name="runpath", fact=fact, library=native.path)


def _where(path: str, entry: str, around: Surroundings) -> str:
    """Say what is wrong with an entry of RPATH or RUNPATH; nothing where it stays in bounds."""
    found = re.fullmatch(r"\$(?:ORIGIN|\{ORIGIN\})(/[^$]*)?", entry)
    if not entry or not found:
        beside = "not a place beside it" if "/" in entry else "a folder of whoever runs it"
        return beside if entry else "that is the folder which a program happens to run in"
    place = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", posixpath.dirname(path))
    folder = posixpath.normpath(posixpath.join(place or ".", f".{found[1] or ''}"))
    top = folder.split("/")[0]
    if top == "..":
        return "outside of site-packages"
    if folder == "." or top in around.folders or _is_neighbour(folder, around):
        return ""
    return f"a folder of another package, {top}, which it does not require"


def _is_neighbour(folder: str, around: Surroundings) -> bool:
    """Tell whether a folder belongs to what the wheel requires, or what that requires."""
    stems = {one.split("-")[0] for one in (*around.requires, around.name)}
    return any(
        stems & {"torch", name} and fnmatchcase(f"{folder}/", pattern)
        for name, pattern in NEIGHBOURS.items()
    )


def _runtime_findings(native: Native) -> Iterator[Finding]:
    """A second C++ runtime or unwinder in the process, also one whose symbols are hidden."""
    elf, path = native.elf, native.path
    shared = any(name.startswith(("libstdc++.so", "libc++.so")) for name in elf.needed)
    if elf.kind != "library" or not elf.needed:
        return
    if (native.runtime and not shared) or "__cxa_throw" in elf.exports:
        yield Finding(name="own-cxx-runtime", fact=OWN_RUNTIME, library=path)
        return
    unwinds = {one.name for one in elf.wanted}
    if (
        shared
        and unwinds & {"dl_iterate_phdr", "_dl_find_object"}
        and not any(name.startswith("libgcc_s.so") for name in elf.needed)
        and not any(name.startswith("_Unwind_") for name in unwinds)
    ):
        yield Finding(name="own-unwinder", fact=OWN_UNWINDER, library=path)


def _constructors(natives: Sequence[Native]) -> Iterator[Finding]:
    """Name the libraries that run code of their own while they are loaded, in one note.

    One that may start programs so gets a note of its own.
    """
    busy = []
    for one in natives:
        count = _own_constructors(one.elf) if one.elf.kind == "library" else 0
        if count:
            busy.append((count, one.path))
            starters = sorted({wanted.name for wanted in one.elf.wanted} & STARTERS)
            if starters:
                fact = f"runs code while it is loaded, and can start programs: {_few(starters)}"
                yield Finding(name="constructors", fact=fact, library=one.path, fatal=False)
    if busy:
        shown = ", ".join(f"{path}: {count}" for count, path in sorted(busy, reverse=True)[:3])
        more = f" and {len(busy) - 3} more libraries" if len(busy) > 3 else ""
        fact = f"functions run while it is loaded, before any is called: {shown}{more}"
        yield Finding(name="constructors", fact=fact, fatal=False)


def _own_constructors(elf: Elf) -> int:
    """Return how many functions run while it is loaded, less the one that gcc adds."""
    added = any(one.name == _TM_CLONES for one in elf.wanted)
    return max(0, elf.dynamic.constructors - added)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def needs_libpython(elf: Elf) -> tuple[str, ...]:
    """Return the libpythons that a library is linked with."""
    return tuple(name for name in elf.needed if name.startswith("libpython3"))
