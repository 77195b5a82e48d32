"""Makes ELF files, cubins and fat binaries byte by byte: right ones, and ones no compiler makes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

X86_64, AARCH64, CUDA = 62, 183, 190
LIBRARY, PROGRAM, OBJECT, CORE = 3, 2, 1, 4
LOAD, DYNAMIC, INTERP, NOTE, TLS = 1, 2, 3, 4, 7
STACK, RELRO = 0x6474E551, 0x6474E552
R, W, X = 4, 2, 1
TAGS = {
    "NEEDED": 1,
    "SONAME": 14,
    "RPATH": 15,
    "RUNPATH": 29,
    "AUDIT": 0x6FFFFEFC,
    "DEPAUDIT": 0x6FFFFEFB,
    "AUXILIARY": 0x7FFFFFFD,
    "FILTER": 0x7FFFFFFF,
}
"""Tags whose value is a name."""
FLAGS, TEXTREL, INIT_ARRAYSZ, RELR = 30, 22, 27, 36


class _Strings:
    def __init__(self) -> None:
        self.data = bytearray(b"\0")  # bytes would be copied for each of 200,000 names

    def at(self, text: str | bytes) -> int:
        place = len(self.data)
        self.data += (text.encode() if isinstance(text, str) else text) + b"\0"
        return place


def elf(
    *,
    machine: int = X86_64,
    kind: int = LIBRARY,
    system: int = 0,
    names: Sequence[tuple[str, str]] = (("NEEDED", "libc.so.6"),),
    tags: Sequence[tuple[int, int]] = (),
    exports: Sequence[str] = (),
    wanted: Sequence[str] = (),
    versions: Mapping[str, Sequence[str]] | None = None,
    versioned: Mapping[str, str] | None = None,
    stack: int | None = R | W,
    load: int = R,
    relro: bool = True,
    tls: int = 0,
    interpreter: str = "",
    isa: int = 0,
    rodata: bytes = b"",
    section: str = ".rodata",
    sections: bool = True,
    trailing: bytes = b"",
) -> bytes:
    """One file for the host; `names` are (tag, text) of its dynamic segment, `rodata` its bytes.

    `versions` are needed by library, `versioned` tells which version a wanted symbol has.
    """
    strings = _Strings()
    dynamic = [(TAGS[tag], strings.at(text)) for tag, text in names] + list(tags)
    needs, index, body_versions = versions or {}, {}, b""
    for number, (file, each) in enumerate(needs.items(), 1):
        auxiliary = b""
        for count, version in enumerate(each, 1):
            index[version] = len(index) + 2
            more = 16 if count < len(each) else 0
            place = strings.at(version)
            auxiliary += struct.pack("<IHHII", 0, 0, index[version], place, more)
        further = 16 + len(auxiliary) if number < len(needs) else 0
        header = struct.pack("<HHIII", 1, len(each), strings.at(file), 16, further)
        body_versions += header + auxiliary
    symbols, marks = bytearray(struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)), [0]
    for name in wanted:
        symbols += struct.pack("<IBBHQQ", strings.at(name), 0x12, 0, 0, 0, 0)
        marks.append(index.get((versioned or {}).get(name, ""), 0))
    for name in exports:
        symbols += struct.pack("<IBBHQQ", strings.at(name), 0x12, 0, 7, 64, 1)
        marks.append(1)
    headers = 2 + (stack is not None) + relro + bool(tls) + bool(interpreter) + bool(isa)
    place = 64 + 56 * headers
    blocks: dict[str, tuple[int, int]] = {}
    body = b""

    def put(name: str, data: bytes) -> int:
        nonlocal body
        body += bytes(-len(body) % 8)
        blocks[name] = (place + len(body), len(data))
        body += data
        return blocks[name][0]

    note = struct.pack("<III4sII", 4, 16, 5, b"GNU\0", 0xC0008002, 4) + struct.pack("<II", isa, 0)
    put("interpreter", interpreter.encode() + b"\0")
    put("note", note)
    put("rodata", rodata)
    count = len(marks)
    dynamic += [(5, put("strings", bytes(strings.data))), (10, len(strings.data))]
    dynamic += [(6, put("symbols", bytes(symbols))), (4, put("hash", struct.pack("<II", 1, count)))]
    dynamic += [(0x6FFFFFF0, put("marks", struct.pack(f"<{count}H", *marks)))]
    if body_versions:
        dynamic += [(0x6FFFFFFE, put("versions", body_versions)), (0x6FFFFFFF, len(needs))]
    put("dynamic", b"".join(struct.pack("<QQ", *one) for one in [*dynamic, (0, 0)]))

    def segment(number: int, flags: int, name: str = "") -> bytes:
        begin, size = blocks.get(name, (0, 0))
        return struct.pack("<IIQQQQQQ", number, flags, begin, begin, begin, size, size, 8)

    end = place + len(body)
    table = struct.pack("<IIQQQQQQ", LOAD, load, 0, 0, 0, end, end, 4096)
    table += segment(DYNAMIC, R, "dynamic")
    table += segment(STACK, stack) if stack is not None else b""
    table += segment(RELRO, R, "dynamic") if relro else b""
    table += struct.pack("<IIQQQQQQ", TLS, R, 0, 0, 0, 0, tls, 8) if tls else b""
    table += segment(INTERP, R, "interpreter") if interpreter else b""
    table += segment(NOTE, R, "note") if isa else b""
    shown, at = _sections(end, {section: blocks["rodata"]}) if sections else (b"", 0)
    head = struct.pack(
        *("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01" + bytes([system]) + bytes(8)),
        *(kind, machine, 1, 0, 64, at, 0, 64, 56, headers, 64, 3 if sections else 0),
        2 if sections else 0,
    )
    return head + table + body + shown + trailing


def _sections(end: int, named: Mapping[str, tuple[int, int]]) -> tuple[bytes, int]:
    """The section headers of a file whose other bytes end there."""
    names, entries = _Strings(), [bytes(64)]
    for name, (begin, size) in named.items():
        where = (begin, begin, size, 0, 0, 8, 0)
        entries.append(struct.pack("<IIQQQQIIQQ", names.at(name), 1, 2, *where))
    own = names.at(".shstrtab")
    entries.append(struct.pack("<IIQQQQIIQQ", own, 3, 0, 0, end, len(names.data), 0, 0, 1, 0))
    padding = bytes(-(end + len(names.data)) % 8)
    return names.data + padding + b"".join(entries), end + len(names.data) + len(padding)


def cubin(
    *kernels: str, arch: int = 120, suffix: str = "", old: bool = False, helpers: Sequence[str] = ()
) -> bytes:
    """A cubin without code: what its header and its symbols tell is all that an audit reads."""
    strings, names = _Strings(), _Strings()
    symbols = bytes(24)
    for name, other in [*((k, 0x10) for k in kernels), *((h, 0) for h in helpers)]:
        symbols += struct.pack("<IBBHQQ", strings.at(name), 0x12, other, 5, 0, 64)
    compat = struct.pack("<BBHBBH", 2, 9, suffix == "a", 2, 2, 1)
    told = f"\0ptxas -arch sm_{arch}{suffix} ".encode()
    info = struct.pack("<III12sHHI", 12, 8, 1000, b"NVIDIA Corp", 2, arch, 0x82)
    blocks = [
        (".strtab", 3, strings.data, 0),
        (".symtab", 2, symbols, 1),
        (".debug_frame", 1, bytes(8), 0),
        (".debug_line", 1, bytes(8), 0),
        (".note.nv.tkinfo", 7, told, 0),
        (".note.nv.cuinfo", 7, info, 0),  # cuobjdump asks for it at the sixth place
        (".nv.compat", 0x70000086, compat, 0),
    ]
    body, entries = b"", [bytes(64)]
    for name, kind, data, link in blocks:
        body += bytes(-len(body) % 8)
        where = (0, 64 + len(body), len(data), link, 0, 8, 24)
        entries.append(struct.pack("<IIQQQQIIQQ", names.at(name), kind, 0, *where))
        body += data
    own = names.at(".shstrtab")
    at = 64 + len(body)
    entries.append(struct.pack("<IIQQQQIIQQ", own, 3, 0, 0, at, len(names.data), 0, 0, 1, 0))
    body += names.data
    body += bytes(-len(body) % 8)
    flags = (arch | 0x500 | 0x800 * (suffix == "a")) if old else arch << 8 | 0x06000002
    mark = bytes([0x33, 7]) if old else bytes([0x41, 8])
    head = struct.pack(
        *("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01" + mark + bytes(7), 2, CUDA, 1, 0, 0),
        *(64 + len(body), flags, 64, 56, 0, 64, len(entries), len(entries) - 1),
    )
    return head + body + b"".join(entries)


def entry(
    payload: bytes, *, kind: int = 2, arch: int = 120, suffix: str = "", flags: int = 0x11
) -> bytes:
    """One entry of a fat binary."""
    flags |= {"a": 1 << 20, "f": 1 << 21, "": 0}[suffix]
    payload += bytes(-len(payload) % 8)
    fields = (kind, 0x101, 64, len(payload), 0, 0, 8, 1, arch, 0, 0, flags)
    return struct.pack("<HHIQIIHHIIIQ", *fields) + bytes(16) + payload


def packed_entry(
    payload: bytes, *, arch: int = 120, suffix: str = "", unpacked: int | None = None
) -> bytes:
    """One entry that is packed as LZ4: a single run of bytes as they are."""
    payload += bytes(-len(payload) % 8)
    rest = len(payload) - 15
    packed = b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + payload
    size = len(packed) + -len(packed) % 8
    flags = 0x2011 | {"a": 1 << 20, "f": 1 << 21, "": 0}[suffix]
    fields = (2, 0x101, 64, size, len(packed), 0, 8, 1, arch, 0, 0, flags)
    told = len(payload) if unpacked is None else unpacked
    head = struct.pack("<HHIQIIHHIIIQ", *fields) + struct.pack("<QQ", 0, told)
    return head + packed + bytes(size - len(packed))


def ptx_entry(*kernels: str, arch: int = 80) -> bytes:
    """One entry of a fat binary that holds PTX, with the room for options that its reader wants."""
    payload = ptx(*kernels, target=f"sm_{arch}") + b"\0"
    payload += bytes(-len(payload) % 8)
    fields = (1, 0x101, 72, len(payload), 0, 64, 8, 0, arch, 0, 0, 0x11)
    return struct.pack("<HHIQIIHHIIIQ", *fields) + bytes(24) + payload


def fat_binary(*entries: bytes) -> bytes:
    """The container that nvcc makes of one source file's cubins and PTX."""
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def ptx(*kernels: str, target: str = "sm_80") -> bytes:
    """A PTX text as nvcc writes it."""
    lines = ["//", "// Generated by NVIDIA NVVM Compiler", "//", "", ".version 8.0"]
    lines += [f".target {target}", ".address_size 64", ""]
    lines += [f".visible .entry {name}(\n)\n{{\n\tret;\n}}\n" for name in kernels]
    return "\n".join(lines).encode()
