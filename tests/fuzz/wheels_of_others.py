"""Targets in wheels: the archive, its dist-info, ELF files, device code, and torch's own wheel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import elfwright
import wheelwright
from mutators import archives, binaries, texts
from packaging.tags import Tag
from packaging.version import Version
from target import Target, folder, scratch, written

from blackwheel.audit import (
    archive,
    audit,
    contents,
    cubin,
    device,
    dist_info,
    elf,
    elf_dynamic,
    environments,
    fatbin,
    layout,
    member,
    record,
    sections,
)
from blackwheel.audit import core_metadata as metadata
from blackwheel.audit import texts as plain
from blackwheel.audit import wheel as reading
from blackwheel.audit.blob import Blob
from blackwheel.audit.contents import Content
from blackwheel.audit.cubin import UnreadableKernelsError
from blackwheel.audit.elf_dynamic import UnreadableLibraryError
from blackwheel.pytorch import guard
from blackwheel.pytorch import wheel as torch_wheel
from blackwheel.shelf import wheel_file

TORCH_NAME = "torch-2.11.0-cp312-cp312-linux_x86_64.whl"
TORCH_FILES = {
    "torch/version.py": b"__version__ = '2.11.0'\ncuda = '13.0'\n"
    + b"git_version = '"
    + b"7" * 40
    + b"'\n",
    "torch/share/cmake/Torch/TorchConfig.cmake": b"set(X -D_GLIBCXX_USE_CXX11_ABI=1)\n",
    "torch-2.11.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: torch\nVersion: 2.11.0\n"
    b"Requires-Python: >=3.10\n"
    b"Requires-Dist: triton==3.6.0; platform_system == 'Linux'\n\nread me\n",
}
GUARDED = {
    "toy/_built_for.py": b"TORCH = {'wheel': '1.0', 'version': '2.11.0+cu130', 'cuda': '13.0'}\n",
}


def files() -> dict[str, bytes]:
    made = wheelwright.make_wheel(
        scratch(), {wheelwright.SO: ELFS[0], "toy/a.txt": b"text\n", **GUARDED}
    )
    return wheelwright.held_files(made)


def wheel(data: bytes) -> object:
    path = written(folder("wheel") / wheelwright.NAME, data)
    report = audit.inspect(path, archs=wheelwright.ARCHS)
    environments.requirements(path)
    return report


def shelved(data: bytes) -> object:
    """What is read of a wheel once it is the project's own: for the index, the guard."""
    path = written(folder("shelved") / wheelwright.NAME, data)
    entry = wheel_file.described(path, folder("shelf"), datetime(2026, 1, 1, tzinfo=UTC))
    return entry, guard.built_for(path)


def torch(data: bytes) -> object:
    path = written(folder("torch") / TORCH_NAME, data)
    found = torch_wheel.read_torch(path)
    torch_wheel.belongs_to(found.requires, Version("2.11.0"))
    return found, torch_wheel.needs(path, TORCH_NAME)


def own_metadata(data: bytes) -> object:
    found = metadata.core_metadata(data)
    return torch_wheel.requirements(data.decode("utf-8", "replace"), "x"), found


def record_file(data: bytes) -> object:
    held = {f"{wheelwright.INFO}/RECORD": Content(kind="text", digest=b"", size=1, text=data)}
    held |= {name: Content(kind="text", digest=b"1" * 32, size=3) for name in files()}
    return list(record.record_findings(held, wheelwright.INFO, set(held)))


def wheel_text(data: bytes) -> object:
    tags = frozenset({Tag("cp312", "cp312", "linux_x86_64")})
    return list(dist_info.wheel_findings(data, tags, libraries=True, own=True))


def entry_points(data: bytes) -> object:
    return list(dist_info.info_findings({"entry_points.txt": data}, ["METADATA"], ["toy"]))


def blobs(parse: Callable[[Blob], object]) -> Callable[[bytes], object]:
    def run(data: bytes) -> object:
        with Blob.of(written(scratch() / "blob", data)) as blob:
            return parse(blob)

    return run


def elf_file(data: bytes) -> object:
    return elf.read_elf(written(scratch() / "libtoy.so", data))


def fat(blob: Blob) -> object:
    return fatbin.fat_binary(blob, 0)


def cubin_file(blob: Blob) -> object:
    cubin.cubin_size(blob)
    return cubin.read_cubin(blob)


def device_code(blob: Blob) -> object:
    shown = sections.read_sections(blob)
    try:
        read = elf.read_elf_of(blob, "x.so")
    except UnreadableLibraryError:
        read = None
    return device.find(blob, read, shown)


ELFS = [
    elfwright.elf(
        exports=["PyInit__C", "toy"],
        wanted=["malloc", "free"],
        versions={"libc.so.6": ["GLIBC_2.17", "GLIBC_2.34"], "libm.so.6": ["GLIBC_2.29"]},
        versioned={"malloc": "GLIBC_2.17", "free": "GLIBC_2.34"},
        names=(("NEEDED", "libc.so.6"), ("SONAME", "libtoy.so"), ("RUNPATH", "$ORIGIN")),
        tls=64,
        isa=2,
        interpreter="/lib64/ld-linux-x86-64.so.2",
        rodata=b"read only",
    ),
    wheelwright.native(),
]
CUBINS = [elfwright.cubin("a", "b", helpers=["c"]), elfwright.cubin("a", arch=90, old=True)]
FATS = [
    elfwright.fat_binary(
        elfwright.entry(CUBINS[0], suffix="a"),
        elfwright.entry(CUBINS[1], arch=90),
        elfwright.entry(elfwright.ptx("a"), kind=1, arch=80),
    )
]
DEVICES = [
    *ELFS,
    *CUBINS,
    *FATS,
    elfwright.elf(
        rodata=FATS[0] * 2 + elfwright.ptx("a") + b"\0" + CUBINS[0], section=".nv_fatbin"
    ),
    elfwright.ptx("a", "b"),
]
METADATA = [
    b"Metadata-Version: 2.4\nName: toy\nVersion: 1.0+cu130\nSummary: a\nLicense-File: LICENSE\n"
    b"Requires-Python: >=3.11\nRequires-Dist: torch===2.11.0\n"
    b"Requires-Dist: a[b]>=1; python_version < '3.14'\n"
    b"Provides-Extra: b\nDynamic: Description\nObsoletes-Dist: old\n\nread me\n"
]
WHEEL = [b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp312-cp312-linux_x86_64\n"]
ENTRY_POINTS = [b"[console_scripts]\ntoy = toy.main:run\n\n[toy.plugins]\na = toy.b\n"]


def _zips(each: Mapping[str, bytes]) -> bytes:
    import zipfile

    from mutators import zipped

    return zipped(list(each.items()), zipfile.ZIP_DEFLATED)


def targets() -> list[Target]:
    held = files()
    rows = held[f"{wheelwright.INFO}/RECORD"]
    zip_covers = (archive, member, reading, layout, contents, plain)
    return [
        Target(
            name="wheel (zip)",
            parse=wheel,
            seeds=[_zips(held)],
            inputs=archives([held]),
            covers=zip_covers,
        ),
        Target(
            name="wheel (its texts)",
            parse=wheel,
            seeds=[_zips(held)],
            inputs=archives([held], ("METADATA", "WHEEL", "RECORD")),
            covers=(reading, dist_info, record, metadata),
        ),
        Target(
            name="wheel of one's own",
            parse=shelved,
            seeds=[_zips(held)],
            inputs=archives([held], ("METADATA", "_built_for.py")),
            covers=(wheel_file, guard.built_for),
            named=(ValueError,),
        ),
        Target(
            name="wheel of torch",
            parse=torch,
            seeds=[_zips(TORCH_FILES)],
            inputs=archives([TORCH_FILES], ("METADATA", "version.py", ".cmake")),
            covers=(torch_wheel,),
        ),
        Target(
            name="METADATA",
            parse=own_metadata,
            seeds=METADATA,
            inputs=texts(METADATA),
            covers=(metadata,),
        ),
        Target(
            name="RECORD", parse=record_file, seeds=[rows], inputs=texts([rows]), covers=(record,)
        ),
        Target(
            name="WHEEL",
            parse=wheel_text,
            seeds=WHEEL,
            inputs=texts(WHEEL),
            covers=(
                dist_info.wheel_findings,
                dist_info._purelib_findings,
                dist_info._tag_findings,
                dist_info.bad_tags,
            ),
        ),
        Target(
            name="entry points",
            parse=entry_points,
            seeds=ENTRY_POINTS,
            inputs=texts(ENTRY_POINTS),
            covers=(dist_info.info_findings, dist_info._entry_point_findings, dist_info._odd_entry),
        ),
        Target(
            name="ELF",
            parse=elf_file,
            seeds=ELFS,
            inputs=binaries(ELFS),
            covers=(elf, elf_dynamic),
            named=(UnreadableLibraryError,),
        ),
        Target(
            name="fat binary",
            parse=blobs(fat),
            seeds=FATS,
            inputs=binaries(FATS),
            covers=(fatbin.fat_binary, fatbin._entry),
        ),
        Target(
            name="cubin",
            parse=blobs(cubin_file),
            seeds=CUBINS,
            inputs=binaries(CUBINS),
            covers=(cubin, sections),
            named=(UnreadableKernelsError,),
        ),
        Target(
            name="device code in a file",
            parse=blobs(device_code),
            seeds=DEVICES,
            inputs=binaries(DEVICES),
            covers=(device, sections),
        ),
    ]
